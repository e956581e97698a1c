//! What the consumer of a torture has received, in a mapped file, so that it can be killed as well:
//! its successor goes on where it was, and the orchestrator reads there what arrived.
//!
//! The consumer writes a message down after it has compared it and before the ring takes it back.
//! Killed in between, it leaves the ring to deliver that one message again, and nothing else. Every
//! word has one writer at a time and is read by others for progress, or for the verdict after the
//! writer has been reaped. Relaxed suffices: the reaping orders the rest. The exception is the time
//! of the last message, which whoever makes a gap worth measuring sets as well.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    checks::torture_len,
    payload::{END, Key, claimed},
    sys::SharedWords,
};

/// Lives of one producer, at most.
pub(crate) const LIVES: u32 = 1 << 16;
/// Words before the producers': when the last message came, the longest gap between two since the
/// orchestrator last asked, messages that came again, and how many there are.
const LAST_NS: usize = 0;
const GAP_NS: usize = 1;
const AGAIN: usize = 2;
const COUNT: usize = 3;
const HEAD: usize = 16;
/// Words of each producer before its counts.
const CURRENT: usize = 0;
/// The life whose last message has come, and one.
const ENDED: usize = 1;
/// The first life whose last message is the producer's last; the orchestrator writes it.
const AWAITED: usize = 2;
const EACH: usize = 16 + LIVES as usize;

/// The mapped file.
#[derive(Debug)]
pub(crate) struct Journal {
    words: SharedWords,
}

impl Journal {
    /// Creates the file for so many producers.
    pub(crate) fn create(path: &Path, producers: u32) -> io::Result<Journal> {
        let producers = usize::try_from(producers).map_err(io::Error::other)?;
        Ok(Journal { words: SharedWords::create(path, HEAD + producers * EACH)? })
    }

    /// Maps a file made by `create`.
    pub(crate) fn open(path: &Path) -> io::Result<Journal> {
        Ok(Journal { words: SharedWords::open(path)? })
    }

    fn word(&self, producer: u32, word: usize) -> &AtomicU64 {
        self.words.word(HEAD + producer as usize * EACH + word)
    }

    fn count(&self, producer: u32, life: u32) -> &AtomicU64 {
        assert!(life < LIVES, "the orchestrator ends a round before life {LIVES}");
        self.word(producer, 16 + life as usize)
    }

    /// How many messages of one life of a producer have arrived, its last one not counted.
    pub(crate) fn received(&self, producer: u32, life: u32) -> u64 {
        self.count(producer, life).load(Relaxed)
    }

    /// Whether nothing more is to come of this producer.
    pub(crate) fn has_last(&self, producer: u32) -> bool {
        let word = |word| self.word(producer, word).load(Relaxed);
        word(ENDED) > word(AWAITED)
    }

    /// This producer's last message is one of this life or of a later one, since the life before it
    /// ended in the middle of its last: that one may come, but need not.
    pub(crate) fn awaits(&self, producer: u32, life: u32) {
        self.word(producer, AWAITED).store(life.into(), Relaxed);
    }

    /// All messages so far.
    pub(crate) fn messages(&self) -> u64 {
        self.words.word(COUNT).load(Relaxed)
    }

    /// Messages that came again after a consumer's death.
    pub(crate) fn again(&self) -> u64 {
        self.words.word(AGAIN).load(Relaxed)
    }

    /// The longest gap between two messages since this was last asked, the present one included.
    pub(crate) fn take_gap_ns(&self, now_ns: u64) -> u64 {
        let since = now_ns.saturating_sub(self.words.word(LAST_NS).load(Relaxed));
        self.words.word(GAP_NS).swap(0, Relaxed).max(since)
    }

    /// Gaps that are open begin now.
    pub(crate) fn set_out(&self, now_ns: u64) {
        self.words.word(LAST_NS).store(now_ns, Relaxed);
    }

    /// A message came.
    fn came(&self, now_ns: u64) {
        let last = self.words.word(LAST_NS);
        let gap = now_ns.saturating_sub(last.load(Relaxed));
        if gap > self.words.word(GAP_NS).load(Relaxed) {
            self.words.word(GAP_NS).store(gap, Relaxed);
        }
        last.store(now_ns, Relaxed);
        let count = self.words.word(COUNT);
        count.store(count.load(Relaxed) + 1, Relaxed);
    }
}

/// A consumer, which may be the heir of one that was killed.
#[derive(Debug)]
pub(crate) struct Heir {
    journal: Journal,
    seed: u64,
    producers: u32,
    largest: usize,
    /// The next message may be the one that the predecessor had written down but not given back.
    may_repeat: bool,
}

impl Heir {
    /// Begins, or goes on where the journal ends.
    pub(crate) fn new(journal: Journal, seed: u64, producers: u32, largest: usize) -> Heir {
        let may_repeat = journal.messages() > 0;
        Heir { journal, seed, producers, largest, may_repeat }
    }

    /// Compares all of the next message and writes it down. Returns whether every producer has sent
    /// its last.
    pub(crate) fn check(&mut self, message: &[u8], now_ns: u64) -> Result<bool, String> {
        let may_repeat = std::mem::take(&mut self.may_repeat);
        let Some((producer, life, claim)) = claimed(message) else {
            return Err(format!("a message of {} bytes has no header", message.len()));
        };
        if producer >= self.producers {
            return Err(format!("a message of producer {producer}, which does not exist"));
        }
        let name = format_args!("producer {producer}.{life}");
        let key = Key { seed: self.seed, producer, incarnation: life, sequence: claim };
        let (sequence, is_end) = (claim & !END, claim & END != 0);
        if message.len() != torture_len(key, self.largest) || !key.matches(message) {
            return Err(format!("{name}: message {sequence} is torn"));
        }
        let current = self.journal.word(producer, CURRENT);
        let ended = self.journal.word(producer, ENDED);
        let same = current.load(Relaxed) == u64::from(life);
        let due = if same { self.journal.received(producer, life) } else { 0 };
        let has_ended = ended.load(Relaxed) == u64::from(life) + 1;
        let repeats = if is_end { has_ended && sequence == due } else { sequence + 1 == due };
        if may_repeat && same && repeats {
            self.journal.words.word(AGAIN).fetch_add(1, Relaxed);
            self.journal.came(now_ns);
            return Ok(self.has_all());
        }
        let is_over = has_ended || self.journal.has_last(producer);
        if u64::from(life) < current.load(Relaxed) || is_over {
            return Err(format!("{name}: message {sequence} after its successor's, or its last"));
        }
        if sequence != due {
            return Err(format!("{name}: expected message {due}, got {sequence}"));
        }
        current.store(u64::from(life), Relaxed);
        if is_end {
            ended.store(u64::from(life) + 1, Relaxed);
        } else {
            self.journal.count(producer, life).store(sequence + 1, Relaxed);
        }
        self.journal.came(now_ns);
        Ok(self.has_all())
    }

    /// Whether every producer has sent its last.
    pub(crate) fn has_all(&self) -> bool {
        (0..self.producers).all(|producer| self.journal.has_last(producer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two producers of short messages, and the consumers that follow one another.
    struct Books {
        _folder: tempfile::TempDir,
        path: std::path::PathBuf,
    }

    impl Books {
        fn new() -> Books {
            let folder = tempfile::tempdir().expect("a test needs a temporary folder");
            let path = folder.path().join("journal");
            Journal::create(&path, 2).expect("the folder is writable");
            Books { _folder: folder, path }
        }

        fn heir(&self) -> Heir {
            Heir::new(Journal::open(&self.path).expect("just made"), 1, 2, 100)
        }
    }

    fn message(producer: u32, incarnation: u32, sequence: u64) -> Vec<u8> {
        let key = Key { seed: 1, producer, incarnation, sequence };
        let mut message = vec![0; torture_len(key, 100)];
        key.fill(&mut message);
        message
    }

    fn give(heir: &mut Heir, messages: &[(u32, u32, u64)]) -> Result<bool, String> {
        let mut done = false;
        for &(producer, life, sequence) in messages {
            done = heir.check(&message(producer, life, sequence), 0)?;
        }
        Ok(done)
    }

    #[test]
    fn an_heir_takes_the_last_message_again_and_no_other() {
        let seen = [(0, 0, 0), (1, 0, 0), (0, 0, 1), (1, 0, 1)];
        for (next, fine) in [
            ((1, 0, 1), true),
            ((1, 0, 2), true),
            ((0, 0, 2), true),
            ((1, 1, 0), true),
            ((1, 0, 0), false),
            ((1, 0, 3), false),
            ((0, 0, 0), false),
        ] {
            let books = Books::new();
            give(&mut books.heir(), &seen).expect("all in order");
            assert_eq!(give(&mut books.heir(), &[next]).is_ok(), fine, "{next:?}");
        }
    }

    #[test]
    fn a_message_comes_again_only_first_and_only_to_an_heir() {
        let books = Books::new();
        let mut first = books.heir();
        give(&mut first, &[(0, 0, 0)]).expect("in order");
        assert!(give(&mut first, &[(0, 0, 0)]).is_err(), "a duplicate without a death");
        let mut heir = books.heir();
        give(&mut heir, &[(0, 0, 0)]).expect("once more");
        assert!(give(&mut heir, &[(0, 0, 0)]).is_err(), "twice more");
        assert_eq!(heir.journal.received(0, 0), 1);
        assert_eq!(heir.journal.again(), 1);
    }

    #[test]
    fn a_successor_starts_afresh_and_its_predecessor_stays_dead() {
        let books = Books::new();
        let mut heir = books.heir();
        give(&mut heir, &[(0, 0, 0), (0, 2, 0), (0, 2, 1)]).expect("lives in order");
        assert!(give(&mut heir, &[(0, 0, 1)]).is_err(), "of a life that is over");
        assert!(give(&mut heir, &[(0, 3, 1)]).is_err(), "a successor's first is lost");
        assert_eq!((heir.journal.received(0, 0), heir.journal.received(0, 2)), (1, 2));
    }

    #[test]
    fn all_have_ended_once_each_has_sent_its_last() {
        let books = Books::new();
        let mut heir = books.heir();
        assert_eq!(give(&mut heir, &[(0, 0, 0), (0, 0, 1 | END)]), Ok(false));
        assert!(give(&mut heir, &[(0, 1, 0)]).is_err(), "a message after the last");
        assert_eq!(give(&mut books.heir(), &[(0, 0, 1 | END), (1, 0, END)]), Ok(true));
    }

    #[test]
    fn the_last_of_a_life_that_ended_in_it_is_not_the_producers_last() {
        let books = Books::new();
        let mut heir = books.heir();
        give(&mut heir, &[(1, 0, END), (0, 0, 0)]).expect("in order");
        // Killed in its last send, which has not come so far.
        heir.journal.awaits(0, 1);
        assert_eq!(give(&mut heir, &[(0, 0, 1 | END)]), Ok(false));
        assert!(give(&mut heir, &[(0, 0, 1 | END)]).is_err(), "twice without a death");
        assert!(give(&mut heir, &[(0, 0, 2)]).is_err(), "a message after its life's last");
        assert_eq!(give(&mut books.heir(), &[(0, 0, 1 | END), (0, 1, 0)]), Ok(false));
        assert_eq!(give(&mut heir, &[(0, 1, 1 | END)]), Ok(true));
        assert!(give(&mut heir, &[(0, 2, 0)]).is_err(), "a message after the last");
    }

    #[test]
    fn every_torn_byte_and_every_phantom_is_caught() {
        let whole = message(0, 0, 0);
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            assert!(Books::new().heir().check(&torn, 0).is_err(), "byte {at}");
        }
        assert!(Books::new().heir().check(&message(2, 0, 0), 0).is_err(), "a third producer");
    }

    #[test]
    fn the_longest_gap_is_given_once() {
        let books = Books::new();
        let mut heir = books.heir();
        heir.journal.set_out(100);
        for (sequence, now_ns) in [(0, 110), (1, 150), (2, 151)] {
            heir.check(&message(0, 0, sequence), now_ns).expect("in order");
        }
        assert_eq!(heir.journal.take_gap_ns(152), 40);
        assert_eq!(heir.journal.take_gap_ns(160), 9, "since the last message");
    }
}
