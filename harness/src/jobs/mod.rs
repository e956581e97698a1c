//! What a worker does between `go` and `done`, one task a file. These are the timed paths.

pub(crate) mod alone;
pub(crate) mod attach;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod lockstep;
pub(crate) mod memory;
pub(crate) mod ping_pong;
pub(crate) mod promises;
pub(crate) mod throughput;
pub(crate) mod torture;
pub(crate) mod verify;

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;

use crate::transports::Rx;

/// Messages between two looks at the clock, for which a short one would wait longer than for its
/// copy; long ones take long enough to look each time.
fn clock_interval(size: usize) -> u64 {
    match size {
        0..512 => 64,
        512..4096 => 16,
        4096.. => 1,
    }
}

/// Times above a minute are counted as one.
const LONGEST_NS: u64 = 60_000_000_000;

/// Times to two digits, which is closer than any two runs come and keeps the rows short.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_NS, 2).expect("two digits up to a minute are possible")
}

/// What a histogram holds as (nanoseconds, how often).
fn counts(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram
        .iter_recorded()
        .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
        .collect()
}

/// Receives one message and gives what `check` says of it.
fn receive(rx: &mut dyn Rx, mut check: impl FnMut(&[u8]) -> Result<bool, String>) -> Result<bool> {
    let (mut is_last, mut fault) = (false, None);
    // Taken apart at once: moving the whole result would cost as much as a short message.
    rx.recv(&mut |message| match check(message) {
        Ok(last) => is_last = last,
        Err(what) => fault = Some(what),
    })?;
    fault.map_or(Ok(is_last), |what| Err(anyhow!("{what}")))
}
