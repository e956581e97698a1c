//! The only file with `unsafe` code, and the only one that talks to the OS below `std`.
//!
//! Owns the clock every process of a run shares, resource usage, shared words in a mapped file,
//! message queues, and what Linux offers against orphans. Knows nothing of messages, rows or
//! commands.
//!
//! Invariant 1: a `SharedWords` mapping is page-aligned and exactly `8 * len` bytes long, and no
//! process ever shortens its file, so every index below `len` is a valid, aligned `u64`.
#![allow(unsafe_code)] // The one file of the harness that may; each block says why it is sound.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) mod trace;

#[cfg(target_os = "linux")]
pub(crate) mod signals;

#[cfg(target_os = "linux")]
pub(crate) mod refusal;

#[cfg(target_os = "linux")]
pub(crate) mod wakes;

#[cfg(all(target_os = "linux", feature = "fault"))]
pub(crate) mod clock;

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use memmap2::{MmapOptions, MmapRaw};
use serde::{Deserialize, Serialize};

/// Nanoseconds on the clock that all processes of this machine share.
pub(crate) fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).expect("CLOCK_MONOTONIC starts at zero");
    let nanoseconds = u64::try_from(time.tv_nsec).expect("a timespec's nanoseconds are positive");
    seconds * 1_000_000_000 + nanoseconds
}

/// Sleeps until `now_ns` has reached `at_ns`.
pub(crate) fn sleep_until(at_ns: u64) {
    loop {
        let now = now_ns();
        if now >= at_ns {
            return;
        }
        std::thread::sleep(Duration::from_nanos(at_ns - now));
    }
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
    held_in(&std::fs::read_to_string("/proc/self/smaps_rollup").ok()?)
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

/// What a process has used of the machine so far.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// User plus system time.
    pub(crate) cpu_ns: u64,
    /// How often it gave up the processor by itself, to wait.
    pub(crate) voluntary: u64,
    /// How often the kernel took the processor away.
    pub(crate) involuntary: u64,
}

impl Usage {
    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
        }
    }

    /// The sum over two processes.
    pub(crate) fn plus(self, other: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            voluntary: self.voluntary + other.voluntary,
            involuntary: self.involuntary + other.involuntary,
        }
    }
}

/// What this process has used so far.
pub(crate) fn usage() -> Usage {
    let mut raw = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole `rusage`, which the call fills; RUSAGE_SELF always exists.
    let code = unsafe { libc::getrusage(libc::RUSAGE_SELF, raw.as_mut_ptr()) };
    assert_eq!(code, 0, "getrusage(RUSAGE_SELF) has no way to fail");
    // SAFETY: the bytes were zeroed, and every bit pattern of integers is a valid `rusage`.
    let raw = unsafe { raw.assume_init() };
    let micros =
        |time: libc::timeval| time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_usec.unsigned_abs();
    Usage {
        cpu_ns: (micros(raw.ru_utime) + micros(raw.ru_stime)) * 1_000,
        voluntary: raw.ru_nvcsw.unsigned_abs(),
        involuntary: raw.ru_nivcsw.unsigned_abs(),
    }
}

/// For how long the main thread of a process has been ready to run without a processor, as the
/// kernel counts it. 0 where the kernel does not say.
pub(crate) fn waited_ns(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// How many descriptors this process holds, where the system says so.
pub(crate) fn descriptors() -> Option<usize> {
    std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count)
}

/// The processes that a worker leads: itself and those that it has started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group(Option<rustix::process::Pid>);

impl Group {
    /// The group led by this process.
    pub(crate) fn led_by(pid: u32) -> Group {
        Group(i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw))
    }

    /// Whether any process of it is left.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.is_some_and(|pid| rustix::process::test_kill_process_group(pid).is_ok())
    }

    /// Ends what is left of it.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.0 {
            // An empty group is as good.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Words in a file that several processes map, and that outlive any of them.
#[derive(Debug)]
pub(crate) struct SharedWords {
    map: MmapRaw,
    len: usize,
}

impl SharedWords {
    /// Creates the file, all words zero.
    pub(crate) fn create(path: &Path, len: usize) -> io::Result<SharedWords> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.set_len(8 * len as u64)?;
        SharedWords::open(path)
    }

    /// Maps a file made by `create`.
    pub(crate) fn open(path: &Path) -> io::Result<SharedWords> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let len = usize::try_from(file.metadata()?.len() / 8).map_err(io::Error::other)?;
        let map = MmapOptions::new().len(8 * len).map_raw(&file)?;
        Ok(SharedWords { map, len })
    }

    /// One word.
    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len, "word {index} of {} shared words", self.len);
        // SAFETY: the line above keeps the offset inside the mapping (invariant 1).
        let word = unsafe { self.map.as_mut_ptr().cast::<u64>().add(index) };
        // SAFETY: aligned and mapped (invariant 1) for as long as `self` lives; every process
        // touches these bytes through atomics alone.
        unsafe { AtomicU64::from_ptr(word) }
    }
}

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
        limits.mq_maxmsg = i64::try_from(messages).map_err(io::Error::other)?;
        limits.mq_msgsize = i64::try_from(message_bytes).map_err(io::Error::other)?;
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

/// Asks the kernel to kill this process when its parent dies.
pub(crate) fn die_with_parent() {
    #[cfg(target_os = "linux")]
    {
        // A refusal leaves the end of stdin, which every worker watches as well.
        let signal = Some(rustix::process::Signal::KILL);
        let _ = rustix::process::set_parent_process_death_signal(signal);
    }
}

/// Which of the processors this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    /// Counted from 0, the last one excepted.
    Nth(u32),
    Last,
}

/// Keeps this process on one processor. Returns false where that cannot be had.
pub(crate) fn pin(which: Processor) -> bool {
    pin_to(None, which)
}

/// Keeps the main thread of another process on one of the processors that this one may use.
pub(crate) fn pin_other(pid: u32, which: Processor) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some() && pin_to(pid, which)
}

fn pin_to(pid: Option<rustix::process::Pid>, which: Processor) -> bool {
    #[cfg(target_os = "linux")]
    {
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
    {
        let _ = (pid, which);
        false
    }
}

/// Whether another open file holds a lock on this byte; `None` where the system does not tell.
/// Takes no lock, and asks no right to write the file.
pub(crate) fn is_locked(file: &File, byte: u64) -> Option<bool> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: flock is a struct of integers; `l_pid` must be 0 for locks of open files, which
        // rustix does not have.
        let mut request: libc::flock = unsafe { std::mem::zeroed() };
        request.l_type = libc::F_WRLCK as libc::c_short;
        request.l_whence = libc::SEEK_SET as libc::c_short;
        request.l_start = byte.try_into().ok()?;
        request.l_len = 1;
        // SAFETY: a descriptor that `file` keeps open, and a request that the call may write.
        let code = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut request) };
        (code == 0).then_some(request.l_type != libc::F_UNLCK as libc::c_short)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (file, byte);
        None
    }
}

/// The C library and its version.
pub(crate) fn libc_version() -> String {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: returns a pointer to a static string that ends with a zero byte.
        let version = unsafe { libc::gnu_get_libc_version() };
        // SAFETY: see above; the string is never changed or freed.
        let version = unsafe { std::ffi::CStr::from_ptr(version) };
        format!("glibc {}", version.to_string_lossy())
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        format!("{} libc", std::env::consts::OS)
    }
}

/// Whether a process with this id exists and is not a zombie.
#[cfg(test)]
pub(crate) fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// A moment after which a step has taken too long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// `limit` from now on.
    pub(crate) fn after(limit: Duration) -> Deadline {
        Deadline(Instant::now() + limit)
    }

    /// What is left, zero once it has passed.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn two_mappings_see_the_same_words() {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let path = folder.path().join("words");
        let one = SharedWords::create(&path, 4).expect("the folder is writable");
        let two = SharedWords::open(&path).expect("the file was just made");
        one.word(3).store(7, Relaxed);
        assert_eq!(two.word(3).load(Relaxed), 7);
    }

    #[test]
    fn the_clock_and_the_usage_go_forward() {
        let (time, used) = (now_ns(), usage());
        sleep_until(time + 1_000);
        assert!(now_ns() >= time + 1_000);
        assert!(usage().cpu_ns >= used.cpu_ns);
    }

    #[test]
    fn what_is_held_is_read_by_hand() {
        let rollup = "1-2 ---p [rollup]\nPss:  283 kB\nPss_Anon:  112 kB\nPss_Shmem:  8 kB\n";
        assert_eq!(held_in(rollup), Some(120 << 10));
        assert_eq!(held_in("Pss:  283 kB\n"), None);
    }

    #[test]
    fn what_is_touched_is_held() {
        let Some(before) = held_bytes() else { return };
        let touched = vec![1_u8; 8 << 20];
        let after = held_bytes().expect("it was known before");
        assert!(after >= before + (6 << 20), "{before} {after}");
        assert!(touched.iter().all(|&byte| byte == 1));
    }

    #[test]
    fn this_process_runs_and_an_impossible_one_does_not() {
        assert!(is_running(std::process::id()));
        assert!(!is_running(u32::MAX));
    }
}
