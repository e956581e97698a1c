//! The choice, and the non-temporal stores of SSE2.

#[cfg(target_arch = "x86")]
use std::arch::x86 as arch;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as arch;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

/// What a trial takes, at most: about what the caches keep. In a smaller ring it takes a lap.
const MOST_TRIED: u64 = 4 << 20;
/// From one trial of both ways to the next, in lengths of a trial: so many that the worse way, ten
/// times as slow, takes no more than a tenth of the time.
const ROUND: u64 = 256;
/// What leaves a processor in one piece, if all of it has been written.
const LINE: usize = 64;

/// Copies, and learns which way is faster.
///
/// What a copy takes depends on how the same place was written and read a lap ago, so all senders
/// try one way for two laps, of which they time the second, and then the other. The position tells
/// them when.
#[derive(Debug)]
pub(crate) struct Copier {
    tried_bytes: u64,
    /// The shortest times in the last trials, in nanoseconds for 64 KiB.
    cached_ns: AtomicU32,
    streamed_ns: AtomicU32,
}

impl Copier {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            tried_bytes: capacity.min(MOST_TRIED),
            cached_ns: AtomicU32::new(0),
            streamed_ns: AtomicU32::new(0),
        }
    }

    /// Copies `len` bytes to a place near `position`.
    ///
    /// # Safety
    ///
    /// - `from` is valid for reads and `to` for writes of `len` bytes, and the two do not overlap
    pub(crate) unsafe fn copy(&self, position: u64, from: *const u8, to: *mut u8, len: usize) {
        let (cached, streamed) = (&self.cached_ns, &self.streamed_ns);
        // Relaxed, all of them: hints, and threads that share a sender may mix them up.
        let (streams, timed) = match position / self.tried_bytes % ROUND {
            0 => {
                cached.store(u32::MAX, Relaxed);
                streamed.store(u32::MAX, Relaxed);
                (false, None)
            }
            1 => (false, Some(cached)),
            2 => (true, None),
            3 => (true, Some(streamed)),
            _ => (streamed.load(Relaxed) < cached.load(Relaxed), None),
        };
        let timed = timed.map(|shortest| (shortest, Instant::now()));
        if streams {
            // SAFETY: as the caller has promised.
            unsafe { stream(from, to, len) };
        } else {
            // SAFETY: as the caller has promised.
            unsafe { from.copy_to_nonoverlapping(to, len) };
        }
        if let Some((shortest, started)) = timed {
            let ns = started.elapsed().as_nanos() * (64 << 10) / len as u128;
            shortest.fetch_min(ns.try_into().unwrap_or(u32::MAX), Relaxed);
        }
    }
}

/// Copies by non-temporal stores, but for the parts of lines at the ends.
///
/// # Safety
///
/// - as `Copier::copy`
unsafe fn stream(from: *const u8, to: *mut u8, len: usize) {
    let mut at = to.align_offset(LINE).min(len);
    // SAFETY: the bytes before the first whole line, of those that the caller has promised.
    unsafe { from.copy_to_nonoverlapping(to, at) };
    while len - at >= LINE {
        let (line, place) = (from.wrapping_add(at), to.wrapping_add(at));
        for part in 0..LINE / size_of::<arch::__m128i>() {
            let part = part * size_of::<arch::__m128i>();
            // SAFETY: inside a line of the same bytes; this load needs no alignment.
            let bytes = unsafe { arch::_mm_loadu_si128(line.wrapping_add(part).cast()) };
            // SAFETY: inside a line of the same bytes, aligned to 16, as `to + at` is to 64. The
            // fence below comes before anything else touches them.
            unsafe { arch::_mm_stream_si128(place.wrapping_add(part).cast(), bytes) };
        }
        at += LINE;
    }
    // Nothing else orders non-temporal stores, not the Release of the commit either.
    // SAFETY: what has SSE2 has this instruction.
    unsafe { arch::_mm_sfence() };
    // SAFETY: what is left of the same bytes.
    unsafe { from.wrapping_add(at).copy_to_nonoverlapping(to.wrapping_add(at), len - at) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_and_no_other_is_touched() {
        let from: Vec<u8> = (0..8 * LINE).map(|i| (i % 251) as u8 + 1).collect();
        for skip in [0, 1, 15, 16, 63] {
            for start in 0..=LINE {
                for len in (0..=3 * LINE).chain([6 * LINE - 1, 6 * LINE]) {
                    let mut to = [0_u8; 8 * LINE];
                    let source = &from[skip..skip + len];
                    let place = &mut to[start..start + len];
                    // SAFETY: two slices of `len` bytes, one of them exclusive.
                    unsafe { stream(source.as_ptr(), place.as_mut_ptr(), len) };
                    assert_eq!(to[start..start + len], from[skip..skip + len]);
                    assert!(to[..start].iter().chain(&to[start + len..]).all(|&byte| byte == 0));
                }
            }
        }
    }

    #[test]
    fn both_ways_are_tried_again_and_again() {
        let (from, mut to) = (vec![7_u8; 1000], vec![0_u8; 1000]);
        let copier = Copier::new(100 << 10);
        let mut copy_at = |trial: u64| {
            to.fill(0);
            let position = trial * (100 << 10) + 8;
            // SAFETY: two vectors of that length, one of them exclusive.
            unsafe { copier.copy(position, from.as_ptr(), to.as_mut_ptr(), from.len()) };
            assert_eq!(from, to);
            (copier.cached_ns.load(Relaxed), copier.streamed_ns.load(Relaxed))
        };
        for round in [0, ROUND, 7 * ROUND] {
            let unknown = (u32::MAX, u32::MAX);
            assert_eq!(copy_at(round), unknown);
            let (cached, none) = copy_at(round + 1);
            assert!(cached < u32::MAX && none == u32::MAX);
            assert_eq!(copy_at(round + 2), (cached, none));
            let both = copy_at(round + 3);
            assert!(both.0 == cached && both.1 < u32::MAX);
            assert_eq!(copy_at(round + 4), both);
            assert_eq!(copy_at(round + ROUND - 1), both);
        }
    }
}
