//! Messages of all sizes until the ledger says stop, while producers are killed from outside.

use anyhow::Result;

use super::receive;
use crate::{
    checks::{Survivors, torture_len},
    ledger::{Ledger, roll},
    payload::{END, Key},
    protocol::{Job, Report},
    sys::now_ns,
    transports::{Rx, Tx},
};

/// Silences shorter than this are not reported.
const SILENCE_NS: u64 = 5_000_000;
/// Only so many of the longest silences are reported.
const SILENCES: usize = 64;

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
    while !ledger.stopped() {
        let len = torture_len(key(sequence), largest);
        key(sequence).fill(&mut message[..len]);
        hash = roll(hash, sequence, len);
        ledger.intend(job.producer, sequence);
        tx.send(&message[..len])?;
        ledger.acknowledge(job.producer, sequence, hash);
        sequence += 1;
    }
    let end = key(sequence | END);
    let len = torture_len(end, largest);
    end.fill(&mut message[..len]);
    tx.send(&message[..len])?;
    Ok(Report { messages: sequence, ..Report::default() })
}

/// The consumer, which outlives them all.
pub(crate) fn consume(
    job: &Job,
    largest: usize,
    ledger: &Ledger,
    rx: &mut dyn Rx,
) -> Result<Report> {
    let mut survivors = Survivors::new(job.seed, job.setup.producers, largest);
    let mut silences: Vec<(u64, u64)> = Vec::new();
    let mut messages = 0;
    let start_ns = now_ns();
    let mut last_ns = None;
    while !receive(rx, |message| survivors.check(message))? {
        messages += 1;
        ledger.received(messages);
        let now = now_ns();
        let silence = last_ns.map_or(0, |last| now - last);
        if silence >= SILENCE_NS {
            silences.push((now, silence));
            if silences.len() > SILENCES {
                silences.sort_by_key(|&(_, silence)| std::cmp::Reverse(silence));
                silences.pop();
            }
        }
        last_ns = Some(now);
    }
    let (by_producer, hashes) = survivors.received();
    Ok(Report {
        messages,
        measured: messages,
        measured_ns: now_ns() - start_ns,
        by_producer,
        hashes,
        ended: survivors.ended().to_vec(),
        silences,
        repairs: rx.repairs(),
        ..Report::default()
    })
}
