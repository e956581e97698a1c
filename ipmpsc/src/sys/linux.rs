//! Linux and Android: futexes, open-file-description locks, memfd.
//!
//! The futex operations are the shared ones (no `FUTEX_PRIVATE_FLAG`): their key is the file and
//! the offset, so every mapping of a ring wakes every other. The locks of open file descriptions
//! came with Linux 3.15. A description lasts as long as a descriptor or a mapping refers to it, so
//! a lock whose file is mapped and then closed ends exactly with the mapping; `MADV_DONTFORK` keeps
//! it out of children.

pub(crate) use super::unix::*;

use super::{Which, sees};
use memmap2::{MmapMut, MmapOptions, MmapRaw};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

/// A place to sleep. The futex word is its own name here, so there is nothing to hold.
#[derive(Debug)]
pub(crate) struct Signal;

impl Signal {
    pub(crate) fn new(_ring: [u64; 2], _which: Which) -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn wait(&self, word: &AtomicU32, expected: u32, timeout: Duration) {
        // The callers' naps are far below 2^31 seconds. The kernel's struct has the C library's
        // layout for this call on every Linux ABI that Rust supports; musl's name for the type of
        // seconds is deprecated.
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs() as _,
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        };
        // Any outcome is a wake: the caller looks at the ring again (EAGAIN: the word changed;
        // EINTR: a signal; ETIMEDOUT; ENOSYS or EPERM in a sandbox: see below).
        // SAFETY: word and timeout are valid for the call; FUTEX_WAIT only reads them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                expected,
                &raw const timeout,
                ptr::null::<u32>(),
                0,
            )
        };
        if result != 0 {
            let error = io::Error::last_os_error().raw_os_error();
            if matches!(error, Some(libc::ENOSYS | libc::EPERM)) {
                // A sandbox without futexes: poll, rather than burn the processor.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    pub(crate) fn wake(&self, word: &AtomicU32, all: bool) {
        let count = if all { i32::MAX } else { 1 };
        // A failure is a sandbox's: no sleep is without an end.
        // SAFETY: FUTEX_WAKE uses the address of the word as a key only.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    }
}

pub(crate) fn open_again(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().read(true).write(true).open(path)
}

/// The struct of the lock calls with 64-bit offsets, also where `off_t` has 32 bits.
pub(super) type Flock = libc::flock64;

/// By number: in a 32-bit process, the C libraries differ in which struct their `fcntl` takes for
/// these locks, and some convert none. The kernel takes this one.
pub(super) fn lock_call(file: &File, command: libc::c_int, request: &mut Flock) -> io::Result<()> {
    #[cfg(target_pointer_width = "32")]
    const FCNTL: libc::c_long = libc::SYS_fcntl64;
    #[cfg(target_pointer_width = "64")]
    const FCNTL: libc::c_long = libc::SYS_fcntl;
    // SAFETY: a valid descriptor and a valid request, which the call reads and may write.
    let result = unsafe { libc::syscall(FCNTL, file.as_raw_fd(), command, &raw mut *request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A lock that shows this process's life: a mapping, since it outlives `closefrom` and ends with
/// the process.
#[derive(Debug)]
pub(crate) struct Life {
    map: MmapRaw,
}

impl Life {
    pub(crate) fn keep(file: File, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw_read_only(&file)?;
        // Not by memmap2, which does not know this advice on Android.
        let (address, len) = (map.as_mut_ptr().cast(), map.len());
        // SAFETY: the range is the whole of a mapping that we own.
        let result = unsafe { libc::madvise(address, len, libc::MADV_DONTFORK) };
        if result == 0 { Ok(Self { map }) } else { Err(io::Error::last_os_error()) }
    }

    pub(crate) fn sees(&self, offset: usize, value: u32) -> bool {
        sees(&self.map, offset, value)
    }
}

/// Words of this process that a child made by fork finds to be 0.
#[derive(Debug)]
#[allow(dead_code, reason = "Android has another, for its older kernels: see fork.rs")]
pub(crate) struct ForkPrivate {
    map: MmapMut,
}

#[allow(dead_code, reason = "as above")]
impl ForkPrivate {
    pub(crate) fn new() -> io::Result<Self> {
        let map = MmapMut::map_anon(4096)?;
        let address = map.as_ptr().cast_mut().cast();
        // Linux 4.14.
        // SAFETY: the range is the whole of a mapping that we own.
        let result = unsafe { libc::madvise(address, map.len(), libc::MADV_WIPEONFORK) };
        if result == 0 { Ok(Self { map }) } else { Err(io::Error::last_os_error()) }
    }

    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64; 8] {
        // SAFETY: 64 bytes of a page that lives as long as self, used in no other way.
        unsafe { &*self.map.as_ptr().cast() }
    }
}

pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    let too_large = || io::Error::from_raw_os_error(libc::EFBIG);
    let len = libc::off_t::try_from(len).map_err(|_| too_large())?;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes the struct it is given.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    // Beyond this limit the kernel does not only refuse, it sends SIGXFSZ, which kills.
    if result == 0 && libc::rlim_t::try_from(len).is_ok_and(|len| len > limit.rlim_cur) {
        return Err(too_large());
    }
    // A signal makes fallocate start over on tmpfs, for ever if a timer is faster than it is.
    let _quiet = Quiet::new();
    // SAFETY: a valid descriptor; the call touches no memory of ours.
    let error = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// All signals of this thread blocked, as they were before on drop.
struct Quiet {
    before: libc::sigset_t,
}

impl Quiet {
    fn new() -> Self {
        // SAFETY: sigset_t is plain bytes; sigfillset and pthread_sigmask write them.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        let mut before = all;
        // SAFETY: a valid set to write.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: valid sets to read and to write.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
        Self { before }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: a valid set to read; none is wanted back.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut())
        };
    }
}

pub(crate) fn anonymous() -> io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // By number, since bionic has the function only from API 30 on.
    // SAFETY: a C string and a number.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_create, c"ipmpsc".as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and that nobody else knows. Descriptors are ints.
    Ok(unsafe { File::from_raw_fd(fd as libc::c_int) })
}

pub(crate) fn seal(file: &File) -> io::Result<()> {
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: a valid descriptor and a number.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(crate) fn populate(map: &MmapRaw) -> io::Result<()> {
    /// Linux 5.14; by number, as libc does not have it for Android.
    const MADV_POPULATE_WRITE: libc::c_int = 23;
    let (address, len) = (map.as_mut_ptr().cast(), map.len());
    loop {
        // SAFETY: the range is the whole of a mapping that lives through the call, which changes no
        // byte of it.
        if unsafe { libc::madvise(address, len, MADV_POPULATE_WRITE) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EINVAL) => return Err(io::ErrorKind::Unsupported.into()),
            _ => return Err(error),
        }
    }
}

pub(crate) fn publish(from: &Path, to: &Path, replace: bool) -> io::Result<()> {
    if replace {
        return std::fs::rename(from, to);
    }
    let c_path = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (c_from, c_to) = (c_path(from)?, c_path(to)?);
    let here = libc::AT_FDCWD;
    // By number, since bionic has the function only from API 30 on. Linux 3.15.
    // SAFETY: C strings and numbers.
    let result = unsafe {
        let flags = libc::RENAME_NOREPLACE;
        libc::syscall(libc::SYS_renameat2, here, c_from.as_ptr(), here, c_to.as_ptr(), flags)
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) {
        return Err(error);
    }
    // A file system without that flag (NFS, some FUSE): a second name, then one less.
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// Nothing: a file in use can be replaced here.
pub(crate) fn sweep(_path: &Path) {}
