//! Keeping the part in use of a large ring in the caches.
//!
//! A line that was written a lap of 32 MiB ago has left every cache, and a copy to such lines takes
//! several times as long. So while the receiver keeps up, senders use a large ring as if it had
//! only its first mebibyte: where they come to its end, and enough of the beginning is free again,
//! they *turn*: they end the lap by a pad, as at the ring's own end. Four messages at least go
//! before a turn, however long they are: with fewer, sender and receiver work by turns.
//!
//! Where the beginning is not free, a sender lets the receiver catch up: it waits, but not for
//! long. If that does not help, it goes twice as far before it looks again. So the whole ring is
//! there for a receiver that is late, and for whoever does not want to wait.
//!
//! A receiver that falls behind after a turn does not make the ring small: nobody ever writes or
//! reads the bytes of the pad, so senders can go on there. Where the lap that the turn began is
//! full, they pass over what has not been received yet by another pad:
//!
//! ```text
//! offset 0         x            head            turn                                  capacity
//! |  the next lap  |            | last lap, not  | header |                          |
//! |  messages      | free       | yet received   | of pad | free: nobody uses it     |
//! |                |<-- pad, claimed at x by `go_far` --->| and there senders go on  |
//! ```
//!
//! The lap is *reopened* then. The receiver comes to the turn's pad first, then to offset 0, and
//! at x to the second pad, at whose end it finds what was sent last.
//!
//! At most one turn is ahead of the receiver: the next is made only when `head` is in the lap that
//! it would end.

use super::{Attempt, Owner, Place, Refused, Ring, corrupt};
use crate::atomic::Ordering::{Acquire, Relaxed};
use crate::layout::HEADER_BYTES;
use crate::mutants::mutant;

/// The part of a large ring that is kept warm, at least: about what the second-level cache of a
/// core holds. Of the largest rings it is one part in 64, so that positions are spent at most 64
/// times as fast as bytes.
const WARM_BYTES: u64 = 1 << 20;
/// How many messages of the length at hand a lap holds before it ends early, at least: then a
/// sender waits for a receiver that is two behind, and not for one that has just begun.
pub(super) const WARM_MESSAGES: u64 = 4;
/// Rings from this size on are large.
const LARGE_RING: u64 = 4 << 20;
/// Where turns end, which spend positions faster than bytes: at 10 GB/s not before 83 days, and
/// what is left lasts 14 years without them.
const LAST_TURN: u64 = u64::MAX / 4;

/// How far senders go in each lap before they turn, or let the receiver catch up.
pub(super) fn warm_bytes(capacity: u64) -> u64 {
    if capacity < LARGE_RING { capacity } else { (capacity / 64).max(WARM_BYTES) }
}

impl Ring {
    /// Makes the warm part as long as a test wants it, for all messages.
    #[cfg(test)]
    pub(crate) fn set_warm(&mut self, bytes: u64) {
        self.warm = bytes;
        self.warm_messages = 0;
        self.near.store(bytes, Relaxed);
    }

    /// Offset of a position that is not near in the lap that was met last; `None` if the lap ended
    /// there, and the claim is to look again.
    #[cold]
    pub(super) fn look_far(
        &self,
        me: Owner,
        tail: u64,
        span: u64,
        when_empty: bool,
    ) -> Attempt<Option<u64>> {
        let capacity = self.view.capacity();
        let offset = tail % capacity;
        let lap = tail - offset;
        // Relaxed, here and below: hints. Threads that share them may mix them up, and then find
        // a place far or near that is not.
        if self.lap.swap(lap, Relaxed) != lap {
            self.near.store(self.warm, Relaxed);
        }
        self.near.fetch_max((self.warm_messages * span).min(capacity), Relaxed);
        if offset < self.near.load(Relaxed) {
            return Ok(Some(offset));
        }
        // SYNC(space-freed): Acquire, as in `look_for_room`.
        let head = self.view.header().consumer.head.load(Acquire);
        if self.free_end(tail, head, lap).is_none() {
            return Err(Refused::Failed(corrupt(256)));
        }
        let rest = capacity - offset;
        // A message of half the ring fits behind the turn. And a header cannot say how much more
        // than 4 GiB are passed over.
        if offset > capacity / 8 * 3 || rest > u64::from(u32::MAX) || tail >= LAST_TURN {
            self.near.store(capacity, Relaxed);
            return Ok(Some(offset));
        }
        // A ring that is to be empty is not, behind a turn.
        if when_empty || self.room_to_turn(span) > offset {
            return Ok(Some(offset));
        }
        // 0 where the receiver is still in an earlier lap: then there may be a turn ahead of it.
        let freed = head.saturating_sub(lap);
        if mutant!("turn-blindly", false, freed < self.room_to_turn(span)) {
            return Err(Refused::Far);
        }
        self.pad(me, Place { tail, offset }, rest, true)?;
        Ok(None)
    }

    /// How much of a lap's beginning must be free for a turn, before a record of `span` bytes: as
    /// much as makes it unlikely that the next claims have to wait there.
    fn room_to_turn(&self, span: u64) -> u64 {
        span + HEADER_BYTES + self.warm / 8
    }

    /// Why there is no room for a record of `span` bytes.
    #[cold]
    pub(super) fn full(&self, place: Place, span: u64, when_empty: bool) -> Refused {
        match self.reopening(place, span) {
            Some(_) if !when_empty => Refused::Far,
            _ => Refused::Full,
        }
    }

    /// Where the lap goes on if it is reopened for a record of `span` bytes.
    fn reopening(&self, place: Place, span: u64) -> Option<u64> {
        // Acquire: any `head` that was ever there is good enough.
        let head = self.view.header().consumer.head.load(Acquire);
        let lap = place.tail - place.offset;
        let turn = self.turn_ahead(head, lap)?;
        let behind_turn = mutant!("turn-overwritten", 0, HEADER_BYTES);
        // Up to there it is less than half of the ring: a header can say how much.
        let next = turn + self.view.capacity() + behind_turn;
        let fits = next + span + HEADER_BYTES <= lap + self.view.capacity();
        // A tail that is none was changed since `claim` looked, which will say so.
        (place.tail < next && fits && place.tail.is_multiple_of(8)).then_some(next)
    }

    /// Whether a claim of `span` bytes, or one soon after it, would still be refused as far.
    pub(crate) fn is_far(&self, span: u64) -> bool {
        let header = self.view.header();
        // Acquire, but only a hint: `claim` looks again. So is the rest.
        let tail = header.producers.tail.load(Acquire);
        let head = header.consumer.head.load(Relaxed);
        let lap = self.lap.load(Relaxed);
        let offset = tail.wrapping_sub(lap);
        // For a turn, or up to a receiver that has not passed the last one.
        let room = if offset >= self.near.load(Relaxed) {
            head.saturating_sub(lap)
        } else {
            head.saturating_add(self.view.capacity()).saturating_sub(tail)
        };
        offset < self.view.capacity() && room < self.room_to_turn(span)
    }

    /// Lets claims go on where they were refused as far, and as far again.
    #[cold]
    pub(crate) fn go_far(&self, me: Owner, span: u64) -> Attempt<()> {
        self.lock(me)?;
        let went = self.go_far_locked(me, span);
        self.unlock();
        went
    }

    fn go_far_locked(&self, me: Owner, span: u64) -> Attempt<()> {
        let capacity = self.view.capacity();
        // SYNC(tail-moved): Acquire, as in `claim_locked`.
        let tail = self.view.header().producers.tail.load(Acquire);
        let mut place = Place { tail, offset: tail % capacity };
        if place.offset < self.near.load(Relaxed) {
            let next = self.reopening(place, span);
            let (Some(next), false) = (next, self.has_room(place, span)?) else {
                return Ok(());
            };
            self.pad(me, place, next - tail, false)?;
            place.offset += next - tail;
        }
        let near = place.offset.saturating_mul(2).clamp(self.warm, capacity);
        self.near.store(near, Relaxed);
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::threads::Memory;
    use super::super::{Cursor, Peeked};
    use super::*;
    use crate::error::Error;
    use crate::layout::Geometry;
    use crate::{Sender, SharedRingBuffer, Spin};
    use std::time::Duration;

    const ME: Owner = Owner { slot: 1, generation: 1 };
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn memory(capacity: u64) -> Memory {
        Memory::new(Geometry { capacity, slot_count: 2 })
    }

    /// Sends a message, going far where that is asked; `None` if there is no room. How often it was
    /// asked.
    fn send(ring: &Ring, span: u64) -> Option<u64> {
        for asked in 0..4 {
            match ring.claim(ME, span, 1, false) {
                Ok(claim) => {
                    ring.commit(&claim, claim.word.len()).expect("everybody lives");
                    return Some(asked);
                }
                Err(Refused::Far) => {
                    assert!(ring.is_far(span));
                    ring.go_far(ME, span).expect("nobody holds the claim word");
                }
                Err(Refused::Full) => return None,
                Err(refused) => panic!("{refused:?}"),
            }
        }
        panic!("a claim is refused as far again and again");
    }

    /// The span of the next message.
    fn receive(ring: &Ring, cursor: &mut Cursor) -> Option<u64> {
        let Peeked::Message { len, .. } = ring.peek(cursor).expect("nobody writes nonsense") else {
            return None;
        };
        ring.advance(cursor, len);
        ring.release(cursor, 1);
        Some(crate::layout::span_of(len.into()))
    }

    fn tail(ring: &Ring) -> u64 {
        ring.view.header().producers.tail.load(Relaxed)
    }

    fn used(ring: &Ring) -> u64 {
        let (tail, head) = (tail(ring), ring.view.header().consumer.head.load(Relaxed));
        ring.in_use(tail, head, tail - tail % ring.view.capacity())
    }

    fn start(memory: &Memory) -> (Ring, Cursor) {
        let ring = memory.ring();
        let cursor = ring.cursor().expect("nobody writes nonsense");
        (ring, cursor)
    }

    /// Has the ring turned, with the receiver at the turn and one message behind it.
    fn turned(ring: &Ring, cursor: &mut Cursor, span: u64) {
        while ring.view.header().producers.turn.load(Relaxed) == 0 {
            assert_eq!(send(ring, span), Some(0));
            if tail(ring) < ring.view.capacity() {
                assert_eq!(receive(ring, cursor), Some(span));
            }
        }
        assert_eq!(tail(ring), ring.view.capacity() + span);
    }

    #[test]
    fn while_the_receiver_keeps_up_a_large_ring_is_a_small_one() {
        let memory = memory(64 * MIB);
        let (ring, mut cursor) = start(&memory);
        let mut behind = 0;
        for message in 0..1_000 {
            assert_eq!(send(&ring, 64 * KIB), Some(0), "message {message}");
            behind += 1;
            assert!((tail(&ring) - 1) % (64 * MIB) < MIB + 64 * KIB, "message {message}");
            // Up to eight messages behind, by turns.
            while behind > message % 9 {
                assert_eq!(receive(&ring, &mut cursor), Some(64 * KIB));
                behind -= 1;
            }
        }
        let high_water = ring.view.header().producers.high_water.load(Relaxed);
        assert!(high_water < 16 * MIB, "what turns pass over counts as use: {high_water}");
    }

    #[test]
    fn no_length_of_messages_makes_sender_and_receiver_work_by_turns() {
        for (span, lap) in [(MIB / 2, 2), (MIB, 4), (4 * MIB, 16), (12 * MIB, 60), (20 * MIB, 60)] {
            let memory = memory(64 * MIB);
            let (ring, mut cursor) = start(&memory);
            assert_eq!(send(&ring, span), Some(0));
            for message in 0..100 {
                // The receiver is still at the one before.
                assert_eq!(send(&ring, span), Some(0), "message {message} of {span}");
                let end = (tail(&ring) - 1) % (64 * MIB) + 1;
                assert!(end <= lap * MIB, "message {message} of {span} ends at {end}");
                assert_eq!(receive(&ring, &mut cursor), Some(span));
            }
        }
    }

    #[test]
    fn half_full_means_half_of_what_is_used_while_the_receiver_keeps_up() {
        let memory = memory(64 * MIB);
        let (ring, mut cursor) = start(&memory);
        for message in 0..3 * 15 {
            let before = message % 15;
            assert_eq!(ring.is_half_full(&cursor), before >= 8, "message {message}");
            assert_eq!(send(&ring, 64 * KIB), Some(0));
            if before == 14 {
                while receive(&ring, &mut cursor).is_some() {}
            }
        }
    }

    #[test]
    fn a_late_receiver_finds_a_whole_ring_of_messages() {
        for (span, first) in [(16, 0), (64 * KIB, 0), (64 * KIB, 40), (600 * KIB, 0)] {
            let memory = memory(4 * MIB);
            let (ring, mut cursor) = start(&memory);
            for _ in 0..first {
                assert_eq!(send(&ring, span), Some(0));
                assert_eq!(receive(&ring, &mut cursor), Some(span));
            }
            let (mut sent, mut asked) = (0, 0);
            while let Some(more) = send(&ring, span) {
                (sent, asked) = (sent + 1, asked + more);
            }
            assert!(sent * span + 2 * span + 8 > 4 * MIB, "{sent} messages of {span}");
            assert!(asked <= 3, "{span}: it was far {asked} times");
            assert!(used(&ring) <= 4 * MIB);
            for _ in 0..sent {
                assert_eq!(receive(&ring, &mut cursor), Some(span));
            }
            assert_eq!(receive(&ring, &mut cursor), None);
            assert_eq!(used(&ring), 0);
        }
    }

    #[test]
    fn a_receiver_that_is_late_behind_a_turn_finds_a_whole_ring_as_well() {
        let span = 64 * KIB;
        let memory = memory(4 * MIB);
        let (ring, mut cursor) = start(&memory);
        for _ in 0..5 {
            ring.view.header().producers.turn.store(0, Relaxed);
            while receive(&ring, &mut cursor).is_some() {}
            let before = tail(&ring);
            let mut sent = 0;
            while ring.view.header().producers.turn.load(Relaxed) == 0 {
                assert_eq!(send(&ring, span), Some(0));
                sent += 1;
                assert!(tail(&ring) - before <= 8 * MIB);
                if sent > 3 {
                    assert_eq!(receive(&ring, &mut cursor), Some(span));
                    sent -= 1;
                }
            }
            let mut asked = 0;
            while let Some(more) = send(&ring, span) {
                (sent, asked) = (sent + 1, asked + more);
            }
            assert!(asked > 0, "it was not reopened");
            assert!((sent + 3) * span > 4 * MIB, "{sent} messages");
            // Who opens the ring now finds it sound, and goes on where the last receiver was.
            cursor = memory.ring().cursor().expect("it is sound");
            for _ in 0..sent {
                assert_eq!(receive(&ring, &mut cursor), Some(span));
            }
            assert_eq!(receive(&ring, &mut cursor), None);
        }
    }

    #[test]
    fn behind_a_turn_a_sender_goes_on_as_the_receiver_comes_to_it() {
        let memory = memory(4 * MIB);
        let (ring, mut cursor) = start(&memory);
        // Sixteen before the turn, of which four make room for it and for three.
        while tail(&ring) < MIB {
            assert_eq!(send(&ring, 64 * KIB), Some(0));
        }
        for _ in 0..4 {
            assert_eq!(receive(&ring, &mut cursor), Some(64 * KIB));
        }
        for _ in 0..3 {
            assert_eq!(send(&ring, 64 * KIB), Some(0));
        }
        let refused = ring.claim(ME, 64 * KIB, 1, false);
        assert!(matches!(refused, Err(Refused::Far)) && ring.is_far(64 * KIB));
        let mut passed = 4;
        while ring.is_far(64 * KIB) {
            assert_eq!(receive(&ring, &mut cursor), Some(64 * KIB));
            passed += 1;
        }
        assert_eq!(passed, 7, "as many as make room for it and some more");
        assert_eq!(send(&ring, 64 * KIB), Some(0));
    }

    #[test]
    fn nonsense_around_a_turn_is_noticed() {
        let memory = memory(4 * MIB);
        let (ring, mut cursor) = start(&memory);
        turned(&ring, &mut cursor, 64 * KIB);
        while send(&ring, 64 * KIB).is_some() {}
        let header = ring.view.header();
        let (head, turn) = (&header.consumer.head, &header.producers.turn);
        assert!(tail(&ring) - head.load(Relaxed) > 4 * MIB, "it was not reopened");
        let sound = (head.load(Relaxed), turn.load(Relaxed));
        let is_corrupt = || match ring.cursor() {
            Err(Error::Corrupt { offset: 256 }) => true,
            Err(error) => panic!("{error}"),
            Ok(_) => false,
        };
        for (at, behind) in [(0, 0), (4, 0), (8, 8), (0, 4), (0, 8 * MIB), (u64::MAX - 7, 0)] {
            head.store(sound.0.wrapping_add(at), Relaxed);
            turn.store(sound.1.wrapping_add(behind), Relaxed);
            assert_eq!(
                is_corrupt(),
                at % 8 != 0 || behind % 8 != 0 || behind > MIB,
                "{at} {behind}"
            );
        }
        turn.store(0, Relaxed);
        head.store(0, Relaxed);
        assert!(is_corrupt());
    }

    #[test]
    fn half_the_ring_fits_behind_a_turn_that_nobody_has_passed() {
        let memory = memory(4 * MIB);
        let (ring, mut cursor) = start(&memory);
        turned(&ring, &mut cursor, 64 * KIB);
        assert_eq!(send(&ring, 2 * MIB), Some(1));
        assert_eq!(receive(&ring, &mut cursor), Some(64 * KIB));
        assert_eq!(receive(&ring, &mut cursor), Some(2 * MIB));
        assert_eq!(used(&ring), 0);
    }

    #[test]
    fn where_no_lap_ends_early_no_claim_looks_for_the_receiver() {
        let memory = memory(4 * MIB);
        let (ring, _) = start(&memory);
        // It was far at 1 MiB, and that was to be good for as much again.
        while tail(&ring) <= 2 * MIB {
            send(&ring, 64 * KIB).expect("there is room");
        }
        send(&ring, 16).expect("there is room");
        let head = &ring.view.header().consumer.head;
        // Who looks is told that it cannot be right.
        head.store(4, Relaxed);
        send(&ring, 16).expect("nobody looked");
        head.store(0, Relaxed);
    }

    #[test]
    fn no_lap_of_a_ring_that_stays_in_the_caches_ends_early() {
        let memory = memory(3 * MIB);
        let (ring, mut cursor) = start(&memory);
        for _ in 0..100 {
            assert_eq!(send(&ring, 64 * KIB), Some(0));
            assert_eq!(receive(&ring, &mut cursor), Some(64 * KIB));
        }
        assert_eq!(tail(&ring), 100 * 64 * KIB);
    }

    #[test]
    fn no_lap_ends_early_for_a_message_that_wants_an_empty_ring() {
        let memory = memory(4 * MIB);
        let (ring, mut cursor) = start(&memory);
        for message in 1..=40 {
            let claim = ring.claim(ME, 64 * KIB, 1, true).expect("the ring is empty");
            ring.commit(&claim, claim.word.len()).expect("everybody lives");
            assert_eq!(receive(&ring, &mut cursor), Some(64 * KIB));
            assert_eq!(tail(&ring), message * 64 * KIB);
        }
    }

    #[test]
    fn senders_are_woken_for_each_quarter_of_what_is_kept_warm() {
        let memory = memory(64 * MIB);
        let (ring, mut cursor) = start(&memory);
        ring.arm_sender();
        for freed in 1..=4 {
            assert_eq!(send(&ring, 64 * KIB), Some(0));
            assert_eq!(receive(&ring, &mut cursor), Some(64 * KIB));
            assert_eq!(ring.space_wake_due(&cursor), freed == 4);
        }
        assert!(ring.take_space_wake(&mut cursor) && !ring.space_wake_due(&cursor));
    }

    #[test]
    fn no_spinning_keeps_a_sender_long_from_the_whole_ring() {
        let ring = SharedRingBuffer::options().capacity(4 * MIB).anonymous().expect("made");
        let mut sender = Sender::new(ring);
        sender.set_spin(Spin::For(Duration::MAX));
        for _ in 0..40 {
            sender.send_bytes(&[0; 64 << 10]).expect("there is room, and no receiver");
        }
    }
}
