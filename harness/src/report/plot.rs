//! Figures become plots: SVG without fonts, scripts or a network, in colours that the page sets.
//!
//! A family of transports has a colour and each of its forms a dash, so that both survive a printer
//! and most eyes: the colours are Okabe and Ito's.

use std::sync::Arc;

use kuva::{
    plot::{LinePlot, line::LineStyle},
    render::{
        layout::{Layout, TickFormat},
        plots::Plot,
        theme::Theme,
    },
};

use super::{
    headline,
    sheets::{Source, is_floor},
    summary::{Kind, Metric, Place, Subject, Times},
    timeline,
    words::{producers, short, size},
};
use crate::stats::{self, Spread};

/// Of every plot, in units that scale with the page.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
/// Percentiles of a curve, by the number of nines in front of what lies beyond.
const CURVE: [f64; 10] = [10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99];

/// A plot with the name of its file.
#[derive(Clone, Debug)]
pub(super) struct Drawing {
    pub(super) name: String,
    pub(super) title: String,
    /// Colours are variables, which whoever shows it defines.
    svg: String,
}

/// The colours on paper, and those on a dark screen.
pub(super) const LIGHT: &str = "--ink:#1b1f24;--soft:#57606a;--grid:#d8dee4;--paper:#ffffff;\
    --blue:#0072b2;--vermilion:#d55e00;--purple:#b5548a;--green:#00805e;--sky:#3a9bd9;\
    --amber:#b97f00;--brown:#7a5230;--grey:#8c959f;";
pub(super) const DARK: &str = "--ink:#e6edf3;--soft:#9da7b1;--grid:#30363d;--paper:#0d1117;\
    --blue:#58a6ff;--vermilion:#ff8f4a;--purple:#e39ac4;--green:#35c79b;--sky:#8fd0f7;\
    --amber:#e6b84a;--brown:#c79a6b;--grey:#7d8590;";

/// All plots of a run.
pub(super) fn all(source: Source<'_>) -> Vec<Drawing> {
    let mut plots = by_size(source);
    plots.extend(by_producers(source));
    plots.extend(by_ring(source));
    plots.extend(round_trips(source));
    plots.extend(latencies(source));
    plots.extend(by_load(source));
    plots.extend(timeline::all(source.rows, source.env.emulated.is_some()));
    plots
}

/// The two that stand for the run: the speed with the fewest producers, and the round trip.
pub(super) fn headline(source: Source<'_>) -> Vec<Drawing> {
    let mut plots: Vec<_> = by_size(source).into_iter().take(1).collect();
    if let Some(trip) = headline::trip(source) {
        plots.extend(round_trip(source, trip));
    }
    plots
}

impl Drawing {
    /// For a file of its own, which follows the reader's light or dark by itself.
    pub(super) fn file(&self) -> String {
        let style = format!(
            "<style>svg{{{LIGHT}}}@media(prefers-color-scheme:dark){{svg{{{DARK}}}}}</style>\
             <rect width=\"100%\" height=\"100%\" fill=\"var(--paper)\"/>"
        );
        let after = self.svg.find('>').map_or(0, |at| at + 1);
        format!("{}{style}{}\n", &self.svg[..after], &self.svg[after..])
    }

    /// For a page that defines the colours.
    pub(super) fn inline(&self) -> &str {
        &self.svg
    }
}

// Where one size was measured pinned and not, a plot shows the first: the tables have all.

/// A transport's points: where, how high, and down to and up to which height.
struct Series {
    name: String,
    points: Vec<(f64, f64, f64, f64)>,
}

fn by_size(source: Source<'_>) -> Vec<Drawing> {
    let places = source.summary.with_usual_rings();
    let mut counts: Vec<_> = places.iter().map(|place| place.producers).collect();
    counts.dedup();
    let draw = |count: u32| {
        let mut places: Vec<_> =
            places.iter().copied().filter(|place| place.producers == count).collect();
        places.dedup_by_key(|place| place.size);
        let series = along(source, &places, Metric::MessagesPerS, |place| place.size as f64);
        let title = format!("Throughput by size, {}", producers(count));
        let axes = Axes {
            x: ("bytes of a message", custom(si_bytes)),
            y: ("messages a second", custom(si)),
            log: (true, true),
        };
        draw(format!("throughput-{count}"), title, series, axes)
    };
    counts.into_iter().filter_map(draw).collect()
}

fn by_producers(source: Source<'_>) -> Vec<Drawing> {
    let places = source.summary.with_usual_rings();
    let mut sizes: Vec<_> = places.iter().map(|place| place.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let draw = |bytes: usize| {
        let mut places: Vec<_> =
            places.iter().copied().filter(|place| place.size == bytes).collect();
        places.dedup_by_key(|place| place.producers);
        let x = |place: Place| f64::from(place.producers);
        let series = along(source, &places, Metric::MessagesPerS, x);
        let title = format!("Throughput by producers, {}", size(bytes));
        let axes = Axes {
            x: ("producers", TickFormat::Integer),
            y: ("messages a second", custom(si)),
            // A few numbers are best read as they are; many of them double from one to the next.
            log: (places.iter().any(|place| place.producers > 16), true),
        };
        draw(format!("producers-{bytes}"), title, series, axes)
    };
    sizes.into_iter().filter_map(draw).collect()
}

/// For each size and number of producers that was measured with several rings.
fn by_ring(source: Source<'_>) -> Vec<Drawing> {
    let places = source.summary.places(Kind::Throughput);
    let mut groups: Vec<_> = places.iter().map(|place| (place.size, place.producers)).collect();
    groups.sort_unstable();
    groups.dedup();
    let draw = |(bytes, count): (usize, u32)| {
        let is_here =
            |place: &Place| (place.size, place.producers, place.pinned) == (bytes, count, false);
        let places: Vec<_> = places.iter().copied().filter(is_here).collect();
        let x = |place: Place| place.ring_bytes as f64;
        let series = along(source, &places, Metric::MessagesPerS, x);
        let title = format!("Throughput by ring, {} from {}", size(bytes), producers(count));
        let axes = Axes {
            x: ("bytes of the ring", custom(si_bytes)),
            y: ("messages a second", custom(si)),
            log: (true, true),
        };
        draw(format!("rings-{bytes}-{count}"), title, series, axes)
    };
    groups.into_iter().filter_map(draw).collect()
}

fn round_trips(source: Source<'_>) -> Vec<Drawing> {
    let places = source.summary.places(Kind::RoundTrip);
    places.into_iter().filter_map(|place| round_trip(source, place)).collect()
}

fn round_trip(source: Source<'_>, place: Place) -> Option<Drawing> {
    let (placed, file) = if place.pinned {
        ("a processor for each side", "pinned")
    } else {
        ("placed freely", "free")
    };
    let title = format!("Round trip of {}, {placed}", size(place.size));
    let name = format!("round-trip-{}-{file}", place.size);
    percentiles(source, place, Times::RoundTrip, (name, title))
}

/// For each size and number of producers at the lowest load, which most can keep.
fn latencies(source: Source<'_>) -> Vec<Drawing> {
    let mut places = source.summary.places(Kind::Latency);
    places.dedup_by_key(|place| (place.producers, place.size));
    let draw = |place: Place| {
        let Place { producers: count, size: bytes, offered_per_s, .. } = place;
        let rate = short(offered_per_s as f64);
        let title = format!("Latency, {} from {}, {rate} a second", size(bytes), producers(count));
        let name = format!("latency-{bytes}-{count}");
        percentiles(source, place, Times::Response, (name, title))
    };
    places.into_iter().filter_map(draw).collect()
}

fn percentiles(
    source: Source<'_>,
    place: Place,
    times: Times,
    (name, title): (String, String),
) -> Option<Drawing> {
    let curve = |subject: &Subject| {
        let counts = subject.times.get(&times)?;
        let point = |percent: f64| {
            let value = stats::tail(counts, percent)?.max(1) as f64;
            Some((nines(percent), value, value, value))
        };
        Some(CURVE.into_iter().filter_map(point).collect())
    };
    let series = source
        .lines(place)
        .into_iter()
        .filter_map(|(name, subject)| Some(Series { name: name.into(), points: curve(subject)? }))
        .collect();
    let axes =
        Axes { x: ("percentile", custom(of_nines)), y: ("time", custom(time)), log: (false, true) };
    draw(name, title, series, axes)
}

fn by_load(source: Source<'_>) -> Vec<Drawing> {
    let places = source.summary.places(Kind::Latency);
    let mut groups = places.clone();
    groups.dedup_by_key(|place| (place.producers, place.size));
    let draw = |first: Place| {
        let Place { producers: count, size: bytes, .. } = first;
        let is_here =
            |place: &Place| Place { offered_per_s: first.offered_per_s, ..*place } == first;
        let places: Vec<_> = places.iter().copied().filter(is_here).collect();
        let metric = Metric::P99(Times::Response);
        let series = along(source, &places, metric, |place| place.offered_per_s as f64);
        let title = format!("p99 by offered load, {} from {}", size(bytes), producers(count));
        let axes = Axes {
            x: ("messages offered a second", custom(si)),
            y: ("p99 from due to received", custom(time)),
            log: (true, true),
        };
        draw(format!("load-{bytes}-{count}"), title, series, axes)
    };
    groups.into_iter().filter_map(draw).collect()
}

/// A figure of every transport along places that differ in `x`.
fn along(
    source: Source<'_>,
    places: &[Place],
    metric: Metric,
    x: impl Fn(Place) -> f64,
) -> Vec<Series> {
    let point = |place: Place, name: &str| {
        let figure = source.summary.figure(place, name, metric)?;
        let value = figure.value;
        let Spread { low, high, .. } = figure.spread?;
        Some((x(place), value, low.min(value), high.max(value)))
    };
    let names = source.env.transports.iter().map(|stamp| stamp.name.as_str());
    names
        .map(|name| {
            let points = places.iter().filter_map(|&place| point(place, name)).collect();
            Series { name: name.into(), points }
        })
        .collect()
}

/// What stands at the axes.
pub(super) struct Axes {
    pub(super) x: (&'static str, TickFormat),
    pub(super) y: (&'static str, TickFormat),
    /// Of x and y.
    pub(super) log: (bool, bool),
}

pub(super) fn custom(format: fn(f64) -> String) -> TickFormat {
    TickFormat::Custom(Arc::new(format))
}

/// None if no transport has two points.
fn draw(name: String, title: String, series: Vec<Series>, axes: Axes) -> Option<Drawing> {
    let mut series: Vec<_> = series.into_iter().filter(|line| line.points.len() > 1).collect();
    // The legend follows the lines' order at the right edge.
    let last = |line: &Series| line.points.last().map_or(0.0, |point| point.1);
    series.sort_by(|a, b| last(b).total_cmp(&last(a)));
    let ends = series.iter().filter_map(|line| Some(line.points.last()?.0));
    let furthest = ends.fold(1.0, f64::max);
    let lines: Vec<Plot> = series.into_iter().map(|line| line_plot(line).into()).collect();
    (!lines.is_empty()).then(|| frame(lines, (name, title), axes, furthest))
}

/// The plots in one frame whose x axis, if it is not logarithmic, ends at `furthest`.
pub(super) fn frame(
    lines: Vec<Plot>,
    (name, title): (String, String),
    axes: Axes,
    furthest: f64,
) -> Drawing {
    let mut layout = Layout::auto_from_plots(&lines)
        .with_width(WIDTH)
        .with_height(HEIGHT)
        .with_theme(theme())
        .with_title(title.as_str())
        .with_title_size(16)
        .with_label_size(14)
        .with_tick_size(13)
        .with_body_size(13)
        .with_legend_box(false)
        .with_x_label(axes.x.0)
        .with_y_label(axes.y.0)
        .with_x_tick_format(axes.x.1)
        .with_y_tick_format(axes.y.1);
    if axes.log.0 {
        layout = layout.with_log_x();
    } else {
        // Whole numbers, and about eight of them at most.
        layout = layout.with_x_tick_step((furthest / 8.0).ceil());
    }
    if axes.log.1 {
        layout = layout.with_log_y();
    }
    let svg = finished(&kuva::render_to_svg(lines, layout), &name, &title);
    Drawing { name, title, svg }
}

fn line_plot(Series { name, points }: Series) -> LinePlot {
    let (colour, style) = look(&name);
    let width = if colour == "var(--blue)" { 2.6 } else { 1.6 };
    let has_range = points.iter().any(|&(_, value, low, high)| low < value || high > value);
    let errors: Vec<_> =
        points.iter().map(|&(_, value, low, high)| (value - low, high - value)).collect();
    let line = LinePlot::new()
        .with_data(points.iter().map(|&(x, y, ..)| (x, y)))
        .with_color(colour)
        .with_stroke_width(width)
        .with_line_style(style)
        .with_legend(name);
    if has_range { line.with_y_err_asymmetric(errors) } else { line }
}

/// The colour of the family and the dash of the form.
fn look(name: &str) -> (&'static str, LineStyle) {
    let dash = match name {
        name if is_floor(name) => LineStyle::Dotted,
        name if name.ends_with("zero-copy") || name.ends_with("seqpacket") => LineStyle::Dashed,
        name if name.ends_with("bytes") => LineStyle::Dotted,
        name if name.ends_with("batch") => LineStyle::DashDot,
        _ => LineStyle::Solid,
    };
    let colour = match name {
        name if is_floor(name) => "var(--grey)",
        name if name.starts_with("ipmpsc-0") => "var(--vermilion)",
        name if name.starts_with("ipmpsc") => "var(--blue)",
        name if name.starts_with("ipc-channel") => "var(--purple)",
        name if name.starts_with("unix") => "var(--sky)",
        name if name.starts_with("pipe") || name.starts_with("named-pipe") => "var(--green)",
        name if name.starts_with("tcp") => "var(--amber)",
        name if name.starts_with("posix") => "var(--brown)",
        _ => "var(--ink)",
    };
    (colour, dash)
}

fn theme() -> Theme {
    let (ink, soft, grid) = ("var(--ink)", "var(--soft)", "var(--grid)");
    Theme {
        background: "none".into(),
        axis_color: soft.into(),
        grid_color: grid.into(),
        tick_color: soft.into(),
        text_color: ink.into(),
        legend_bg: "none".into(),
        legend_border: "none".into(),
        font_family: Some("system-ui, sans-serif".into()),
        ..Theme::light()
    }
}

/// The library's SVG with three things that it does not do: it has a shape and not only a size, so
/// that it fills what shows it; it says what it is; and the name of its clip is its own and not the
/// next of a process-wide count, so that the same figures give the same bytes.
fn finished(svg: &str, name: &str, title: &str) -> String {
    let between = |from: &str, to: &str| Some(svg.split_once(from)?.1.split_once(to)?.0);
    let width = between(" width=\"", "\"").unwrap_or_default();
    let height = between(" height=\"", "\"").unwrap_or_default();
    let shape =
        format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\" ");
    let shaped = svg.replacen("<svg ", &shape, 1);
    match between("<clipPath id=\"", "\"") {
        Some(clip) => {
            let own = format!("clip-{name}");
            shaped
                .replace(&format!("id=\"{clip}\""), &format!("id=\"{own}\""))
                .replace(&format!("url(#{clip})"), &format!("url(#{own})"))
        }
        None => shaped,
    }
}

/// 50 % is 0.3 nines, 99 % are two.
fn nines(percent: f64) -> f64 {
    -((100.0 - percent) / 100.0).log10()
}

fn of_nines(nines: f64) -> String {
    let percent = 100.0 - 100.0 * 10.0_f64.powf(-nines);
    let text = format!("{percent:.3}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

pub(super) fn si(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{}G", value / 1e9),
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{value}"),
    }
}

pub(super) fn time(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{} us", ns / 1e3),
        ns => format!("{ns} ns"),
    }
}

fn si_bytes(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} MB", value / 1e6),
        value if value >= 1e3 => format!("{} kB", value / 1e3),
        value => format!("{value} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nines_lead_to_a_percentile_and_back() {
        for (percent, count, word) in
            [(50.0, 0.301, "50 %"), (99.0, 2.0, "99 %"), (99.9, 3.0, "99.9 %")]
        {
            assert!((nines(percent) - count).abs() < 0.001, "{percent}");
            assert_eq!(of_nines(nines(percent)), word);
        }
        assert_eq!(of_nines(0.0), "0 %");
    }

    #[test]
    fn ticks_are_round_numbers_with_a_unit() {
        assert_eq!([si(1e3), si(2e6), si(500.0)], ["1k", "2M", "500"]);
        assert_eq!([time(100.0), time(1e4), time(2e6)], ["100 ns", "10 us", "2 ms"]);
        assert_eq!([si_bytes(100.0), si_bytes(1e5), si_bytes(1e7)], ["100 B", "100 kB", "10 MB"]);
    }

    #[test]
    fn no_two_transports_look_the_same() {
        let names = [
            "ipmpsc",
            "ipmpsc-zero-copy",
            "ipmpsc-bytes",
            "ipmpsc-batch",
            "ipmpsc-0.5.1",
            "ipmpsc-0.5.1-zero-copy",
            "ipc-channel",
            "ipc-channel-bytes",
            "pipe",
            "unix-seqpacket",
            "unix-stream",
            "tcp",
            "posix-mq",
            "iceoryx2",
        ];
        let mut looks: Vec<_> = names.map(|name| format!("{:?}", look(name))).to_vec();
        looks.sort();
        looks.dedup();
        assert_eq!(looks.len(), names.len());
    }

    #[test]
    fn one_point_is_no_line() {
        let axes = || Axes { x: ("x", custom(si)), y: ("y", custom(si)), log: (true, true) };
        let series = |count: u32| {
            let points = (1..=count).map(|at| (f64::from(at), 2.0, 1.0, 3.0)).collect();
            vec![Series { name: "pipe".into(), points }]
        };
        assert!(draw("a".into(), "A".into(), series(1), axes()).is_none());
        let drawing = draw("a".into(), "A".into(), series(2), axes()).expect("a line");
        let file = drawing.file();
        assert!(file.contains("viewBox=\"0 0 ") && file.contains("pipe"), "{file}");
        assert!(!drawing.inline().contains("<style"), "the page has the colours");
        assert!(!file.contains("kuva-clip"), "{file}");
    }
}
