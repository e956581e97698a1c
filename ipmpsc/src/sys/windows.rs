//! Windows: named events, byte locks of file handles, files that only their user can open.
//!
//! # Waits
//!
//! `WaitOnAddress` knows one process only, so a sleeper waits for an event that others find by the
//! ring's random id. An event is a kernel object that ends with its last handle, so nobody's death
//! leaves one behind. It remembers that it was set, which is what the look at the word does for a
//! futex:
//!
//! - *The receiver* is one, and so an auto-reset event loses nothing. A sender sets it after it
//!   turned the receiver's word from 1 to 0 (SYNC(receiver-wait): `Ring::arm_receiver` against
//!   `Ring::take_receiver_wake`). If the receiver does not wait yet, its wait returns at once; if
//!   it has stopped waiting, its next wait does, for no reason, and once.
//! - *One sender* of several is woken by an auto-reset event as well, set after the receiver made
//!   the senders' word even (SYNC(space-wait): `Ring::arm_sender` against `Ring::take_space_wake`).
//!   Whoever takes the wake makes it odd again, so that the next space freed sets the event
//!   again. It may be another than the one that was about to wait: one that slept, or would have,
//!   as well. Two wakes that nobody has taken yet are one; the taker's message leads to the next.
//! - *All senders* are woken by an event that stays set: the ring is closed or its receiver has
//!   left, and then no sender sleeps any more. The first that does so again, since its word is as
//!   it left it, resets the event. A sender that is between its look at the word and its wait
//!   just then misses it; that nap, of at most `LONGEST_NAP`, is the only one a lost wake costs.
//!
//! The events lie in the session's namespace. Processes of one user in different sessions share
//! a ring, but their waits end with their naps.
//!
//! # Files
//!
//! The system locks bytes against all handles but the one that has them, and frees them when a
//! process ends, however it does. Locked bytes cannot be read or written by handle, so the locks
//! lie far beyond the file's end. There is no call that asks for a lock: `is_locked` takes the byte
//! shared for a moment, which `try_lock` lets nobody mistake for an owner.
//!
//! A file that is mapped can be renamed, but not cut off, removed or replaced. So `publish` puts it
//! aside under another name, where it stays until a later `create` finds it unused.

use super::Which;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;
use windows_sys::Win32::Foundation::{
    ERROR_LOCK_VIOLATION, GENERIC_ALL, GENERIC_READ, GENERIC_WRITE, HANDLE, INVALID_HANDLE_VALUE,
    LocalFree, WAIT_OBJECT_0,
};
use windows_sys::Win32::Security::Authorization::{GetSecurityInfo, SE_FILE_OBJECT};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, ACL_REVISION, AddAccessAllowedAce,
    DACL_SECURITY_INFORMATION, EqualSid, GetAce, GetTokenInformation, InitializeAcl,
    InitializeSecurityDescriptor, IsWellKnownSid, OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR,
    PSID, SECURITY_ATTRIBUTES, SECURITY_DESCRIPTOR, SetSecurityDescriptorDacl, TOKEN_QUERY,
    TOKEN_USER, TokenUser, WinBuiltinAdministratorsSid, WinLocalSystemSid,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, CREATE_NEW, CreateFileW, DELETE, FILE_APPEND_DATA,
    FILE_ATTRIBUTE_COMPRESSED, FILE_ATTRIBUTE_SPARSE_FILE, FILE_ATTRIBUTE_TEMPORARY,
    FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_DELETE_ON_CLOSE, FILE_FLAG_OPEN_REPARSE_POINT,
    FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_WRITE_DATA,
    GetFileInformationByHandle, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx,
    MoveFileExW, ReOpenFile, SECURITY_IDENTIFICATION, UnlockFileEx, WRITE_DAC, WRITE_OWNER,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::Threading::{
    CreateEventW, GetCurrentProcess, OpenProcessToken, ResetEvent, SetEvent, WaitForMultipleObjects,
};

/// Where the locks lie.
const LOCKS: u64 = 1 << 40;
/// Everybody may open, write, rename and remove a file that we have open, as on other systems.
const SHARE_ALL: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
/// How many replaced rings that are still in use a path can have beside it.
const MOST_ASIDE: u32 = 64;
/// Bits of a mode by which others than the user may write.
const OTHERS_WRITE: u32 = 0o022;

fn check(result: i32) -> io::Result<()> {
    if result != 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes over a handle that a call has just made, or says why it has not.
fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: open, by the caller's call, and nobody else's.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

fn wide(text: &std::ffi::OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

/// This process's user.
struct User {
    /// A `TOKEN_USER` and the id that it points to, in this very box.
    token: Box<[u64; 16]>,
}

impl User {
    fn this() -> io::Result<Self> {
        let mut handle = ptr::null_mut();
        // SAFETY: the pseudo handle of this process needs no care.
        let process = unsafe { GetCurrentProcess() };
        // SAFETY: writes the handle.
        check(unsafe { OpenProcessToken(process, TOKEN_QUERY, &raw mut handle) })?;
        let handle = owned(handle)?;
        let mut token = Box::new([0_u64; 16]);
        let (to, mut len) = (token.as_mut_ptr().cast(), size_of_val(&*token) as u32);
        let token_handle = handle.as_raw_handle();
        // SAFETY: writes at most `len` bytes; the largest id needs half of them.
        check(unsafe { GetTokenInformation(token_handle, TokenUser, to, len, &raw mut len) })?;
        Ok(Self { token })
    }

    fn sid(&self) -> PSID {
        // SAFETY: `this` had a TOKEN_USER written here, and 8 is its alignment.
        unsafe { &*self.token.as_ptr().cast::<TOKEN_USER>() }.User.Sid
    }

    /// This user, or one who can do everything anyway.
    fn is_or_rules(&self, sid: PSID) -> bool {
        // SAFETY: both are valid ids, as the system wrote them.
        let is_user = unsafe { EqualSid(self.sid(), sid) } != 0;
        let is_kind = |kind| {
            // SAFETY: as above.
            unsafe { IsWellKnownSid(sid, kind) != 0 }
        };
        is_user || is_kind(WinLocalSystemSid) || is_kind(WinBuiltinAdministratorsSid)
    }
}

/// Access for this user and nobody else, for an object to be made with. The default would be the
/// process's own list, which lets a service's or an elevated process's helpers in or out as it
/// happens to be set.
struct Private {
    _user: User,
    _list: Box<[u32; 64]>,
    descriptor: Box<SECURITY_DESCRIPTOR>,
}

impl Private {
    fn new() -> io::Result<Self> {
        let user = User::this()?;
        let mut list = Box::new([0_u32; 64]);
        let (acl, len) = (list.as_mut_ptr().cast::<ACL>(), size_of_val(&*list) as u32);
        // SAFETY: writes `len` bytes at most, aligned to 4.
        check(unsafe { InitializeAcl(acl, len, ACL_REVISION) })?;
        // SAFETY: a list as just made, and a valid id; an entry with the largest id fits.
        check(unsafe { AddAccessAllowedAce(acl, ACL_REVISION, GENERIC_ALL, user.sid()) })?;
        // SAFETY: a struct of integers and pointers, for which 0 and null are values.
        let mut descriptor: Box<SECURITY_DESCRIPTOR> = Box::new(unsafe { std::mem::zeroed() });
        let to: PSECURITY_DESCRIPTOR = (&raw mut *descriptor).cast();
        // SAFETY: writes the struct; 1 is the only revision there is.
        check(unsafe { InitializeSecurityDescriptor(to, 1) })?;
        // SAFETY: stores the list's address, which stays valid in its box.
        check(unsafe { SetSecurityDescriptorDacl(to, 1, acl, 0) })?;
        Ok(Self { _user: user, _list: list, descriptor })
    }

    /// For a handle that children do not inherit. Valid as long as self is.
    fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: (&raw const *self.descriptor).cast_mut().cast(),
            bInheritHandle: 0,
        }
    }
}

/// The events of a ring's receiver or senders.
#[derive(Debug)]
pub(crate) struct Signal {
    one: OwnedHandle,
    all: OwnedHandle,
}

impl Signal {
    pub(crate) fn new(ring: [u64; 2], which: Which) -> io::Result<Self> {
        let private = Private::new()?;
        let attributes = private.attributes();
        let event = |kind: &str, stays_set: bool| {
            let name = format!("Local\\ipmpsc-{:016x}{:016x}-{which:?}-{kind}", ring[0], ring[1]);
            let (name, stays_set) = (wide(name.as_ref()), stays_set.into());
            // SAFETY: valid attributes and a name that ends with a zero, for the call to read.
            owned(unsafe { CreateEventW(&raw const attributes, stays_set, 0, name.as_ptr()) })
        };
        Ok(Self { one: event("one", false)?, all: event("all", true)? })
    }

    pub(crate) fn wait(&self, word: &AtomicU32, expected: u32, timeout: Duration) {
        // SeqCst: this look saves the call where the word has changed; it orders nothing.
        if word.load(SeqCst) != expected {
            return;
        }
        // Rounded up, so that the caller need not wait again for the rest of a millisecond.
        let timeout = u32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX - 1);
        let events = [self.one.as_raw_handle(), self.all.as_raw_handle()];
        // SAFETY: two open handles, for the call to read.
        let result = unsafe { WaitForMultipleObjects(2, events.as_ptr(), 0, timeout) };
        if result == WAIT_OBJECT_0 + 1 && word.load(SeqCst) == expected {
            // It was set before the word was armed, for sleepers that have gone.
            // SAFETY: an open handle.
            unsafe { ResetEvent(events[1]) };
        }
    }

    pub(crate) fn wake(&self, _word: &AtomicU32, all: bool) {
        let event = if all { &self.all } else { &self.one };
        // SAFETY: an open handle. It cannot fail.
        unsafe { SetEvent(event.as_raw_handle()) };
    }
}

/// The path in the form that has no limit on its length.
fn long(path: &Path) -> io::Result<Vec<u16>> {
    let path = std::path::absolute(path)?.into_os_string();
    let text = path.to_string_lossy();
    let mut long = OsString::new();
    if text.starts_with(r"\\?\") || text.starts_with(r"\\.\") {
    } else if let Some(share) = text.strip_prefix(r"\\") {
        return Ok(wide(format!(r"\\?\UNC\{share}").as_ref()));
    } else {
        long.push(r"\\?\");
    }
    long.push(path);
    Ok(wide(&long))
}

/// Makes a file; with a mode by which others may write, for those whom its folder lets in.
fn create(path: &Path, mode: u32, access: u32, flags: u32) -> io::Result<File> {
    let private = if mode & 0o077 == 0 { Some(Private::new()?) } else { None };
    let attributes = private.as_ref().map(Private::attributes);
    let attributes = attributes.as_ref().map_or(ptr::null(), ptr::from_ref);
    let access = GENERIC_READ | GENERIC_WRITE | access;
    let (name, none) = (long(path)?, ptr::null_mut());
    // SAFETY: a name that ends with a zero and valid or no attributes, for the call to read.
    let handle = unsafe {
        CreateFileW(name.as_ptr(), access, SHARE_ALL, attributes, CREATE_NEW, flags, none)
    };
    owned(handle).map(File::from)
}

pub(crate) fn create_exclusive(path: &Path, mode: u32) -> io::Result<File> {
    create(path, mode, 0, FILE_FLAG_OPEN_REPARSE_POINT)
}

pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
        // Should it be a pipe, its server is not to act in our name.
        .security_qos_flags(SECURITY_IDENTIFICATION)
        .open(path)
}

pub(crate) fn open_again(file: &File) -> io::Result<File> {
    let access = GENERIC_READ | GENERIC_WRITE;
    // SAFETY: an open handle.
    let handle = unsafe { ReOpenFile(file.as_raw_handle(), access, SHARE_ALL, 0) };
    owned(handle).map(File::from)
}

pub(crate) fn identity(file: &File) -> io::Result<[u64; 2]> {
    // SAFETY: a struct of integers.
    let mut of: BY_HANDLE_FILE_INFORMATION = unsafe { std::mem::zeroed() };
    // SAFETY: an open handle; writes the struct.
    check(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut of) })?;
    let index = u64::from(of.nFileIndexHigh) << 32 | u64::from(of.nFileIndexLow);
    Ok([of.dwVolumeSerialNumber.into(), index])
}

/// The place of a lock, as the calls take it.
fn place(byte: u32) -> OVERLAPPED {
    let at = LOCKS + u64::from(byte);
    // SAFETY: a struct of integers and a handle that may be null.
    let mut place: OVERLAPPED = unsafe { std::mem::zeroed() };
    place.Anonymous.Anonymous.Offset = at as u32;
    place.Anonymous.Anonymous.OffsetHigh = (at >> 32) as u32;
    place
}

/// Locks a byte, shared or not; false: somebody else has it.
fn lock(file: &File, byte: u32, flags: u32) -> io::Result<bool> {
    let (handle, flags) = (file.as_raw_handle(), flags | LOCKFILE_FAIL_IMMEDIATELY);
    let mut place = place(byte);
    // SAFETY: an open handle, and a place that is valid for the call, which does not go on after
    // it returns, since the handle is not an overlapped one.
    match check(unsafe { LockFileEx(handle, flags, 0, 1, 0, &raw mut place) }) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(ERROR_LOCK_VIOLATION as i32) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn try_lock(file: &File, byte: u32) -> io::Result<bool> {
    while !lock(file, byte, LOCKFILE_EXCLUSIVE_LOCK)? {
        if is_locked(file, byte)? {
            return Ok(false);
        }
        // Somebody was asking, as we did just now. That takes microseconds.
        std::thread::yield_now();
    }
    Ok(true)
}

pub(crate) fn is_locked(file: &File, byte: u32) -> io::Result<bool> {
    if !lock(file, byte, 0)? {
        return Ok(true);
    }
    let mut place = place(byte);
    // SAFETY: as in `lock`.
    check(unsafe { UnlockFileEx(file.as_raw_handle(), 0, 1, 0, &raw mut place) })?;
    Ok(false)
}

/// Words of this process. There is no fork here.
#[derive(Debug)]
pub(crate) struct ForkPrivate(Box<[AtomicU64; 8]>);

impl ForkPrivate {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Box::default()))
    }

    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64; 8] {
        &self.0
    }
}

pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    // A file of this system has all of its space, unless it is one of these.
    let lacks_space = FILE_ATTRIBUTE_COMPRESSED | FILE_ATTRIBUTE_SPARSE_FILE;
    if file.metadata()?.file_attributes() & lacks_space != 0 {
        let why = "a ring cannot be in a compressed folder: its space would not be allocated";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    file.set_len(len)
}

/// A temporary file that is removed with its last handle, which a child may have inherited.
pub(crate) fn anonymous() -> io::Result<File> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    loop {
        // Relaxed: a number for a name, and a name in use is passed over.
        let name = format!("ipmpsc-{}-{}", std::process::id(), MADE.fetch_add(1, Relaxed));
        let flags = FILE_FLAG_DELETE_ON_CLOSE | FILE_ATTRIBUTE_TEMPORARY;
        match create(&std::env::temp_dir().join(name), 0o600, DELETE, flags) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made,
        }
    }
}

/// Nothing: a file that is mapped cannot be cut off here.
pub(crate) fn seal(_file: &File) -> io::Result<()> {
    Ok(())
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (long(from)?, long(to)?);
    // SAFETY: names that end with a zero, for the call to read.
    check(unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), 0) })
}

pub(crate) fn publish(from: &Path, to: &Path, replace: bool) -> io::Result<()> {
    if !replace {
        return rename(from, to);
    }
    let Err(refused) = std::fs::rename(from, to) else {
        return Ok(());
    };
    // Most likely it is mapped. For a moment there is nothing at the path.
    sweep(to);
    let mut aside = (0..MOST_ASIDE).map(|number| aside(to, number));
    let Some(aside) = aside.find(|aside| rename(to, aside).is_ok()) else {
        return Err(refused);
    };
    rename(from, to).inspect_err(|_| {
        // As it was; if even that fails, the ring can still be found under its other name.
        let _ = rename(&aside, to);
    })
}

/// How the names begin that a replaced ring gets while it is in use.
fn aside_prefix(path: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".ipmpsc-old-");
    name
}

fn aside(path: &Path, number: u32) -> PathBuf {
    let mut name = aside_prefix(path);
    name.push(number.to_string());
    path.with_file_name(name)
}

pub(crate) fn sweep(path: &Path) {
    let prefix = aside_prefix(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // What cannot be listed or is still in use waits for the next sweep.
    for entry in std::fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter().flatten() {
        let Ok(entry) = entry else { return };
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    // Neither read nor written, so that nobody's locks or rights are in the way.
    let flags = FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS;
    match OpenOptions::new().access_mode(0).custom_flags(flags).open(path) {
        Ok(there) => Ok(identity(file)? == identity(&there)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// There are no mode bits here. With one by which others may write, the file's access list is
/// taken as it is; without, it must let nobody write but this user and those who rule the machine.
pub(crate) fn trusted(file: &File, mode: u32) -> io::Result<bool> {
    if mode & OTHERS_WRITE != 0 {
        return Ok(true);
    }
    let user = User::this()?;
    let wanted = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION;
    let (mut owner, mut list, mut descriptor) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: an open handle; writes the three pointers.
    let error = unsafe {
        GetSecurityInfo(
            file.as_raw_handle(),
            SE_FILE_OBJECT,
            wanted,
            &raw mut owner,
            ptr::null_mut(),
            &raw mut list,
            ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error.cast_signed()));
    }
    let trusted = user.is_or_rules(owner) && only_they_write(&user, list);
    // SAFETY: given to us by the call above; owner and list point into it and are not used again.
    unsafe { LocalFree(descriptor) };
    Ok(trusted)
}

/// Whether an access list lets nobody write but this user and those who rule the machine.
fn only_they_write(user: &User, list: *const ACL) -> bool {
    const ALLOW: u8 = 0;
    const DENY: u8 = 1;
    const WRITE: u32 = FILE_WRITE_DATA | FILE_APPEND_DATA | WRITE_DAC | WRITE_OWNER | DELETE;
    // SAFETY: null, where everybody may do everything, or a list as the system wrote it.
    let Some(head) = (unsafe { list.as_ref() }) else {
        return false;
    };
    (0..head.AceCount.into()).all(|number| {
        let mut entry = ptr::null_mut();
        // SAFETY: a valid list; writes the pointer.
        if unsafe { GetAce(list, number, &raw mut entry) } == 0 {
            return false;
        }
        // SAFETY: an entry of the list; every kind begins so.
        let kind = unsafe { &*entry.cast::<ACE_HEADER>() }.AceType;
        if kind != ALLOW {
            // Of the other kinds, those that allow are for directories of another sort.
            return kind == DENY;
        }
        let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
        // SAFETY: of this kind, by the test above.
        let mask = unsafe { &*entry }.Mask;
        // SAFETY: the id begins at this field and lies inside the entry.
        let sid = unsafe { &raw mut (*entry).SidStart }.cast();
        mask & (WRITE | GENERIC_ALL | GENERIC_WRITE) == 0 || user.is_or_rules(sid)
    })
}

#[cfg(feature = "fault")]
pub(crate) fn kill_self() -> ! {
    use windows_sys::Win32::System::Threading::TerminateProcess;
    // SAFETY: the pseudo handle needs no care.
    let this = unsafe { GetCurrentProcess() };
    // SAFETY: the process ends here.
    unsafe { TerminateProcess(this, 9) };
    unreachable!("this cannot be survived")
}

/// Stops this thread, until another process resumes it: there is no signal that stops a process.
#[cfg(feature = "fault")]
pub(crate) fn stop_self() {
    use windows_sys::Win32::System::Threading::{GetCurrentThread, SuspendThread};
    // SAFETY: the pseudo handle needs no care.
    let this = unsafe { GetCurrentThread() };
    // SAFETY: this thread holds no lock of the process.
    unsafe { SuspendThread(this) };
}
