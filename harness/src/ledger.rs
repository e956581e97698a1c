//! What each producer meant to send and what its transport has acknowledged, in a mapped file.
//!
//! A producer writes around every send; a SIGKILL cannot take back what is written, so the
//! orchestrator reads there what a killed producer owes. One line of 128 bytes a producer, alone on
//! its cache lines (and on the neighbour the prefetcher pulls in). Memory never grows.
//!
//! Every word but the turn has one writer, and is read by others for progress only while that
//! writer runs, or for the verdict after it has been reaped. Relaxed suffices: the reaping orders
//! the rest, and a turn carries nothing but itself.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{payload::mix, sys::SharedWords};

/// Words in a line.
const LINE: usize = 16;
/// Line 0 is how the run is driven: the stop flag, the pace, and the turn that is to be had.
const STOP: usize = 0;
const PACE: usize = 1;
const TURN: usize = 2;
/// Line 1 is the consumer's progress, alone, as it is written for every message.
const RECEIVED: usize = LINE;
/// Lines before those of the producers.
const OWN_LINES: usize = 2;
/// Words of a producer's line.
const INCARNATION: usize = 0;
const INTENDED: usize = 1;
const ACKNOWLEDGED: usize = 2;
const HASH: usize = 3;

/// The mapped file.
#[derive(Debug)]
pub(crate) struct Ledger {
    words: SharedWords,
}

/// How the consumer wants to be sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as it goes.
    #[default]
    Free = 0,
    /// One message a turn, so that the ring is empty before it.
    Turns = 1,
    /// Likewise, and late enough for the consumer to have fallen asleep.
    Slow = 2,
}

/// One producer's line, copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) incarnation: u64,
    /// Messages the producer began to send.
    pub(crate) intended: u64,
    /// Messages whose send returned success.
    pub(crate) acknowledged: u64,
    /// `roll` over the acknowledged messages.
    pub(crate) hash: u64,
}

impl Ledger {
    /// Creates the file for so many producers.
    pub(crate) fn create(path: &Path, producers: u32) -> io::Result<Ledger> {
        let lines = usize::try_from(producers).map_err(io::Error::other)? + OWN_LINES;
        Ok(Ledger { words: SharedWords::create(path, lines * LINE)? })
    }

    /// Maps a file made by `create`.
    pub(crate) fn open(path: &Path) -> io::Result<Ledger> {
        Ok(Ledger { words: SharedWords::open(path)? })
    }

    fn word(&self, producer: u32, word: usize) -> &AtomicU64 {
        let line = usize::try_from(producer).expect("producers were counted in usize") + OWN_LINES;
        self.words.word(line * LINE + word)
    }

    /// A producer opens its line, afresh in each incarnation.
    pub(crate) fn begin(&self, producer: u32, incarnation: u32) {
        for word in [INTENDED, ACKNOWLEDGED, HASH] {
            self.word(producer, word).store(0, Relaxed);
        }
        self.word(producer, INCARNATION).store(u64::from(incarnation), Relaxed);
    }

    /// Before the send of message `sequence`.
    pub(crate) fn intend(&self, producer: u32, sequence: u64) {
        self.word(producer, INTENDED).store(sequence + 1, Relaxed);
    }

    /// After the send of message `sequence` returned success.
    pub(crate) fn acknowledge(&self, producer: u32, sequence: u64, hash: u64) {
        self.word(producer, HASH).store(hash, Relaxed);
        self.word(producer, ACKNOWLEDGED).store(sequence + 1, Relaxed);
    }

    /// A producer's line.
    pub(crate) fn line(&self, producer: u32) -> Line {
        let word = |word| self.word(producer, word).load(Relaxed);
        Line {
            incarnation: word(INCARNATION),
            intended: word(INTENDED),
            acknowledged: word(ACKNOWLEDGED),
            hash: word(HASH),
        }
    }

    /// Tells all producers to send their last message.
    pub(crate) fn stop(&self) {
        self.words.word(STOP).store(1, Relaxed);
    }

    /// Whether `stop` was called.
    pub(crate) fn stopped(&self) -> bool {
        self.words.word(STOP).load(Relaxed) != 0
    }

    /// The consumer says how it wants to be sent to.
    pub(crate) fn set_pace(&self, pace: Pace) {
        self.words.word(PACE).store(pace as u64, Relaxed);
    }

    /// How the consumer wants to be sent to.
    pub(crate) fn pace(&self) -> Pace {
        match self.words.word(PACE).load(Relaxed) {
            0 => Pace::Free,
            1 => Pace::Turns,
            _ => Pace::Slow,
        }
    }

    /// The consumer lets one producer send one message.
    pub(crate) fn give_turn(&self) {
        self.words.word(TURN).store(1, Relaxed);
    }

    /// Whether the turn was there to be had, and is this producer's.
    pub(crate) fn take_turn(&self) -> bool {
        let turn = self.words.word(TURN);
        turn.load(Relaxed) == 1 && turn.compare_exchange(1, 0, Relaxed, Relaxed).is_ok()
    }

    /// Messages whose send has begun, of so many producers.
    pub(crate) fn intended(&self, producers: u32) -> u64 {
        self.sum(producers, INTENDED)
    }

    /// Messages whose send has returned, of so many producers.
    pub(crate) fn acknowledged(&self, producers: u32) -> u64 {
        self.sum(producers, ACKNOWLEDGED)
    }

    fn sum(&self, producers: u32, word: usize) -> u64 {
        (0..producers).map(|producer| self.word(producer, word).load(Relaxed)).sum()
    }

    /// The consumer says how many messages it has taken.
    pub(crate) fn received(&self, messages: u64) {
        self.words.word(RECEIVED).store(messages, Relaxed);
    }

    /// How many messages the consumer has taken.
    pub(crate) fn received_so_far(&self) -> u64 {
        self.words.word(RECEIVED).load(Relaxed)
    }
}

/// The rolling hash over lengths and sequences that both ends keep.
pub(crate) fn roll(hash: u64, sequence: u64, len: usize) -> u64 {
    mix(hash.rotate_left(5) ^ sequence ^ ((len as u64) << 40))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_process_writes_another_mapping_reads() {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let path = folder.path().join("ledger");
        let orchestrator = Ledger::create(&path, 2).expect("the folder is writable");
        let producer = Ledger::open(&path).expect("the file was just made");
        producer.begin(1, 7);
        producer.intend(1, 0);
        producer.acknowledge(1, 0, 42);
        producer.intend(1, 1);
        let line = Line { incarnation: 7, intended: 2, acknowledged: 1, hash: 42 };
        assert_eq!(orchestrator.line(1), line);
        assert_eq!(orchestrator.line(0), Line::default());
        assert_eq!((orchestrator.intended(2), orchestrator.acknowledged(2)), (2, 1));
        orchestrator.received(3);
        assert_eq!(producer.received_so_far(), 3);
        assert!(!producer.stopped());
        orchestrator.stop();
        assert!(producer.stopped());
    }

    #[test]
    fn a_turn_is_taken_once() {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let ledger = Ledger::create(&folder.path().join("ledger"), 1).expect("it is writable");
        for pace in [Pace::Free, Pace::Turns, Pace::Slow] {
            ledger.set_pace(pace);
            assert_eq!(ledger.pace(), pace);
        }
        assert!(!ledger.take_turn());
        ledger.give_turn();
        assert!(ledger.take_turn());
        assert!(!ledger.take_turn());
    }

    #[test]
    fn the_hash_depends_on_order_and_length() {
        let ab = roll(roll(0, 0, 5), 1, 6);
        assert_ne!(ab, roll(roll(0, 0, 6), 1, 5));
        assert_ne!(ab, roll(roll(0, 1, 6), 0, 5));
    }
}
