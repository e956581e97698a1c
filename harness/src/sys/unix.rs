//! The contract of `sys` on Linux and the systems like it. What only Linux tells or offers is
//! unknown, or left out, elsewhere.

use std::{
    fs::{self, File},
    io,
    net::TcpStream,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit},
};

use super::{Processor, ProcessorTimes, Usage};

/// Nanoseconds on the clock that all processes of this machine share.
pub(crate) fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).expect("CLOCK_MONOTONIC starts at zero");
    let nanoseconds = u64::try_from(time.tv_nsec).expect("a timespec's nanoseconds are positive");
    seconds * 1_000_000_000 + nanoseconds
}

/// Lets the sleeps of this thread end when they should, not up to 50 us later.
pub(crate) fn sleep_sharply() {
    #[cfg(target_os = "linux")]
    {
        // A refusal shows as lag, which is measured.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    }
}

/// Bytes of memory this process holds beside its program: its share of what it has allocated and
/// of the files in memory it has mapped, as far as they were touched. `None` where the system does
/// not say.
pub(crate) fn held_bytes() -> Option<u64> {
    held_in(&fs::read_to_string("/proc/self/smaps_rollup").ok()?)
}

/// The sum of two lines of `smaps_rollup`. The program and its libraries are in a third, which
/// changes with the number of processes that run them.
fn held_in(rollup: &str) -> Option<u64> {
    let kib = |name: &str| {
        let value = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Some((kib("Pss_Anon:")? + kib("Pss_Shmem:")?) << 10)
}

/// What this process has used so far.
pub(crate) fn usage() -> Usage {
    let mut raw = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole `rusage`, which the call fills; RUSAGE_SELF always exists.
    let code = unsafe { libc::getrusage(libc::RUSAGE_SELF, raw.as_mut_ptr()) };
    assert_eq!(code, 0, "getrusage(RUSAGE_SELF) has no way to fail");
    // SAFETY: the bytes were zeroed, and every bit pattern of integers is a valid `rusage`.
    let raw = unsafe { raw.assume_init() };
    let micros = |time: libc::timeval| {
        wide(time.tv_sec.unsigned_abs()) * 1_000_000 + wide(time.tv_usec.unsigned_abs())
    };
    Usage {
        cpu_ns: (micros(raw.ru_utime) + micros(raw.ru_stime)) * 1_000,
        voluntary: wide(raw.ru_nvcsw.unsigned_abs()),
        involuntary: wide(raw.ru_nivcsw.unsigned_abs()),
    }
}

/// The beginning of a wait of the only thread that is busy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait(u64);

impl Wait {
    /// Now.
    pub(crate) fn begin() -> Wait {
        Wait(usage().voluntary)
    }

    /// Whether it slept since, and did not only spin, which would have ended long before `spin`.
    pub(crate) fn has_slept(self, _spin: Duration) -> bool {
        usage().voluntary > self.0
    }
}

/// A number of the C library, which has 32 bits on some machines.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// For how long the main thread of a process has been ready to run without a processor, as the
/// kernel counts it. 0 where the kernel does not say.
pub(crate) fn waited_ns(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// What all processors have done so far, where the system says so.
pub(crate) fn processor_times() -> io::Result<ProcessorTimes> {
    let stat = fs::read_to_string("/proc/stat")?;
    times_in(&stat).ok_or_else(|| io::Error::other("/proc/stat has no line of all processors"))
}

fn times_in(stat: &str) -> Option<ProcessorTimes> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut words = line.split_whitespace().map(|word| word.parse::<u64>().ok());
    let mut next = || words.next().flatten();
    // Guests' time, which may follow, is in user's and nice's already.
    let [user, nice, system, idle, disk, irq, softirq, stolen] =
        [next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?];
    let idle = idle + disk;
    Some(ProcessorTimes { all: user + nice + system + idle + irq + softirq + stolen, idle, stolen })
}

/// The files of `/proc/PID` that say where a process is; not every system shows each.
const STATE: [&str; 6] = ["status", "wchan", "syscall", "stack", "maps", "limits"];

/// What the kernel knows of another process, for people.
pub(crate) fn state_of(pid: u32) -> String {
    let told = STATE.map(|file| {
        let read = fs::read_to_string(format!("/proc/{pid}/{file}"));
        let read = read.unwrap_or_else(|error| format!("not shown: {error}"));
        format!("== {file}\n{}\n\n", read.trim_end())
    });
    told.concat()
}

/// By how many descriptors two counts may differ though nothing was opened or closed here.
pub(crate) const LOOSE_DESCRIPTORS: usize = 0;

/// How many descriptors this process holds, where the system says so.
pub(crate) fn descriptors() -> Option<usize> {
    fs::read_dir("/proc/self/fd").ok().map(Iterator::count)
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Has the process lead a group of its own, so that Ctrl-C reaches the orchestrator alone.
pub(crate) fn set_apart(command: &mut Command) {
    command.process_group(0);
}

/// The processes that a worker leads: itself and those that it has started.
#[derive(Clone, Debug)]
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// The group led by this process, which was set apart.
    pub(crate) fn led_by(child: &Child) -> io::Result<Group> {
        Ok(Group(pid_of(child.id())))
    }

    /// Whether any process of it is left.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.is_some_and(|pid| rustix::process::test_kill_process_group(pid).is_ok())
    }

    /// Ends what is left of it.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.0 {
            // An empty group is as good.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Asks the kernel to kill this process when its parent dies.
pub(crate) fn die_with_parent() {
    #[cfg(target_os = "linux")]
    {
        // A refusal leaves the end of stdin, which every worker watches as well.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    }
}

/// Whether a process with this id exists; one that nobody has reaped does.
pub(crate) fn is_there(pid: u32) -> bool {
    let refused = |error| error == rustix::io::Errno::PERM;
    pid_of(pid)
        .is_some_and(|pid| rustix::process::test_kill_process(pid).map_or_else(refused, |()| true))
}

/// Tells a process to end, which may have done so by itself: not reaped yet, it still has its id.
#[cfg(all(feature = "fault", feature = "mutant"))]
pub(crate) fn ask_to_end(process: &mut Child) -> io::Result<()> {
    let Some(pid) = pid_of(process.id()) else { return process.kill() };
    Ok(rustix::process::kill_process(pid, Signal::TERM)?)
}

/// Stops another process where it is; one that has exited needs it no more.
pub(crate) fn freeze(pid: u32) {
    let _ = pid_of(pid).map(|pid| rustix::process::kill_process(pid, Signal::STOP));
}

/// Lets it go on.
pub(crate) fn thaw(pid: u32) {
    let _ = pid_of(pid).map(|pid| rustix::process::kill_process(pid, Signal::CONT));
}

/// Keeps this thread on one processor. Returns false where that cannot be had.
pub(crate) fn pin(which: Processor) -> bool {
    pin_to(None, which)
}

/// Keeps the main thread of another process on one of the processors that this one may use.
pub(crate) fn pin_other(pid: u32, which: Processor) -> bool {
    let pid = pid_of(pid);
    pid.is_some() && pin_to(pid, which)
}

#[cfg(target_os = "linux")]
fn pin_to(pid: Option<Pid>, which: Processor) -> bool {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else {
        return false;
    };
    let mut usable = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let last = usable.next_back();
    let cpu = match which {
        Processor::Nth(n) => usize::try_from(n).ok().and_then(|n| usable.nth(n)),
        Processor::Last => last,
    };
    let mut only = CpuSet::new();
    if let Some(cpu) = cpu {
        only.set(cpu);
    }
    cpu.is_some() && sched_setaffinity(pid, &only).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn pin_to(_pid: Option<Pid>, _which: Processor) -> bool {
    false
}

/// Opens a regular file for reading, without waiting for anybody and without becoming a terminal's.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Reads from there, all of it; a file that is shorter is an error of the kind `UnexpectedEof`.
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(bytes, offset)
}

/// How many names the file has.
pub(crate) fn links(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.nlink())
}

/// Whether another open file holds a lock on this byte; `None` where the system does not tell.
/// Takes no lock, and asks no right to write the file.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_locked(file: &File, byte: u64) -> Option<bool> {
    // By number and with 64-bit offsets: in a 32-bit process, the C libraries differ in which
    // struct their `fcntl` takes for these locks.
    #[cfg(target_pointer_width = "32")]
    const FCNTL: libc::c_long = libc::SYS_fcntl64;
    #[cfg(target_pointer_width = "64")]
    const FCNTL: libc::c_long = libc::SYS_fcntl;
    // SAFETY: a struct of integers; `l_pid` must be 0 for locks of open files, which rustix does
    // not have.
    let mut request: libc::flock64 = unsafe { std::mem::zeroed() };
    request.l_type = libc::F_WRLCK as libc::c_short;
    request.l_whence = libc::SEEK_SET as libc::c_short;
    request.l_start = byte.try_into().ok()?;
    request.l_len = 1;
    let (fd, command) = (std::os::fd::AsRawFd::as_raw_fd(file), libc::F_OFD_GETLK);
    // SAFETY: a descriptor that `file` keeps open, and a request that the call may write.
    let code = unsafe { libc::syscall(FCNTL, fd, command, &raw mut request) };
    (code == 0).then_some(request.l_type != libc::F_UNLCK as libc::c_short)
}

/// Other systems tell about locks of processes only, which these are not.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_locked(_file: &File, _byte: u64) -> Option<bool> {
    None
}

/// A stream of bytes that can be waited for together with others: a pipe or a socket.
pub(crate) type Stream = File;

/// The stream of a connection.
pub(crate) fn stream(connection: TcpStream) -> Stream {
    File::from(OwnedFd::from(connection))
}

/// Which of the streams have bytes or an end to read; waits for one that has, if so asked.
pub(crate) fn readable(streams: &[&Stream], waits: bool) -> io::Result<Vec<bool>> {
    let mut fds: Vec<_> = streams
        .iter()
        .map(|stream| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN))
        .collect();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, (!waits).then_some(&at_once))?;
    // A pipe that is at its end has no bytes, a socket that is has an end to read.
    let is_ready = |fd: &PollFd<'_>| fd.revents().intersects(PollFlags::IN | PollFlags::HUP);
    Ok(fds.iter().map(is_ready).collect())
}

/// Makes a named pipe for its owner alone.
pub(crate) fn make_fifo(path: &Path) -> io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a string with a 0 at its end, which the call only reads.
    let code = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes room for so many bytes in a pipe, where that can be had.
#[cfg(target_os = "linux")]
pub(crate) fn resize_pipe(pipe: impl AsFd, bytes: u64) -> io::Result<()> {
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    Ok(rustix::pipe::fcntl_setpipe_size(pipe, bytes).map(drop)?)
}

/// A pipe has the room that the system gives it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn resize_pipe(_pipe: impl AsFd, _bytes: u64) -> io::Result<()> {
    Ok(())
}

/// A folder whose files are memory and nothing else, if there is one that can be written to.
pub(crate) fn shared_memory() -> Option<PathBuf> {
    let shared = Path::new("/dev/shm");
    tempfile::tempfile_in(shared).is_ok().then(|| shared.to_path_buf())
}

/// How large that folder's file system is, and how much of it is free, in bytes.
pub(crate) fn room() -> Option<(u64, u64)> {
    let place = rustix::fs::statvfs("/dev/shm").ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(place.f_frsize);
    Some((bytes(place.f_blocks), bytes(place.f_bavail)))
}

/// A number that the kernel can be told, by its name under `/proc/sys`, where it shows it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn setting(name: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().parse().ok()
}

/// How many files this process may have open, if there is a limit.
pub(crate) fn open_files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// A crash of this process leaves no core dump.
pub(crate) fn keep_no_core() {
    // At worst there is one.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// The C library and its version.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn libc_version() -> String {
    // SAFETY: returns a pointer to a static string that ends with a zero byte.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: see above; the string is never changed or freed.
    let version = unsafe { std::ffi::CStr::from_ptr(version) };
    format!("glibc {}", version.to_string_lossy())
}

/// The C library, which does not tell its version.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn libc_version() -> String {
    if cfg!(target_env = "musl") { "musl".into() } else { format!("{} libc", std::env::consts::OS) }
}

/// The processor's name, if the system tells it.
pub(crate) fn processor_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map(|(_, name)| name.trim().to_owned())
}

/// Whether the processor says that it is not a real one.
pub(crate) fn has_hypervisor() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| super::names_hypervisor(&text))
}

/// The kernel's release.
pub(crate) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// What this process runs under instead of a processor of its own, if anything: qemu answers for
/// `/proc/self`, and leaves the same link of the thread to the kernel, whose program is qemu.
pub(crate) fn emulator() -> Option<String> {
    let program = |path: &str| File::open(path).and_then(|file| file.metadata()).ok();
    let (mine, real) = (program("/proc/self/exe")?, program("/proc/thread-self/exe")?);
    let name = fs::read_link("/proc/thread-self/exe").unwrap_or_default();
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ((mine.dev(), mine.ino()) != (real.dev(), real.ino())).then_some(name)
}

/// A call into the kernel that does as little as one can.
pub(crate) fn system_call() {
    let _ = rustix::process::getppid();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_by_hand() {
        let stat = "cpu  100 0 50 800 10 0 5 35 7 0\ncpu0 1 2 3\n";
        assert_eq!(times_in(stat), Some(ProcessorTimes { all: 1000, idle: 810, stolen: 35 }));
        assert_eq!(times_in("cpu  1 2 3\n"), None);
        assert_eq!(times_in("nothing\n"), None);
    }

    #[test]
    fn what_is_held_is_read_by_hand() {
        let rollup = "1-2 ---p [rollup]\nPss:  283 kB\nPss_Anon:  112 kB\nPss_Shmem:  8 kB\n";
        assert_eq!(held_in(rollup), Some(120 << 10));
        assert_eq!(held_in("Pss:  283 kB\n"), None);
    }
}
