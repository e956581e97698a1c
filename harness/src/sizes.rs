//! Which length each verified message has: a walk that both ends take from the same seed.
//!
//! The walk leans on what breaks rings: the shortest messages, half a ring, the longest message,
//! and what is left up to the end of the ring, a little more and a little less. Every other stretch
//! of it aims at one cell of the coverage map: to the ring's start, from there to the gap, and then
//! into it, against it or around it; so every residue of the end gap is visited on purpose. A
//! producer knows its own records only, so with several the end is guessed, and hit by chance.

use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::{
    coverage::{Fit, Grain, Shape},
    payload::{HEADER_LEN, mix},
    protocol::{Limits, Mix},
    sequences::Sequences,
};

/// The lengths of one producer's messages, in order.
#[derive(Debug)]
pub(crate) struct SizeWalk {
    random: Pcg64Mcg,
    mix: Mix,
    min: u64,
    max: u64,
    shape: Shape,
    overhead: u64,
    position: u64,
    aim: Option<Aim>,
    /// Where the tour through the cells is, and how it goes on.
    place: u64,
    stride: u64,
    sequences: Option<Sequences>,
}

/// A cell of the map that is being walked to.
#[derive(Clone, Copy, Debug)]
struct Aim {
    gap: u64,
    fit: Fit,
    /// The walk has been at the ring's start since.
    started: bool,
}

/// Lengths around the smallest record and its alignment.
const TINY: [u64; 5] = [0, 1, 7, 8, 9];
/// How far a length strays from the exact fit.
const STRAY: [i64; 7] = [-16, -8, -1, 0, 1, 8, 16];
/// Ways through the cells of a tour. Primes above the number of cells, so that none is left out.
const STRIDES: [u64; 4] = [1009, 1013, 1019, 1021];
/// The longest message of `Mix::Short` and of `Mix::Named`.
const SHORT_MAX: u64 = 64;
/// The last message of a producer has this length, or the nearest the channel takes.
const END_LEN: u64 = 17;

impl SizeWalk {
    /// The walk of one producer. `overhead` is what the ring adds to a message, 0 where there is
    /// no ring that is known.
    pub(crate) fn new(
        (seed, producer): (u64, u32),
        mix_of_sizes: Mix,
        limits: Limits,
        min_len: usize,
        overhead: u64,
    ) -> SizeWalk {
        let stream = mix(seed ^ mix(u64::from(producer) + 1));
        let short = limits.max_len.min(SHORT_MAX);
        let (min, max) = match mix_of_sizes {
            Mix::Short => (min_len as u64, short),
            Mix::Named => ((HEADER_LEN as u64).max(min_len as u64), short),
            Mix::Boundaries | Mix::Sequences => (min_len as u64, limits.max_len),
        };
        let shape = Shape {
            capacity: limits.capacity.max(max),
            least: Shape::span(min, overhead),
            most: Shape::span(max, overhead),
        };
        let sequences = (mix_of_sizes == Mix::Sequences).then(|| Sequences::new(shape, overhead));
        SizeWalk {
            random: Pcg64Mcg::seed_from_u64(stream),
            mix: mix_of_sizes,
            min,
            max,
            shape,
            overhead,
            position: 0,
            aim: None,
            place: stream % 1024,
            stride: STRIDES[usize::try_from(stream >> 32).expect("32 bits") % STRIDES.len()],
            sequences,
        }
    }

    /// The length of the next message.
    pub(crate) fn step(&mut self) -> usize {
        let len = match (self.mix, &mut self.sequences) {
            (_, Some(sequences)) => sequences.step(self.position),
            (Mix::Boundaries, None) => self.boundary(),
            (_, None) => self.random.random_range(self.min..=self.max),
        };
        let len = len.clamp(self.min, self.max);
        let span = Shape::span(len, self.overhead);
        let is_padded = self.position + span > self.shape.capacity;
        let start = if is_padded { 0 } else { self.position };
        self.position = (start + span) % self.shape.capacity;
        usize::try_from(len).expect("a message fits in memory")
    }

    /// How many sequences have been sent of how many, if that is what it walks through.
    pub(crate) fn sequences(&self) -> Option<(u64, u64)> {
        self.sequences.as_ref().map(|all| (all.sent(self.position), all.count()))
    }

    /// Whether the walk has an end, and has reached it.
    pub(crate) fn is_over(&self) -> bool {
        self.sequences().is_some_and(|(sent, count)| sent >= count)
    }

    /// The length of the last message.
    pub(crate) fn end_len(&self) -> usize {
        usize::try_from(END_LEN.clamp(self.min, self.max)).expect("a few bytes")
    }

    fn boundary(&mut self) -> u64 {
        if self.aim.is_none() && self.overhead > 0 && self.random.random_bool(0.5) {
            self.aim = self.draw_aim();
        }
        if let Some(aim) = self.aim {
            return self.towards(aim);
        }
        let gap = self.shape.capacity - self.position;
        match self.random.random_range(0..100_u32) {
            0..35 => TINY[self.pick(TINY.len())],
            35..45 => self.stray(self.shape.capacity / 2),
            45..50 => self.max - self.random.random_range(0..=1).min(self.max),
            50..75 => self.stray(gap),
            _ => self.log_uniform(),
        }
    }

    /// The next cell of a tour through all classes of gaps and all fits, if it can be reached.
    fn draw_aim(&mut self) -> Option<Aim> {
        let Shape { capacity, most, .. } = self.shape;
        let grain = Grain::for_ring(capacity);
        let places = 3 * grain.classes(capacity) as u64;
        self.place = (self.place + self.stride) % places;
        let (class, fit) = (self.place / 3, self.place % 3);
        let (low, high) = grain.gaps(class as usize, capacity);
        let gap = low + 8 * self.random.random_range(0..=(high - low) / 8);
        let fit = [Fit::Inside, Fit::Exact, Fit::Pad][fit as usize];
        // One record must lead there from the start.
        let is_near = gap == capacity || capacity - gap <= most;
        let aim = Aim { gap, fit, started: self.position == 0 };
        (is_near && self.shape.can_fit(gap, fit)).then_some(aim)
    }

    /// The next message on the way to an aim, or the one that meets it.
    fn towards(&mut self, aim: Aim) -> u64 {
        let Shape { capacity, least, most } = self.shape;
        let gap = capacity - self.position;
        if aim.started && gap == aim.gap {
            self.aim = None;
            let (low, high) = match aim.fit {
                Fit::Inside => (least, gap - 8),
                Fit::Exact => (gap, gap),
                // Short ones, as long ones leave no room for the pad and the record at a time.
                Fit::Pad => (least.max(gap + 8), most.min(least.max(gap + 8) + 16)),
            };
            return self.len_within(low, high);
        }
        if self.position == 0 {
            self.aim = Some(Aim { started: true, ..aim });
            return self.len_within(capacity - aim.gap, capacity - aim.gap);
        }
        // Straight to the start; from a gap too short for any record, by way of a pad.
        let span = gap.max(least).min(most);
        self.aim = Some(Aim { started: span == gap, ..aim });
        self.len_within(span, span)
    }

    /// A length whose record spans between so many bytes, more often one of the two than not.
    fn len_within(&mut self, low: u64, high: u64) -> u64 {
        let span = match self.random.random_range(0..3) {
            0 => low,
            1 => high,
            _ => low + 8 * self.random.random_range(0..=(high - low) / 8),
        };
        let below = [0, 7, self.random.random_range(0..8)][self.pick(3)];
        (span - self.overhead).saturating_sub(below)
    }

    /// A length whose record fills about so many bytes.
    fn stray(&mut self, record: u64) -> u64 {
        let stray = STRAY[self.pick(STRAY.len())];
        record.saturating_sub(self.overhead).saturating_add_signed(stray)
    }

    /// As many short as long ones, by order of magnitude.
    fn log_uniform(&mut self) -> u64 {
        let bits = u64::BITS - self.max.leading_zeros();
        let below = 1_u64 << self.random.random_range(0..=bits);
        self.random.next_u64() % below
    }

    fn pick(&mut self, len: usize) -> usize {
        self.random.random_range(0..len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::{Map, State};

    const LIMITS: Limits = Limits { max_len: 248, capacity: 264 };

    fn walk(seed: u64, producer: u32) -> Vec<usize> {
        let mut walk = SizeWalk::new((seed, producer), Mix::Boundaries, LIMITS, 0, 8);
        (0..5_000).map(|_| walk.step()).collect()
    }

    #[test]
    fn a_seed_fixes_the_walk_for_ever() {
        assert_eq!(walk(1, 0), walk(1, 0));
        assert_ne!(walk(1, 0), walk(2, 0));
        assert_ne!(walk(1, 0), walk(1, 1));
        assert_eq!(walk(1, 0)[..8], [1, 233, 128, 113, 80, 172, 0, 64]);
    }

    #[test]
    fn every_boundary_is_visited() {
        let lengths = walk(3, 0);
        for len in [0, 1, 7, 8, 9, 123, 124, 125, 247, 248] {
            assert!(lengths.contains(&len), "{len} never drawn");
        }
        assert!(lengths.iter().all(|&len| len <= 248));
    }

    #[test]
    fn every_cell_is_met_soon_in_small_and_large_rings() {
        for (capacity, overhead, grain, steps) in [
            (80, 8, Grain::Residues, 400),
            (80, 16, Grain::Residues, 400),
            (272, 8, Grain::Residues, 1_000),
            (272, 16, Grain::Residues, 1_000),
            (4112, 16, Grain::Magnitudes, 800),
            ((1 << 20) + 16, 8, Grain::Magnitudes, 1_000),
        ] {
            let limits = Limits { max_len: capacity - 8 - overhead, capacity };
            let mut walk = SizeWalk::new((5, 0), Mix::Boundaries, limits, 0, overhead);
            let mut map = Map::new(walk.shape, grain, overhead);
            for _ in 0..steps {
                map.pass(walk.step(), State::Ahead);
            }
            assert!(!map.lacks(State::Ahead), "{capacity} {overhead}: {:?}", map.cells().missing);
        }
    }

    #[test]
    fn limits_hold() {
        let mut walk = SizeWalk::new((1, 0), Mix::Short, LIMITS, 1, 8);
        assert!((0..1_000).all(|_| (1..=64).contains(&walk.step())));
        assert_eq!(walk.end_len(), 17);
        let mut walk = SizeWalk::new((1, 0), Mix::Named, LIMITS, 0, 8);
        assert!((0..1_000).all(|_| (24..=64).contains(&walk.step())));
        assert_eq!(walk.end_len(), 24);
    }
}
