//! The first table: what a person needs who has to choose, and what must be said beside it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    sheets::{Source, cell, is_floor, percent, ratio_text},
    summary::{Kind, Metric, Place, Times},
    table::{Sheet, Text},
    words::{grouped, nanoseconds, producers, short, size},
};
use crate::record::{Env, Row};

/// Speeds are compared by this.
const SPEED: Metric = Metric::MessagesPerS;

/// One table for the fewest producers, and one for the most.
pub(super) fn sheets(source: Source<'_>) -> Vec<Sheet> {
    if source.env.emulated.is_some() {
        // What an emulator is fast at is nobody's choice.
        return Vec::new();
    }
    let places = source.summary.with_usual_rings();
    let counts: Vec<_> = places.iter().map(|place| place.producers).collect();
    let mut counts: Vec<_> =
        counts.iter().min().into_iter().chain(counts.iter().max()).copied().collect();
    counts.dedup();
    counts.into_iter().filter_map(|count| sheet(source, &places, count)).collect()
}

fn sheet(source: Source<'_>, places: &[Place], count: u32) -> Option<Sheet> {
    let mut places: Vec<_> = places.iter().filter(|place| place.producers == count).collect();
    places.dedup_by_key(|place| place.size);
    let trip = trip(source);
    let idle = source.summary.places(Kind::Idle).into_iter().next();
    let kills = kills(source.rows);
    let mut head = vec!["transport".into(), "carries".into()];
    head.extend(places.iter().map(|place| size(place.size)));
    head.extend(trip.map(|_| ["round trip p50".into(), "p99".into()]).into_iter().flatten());
    head.extend(idle.map(|_| "idle CPU".into()));
    head.extend((!kills.is_empty()).then(|| "kill -9".into()));
    let title = format!("At a glance: messages a second by size, {}", producers(count));
    let mut sheet = Sheet::new(title, &head).detail(&["carries", "p99", "idle CPU", "kill -9"]);
    sheet.is_headline = true;
    for name in ranked(source, &places) {
        let carries = if source.is_raw(name) { "bytes" } else { "typed" };
        let mut line: Vec<Text> = vec![name.into(), carries.into()];
        line.extend(places.iter().map(|&&place| speed(source, place, name)));
        if let Some(trip) = trip {
            let time = |metric| cell(source.summary.figure(trip, name, metric), nanoseconds);
            line.push(time(Metric::P50(Times::RoundTrip)));
            line.push(time(Metric::P99(Times::RoundTrip)));
        }
        if let Some(idle) = idle {
            line.push(cell(source.summary.figure(idle, name, Metric::IdleCpu), percent));
        }
        if !kills.is_empty() {
            line.push(kills.get(name).cloned().unwrap_or_else(|| "-".into()).into());
        }
        source.add(&mut sheet, name, line);
    }
    sheet.note("Fastest first over all sizes; faster or slower than ipmpsc, if beyond the noise.");
    let noise = |place: &&Place| {
        let noise = source.summary.noise(**place, SPEED)?;
        Some(format!("{} {:.0} %", size(place.size), noise * 100.0))
    };
    let noise: Vec<_> = places.iter().filter_map(noise).collect();
    if !noise.is_empty() {
        sheet.note(format!("Noise floor: {}.", noise.join(", ")));
    }
    sheet.aside(
        "Each speed is the median over blocks; beside it the ratio to \
         ipmpsc (to ipmpsc-bytes for what carries plain bytes) within the same blocks, and whether \
         it is a difference: faster or slower only if its interval clears the noise that a twin of \
         ipmpsc shows at that size.",
    );
    if let Some(trip) = trip {
        let placed = if trip.pinned { "a processor for each side" } else { "placed freely" };
        sheet.note(format!("Round trips of {}, {placed}.", size(trip.size)));
    }
    if !kills.is_empty() {
        sheet.aside("kill -9: so many producers were killed under load, and all checks held.");
    }
    sheet.filled()
}

/// Channels from the fastest, by the mean of the logarithms of their speeds against the fastest at
/// each size; floors last.
fn ranked<'a>(source: Source<'a>, places: &[&Place]) -> Vec<&'a str> {
    let rate = |place: Place, name: &str| Some(source.summary.figure(place, name, SPEED)?.value);
    let names = source.env.transports.iter().map(|stamp| stamp.name.as_str());
    let mut scored: Vec<(bool, f64, &str)> = Vec::new();
    for name in names {
        let mut logs = Vec::new();
        for &&place in places {
            let channels = source.lines(place).into_iter().filter(|(name, _)| !is_floor(name));
            let best = channels.filter_map(|(name, _)| rate(place, name)).fold(1.0, f64::max);
            logs.extend(rate(place, name).map(|rate| (rate.max(1e-9) / best).ln()));
        }
        if !logs.is_empty() {
            scored.push((is_floor(name), -logs.iter().sum::<f64>() / logs.len() as f64, name));
        }
    }
    scored.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    scored.into_iter().map(|(_, _, name)| name).collect()
}

/// The speed, and how it compares with ours of the same form.
fn speed(source: Source<'_>, place: Place, name: &str) -> Text {
    let Some(figure) = source.summary.figure(place, name, SPEED) else { return "-".into() };
    let rate = short(figure.value);
    match source.summary.ratio(place, SPEED, name, source.ours(name)) {
        Some(ratio) if !is_floor(name) => {
            let short = format!("{rate} {}", ratio.verdict.word());
            Text { short, long: format!("{rate} ({})", ratio_text(name, Some(ratio)).short) }
        }
        _ => rate.into(),
    }
}

/// Where the round trip of the headline is measured: the smallest message, with a processor for
/// each side if it was measured so.
pub(super) fn trip(source: Source<'_>) -> Option<Place> {
    let places = source.summary.places(Kind::RoundTrip);
    places.into_iter().min_by_key(|place| (place.size, !place.pinned))
}

/// What killing the processes of each transport did to the others.
fn kills(rows: &[Row]) -> BTreeMap<&str, String> {
    let (mut kills, mut failed) = (BTreeMap::new(), BTreeSet::new());
    for row in rows {
        match row {
            Row::Torture(row) => {
                *kills.entry(row.transport.as_str()).or_insert(0) += row.kills;
            }
            Row::Failed(row) if row.command == "torture" => {
                failed.insert(row.transport.as_str());
            }
            _ => {}
        }
    }
    let mut words: BTreeMap<_, _> =
        kills.into_iter().map(|(name, kills)| (name, format!("{} ok", grouped(kills)))).collect();
    words.extend(failed.into_iter().map(|name| (name, "fails".to_owned())));
    words
}

/// What stands above all numbers of this run, if anything must.
pub(super) fn warnings(env: &Env, rows: &[Row]) -> Vec<String> {
    let mut warnings = Vec::new();
    if !env.is_optimised() {
        let assertions = if env.debug_assertions { "on" } else { "off" };
        warnings.push(format!(
            "Built with profile {}, opt-level {}, debug assertions {assertions}: ratios within \
             this run tell something, its speeds do not, and it is not to be published.",
            env.profile, env.opt_level
        ));
    }
    if let Some(name) = &env.emulated {
        warnings.push(format!(
            "Emulated, by {name}: whether promises were kept tells something, no time and no speed \
             does, so nothing is ranked."
        ));
    }
    let failed = rows.iter().filter(|row| matches!(row, Row::Failed(_))).count();
    match env.ending.as_str() {
        "passed" => {}
        "" => warnings.push("The run did not come to its end: what follows is a part.".into()),
        "interrupted" => warnings.push("Interrupted: what follows is a part.".into()),
        "broken" => warnings.push("A promise of ipmpsc was broken; see the failures.".into()),
        "inconclusive" => warnings
            .push("Inconclusive: something that had to be reached or measured was not.".into()),
        other => warnings.push(format!("The run ended so: {other}.")),
    }
    if failed > 0 {
        warnings.push(format!("Failures, listed below: {failed}."));
    }
    warnings
}

/// What is unfair about these numbers.
pub(super) fn unfair(source: Source<'_>) -> Vec<String> {
    let Source { env, summary, .. } = source;
    let kinds = [Kind::Throughput, Kind::Latency];
    let counts = kinds.iter().flat_map(|&kind| summary.places(kind));
    let most = counts.map(|place| place.producers).max().unwrap_or_default();
    let mut unfair = Vec::new();
    if most as usize + 1 > env.cores {
        unfair.push(format!(
            "Oversubscribed: {} and a consumer share {} processors, so that only {1} processes run \
             at a time. Such rows show how a channel lives with the scheduler, and say nothing on \
             how producers scale over many cores.",
            producers(most),
            env.cores
        ));
    }
    if env.virtual_machine {
        unfair.push(
            "The machine is virtual: what its host did meanwhile is part of the numbers, and \
             waking another processor costs more than on bare metal."
                .into(),
        );
    }
    let mut always = vec![
        "ipmpsc spins for a moment before it sleeps, pipes and sockets sleep at once: it gains \
         speed where a processor is free, and pays in CPU time, which stands beside each speed.",
        "The ring is as large as each table says; pipes, sockets and queues have the buffers that \
         their kernel gives by default.",
        "Every message is written in full by the producer and read in full by the consumer. Who \
         passes references to shared memory, or never looks at the bytes, sees other ratios.",
    ];
    let has = |name: &str| env.transports.iter().any(|stamp| stamp.name == name);
    if has("ipc-channel") {
        always.push(
            "ipc-channel's typed send takes its message by value, which costs an allocation; it \
             can carry channels and shared memory inside messages, which ipmpsc cannot.",
        );
    }
    if has("unix-socket") || has("unix-stream") || has("tcp") || has("pipe") {
        always.push(
            "Pipes and sockets need no shared file and no trust between the processes, and sockets \
             reach other users or machines; ipmpsc does neither.",
        );
    }
    unfair.extend(always.into_iter().map(String::from));
    unfair
}

/// Where and how the numbers came about.
pub(super) fn stamp(env: &Env) -> Vec<(&'static str, String)> {
    let assertions = if env.debug_assertions { "on" } else { "off" };
    let virtual_machine = if env.virtual_machine { ", virtual" } else { "" };
    let build = format!(
        "{}, profile {}, opt-level {}, debug assertions {assertions}, {}",
        env.rustc, env.profile, env.opt_level, env.target
    );
    let started = if env.started.is_empty() { "unknown" } else { &env.started };
    vec![
        ("machine", format!("{}, {} processors{virtual_machine}", env.cpu, env.cores)),
        ("system", format!("kernel {}, {}", env.kernel, env.libc)),
        ("build", build),
        ("revision", env.revision.clone()),
        ("command", env.command()),
        ("seed", env.seed.to_string()),
        ("started", started.to_owned()),
    ]
}

/// How the words and numbers of the tables are meant.
pub(super) const HOW_TO_READ: [&str; 7] = [
    "A block measures everything once, in random order, things that are compared side by side. \
     Ratios are taken within each block, and their median over blocks is given with its interval.",
    "An interval is one of order statistics: whatever the distribution, it holds the true median \
     with the probability under the table, 95 % or more from six blocks on.",
    "`4.5x faster`: 4.5 times as many messages in the same time, or one in 4.5 times less time; \
     `4.5x slower` the other way round; otherwise a ratio above one leans towards faster.",
    "The noise floor is what a second, identical measurement of ipmpsc in each block shows as a \
     difference. `faster` and `slower`: the whole interval is beyond it; `same`: it is all \
     within, and the noise is 25 % or less; `unclear`: neither, or fewer than three blocks.",
    "Percentiles are of the times of all blocks together; a dash stands where not one value lies \
     beyond. `saturated`: the producers could not keep the offered rate, so that times would mean \
     nothing.",
    "`far`: so many blocks lie beyond Tukey's fences. They count like all others. Fairness is \
     Jain's index over the producers: 1 if all sent as much, 1/n if one of n sent everything.",
    "CPU ns/msg is the time of all processes together. Floors are no channels between processes: \
     what the harness itself, a copy in memory or threads of one process cost here.",
];
