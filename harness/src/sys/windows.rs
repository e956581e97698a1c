//! The contract of `sys` on Windows.

use std::{
    fs::{File, OpenOptions},
    io,
    net::TcpStream,
    os::windows::{
        fs::{FileExt, OpenOptionsExt},
        io::{AsRawHandle, AsRawSocket, FromRawHandle, OwnedHandle},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    ptr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use windows_sys::{
    Wdk::System::SystemServices::RtlGetVersion,
    Win32::{
        Foundation::{
            ERROR_ACCESS_DENIED, ERROR_LOCK_VIOLATION, FILETIME, GetHandleInformation, HANDLE,
            INVALID_HANDLE_VALUE, WAIT_TIMEOUT,
        },
        Networking::WinSock::{POLLHUP, POLLRDNORM, SOCKET, WSAPOLLFD, WSAPoll},
        Storage::FileSystem::{
            FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_STANDARD_INFO,
            FileStandardInfo, GetFileInformationByHandleEx, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx,
            UnlockFileEx,
        },
        System::{
            Diagnostics::{
                Debug::{SEM_NOGPFAULTERRORBOX, SetErrorMode},
                ToolHelp::{
                    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First,
                    Thread32Next,
                },
            },
            IO::OVERLAPPED,
            JobObjects::{
                AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
                JOBOBJECT_BASIC_ACCOUNTING_INFORMATION, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
                JobObjectBasicAccountingInformation, JobObjectExtendedLimitInformation,
                QueryInformationJobObject, SetInformationJobObject, TerminateJobObject,
            },
            LibraryLoader::{GetModuleHandleA, GetProcAddress},
            Performance::{QueryPerformanceCounter, QueryPerformanceFrequency},
            SystemInformation::OSVERSIONINFOW,
            Threading::{
                CREATE_NEW_PROCESS_GROUP, GetCurrentProcess, GetCurrentThread,
                GetProcessAffinityMask, GetProcessTimes, GetSystemTimes, OpenProcess, OpenThread,
                PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SET_INFORMATION, PROCESS_SYNCHRONIZE,
                ResumeThread, SetProcessAffinityMask, SetThreadAffinityMask, SuspendThread,
                THREAD_SUSPEND_RESUME, WaitForSingleObject,
            },
        },
    },
};

use super::{Processor, ProcessorTimes, Usage};

/// Nanoseconds on the clock that all processes of this machine share.
pub(crate) fn now_ns() -> u64 {
    static PER_SECOND: OnceLock<u128> = OnceLock::new();
    let per_second = *PER_SECOND.get_or_init(|| {
        let mut frequency = 0_i64;
        // SAFETY: writes the number.
        unsafe { QueryPerformanceFrequency(&raw mut frequency) };
        u128::try_from(frequency).unwrap_or(1).max(1)
    });
    let mut ticks = 0_i64;
    // SAFETY: writes the number; it has no way to fail.
    unsafe { QueryPerformanceCounter(&raw mut ticks) };
    let ns = u128::from(ticks.unsigned_abs()) * 1_000_000_000 / per_second;
    u64::try_from(ns).expect("a machine does not run for centuries")
}

/// std's sleeps end when they should.
pub(crate) fn sleep_sharply() {}

/// A working set counts the program and its libraries as well.
pub(crate) fn held_bytes() -> Option<u64> {
    None
}

/// What this process has used so far.
pub(crate) fn usage() -> Usage {
    // SAFETY: the pseudo handle needs no care.
    let this = unsafe { GetCurrentProcess() };
    let [kernel, user] = times_of(this).expect("a process may ask about itself");
    // How often it gave up the processor is not told.
    Usage { cpu_ns: 100 * (kernel + user), voluntary: 0, involuntary: 0 }
}

/// How long a process has run, in the kernel and outside, in steps of 100 ns.
fn times_of(process: HANDLE) -> io::Result<[u64; 2]> {
    let mut times = [NO_TIME; 4];
    let [made, ended, kernel, user] = times.each_mut().map(ptr::from_mut);
    // SAFETY: writes the four times; an error where there is no such handle.
    check(unsafe { GetProcessTimes(process, made, ended, kernel, user) })?;
    let [.., kernel, user] = times;
    Ok([kernel, user].map(wide))
}

const NO_TIME: FILETIME = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };

fn wide(time: FILETIME) -> u64 {
    u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime)
}

/// What all processors have done so far.
pub(crate) fn processor_times() -> io::Result<ProcessorTimes> {
    let mut times = [NO_TIME; 3];
    let [idle, kernel, user] = times.each_mut().map(ptr::from_mut);
    // SAFETY: writes the three times.
    check(unsafe { GetSystemTimes(idle, kernel, user) })?;
    let [idle, kernel, user] = times.map(wide);
    // The kernel's time has the idle one in it.
    Ok(ProcessorTimes { all: kernel + user, idle, stolen: 0 })
}

/// The beginning of a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait(u64);

impl Wait {
    /// Now.
    pub(crate) fn begin() -> Wait {
        Wait(now_ns())
    }

    /// Whether it slept since, and did not only spin, which would have ended long before `spin`.
    /// The system does not count sleeps.
    pub(crate) fn has_slept(self, spin: Duration) -> bool {
        u128::from(now_ns() - self.0) >= spin.as_nanos()
    }
}

/// The system does not say.
pub(crate) fn waited_ns(_pid: u32) -> u64 {
    0
}

/// By how many handles two counts may differ though nothing was opened or closed here: under wine,
/// a thread that waits for its standard input has one for that wait.
pub(crate) const LOOSE_DESCRIPTORS: usize = 1;

/// How many handles this process has.
pub(crate) fn descriptors() -> Option<usize> {
    // Each is asked for, since the call that counts them is none of wine's.
    let is_open = |handle: &usize| {
        let mut flags = 0;
        // SAFETY: writes the flags; an error where there is no such handle.
        unsafe { GetHandleInformation(*handle as HANDLE, &raw mut flags) != 0 }
    };
    Some((4..1 << 14).step_by(4).filter(is_open).count())
}

/// Has the process lead a group of its own, so that Ctrl-C reaches the orchestrator alone.
pub(crate) fn set_apart(command: &mut Command) {
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

/// The processes that a worker leads: itself and those that it has started. They end at the latest
/// with the last clone of this, and so with this process.
#[derive(Clone, Debug)]
pub(crate) struct Group(Arc<OwnedHandle>);

impl Group {
    /// The group led by this process, which has just been started.
    pub(crate) fn led_by(child: &Child) -> io::Result<Group> {
        // SAFETY: no name and no attributes are wanted.
        let job = owned(unsafe { CreateJobObjectW(ptr::null(), ptr::null()) })?;
        // SAFETY: a struct of integers.
        let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = unsafe { std::mem::zeroed() };
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        let (handle, what) = (job.as_raw_handle(), JobObjectExtendedLimitInformation);
        let (from, len) = ((&raw const limits).cast(), size_of_val(&limits) as u32);
        // SAFETY: an open handle, and `len` bytes to read.
        check(unsafe { SetInformationJobObject(handle, what, from, len) })?;
        // SAFETY: two open handles.
        let joined = check(unsafe { AssignProcessToJobObject(handle, child.as_raw_handle()) });
        match joined {
            // One that has ended by now is in no group.
            Err(error) if error.raw_os_error() != Some(ERROR_ACCESS_DENIED as i32) => Err(error),
            _ => Ok(Group(Arc::new(job))),
        }
    }

    /// Whether any process of it is left.
    pub(crate) fn is_alive(&self) -> bool {
        // SAFETY: a struct of integers.
        let mut told: JOBOBJECT_BASIC_ACCOUNTING_INFORMATION = unsafe { std::mem::zeroed() };
        let (to, len) = ((&raw mut told).cast(), size_of_val(&told) as u32);
        let (handle, what) = (self.0.as_raw_handle(), JobObjectBasicAccountingInformation);
        // SAFETY: an open handle, and `len` bytes to write; how many were is not asked.
        let code = unsafe { QueryInformationJobObject(handle, what, to, len, ptr::null_mut()) };
        code != 0 && told.ActiveProcesses > 0
    }

    /// Ends what is left of it.
    pub(crate) fn kill(&self) {
        // SAFETY: an open handle. An empty group is as good.
        let _ = unsafe { TerminateJobObject(self.0.as_raw_handle(), 1) };
    }
}

/// The parent's handle of this process's group sees to it.
pub(crate) fn die_with_parent() {}

/// Whether a process with this id exists.
pub(crate) fn is_there(pid: u32) -> bool {
    // SAFETY: numbers only.
    match owned(unsafe { OpenProcess(PROCESS_SYNCHRONIZE, 0, pid) }) {
        // SAFETY: an open handle.
        Ok(process) => unsafe { WaitForSingleObject(process.as_raw_handle(), 0) == WAIT_TIMEOUT },
        Err(error) => error.raw_os_error() == Some(ERROR_ACCESS_DENIED as i32),
    }
}

/// Ends a process together with its own children, which their jobs see to; there is no word for it.
#[cfg(all(feature = "fault", feature = "mutant"))]
pub(crate) fn ask_to_end(process: &mut Child) -> io::Result<()> {
    process.kill()
}

/// Stops another process where it is; one that has exited needs it no more.
pub(crate) fn freeze(pid: u32) {
    for thread in threads(pid) {
        // SAFETY: an open handle. One that has ended is as good.
        unsafe { SuspendThread(thread.as_raw_handle()) };
    }
}

/// Lets it go on.
pub(crate) fn thaw(pid: u32) {
    for thread in threads(pid) {
        // SAFETY: an open handle. It does nothing to one that runs.
        unsafe { ResumeThread(thread.as_raw_handle()) };
    }
}

/// What the system knows of another process, for people.
pub(crate) fn state_of(pid: u32) -> String {
    // SAFETY: numbers only.
    let process = match owned(unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid) }) {
        Ok(process) => process,
        Err(error) => return format!("not shown: {error}\n"),
    };
    let state = if is_there(pid) { "there" } else { "has ended" };
    let times = times_of(process.as_raw_handle()).map_or_else(
        |error| format!("times: not shown: {error}"),
        |[kernel, user]| format!("user {} ms, kernel {} ms", user / 10_000, kernel / 10_000),
    );
    // Stopping a thread once more is the one call that tells how often it has been stopped.
    let stopped = threads(pid).into_iter().map(|thread| {
        // SAFETY: an open handle, of another process, so that it cannot be this thread.
        let before = unsafe { SuspendThread(thread.as_raw_handle()) };
        // SAFETY: an open handle, and undoes the line above.
        unsafe { ResumeThread(thread.as_raw_handle()) };
        format!("thread: stopped {} times\n", before.cast_signed())
    });
    format!("{state}\n{times}\n{}", stopped.collect::<String>())
}

/// The threads of a process, as far as they are there.
fn threads(pid: u32) -> Vec<OwnedHandle> {
    // SAFETY: numbers only.
    let Ok(list) = owned(unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) }) else {
        return Vec::new();
    };
    // SAFETY: a struct of integers.
    let mut entry: THREADENTRY32 = unsafe { std::mem::zeroed() };
    entry.dwSize = size_of_val(&entry) as u32;
    let mut threads = Vec::new();
    // SAFETY: an open handle; writes the entry, which knows its size.
    let mut there = unsafe { Thread32First(list.as_raw_handle(), &raw mut entry) };
    while there != 0 {
        if entry.th32OwnerProcessID == pid {
            // SAFETY: numbers only.
            let thread = unsafe { OpenThread(THREAD_SUSPEND_RESUME, 0, entry.th32ThreadID) };
            threads.extend(owned(thread));
        }
        // SAFETY: as above.
        there = unsafe { Thread32Next(list.as_raw_handle(), &raw mut entry) };
    }
    threads
}

/// A handle that a call has just opened, unless it has failed.
fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

fn check(code: i32) -> io::Result<()> {
    if code == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps this thread on one processor. Returns false where that cannot be had.
pub(crate) fn pin(which: Processor) -> bool {
    let Some(mask) = mask_of(which) else {
        return false;
    };
    // SAFETY: the pseudo handle needs no care.
    let this = unsafe { GetCurrentThread() };
    // SAFETY: a handle and a number.
    unsafe { SetThreadAffinityMask(this, mask) != 0 }
}

/// Keeps another process on one of the processors that this one may use.
pub(crate) fn pin_other(pid: u32, which: Processor) -> bool {
    // SAFETY: numbers only.
    let process = owned(unsafe { OpenProcess(PROCESS_SET_INFORMATION, 0, pid) });
    let (Ok(process), Some(mask)) = (process, mask_of(which)) else {
        return false;
    };
    // SAFETY: an open handle and a number.
    unsafe { SetProcessAffinityMask(process.as_raw_handle(), mask) != 0 }
}

/// The bit of one of the processors that this process may use.
fn mask_of(which: Processor) -> Option<usize> {
    let (mut allowed, mut all) = (0_usize, 0_usize);
    // SAFETY: the pseudo handle needs no care.
    let this = unsafe { GetCurrentProcess() };
    // SAFETY: writes the two masks.
    check(unsafe { GetProcessAffinityMask(this, &raw mut allowed, &raw mut all) }).ok()?;
    let mut usable = (0..usize::BITS).map(|bit| 1_usize << bit).filter(|bit| allowed & bit != 0);
    let last = usable.next_back();
    match which {
        Processor::Nth(n) => usable.nth(usize::try_from(n).ok()?),
        Processor::Last => last,
    }
}

/// Opens a file for reading, whatever others do with it meanwhile.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let all = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    OpenOptions::new().read(true).share_mode(all).open(path)
}

/// Reads from there, all of it; a file that is shorter is an error of the kind `UnexpectedEof`.
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.seek_read(&mut bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How many names the file has.
pub(crate) fn links(file: &File) -> io::Result<u64> {
    // SAFETY: a struct of integers.
    let mut told: FILE_STANDARD_INFO = unsafe { std::mem::zeroed() };
    let (to, len) = ((&raw mut told).cast(), size_of_val(&told) as u32);
    let handle = file.as_raw_handle();
    // SAFETY: an open handle, and `len` bytes to write.
    check(unsafe { GetFileInformationByHandleEx(handle, FileStandardInfo, to, len) })?;
    Ok(if told.DeletePending { 0 } else { u64::from(told.NumberOfLinks) })
}

/// Whether another handle holds a lock that belongs to this byte. There is no call that asks: it is
/// taken shared for a moment, which ipmpsc lets nobody mistake for an owner.
pub(crate) fn is_locked(file: &File, byte: u64) -> Option<bool> {
    /// Where the locks lie, since locked bytes cannot be read.
    const LOCKS: u64 = 1 << 40;
    let at = LOCKS + byte;
    // SAFETY: a struct of integers and of a handle that may be null.
    let mut place: OVERLAPPED = unsafe { std::mem::zeroed() };
    place.Anonymous.Anonymous.Offset = at as u32;
    place.Anonymous.Anonymous.OffsetHigh = (at >> 32) as u32;
    let (handle, flags) = (file.as_raw_handle(), LOCKFILE_FAIL_IMMEDIATELY);
    // SAFETY: an open handle that waits for its calls, and a place to read.
    match check(unsafe { LockFileEx(handle, flags, 0, 1, 0, &raw mut place) }) {
        Ok(()) => {
            // SAFETY: as above. It is ours, so it can be given back.
            unsafe { UnlockFileEx(handle, 0, 1, 0, &raw mut place) };
            Some(false)
        }
        Err(error) if error.raw_os_error() == Some(ERROR_LOCK_VIOLATION as i32) => Some(true),
        Err(_) => None,
    }
}

/// A stream of bytes that can be waited for together with others: a socket.
pub(crate) type Stream = TcpStream;

/// The stream of a connection.
pub(crate) fn stream(connection: TcpStream) -> Stream {
    connection
}

/// Which of the streams have bytes or an end to read; waits for one that has, if so asked.
pub(crate) fn readable(streams: &[&Stream], waits: bool) -> io::Result<Vec<bool>> {
    let polled = |stream: &&Stream| WSAPOLLFD {
        fd: stream.as_raw_socket() as SOCKET,
        events: POLLRDNORM,
        revents: 0,
    };
    let mut polled: Vec<_> = streams.iter().map(polled).collect();
    let count = u32::try_from(polled.len()).map_err(io::Error::other)?;
    // SAFETY: so many entries to read and write, of sockets that `streams` keeps open.
    let ready = unsafe { WSAPoll(polled.as_mut_ptr(), count, if waits { -1 } else { 0 }) };
    if ready < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(polled.iter().map(|polled| polled.revents & (POLLRDNORM | POLLHUP) != 0).collect())
}

/// There is no such place: what is mapped has a file on a disk.
pub(crate) fn shared_memory() -> Option<PathBuf> {
    None
}

/// Nor any room in it.
pub(crate) fn room() -> Option<(u64, u64)> {
    None
}

/// There is no limit that anybody would meet.
pub(crate) fn open_files_max() -> Option<u64> {
    None
}

/// A crash of this process opens no window that somebody would have to close.
pub(crate) fn keep_no_core() {
    // SAFETY: numbers only.
    unsafe { SetErrorMode(SEM_NOGPFAULTERRORBOX) };
}

/// The C library, which does not tell its version.
pub(crate) fn libc_version() -> String {
    "msvcrt".into()
}

/// The processor's name, if the system tells it.
pub(crate) fn processor_model() -> Option<String> {
    std::env::var("PROCESSOR_IDENTIFIER").ok()
}

/// Unknown: the system does not say.
pub(crate) fn has_hypervisor() -> bool {
    false
}

/// The system's version.
pub(crate) fn kernel() -> String {
    // SAFETY: a struct of integers.
    let mut told: OSVERSIONINFOW = unsafe { std::mem::zeroed() };
    told.dwOSVersionInfoSize = size_of_val(&told) as u32;
    // SAFETY: writes the struct, which knows its size; it has no way to fail.
    unsafe { RtlGetVersion(&raw mut told) };
    let OSVERSIONINFOW { dwMajorVersion, dwMinorVersion, dwBuildNumber, .. } = told;
    format!("Windows {dwMajorVersion}.{dwMinorVersion}.{dwBuildNumber}")
}

/// What this process runs under instead of Windows, if anything: wine says so where it is asked.
pub(crate) fn emulator() -> Option<String> {
    // SAFETY: a name that ends with a zero. Every process has this library for all its life.
    let library = unsafe { GetModuleHandleA(c"ntdll.dll".as_ptr().cast()) };
    // SAFETY: a loaded library, and a name that ends with a zero.
    let asked = unsafe { GetProcAddress(library, c"wine_get_version".as_ptr().cast()) };
    let asked = asked?;
    // SAFETY: this is its type in every wine: no arguments, and a static string.
    let version: unsafe extern "C" fn() -> *const std::ffi::c_char =
        unsafe { std::mem::transmute(asked) };
    // SAFETY: it only returns the string.
    let version = unsafe { version() };
    // SAFETY: the string is static and ends with a zero.
    let version = unsafe { std::ffi::CStr::from_ptr(version) };
    Some(format!("wine {}", version.to_string_lossy()))
}

/// A call into the kernel that does as little as one can.
pub(crate) fn system_call() {
    let mut flags = 0;
    // SAFETY: writes the flags; an error where there is no such handle, which is as good here.
    unsafe { GetHandleInformation(ptr::without_provenance_mut(4), &raw mut flags) };
}
