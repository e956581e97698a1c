//! What a channel makes its processes hold after traffic of more than it can keep.

use anyhow::{Context, Result};

use super::receive;
use crate::{
    payload::{Bodies, END, Expected},
    protocol::{Job, Report},
    sys::held_bytes,
    transports::{Rx, Tx},
};

/// What this process holds; the orchestrator does not ask where the system does not say.
pub(crate) fn held() -> Result<u64> {
    held_bytes().context("the system does not say what memory a process holds")
}

/// A producer that held so many bytes before it had joined.
pub(crate) fn produce(
    messages: u64,
    before: u64,
    bodies: &mut Bodies,
    tx: &mut dyn Tx,
) -> Result<Report> {
    for sequence in 0..messages {
        tx.send(bodies.stamp(sequence))?;
    }
    tx.send(bodies.stamp(messages | END))?;
    let memory_bytes = held()?.saturating_sub(before);
    Ok(Report { messages: messages + 1, memory_bytes, ..Report::default() })
}

/// The consumer, likewise.
pub(crate) fn consume(job: &Job, size: usize, before: u64, rx: &mut dyn Rx) -> Result<Report> {
    let mut expected = Expected::new(job.seed, job.setup.producers, size);
    let mut running = job.setup.producers;
    let mut messages = 0;
    while running > 0 {
        running -= u32::from(receive(rx, |message| expected.check(message))?);
        messages += 1;
    }
    let memory_bytes = held()?.saturating_sub(before);
    Ok(Report { messages, measured: messages, memory_bytes, ..Report::default() })
}
