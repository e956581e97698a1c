//! The choice, and the non-temporal stores of SSE2.

#[cfg(target_arch = "x86")]
use std::arch::x86 as arch;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as arch;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Laps from one trial of both ways to the next: so many that the worse way, ten times as slow,
/// takes no more than a tenth of the time.
const ROUND: u64 = 1024;
/// Laps of a trial that are copied through the caches, of which the last counts: on an Intel Xeon
/// (Emerald Rapids) it takes the lines of a ring of 64 MiB that many laps to stay in the
/// third-level cache, and copying and reading them is up to twice as slow before.
const CACHED_LAPS: u64 = 8;
/// Laps of a trial by non-temporal stores, of which the last counts: it finds the ring as the
/// first has left it.
const STREAMED_LAPS: u64 = 2;
/// Laps from the beginning of a trial to when its outcome is settled: the receiver may be a lap or
/// two behind.
const SETTLED: u64 = CACHED_LAPS + STREAMED_LAPS + 4;
/// What leaves a processor in one piece, if all of it has been written.
const LINE: usize = 64;

/// A way to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Cached,
    Streamed,
}

/// What a lap is to try, and whether its times count. What a copy takes depends on how the same
/// place was written and read in the laps before.
fn trial(lap: u64) -> Option<(Way, bool)> {
    const END: u64 = CACHED_LAPS + STREAMED_LAPS;
    match lap % ROUND {
        lap @ ..CACHED_LAPS => Some((Way::Cached, lap == CACHED_LAPS - 1)),
        lap @ ..END => Some((Way::Streamed, lap == END - 1)),
        _ => None,
    }
}

/// The shortest times of the last trial, in nanoseconds for 64 KiB.
///
/// Relaxed, all of it: hints, and threads that share a sender may mix them up.
#[derive(Debug)]
struct Shortest {
    /// That trial, by number.
    round: AtomicU64,
    cached_ns: AtomicU32,
    streamed_ns: AtomicU32,
}

impl Shortest {
    fn new() -> Self {
        let (cached_ns, streamed_ns) = (AtomicU32::new(u32::MAX), AtomicU32::new(u32::MAX));
        Self { round: AtomicU64::new(0), cached_ns, streamed_ns }
    }

    fn learn(&self, lap: u64, way: Way, ns: u32) {
        let round = lap / ROUND;
        if self.round.swap(round, Relaxed) != round {
            self.cached_ns.store(u32::MAX, Relaxed);
            self.streamed_ns.store(u32::MAX, Relaxed);
        }
        let shortest = if way == Way::Cached { &self.cached_ns } else { &self.streamed_ns };
        shortest.fetch_min(ns, Relaxed);
    }

    /// Both, if both are known.
    fn both(&self) -> Option<[u32; 2]> {
        let both = [self.cached_ns.load(Relaxed), self.streamed_ns.load(Relaxed)];
        (!both.contains(&u32::MAX)).then_some(both)
    }
}

/// Since then, in nanoseconds for 64 KiB, of so many bytes. Not 0, although clocks can be coarse:
/// that means unknown in the header.
fn ns_since(started: Instant, len: usize) -> u32 {
    let ns = started.elapsed().as_nanos() * (64 << 10) / len as u128;
    ns.try_into().unwrap_or(u32::MAX - 1).max(1)
}

/// A message that is read in a trial.
#[derive(Debug)]
pub(crate) struct Reading {
    lap: u64,
    way: Way,
    started: Instant,
}

/// Copies, and learns which way is faster for the two that are at work: the sender that copies,
/// and the receiver that reads, and tells by a word in the header what that took.
///
/// All senders try one way and then the other; the position tells them, and the receiver, when.
#[derive(Debug)]
pub(crate) struct Copier {
    capacity: u64,
    streams: AtomicBool,
    copies: Shortest,
    reads: Shortest,
}

impl Copier {
    pub(crate) fn new(capacity: u64) -> Self {
        let streams = AtomicBool::new(false);
        Self { capacity, streams, copies: Shortest::new(), reads: Shortest::new() }
    }

    /// Copies `len` bytes to a place near `position`. `read_ns` is the receiver's word.
    ///
    /// # Safety
    ///
    /// - `from` is valid for reads and `to` for writes of `len` bytes, and the two do not overlap
    pub(crate) unsafe fn copy(
        &self,
        position: u64,
        read_ns: &AtomicU64,
        from: *const u8,
        to: *mut u8,
        len: usize,
    ) {
        let lap = position / self.capacity;
        let trial = trial(lap);
        if trial.is_none() && lap % ROUND < SETTLED {
            self.choose(read_ns);
        }
        let streams = trial.map_or_else(|| self.streams.load(Relaxed), |t| t.0 == Way::Streamed);
        let counts = trial.filter(|trial| trial.1).map(|trial| (trial.0, Instant::now()));
        if streams {
            // SAFETY: as the caller has promised.
            unsafe { stream(from, to, len) };
        } else {
            // SAFETY: as the caller has promised.
            unsafe { from.copy_to_nonoverlapping(to, len) };
        }
        if let Some((way, started)) = counts {
            self.copies.learn(lap, way, ns_since(started, len));
            self.choose(read_ns);
        }
    }

    /// Chooses the way that takes the two together less time, where the longer of copy and read
    /// counts twice: side by side the slower of the two decides how fast messages are, by turns
    /// their sum. Who had nothing to copy in one of the laps goes on as before, and the copy alone
    /// decides where the receiver has told nothing.
    fn choose(&self, read_ns: &AtomicU64) {
        let Some([cached, streamed]) = self.copies.both() else {
            return;
        };
        let read = read_ns.load(Relaxed);
        let (read_cached, read_streamed) = (read & u64::from(u32::MAX), read >> 32);
        let (mut cached, mut streamed) = (u64::from(cached), u64::from(streamed));
        if read_cached != 0 && read_streamed != 0 {
            cached += read_cached + cached.max(read_cached);
            streamed += read_streamed + streamed.max(read_streamed);
        }
        self.streams.store(streamed < cached, Relaxed);
    }

    /// Begins to take the time of a message at `position`, if that is of use.
    pub(crate) fn start_reading(&self, position: u64) -> Option<Reading> {
        let lap = position / self.capacity;
        let (way, _) = trial(lap).filter(|trial| trial.1)?;
        Some(Reading { lap, way, started: Instant::now() })
    }

    /// Tells what the reading of `len` bytes has taken.
    pub(crate) fn end_reading(&self, reading: &Reading, len: usize, read_ns: &AtomicU64) {
        self.reads.learn(reading.lap, reading.way, ns_since(reading.started, len));
        let [cached, streamed] = self.reads.both().unwrap_or_default().map(u64::from);
        read_ns.store(streamed << 32 | cached, Relaxed);
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
    use super::super::LARGE;
    use super::*;
    use crate::{Receiver, Sender, SharedRingBuffer};

    /// The laps of a trial whose times count.
    const CACHED: u64 = CACHED_LAPS - 1;
    const STREAMED: u64 = CACHED + STREAMED_LAPS;

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
        const LAP: u64 = 100 << 10;
        let (from, mut to) = (vec![7_u8; 1000], vec![0_u8; 1000]);
        let (copier, read_ns) = (Copier::new(LAP), AtomicU64::new(0));
        let mut copy_in = |lap: u64| {
            to.fill(0);
            // SAFETY: two vectors of that length, one of them exclusive.
            unsafe {
                copier.copy(lap * LAP + 8, &read_ns, from.as_ptr(), to.as_mut_ptr(), from.len());
            }
            assert_eq!(from, to);
            [&copier.copies.cached_ns, &copier.copies.streamed_ns]
                .map(|ns| ns.load(Relaxed) < u32::MAX)
        };
        for lap in 0..ROUND + CACHED {
            assert_eq!(copy_in(lap), [lap >= CACHED, lap >= STREAMED], "lap {lap}");
        }
        assert_eq!(copy_in(ROUND + CACHED), [true, false]);
        assert_eq!(copy_in(7 * ROUND + STREAMED), [false, true]);
    }

    /// What the receiver has told after a trial with messages of so many bytes.
    fn told_after(len: usize, receive: fn(&mut Receiver)) -> [bool; 2] {
        let ring = SharedRingBuffer::options().capacity(64 << 10).anonymous().expect("made");
        let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
        let header = ring.region.view().header();
        while header.producers.tail.load(Relaxed) < (STREAMED + 1) * ring.capacity() {
            sender.send(&"x".repeat(len)).expect("there is room");
            receive(&mut receiver);
        }
        let ns = header.consumer.read_ns.load(Relaxed);
        [ns & u64::from(u32::MAX), ns >> 32].map(|ns| ns > 0)
    }

    #[test]
    fn every_form_of_receive_tells_what_the_reading_of_large_messages_took() {
        let forms: [fn(&mut Receiver); 4] = [
            |receiver| assert!(!receiver.recv::<String>().expect("sent").is_empty()),
            |receiver| {
                assert!(!receiver.zero_copy_context().recv::<&str>().expect("sent").is_empty());
            },
            |receiver| assert!(!receiver.recv_bytes().expect("sent").is_empty()),
            |receiver| assert_eq!(receiver.drain(9, |_| ()).expect("sent"), 1),
        ];
        for receive in forms {
            assert_eq!(told_after(LARGE, receive), [true, true]);
            assert_eq!(told_after(LARGE / 2, receive), [false, false]);
        }
    }

    #[test]
    fn the_receiver_tells_what_reading_took_once_it_knows_both() {
        let (copier, read_ns) = (Copier::new(1000), AtomicU64::new(u64::MAX));
        let mut read_in = |lap: u64| {
            let reading = copier.start_reading(lap * 1000 + 8)?;
            // So many that it took no time.
            copier.end_reading(&reading, usize::MAX, &read_ns);
            let ns = read_ns.load(Relaxed);
            Some([ns & u64::from(u32::MAX), ns >> 32].map(|ns| ns > 0))
        };
        let others = [0, CACHED - 1, STREAMED - 1, STREAMED + 1, ROUND - 1];
        assert_eq!(others.map(&mut read_in), [None; 5]);
        assert_eq!(read_in(CACHED), Some([false, false]));
        assert_eq!(read_in(STREAMED), Some([true, true]));
        assert_eq!(read_in(ROUND + CACHED), Some([false, false]));
        assert_eq!(read_in(ROUND + STREAMED), Some([true, true]));
    }

    #[test]
    fn the_way_is_taken_that_is_faster_for_both_and_the_old_one_where_one_was_not_tried() {
        let (copier, read_ns) = (Copier::new(1 << 20), AtomicU64::new(0));
        let learn = |round, way, ns| {
            copier.copies.learn(round * ROUND, way, ns);
            copier.choose(&read_ns);
            copier.streams.load(Relaxed)
        };
        assert!(!learn(0, Way::Cached, 4000));
        assert!(!learn(0, Way::Streamed, 5000));
        assert!(learn(0, Way::Streamed, 3000), "the shortest time counts");
        assert!(learn(1, Way::Cached, 1000), "of another round");
        assert!(!learn(1, Way::Streamed, 2000));
        assert!(!learn(2, Way::Streamed, 500));
        assert!(learn(2, Way::Cached, 600));
        assert!(learn(3, Way::Cached, 400));
        assert!(!learn(3, Way::Streamed, 450));
        let told = |cached: u64, streamed: u64| {
            read_ns.store(streamed << 32 | cached, Relaxed);
            copier.choose(&read_ns);
            copier.streams.load(Relaxed)
        };
        // To read takes longer than to copy: 400 + 2 * 2000 against 450 + 2 * 1974 or 1975.
        assert!(told(2000, 1974));
        assert!(!told(2000, 1975));
        // To copy takes longer: 2 * 400 + 300 against 2 * 450 + 199 or 200.
        assert!(told(300, 199));
        assert!(!told(300, 200));
        assert!(!told(0, 199), "only one is known");
        assert!(told(u64::from(u32::MAX), 1));
        assert!(!told(1, u64::from(u32::MAX)));
    }
}
