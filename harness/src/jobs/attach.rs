//! A producer joins: how long the call takes that connects it, and how soon its first message is
//! received.
//!
//! The consumer waits at one channel after the other, and the producer joins each after a pause, so
//! every join finds a consumer that sleeps. Not all transports let a producer in later than the
//! others, so each join has a channel to itself.

use anyhow::{Context, Result};

use super::latency::{Watch, receive_timed};
use crate::{
    payload::{Bodies, END, Expected, Moments},
    protocol::{Job, Report},
    sys::{now_ns, sleep_until},
    transports::{Bound, Rx, Setup, Transport, Tx},
};

/// From one join to the next, for the consumer to fall asleep.
const PAUSE_NS: u64 = 1_000_000;

/// The channel of one join.
pub(crate) fn setup(setup: &Setup, join: usize) -> Setup {
    Setup { channel: format!("{}-{join}", setup.channel), ..setup.clone() }
}

/// The side that joins. Its ends are kept, as a consumer may still be reading from them.
pub(crate) fn produce(
    job: &Job,
    transport: &dyn Transport,
    endpoints: &[String],
    bodies: &mut Bodies,
    kept: &mut Vec<Box<dyn Tx>>,
) -> Result<Report> {
    let mut sequence = 0;
    for (join, endpoint) in endpoints.iter().enumerate() {
        let setup = setup(&job.setup, join);
        sleep_until(now_ns() + PAUSE_NS);
        let due_ns = now_ns();
        let mut tx = transport.connect(endpoint, &setup).context("connect")?;
        let begin_ns = now_ns();
        let end = if join + 1 == endpoints.len() { END } else { 0 };
        tx.send(bodies.stamp_timed(sequence | end, Moments { due_ns, begin_ns }))?;
        kept.push(tx);
        sequence += 1;
    }
    Ok(Report { messages: sequence, ..Report::default() })
}

/// The side that waits: `lag` is what connecting took, `response` what it took with the message.
pub(crate) fn consume(
    job: &Job,
    size: usize,
    channels: Vec<Box<dyn Bound>>,
    kept: &mut Vec<Box<dyn Rx>>,
) -> Result<Report> {
    let mut expected = Expected::timed(job.seed, 1, size);
    let mut watch = Watch::new();
    for channel in channels {
        let mut rx = channel.accept().context("accept")?;
        let (moments, _) = receive_timed(&mut *rx, &mut expected)?;
        watch.record(moments, now_ns());
        kept.push(rx);
    }
    let messages = kept.len() as u64;
    Ok(Report { messages, measured: messages, times: watch.times(), ..Report::default() })
}
