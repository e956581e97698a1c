//! Which length each verified message has: a walk that both ends take from the same seed.
//!
//! The walk leans on what breaks rings: the shortest messages, half a ring, the longest message,
//! and what is left up to the end of the ring, a little more and a little less. A producer knows
//! its own records only, so with several the end is guessed, and the walk visits it by chance.

use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::{
    payload::mix,
    protocol::{Limits, Mix},
};

/// The lengths of one producer's messages, in order.
#[derive(Debug)]
pub(crate) struct SizeWalk {
    random: Pcg64Mcg,
    mix: Mix,
    min: u64,
    max: u64,
    capacity: u64,
    overhead: u64,
    position: u64,
}

/// Lengths around the smallest record and its alignment.
const TINY: [u64; 5] = [0, 1, 7, 8, 9];
/// How far a length strays from the exact fit.
const STRAY: [i64; 7] = [-16, -8, -1, 0, 1, 8, 16];
/// The longest message of `Mix::Short`.
const SHORT_MAX: u64 = 64;
/// The last message of a producer has this length, or the nearest the channel takes.
const END_LEN: u64 = 17;

impl SizeWalk {
    /// The walk of one producer. `overhead` is what the ring adds to a message.
    pub(crate) fn new(
        (seed, producer): (u64, u32),
        mix_of_sizes: Mix,
        limits: Limits,
        min_len: usize,
        overhead: u64,
    ) -> SizeWalk {
        let stream = mix(seed ^ mix(u64::from(producer) + 1));
        let short = limits.max_len.min(SHORT_MAX);
        SizeWalk {
            random: Pcg64Mcg::seed_from_u64(stream),
            mix: mix_of_sizes,
            min: min_len as u64,
            max: if mix_of_sizes == Mix::Short { short } else { limits.max_len },
            capacity: limits.capacity.max(limits.max_len),
            overhead,
            position: 0,
        }
    }

    /// The length of the next message.
    pub(crate) fn step(&mut self) -> usize {
        let len = match self.mix {
            Mix::Short => self.random.random_range(0..=self.max),
            Mix::Boundaries => self.boundary(),
        };
        let len = len.clamp(self.min, self.max);
        let record = (len + self.overhead).next_multiple_of(8);
        let is_padded = self.position + record > self.capacity;
        let start = if is_padded { 0 } else { self.position };
        self.position = (start + record) % self.capacity;
        usize::try_from(len).expect("a message fits in memory")
    }

    /// The length of the last message.
    pub(crate) fn end_len(&self) -> usize {
        usize::try_from(END_LEN.clamp(self.min, self.max)).expect("a few bytes")
    }

    fn boundary(&mut self) -> u64 {
        match self.random.random_range(0..100_u32) {
            0..35 => TINY[self.pick(TINY.len())],
            35..45 => self.stray(self.capacity / 2),
            45..50 => self.max - self.random.random_range(0..=1).min(self.max),
            50..75 => self.stray(self.capacity - self.position),
            _ => self.log_uniform(),
        }
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

    const LIMITS: Limits = Limits { max_len: 248, capacity: 256 };

    fn walk(seed: u64, producer: u32) -> Vec<usize> {
        let mut walk = SizeWalk::new((seed, producer), Mix::Boundaries, LIMITS, 0, 8);
        (0..5_000).map(|_| walk.step()).collect()
    }

    #[test]
    fn a_seed_fixes_the_walk_for_ever() {
        assert_eq!(walk(1, 0), walk(1, 0));
        assert_ne!(walk(1, 0), walk(2, 0));
        assert_ne!(walk(1, 0), walk(1, 1));
        assert_eq!(walk(1, 0)[..8], [1, 1, 104, 119, 7, 1, 22, 1]);
    }

    #[test]
    fn every_boundary_is_visited() {
        let lengths = walk(3, 0);
        for len in [0, 1, 7, 8, 9, 119, 120, 121, 247, 248] {
            assert!(lengths.contains(&len), "{len} never drawn");
        }
        assert!(lengths.iter().all(|&len| len <= 248));
    }

    #[test]
    fn every_gap_at_the_end_is_met_exactly() {
        let mut walk = SizeWalk::new((5, 0), Mix::Boundaries, LIMITS, 0, 8);
        let mut exact = [false; 32];
        for _ in 0..20_000 {
            let gap = 256 - walk.position;
            let record = (walk.step() as u64 + 8).next_multiple_of(8);
            exact[usize::try_from(gap / 8 - 1).expect("below 32")] |= record == gap;
        }
        assert_eq!(exact, [true; 32]);
    }

    #[test]
    fn limits_hold() {
        let mut walk = SizeWalk::new((1, 0), Mix::Short, LIMITS, 1, 8);
        assert!((0..1_000).all(|_| (1..=64).contains(&walk.step())));
        assert_eq!(walk.end_len(), 17);
    }
}
