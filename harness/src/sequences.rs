//! Every sequence of four lengths through a small ring, each from the ring's start; so every
//! shorter one as well, as a beginning of one.
//!
//! The lengths are one record of each span that the ring can hold. Where those are so many that
//! all fours would take too long, they are the spans around the boundaries: the shortest two, the
//! three around half the ring, the longest two. In the smallest ring each span stands for two
//! lengths, the longest message of it and the shortest; in others for the one or the other, by
//! turns.

use crate::{coverage::Shape, payload::mix};

/// Lengths in a sequence.
const PLACES: usize = 4;
/// More lengths than this take too long where every ring has so many: 10,000 sequences.
const SPANS_MAX: usize = 10;
/// The smallest ring has 13: 28,561 sequences.
const SMALLEST: u64 = 64;

/// The walk through all of them.
#[derive(Debug)]
pub(crate) struct Sequences {
    shape: Shape,
    overhead: u64,
    /// What a place in a sequence may be: one of two lengths of one span, by turns.
    lengths: Vec<[u64; 2]>,
    /// Which one is being sent, and how many of its lengths have been.
    number: u64,
    sent: usize,
}

impl Sequences {
    /// At the first one. `overhead` is what the ring adds to a message.
    pub(crate) fn new(shape: Shape, overhead: u64) -> Sequences {
        Sequences { shape, overhead, lengths: lengths(shape, overhead), number: 0, sent: 0 }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        (self.lengths.len() as u64).pow(PLACES as u32)
    }

    /// The length of the next message, for a record that begins at `position`.
    pub(crate) fn step(&mut self, position: u64) -> u64 {
        if self.sent == PLACES && position == 0 {
            (self.number, self.sent) = (self.number + 1, 0);
        }
        if self.sent == PLACES {
            // Back to the start; from a gap too short for any record, by way of a pad.
            return (self.shape.capacity - position).max(self.shape.least) - self.overhead;
        }
        let base = self.lengths.len() as u64;
        let digit = self.number / base.pow(self.sent as u32) % base;
        let turn = mix(self.number) >> self.sent & 1;
        self.sent += 1;
        let [longest, shortest] = self.lengths[digit as usize];
        if turn == 0 { longest } else { shortest }
    }

    /// How many have been sent, the next record beginning at `position`.
    pub(crate) fn sent(&self, position: u64) -> u64 {
        self.number + u64::from(self.sent == PLACES && position == 0)
    }
}

fn lengths(shape: Shape, overhead: u64) -> Vec<[u64; 2]> {
    let Shape { capacity, least, most } = shape;
    let mut spans: Vec<_> = (least..=most).step_by(8).collect();
    let is_smallest = spans.len() < SPANS_MAX && capacity == SMALLEST;
    if spans.len() > SPANS_MAX {
        let half = (capacity / 2).next_multiple_of(8);
        spans = vec![least, least + 8, half - 8, half, half + 8, most - 8, most];
    }
    let both = |span: u64| [span - overhead, (span - overhead).saturating_sub(7)];
    if !is_smallest {
        return spans.into_iter().map(both).collect();
    }
    let mut each: Vec<_> = spans.into_iter().flat_map(both).map(|len| [len, len]).collect();
    // The shortest span holds nothing, whichever end of it is asked for.
    each.dedup();
    each
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn shape(capacity: u64, least: u64) -> Shape {
        Shape { capacity, least, most: capacity - 8 }
    }

    #[test]
    fn the_lengths_are_those_around_each_boundary() {
        let smallest = lengths(shape(64, 8), 8).concat();
        let all = [0, 8, 1, 16, 9, 24, 17, 32, 25, 40, 33, 48, 41];
        assert_eq!(smallest, all.map(|len| [len, len]).concat());
        assert_eq!(lengths(shape(88, 8), 8).len(), 10);
        let edges = [[0, 0], [8, 1], [112, 105], [120, 113], [128, 121], [232, 225], [240, 233]];
        assert_eq!(lengths(shape(256, 8), 8), edges);
        let count: u64 = (64..=256)
            .step_by(8)
            .map(|capacity| Sequences::new(shape(capacity, 8), 8).count())
            .sum();
        assert_eq!(count, 99_639, "what the scenario has to get through");
    }

    #[test]
    fn each_sequence_is_sent_once_and_from_the_start() {
        for (capacity, least, overhead) in [(64, 8, 8), (64, 16, 16), (136, 8, 8)] {
            let mut all = Sequences::new(shape(capacity, least), overhead);
            let (mut position, mut seen) = (0, BTreeSet::new());
            let mut lengths = BTreeSet::new();
            while all.sent(position) < all.count() {
                let mut sequence = Vec::new();
                assert_eq!(position, 0);
                loop {
                    let len = all.step(position);
                    assert!(len + overhead <= capacity - 8);
                    let span = Shape::span(len, overhead);
                    let start = if position + span > capacity { 0 } else { position };
                    position = (start + span) % capacity;
                    if sequence.len() < PLACES {
                        sequence.push(span);
                        lengths.insert(len);
                    }
                    if sequence.len() == PLACES && position == 0 {
                        break;
                    }
                }
                assert!(seen.insert(sequence) || capacity == 64);
            }
            assert!(lengths.len() > 7 && lengths.contains(&0));
            if capacity == 64 {
                continue;
            }
            assert_eq!(seen.len() as u64, all.count());
        }
    }
}
