//! What is compared and in which order: every cell once in each block, rivals side by side.

use std::collections::BTreeSet;

use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

use crate::{
    args::{Options, RING_OVERHEAD},
    payload::TIMED_LEN,
    profile::Table,
    record::Cell,
    sys,
    transports::{ALL, Transport, find},
};

/// The form that is measured twice in each block.
const TWIN: &str = "ipmpsc";
/// The message where its length does not matter.
const SHORT: u64 = 64;
/// The message of which there are enough to fill a channel.
const FILLER: u64 = 1 << 10;

/// What is measured of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Throughput,
    PingPong,
    Latency { offered_per_s: u64 },
    Attach,
    Idle,
    Memory,
}

/// One measurement, which every block repeats.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) kind: Kind,
    pub(super) cell: Cell,
}

impl Run {
    /// What it is called on the screen and in a failed row.
    pub(super) fn name(&self) -> String {
        let Cell { transport, size, producers, .. } = &self.cell;
        let pinned = if self.cell.pinned { "pinned " } else { "" };
        let twin = if self.cell.twin { " (twin)" } else { "" };
        let what = match self.kind {
            Kind::Throughput => "throughput".into(),
            Kind::PingPong => "round trip".into(),
            Kind::Latency { offered_per_s } => format!("latency at {offered_per_s}/s"),
            Kind::Attach => "attach".into(),
            Kind::Idle => "idle".into(),
            Kind::Memory => "memory".into(),
        };
        format!("{pinned}{what} {transport}{twin}, {size} bytes, producers {producers}")
    }

    /// Whether blocks after the first leave it out: it is no matter of luck.
    pub(super) fn is_once(&self) -> bool {
        self.kind == Kind::Memory
    }

    fn group(&self) -> (Kind, u32, usize, u64, bool) {
        let Cell { producers, size, ring_bytes, pinned, .. } = self.cell;
        (self.kind, producers, size, ring_bytes, pinned)
    }
}

/// All measurements, and what had to be left out and why.
pub(super) fn runs(options: &Options, table: &Table) -> (Vec<Run>, Vec<(String, String)>) {
    let mut planner = Planner { options, table, runs: Vec::new(), skipped: Vec::new() };
    if sys::held_bytes().is_none() {
        planner.skip("memory", "the system does not say what memory a process holds");
    }
    let named =
        [&options.transports[..], table.transports].into_iter().find(|names| !names.is_empty());
    let compared =
        named.map_or(ALL.to_vec(), |names| names.iter().filter_map(|name| find(name)).collect());
    for transport in compared {
        if let Some(why) = transport.missing() {
            planner.skip(transport.name(), &why);
            continue;
        }
        planner.add(transport, false);
        if transport.name() == TWIN {
            planner.add(transport, true);
        }
    }
    // Whatever was named twice is measured once.
    planner.runs.sort();
    planner.runs.dedup();
    (planner.runs, planner.skipped)
}

struct Planner<'a> {
    options: &'a Options,
    table: &'a Table,
    runs: Vec<Run>,
    skipped: Vec<(String, String)>,
}

impl Planner<'_> {
    fn skip(&mut self, what: &str, why: &str) {
        self.skipped.push((what.into(), why.into()));
    }

    fn add(&mut self, transport: &dyn Transport, twin: bool) {
        let (table, all) = (self.table, self.options.producers);
        for producers in self.counts() {
            if transport.has_throughput(producers) {
                for size in self.sizes(table.throughput.sizes) {
                    self.push(Kind::Throughput, transport, producers, size, twin);
                }
            }
        }
        if self.options.sizes.is_empty() && transport.has_throughput(1) {
            for &size in table.large.sizes {
                self.push(Kind::Throughput, transport, 1, size, twin);
            }
            // The others have what buffers their kernel gives them.
            if self.options.ring_bytes.is_none() && transport.has_ring() {
                let by_one = table.ringed.iter().map(|&size| (1, size));
                let by_all = table.ringed_by_all.iter().map(|&size| (all, size));
                for of in by_one.chain(by_all).filter(|of| transport.has_throughput(of.0)) {
                    let usual = self.options.ring_for(of.1);
                    let rings = table.rings.iter().copied().chain([usual]);
                    for ring in rings.filter(|&ring| of.1 + RING_OVERHEAD <= ring) {
                        self.push_with(ring, Kind::Throughput, transport, of, twin);
                    }
                }
            }
        }
        if !transport.has_round_trip() {
            return;
        }
        for size in self.sizes(table.ping_pong.sizes) {
            self.push(Kind::PingPong, transport, 1, size, twin);
        }
        if transport.is_floor() {
            // Nobody joins it, and nobody waits at it.
            return;
        }
        for producers in self.offering() {
            for &offered_per_s in table.offered_per_s {
                let sizes = self.sizes(table.latency.sizes).into_iter();
                for size in sizes.filter(|&size| size >= TIMED_LEN as u64) {
                    self.push(Kind::Latency { offered_per_s }, transport, producers, size, twin);
                }
            }
        }
        if table.joins == 0 {
            return;
        }
        self.push(Kind::Attach, transport, 1, SHORT, twin);
        self.push(Kind::Idle, transport, 1, SHORT, twin);
        if sys::held_bytes().is_some() {
            self.push(Kind::Memory, transport, all, FILLER, twin);
        }
    }

    /// The sizes of the command line, or else the profile's.
    fn sizes(&self, profile: &[u64]) -> Vec<u64> {
        let named = &self.options.sizes;
        if named.is_empty() { profile.to_vec() } else { named.clone() }
    }

    /// Numbers of producers that send as fast as they can.
    fn counts(&self) -> BTreeSet<u32> {
        let crowd = processors().saturating_mul(self.table.crowd);
        let counts = self.table.producers.iter().copied().filter(|&count| count <= crowd);
        counts.chain([self.options.producers]).collect()
    }

    /// Numbers of producers that send at a fixed rate.
    fn offering(&self) -> BTreeSet<u32> {
        let all = self.options.producers;
        let with_processor = (processors() - 1).clamp(1, all);
        let all = self.table.offered_by_all.then_some(all);
        all.into_iter().chain([with_processor]).collect()
    }

    fn push(&mut self, kind: Kind, of: &dyn Transport, producers: u32, size: u64, twin: bool) {
        self.push_with(self.options.ring_for(size), kind, of, (producers, size), twin);
    }

    fn push_with(
        &mut self,
        ring_bytes: u64,
        kind: Kind,
        of: &dyn Transport,
        (producers, size): (u32, u64),
        twin: bool,
    ) {
        if let Some(longest) = of.longest().filter(|&longest| size > longest) {
            if of.is_floor() {
                // One word is all there is to it.
                return;
            }
            let what = format!("{} at {size} bytes", of.name());
            return self.leave_out(what, format!("its messages have {longest} bytes at most"));
        }
        if size + RING_OVERHEAD > ring_bytes {
            let what = format!("{} at {size} bytes", of.name());
            return self.leave_out(what, format!("it does not fit a ring of {ring_bytes} bytes"));
        }
        // A round trip depends on whether both sides share a processor, which the scheduler decides
        // anew each time; where there are two, it is measured that way and with one each.
        let pinnings: &[bool] = match (self.options.pin, kind) {
            (true, _) => &[true],
            (false, Kind::PingPong) if processors() > 1 => &[false, true],
            _ => &[false],
        };
        let size = usize::try_from(size).expect("args keeps sizes below a ring's");
        for &pinned in pinnings {
            let transport = of.name().into();
            let cell = Cell { producers, size, ring_bytes, transport, twin, pinned };
            self.runs.push(Run { kind, cell });
        }
    }

    /// Once, however many kinds it concerns.
    fn leave_out(&mut self, what: String, why: String) {
        if !self.skipped.iter().any(|(other, _)| *other == what) {
            self.skipped.push((what, why));
        }
    }
}

/// How many this process may use.
pub(super) fn processors() -> u32 {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// All measurements in random order, in batches that run at the same time. Those of one kind, size
/// and number are side by side, as they are compared.
pub(super) fn shuffled(runs: &[Run], random: &mut Pcg64Mcg) -> Vec<Vec<Run>> {
    let mut groups: Vec<_> =
        runs.iter().map(Run::group).collect::<BTreeSet<_>>().into_iter().collect();
    groups.shuffle(random);
    let mut batches = Vec::new();
    for group in groups {
        let mut rivals: Vec<_> = runs.iter().filter(|run| run.group() == group).cloned().collect();
        rivals.shuffle(random);
        // Waiting for nothing takes long and needs no processor, so all do it together.
        let together = if group.0 == Kind::Idle { rivals.len() } else { 1 };
        batches.extend(rivals.chunks(together).map(<[Run]>::to_vec));
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;

    use super::*;
    use crate::{args, profile::Profile};

    fn options(words: &str) -> Options {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let out = format!("--out={}", folder.path().display());
        let words = ["harness", "compare", &out].into_iter().chain(words.split_whitespace());
        let (_, options) = args::parse(words.map(Into::into)).expect("the words are allowed");
        options
    }

    fn planned(words: &str) -> Vec<Run> {
        let options = options(words);
        runs(&options, options.profile.table()).0
    }

    fn order(runs: &[Run], seed: u64) -> Vec<Vec<Run>> {
        shuffled(runs, &mut Pcg64Mcg::seed_from_u64(seed))
    }

    #[test]
    fn a_block_holds_every_cell_once_and_rivals_side_by_side() {
        for profile in ["quick", "default", "full", "scale"] {
            let runs = planned(&format!("--profile {profile}"));
            let order: Vec<_> = order(&runs, 1).into_iter().flatten().collect();
            assert_ne!(order, runs);
            let mut changes = 1;
            for pair in order.windows(2) {
                changes += usize::from(pair[0].group() != pair[1].group());
            }
            let groups: BTreeSet<_> = runs.iter().map(Run::group).collect();
            assert_eq!(changes, groups.len(), "{profile}: each group is in one piece");
            let (mut sorted, mut expected) = (order, runs);
            sorted.sort();
            expected.sort();
            assert_eq!(sorted, expected);
            assert!(expected.windows(2).all(|pair| pair[0] != pair[1]), "{profile}");
        }
    }

    #[test]
    fn a_seed_fixes_the_order() {
        let runs = planned("--profile default");
        assert_eq!(order(&runs, 1), order(&runs, 1));
        assert_ne!(order(&runs, 1), order(&runs, 2));
    }

    #[test]
    fn our_form_has_one_twin_wherever_it_is_measured() {
        let mut twins = BTreeMap::new();
        for run in planned("--profile full").iter().filter(|run| run.cell.transport == TWIN) {
            let counts: &mut [u32; 2] = twins.entry(run.group()).or_default();
            counts[usize::from(run.cell.twin)] += 1;
        }
        assert!(twins.values().all(|counts| *counts == [1, 1]), "{twins:?}");
        let kinds: BTreeSet<_> = twins.keys().map(|(kind, ..)| *kind).collect();
        assert!(kinds.len() > 6, "every kind, latency at several rates: {kinds:?}");
        assert!(crate::transports::is_ours(TWIN));
    }

    #[test]
    fn idle_consumers_wait_together_and_all_others_run_alone() {
        for batch in order(&planned("--profile quick"), 3) {
            let is_idle = batch[0].kind == Kind::Idle;
            assert_eq!(batch.len() > 1, is_idle, "{}", batch[0].name());
        }
    }

    #[test]
    fn rings_of_every_size_are_measured_where_the_channel_is_a_ring() {
        let runs = planned("--profile scale --producers 2");
        let rings = |name: &str, size: usize| -> BTreeSet<u64> {
            let found = runs.iter().filter(|run| run.cell.transport == name);
            found.filter(|run| run.cell.size == size).map(|run| run.cell.ring_bytes).collect()
        };
        assert_eq!(rings("ipmpsc", 64).len(), 10, "nine and the usual one");
        assert_eq!(rings("ipmpsc-0.5.1-zero-copy", 1 << 10).last(), Some(&(1 << 30)));
        assert_eq!(rings("pipe", 64).len(), 1);
        assert_eq!(rings("ipmpsc", 16).len(), 1, "for some sizes only");
        let by_all = runs.iter().filter(|run| run.cell.producers == 2 && run.cell.size == 64 << 10);
        let by_all = by_all.filter(|run| run.cell.transport == "ipmpsc-bytes");
        assert_eq!(by_all.count(), 7, "six that have room, and the usual one");
        let counts: BTreeSet<_> = runs.iter().map(|run| run.cell.producers).collect();
        assert_eq!(counts, BTreeSet::from([1, 2, 4, 8, 16, 32, 64]), "however few processors");
        assert!(runs.iter().all(|run| run.kind == Kind::Throughput), "and nothing else");
    }

    #[test]
    fn what_is_named_replaces_what_the_profile_says() {
        let runs = planned("--transport pipe,pipe --size 128,128 --producers 3 --ring 64k --pin");
        assert!(runs.windows(2).all(|pair| pair[0] != pair[1]), "and nothing twice");
        assert!(runs.iter().all(|run| run.cell.transport == "pipe" && run.cell.pinned));
        assert!(runs.iter().all(|run| run.cell.ring_bytes == 64 << 10));
        let sizes = |kind: Kind| -> BTreeSet<_> {
            runs.iter().filter(|run| run.kind == kind).map(|run| run.cell.size).collect()
        };
        assert_eq!(sizes(Kind::Throughput), BTreeSet::from([128]));
        assert_eq!(sizes(Kind::PingPong), BTreeSet::from([128]));
        let counts: BTreeSet<_> = runs.iter().map(|run| run.cell.producers).collect();
        assert_eq!(counts, BTreeSet::from([1, 3]));
    }

    #[test]
    fn what_cannot_be_is_left_out_with_a_reason() {
        let options = options("--transport ipmpsc,pipe --ring 32k");
        let (runs, skipped) = runs(&options, Profile::Quick.table());
        assert!(runs.iter().all(|run| run.cell.size < 32 << 10));
        let names: Vec<_> = skipped.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(names, ["ipmpsc at 65536 bytes", "pipe at 65536 bytes"]);
        let short = planned("--transport pipe --size 16");
        assert!(!short.iter().any(|run| matches!(run.kind, Kind::Latency { .. })));
    }
}
