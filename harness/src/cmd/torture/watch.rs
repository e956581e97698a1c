//! The orchestrator's look at a torture under load: which faults, what they cost the others, which
//! states were met, and how the messages came over time.

use std::path::Path;

use hdrhistogram::Histogram;
use ipmpsc::SharedRingBuffer;
use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use crate::{
    child::Trouble,
    emulation,
    journal::Journal,
    record::{FaultCount, TimelineRow},
    scenario::silence_max_ms,
    sys::now_ns,
};

/// Between two samples of a timeline.
const SAMPLE_NS: u64 = 50_000_000;
/// An even number of samples and marks at most, however long it takes.
const KEPT_MAX: usize = 400;
/// A free part of the ring smaller than this is none.
const FULL_PARTS: u64 = 8;
/// Past this a gap is counted as this long.
const LONGEST_NS: u64 = 60_000_000_000;

/// The end of a stop, among the marks of a timeline.
const RESUME: &str = "resume";

/// What is done to a process under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    KillProducer,
    /// While it is stopped.
    KillFrozenProducer,
    FreezeProducer,
    FreezeConsumer,
    KillConsumer,
}

/// All of them, with the name of each and how often it is drawn.
const FAULTS: [(Fault, &str, u32); 5] = [
    (Fault::KillProducer, "kill producer", 55),
    (Fault::KillFrozenProducer, "kill stopped producer", 5),
    (Fault::FreezeProducer, "freeze producer", 15),
    (Fault::FreezeConsumer, "freeze consumer", 10),
    (Fault::KillConsumer, "kill consumer", 15),
];

impl Fault {
    /// One at random; the consumer is killed only where none of its messages goes with it.
    pub(super) fn draw(random: &mut Pcg64Mcg, consumer_too: bool) -> Fault {
        let mut left = random.random_range(0..FAULTS.iter().map(|(_, _, share)| share).sum());
        let drawn = FAULTS.iter().find(|(_, _, share)| {
            let is_it = left < *share;
            left = left.saturating_sub(*share);
            is_it
        });
        match drawn {
            Some((Fault::KillConsumer, ..)) if !consumer_too => Fault::KillProducer,
            Some(&(fault, ..)) => fault,
            None => unreachable!("less than the sum of the shares"),
        }
    }

    fn index(self) -> usize {
        FAULTS.iter().position(|(fault, ..)| *fault == self).expect("the table has all")
    }

    fn name(self) -> &'static str {
        FAULTS[self.index()].1
    }

    fn kills(self) -> bool {
        matches!(self, Fault::KillProducer | Fault::KillFrozenProducer | Fault::KillConsumer)
    }
}

/// For how long each process of the load has waited for a processor so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits {
    pub(super) consumer: (u32, u64),
    pub(super) producers: Vec<(u32, u64)>,
}

impl Waits {
    /// The part of a gap between two messages that the kernel accounts for: a message needs the
    /// consumer and any one producer, so what kept the consumer waiting counts, and what kept that
    /// producer waiting that waited least. A process that began since then counts from its start.
    fn since(&self, earlier: &Waits) -> u64 {
        let known: Vec<_> = earlier.producers.iter().chain([&earlier.consumer]).collect();
        let grown = |&(pid, now): &(u32, u64)| {
            let before = known.iter().find(|(known, _)| *known == pid).map_or(0, |(_, ns)| *ns);
            now.saturating_sub(before)
        };
        grown(&self.consumer) + self.producers.iter().map(grown).min().unwrap_or(0)
    }
}

/// Whether a recovery was in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    InTime,
    /// It would have been, had the kernel let the others run.
    Starved,
    TooLong,
}

/// What is held against the channel: a gap that is too long even without what the machine took.
fn held(gap_ns: u64, starved_ns: u64) -> Held {
    let allowed = silence_max_ms(emulation::anywhere().is_some()) * 1_000_000;
    match gap_ns {
        gap if gap <= allowed => Held::InTime,
        gap if gap.saturating_sub(starved_ns) <= allowed => Held::Starved,
        _ => Held::TooLong,
    }
}

/// Every item as long as there is room, then every second, every fourth..
#[derive(Debug)]
struct Thinned<T> {
    kept: Vec<T>,
    stride: usize,
    seen: usize,
}

impl<T> Thinned<T> {
    fn new() -> Thinned<T> {
        Thinned { kept: Vec::new(), stride: 1, seen: 0 }
    }

    fn push(&mut self, item: T) {
        let is_kept = self.seen.is_multiple_of(self.stride);
        self.seen += 1;
        if !is_kept {
            return;
        }
        if self.kept.len() == KEPT_MAX {
            let mut is_even = false;
            self.kept.retain(|_| {
                is_even = !is_even;
                is_even
            });
            self.stride *= 2;
        }
        self.kept.push(item);
    }
}

/// The last fault, until the next one shows what it has cost.
#[derive(Clone, Debug)]
struct Last {
    fault: Fault,
    at_ns: u64,
    /// For how long a process was stopped by it.
    stopped_ns: u64,
    waits: Waits,
}

/// What one round has shown so far.
#[derive(Debug)]
pub(super) struct Watch {
    journal: Journal,
    ring: SharedRingBuffer,
    ring_bytes: u64,
    started_ns: u64,
    last: Option<Last>,
    recoveries: Vec<Histogram<u64>>,
    /// The longest recovery from a kill that was too long, and what the kernel accounts for of it.
    too_long: Option<(u64, u64)>,
    starved: u64,
    asleep: u64,
    full: u64,
    sampled_ns: Option<u64>,
    samples: Thinned<(u64, u64)>,
    marks: Thinned<(u64, String)>,
    recovered: Thinned<(u64, String, u64)>,
}

impl Watch {
    /// Begins to watch the ring at this path.
    pub(super) fn new(journal: Journal, ring: &Path, ring_bytes: u64) -> Result<Watch, Trouble> {
        let ring = SharedRingBuffer::options().open(ring);
        let ring = ring.map_err(|error| Trouble::Failed(format!("look into the ring: {error}")))?;
        let histogram = || Histogram::new_with_max(LONGEST_NS, 3);
        let recoveries = FAULTS.iter().map(|_| histogram()).collect::<Result<_, _>>();
        Ok(Watch {
            journal,
            ring,
            ring_bytes,
            started_ns: now_ns(),
            last: None,
            recoveries: recoveries.expect("three digits up to a minute"),
            too_long: None,
            starved: 0,
            asleep: 0,
            full: 0,
            sampled_ns: None,
            samples: Thinned::new(),
            marks: Thinned::new(),
            recovered: Thinned::new(),
        })
    }

    /// A fault is about to happen: the last one's consequences end here.
    pub(super) fn strikes(&mut self, fault: Fault, waits: Waits) {
        self.settles(&waits);
        let at_ns = self.elapsed_ns();
        self.last = Some(Last { fault, at_ns, stopped_ns: 0, waits });
        self.journal.set_out(now_ns());
        self.marks.push((at_ns, fault.name().into()));
    }

    /// The victim was stopped for so long.
    pub(super) fn thawed(&mut self, time: std::time::Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(last) = &mut self.last {
            last.stopped_ns += time;
        }
        self.marks.push((self.elapsed_ns(), RESUME.into()));
    }

    /// What the last fault has cost is what it will have cost.
    pub(super) fn settles(&mut self, waits: &Waits) {
        let gap = self.journal.take_gap_ns(now_ns());
        let Some(Last { fault, at_ns, stopped_ns, waits: before }) = self.last.take() else {
            return;
        };
        let gap = gap.saturating_sub(stopped_ns);
        self.recoveries[fault.index()].saturating_record(gap);
        self.recovered.push((at_ns, fault.name().into(), gap));
        if fault.kills() {
            let starved = waits.since(&before);
            match held(gap, starved) {
                Held::InTime => {}
                Held::Starved => self.starved += 1,
                Held::TooLong => self.too_long = self.too_long.max(Some((gap, starved))),
            }
        }
    }

    /// Samples what goes on.
    pub(super) fn look(&mut self) {
        let now = self.elapsed_ns();
        if self.sampled_ns.is_none_or(|at| now >= at + SAMPLE_NS) {
            let stats = self.ring.stats();
            self.asleep += u64::from(stats.blocked_senders > 0);
            let free = self.ring_bytes.saturating_sub(stats.used);
            self.full += u64::from(free < self.ring_bytes / FULL_PARTS);
            self.sampled_ns = Some(now);
            self.samples.push((now, self.messages()));
        }
    }

    pub(super) fn messages(&self) -> u64 {
        self.journal.messages()
    }

    pub(super) fn received(&self, producer: u32, life: u32) -> u64 {
        self.journal.received(producer, life)
    }

    pub(super) fn came_again(&self) -> u64 {
        self.journal.again()
    }

    pub(super) fn elapsed_ns(&self) -> u64 {
        now_ns() - self.started_ns
    }

    pub(super) fn asleep(&self) -> u64 {
        self.asleep
    }

    pub(super) fn full(&self) -> u64 {
        self.full
    }

    pub(super) fn starved(&self) -> u64 {
        self.starved
    }

    /// The longest recovery from a kill that nothing excuses, and what the kernel accounts for of
    /// it.
    pub(super) fn too_long(&self) -> Option<(u64, u64)> {
        self.too_long
    }

    /// At least so many times around, since no message is shorter than its header.
    pub(super) fn laps(&self) -> u64 {
        self.ring.stats().received * crate::payload::HEADER_LEN as u64 / self.ring_bytes
    }

    /// The longest that a death has held anybody up.
    pub(super) fn longest_recovery_ns(&self) -> u64 {
        let kills = FAULTS.iter().zip(&self.recoveries).filter(|((fault, ..), _)| fault.kills());
        kills.map(|(_, recoveries)| recoveries.max()).max().unwrap_or(0)
    }

    /// Each kind that happened.
    pub(super) fn counts(&self) -> Vec<FaultCount> {
        let kinds = FAULTS.iter().zip(&self.recoveries).filter(|(_, count)| !count.is_empty());
        kinds
            .map(|((_, name, _), recoveries)| FaultCount {
                fault: (*name).into(),
                count: recoveries.len(),
                recovery: recoveries
                    .iter_recorded()
                    .map(|at| (at.value_iterated_to(), at.count_since_last_iteration()))
                    .collect(),
            })
            .collect()
    }

    /// The samples and marks, to be named by whoever knows the round.
    pub(super) fn timeline(self, transport: &str) -> TimelineRow {
        TimelineRow {
            name: String::new(),
            transport: transport.into(),
            received: self.samples.kept,
            marks: self.marks.kept,
            recoveries: self.recovered.kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::scenario::SILENCE_MAX_MS;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_gap_is_excused_by_no_more_than_the_kernel_kept_somebody_waiting() {
        assert_eq!(held(SILENCE_MAX_MS * MS, 0), Held::InTime);
        assert_eq!(held((SILENCE_MAX_MS + 50) * MS, 49 * MS), Held::TooLong);
        assert_eq!(held((SILENCE_MAX_MS + 50) * MS, 50 * MS), Held::Starved);
    }

    #[test]
    fn the_producer_that_waited_least_and_the_consumer_count() {
        let earlier = Waits { consumer: (1, 10), producers: vec![(2, 100), (3, 5)] };
        let later = Waits { consumer: (1, 14), producers: vec![(2, 130), (4, 60), (3, 70)] };
        assert_eq!(later.since(&earlier), 4 + 30);
        let heir = Waits { consumer: (9, 8), producers: vec![(3, 6)] };
        assert_eq!(heir.since(&earlier), 8 + 1);
    }

    #[test]
    fn what_is_thinned_stays_even() {
        let mut thinned = Thinned::new();
        (0..3 * KEPT_MAX).for_each(|item| thinned.push(item));
        assert!(thinned.kept.len() <= KEPT_MAX);
        assert!(thinned.kept.windows(2).all(|pair| pair[1] - pair[0] == 4), "{:?}", thinned.kept);
    }
}
