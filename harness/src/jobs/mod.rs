//! What a worker does between `go` and `done`, one task a file. These are the timed paths.

pub(crate) mod ping_pong;
pub(crate) mod promises;
pub(crate) mod throughput;
pub(crate) mod torture;
pub(crate) mod verify;

use anyhow::{Result, anyhow};

use crate::transports::Rx;

/// Messages between two looks at the clock; long ones take long enough to look each time.
fn clock_interval(size: usize) -> u64 {
    if size >= 4096 { 1 } else { 16 }
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
