//! Every transport by size and by producers, in randomised blocks, each measured beside its rivals.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use rand::{SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64Mcg;

use crate::{
    child::{Crew, Plan, Trouble},
    protocol::Task,
    record::{Cell, PingPongRow, Row, ThroughputRow},
    scenario::{BLOCKS, PING_PONG_SIZES, SIZES},
    session::{Channel, Session},
    transports::{ALL, Transport, find},
};

/// Measured time of a run, unless `--for` spreads another time over all runs.
const MEASURE: Duration = Duration::from_millis(60);
/// Before that, as part of it.
const WARMUP_PART: u32 = 4;
/// The measured time of a run at least and at most.
const MEASURE_RANGE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));
/// What a run takes beside the measured time, roughly.
const OVERHEAD: Duration = Duration::from_millis(40);
/// The form that is measured twice in each block.
const TWIN: &str = "ipmpsc";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Throughput,
    PingPong,
}

/// Compares all named transports, or all.
pub(crate) fn run(session: &mut Session, time: Option<Duration>) -> Result<()> {
    for name in &session.options.transports.clone() {
        if let Some(why) = find(name).and_then(Transport::missing) {
            session.skip(name, &why);
        }
    }
    let cells = cells(session);
    let runs = u32::try_from(cells.len())? * BLOCKS;
    let measure = time.map_or(MEASURE, |time| {
        let each = (time / runs.max(1)).saturating_sub(OVERHEAD);
        each.clamp(MEASURE_RANGE.0, MEASURE_RANGE.1)
    });
    session.progress.begin("compare", u64::from(runs));
    let mut random = Pcg64Mcg::seed_from_u64(session.options.seed);
    let mut failed = BTreeSet::new();
    let mut last_block = Duration::ZERO;
    for block in 0..BLOCKS {
        if time.is_none() && !session.has_time_for(last_block) {
            session.progress.say(&format!("{block} blocks of {BLOCKS}, as the time is up"));
            break;
        }
        let started = Instant::now();
        for (kind, cell) in shuffled(&cells, &mut random) {
            if session.is_over() {
                return Ok(());
            }
            if time.is_none() && session.is_late() {
                session.inconclusive("the time for everything is used up; some blocks are missing");
                return settle(session, &cells, &failed);
            }
            if failed.contains(&(kind, cell.clone())) {
                continue;
            }
            session.progress.step(&name(kind, &cell));
            if let Err(trouble) = measure_once(session, kind, &cell, block, measure)? {
                session.fail_with(&trouble, "compare", &name(kind, &cell), &cell.transport)?;
                failed.insert((kind, cell));
            }
            session.progress.stepped();
        }
        last_block = started.elapsed();
    }
    settle(session, &cells, &failed)
}

/// Everything that did not fail has passed.
fn settle(
    session: &mut Session,
    cells: &[(Kind, Cell)],
    failed: &BTreeSet<(Kind, Cell)>,
) -> Result<()> {
    session.progress.end();
    let is_counted = |cell: &Cell| !cell.twin;
    for (kind, cell) in cells {
        if is_counted(cell) && !failed.contains(&(*kind, cell.clone())) {
            session.pass();
        }
    }
    Ok(())
}

fn cells(session: &Session) -> Vec<(Kind, Cell)> {
    let options = &session.options;
    let all: Vec<_> = ALL.iter().map(|transport| transport.name()).collect();
    let names = if options.transports.is_empty() { &all } else { &options.transports };
    let sizes = if options.sizes.is_empty() { &SIZES[..] } else { &options.sizes };
    let counts = BTreeSet::from([1, options.producers]);
    // A round trip depends on whether both sides share a processor, which the scheduler decides
    // anew each time; where there are two, it is measured that way and with one each.
    let has_two = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    let pinnings: &[bool] = if has_two { &[false, true] } else { &[false] };
    let mut cells = Vec::new();
    for &transport in names {
        let Some(kind) = find(transport).filter(|transport| transport.missing().is_none()) else {
            continue;
        };
        let fits = |size: u64| kind.longest().is_none_or(|longest| size <= longest);
        let twins: &[bool] = if transport == TWIN { &[false, true] } else { &[false] };
        for &twin in twins {
            let cell = |producers, size, pinned| {
                let size = usize::try_from(size).expect("args keeps sizes below a ring's");
                let transport = transport.into();
                let ring_bytes = options.ring_for(size as u64);
                Cell { producers, size, ring_bytes, transport, twin, pinned }
            };
            for &size in sizes {
                let counts = counts.iter().filter(|&&p| fits(size) && kind.has_throughput(p));
                let cell = |&producers| (Kind::Throughput, cell(producers, size, false));
                cells.extend(counts.map(cell));
            }
            let turns = PING_PONG_SIZES.iter().filter(|size| sizes.contains(size));
            if kind.has_round_trip() {
                let turns = turns.filter(|&&size| fits(size));
                for (&size, &pinned) in
                    turns.flat_map(|size| pinnings.iter().map(move |p| (size, p)))
                {
                    cells.push((Kind::PingPong, cell(1, size, pinned)));
                }
            }
        }
    }
    cells
}

/// All cells in random order, but those of one size and count side by side, as they are compared.
fn shuffled(cells: &[(Kind, Cell)], random: &mut Pcg64Mcg) -> Vec<(Kind, Cell)> {
    let group = |(kind, cell): &(Kind, Cell)| (*kind, cell.producers, cell.size, cell.pinned);
    let mut groups: Vec<_> = cells.iter().map(group).collect::<BTreeSet<_>>().into_iter().collect();
    groups.shuffle(random);
    let mut order = Vec::new();
    for wanted in groups {
        let mut together: Vec<_> =
            cells.iter().filter(|cell| group(cell) == wanted).cloned().collect();
        together.shuffle(random);
        order.extend(together);
    }
    order
}

fn name(kind: Kind, cell: &Cell) -> String {
    let what = match kind {
        Kind::Throughput => "throughput",
        Kind::PingPong if cell.pinned => "pinned round trip",
        Kind::PingPong => "round trip",
    };
    let twin = if cell.twin { " (twin)" } else { "" };
    format!("{what} {}{twin}, {} bytes, producers {}", cell.transport, cell.size, cell.producers)
}

/// One run of one cell, recorded if it went well.
fn measure_once(
    session: &mut Session,
    kind: Kind,
    cell: &Cell,
    block: u32,
    measure: Duration,
) -> Result<Result<(), Trouble>> {
    let size = cell.size;
    let warmup_ns = u64::try_from((measure / WARMUP_PART).as_nanos())?;
    let measure_ns = u64::try_from(measure.as_nanos())?;
    let task = match kind {
        Kind::Throughput => Task::Throughput { size, warmup_ns, measure_ns },
        Kind::PingPong => Task::PingPong { size, warmup_ns, measure_ns, pinned: cell.pinned },
    };
    let channel = Channel {
        ring_bytes: cell.ring_bytes,
        message_max: size as u64,
        producers: cell.producers,
        seed: session.options.seed,
    };
    let plan = session.plan(&cell.transport, task, channel);
    let outcome = crew_run(&plan, measure);
    session.clear(&plan);
    let (consumer, producers) = match outcome {
        Ok(reports) => reports,
        Err(trouble) => return Ok(Err(trouble)),
    };
    if kind == Kind::Throughput {
        if consumer.measured == 0 {
            let what = "no message arrived after the warm-up".into();
            return Ok(Err(Trouble::Failed(what)));
        }
        let row = ThroughputRow::new(cell.clone(), block, consumer, &producers);
        session.record(&Row::Throughput(row))?;
    } else {
        // A floor's only worker is the consumer; otherwise the producers hold the watch.
        let reports = producers.into_iter().chain([consumer]);
        let round_trips = reports.flat_map(|report| report.round_trips).collect();
        let cell = cell.clone();
        session.record(&Row::PingPong(PingPongRow { cell, block, round_trips }))?;
    }
    Ok(Ok(()))
}

fn crew_run(
    plan: &Plan,
    measure: Duration,
) -> Result<(crate::protocol::Report, Vec<crate::protocol::Report>), Trouble> {
    let mut crew = Crew::gather(plan)?;
    crew.go();
    crew.finish(measure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(transport: &str, size: usize) -> (Kind, Cell) {
        let transport = transport.into();
        let ring_bytes = 1 << 20;
        (
            Kind::Throughput,
            Cell { producers: 1, size, ring_bytes, transport, twin: false, pinned: false },
        )
    }

    #[test]
    fn a_block_holds_every_cell_once_and_rivals_side_by_side() {
        let cells: Vec<_> = [64, 1024, 65_536]
            .into_iter()
            .flat_map(|size| ["ipmpsc", "pipe", "null"].map(|name| cell(name, size)))
            .collect();
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let order = shuffled(&cells, &mut random);
        assert_ne!(order, cells);
        for group in order.chunks(3) {
            assert!(group.iter().all(|(_, cell)| cell.size == group[0].1.size));
        }
        let mut sorted = order.clone();
        sorted.sort();
        let mut expected = cells;
        expected.sort();
        assert_eq!(sorted, expected);
    }

    #[test]
    fn a_seed_fixes_the_order() {
        let cells: Vec<_> = (1..20).map(|size| cell("pipe", size)).collect();
        let order = |seed| shuffled(&cells, &mut Pcg64Mcg::seed_from_u64(seed));
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn the_twin_is_ours() {
        assert!(crate::transports::is_ours(TWIN));
    }
}
