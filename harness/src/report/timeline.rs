//! The torture as it went by: how the messages came while processes were killed, stopped and
//! resumed, and for how long each of these held the others up. Round after round on one axis.

use kuva::{
    plot::{LinePlot, ScatterPlot, line::LineStyle},
    render::{layout::TickFormat, plots::Plot},
};

use super::plot::{Axes, Drawing, custom, frame, si, time};
use crate::{
    record::{Row, TimelineRow},
    scenario::silence_max_ms,
};

/// What stands for each mark: the beginning of its name, its colour and its height, which is in a
/// lane of its own below every rate that is shown.
const MARKS: [(&str, &str, f64); 3] = [
    ("kill", "var(--vermilion)", 1.5),
    ("freeze", "var(--purple)", 2.7),
    ("resume", "var(--green)", 4.9),
];
/// The colour of each fault where recoveries are shown.
const FAULTS: [(&str, &str); 5] = [
    ("kill producer", "var(--vermilion)"),
    ("kill stopped producer", "var(--amber)"),
    ("kill consumer", "var(--brown)"),
    ("freeze producer", "var(--purple)"),
    ("freeze consumer", "var(--sky)"),
];
const MARK_SIZE: f64 = 2.0;
/// A logarithmic axis has no zero, and what is lower than this is drawn here.
const LEAST_RATE: f64 = 10.0;
const LEAST_NS: f64 = 1_000.0;
const NS_PER_S: f64 = 1e9;
const SECONDS: &str = "seconds of torture, round after round";

type Points = Vec<(f64, f64)>;

/// None of them if nothing was sampled.
pub(super) fn all(rows: &[Row], is_emulated: bool) -> Vec<Drawing> {
    let rounds = rounds(rows);
    let allowed_ms = silence_max_ms(is_emulated);
    messages(&rounds).into_iter().chain(recoveries(&rounds, allowed_ms)).collect()
}

/// A round that was sampled at least twice, and when it began.
struct Round<'a> {
    row: &'a TimelineRow,
    began_s: f64,
}

fn rounds(rows: &[Row]) -> Vec<Round<'_>> {
    let mut began_s = 0.0;
    let mut rounds = Vec::new();
    for row in rows {
        let Row::Timeline(row) = row else { continue };
        if let [_, .., (last_ns, _)] = row.received[..] {
            rounds.push(Round { row, began_s });
            began_s += last_ns as f64 / NS_PER_S;
        }
    }
    rounds
}

impl Round<'_> {
    fn at(&self, ns: u64) -> f64 {
        self.began_s + ns as f64 / NS_PER_S
    }

    /// Messages a second between each two samples.
    fn rates(&self) -> Points {
        let rate = |pair: &[(u64, u64)]| {
            let [(from, before), (to, after)] = pair else { return None };
            let seconds = (to - from) as f64 / NS_PER_S;
            let rate = after.saturating_sub(*before) as f64 / seconds.max(f64::EPSILON);
            Some((self.at((from + to) / 2), rate.max(LEAST_RATE)))
        };
        self.row.received.windows(2).filter_map(rate).collect()
    }
}

/// The rate, and below it a mark for what was done.
fn messages(rounds: &[Round<'_>]) -> Option<Drawing> {
    let mut plots: Vec<Plot> = Vec::new();
    let mut marked: Vec<Points> = MARKS.iter().map(|_| Vec::new()).collect();
    let mut furthest: f64 = 1.0;
    for (number, round) in rounds.iter().enumerate() {
        let rates = round.rates();
        furthest = rates.last().map_or(furthest, |&(at, _)| at.max(furthest));
        for (at, what) in &round.row.marks {
            if let Some(kind) = MARKS.iter().position(|(kind, ..)| what.starts_with(kind)) {
                marked[kind].push((round.at(*at), MARKS[kind].2));
            }
        }
        let line = LinePlot::new().with_data(rates).with_color("var(--blue)");
        let line = line.with_stroke_width(1.6);
        let line = if number == 0 { line.with_legend("messages a second") } else { line };
        plots.push(line.into());
    }
    let marked = MARKS.iter().zip(marked).filter(|(_, points)| !points.is_empty());
    plots.extend(marked.map(|(&(word, colour, _), points)| dots(word, colour, points)));
    let name = ("torture-timeline".into(), "Messages while processes die and stop".into());
    let axes = Axes {
        x: (SECONDS, TickFormat::Integer),
        y: ("messages a second, 10 or fewer as 10", custom(si)),
        log: (false, true),
    };
    (!rounds.is_empty()).then(|| frame(plots, name, axes, furthest))
}

/// What each fault cost, by when it was.
fn recoveries(rounds: &[Round<'_>], allowed_ms: u64) -> Option<Drawing> {
    let mut furthest: f64 = 1.0;
    let mut plots: Vec<Plot> = Vec::new();
    for (fault, colour) in FAULTS {
        let mut points = Points::new();
        for round in rounds {
            let ours = round.row.recoveries.iter().filter(|(_, what, _)| what == fault);
            points.extend(ours.map(|(at, _, ns)| (round.at(*at), (*ns as f64).max(LEAST_NS))));
        }
        furthest = points.last().map_or(furthest, |&(at, _)| at.max(furthest));
        if !points.is_empty() {
            plots.push(dots(fault, colour, points));
        }
    }
    if plots.is_empty() {
        return None;
    }
    let allowed = (allowed_ms * 1_000_000) as f64;
    let limit = LinePlot::new().with_data([(0.0, allowed), (furthest, allowed)]);
    let limit = limit.with_color("var(--grey)").with_line_style(LineStyle::Dashed);
    plots.push(limit.with_legend("allowed after a kill").into());
    let name = ("torture-recovery".into(), "Recovery from each fault".into());
    let axes = Axes {
        x: (SECONDS, TickFormat::Integer),
        y: ("longest gap between two messages", custom(time)),
        log: (false, true),
    };
    Some(frame(plots, name, axes, furthest))
}

fn dots(legend: &str, colour: &str, points: Points) -> Plot {
    let dots = ScatterPlot::new().with_data(points).with_color(colour);
    dots.with_size(MARK_SIZE).with_legend(legend).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(recoveries: Vec<(u64, String, u64)>) -> Row {
        Row::Timeline(TimelineRow {
            name: "one".into(),
            transport: "ipmpsc".into(),
            received: vec![(0, 0), (500_000_000, 1_000), (1_000_000_000, 1_500)],
            marks: vec![(100_000_000, "kill producer".into()), (600_000_000, "resume".into())],
            recoveries,
        })
    }

    #[test]
    fn rates_and_rounds_lie_behind_each_other() {
        let rows = [row(Vec::new()), row(Vec::new()), row(Vec::new())];
        let rounds = rounds(&rows);
        assert_eq!(rounds[0].rates(), [(0.25, 2_000.0), (0.75, 1_000.0)]);
        assert_eq!(rounds[2].rates(), [(2.25, 2_000.0), (2.75, 1_000.0)]);
    }

    #[test]
    fn a_kill_and_a_resume_are_marked_and_a_recovery_has_a_plot_of_its_own() {
        let none = all(&[row(Vec::new())], false);
        let [timeline] = &none[..] else { panic!("{} plots", none.len()) };
        let svg = timeline.file();
        assert!(svg.contains("kill") && svg.contains("resume") && !svg.contains("freeze"));
        let two = all(&[row(vec![(100_000_000, "kill producer".into(), 2_000_000)])], false);
        assert_eq!(two.len(), 2);
        assert!(two[1].file().contains("allowed after a kill"));
        assert!(all(&[], false).is_empty());
    }
}
