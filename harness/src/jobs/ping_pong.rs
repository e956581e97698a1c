//! One message each way in turn: the time for a round trip.

use anyhow::Result;

use super::{counts, histogram, receive, throughput::Plan};
use crate::{
    payload::{Bodies, END, Expected},
    protocol::{Job, Report},
    sys::now_ns,
    transports::{Rx, Tx},
};

/// The side that starts and holds the watch.
pub(crate) fn ping(job: &Job, plan: Plan, tx: &mut dyn Tx, rx: &mut dyn Rx) -> Result<Report> {
    let mut bodies = Bodies::new(job.seed, 0, plan.size);
    let mut expected = Expected::new(job.seed, 1, plan.size);
    let report = watch(plan, |sequence| {
        tx.send(bodies.stamp(sequence))?;
        receive(rx, |message| expected.check(message)).map(drop)
    })?;
    tx.send(bodies.stamp(report.messages | END))?;
    Ok(report)
}

/// Times turn after turn until the end.
pub(crate) fn watch(plan: Plan, mut turn: impl FnMut(u64) -> Result<()>) -> Result<Report> {
    let mut histogram = histogram();
    let mut sequence = 0;
    let mut sent_ns = now_ns();
    while sent_ns < plan.end_at_ns {
        turn(sequence)?;
        let back_ns = now_ns();
        if sent_ns >= plan.warm_at_ns {
            histogram.saturating_record(back_ns - sent_ns);
        }
        sent_ns = back_ns;
        sequence += 1;
    }
    let round_trips = counts(&histogram);
    Ok(Report { messages: sequence, measured: histogram.len(), round_trips, ..Report::default() })
}

/// The side that answers.
pub(crate) fn pong(job: &Job, plan: Plan, tx: &mut dyn Tx, rx: &mut dyn Rx) -> Result<Report> {
    let mut bodies = Bodies::new(job.seed, 0, plan.size);
    let mut expected = Expected::new(job.seed, 1, plan.size);
    let mut sequence = 0;
    while !receive(rx, |message| expected.check(message))? {
        tx.send(bodies.stamp(sequence))?;
        sequence += 1;
    }
    Ok(Report { messages: sequence, ..Report::default() })
}
