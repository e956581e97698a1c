//! The only folder with `unsafe` code, and the only one that talks to the OS below `std`.
//!
//! Knows nothing of messages, rows or commands. What all systems have is in this file; what each
//! has in its own way is in a file a system, which all have the same functions:
//!
//! | function | what it is about | Unix | Windows |
//! |---|---|---|---|
//! | `now_ns` | one clock for all processes | CLOCK_MONOTONIC | QueryPerformanceCounter |
//! | `sleep_sharply` | sleeps that end on time | timer slack (Linux) | std's own timers do |
//! | `usage`, `held_bytes`, `waited_ns` | processor and memory | getrusage, /proc | GetProcessTimes |
//! | `Wait` | whether a thread slept | voluntary switches | how long it took |
//! | `descriptors` | descriptors or handles | /proc/self/fd | GetHandleInformation |
//! | `set_apart`, `Group` | a worker with its children | process group | job object |
//! | `die_with_parent` | no orphans | prctl (Linux) | the job of `Group` |
//! | `is_there`, `freeze`, `thaw`, `ask_to_end` | another process | kill | OpenProcess, SuspendThread |
//! | `pin`, `pin_other` | one processor only | sched_setaffinity (Linux) | affinity masks |
//! | `open_to_read`, `read_exact_at`, `links`, `is_locked` | a file that others use | open, pread, fstat, fcntl | CreateFile, ReadFile |
//! | `Stream`, `stream`, `readable` | bytes of several producers | descriptors, poll | sockets, WSAPoll |
//! | `make_fifo`, `resize_pipe` | named pipes | mkfifo, fcntl (Linux) | - |
//! | `shared_memory`, `room`, `open_files_max`, `keep_no_core` | what the system allows | /dev/shm, rlimits | - |
//! | `processor_times` | how busy all processors are | /proc/stat | GetSystemTimes |
//! | `state_of` | where another process is | /proc | GetProcessTimes, SuspendThread |
//! | `libc_version`, `kernel`, `emulator` | what a result is stamped with | uname, qemu | RtlGetVersion, wine |
//! | `processor_model`, `has_hypervisor` | the same | /proc/cpuinfo | the environment |
//! | `setting` | what the kernel can be told | /proc/sys (Linux) | - |
//! | `Conditions` | what numbers are measured under | /proc, /sys (Linux) | - |
//! | `system_call` | one that does nothing | getppid | GetHandleInformation |
//!
//! Invariant 1: a `SharedWords` mapping is page-aligned and exactly `8 * len` bytes long, and no
//! process ever shortens its file, so every index below `len` is a valid, aligned `u64`.
#![allow(unsafe_code)] // The one folder of the harness that may; each block says why it is sound.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) mod trace;

/// Whether a process can be led by single steps.
#[cfg(all(feature = "fault", feature = "mutant"))]
pub(crate) const LEADS_BY_STEPS: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

#[cfg(target_os = "linux")]
pub(crate) mod signals;

#[cfg(target_os = "linux")]
pub(crate) mod refusal;

#[cfg(target_os = "linux")]
pub(crate) mod wakes;

#[cfg(all(target_os = "linux", feature = "fault"))]
pub(crate) mod clock;

#[cfg(target_os = "linux")]
pub(crate) mod queue;

mod conditions;
pub(crate) use conditions::Conditions;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use unix::*;

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub(crate) use windows::*;

use std::{
    fs::OpenOptions,
    io,
    path::Path,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use memmap2::{MmapOptions, MmapRaw};
use serde::{Deserialize, Serialize};

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
    /// How often it gave up the processor by itself, to wait; 0 where the system does not say.
    pub(crate) voluntary: u64,
    /// How often the kernel took the processor away; 0 where the system does not say.
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

/// What all processors together have done since the system's start, in a unit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessorTimes {
    /// Everything, the two below among it.
    pub(crate) all: u64,
    /// Nothing, or waiting for a disk.
    pub(crate) idle: u64,
    /// Ready to run, while the host of a virtual machine ran something else; 0 where the system
    /// does not say.
    pub(crate) stolen: u64,
}

/// Whether the text of `/proc/cpuinfo` has a processor's flag that it is not a real one.
fn names_hypervisor(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_whitespace().any(|flag| flag == "hypervisor")
}

/// Which of the processors this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    /// Counted from 0, the last one excepted.
    Nth(u32),
    Last,
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
    fn what_is_touched_is_held() {
        let Some(before) = held_bytes() else { return };
        let touched = vec![1_u8; 8 << 20];
        let after = held_bytes().expect("it was known before");
        assert!(after >= before + (6 << 20), "{before} {after}");
        assert!(touched.iter().all(|&byte| byte == 1));
    }

    #[test]
    fn this_process_is_there_and_an_impossible_one_is_not() {
        assert!(is_there(std::process::id()));
        assert!(!is_there(i32::MAX.unsigned_abs()));
    }
}
