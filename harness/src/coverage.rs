//! The map of states that a verification must have reached: where the ring's end lay, how a record
//! met it, and what the consumer was doing. Pure: it knows lengths and states, no ring.
//!
//! The crate's rule, which the map is derived from (`ipmpsc/src/layout.rs`): a record *spans* a
//! header of 8 bytes and its payload, rounded up to 8; it is never split; 8 bytes after it must be
//! free, so the longest span is the capacity less 8. Records are delivered in the order in which
//! their space was claimed, so the receiver can follow the position from the lengths alone.
//!
//! A cell is *gap x fit x consumer*:
//!
//! * gap: bytes from where the record would begin to the ring's end, 8 to the capacity. A record
//!   that wraps, one that begins a lap, has the whole capacity for its gap.
//! * fit: `inside` ends before the ring does; `exact` ends where it ends, so that the next one
//!   wraps without a pad; `pad` is longer than the gap, which is filled by a pad, and the record
//!   lies at the ring's start.
//! * consumer, as it found that record: `behind`, it was there at the first look; `ahead`, the
//!   first look found the ring empty, and the consumer was awake until it came; `asleep`, likewise,
//!   but the kernel says that it gave its processor up in between.
//!
//! Not required, because no run can reach them, with `least` and `most` the shortest and the
//! longest span:
//!
//! * gaps of less than `least` behind the ring's start: no record is so short;
//! * `inside` of a gap below `least + 8`, `exact` above `most` or below `least`, and `pad` from
//!   `most` on;
//! * `pad` and `behind` where pad, record and the 8 bytes after them are more than the ring: then
//!   the record is claimed only after the consumer has looked, and passed the pad;
//! * `pad` and `behind` of a gap above an eighth of a ring above 4 KiB: what lies before has to be
//!   freed first, so that the record is there at the first look only by a rare chance.
//!
//! `exact` and `behind` is required of every gap, though the record at the ring's start has to be
//! freed before: a consumer that then holds back until the producer has copied finds it there.
//!
//! Where gaps share a cell, it is required if that holds for less than three quarters of them.

use serde::{Deserialize, Serialize};

/// Spans and gaps are multiples of this.
const ALIGN: u64 = 8;
/// What must be free after a record.
const AFTER: u64 = 8;
/// Gaps up to this are told apart by `Grain::Magnitudes`.
const FINE: u64 = 32;
/// A cell is required if it is possible with one in so many of its gaps.
const LEAST_PART: u64 = 4;
const FITS: [Fit; 3] = [Fit::Inside, Fit::Exact, Fit::Pad];
const STATES: [State; 3] = [State::Behind, State::Ahead, State::Asleep];

/// How a record met the ring's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Inside,
    Exact,
    Pad,
}

/// What the consumer was doing when a record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Behind,
    Ahead,
    Asleep,
}

impl State {
    /// The next one in turn.
    pub(crate) fn next(self) -> State {
        STATES[(self as usize + 1) % STATES.len()]
    }
}

/// Which gaps are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grain {
    /// Each one.
    Residues,
    /// Those up to 32 bytes, the whole ring, and powers of two between them.
    Magnitudes,
    /// None: where several producers share a large ring, chance decides where it ends.
    Any,
}

/// The spans and gaps of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) capacity: u64,
    /// The shortest span.
    pub(crate) least: u64,
    /// The longest.
    pub(crate) most: u64,
}

impl Shape {
    /// Bytes of the ring that a message takes, `overhead` being what is added to it.
    pub(crate) fn span(len: u64, overhead: u64) -> u64 {
        (len + overhead).next_multiple_of(ALIGN)
    }

    /// Whether a record of some length meets a gap in this way.
    pub(crate) fn can_fit(self, gap: u64, fit: Fit) -> bool {
        let is_gap = gap == self.capacity || gap + self.least <= self.capacity;
        is_gap
            && match fit {
                Fit::Inside => self.least + ALIGN <= gap,
                Fit::Exact => (self.least..=self.most).contains(&gap),
                Fit::Pad => gap < self.most,
            }
    }

    /// Whether that is possible with the consumer in this state.
    fn can_be(self, gap: u64, fit: Fit, state: State) -> bool {
        let shortest = self.least.max(gap + ALIGN);
        let is_rare = self.capacity > 4096 && gap >= self.capacity / 8;
        let is_over = gap + shortest + AFTER > self.capacity;
        let looks_between = fit == Fit::Pad && (is_over || is_rare);
        self.can_fit(gap, fit) && !(looks_between && state == State::Behind)
    }

    fn gaps(self) -> impl Iterator<Item = u64> {
        (1..=self.capacity / ALIGN).map(|eights| eights * ALIGN)
    }
}

impl Grain {
    fn class(self, gap: u64, capacity: u64) -> usize {
        let class = match self {
            Grain::Any => 0,
            Grain::Residues => gap / ALIGN - 1,
            Grain::Magnitudes if gap <= FINE => gap / ALIGN - 1,
            Grain::Magnitudes if gap == capacity => self.classes(capacity) as u64 - 1,
            Grain::Magnitudes => FINE / ALIGN + u64::from(gap.ilog2() - FINE.ilog2()),
        };
        usize::try_from(class).expect("no more classes than bytes in a mapped ring")
    }

    /// The finest that is worth it.
    pub(crate) fn for_ring(capacity: u64) -> Grain {
        if capacity <= 512 { Grain::Residues } else { Grain::Magnitudes }
    }

    /// The shortest and the longest gap of a class, by its place modulo the number of classes.
    pub(crate) fn gaps(self, class: usize, capacity: u64) -> (u64, u64) {
        let class = class % self.classes(capacity);
        let bytes = (class as u64 + 1) * ALIGN;
        match self {
            Grain::Any => (ALIGN, capacity),
            Grain::Residues => (bytes, bytes),
            Grain::Magnitudes if bytes <= FINE => (bytes, bytes),
            Grain::Magnitudes if class + 1 == self.classes(capacity) => (capacity, capacity),
            Grain::Magnitudes => {
                let least = FINE << (class as u64 - FINE / ALIGN);
                (least.max(FINE + ALIGN), (2 * least).min(capacity) - ALIGN)
            }
        }
    }

    pub(crate) fn classes(self, capacity: u64) -> usize {
        match self {
            Grain::Any => 1,
            Grain::Residues => self.class(capacity, capacity) + 1,
            // The last one below the whole ring, and the whole ring.
            Grain::Magnitudes => self.class(capacity - ALIGN, capacity) + 2,
        }
    }

    fn name(self, class: usize, capacity: u64) -> String {
        match self.gaps(class, capacity) {
            _ if self == Grain::Any => "any gap".into(),
            (least, most) if least == most => format!("gap {least}"),
            (least, most) => format!("gap {least} to {most}"),
        }
    }
}

/// How much of what had to be reached was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cells {
    pub(crate) reached: u64,
    pub(crate) required: u64,
    /// The others by name.
    pub(crate) missing: Vec<String>,
}

impl Cells {
    /// So many of so many, which go by one name.
    pub(crate) fn of(reached: u64, required: u64, name: &str) -> Cells {
        let is_full = reached >= required;
        let missing = if is_full { Vec::new() } else { vec![name.to_owned()] };
        Cells { reached, required, missing }
    }

    /// The sum over channels.
    pub(crate) fn plus(mut self, other: Cells) -> Cells {
        self.missing.extend(other.missing);
        let (reached, required) = (self.reached + other.reached, self.required + other.required);
        Cells { reached, required, missing: self.missing }
    }
}

/// What one consumer has seen.
#[derive(Debug)]
pub(crate) struct Map {
    shape: Shape,
    grain: Grain,
    overhead: u64,
    offset: u64,
    cells: Vec<Cell>,
    /// Required cells that were not reached, by state.
    missing: [usize; STATES.len()],
    /// Records that began a lap.
    pub(crate) wrapped: u64,
    /// Of these, how many after a pad.
    pub(crate) padded: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Impossible,
    Missing,
    Reached,
}

impl Map {
    /// Nothing reached yet. `overhead` is what the ring adds to a message.
    pub(crate) fn new(shape: Shape, grain: Grain, overhead: u64) -> Map {
        let places = grain.classes(shape.capacity) * FITS.len() * STATES.len();
        let mut map = Map {
            shape,
            grain,
            overhead,
            offset: 0,
            cells: vec![Cell::Impossible; places],
            missing: [0; STATES.len()],
            wrapped: 0,
            padded: 0,
        };
        // By cell: gaps with which it is possible, and all of them.
        let mut gaps = vec![(0_u64, 0_u64); places];
        for gap in shape.gaps() {
            for (fit, state) in FITS.into_iter().flat_map(|fit| STATES.map(|state| (fit, state))) {
                let (possible, all) = &mut gaps[map.place(gap, fit, state)];
                *possible += u64::from(shape.can_be(gap, fit, state));
                *all += 1;
            }
        }
        for (place, (possible, all)) in gaps.into_iter().enumerate() {
            if possible > 0 && possible * LEAST_PART >= all {
                map.cells[place] = Cell::Missing;
                map.missing[place % STATES.len()] += 1;
            }
        }
        map
    }

    fn place(&self, gap: u64, fit: Fit, state: State) -> usize {
        let class = self.grain.class(gap, self.shape.capacity);
        (class * FITS.len() + fit as usize) * STATES.len() + state as usize
    }

    /// The next record, in the order of delivery. True if its cell had not been reached before.
    pub(crate) fn pass(&mut self, len: usize, state: State) -> bool {
        let span = Shape::span(len as u64, self.overhead);
        let gap = self.shape.capacity - self.offset;
        let fit = match span {
            _ if span < gap => Fit::Inside,
            _ if span == gap => Fit::Exact,
            _ => Fit::Pad,
        };
        self.offset = match fit {
            Fit::Inside => self.offset + span,
            Fit::Exact => 0,
            Fit::Pad => span,
        };
        self.wrapped += u64::from(fit != Fit::Inside);
        self.padded += u64::from(fit == Fit::Pad);
        let place = self.place(gap, fit, state);
        // One that no run can reach says that the rule above is wrong, or the ring; a record that
        // the ring cannot hold is found by whoever compares it.
        let is_new = self.cells[place] == Cell::Missing;
        if is_new {
            self.cells[place] = Cell::Reached;
            self.missing[state as usize] -= 1;
        }
        is_new
    }

    /// Whether anything is left to reach in this state.
    pub(crate) fn lacks(&self, state: State) -> bool {
        self.missing[state as usize] > 0
    }

    /// Whether everything was reached.
    pub(crate) fn is_full(&self) -> bool {
        self.missing.iter().sum::<usize>() == 0
    }

    /// The sum, with the names of what is missing.
    pub(crate) fn cells(&self) -> Cells {
        let count = |cell| self.cells.iter().filter(|&&found| found == cell).count() as u64;
        let name = |place: usize| {
            let state = STATES[place % STATES.len()];
            let fit = FITS[place / STATES.len() % FITS.len()];
            let class = place / STATES.len() / FITS.len();
            let gap = self.grain.name(class, self.shape.capacity);
            format!("{gap} {fit:?} {state:?}").to_lowercase()
        };
        let missing = (0..self.cells.len()).filter(|&place| self.cells[place] == Cell::Missing);
        Cells {
            reached: count(Cell::Reached),
            required: count(Cell::Reached) + count(Cell::Missing),
            missing: missing.map(name).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SMALL: Shape = Shape { capacity: 64, least: 8, most: 56 };

    #[test]
    fn records_are_placed_as_by_hand() {
        let mut map = Map::new(SMALL, Grain::Residues, 8);
        // Spans of 32, 32 | 8, 48 | a pad of 8, 32.
        for len in [24, 24, 0, 40, 24] {
            map.pass(len, State::Behind);
        }
        assert_eq!((map.wrapped, map.padded, map.offset), (2, 1, 32));
        let missing = map.cells().missing;
        for reached in ["gap 64 inside", "gap 32 exact", "gap 56 inside", "gap 8 pad"] {
            assert!(!missing.contains(&format!("{reached} behind")), "{reached}");
            assert!(missing.contains(&format!("{reached} asleep")), "{reached}");
        }
        assert_eq!(map.cells().reached, 4);
    }

    /// All (gap, fit) that any sequence of spans leads to.
    fn reachable(shape: Shape) -> BTreeSet<(u64, usize)> {
        let (mut seen, mut offsets, mut todo) = (BTreeSet::new(), BTreeSet::new(), vec![0]);
        while let Some(offset) = todo.pop() {
            if !offsets.insert(offset) {
                continue;
            }
            let gap = shape.capacity - offset;
            for span in (shape.least..=shape.most).step_by(8) {
                let (fit, next) = match span {
                    _ if span < gap => (Fit::Inside, offset + span),
                    _ if span == gap => (Fit::Exact, 0),
                    _ => (Fit::Pad, span),
                };
                seen.insert((gap, fit as usize));
                todo.push(next);
            }
        }
        seen
    }

    #[test]
    fn what_is_required_by_rule_is_what_a_search_reaches() {
        for capacity in (64..=272).step_by(8) {
            for least in [8, 16] {
                let shape = Shape { capacity, least, most: capacity - 8 };
                let by_rule: BTreeSet<_> = shape
                    .gaps()
                    .flat_map(|gap| FITS.map(|fit| (gap, fit)))
                    .filter(|&(gap, fit)| shape.can_fit(gap, fit))
                    .map(|(gap, fit)| (gap, fit as usize))
                    .collect();
                assert_eq!(by_rule, reachable(shape), "{shape:?}");
            }
        }
    }

    #[test]
    fn a_pad_and_its_record_that_overfill_the_ring_are_never_behind() {
        assert!(SMALL.can_be(24, Fit::Pad, State::Behind), "24 + 32 + 8 bytes");
        assert!(!SMALL.can_be(32, Fit::Pad, State::Behind), "32 + 40 + 8 bytes");
        assert!(SMALL.can_be(32, Fit::Pad, State::Asleep));
    }

    #[test]
    fn every_gap_has_a_class_and_every_class_a_name_of_its_own() {
        for grain in [Grain::Any, Grain::Residues, Grain::Magnitudes] {
            for capacity in [64, 80, 272, 4112, 1 << 20] {
                let classes: BTreeSet<_> =
                    (1..=capacity / 8).map(|eights| grain.class(eights * 8, capacity)).collect();
                let all: BTreeSet<_> = (0..grain.classes(capacity)).collect();
                assert_eq!(classes, all, "{grain:?} {capacity}");
                for &class in &all {
                    let (least, most) = grain.gaps(class, capacity);
                    let both = [least, most].map(|gap| grain.class(gap, capacity));
                    assert_eq!(both, [class, class], "{grain:?} {capacity}");
                }
                let names: BTreeSet<_> =
                    all.iter().map(|&class| grain.name(class, capacity)).collect();
                assert_eq!(names.len(), all.len(), "{grain:?} {capacity}");
            }
        }
    }

    #[test]
    fn a_full_map_has_nothing_missing() {
        let mut map = Map::new(SMALL, Grain::Any, 8);
        assert_eq!(map.cells().required, 9);
        for state in STATES {
            assert!(map.lacks(state) && !map.is_full());
            for len in [24, 24, 48, 48] {
                map.pass(len, state);
            }
        }
        assert!(map.is_full());
        assert_eq!(map.cells(), Cells { reached: 9, required: 9, missing: Vec::new() });
    }
}
