//! The choice, and the non-temporal stores of SSE2.

#[cfg(target_arch = "x86")]
use std::arch::x86 as arch;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as arch;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Laps from one trial of both ways to the next: so many that the worse way, ten times as slow,
/// takes no more than a tenth of the time.
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
    capacity: u64,
    streams: AtomicBool,
    /// The last trial that this process took part in, by number.
    round: AtomicU64,
    /// The shortest times in it, in nanoseconds for 64 KiB.
    cached_ns: AtomicU32,
    streamed_ns: AtomicU32,
}

impl Copier {
    pub(crate) fn new(capacity: u64) -> Self {
        let (cached_ns, streamed_ns) = (AtomicU32::new(u32::MAX), AtomicU32::new(u32::MAX));
        let (streams, round) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { capacity, streams, round, cached_ns, streamed_ns }
    }

    /// Copies `len` bytes to a place near `position`.
    ///
    /// # Safety
    ///
    /// - `from` is valid for reads and `to` for writes of `len` bytes, and the two do not overlap
    pub(crate) unsafe fn copy(&self, position: u64, from: *const u8, to: *mut u8, len: usize) {
        // Relaxed, all of them: hints, and threads that share a sender may mix them up.
        let lap = position / self.capacity;
        let (streams, timed) = match lap % ROUND {
            0 => (false, None),
            1 => (false, Some(&self.cached_ns)),
            2 => (true, None),
            3 => (true, Some(&self.streamed_ns)),
            _ => (self.streams.load(Relaxed), None),
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
            self.learn(lap / ROUND, shortest, ns.try_into().unwrap_or(u32::MAX - 1));
        }
    }

    fn learn(&self, round: u64, shortest: &AtomicU32, ns: u32) {
        if self.round.swap(round, Relaxed) != round {
            self.cached_ns.store(u32::MAX, Relaxed);
            self.streamed_ns.store(u32::MAX, Relaxed);
        }
        shortest.fetch_min(ns, Relaxed);
        let (cached, streamed) = (self.cached_ns.load(Relaxed), self.streamed_ns.load(Relaxed));
        // Who had nothing to copy in one of the laps goes on as before.
        if cached != u32::MAX && streamed != u32::MAX {
            self.streams.store(streamed < cached, Relaxed);
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
    fn every_round_begins_with_a_trial_of_both_ways() {
        let (from, mut to) = (vec![7_u8; 1000], vec![0_u8; 1000]);
        let copier = Copier::new(100 << 10);
        let mut copy_in = |lap: u64| {
            to.fill(0);
            let position = lap * (100 << 10) + 8;
            // SAFETY: two vectors of that length, one of them exclusive.
            unsafe { copier.copy(position, from.as_ptr(), to.as_mut_ptr(), from.len()) };
            assert_eq!(from, to);
            [&copier.cached_ns, &copier.streamed_ns].map(|ns| ns.load(Relaxed) < u32::MAX)
        };
        assert_eq!(copy_in(0), [false, false]);
        assert_eq!(copy_in(1), [true, false]);
        assert_eq!(copy_in(2), [true, false]);
        for lap in 3..ROUND + 1 {
            assert_eq!(copy_in(lap), [true, true]);
        }
        assert_eq!(copy_in(ROUND + 1), [true, false]);
        assert_eq!(copy_in(7 * ROUND + 3), [false, true]);
    }

    #[test]
    fn the_faster_way_is_taken_and_the_old_one_where_one_was_not_tried() {
        let copier = Copier::new(1 << 20);
        let Copier { cached_ns: cached, streamed_ns: streamed, .. } = &copier;
        let learn = |round, way, ns| {
            copier.learn(round, way, ns);
            copier.streams.load(Relaxed)
        };
        assert!(!learn(0, cached, 4000));
        assert!(!learn(0, streamed, 5000));
        assert!(learn(0, streamed, 3000), "the shortest time counts");
        assert!(learn(1, cached, 1000), "of another round");
        assert!(!learn(1, streamed, 2000));
        assert!(!learn(2, streamed, 500));
        assert!(learn(2, cached, 600));
        assert!(learn(3, cached, 400));
    }
}
