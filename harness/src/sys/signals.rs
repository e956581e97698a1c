//! Signals all the time, to a handler that does nothing, so that every call that can be interrupted
//! is. Linux only.

use std::{io, time::Duration};

/// Sends this process SIGALRM at this interval from now on, without SA_RESTART.
pub(crate) fn storm(interval: Duration) -> io::Result<()> {
    extern "C" fn ignore(_: libc::c_int) {}

    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: every bit pattern of its integers is a valid `sigaction`: no flags, an empty mask.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = ignore as *const () as usize;
    // SAFETY: a whole `sigaction` whose handler touches nothing; the old one is not asked for.
    let set = unsafe { libc::sigaction(libc::SIGALRM, action, std::ptr::null_mut()) };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    let micros = interval.as_micros().try_into().map_err(io::Error::other)?;
    let every = libc::timeval { tv_sec: 0, tv_usec: micros };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: reads a whole `itimerval`; the old one is not asked for.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
