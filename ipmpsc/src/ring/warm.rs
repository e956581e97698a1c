//! Keeping the part in use of a large ring in the caches.
//!
//! A line that was written a lap of 32 MiB ago has left every cache, and a copy to such lines takes
//! several times as long. So a receiver that has caught up goes back to the ring's beginning.
//!
//! With several senders for each processor that does not happen by itself: a receiver that once
//! was late finds a ring that stays full, and every copy goes to cold lines. So before a sender
//! goes far into a large ring, it lets the receiver catch up: it waits until the ring's beginning
//! is in use again, as long as the receiver comes on, and not for long. If it does not come on,
//! the sender goes twice as far before it waits again, so that the whole ring is there for a
//! receiver that is late, and for whoever does not want to wait.
//!
//! Messages in a ring of 32 MiB, in thousands a second, without and with that, where the processors
//! have the second-level cache in common:
//!
//! | | 64 B | 4 KiB | 16 KiB | 64 KiB | 256 KiB | 1 MiB |
//! |---|---|---|---|---|---|---|
//! | 8 producers | 18,000, 32,000 | 950, 5,100 | 520, 2,400 | 135, 550 | 33, 80 | 8, 8 |
//! | 1 producer | 35,000, 41,000 | 4,000, 5,600 | 1,700, 3,000 | 420, 840 | 100, 80 | 20, 20 |
//!
//! Where they have nothing in common, 64 KiB went from 220 to 370 and from 490 to 470. A ring of 8
//! MiB would be slower with it (400 and 320).

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
/// Rings from this size on are so large that senders let the receiver catch up.
const LARGE_RING: u64 = 16 << 20;
/// How far senders go in them before they do, at least.
const NEAR_BYTES: u64 = 2 << 20;
/// Where `go_back` ends, which spends positions faster than bytes: at 10 GB/s what is left lasts 14
/// years without it.
const LAST_BACK: u64 = u64::MAX / 4;

/// How far senders go in each lap before they let the receiver catch up.
pub(super) fn near_bytes(capacity: u64) -> u64 {
    if capacity < LARGE_RING { capacity } else { (capacity / 16).max(NEAR_BYTES) }
}

impl Ring {
    /// Offset of a position that is not near in the lap that was met last.
    #[cold]
    pub(super) fn new_offset(&self, position: u64) -> std::result::Result<u64, Refused> {
        let capacity = self.view.capacity();
        let offset = position % capacity;
        // Relaxed, here and below: hints. Threads that share them may mix them up, and then find
        // a place far or near that is not.
        if self.lap.swap(position - offset, Relaxed) != position - offset {
            self.near.store(near_bytes(capacity), Relaxed);
        }
        if offset < self.near.load(Relaxed) { Ok(offset) } else { Err(Refused::Far) }
    }

    /// Whether the senders' place is still in the lap in which it was found far.
    pub(crate) fn is_far_ahead(&self) -> bool {
        // Acquire, but only a hint: `claim` looks again.
        let tail = self.view.header().producers.tail.load(Acquire);
        tail.wrapping_sub(self.lap.load(Relaxed)) < self.view.capacity()
    }

    /// Whether the receiver has moved from where it was `seen`, which is then where it is.
    pub(crate) fn comes_on(&self, seen: &mut u64) -> bool {
        // Relaxed: nothing is read there.
        let head = self.view.header().consumer.head.load(Relaxed);
        std::mem::replace(seen, head) != head
    }

    /// Lets claims go on where they were refused as far, and as far again.
    pub(crate) fn go_far(&self) {
        let capacity = self.view.capacity();
        // Relaxed: a hint, as all that it decides. Both ends of the range let a claim succeed.
        let tail = self.view.header().producers.tail.load(Relaxed);
        let twice = tail.wrapping_sub(self.lap.load(Relaxed)).saturating_mul(2);
        self.near.store(twice.clamp(near_bytes(capacity), capacity), Relaxed);
    }

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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::Peeked;
    use super::super::threads::Memory;
    use super::*;
    use crate::layout::Geometry;

    const ME: Owner = Owner { slot: 1, generation: 1 };
    const MIB: u64 = 1 << 20;

    fn memory(capacity: u64) -> Memory {
        Memory::new(Geometry { capacity, slot_count: 2 })
    }

    /// Sends and receives so many messages that take 1 MiB each. Where they were far, in MiB.
    fn far_places(ring: &Ring, cursor: &mut Cursor, messages: u64) -> Vec<u64> {
        far_places_of(ring, cursor, MIB, messages)
    }

    fn far_places_of(ring: &Ring, cursor: &mut Cursor, span: u64, messages: u64) -> Vec<u64> {
        let mut far = Vec::new();
        for _ in 0..messages {
            let claim = ring.claim(ME, span, 1, false).unwrap_or_else(|refused| {
                assert!(matches!(refused, Refused::Far));
                assert!(ring.is_far_ahead());
                far.push(ring.view.header().producers.tail.load(Relaxed) / MIB);
                ring.go_far();
                ring.claim(ME, span, 1, false).expect("one refusal is enough")
            });
            ring.commit(&claim, claim.word.len()).expect("everybody lives");
            let Ok(Peeked::Message { len, .. }) = ring.peek(cursor) else {
                panic!("it is there");
            };
            ring.advance(cursor, len);
            ring.release(cursor, 1);
        }
        far
    }

    #[test]
    fn each_lap_of_a_large_ring_is_far_at_a_few_places() {
        let memory = memory(16 * MIB);
        let ring = memory.ring();
        let mut cursor = ring.cursor().expect("nobody writes nonsense");
        let places = [2, 4, 8, 18, 20, 24, 34, 36, 40];
        assert_eq!(far_places(&ring, &mut cursor, 48), places);
        // Another process, which has met none of these laps.
        assert_eq!(far_places(&memory.ring(), &mut cursor, 16), [50, 52, 56]);
    }

    #[test]
    fn a_message_longer_than_the_steps_is_far_once() {
        let memory = memory(64 * MIB);
        let ring = memory.ring();
        let mut cursor = ring.cursor().expect("nobody writes nonsense");
        assert_eq!(far_places_of(&ring, &mut cursor, 12 * MIB, 5), [12, 24, 48]);
    }

    #[test]
    fn a_way_back_makes_the_place_near() {
        let memory = memory(32 * MIB);
        let ring = memory.ring();
        let mut cursor = ring.cursor().expect("nobody writes nonsense");
        for lap in [0, 32, 64] {
            assert_eq!(far_places(&ring, &mut cursor, 4), [lap + 2]);
            assert!(ring.is_far_ahead());
            ring.go_back(&mut cursor, ME).expect("nobody holds the claim word");
            assert!(!ring.is_far_ahead());
        }
    }

    #[test]
    fn no_place_is_far_in_a_ring_that_stays_in_the_caches() {
        let memory = memory(8 * MIB);
        let ring = memory.ring();
        let mut cursor = ring.cursor().expect("nobody writes nonsense");
        assert_eq!(far_places(&ring, &mut cursor, 24), []);
    }

    #[test]
    fn a_receiver_comes_on_if_it_has_freed_anything() {
        let memory = memory(8 * MIB);
        let ring = memory.ring();
        let mut cursor = ring.cursor().expect("nobody writes nonsense");
        let mut seen = 0;
        assert!(!ring.comes_on(&mut seen));
        far_places(&ring, &mut cursor, 1);
        assert!(ring.comes_on(&mut seen));
        assert!(!ring.comes_on(&mut seen));
    }
}
