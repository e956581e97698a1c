//! A consumer that waits for nothing, and what that costs.
//!
//! A first message gets both ends going; the silence after it is what counts; a second message ends
//! it.

use anyhow::Result;

use super::receive;
use crate::{
    payload::{Bodies, END, Expected},
    protocol::{Job, Report},
    sys::{now_ns, sleep_until, usage},
    transports::{Rx, Tx},
};

/// The silent side.
pub(crate) fn produce(end_at_ns: u64, bodies: &mut Bodies, tx: &mut dyn Tx) -> Result<Report> {
    tx.send(bodies.stamp(0))?;
    sleep_until(end_at_ns);
    tx.send(bodies.stamp(1 | END))?;
    Ok(Report { messages: 2, ..Report::default() })
}

/// The waiting side.
pub(crate) fn consume(job: &Job, size: usize, rx: &mut dyn Rx) -> Result<Report> {
    let mut expected = Expected::new(job.seed, 1, size);
    receive(rx, |message| expected.check(message))?;
    let (start_ns, before) = (now_ns(), usage());
    receive(rx, |message| expected.check(message))?;
    let (idle, measured_ns) = (usage().since(before), now_ns() - start_ns);
    Ok(Report { messages: 2, measured: 1, measured_ns, idle, ..Report::default() })
}
