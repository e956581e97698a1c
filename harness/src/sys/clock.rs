//! A wall clock that can be set wrong, for this process alone. Linux, and only in builds with
//! fault points: the function below takes the place of the C library's for the whole program, and
//! costs a system call where that one costs none.

use std::{
    ffi::{c_int, c_long},
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

/// How far this process's wall clock is ahead of the machine's.
static AHEAD_S: AtomicI64 = AtomicI64::new(0);

/// Sets the wall clock of this process so far ahead. A wait that took its end from this clock and
/// gave it to the kernel sees what it would see if the machine's clock were set back by as much.
pub(crate) fn set_ahead(seconds: i64) {
    AHEAD_S.store(seconds, Relaxed);
}

/// # Safety
///
/// As for the C library's: `time` can be written to.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // SAFETY: the caller's promise is all that the system call needs.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, c_long::from(clock), time) };
    if result == 0 && clock == libc::CLOCK_REALTIME {
        // SAFETY: the call above has just written it.
        unsafe { (*time).tv_sec += AHEAD_S.load(Relaxed) as libc::time_t };
    }
    // Zero or minus one.
    result as c_int
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;

    #[test]
    fn the_wall_clock_steps_and_the_other_does_not() {
        let hour = Duration::from_secs(3600);
        let (wall, steady) = (SystemTime::now(), Instant::now());
        set_ahead(3600);
        assert!(SystemTime::now().duration_since(wall).expect("later") >= hour);
        assert!(steady.elapsed() < hour);
        set_ahead(0);
        assert!(SystemTime::now().duration_since(wall).expect("later") < hour);
    }
}
