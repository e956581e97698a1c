//! Messages of one size as fast as they go: a closed loop.
//!
//! Producers send until an absolute time, and then one last message each. The consumer counts from
//! the first message after the warm-up to the last of all, so nothing that was sent goes uncounted.

use anyhow::{Result, bail};

use super::{clock_interval, receive};
use crate::{
    payload::{Bodies, END, Expected},
    protocol::{Job, Report},
    sys::now_ns,
    transports::{Rx, Transport, Tx},
};

/// When the warm-up and the sending end, and how long each message is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) size: usize,
    pub(crate) warm_at_ns: u64,
    pub(crate) end_at_ns: u64,
}

/// A producer.
pub(crate) fn produce(plan: Plan, bodies: &mut Bodies, tx: &mut dyn Tx) -> Result<Report> {
    let interval = clock_interval(plan.size);
    let mut sequence = 0;
    while sequence % interval != 0 || now_ns() < plan.end_at_ns {
        tx.send(bodies.stamp(sequence))?;
        sequence += 1;
    }
    tx.send(bodies.stamp(sequence | END))?;
    Ok(Report { messages: sequence + 1, ..Report::default() })
}

/// As many messages as one call shall send: a power of two, and at most a quarter of the ring.
pub(crate) fn batch(job: &Job, transport: &dyn Transport, size: usize) -> usize {
    let quarter = usize::try_from(job.setup.ring_bytes / 4).unwrap_or(usize::MAX);
    let room = 1 << (quarter / size).max(1).ilog2();
    transport.batch().min(room)
}

/// A producer of batches.
pub(crate) fn produce_batches(
    plan: Plan,
    batch: usize,
    bodies: &mut Bodies,
    tx: &mut dyn Tx,
) -> Result<Report> {
    let mut sequence = 0;
    while now_ns() < plan.end_at_ns {
        tx.send_batch(bodies.stamp_batch(sequence, batch))?;
        sequence += batch as u64;
    }
    tx.send(bodies.stamp(sequence | END))?;
    Ok(Report { messages: sequence + 1, ..Report::default() })
}

/// The consumer of all batches of `job.setup.producers` producers.
pub(crate) fn consume_batches(job: &Job, plan: Plan, rx: &mut dyn Rx) -> Result<Report> {
    let mut expected = Expected::new(job.seed, job.setup.producers, plan.size);
    let mut running = job.setup.producers;
    let mut messages = 0;
    let mut start = None;
    let mut fault = None;
    while running > 0 {
        messages += rx.recv_batch(&mut |message| match expected.check(message) {
            Ok(is_last) => running -= u32::from(is_last),
            Err(what) => fault = fault.take().or(Some(what)),
        })?;
        if let Some(what) = fault {
            bail!("{what}");
        }
        if start.is_none() {
            let now = now_ns();
            start = (now >= plan.warm_at_ns).then_some((messages, now));
        }
    }
    Ok(report(&expected, messages, start))
}

/// The consumer of `job.setup.producers` producers.
pub(crate) fn consume(job: &Job, plan: Plan, rx: &mut dyn Rx) -> Result<Report> {
    let mut expected = Expected::new(job.seed, job.setup.producers, plan.size);
    let mut running = job.setup.producers;
    let mut messages = 0;
    let mut start = None;
    while running > 0 {
        if receive(rx, |message| expected.check(message))? {
            running -= 1;
        }
        messages += 1;
        if start.is_none() {
            let now = now_ns();
            start = (now >= plan.warm_at_ns).then_some((messages, now));
        }
    }
    Ok(report(&expected, messages, start))
}

/// What was received, from the first message after the warm-up on.
pub(crate) fn report(expected: &Expected, messages: u64, start: Option<(u64, u64)>) -> Report {
    let now = now_ns();
    let (first, start_ns) = start.unwrap_or((messages, now));
    Report {
        messages,
        measured: messages - first,
        measured_ns: now - start_ns,
        by_producer: expected.counts(),
        ..Report::default()
    }
}
