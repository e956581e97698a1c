//! POSIX message queues, which nothing but libc has. Linux only.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// A POSIX message queue.
#[derive(Debug)]
pub(crate) struct Queue(OwnedFd);

/// A time long past, so that a wait ends at once.
static PAST: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };

impl Queue {
    /// Makes the queue, which nobody else has made.
    pub(crate) fn create(name: &str, messages: u64, message_bytes: u64) -> io::Result<Queue> {
        let mut limits = std::mem::MaybeUninit::<libc::mq_attr>::zeroed();
        // SAFETY: every bit pattern of integers is a valid `mq_attr`, zero as well.
        let limits = unsafe { limits.assume_init_mut() };
        limits.mq_maxmsg = messages.try_into().map_err(io::Error::other)?;
        limits.mq_msgsize = message_bytes.try_into().map_err(io::Error::other)?;
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
        let (name, mode): (_, libc::mode_t) = (CString::new(name)?, 0o600);
        // SAFETY: a string that ends with a zero byte, and with O_CREAT a mode and an `mq_attr`.
        let fd = unsafe { libc::mq_open(name.as_ptr(), flags, mode, &raw const *limits) };
        Queue::owned(fd)
    }

    /// Opens a queue to send to.
    pub(crate) fn open(name: &str) -> io::Result<Queue> {
        let name = CString::new(name)?;
        // SAFETY: a string that ends with a zero byte; without O_CREAT there is no more to give.
        let fd = unsafe { libc::mq_open(name.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
        Queue::owned(fd)
    }

    fn owned(fd: libc::mqd_t) -> io::Result<Queue> {
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: on Linux a queue's handle is a descriptor, just opened and nobody else's.
        Ok(Queue(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Removes the name; those who have the queue open keep it.
    pub(crate) fn unlink(name: &str) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: a string that ends with a zero byte.
        let code = unsafe { libc::mq_unlink(name.as_ptr()) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends, waiting for room.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<()> {
        let (fd, data) = (self.0.as_raw_fd(), message.as_ptr().cast());
        // SAFETY: reads `message.len()` bytes from where `message` lies.
        let code = unsafe { libc::mq_send(fd, data, message.len(), 0) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends if there is room.
    pub(crate) fn try_send(&self, message: &[u8]) -> io::Result<bool> {
        let (fd, data) = (self.0.as_raw_fd(), message.as_ptr().cast());
        // SAFETY: reads `message.len()` bytes from where `message` lies, and a constant.
        let code = unsafe { libc::mq_timedsend(fd, data, message.len(), 0, &raw const PAST) };
        if code < 0 { none_if_timed_out().map(|_| false) } else { Ok(true) }
    }

    /// Receives into a buffer as long as the longest message, waiting for one.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (fd, data, priority) = (self.0.as_raw_fd(), buffer.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: writes at most `buffer.len()` bytes to where `buffer` lies; no priority is asked
        // for.
        let len = unsafe { libc::mq_receive(fd, data.cast(), buffer.len(), priority) };
        usize::try_from(len).map_err(|_| io::Error::last_os_error())
    }

    /// Receives if there is a message.
    pub(crate) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let (fd, data, priority) = (self.0.as_raw_fd(), buffer.as_mut_ptr(), std::ptr::null_mut());
        let (room, past) = (buffer.len(), &raw const PAST);
        // SAFETY: as in `receive`, and a constant.
        let len = unsafe { libc::mq_timedreceive(fd, data.cast(), room, priority, past) };
        usize::try_from(len).map_or_else(|_| none_if_timed_out(), |len| Ok(Some(len)))
    }
}

/// What the last call failed with, unless it is that time was up.
fn none_if_timed_out() -> io::Result<Option<usize>> {
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::TimedOut { Ok(None) } else { Err(error) }
}
