//! The only file with `unsafe` code, and the only one that talks to the OS below `std`.
//!
//! Owns the clock every process of a run shares, resource usage, shared words in a mapped file,
//! and what Linux offers against orphans. Knows nothing of messages, rows or commands.
//!
//! Invariant 1: a `SharedWords` mapping is page-aligned and exactly `8 * len` bytes long, and no
//! process ever shortens its file, so every index below `len` is a valid, aligned `u64`.
#![allow(unsafe_code)] // The one file of the harness that may; each block says why it is sound.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) mod trace;

use std::{
    fs::OpenOptions,
    io,
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
    First,
    Last,
}

/// Keeps this process on one processor. Returns false where that cannot be had.
pub(crate) fn pin(which: Processor) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let Ok(allowed) = sched_getaffinity(None) else {
            return false;
        };
        let mut usable = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        let cpu = match which {
            Processor::First => usable.next(),
            Processor::Last => usable.next_back(),
        };
        let mut only = CpuSet::new();
        if let Some(cpu) = cpu {
            only.set(cpu);
        }
        sched_setaffinity(None, &only).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = which;
        false
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
    fn this_process_runs_and_an_impossible_one_does_not() {
        assert!(is_running(std::process::id()));
        assert!(!is_running(u32::MAX));
    }
}
