//! One word that two threads write by turns: the least that telling another processor can cost.

use std::{
    hint::spin_loop,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
    thread,
};

use super::{Floor, Transport};

/// A cache line's way there and back.
#[derive(Debug)]
pub(super) struct CacheLine;

impl Transport for CacheLine {
    fn name(&self) -> &'static str {
        "cache-line"
    }

    fn about(&self) -> &'static str {
        "no message: a word that two spinning threads write by turns, and so one cache line's way \
         there and back; round trips only"
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    fn missing(&self) -> Option<String> {
        let has_two = thread::available_parallelism().is_ok_and(|count| count.get() > 1);
        (!has_two).then(|| "it takes two processors; allow this process another one".into())
    }

    fn longest(&self) -> Option<u64> {
        Some(size_of::<Word>() as u64)
    }

    fn floor(&self) -> Option<Floor> {
        Some(Floor::Word)
    }
}

/// Looks at the word between two yields, for when both threads share a processor.
const LOOKS: u32 = 4096;

/// A word that has its cache line to itself.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Word(AtomicU64);

impl Word {
    /// Tells the other side.
    pub(crate) fn set(&self, value: u64) {
        // Nothing else is published by it; Release and Acquire are what a channel would have.
        self.0.store(value, Release);
    }

    /// Waits until the other side has said something else than `value`, and returns that.
    pub(crate) fn differs_from(&self, value: u64) -> u64 {
        loop {
            for _ in 0..LOOKS {
                let found = self.0.load(Acquire);
                if found != value {
                    return found;
                }
                spin_loop();
            }
            thread::yield_now();
        }
    }
}
