//! Rows become figures: for each thing that was measured one value, its interval, and how it
//! compares with others that were measured in the same blocks. Formats nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    record::{Cell, Env, Row},
    stats::{self, Spread, Verdict},
};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Throughput,
    RoundTrip,
    Latency,
    Attach,
    Idle,
    Memory,
}

/// All that two measurements must share to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) kind: Kind,
    pub(super) producers: u32,
    pub(super) size: usize,
    pub(super) ring_bytes: u64,
    pub(super) pinned: bool,
    /// Zero where nothing is offered at a fixed rate.
    pub(super) offered_per_s: u64,
}

/// A distribution of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Times {
    RoundTrip,
    Response,
    Service,
    Lag,
    Connect,
    FirstMessage,
}

/// What a figure tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Metric {
    MessagesPerS,
    MegabytesPerS,
    CpuPerMessage,
    SwitchesPerThousand,
    Fairness,
    P50(Times),
    P99(Times),
    P999(Times),
    Max(Times),
    IdleCpu,
    IdleSwitches,
    ConsumerBytes,
    ProducerBytes,
}

/// One value of one transport at one place.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// The median over blocks; of times, the percentile of all blocks together.
    pub(super) value: f64,
    /// The median over blocks with its interval, where blocks have this value.
    pub(super) spread: Option<Spread>,
    pub(super) outliers: usize,
    blocks: Vec<(u32, f64)>,
}

/// One transport at one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    pub(super) figures: BTreeMap<Metric, Figure>,
    /// The times of all blocks together, as (nanoseconds, how often).
    pub(super) times: BTreeMap<Times, Vec<(u64, u64)>>,
    pub(super) blocks: usize,
    /// In how many of them the producers could not keep the rate.
    pub(super) saturated: usize,
}

/// A comparison.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    /// Above one is faster.
    pub(super) spread: Spread,
    pub(super) verdict: Verdict,
}

/// All figures of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    /// The second of each key says whether it is a twin.
    subjects: BTreeMap<(Place, bool), BTreeMap<String, Subject>>,
    /// Whether nothing here is held against anything else.
    is_unranked: bool,
}

impl Summary {
    /// Of the rows of this run, which are not compared if an emulator stood in for the machine.
    pub(super) fn of(rows: &[Row], env: &Env) -> Summary {
        Summary { is_unranked: env.emulated.is_some(), ..Summary::new(rows) }
    }

    /// Of these rows.
    pub(super) fn new(rows: &[Row]) -> Summary {
        let mut blocks: BTreeMap<(Place, bool), BTreeMap<String, Vec<Block>>> = BTreeMap::new();
        for (place, cell, block) in rows.iter().filter_map(block) {
            let there = blocks.entry((place, cell.twin)).or_default();
            there.entry(cell.transport.clone()).or_default().push(block);
        }
        let subjects = |(key, there): (_, BTreeMap<_, Vec<Block>>)| {
            (key, there.into_iter().map(|(name, blocks)| (name, subject(&blocks))).collect())
        };
        let subjects = blocks.into_iter().map(subjects).collect();
        Summary { subjects, is_unranked: false }
    }

    /// Where something of this kind was measured, in order.
    pub(super) fn places(&self, kind: Kind) -> Vec<Place> {
        let places: BTreeSet<_> = self.subjects.keys().map(|&(place, _)| place).collect();
        places.into_iter().filter(|place| place.kind == kind).collect()
    }

    /// Where speed was measured with the ring that is usual for a size: the one with which most was
    /// measured.
    pub(super) fn with_usual_rings(&self) -> Vec<Place> {
        let places = self.places(Kind::Throughput);
        let mut counts: BTreeMap<(usize, u64), usize> = BTreeMap::new();
        for place in &places {
            let measured = self.subjects.get(&(*place, false)).map_or(0, BTreeMap::len);
            *counts.entry((place.size, place.ring_bytes)).or_default() += measured;
        }
        let most = |size| counts.iter().filter(|((of, _), _)| *of == size).map(|(_, n)| n).max();
        let is_usual =
            |place: &Place| counts.get(&(place.size, place.ring_bytes)) == most(place.size);
        places.into_iter().filter(is_usual).collect()
    }

    /// A transport at a place.
    pub(super) fn subject(&self, place: Place, transport: &str) -> Option<&Subject> {
        self.subjects.get(&(place, false))?.get(transport)
    }

    /// A figure of a transport at a place.
    pub(super) fn figure(&self, place: Place, transport: &str, metric: Metric) -> Option<&Figure> {
        self.subject(place, transport)?.figures.get(&metric)
    }

    /// Everything, twins included, in a fixed order.
    pub(super) fn all(&self) -> impl Iterator<Item = (Place, bool, &str, &Subject)> {
        self.subjects.iter().flat_map(|(&(place, twin), there)| {
            there.iter().map(move |(name, subject)| (place, twin, name.as_str(), subject))
        })
    }

    /// By how much two measurements of the same thing differ here.
    pub(super) fn noise(&self, place: Place, metric: Metric) -> Option<f64> {
        let (name, twin) = self.subjects.get(&(place, true))?.first_key_value()?;
        let twin = twin.figures.get(&metric)?.speeds(metric);
        let of = self.figure(place, name, metric)?.speeds(metric);
        stats::noise_floor(&stats::paired_ratios(&twin, &of))
    }

    /// How many times as fast one is as another, block by block.
    pub(super) fn ratio(&self, place: Place, metric: Metric, of: &str, to: &str) -> Option<Ratio> {
        if of == to || self.is_unranked {
            return None;
        }
        let of = self.figure(place, of, metric)?.speeds(metric);
        let to = self.figure(place, to, metric)?.speeds(metric);
        let spread = stats::spread(&stats::paired_ratios(&of, &to))?;
        Some(Ratio { spread, verdict: stats::verdict(spread, self.noise(place, metric)) })
    }
}

impl Figure {
    /// The value of each block as a speed: a shorter time is a higher one.
    fn speeds(&self, metric: Metric) -> Vec<(u32, f64)> {
        let speed = |value: f64| if metric.is_time() { 1.0 / value.max(1.0) } else { value };
        self.blocks.iter().map(|&(block, value)| (block, speed(value))).collect()
    }
}

impl Times {
    fn name(self) -> &'static str {
        match self {
            Times::RoundTrip => "round trip",
            Times::Response => "response",
            Times::Service => "service",
            Times::Lag => "generator lag",
            Times::Connect => "connect",
            Times::FirstMessage => "first message",
        }
    }
}

impl Kind {
    /// The word in `summary.csv`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Throughput => "throughput",
            Kind::RoundTrip => "round trip",
            Kind::Latency => "latency",
            Kind::Attach => "attach",
            Kind::Idle => "idle",
            Kind::Memory => "memory",
        }
    }
}

impl Metric {
    /// The word in `summary.csv`, and the unit.
    pub(super) fn name(self) -> (String, &'static str) {
        let time = |times: Times, point: &str| (format!("{} {point}", times.name()), "ns");
        match self {
            Metric::MessagesPerS => ("messages".into(), "1/s"),
            Metric::MegabytesPerS => ("bytes".into(), "MB/s"),
            Metric::CpuPerMessage => ("CPU time".into(), "ns/message"),
            Metric::SwitchesPerThousand => ("context switches".into(), "1/1000 messages"),
            Metric::Fairness => ("fairness (Jain)".into(), "1"),
            Metric::P50(times) => time(times, "p50"),
            Metric::P99(times) => time(times, "p99"),
            Metric::P999(times) => time(times, "p99.9"),
            Metric::Max(times) => time(times, "max"),
            Metric::IdleCpu => ("idle CPU".into(), "%"),
            Metric::IdleSwitches => ("idle context switches".into(), "1/s"),
            Metric::ConsumerBytes => ("memory of the consumer".into(), "B"),
            Metric::ProducerBytes => ("memory of a producer".into(), "B"),
        }
    }

    fn is_time(self) -> bool {
        matches!(self, Metric::P50(_) | Metric::P99(_) | Metric::P999(_) | Metric::Max(_))
    }
}

/// One row, taken apart.
struct Block<'a> {
    number: u32,
    values: Vec<(Metric, f64)>,
    times: Vec<(Times, &'a [(u64, u64)])>,
    saturated: bool,
}

fn block(row: &Row) -> Option<(Place, &Cell, Block<'_>)> {
    let (kind, cell, offered_per_s, number, values, times) = match row {
        Row::Throughput(row) => {
            let rate = row.rate();
            let mut values = vec![
                (Metric::MessagesPerS, rate),
                (Metric::MegabytesPerS, rate * row.cell.size as f64 / 1e6),
            ];
            let switches = row.voluntary_switches + row.involuntary_switches;
            values.extend(costs(row.cpu_ns, switches, row.total_messages));
            values.extend(stats::fairness(&row.by_producer).map(|index| (Metric::Fairness, index)));
            (Kind::Throughput, &row.cell, 0, row.block, values, vec![])
        }
        Row::PingPong(row) => {
            let times = vec![(Times::RoundTrip, &row.round_trips[..])];
            (Kind::RoundTrip, &row.cell, 0, row.block, vec![], times)
        }
        Row::Latency(row) => {
            let switches = row.voluntary_switches + row.involuntary_switches;
            let values = costs(row.cpu_ns, switches, row.total_messages).to_vec();
            let times = vec![
                (Times::Response, &row.response[..]),
                (Times::Service, &row.service[..]),
                (Times::Lag, &row.lag[..]),
            ];
            (Kind::Latency, &row.cell, row.offered_per_s, row.block, values, times)
        }
        Row::Attach(row) => {
            let times = vec![
                (Times::Connect, &row.connect[..]),
                (Times::FirstMessage, &row.first_message[..]),
            ];
            (Kind::Attach, &row.cell, 0, row.block, vec![], times)
        }
        Row::Idle(row) => {
            let elapsed = row.elapsed_ns.max(1) as f64;
            let switches = (row.voluntary_switches + row.involuntary_switches) as f64;
            let values = vec![
                (Metric::IdleCpu, row.cpu_ns as f64 * 100.0 / elapsed),
                (Metric::IdleSwitches, switches * 1e9 / elapsed),
            ];
            (Kind::Idle, &row.cell, 0, row.block, values, vec![])
        }
        Row::Memory(row) => {
            let values = vec![
                (Metric::ConsumerBytes, row.consumer_bytes as f64),
                (Metric::ProducerBytes, row.producer_bytes as f64),
            ];
            (Kind::Memory, &row.cell, 0, 0, values, vec![])
        }
        Row::Verify(_)
        | Row::Machine(_)
        | Row::Torture(_)
        | Row::Timeline(_)
        | Row::Sweep(_)
        | Row::Fault(_)
        | Row::Selftest(_)
        | Row::Failed(_) => return None,
    };
    let Cell { producers, size, ring_bytes, pinned, .. } = *cell;
    let place = Place { kind, producers, size, ring_bytes, pinned, offered_per_s };
    let saturated = matches!(row, Row::Latency(row) if row.saturated);
    Some((place, cell, Block { number, values, times, saturated }))
}

fn costs(cpu_ns: u64, switches: u64, messages: u64) -> [(Metric, f64); 2] {
    let each = |count: u64| count as f64 / messages.max(1) as f64;
    [(Metric::CpuPerMessage, each(cpu_ns)), (Metric::SwitchesPerThousand, 1e3 * each(switches))]
}

/// All blocks of one transport at one place. A saturated block leaves nothing to tell.
fn subject(blocks: &[Block<'_>]) -> Subject {
    let saturated = blocks.iter().filter(|block| block.saturated).count();
    let mut subject = Subject { blocks: blocks.len(), saturated, ..Subject::default() };
    if saturated > 0 {
        return subject;
    }
    let mut values: BTreeMap<Metric, Vec<(u32, f64)>> = BTreeMap::new();
    let mut merged: BTreeMap<Times, BTreeMap<u64, u64>> = BTreeMap::new();
    for block in blocks {
        for &(metric, value) in &block.values {
            values.entry(metric).or_default().push((block.number, value));
        }
        for &(times, counts) in &block.times {
            let all = merged.entry(times).or_default();
            counts.iter().for_each(|&(value, count)| *all.entry(value).or_default() += count);
            for (metric, value) in percentiles(times, counts) {
                values.entry(metric).or_default().push((block.number, value));
            }
        }
    }
    let mut figures: BTreeMap<Metric, Figure> = BTreeMap::new();
    for (metric, blocks) in values {
        let plain: Vec<_> = blocks.iter().map(|&(_, value)| value).collect();
        let Some(spread) = stats::spread(&plain) else { continue };
        let outliers = stats::outliers(&plain);
        let figure = Figure { value: spread.median, spread: Some(spread), outliers, blocks };
        figures.insert(metric, figure);
    }
    for (times, counts) in merged {
        let counts: Vec<_> = counts.into_iter().collect();
        for (metric, value) in percentiles(times, &counts) {
            let none = || Figure { value, spread: None, outliers: 0, blocks: vec![] };
            figures.entry(metric).or_insert_with(none).value = value;
        }
        subject.times.insert(times, counts);
    }
    subject.figures = figures;
    subject
}

fn percentiles(times: Times, counts: &[(u64, u64)]) -> Vec<(Metric, f64)> {
    let points = [
        (Metric::P50(times), stats::percentile(counts, 50.0)),
        (Metric::P99(times), stats::tail(counts, 99.0)),
        (Metric::P999(times), stats::tail(counts, 99.9)),
        (Metric::Max(times), stats::percentile(counts, 100.0)),
    ];
    points.into_iter().filter_map(|(metric, value)| Some((metric, value? as f64))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rows(rows: &[Value]) -> Vec<Row> {
        let row = |row: &Value| serde_json::from_value(row.clone()).expect("as `record` reads it");
        rows.iter().map(row).collect()
    }

    /// Messages in one second.
    fn throughput(transport: &str, twin: bool, block: u32, messages: u64) -> Value {
        json!({"row": "throughput", "producers": 2, "size": 1000, "ring_bytes": 4096,
            "transport": transport, "twin": twin, "pinned": false, "block": block,
            "messages": messages, "elapsed_ns": 1_000_000_000, "total_messages": messages,
            "cpu_ns": 3 * messages, "voluntary_switches": messages / 1_000,
            "involuntary_switches": messages / 1_000,
            "by_producer": [messages / 4, 3 * messages / 4]})
    }

    fn place(kind: Kind) -> Place {
        let (producers, size, ring_bytes) = (2, 1000, 4096);
        Place { kind, producers, size, ring_bytes, pinned: false, offered_per_s: 0 }
    }

    #[test]
    fn figures_of_a_throughput_by_hand() {
        let rows = rows(&[
            throughput("ipmpsc", false, 0, 40_000),
            throughput("ipmpsc", false, 1, 50_000),
            throughput("ipmpsc", false, 2, 45_000),
        ]);
        let summary = Summary::new(&rows);
        let value = |metric| {
            let figure = summary.figure(place(Kind::Throughput), "ipmpsc", metric);
            figure.expect("measured").value
        };
        assert_eq!(value(Metric::MessagesPerS), 45_000.0);
        assert_eq!(value(Metric::MegabytesPerS), 45.0);
        assert_eq!(value(Metric::CpuPerMessage), 3.0);
        assert_eq!(value(Metric::SwitchesPerThousand), 2.0);
        // (1 + 3)^2 / (2 * (1 + 9))
        assert_eq!(value(Metric::Fairness), 0.8);
        let figure = summary.figure(place(Kind::Throughput), "ipmpsc", Metric::MessagesPerS);
        let spread = figure.and_then(|figure| figure.spread).expect("three blocks");
        assert_eq!((spread.low, spread.high, spread.count), (40_000.0, 50_000.0, 3));
    }

    #[test]
    fn the_usual_ring_of_a_size_is_the_one_with_most_in_it() {
        let with = |transport, ring_bytes: u64| {
            let mut row = throughput(transport, false, 0, 40_000);
            row["ring_bytes"] = ring_bytes.into();
            row
        };
        let small = with("ipmpsc", 1024);
        let rows = rows(&[small, with("ipmpsc", 4096), with("pipe", 4096), with("ipmpsc", 8192)]);
        let summary = Summary::new(&rows);
        assert_eq!(summary.with_usual_rings(), [place(Kind::Throughput)]);
        assert_eq!(summary.places(Kind::Throughput).len(), 3);
    }

    #[test]
    fn ratios_are_taken_within_blocks_and_judged_by_the_twin() {
        let rows = rows(&[
            throughput("ipmpsc", false, 0, 40_000),
            throughput("ipmpsc", true, 0, 44_000),
            throughput("pipe", false, 0, 4_000),
            throughput("tcp", false, 0, 42_000),
            throughput("ipmpsc", false, 1, 80_000),
            throughput("ipmpsc", true, 1, 80_000),
            throughput("pipe", false, 1, 16_000),
            throughput("tcp", false, 1, 84_000),
            throughput("ipmpsc", false, 2, 60_000),
            throughput("ipmpsc", true, 2, 60_000),
            throughput("pipe", false, 2, 9_000),
            throughput("tcp", false, 2, 60_000),
        ]);
        let summary = Summary::new(&rows);
        let there = place(Kind::Throughput);
        let noise = summary.noise(there, Metric::MessagesPerS).expect("there are twins");
        assert!((noise - 0.1).abs() < 1e-9, "{noise}");
        let ratio = |of, to| summary.ratio(there, Metric::MessagesPerS, of, to).expect("both");
        let pipe = ratio("pipe", "ipmpsc");
        assert_eq!((pipe.spread.low, pipe.spread.median, pipe.spread.high), (0.1, 0.15, 0.2));
        assert_eq!(pipe.verdict, Verdict::Slower);
        assert_eq!(ratio("tcp", "ipmpsc").verdict, Verdict::Same);
        assert_eq!(ratio("ipmpsc", "pipe").verdict, Verdict::Faster);
        assert!(summary.ratio(there, Metric::MessagesPerS, "pipe", "pipe").is_none());
        assert!(summary.ratio(there, Metric::MessagesPerS, "pipe", "null").is_none());
    }

    #[test]
    fn times_of_all_blocks_merge_and_shorter_is_faster() {
        let trips = |transport: &str, twin: bool, block: u32, trips: &[(u64, u64)]| {
            json!({"row": "ping_pong", "producers": 2, "size": 1000, "ring_bytes": 4096,
                "transport": transport, "twin": twin, "pinned": false, "block": block,
                "round_trips": trips})
        };
        let mut all = Vec::new();
        for block in 0..3 {
            all.push(trips("ipmpsc", false, block, &[(400, 98), (900, 2)]));
            all.push(trips("ipmpsc", true, block, &[(440, 100)]));
            all.push(trips("ipc-channel", false, block, &[(16_000 + u64::from(block) * 2_000, 5)]));
        }
        let summary = Summary::new(&rows(&all));
        let there = place(Kind::RoundTrip);
        let at = |metric| summary.figure(there, "ipmpsc", metric).map(|figure| figure.value);
        assert_eq!(at(Metric::P50(Times::RoundTrip)), Some(400.0));
        assert_eq!(at(Metric::P99(Times::RoundTrip)), Some(900.0));
        assert_eq!(at(Metric::P999(Times::RoundTrip)), None, "300 values have no 99.9th of them");
        assert_eq!(at(Metric::Max(Times::RoundTrip)), Some(900.0));
        let middle = Metric::P50(Times::RoundTrip);
        let ratio = summary.ratio(there, middle, "ipmpsc", "ipc-channel").expect("both");
        assert_eq!(ratio.spread.median.round(), 45.0);
        assert_eq!(ratio.verdict, Verdict::Faster);
    }

    #[test]
    fn one_saturated_block_silences_the_row() {
        let row = |block: u32, saturated: bool| {
            json!({"row": "latency", "producers": 2, "size": 1000, "ring_bytes": 4096,
                "transport": "pipe", "twin": false, "pinned": false, "block": block,
                "offered_per_s": 9, "saturated": saturated, "messages": 1, "elapsed_ns": 1,
                "response": [[5, 1]], "service": [[5, 1]], "lag": [[5, 1]], "total_messages": 1,
                "cpu_ns": 1, "voluntary_switches": 1, "involuntary_switches": 1})
        };
        let there = Place { offered_per_s: 9, ..place(Kind::Latency) };
        let summary = Summary::new(&rows(&[row(0, false), row(1, true)]));
        let subject = summary.subject(there, "pipe").expect("measured");
        assert!(subject.figures.is_empty());
        assert_eq!((subject.saturated, subject.blocks), (1, 2));
        let summary = Summary::new(&rows(&[row(0, false)]));
        assert!(summary.figure(there, "pipe", Metric::P50(Times::Response)).is_some());
    }
}
