//! The records of a ring's file, one after the other, as far as the receiver leaves them there.
//!
//! Owns the record's header word and what must hold of it; the numbered invariants are those of the
//! module above.

use super::{Owner, RingFile, Trouble, WORD, at, corrupt, le_u64, settled};

/// How much of the data is read at a time, at least.
const CHUNK_BYTES: u64 = 64 << 10;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Busy,
    Ready,
    Pad,
    Skip,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) position: u64,
    /// Of its header word, in the file.
    pub(crate) offset: u64,
    pub(crate) state: State,
    pub(crate) len: u64,
    pub(crate) owner: Owner,
    /// The beginning of a message's payload; nothing of any other record.
    pub(crate) payload: Vec<u8>,
}

/// A record's header word, taken apart and not yet believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) fn state(self) -> Option<State> {
        match self.0 & 0xf {
            1 => Some(State::Busy),
            2 => Some(State::Ready),
            3 => Some(State::Pad),
            4 => Some(State::Skip),
            _ => None,
        }
    }

    pub(super) fn owner(self) -> Owner {
        Owner { slot: (self.0 >> 4) as u32 & 0xfff, generation: (self.0 >> 16) as u16 }
    }

    pub(super) fn len(self) -> u64 {
        self.0 >> 32
    }

    /// Header word and padded payload.
    fn span(self) -> u64 {
        WORD + self.len().next_multiple_of(WORD)
    }
}

/// A way through the records of a ring.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    ring: &'a RingFile,
    /// Where the next record begins.
    pub(crate) position: u64,
    tail: u64,
    /// Bytes that are wanted of each record.
    need: u64,
    chunk: Vec<u8>,
    /// Offset of the chunk in the data.
    at: u64,
    /// As it was after the chunk was read.
    head: u64,
}

impl RingFile {
    /// The records from `position` to `tail` as it is now, with up to `bytes` of each payload.
    pub(crate) fn walk(&self, position: u64, bytes: usize) -> Result<Walk<'_>, Trouble> {
        let tail = settled(|| self.positions())?.tail;
        let need = WORD.saturating_add(bytes as u64);
        Ok(Walk { ring: self, position, tail, need, chunk: Vec::new(), at: 0, head: 0 })
    }
}

/// What a walk meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Record(Record),
    /// So many bytes were received before they could be read.
    Passed(u64),
}

impl Walk<'_> {
    /// The next record, `None` at `tail`.
    pub(crate) fn step(&mut self) -> Result<Option<Step>, Trouble> {
        settled(|| self.look())
    }

    fn look(&mut self) -> Result<Option<Step>, Trouble> {
        if self.position >= self.tail {
            return self.check_end().map(|()| None);
        }
        self.cover()?;
        if self.head > self.position {
            let to = self.head.min(self.tail);
            let passed = to - self.position;
            self.position = to;
            return Ok(Some(Step::Passed(passed)));
        }
        match self.record() {
            Ok(record) => {
                self.position += WORD + record.len.next_multiple_of(WORD);
                Ok(Some(Step::Record(record)))
            }
            Err(trouble) => {
                // To be looked at again, not remembered.
                self.chunk.clear();
                Err(trouble)
            }
        }
    }

    fn offset(&self) -> u64 {
        self.position % self.ring.capacity
    }

    /// Has what is wanted of the record at `position` in the chunk, and `head` read after it.
    fn cover(&mut self) -> Result<(), Trouble> {
        let offset = self.offset();
        let to_end = self.ring.capacity - offset;
        let end = self.at + self.chunk.len() as u64;
        if self.at <= offset && offset + self.need.min(to_end) <= end {
            return Ok(());
        }
        let len = self.need.max(CHUNK_BYTES).min(to_end);
        // A few bytes more than `--bytes`, which fits memory.
        self.chunk.resize(len as usize, 0);
        self.at = offset;
        let read = self.ring.read(&mut self.chunk, self.ring.data_offset() + offset);
        if read.is_err() {
            self.chunk.clear();
        }
        read?;
        self.head = self.ring.word(at::HEAD)?;
        Ok(())
    }

    fn record(&self) -> Result<Record, Trouble> {
        let bytes = &self.chunk[(self.offset() - self.at) as usize..];
        let word = Word(le_u64(bytes));
        let offset = self.ring.data_offset() + self.offset();
        let Some(state) = word.state() else {
            let what = format!("{:#018x} stands where a record begins", word.0);
            return corrupt(offset, what);
        };
        let owner = word.owner();
        if owner.slot >= self.ring.slot_count {
            let what = format!("a record of slot {}, which the ring does not have", owner.slot);
            return corrupt(offset, what);
        }
        let (len, span) = (word.len(), word.span());
        if span > self.ring.capacity - self.offset() {
            let what = format!("a record of {len} bytes reaches beyond the ring's end");
            return corrupt(offset, what);
        }
        if span > self.tail - self.position {
            let what = format!("a record of {len} bytes reaches beyond tail {}", self.tail);
            return corrupt(offset, what);
        }
        let shown = match state {
            State::Ready => len.min(self.need - WORD) as usize,
            State::Busy | State::Pad | State::Skip => 0,
        };
        let payload = bytes[WORD as usize..][..shown].to_vec();
        Ok(Record { position: self.position, offset, state, len, owner, payload })
    }

    /// At tail stands 0, or the claim that is being made or was never finished.
    fn check_end(&self) -> Result<(), Trouble> {
        if self.position != self.tail {
            return Ok(());
        }
        let offset = self.ring.data_offset() + self.offset();
        let word = Word(self.ring.word(offset)?);
        let fine = word.0 == 0 || word.state() == Some(State::Busy);
        // Read after the word: if it has moved, the word is a record by now.
        if fine || self.ring.word(at::TAIL)? != self.tail {
            return Ok(());
        }
        corrupt(offset, format!("{:#018x} stands at tail, where nothing is yet", word.0))
    }
}
