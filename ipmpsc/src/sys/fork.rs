//! Words that a child made by fork finds to be 0, where the system cannot wipe memory in a fork:
//! macOS, and Android, whose oldest kernels (before Linux 4.14) cannot.
//!
//! A function that runs in every child counts the forks, and the words remember the count that they
//! are of.

use std::ffi::c_int;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// How many forks lie between this process and the one that counted first.
static FORKS: AtomicU64 = AtomicU64::new(1);

extern "C" fn count_fork() {
    // Relaxed: a child has one thread.
    FORKS.fetch_add(1, Relaxed);
}

/// While a thread wipes the words: added to the count of forks that it knows.
const WIPING: u64 = 1 << 63;

/// Words of this process that a child made by fork finds to be 0: it wipes them before it first
/// looks.
#[derive(Debug)]
pub(crate) struct ForkPrivate {
    words: [AtomicU64; 8],
    /// The count of forks in the process that the words are of.
    of: AtomicU64,
}

impl ForkPrivate {
    pub(crate) fn new() -> io::Result<Self> {
        static COUNTING: OnceLock<c_int> = OnceLock::new();
        // SAFETY: the function does nothing but an atomic addition.
        let counting = || unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        match *COUNTING.get_or_init(counting) {
            0 => Ok(Self { words: Default::default(), of: AtomicU64::new(FORKS.load(Relaxed)) }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64; 8] {
        // Acquire, for the Release of another thread that has wiped.
        if self.of.load(Acquire) != FORKS.load(Relaxed) {
            self.wipe();
        }
        &self.words
    }

    #[cold]
    fn wipe(&self) {
        let forks = FORKS.load(Relaxed);
        loop {
            let of = self.of.load(Acquire);
            if of == forks {
                return;
            }
            // Another thread of this process is at it; one of the parent's is not here.
            if of == forks | WIPING {
                std::thread::yield_now();
                continue;
            }
            if self.of.compare_exchange(of, forks | WIPING, Acquire, Relaxed).is_ok() {
                // Relaxed: the Release below publishes them.
                self.words.iter().for_each(|word| word.store(0, Relaxed));
                self.of.store(forks, Release);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_finds_zeros_and_leaves_its_parents_words_alone() {
        let private = ForkPrivate::new().expect("a function can be registered");
        private.words()[3].store(7, Relaxed);
        // SAFETY: the child looks at a few words and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let was = private.words()[3].swap(9, Relaxed);
            let is = private.words()[3].load(Relaxed);
            // SAFETY: ends the process without running what belongs to the parent.
            unsafe { libc::_exit(i32::from((was, is) != (0, 9))) };
        }
        let mut status = 0;
        // SAFETY: writes the status of a child of ours.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        assert_eq!(private.words()[3].load(Relaxed), 7);
    }
}
