//! One measurement: its task, its processes, its row.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::plan::{Kind, Run, processors};
use crate::{
    child::{Crew, Plan, Trouble},
    jobs::latency,
    profile::Table,
    protocol::{Report, Task},
    record::{AttachRow, Cell, IdleRow, LatencyRow, MemoryRow, PingPongRow, Row, ThroughputRow},
    session::{Channel, Session},
    stats,
};

/// A measured time is stretched or shortened between these.
const MEASURE_RANGE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));
/// Before the measured time there is a part of it in which nothing counts.
const WARMUP_PART: u32 = 4;
/// A machine that is busy with something else may leave a run without a processor all the time.
const TRIES: u32 = 3;
/// How often the bytes go through the channel that fit it.
const FILLINGS: u64 = 2;
/// What a run takes beside the measured time, if that cannot be found out.
const OVERHEAD: Duration = Duration::from_millis(40);

/// How long each run is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) table: &'static Table,
    /// The profile's times are multiplied by this.
    pub(super) scale: f64,
}

impl Times {
    /// The measured time of a run.
    fn measure(&self, run: &Run) -> Duration {
        let table = self.table;
        let time = match run.kind {
            Kind::Throughput if table.large.sizes.contains(&(run.cell.size as u64)) => {
                table.large.time
            }
            Kind::Throughput => table.throughput.time,
            Kind::PingPong => table.ping_pong.time,
            Kind::Latency { .. } => table.latency.time,
            Kind::Idle => table.idle,
            Kind::Attach => return Duration::from_millis(2) * table.joins,
            Kind::Memory => return MEASURE_RANGE.0,
        };
        time.mul_f64(self.scale).clamp(MEASURE_RANGE.0, MEASURE_RANGE.1)
    }

    /// All that runs of this kind take, without their processes.
    pub(super) fn whole(&self, run: &Run) -> Duration {
        self.measure(run) + self.warmup(run)
    }

    fn warmup(&self, run: &Run) -> Duration {
        let has_one = matches!(run.kind, Kind::Throughput | Kind::PingPong | Kind::Latency { .. });
        if has_one { self.measure(run) / WARMUP_PART } else { Duration::ZERO }
    }

    fn task(&self, run: &Run) -> Result<Task> {
        let measure_ns = u64::try_from(self.measure(run).as_nanos())?;
        let warmup_ns = u64::try_from(self.warmup(run).as_nanos())?;
        let Cell { size, ring_bytes, producers, .. } = run.cell;
        Ok(match run.kind {
            Kind::Throughput => Task::Throughput { size, warmup_ns, measure_ns },
            Kind::PingPong => Task::PingPong { size, warmup_ns, measure_ns },
            Kind::Latency { offered_per_s } => {
                let spin_ns = latency::spin_ns(offered_per_s, producers, processors());
                Task::Latency { size, offered_per_s, spin_ns, warmup_ns, measure_ns }
            }
            Kind::Attach => Task::Attach { size, joins: self.table.joins },
            Kind::Idle => Task::Idle { size, for_ns: measure_ns },
            Kind::Memory => {
                let all = (FILLINGS * ring_bytes).div_ceil(size as u64);
                Task::Memory { size, messages: all.div_ceil(u64::from(producers)) }
            }
        })
    }
}

/// Measures a batch of runs, all at the same time, and records what went well.
pub(super) fn measure(
    session: &mut Session,
    times: Times,
    batch: &[&Run],
    block: u32,
) -> Result<Vec<Result<(), Trouble>>> {
    let mut rows = self::rows(session, times, batch, block)?;
    for _ in 1..TRIES {
        if rows.iter().any(|row| matches!(row, Ok(None))) {
            rows = self::rows(session, times, batch, block)?;
        }
    }
    let mut outcomes = Vec::new();
    for row in rows {
        outcomes.push(match row {
            Ok(Some(row)) => {
                session.record(&row)?;
                Ok(())
            }
            Ok(None) => {
                let what = "no message arrived in the measured time, however often it was tried";
                Err(Trouble::Failed(what.into()))
            }
            Err(trouble) => Err(trouble),
        });
    }
    Ok(outcomes)
}

/// A row for each run, or none where nothing happened in the measured time.
fn rows(
    session: &mut Session,
    times: Times,
    batch: &[&Run],
    block: u32,
) -> Result<Vec<Result<Option<Row>, Trouble>>> {
    let mut plans = Vec::new();
    for run in batch {
        plans.push(plan(session, run, times.task(run)?));
    }
    let mut crews: Vec<_> = plans.iter().map(Crew::gather).collect();
    for crew in crews.iter_mut().flatten() {
        crew.go();
    }
    let mut rows = Vec::new();
    for ((run, plan), crew) in batch.iter().zip(&plans).zip(crews) {
        let reports = crew.and_then(|crew| crew.finish(times.whole(run)));
        session.clear(plan);
        rows.push(reports.map(|reports| row(run, block, reports)));
    }
    Ok(rows)
}

/// What it takes to start and end the processes of a channel, found out with a channel that does
/// nothing else. One that fails will do so again where it counts.
pub(super) fn overhead(session: &mut Session, run: &Run) -> Duration {
    let (warmup_ns, measure_ns) = (0, 1_000_000);
    let size = run.cell.size;
    let plan = plan(session, run, Task::Throughput { size, warmup_ns, measure_ns });
    let start = Instant::now();
    let reports = Crew::gather(&plan).and_then(|mut crew| {
        crew.go();
        crew.finish(Duration::ZERO)
    });
    session.clear(&plan);
    reports.map_or(OVERHEAD, |_| start.elapsed())
}

fn plan(session: &mut Session, run: &Run, task: Task) -> Plan {
    let cell = &run.cell;
    let channel = Channel {
        ring_bytes: cell.ring_bytes,
        message_max: cell.size as u64,
        producers: cell.producers,
        seed: session.options.seed,
    };
    let plan = session.plan(&cell.transport, task, channel);
    Plan { pinned: cell.pinned, ..plan }
}

fn row(run: &Run, block: u32, reports: (Report, Vec<Report>)) -> Option<Row> {
    let (consumer, producers) = reports;
    let cell = run.cell.clone();
    // A producer holds the watch of a round trip, and a rate that is far too high lets nothing
    // through in time, which is a result.
    let may_be_none = run.kind == Kind::PingPong || consumer.saturated;
    if consumer.measured == 0 && !may_be_none {
        return None;
    }
    Some(match run.kind {
        Kind::Throughput => Row::Throughput(ThroughputRow::new(cell, block, consumer, &producers)),
        Kind::PingPong => {
            // A floor's only worker is the consumer; otherwise the producers hold the watch.
            let reports = producers.into_iter().chain([consumer]);
            let round_trips = reports.flat_map(|report| report.round_trips).collect();
            Row::PingPong(PingPongRow { cell, block, round_trips })
        }
        Kind::Latency { offered_per_s } => {
            Row::Latency(LatencyRow::new(cell, block, offered_per_s, consumer, &producers))
        }
        Kind::Attach => Row::Attach(AttachRow {
            cell,
            block,
            connect: consumer.times.lag,
            first_message: consumer.times.response,
        }),
        Kind::Idle => Row::Idle(IdleRow {
            cell,
            block,
            elapsed_ns: consumer.measured_ns,
            cpu_ns: consumer.idle.cpu_ns,
            voluntary_switches: consumer.idle.voluntary,
            involuntary_switches: consumer.idle.involuntary,
        }),
        Kind::Memory => {
            let each: Vec<_> = producers.iter().map(|report| report.memory_bytes as f64).collect();
            let producer_bytes = stats::median(&each).unwrap_or_default() as u64;
            Row::Memory(MemoryRow { cell, consumer_bytes: consumer.memory_bytes, producer_bytes })
        }
    })
}
