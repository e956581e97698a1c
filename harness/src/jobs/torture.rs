//! Messages of all sizes until the ledger says stop, while either end is killed from outside.

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::receive;
use crate::{
    checks::torture_len,
    journal::{Heir, Journal},
    ledger::{Ledger, roll},
    payload::{END, Key},
    protocol::{Job, Report},
    sys::now_ns,
    transports::{Rx, SendError, Tx},
};

/// Between two attempts to send into a full ring that has lost its consumer.
const HEIR_COMES: Duration = Duration::from_millis(1);

/// A producer, of any incarnation.
pub(crate) fn produce(
    job: &Job,
    largest: usize,
    ledger: &Ledger,
    tx: &mut dyn Tx,
) -> Result<Report> {
    let key = |sequence| Key {
        seed: job.seed,
        producer: job.producer,
        incarnation: job.incarnation,
        sequence,
    };
    let mut message = vec![0; largest];
    let (mut sequence, mut hash) = (0, 0);
    ledger.begin(job.producer, job.incarnation);
    if job.setup.producers == 1 {
        // Nobody is held up by the death of the only producer before there is a successor.
        Journal::open(&journal_path(&job.ledger)).context("the journal")?.set_out(now_ns());
    }
    while !ledger.stopped() {
        let len = torture_len(key(sequence), largest);
        key(sequence).fill(&mut message[..len]);
        hash = roll(hash, sequence, len);
        ledger.intend(job.producer, sequence);
        send(tx, &message[..len], ledger)?;
        ledger.acknowledge(job.producer, sequence, hash);
        sequence += 1;
    }
    let end = key(sequence | END);
    let len = torture_len(end, largest);
    end.fill(&mut message[..len]);
    send(tx, &message[..len], ledger)?;
    Ok(Report { messages: sequence, ..Report::default() })
}

/// Sends, waiting for the heir of a consumer that was killed. The load ends only once the last heir
/// is there, so it is a send begun after that end that must find one. An earlier one may have
/// looked before the heir came, and say so after the end.
fn send(tx: &mut dyn Tx, message: &[u8], ledger: &Ledger) -> Result<()> {
    loop {
        let is_last = ledger.stopped();
        match tx.send(message) {
            Err(SendError::ReceiverGone) if !is_last => thread::sleep(HEIR_COMES),
            sent => return Ok(sent?),
        }
    }
}

/// The consumer, or the heir of one that was killed.
pub(crate) fn consume(job: &Job, largest: usize, rx: &mut dyn Rx) -> Result<Report> {
    let journal = Journal::open(&journal_path(&job.ledger)).context("the journal")?;
    let mut messages = 0;
    let start_ns = now_ns();
    journal.set_out(start_ns);
    let mut heir = Heir::new(journal, job.seed, job.setup.producers, largest);
    while !receive(rx, |message| heir.check(message, now_ns()))? {
        messages += 1;
    }
    Ok(Report {
        messages,
        measured: messages,
        measured_ns: now_ns() - start_ns,
        repairs: rx.repairs(),
        ..Report::default()
    })
}

/// Beside the ledger.
pub(crate) fn journal_path(ledger: &Path) -> PathBuf {
    ledger.with_extension("journal")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds no consumer in its first sends, at the end of each of which the load ends.
    struct Late<'a>(&'a Ledger, u32);

    impl Tx for Late<'_> {
        fn send(&mut self, _: &[u8]) -> Result<(), SendError> {
            self.0.stop();
            self.1 = self.1.saturating_sub(1);
            if self.1 == 0 { Ok(()) } else { Err(SendError::ReceiverGone) }
        }
    }

    #[test]
    fn only_a_send_begun_after_the_loads_end_must_find_a_consumer() {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let ledger =
            |name| Ledger::create(&folder.path().join(name), 1).expect("the folder is writable");
        let first = ledger("first");
        send(&mut Late(&first, 2), b"", &first).expect("the second send finds an heir");
        let second = ledger("second");
        let gone = send(&mut Late(&second, 3), b"", &second).expect_err("nobody ever came");
        assert!(matches!(gone.downcast_ref(), Some(SendError::ReceiverGone)), "{gone:#}");
    }
}
