//! The orchestrator's look at a torture under load: which faults, what they cost the others, which
//! states were met, and how the messages came over time.

use std::path::Path;

use hdrhistogram::Histogram;
use ipmpsc::SharedRingBuffer;
use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use crate::{
    child::Trouble,
    journal::Journal,
    record::{FaultCount, TimelineRow},
    sys::now_ns,
};

/// Between two samples of a timeline,
const SAMPLE_NS: u64 = 50_000_000;
/// of which no more than these are kept, and of its marks.
const SAMPLES_MAX: usize = 400;
/// Past this a gap is counted as this long.
const LONGEST_NS: u64 = 60_000_000_000;

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

    fn kills(self) -> bool {
        matches!(self, Fault::KillProducer | Fault::KillFrozenProducer | Fault::KillConsumer)
    }
}

/// What one round has shown so far.
#[derive(Debug)]
pub(super) struct Watch {
    journal: Journal,
    ring: SharedRingBuffer,
    ring_bytes: u64,
    started_ns: u64,
    /// The last fault, and for how long a process was stopped by it.
    last: Option<(Fault, u64)>,
    recoveries: Vec<Histogram<u64>>,
    asleep: u64,
    samples: Vec<(u64, u64)>,
    marks: Vec<(u64, String)>,
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
            asleep: 0,
            samples: Vec::new(),
            marks: Vec::new(),
        })
    }

    /// A fault is about to happen: the last one's consequences end here.
    pub(super) fn strikes(&mut self, fault: Fault) {
        self.settles();
        self.last = Some((fault, 0));
        self.journal.set_out(now_ns());
        if self.marks.len() < SAMPLES_MAX {
            let name = FAULTS[fault.index()].1.into();
            self.marks.push((self.elapsed_ns(), name));
        }
    }

    /// The victim was stopped for so long.
    pub(super) fn thawed(&mut self, time: std::time::Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.last = self.last.map(|(fault, stopped)| (fault, stopped + time));
    }

    /// What the last fault has cost is what it will have cost.
    pub(super) fn settles(&mut self) {
        let gap = self.journal.take_gap_ns(now_ns());
        if let Some((fault, stopped)) = self.last.take() {
            self.recoveries[fault.index()].saturating_record(gap.saturating_sub(stopped));
        }
    }

    /// Samples what goes on.
    pub(super) fn look(&mut self) {
        let now = self.elapsed_ns();
        let due = self.samples.last().is_none_or(|&(at, _)| now >= at + SAMPLE_NS);
        if due {
            let stats = self.ring.stats();
            self.asleep += u64::from(stats.blocked_senders > 0);
            if self.samples.len() < SAMPLES_MAX {
                self.samples.push((now, self.messages()));
            }
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
            received: self.samples,
            marks: self.marks,
        }
    }
}
