//! What Linux, Android and macOS have in common: files, and the locks of open file descriptions.
//!
//! Such a lock does not depend on process ids, is not lost when an unrelated descriptor of the
//! file is closed, and lasts as long as the description does.

use super::platform::{Flock, lock_call};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub(crate) fn create_exclusive(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    // The umask has taken its part of the mode; the caller asked for this one.
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    Ok(file)
}

pub(crate) fn open(path: &Path) -> io::Result<File> {
    // O_NONBLOCK: a FIFO at this path must not hold us; it means nothing for regular files.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

pub(crate) fn identity(file: &File) -> io::Result<[u64; 2]> {
    let metadata = file.metadata()?;
    Ok([metadata.dev(), metadata.ino()])
}

fn lock_request(byte: u32) -> Flock {
    // SAFETY: it is a struct of integers, and `l_pid` must be 0 for these locks.
    let mut request: Flock = unsafe { std::mem::zeroed() };
    request.l_type = libc::F_WRLCK as libc::c_short;
    request.l_whence = libc::SEEK_SET as libc::c_short;
    request.l_start = byte.into();
    request.l_len = 1;
    request
}

pub(crate) fn try_lock(file: &File, byte: u32) -> io::Result<bool> {
    let Err(error) = lock_call(file, libc::F_OFD_SETLK, &mut lock_request(byte)) else {
        return Ok(true);
    };
    match error.raw_os_error() {
        // EACCES is also SELinux's refusal; telling them apart takes a look at who holds it.
        Some(libc::EAGAIN) => Ok(false),
        Some(libc::EACCES) if is_locked(file, byte)? => Ok(false),
        _ => Err(error),
    }
}

pub(crate) fn is_locked(file: &File, byte: u32) -> io::Result<bool> {
    let mut request = lock_request(byte);
    lock_call(file, libc::F_OFD_GETLK, &mut request)?;
    Ok(request.l_type != libc::F_UNLCK as libc::c_short)
}

pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(there) => Ok(identity(file)? == [there.dev(), there.ino()]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn trusted(file: &File, mode: u32) -> io::Result<bool> {
    const OTHERS_WRITE: u32 = 0o022;
    let metadata = file.metadata()?;
    let allowed = mode & OTHERS_WRITE;
    // SAFETY: the call cannot fail and touches no memory.
    let ours = metadata.uid() == unsafe { libc::geteuid() };
    Ok((ours || allowed != 0) && metadata.mode() & OTHERS_WRITE & !allowed == 0)
}

#[cfg(feature = "fault")]
pub(crate) fn kill_self() -> ! {
    // SAFETY: the call cannot fail and touches no memory.
    let pid = unsafe { libc::getpid() };
    // SAFETY: no memory is touched; the process ends here.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    unreachable!("SIGKILL cannot be survived")
}

#[cfg(feature = "fault")]
pub(crate) fn stop_self() {
    // SAFETY: no memory is touched.
    unsafe { libc::raise(libc::SIGSTOP) };
}
