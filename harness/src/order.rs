//! Real-time order across producers: of two sends of which one had returned before the other
//! began, the consumer gets the former's message first.
//!
//! A mapped counter is the clock. A producer draws a ticket before each send and another after it
//! has returned, and leaves both where the consumer finds them by producer and sequence. The
//! consumer keeps one number, the latest beginning among the messages that it has been given.
//!
//! Why it never accuses falsely: let the end of `m` be below the beginning of `n`, which came
//! before `m`. Both were drawn by one read-modify-write word, whose changes have one order; so the
//! send of `m` had returned when `n`'s end was drawn after `n`'s beginning, which was drawn later.
//! And why it misses nothing that it can see: if any earlier message accuses `m`, the one with the
//! latest beginning does. A send that has not returned when its message arrives cannot be accused
//! by one that arrived before: every ticket drawn so far is below the end it will have.
//!
//! The stamps of a producer's last `KEPT` sends are kept. More than that many of its messages must
//! not wait in the channel, which is the caller's to see to; what is written over is never read
//! then, since a message's stamps are read when it arrives.

use std::{
    io,
    path::Path,
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

use crate::sys::SharedWords;

/// Sends of a producer whose stamps are kept.
pub(crate) const KEPT: u64 = 1024;
/// Words before those of the producers: the counter has cache lines of its own.
const OWN: usize = 16;

/// The mapped file.
#[derive(Debug)]
pub(crate) struct Stamps {
    words: SharedWords,
}

/// The tickets of one send; no end while it has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    begin: u64,
    end: Option<u64>,
}

impl Stamps {
    /// Creates the file for so many producers.
    pub(crate) fn create(path: &Path, producers: u32) -> io::Result<Stamps> {
        let sends = u64::from(producers) * KEPT;
        let words = usize::try_from(2 * sends).map_err(io::Error::other)? + OWN;
        Ok(Stamps { words: SharedWords::create(path, words)? })
    }

    /// Maps a file made by `create`.
    pub(crate) fn open(path: &Path) -> io::Result<Stamps> {
        Ok(Stamps { words: SharedWords::open(path)? })
    }

    /// Tickets begin at 1, as 0 is no end.
    fn draw(&self) -> u64 {
        self.words.word(0).fetch_add(1, AcqRel) + 1
    }

    fn place(&self, producer: u32, sequence: u64) -> [&AtomicU64; 2] {
        let send = u64::from(producer) * KEPT + sequence % KEPT;
        let word = usize::try_from(2 * send).expect("the file was made that long") + OWN;
        [self.words.word(word), self.words.word(word + 1)]
    }

    /// Before a send.
    pub(crate) fn begin(&self, producer: u32, sequence: u64) {
        let [begin, end] = self.place(producer, sequence);
        // Relaxed: the message itself carries them to the consumer.
        end.store(0, Relaxed);
        begin.store(self.draw(), Relaxed);
    }

    /// After it has returned.
    pub(crate) fn end(&self, producer: u32, sequence: u64) {
        let [_, end] = self.place(producer, sequence);
        end.store(self.draw(), Release);
    }

    /// What is known of the send of a message that has just arrived.
    pub(crate) fn of(&self, producer: u32, sequence: u64) -> Stamp {
        let [begin, end] = self.place(producer, sequence);
        let end = Some(end.load(Acquire)).filter(|&end| end > 0);
        Stamp { begin: begin.load(Relaxed), end }
    }
}

/// The consumer's side.
#[derive(Debug, Default)]
pub(crate) struct InOrder {
    latest: u64,
    whose: (u32, u64),
    /// Messages whose send had returned when they arrived, so that they could be accused.
    pub(crate) judged: u64,
}

impl InOrder {
    /// The next message.
    pub(crate) fn check(&mut self, message: (u32, u64), stamp: Stamp) -> Result<(), String> {
        self.judged += u64::from(stamp.end.is_some());
        if stamp.end.is_some_and(|end| end < self.latest) {
            let ((late, of_late), (early, of_early)) = (message, self.whose);
            return Err(format!(
                "real-time order: message {of_late} of producer {late} was sent before message \
                 {of_early} of producer {early} was begun, and came after it"
            ));
        }
        if stamp.begin > self.latest {
            (self.latest, self.whose) = (stamp.begin, message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(begin: u64, end: u64) -> Stamp {
        Stamp { begin, end: Some(end).filter(|&end| end > 0) }
    }

    fn check(stamps: &[Stamp]) -> Result<u64, String> {
        let mut order = InOrder::default();
        for (sequence, &stamp) in (0..).zip(stamps) {
            order.check((0, sequence), stamp)?;
        }
        Ok(order.judged)
    }

    #[test]
    fn sends_that_overlap_may_arrive_either_way() {
        assert_eq!(check(&[stamp(1, 4), stamp(2, 3)]), Ok(2));
        assert_eq!(check(&[stamp(2, 3), stamp(1, 4)]), Ok(2));
        assert_eq!(check(&[stamp(2, 3), stamp(1, 0)]), Ok(1), "it has not returned");
    }

    #[test]
    fn a_send_that_returned_before_another_began_is_first() {
        assert_eq!(check(&[stamp(1, 2), stamp(3, 4)]), Ok(2));
        let error = check(&[stamp(3, 4), stamp(1, 2)]).expect_err("out of order");
        assert!(error.starts_with("real-time order"), "{error}");
        assert!(check(&[stamp(5, 0), stamp(1, 4)]).is_err(), "an open send has begun");
    }

    #[test]
    fn one_number_remembers_the_worst_of_any_number_of_messages() {
        // Every order of three sends, against the rule for each pair.
        let sends = [stamp(1, 3), stamp(2, 6), stamp(4, 5)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let sent = order.map(|at| sends[at]);
            let is_late = |at: usize| sent[..at].iter().any(|m| Some(m.begin) > sent[at].end);
            let any = (0..3).any(is_late);
            assert_eq!(check(&sent).is_err(), any, "{order:?}");
        }
    }

    #[test]
    fn stamps_are_kept_by_producer_and_sequence() {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let path = folder.path().join("order");
        let consumer = Stamps::create(&path, 2).expect("the folder is writable");
        let producer = Stamps::open(&path).expect("just made");
        producer.begin(1, KEPT + 1);
        assert_eq!(consumer.of(1, KEPT + 1), stamp(1, 0));
        producer.begin(0, 1);
        producer.end(1, KEPT + 1);
        assert_eq!(consumer.of(1, KEPT + 1), stamp(1, 3));
        assert_eq!(consumer.of(0, 1), stamp(2, 0));
    }
}
