//! Copying a payload into the ring: through the caches or, if that is faster, past them.
//!
//! An ordinary store must have its line first, and the ring's lines lie where the receiver read
//! them a lap ago. A *non-temporal* store of a whole line asks neither its holder nor for what it
//! held, and leaves the line in memory. What is better depends on what the two processors have in
//! common, which the system of a virtual machine does not tell, and which its host changes while
//! it runs. Messages of 64 KiB a second, from one producer through 1 MiB, on processors of an AMD
//! EPYC (Zen 4):
//!
//! | a line's round trip | so in common is | ordinary | non-temporal |
//! |---|---|---|---|
//! | 120 ns | the third-level cache | 190,000 | 337,000 |
//! | 340 ns | nothing | 35,000 | 335,000 |
//!
//! On another machine it was 900,000 with ordinary stores, as if the second-level cache were in
//! common. And the receiver pays too: what was stored past the caches it reads from memory. On Zen
//! 3, with the third-level cache in common, 128,000 of 64 KiB came through so, and 380,000 by
//! ordinary stores, although the copy alone took longer. So senders try both from time to time,
//! and a receiver tells in the header what reading took, the shortest time for 64 KiB in
//! nanoseconds: in the lower half of the word after ordinary stores, in the upper half after the
//! others, 0 as long as one of them is not known.

use super::{Claim, Cursor, Ring};
use crate::atomic::{AtomicU64, Ordering::Relaxed};
use crate::layout::HEADER_BYTES;

/// Only payloads this long, in bytes, are worth a choice. Shorter ones are as fast one way as the
/// other, where the processors share the third-level cache.
const LARGE: usize = 16 << 10;

#[cfg(all(target_feature = "sse2", not(any(loom, miri))))]
mod stream;

#[cfg(all(target_feature = "sse2", not(any(loom, miri))))]
pub(crate) use stream::{Copier, Reading};

/// Whether a payload of `len` bytes is worth a choice.
#[inline]
pub(crate) fn is_large(len: u32) -> bool {
    len as usize >= LARGE
}

impl Ring {
    /// Copies bytes into the payload of a claim, at `at` from its beginning.
    #[inline]
    pub(crate) fn write(&self, claim: &Claim, at: u64, bytes: &[u8]) {
        let room = u64::from(claim.word.len()).checked_sub(at);
        assert!(room >= Some(bytes.len() as u64), "a place inside the claim");
        let to = self.view.payload(claim.offset + HEADER_BYTES + at);
        // SAFETY: the claim's span lies inside the ring's data (`claim_locked`), and `at` and the
        // length inside the span, by the assertion. The bytes are this claim's alone until it is
        // published (invariant 4), no reference to them exists, and a peer that writes here all
        // the same makes a wrong message, not a wrong access. `bytes` are not inside the ring:
        // borrowed payloads there belong to messages that are not yet released.
        unsafe { self.copy(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
    }

    /// Copies `len` bytes into a claim.
    ///
    /// # Safety
    ///
    /// - `from` is valid for reads of `len` bytes, which are not in the claim, and `to` leads to as
    ///   many bytes of its payload
    #[inline(always)]
    pub(crate) unsafe fn copy(&self, from: *const u8, to: *mut u8, len: usize) {
        if len < LARGE {
            // SAFETY: as the caller has promised.
            unsafe { from.copy_to_nonoverlapping(to, len) };
        } else {
            // SAFETY: as the caller has promised.
            unsafe { self.copy_large(from, to, len) };
        }
    }

    /// # Safety
    ///
    /// - as `copy`
    #[inline(never)]
    unsafe fn copy_large(&self, from: *const u8, to: *mut u8, len: usize) {
        let offset = to.addr().wrapping_sub(self.view.payload(0).as_ptr().addr());
        // Relaxed: near enough, like all that this decides.
        let position = self.lap.load(Relaxed).wrapping_add(offset as u64);
        // SAFETY: as the caller has promised.
        unsafe { self.copier.copy(position, self.read_ns(), from, to, len) };
    }

    /// Begins to take the time of the large message at the receiver's place, if that is of use.
    #[cold]
    pub(crate) fn start_reading(&self, cursor: &Cursor) -> Option<Reading> {
        self.copier.start_reading(cursor.head)
    }

    /// Ends it, for a message of `len` bytes.
    #[cold]
    pub(crate) fn end_reading(&self, reading: &Reading, len: u32) {
        self.copier.end_reading(reading, len as usize, self.read_ns());
    }

    fn read_ns(&self) -> &AtomicU64 {
        &self.view.header().consumer.read_ns
    }
}

/// The time of no message is of use.
#[cfg(not(all(target_feature = "sse2", not(any(loom, miri)))))]
#[derive(Debug)]
pub(crate) enum Reading {}

/// Copies, and has nothing to choose from.
#[cfg(not(all(target_feature = "sse2", not(any(loom, miri)))))]
#[derive(Debug)]
pub(crate) struct Copier;

#[cfg(not(all(target_feature = "sse2", not(any(loom, miri)))))]
impl Copier {
    pub(crate) fn new(_capacity: u64) -> Self {
        Self
    }

    /// Copies `len` bytes.
    ///
    /// # Safety
    ///
    /// - `from` is valid for reads and `to` for writes of `len` bytes, and the two do not overlap
    pub(crate) unsafe fn copy(
        &self,
        _position: u64,
        _read_ns: &AtomicU64,
        from: *const u8,
        to: *mut u8,
        len: usize,
    ) {
        // SAFETY: as the caller has promised.
        unsafe { from.copy_to_nonoverlapping(to, len) };
    }

    pub(crate) fn start_reading(&self, _position: u64) -> Option<Reading> {
        None
    }

    pub(crate) fn end_reading(&self, reading: &Reading, _len: usize, _read_ns: &AtomicU64) {
        match *reading {}
    }
}
