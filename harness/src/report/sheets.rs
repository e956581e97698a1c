//! Which tables a report has, and what stands in them.

use super::{
    faults, headline, outcomes,
    summary::{Figure, Kind, Metric, Place, Ratio, Subject, Summary, Times},
    table::{Sheet, Text},
    words::{bytes, grouped, memory, nanoseconds, producers, short, size, times},
};
use crate::{
    record::{Env, Row, Stamp},
    scenario::rivals,
    stats::{Spread, Verdict},
    transports::{Transport, find},
};

/// What tables are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) rows: &'a [Row],
    pub(super) env: &'a Env,
    pub(super) summary: &'a Summary,
}

/// All tables of a run, the headline first.
pub(super) fn all(source: Source<'_>) -> Vec<Sheet> {
    let mut sheets = headline::sheets(source);
    let has_headline = !sheets.is_empty();
    let kinds = [throughput, round_trip, latency, attach, idle, memory_use];
    for mut sheet in kinds.into_iter().flat_map(|sheets| sheets(source)) {
        sheet.is_detail = has_headline;
        sheets.push(sheet);
    }
    sheets.extend(outcomes::verify(source.rows));
    sheets.extend(outcomes::torture(source.rows));
    sheets.extend(faults::recoveries(source.rows, source.env));
    sheets.extend(faults::sweeps(source.rows));
    sheets.extend(faults::points(source.rows));
    sheets.extend(faults::windows(source.rows));
    sheets.extend(faults::matrix(source.rows));
    sheets.extend(outcomes::machine(source.rows));
    sheets.extend(outcomes::failures(source.rows));
    sheets
}

impl<'a> Source<'a> {
    /// The transports measured at this place, in the order of the build, channels before floors.
    pub(super) fn lines(self, place: Place) -> Vec<(&'a str, &'a Subject)> {
        let found = |stamp: &'a Stamp| {
            Some((stamp.name.as_str(), self.summary.subject(place, &stamp.name)?))
        };
        self.env.transports.iter().filter_map(found).collect()
    }

    /// The form of ipmpsc that does the same for its user as this transport.
    pub(super) fn ours(self, transport: &str) -> &'static str {
        if self.is_raw(transport) { "ipmpsc-bytes" } else { "ipmpsc" }
    }

    /// Whether it carries plain bytes and not a typed message.
    pub(super) fn is_raw(self, transport: &str) -> bool {
        let stamp = self.env.transports.iter().find(|stamp| stamp.name == transport);
        !stamp.is_some_and(|stamp| stamp.about.starts_with("typed"))
    }

    /// Puts a line where it belongs.
    pub(super) fn add(self, sheet: &mut Sheet, name: &str, line: Vec<Text>) {
        if is_floor(name) { sheet.floors.push(line) } else { sheet.body.push(line) }
    }

    /// Three comparisons by one metric: with ipmpsc, its old release and ipc-channel.
    fn versus(self, place: Place, metric: Metric, name: &str) -> Vec<Text> {
        let [old, other] = rivals(name);
        [self.ours(name), old, other]
            .map(|rival| ratio_text(name, self.summary.ratio(place, metric, name, rival)))
            .to_vec()
    }
}

/// What is measured to know the cost of the harness and of the machine, and is no channel between
/// processes.
pub(super) fn is_floor(transport: &str) -> bool {
    find(transport).is_some_and(Transport::is_floor)
}

/// The ratio and its word, with the interval where there is room; of what is slower, how many times
/// it is slower. A floor is not in the race.
pub(super) fn ratio_text(name: &str, ratio: Option<Ratio>) -> Text {
    let Some(Ratio { spread, verdict }) = ratio else { return "-".into() };
    if is_floor(name) {
        return times(spread.median).into();
    }
    let Spread { low, median, high, .. } = spread;
    let (low, median, high) = match verdict {
        Verdict::Slower => (1.0 / high, 1.0 / median, 1.0 / low),
        Verdict::Faster | Verdict::Same | Verdict::Unclear => (low, median, high),
    };
    let (median, word) = (times(median), verdict.word());
    let bare = |ratio| times(ratio).trim_end_matches('x').to_owned();
    Text {
        short: format!("{median} {word}"),
        long: format!("{median} [{}-{}] {word}", bare(low), bare(high)),
    }
}

/// The interval of a speed, and how many blocks were far from the others.
fn interval(figure: Option<&Figure>) -> String {
    let Some(Figure { spread: Some(spread), outliers, .. }) = figure else { return "-".into() };
    let far = if *outliers > 0 { format!(", {outliers} far") } else { String::new() };
    format!("{}-{}{far}", short(spread.low), short(spread.high))
}

/// A value, or a dash where there is none.
pub(super) fn cell(figure: Option<&Figure>, text: impl Fn(f64) -> String) -> Text {
    figure.map_or_else(|| "-".into(), |figure| text(figure.value).into())
}

/// What the intervals and words of a table rest on.
fn notes(sheet: &mut Sheet, source: Source<'_>, place: Place, metric: Metric, what: &str) {
    let figures = source.lines(place).into_iter().filter_map(|(_, subject)| {
        let spread = subject.figures.get(&metric)?.spread?;
        Some((spread.count, spread.coverage))
    });
    let least = figures.min_by(|a, b| a.0.cmp(&b.0));
    let noise = match source.summary.noise(place, metric) {
        Some(noise) => format!("Noise floor {:.0} %, from an ipmpsc twin", noise * 100.0),
        None => "Noise floor unknown, as ipmpsc was not measured twice".into(),
    };
    let blocks = least.map_or_else(String::new, |(count, coverage)| {
        let percent = (coverage * 1e3).floor() / 10.0;
        let blocks = if count == 1 { "1 block".into() } else { format!("{count} blocks") };
        format!("; {blocks}, so that intervals hold the true median with {percent} %")
    });
    sheet.note(format!("{noise}{blocks}. {what}"));
}

fn throughput(source: Source<'_>) -> Vec<Sheet> {
    let head = [
        "transport",
        "msg/s",
        "interval",
        "MB/s",
        "CPU ns/msg",
        "switches/1k",
        "fairness",
        "vs ipmpsc",
        "vs 0.5.1",
        "vs ipc-channel",
    ];
    let usual = source.summary.with_usual_rings();
    let sheet = |place: Place| {
        let (from, ring) = (producers(place.producers), bytes(place.ring_bytes));
        let which =
            if usual.contains(&place) { String::new() } else { format!(", ring of {ring}") };
        let title = format!("Throughput, {} from {from}{which}", size(place.size));
        let mut sheet = Sheet::new(title, &head).detail(&["vs 0.5.1", "vs ipc-channel"]);
        for (name, subject) in source.lines(place) {
            let figure = |metric| subject.figures.get(&metric);
            let mut line = vec![
                name.into(),
                cell(figure(Metric::MessagesPerS), short),
                interval(figure(Metric::MessagesPerS)).into(),
                cell(figure(Metric::MegabytesPerS), short),
                cell(figure(Metric::CpuPerMessage), short),
                cell(figure(Metric::SwitchesPerThousand), short),
                cell(figure(Metric::Fairness), |index| format!("{index:.2}")),
            ];
            line.extend(source.versus(place, Metric::MessagesPerS, name));
            source.add(&mut sheet, name, line);
        }
        let what = format!("Channels of {ring} where that can be chosen.");
        notes(&mut sheet, source, place, Metric::MessagesPerS, &what);
        sheet
    };
    source.summary.places(Kind::Throughput).into_iter().map(sheet).collect()
}

fn round_trip(source: Source<'_>) -> Vec<Sheet> {
    let head = [
        "transport",
        "round trips",
        "p50",
        "p99",
        "p99.9",
        "p50 vs ipmpsc",
        "p50 vs 0.5.1",
        "p50 vs ipc-channel",
    ];
    let metric = Metric::P50(Times::RoundTrip);
    let sheet = |place: Place| {
        let placed = if place.pinned { "a processor for each side" } else { "placed freely" };
        let title = format!("Round trip of {}, {placed}", size(place.size));
        let mut sheet = Sheet::new(title, &head).detail(&["p50 vs 0.5.1", "p50 vs ipc-channel"]);
        for (name, subject) in source.lines(place) {
            let at = |metric| cell(subject.figures.get(&metric), nanoseconds);
            let mut line = vec![
                name.into(),
                grouped(count(subject, Times::RoundTrip)).into(),
                at(Metric::P50(Times::RoundTrip)),
                at(Metric::P99(Times::RoundTrip)),
                at(Metric::P999(Times::RoundTrip)),
            ];
            line.extend(source.versus(place, metric, name));
            source.add(&mut sheet, name, line);
        }
        notes(&mut sheet, source, place, metric, "One message each way in turn.");
        sheet
    };
    source.summary.places(Kind::RoundTrip).into_iter().map(sheet).collect()
}

fn count(subject: &Subject, times: Times) -> u64 {
    subject.times.get(&times).map_or(0, |counts| counts.iter().map(|&(_, count)| count).sum())
}

fn latency(source: Source<'_>) -> Vec<Sheet> {
    let head = [
        "transport",
        "p50",
        "p99",
        "p99.9",
        "max",
        "service p50",
        "service p99",
        "lag p99",
        "CPU ns/msg",
        "switches/1k",
        "p50 vs ipmpsc",
        "p50 vs 0.5.1",
        "p50 vs ipc-channel",
    ];
    let metric = Metric::P50(Times::Response);
    let sheet = |place: Place| {
        let rate = short(place.offered_per_s as f64);
        let title = format!(
            "Latency, {} from {} at {rate} messages a second",
            size(place.size),
            producers(place.producers)
        );
        let mut sheet = Sheet::new(title, &head).detail(&[
            "max",
            "service p50",
            "service p99",
            "switches/1k",
            "p50 vs 0.5.1",
            "p50 vs ipc-channel",
        ]);
        for (name, subject) in source.lines(place) {
            let line = if subject.saturated > 0 {
                saturated(name, subject, head.len())
            } else {
                let versus = source.versus(place, metric, name);
                latency_line(name, subject).into_iter().chain(versus).collect()
            };
            source.add(&mut sheet, name, line);
        }
        let what = "From when each message was due until it was received; service: from when its \
                    send began; lag: the generator's own lateness.";
        notes(&mut sheet, source, place, metric, what);
        sheet
    };
    source.summary.places(Kind::Latency).into_iter().map(sheet).collect()
}

fn latency_line(name: &str, subject: &Subject) -> Vec<Text> {
    let figure = |metric| subject.figures.get(&metric);
    let times = [
        Metric::P50(Times::Response),
        Metric::P99(Times::Response),
        Metric::P999(Times::Response),
        Metric::Max(Times::Response),
        Metric::P50(Times::Service),
        Metric::P99(Times::Service),
        Metric::P99(Times::Lag),
    ];
    let mut line = vec![name.into()];
    line.extend(times.map(|metric| cell(figure(metric), nanoseconds)));
    line.push(cell(figure(Metric::CpuPerMessage), short));
    line.push(cell(figure(Metric::SwitchesPerThousand), short));
    line
}

/// A generator that cannot keep up measures itself.
fn saturated(name: &str, subject: &Subject, columns: usize) -> Vec<Text> {
    let long = format!("saturated ({} of {} blocks)", subject.saturated, subject.blocks);
    let mut line = vec![name.into(), Text { short: "saturated".into(), long }];
    line.resize(columns, "-".into());
    line
}

fn attach(source: Source<'_>) -> Vec<Sheet> {
    let head = [
        "transport",
        "attaches",
        "connect p50",
        "connect p99",
        "first message p50",
        "first message p99",
    ];
    let sheet = |place: Place| {
        let others = producers(place.producers);
        let mut sheet = Sheet::new(format!("Attaching to a channel of {others}"), &head);
        for (name, subject) in source.lines(place) {
            let at = |metric| cell(subject.figures.get(&metric), nanoseconds);
            let line = vec![
                name.into(),
                grouped(count(subject, Times::Connect)).into(),
                at(Metric::P50(Times::Connect)),
                at(Metric::P99(Times::Connect)),
                at(Metric::P50(Times::FirstMessage)),
                at(Metric::P99(Times::FirstMessage)),
            ];
            source.add(&mut sheet, name, line);
        }
        sheet.note(
            "Connect: the call that joins; first message: from the start of that call until the \
             consumer has the new producer's first message.",
        );
        sheet
    };
    source.summary.places(Kind::Attach).into_iter().map(sheet).collect()
}

fn idle(source: Source<'_>) -> Vec<Sheet> {
    let sheet = |place: Place| {
        let title = format!("A consumer that waits for nothing, {}", producers(place.producers));
        let mut sheet = Sheet::new(title, &["transport", "CPU", "switches/s"]);
        for (name, subject) in source.lines(place) {
            let figure = |metric| subject.figures.get(&metric);
            let line = vec![
                name.into(),
                cell(figure(Metric::IdleCpu), percent),
                cell(figure(Metric::IdleSwitches), short),
            ];
            source.add(&mut sheet, name, line);
        }
        sheet.note("CPU: of one processor.");
        sheet
    };
    source.summary.places(Kind::Idle).into_iter().map(sheet).collect()
}

/// A share of a processor.
pub(super) fn percent(value: f64) -> String {
    if value < 10.0 { format!("{value:.3} %") } else { format!("{value:.0} %") }
}

fn memory_use(source: Source<'_>) -> Vec<Sheet> {
    let sheet = |place: Place| {
        let what = format!("{} of {}", producers(place.producers), size(place.size));
        let title = format!("Memory, {what}, channels of {}", bytes(place.ring_bytes));
        let mut sheet = Sheet::new(title, &["transport", "consumer", "each producer"]);
        for (name, subject) in source.lines(place) {
            let at = |metric| cell(subject.figures.get(&metric), memory);
            let line = vec![name.into(), at(Metric::ConsumerBytes), at(Metric::ProducerBytes)];
            source.add(&mut sheet, name, line);
        }
        sheet.note(
            "By how much each process's share of resident memory grew from before the channel \
             until after traffic that filled it; what the kernel holds in pipes and sockets is in \
             no process.",
        );
        sheet
    };
    source.summary.places(Kind::Memory).into_iter().map(sheet).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(low: f64, median: f64, high: f64, verdict: Verdict) -> Option<Ratio> {
        let spread = Spread { low, median, high, count: 6, coverage: 0.97 };
        Some(Ratio { spread, verdict })
    }

    #[test]
    fn slower_is_said_as_so_many_times_slower() {
        let text = ratio_text("pipe", ratio(0.1, 0.2, 0.25, Verdict::Slower));
        assert_eq!(text.long, "5.00x [4.00-10] slower");
        assert_eq!(text.short, "5.00x slower");
        let text = ratio_text("pipe", ratio(0.8, 0.9, 1.1, Verdict::Unclear));
        assert_eq!(text.long, "0.90x [0.80-1.10] unclear");
        let text = ratio_text("null", ratio(2.0, 3.0, 4.0, Verdict::Faster));
        assert_eq!(text.long, "3.00x", "a floor is not in the race");
        assert_eq!(ratio_text("pipe", None).long, "-");
    }

    #[test]
    fn far_blocks_are_flagged_beside_the_interval() {
        let rows: Vec<Row> = super::super::fixture::rows()
            .into_iter()
            .map(|row| serde_json::from_value(row).expect("as `record` reads it"))
            .collect();
        let summary = Summary::new(&rows);
        let far = summary.all().flat_map(|(.., subject)| subject.figures.values());
        let far = far.filter(|figure| figure.outliers > 0 && figure.spread.is_some());
        let text = interval(far.into_iter().next());
        assert!(text.ends_with(" far"), "{text}");
        assert_eq!(interval(None), "-");
    }
}
