//! macOS 14.4 and later: address waits that are shared between processes, locks of open file
//! descriptions.
//!
//! `os_sync_wait_on_address` is the public form of what Linux calls a futex, with a flag for
//! memory that processes share: <https://developer.apple.com/documentation/os/synchronization>.
//! It is looked up when a ring is opened, so that a program starts on older systems too and is
//! told there.
//!
//! Differences from Linux. A lock lasts as long as the descriptor, which a child made by fork has
//! as well: until the child ends or runs another program, its parent's death is not seen. There
//! is no file without a name that can be opened again, so no anonymous ring.

pub(crate) use super::unix::*;

use super::Which;
use std::ffi::{CStr, CString, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// `OS_SYNC_WAIT_ON_ADDRESS_SHARED` and `OS_SYNC_WAKE_BY_ADDRESS_SHARED`.
const SHARED: u32 = 1;
/// `OS_CLOCK_MACH_ABSOLUTE_TIME`, the one clock of the waits.
const CLOCK: u32 = 32;

type WaitFn = unsafe extern "C" fn(*mut c_void, u64, usize, u32, u32, u64) -> c_int;
type WakeFn = unsafe extern "C" fn(*mut c_void, usize, u32) -> c_int;

/// The calls of macOS 14.4.
#[derive(Clone, Copy, Debug)]
struct Calls {
    wait: WaitFn,
    wake_any: WakeFn,
    wake_all: WakeFn,
}

impl Calls {
    fn find() -> Option<Self> {
        static FOUND: OnceLock<Option<Calls>> = OnceLock::new();
        let find = |name: &CStr| {
            // SAFETY: a C string; looks in the libraries that are loaded.
            let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            (!address.is_null()).then_some(address)
        };
        *FOUND.get_or_init(|| {
            let wait = find(c"os_sync_wait_on_address_with_timeout")?;
            let (any, all) =
                (find(c"os_sync_wake_by_address_any")?, find(c"os_sync_wake_by_address_all")?);
            // SAFETY: the function of that name has this type.
            let wait = unsafe { std::mem::transmute::<*mut c_void, WaitFn>(wait) };
            // SAFETY: as above.
            let wake_any = unsafe { std::mem::transmute::<*mut c_void, WakeFn>(any) };
            // SAFETY: as above.
            let wake_all = unsafe { std::mem::transmute::<*mut c_void, WakeFn>(all) };
            Some(Self { wait, wake_any, wake_all })
        })
    }
}

/// A place to sleep. The word's place in the file is its name here.
#[derive(Debug)]
pub(crate) struct Signal(Calls);

impl Signal {
    pub(crate) fn new(_ring: [u64; 2], _which: Which) -> io::Result<Self> {
        let why = "rings need macOS 14.4 or later, which can wait for other processes";
        Calls::find().map(Self).ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, why))
    }

    pub(crate) fn wait(&self, word: &AtomicU32, expected: u32, timeout: Duration) {
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX).max(1);
        let (address, expected) = (word.as_ptr().cast(), expected.into());
        // Any outcome is a wake: the caller looks at the ring again.
        // SAFETY: a valid word of 4 bytes, which the call only reads.
        unsafe { (self.0.wait)(address, expected, 4, SHARED, CLOCK, timeout_ns) };
    }

    pub(crate) fn wake(&self, word: &AtomicU32, all: bool) {
        let call = if all { self.0.wake_all } else { self.0.wake_any };
        // It says ENOENT where nobody sleeps.
        // SAFETY: the address of the word is a key only.
        unsafe { call(word.as_ptr().cast(), 4, SHARED) };
    }
}

pub(super) type Flock = libc::flock;

pub(super) fn lock_call(file: &File, command: c_int, request: &mut Flock) -> io::Result<()> {
    // SAFETY: a valid descriptor and a valid request, which the call reads and may write.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut *request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// By its path: opening `/dev/fd/N` would give the same description again.
pub(crate) fn open_again(file: &File) -> io::Result<File> {
    let mut path = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: a valid descriptor; writes at most PATH_MAX bytes, a C string.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETPATH, path.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let path = CStr::from_bytes_until_nul(&path).map_err(io::Error::other)?;
    open(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())))
}

pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    let too_large = || io::Error::from_raw_os_error(libc::EFBIG);
    let mut wanted = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: libc::off_t::try_from(len).map_err(|_| too_large())?,
        fst_bytesalloc: 0,
    };
    // SAFETY: a valid descriptor and a valid request, which the call reads and writes.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &raw mut wanted) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    file.set_len(len)
}

pub(crate) fn anonymous() -> io::Result<File> {
    let why = "macOS has no file without a name whose bytes can be locked; give the ring a path";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

pub(crate) fn seal(_file: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn publish(from: &Path, to: &Path, replace: bool) -> io::Result<()> {
    if replace {
        return std::fs::rename(from, to);
    }
    let c_path = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (c_from, c_to) = (c_path(from)?, c_path(to)?);
    // SAFETY: C strings and a number.
    let result = unsafe { libc::renamex_np(c_from.as_ptr(), c_to.as_ptr(), libc::RENAME_EXCL) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Nothing: a file in use can be replaced here.
pub(crate) fn sweep(_path: &Path) {}
