//! As `torture`, but so many messages, and told turn by turn when to go on: before each send, at
//! each message that is shown, and by the channel itself at each of its points.

use anyhow::{Context, Result};

use super::{receive, torture::journal_path};
use crate::{
    checks::torture_len,
    journal::{Heir, Journal},
    ledger::{Ledger, roll},
    payload::{END, Key, claimed},
    protocol::{Job, Report},
    sys::now_ns,
    transports::{Rx, SendError, Tx},
};

/// How a producer's last message is called.
const LAST: &str = "the last";

/// Says where this process stands and returns when it may go on.
pub(crate) type Stand = fn(&str);

/// A producer, of any incarnation.
pub(crate) fn produce(
    job: &Job,
    (largest, messages): (usize, u64),
    ledger: &Ledger,
    tx: &mut dyn Tx,
    stand: Stand,
) -> Result<Report> {
    let Job { seed, producer, incarnation, .. } = *job;
    let mut message = vec![0; largest];
    let mut hash = 0;
    ledger.begin(producer, incarnation);
    for sequence in 0..=messages {
        let is_last = sequence == messages;
        let sequence = if is_last { sequence | END } else { sequence };
        let key = Key { seed, producer, incarnation, sequence };
        let len = torture_len(key, largest);
        key.fill(&mut message[..len]);
        stand(&said("sends", key, len));
        if is_last {
            send(tx, &message[..len], stand)?;
        } else {
            hash = roll(hash, sequence, len);
            ledger.intend(producer, sequence);
            send(tx, &message[..len], stand)?;
            ledger.acknowledge(producer, sequence, hash);
        }
    }
    Ok(Report { messages, ..Report::default() })
}

/// Sends, waiting for the heir of a consumer that was killed.
fn send(tx: &mut dyn Tx, message: &[u8], stand: Stand) -> Result<()> {
    loop {
        match tx.send(message) {
            Err(SendError::ReceiverGone) => stand("waits for an heir"),
            sent => return Ok(sent?),
        }
    }
}

/// The consumer, or the heir of one that was killed.
pub(crate) fn consume(job: &Job, largest: usize, rx: &mut dyn Rx, stand: Stand) -> Result<Report> {
    let journal = Journal::open(&journal_path(&job.ledger)).context("the journal")?;
    stand("begins");
    let mut messages = 0;
    let mut heir = Heir::new(journal, job.seed, job.setup.producers, largest);
    // Its predecessor may have died with everything done but saying so.
    while !heir.has_all()
        && !receive(rx, |message| {
            // Whoever may write here after all has its chance before the bytes are compared.
            let what = claimed(message).map_or_else(
                || format!("is shown {} bytes of nobody", message.len()),
                |(producer, incarnation, sequence)| {
                    let key = Key { seed: job.seed, producer, incarnation, sequence };
                    said("is shown", key, message.len())
                },
            );
            stand(&what);
            heir.check(message, now_ns())
        })?
    {
        messages += 1;
    }
    Ok(Report { messages, ..Report::default() })
}

/// Whether this is where a producer begins to send its last message.
pub(crate) fn sends_last(stands: &str) -> bool {
    stands.starts_with("sends ") && stands.contains(LAST)
}

fn said(does: &str, key: Key, len: usize) -> String {
    let Key { producer, incarnation, sequence, .. } = key;
    let which = if sequence & END == 0 { format!("{sequence}") } else { LAST.into() };
    format!("{does} {producer}.{incarnation}/{which}, {len} bytes")
}
