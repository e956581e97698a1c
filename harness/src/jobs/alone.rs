//! What one worker does by itself: the floors, which join no processes.

use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use super::{
    clock_interval, ping_pong,
    throughput::{self, Plan},
};
use crate::{
    payload::{Bodies, Expected},
    protocol::{Job, Report},
    sys::{self, Processor, now_ns},
    transports::{Floor, Setup, Through, Word},
};

/// Messages of one size as fast as they go, by bodies made before the clock, one a producer.
pub(crate) fn throughput(
    job: &Job,
    plan: Plan,
    floor: Floor,
    bodies: Vec<Bodies>,
) -> Result<Report> {
    match floor {
        Floor::Turns(ends) => {
            let mut bodies = bodies.into_iter().next().context("one producer")?;
            by_turns(job, plan, &mut bodies, &mut *ends(&job.setup))
        }
        Floor::Threads(ends) => {
            let (txs, mut rx) = ends(&job.setup);
            thread::scope(move |scope| {
                for (mut tx, mut bodies) in txs.into_iter().zip(bodies) {
                    // The consumer misses a message if one of them fails.
                    scope.spawn(move || throughput::produce(plan, &mut bodies, &mut *tx));
                }
                throughput::consume(job, plan, &mut *rx)
            })
        }
        Floor::Word => bail!("a word carries no messages"),
    }
}

/// One thread that sends and receives by turns.
fn by_turns(
    job: &Job,
    plan: Plan,
    bodies: &mut Bodies,
    channel: &mut dyn Through,
) -> Result<Report> {
    let mut expected = Expected::new(job.seed, 1, plan.size);
    let interval = clock_interval(plan.size);
    let mut sequence = 0;
    let mut start = None;
    loop {
        if sequence % interval == 0 {
            let now = now_ns();
            if start.is_none() && now >= plan.warm_at_ns {
                start = Some((sequence, now));
            }
            if now >= plan.end_at_ns {
                return Ok(throughput::report(&expected, sequence, start));
            }
        }
        let mut verdict = Ok(false);
        channel.pass(bodies.stamp(sequence), &mut |message| verdict = expected.check(message))?;
        verdict.map_err(|what| anyhow!("{what}"))?;
        sequence += 1;
    }
}

/// One message each way in turn, between two threads.
pub(crate) fn round_trips(job: &Job, plan: Plan, pinned: bool, floor: Floor) -> Result<Report> {
    match floor {
        Floor::Turns(_) => bail!("one thread has no round trip"),
        Floor::Threads(ends) => {
            let setup = Setup { producers: 1, ..job.setup.clone() };
            let (mut there, mut there_rx) = ends(&setup);
            let (mut back, mut back_rx) = ends(&setup);
            let mut there = there.pop().context("one producer")?;
            let mut back = back.pop().context("one producer")?;
            between(
                pinned,
                move || ping_pong::ping(job, plan, &mut *there, &mut *back_rx),
                move || ping_pong::pong(job, plan, &mut *back, &mut *there_rx).map(drop),
            )
        }
        Floor::Word => {
            let word = &Word::default();
            let ping = move || {
                let report = ping_pong::watch(plan, |sequence| {
                    word.set(2 * sequence + 1);
                    word.differs_from(2 * sequence + 1);
                    Ok(())
                });
                word.set(STOP);
                report
            };
            let pong = move || {
                let mut last = 0;
                loop {
                    last = word.differs_from(last);
                    if last == STOP {
                        return Ok(());
                    }
                    last += 1;
                    word.set(last);
                }
            };
            between(pinned, ping, pong)
        }
    }
}

/// Told instead of a turn.
const STOP: u64 = u64::MAX;

/// Runs both sides, the answering one in this thread. Whichever fails drops its ends, which ends
/// the other.
fn between(
    pinned: bool,
    ping: impl FnOnce() -> Result<Report> + Send,
    pong: impl FnOnce() -> Result<()>,
) -> Result<Report> {
    thread::scope(|scope| {
        let ping = scope.spawn(move || {
            pin(pinned, Processor::Nth(0));
            ping()
        });
        pin(pinned, Processor::Last);
        let answered = pong();
        let report = ping.join().map_err(|_| anyhow!("the pinging thread panicked"))?;
        answered.and(report)
    })
}

/// A refusal shows in the numbers only, as it does with processes.
fn pin(pinned: bool, which: Processor) {
    if pinned {
        sys::pin(which);
    }
}
