//! Keeping the part in use of a large ring in the caches.
//!
//! A line that was written a lap of 32 MiB ago has left every cache, and a copy to such lines takes
//! several times as long. So a receiver that has caught up goes back to the ring's beginning.
//!
//! It helps where the ring becomes empty now and then. Two prototypes of senders that wait where
//! the warm part ends kept every lap warm. It depends on the machine whether that is faster.
//! Messages of 64 KiB in a ring of 32 MiB, in thousands a second: waiting until the beginning is
//! free, 870 to 910 against 570 to 780, from eight producers, where the processors seem to have the
//! second-level cache in common; waiting until all is received, 220 to 250 against 190 to 270 with
//! the third, and from one producer with none 35 to 45 against 140.

use super::{Claim, Cursor, Refused, Ring};
use crate::atomic::Ordering;
use crate::error::Result;
use crate::fault::hit;
use crate::layout::{HEADER_BYTES, Owner, RecordWord};
use crate::mutants::mutant;
use Ordering::{Acquire, Relaxed, Release};

/// The part of a large ring that is kept warm, at least: about what the second-level cache of a
/// core holds. Of the largest rings it is a sixteenth, so that positions are spent at most 16 times
/// as fast as bytes.
const WARM_BYTES: u64 = 1 << 20;
/// Where `go_back` ends, which spends positions faster than bytes: at 10 GB/s what is left lasts 14
/// years without it.
const LAST_BACK: u64 = u64::MAX / 4;

impl Ring {
    /// Whether the receiver's place is so far into a large ring that going back is worth it: lines
    /// written a lap ago are in no cache any more, those at the beginning are.
    pub(crate) fn is_far(&self, cursor: &Cursor) -> bool {
        cursor.offset >= self.warm_bytes() && cursor.head < LAST_BACK
    }

    fn warm_bytes(&self) -> u64 {
        (self.view.capacity() / 16).max(WARM_BYTES)
    }

    /// Moves the receiver and `tail` to the ring's beginning, if nothing is claimed: by a pad that
    /// it claims, publishes and passes under the claim word, so that no sender finds less space
    /// than an empty ring has.
    #[cold]
    pub(crate) fn go_back(
        &self,
        cursor: &mut Cursor,
        me: Owner,
    ) -> std::result::Result<(), Refused> {
        self.lock(me)?;
        let went = self.go_back_locked(cursor, me);
        self.unlock();
        went.map_err(Refused::Failed)
    }

    fn go_back_locked(&self, cursor: &mut Cursor, me: Owner) -> Result<()> {
        let producers = &self.view.header().producers;
        let rest = self.view.capacity() - cursor.offset;
        // SYNC(tail-moved): Acquire, as in `claim_locked`.
        let tail = producers.tail.load(Acquire);
        let is_empty = mutant!("back-blindly", true, tail == cursor.head);
        // A header cannot say how much more than 4 GiB are left.
        let (true, Ok(len)) = (is_empty, u32::try_from(rest - HEADER_BYTES)) else {
            return Ok(());
        };
        // Relaxed: published by the Release below. The word is free, as the ring is empty.
        mutant!("back-without-end", (), self.view.word(0).store(0, Relaxed));
        let claim = Claim { offset: cursor.offset, word: RecordWord::busy(me, len) };
        // SYNC(record-claimed): Release, as in `claim_locked`, for the receiver after this one.
        self.view.word(claim.offset).store(claim.word.0, Release);
        hit("back-marked");
        // SYNC(tail-moved): Release, as in `claim_locked`.
        producers.tail.store(cursor.head + rest, Release);
        hit("back-moved");
        self.publish(&claim, RecordWord::pad(me, len))?;
        self.advance(cursor, len);
        self.release(cursor, 0);
        // SYNC(space-freed): Release, as in `has_room`. It spares the next claimer a miss.
        producers.head_cache.store(cursor.head, Release);
        hit("back-passed");
        Ok(())
    }
}
