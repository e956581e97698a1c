//! What of the ring is free: the room that senders look for.

use super::{Attempt, Cursor, Place, Refused, Ring, corrupt};
use crate::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::layout::HEADER_BYTES;
use crate::mutants::mutant;

impl Ring {
    /// Whether a claim could succeed: a look without the claim word, for waiting.
    pub(crate) fn may_fit(&self, span: u64, when_empty: bool) -> bool {
        // Acquire, but only a hint: `claim` looks again.
        let tail = self.view.header().producers.tail.load(Acquire);
        let head = self.view.header().consumer.head.load(Acquire);
        let capacity = self.view.capacity();
        let offset = tail % capacity;
        let Some(end) = self.free_end(tail, head, tail - offset) else {
            // Let `claim` say that it is corrupt.
            return true;
        };
        let wanted = span.min(capacity - offset) + HEADER_BYTES;
        (tail == head || !when_empty) && wanted <= end - tail
    }

    /// Whether an eighth of the ring is free: a hint, as `may_fit`.
    pub(crate) fn is_roomy(&self) -> bool {
        let head = self.view.header().consumer.head.load(Acquire);
        let tail = self.view.header().producers.tail.load(Acquire);
        let capacity = self.view.capacity();
        self.in_use(tail, head, tail - tail % capacity) <= capacity - capacity / 8
    }

    /// Whether the receiver has half or more before it of what senders use while it keeps up.
    pub(crate) fn is_half_full(&self, cursor: &Cursor) -> bool {
        // Relaxed: a hint.
        let tail = self.view.header().producers.tail.load(Relaxed);
        let capacity = self.view.capacity();
        self.in_use(tail, cursor.head, tail - tail % capacity) >= self.warm / 2
    }

    /// Whether a record of `span` bytes at `tail` and the header word after it are free.
    #[inline]
    pub(super) fn has_room(&self, place: Place, span: u64) -> Attempt<bool> {
        let wanted = mutant!("terminator-no-room", span, span + HEADER_BYTES);
        // Where the receiver is, is known only when `head` is read, a cache miss; so it is read
        // when the ring seems full, and when the use seems to have grown by an eighth of the ring.
        // SYNC(space-freed): Acquire pairs with the Release below, hence with the receiver's.
        let room = self.view.header().producers.room.load(Acquire);
        if place.tail + wanted <= room { Ok(true) } else { self.look_for_room(place, wanted) }
    }

    #[inline]
    fn look_for_room(&self, place: Place, wanted: u64) -> Attempt<bool> {
        let Place { tail, offset } = place;
        let producers = &self.view.header().producers;
        let consumer = &self.view.header().consumer;
        let trust = mutant!("place-trusted", true, false);
        // SYNC(space-freed): Acquire pairs with `release`: the receiver has done with the bytes
        // that are about to be overwritten.
        let head = consumer.head.load(mutant!("space-relaxed", Relaxed, Acquire));
        let lap = tail - offset;
        let end = match self.free_end(tail, head, lap) {
            Some(end) => mutant!("head-not-read-again", self.view.capacity(), end),
            None if trust => tail + (self.view.capacity() - tail.wrapping_sub(head)),
            None => return Err(Refused::Failed(corrupt(256))),
        };
        let fits = tail + wanted <= end;
        let used = self.in_use(tail, head, lap);
        let used_then = used + if fits { wanted - HEADER_BYTES } else { 0 };
        // Relaxed: read for people only.
        let high_water = producers.high_water.load(Relaxed).max(used_then);
        producers.high_water.store(high_water, Relaxed);
        let more = high_water.saturating_add(self.view.capacity() / 8);
        // SYNC(space-freed): Release hands the receiver's Release on to later claimers.
        producers.room.store(end.min((tail - used).saturating_add(more)), Release);
        Ok(fits)
    }

    pub(super) fn is_empty(&self, place: Place) -> Attempt<bool> {
        // SYNC(space-freed): Acquire, as in `look_for_room`.
        let head = self.view.header().consumer.head.load(Acquire);
        if self.free_end(place.tail, head, place.tail - place.offset).is_none() {
            // `may_fit` sends its callers here to be told.
            return Err(Refused::Failed(corrupt(256)));
        }
        Ok(head == place.tail)
    }

    /// The position up to which the ring is free; `None` if `tail` and `head` cannot be right.
    pub(super) fn free_end(&self, tail: u64, head: u64, lap: u64) -> Option<u64> {
        let capacity = self.view.capacity();
        let fits = tail.checked_sub(head).is_some_and(|used| used <= capacity);
        if fits && tail <= u64::MAX / 2 && head.is_multiple_of(8) {
            return Some(head + capacity);
        }
        // Behind a turn that the receiver has not passed.
        let turn = self.turn_ahead(head, lap)?;
        (tail - turn > capacity).then_some(lap + capacity)
    }

    /// The turn that ended the lap before `lap`, if `head` has not passed it.
    pub(super) fn turn_ahead(&self, head: u64, lap: u64) -> Option<u64> {
        // Acquire, as that of `tail`, which was stored before it. A turn that is missed here, as
        // its maker has just died, only leaves the lap as short as it is.
        let turn = self.view.header().producers.turn.load(Acquire);
        let is_ahead = head <= turn && turn < lap && lap - turn <= self.view.capacity();
        let is_sound = turn > 0 && (head | turn).is_multiple_of(8) && lap <= u64::MAX / 2;
        (is_ahead && is_sound).then_some(turn)
    }

    /// Bytes in use, at most: what a turn passed over is not, as long as nobody has gone on there.
    pub(crate) fn in_use(&self, tail: u64, head: u64, lap: u64) -> u64 {
        let capacity = self.view.capacity();
        let used = tail.saturating_sub(head);
        match self.turn_ahead(head, lap) {
            Some(turn) if tail - turn > capacity => tail - lap,
            Some(turn) => used.saturating_sub(lap - turn),
            None => used.min(capacity),
        }
    }
}
