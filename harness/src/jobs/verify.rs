//! Messages of awkward sizes, all of them compared with what must come, and the ring driven full,
//! empty and around its end.

use anyhow::{Result, anyhow, bail};

use crate::{
    checks::Verifier,
    ledger::{Ledger, roll},
    payload::{END, Key},
    protocol::{Coverage, Job, Limits, Mix, Report},
    sizes::SizeWalk,
    sys::now_ns,
    transports::{Rx, SendError, Transport, Tx},
};

/// One message in so many is first tried without waiting, to see a full or an empty ring.
const TRY_EVERY: u64 = 4;
/// One message in so many is preceded by one that is too large.
const OVERSIZE_EVERY: u64 = 512;
/// Messages between two looks at the clock, when they are short.
const CLOCK_EVERY: u64 = 16;

/// What both ends know of the run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) transport: &'static dyn Transport,
    pub(crate) mix: Mix,
    pub(crate) limits: Limits,
    pub(crate) end_at_ns: u64,
}

impl Plan {
    fn walk(&self, seed: u64, producer: u32) -> SizeWalk {
        let overhead = self.transport.overhead().unwrap_or(0);
        let min_len = self.transport.min_len();
        SizeWalk::new((seed, producer), self.mix, self.limits, min_len, overhead)
    }
}

/// A producer.
pub(crate) fn produce(job: &Job, plan: Plan, ledger: &Ledger, tx: &mut dyn Tx) -> Result<Report> {
    let mut walk = plan.walk(job.seed, job.producer);
    let key = |sequence| Key { seed: job.seed, producer: job.producer, incarnation: 0, sequence };
    let max_len = usize::try_from(plan.limits.max_len)?;
    let mut message = vec![0; max_len + 1];
    let mut coverage = Coverage::default();
    let (mut sequence, mut hash) = (0, 0);
    ledger.begin(job.producer, 0);
    loop {
        if sequence % CLOCK_EVERY == 0 && now_ns() >= plan.end_at_ns {
            break;
        }
        if plan.transport.has_limit() && sequence % OVERSIZE_EVERY == 0 {
            oversize(tx, &message)?;
            coverage.refused += 1;
        }
        let len = walk.step();
        key(sequence).fill(&mut message[..len]);
        hash = roll(hash, sequence, len);
        ledger.intend(job.producer, sequence);
        if sequence % TRY_EVERY != 0 || !tx.try_send(&message[..len])? {
            coverage.full += u64::from(sequence % TRY_EVERY == 0);
            tx.send(&message[..len])?;
        }
        ledger.acknowledge(job.producer, sequence, hash);
        sequence += 1;
    }
    let end = &mut message[..walk.end_len()];
    key(sequence | END).fill(end);
    tx.send(end)?;
    Ok(Report { messages: sequence, coverage, ..Report::default() })
}

/// A message one byte longer than the longest must be refused; that nothing of it stays behind is
/// seen by the consumer, which knows what must come.
fn oversize(tx: &mut dyn Tx, message: &[u8]) -> Result<()> {
    match tx.send(message) {
        Err(SendError::TooLarge) => Ok(()),
        Err(other) => Err(anyhow!("an oversized message: {other}")),
        Ok(()) => bail!("a message of {} bytes was taken, one too many", message.len()),
    }
}

/// The consumer.
pub(crate) fn consume(job: &Job, plan: Plan, ledger: &Ledger, rx: &mut dyn Rx) -> Result<Report> {
    let walks = (0..job.setup.producers).map(|producer| plan.walk(job.seed, producer));
    let mut verifier = Verifier::new(job.seed, walks);
    let mut ring = plan.transport.overhead().map(|overhead| Track::new(overhead, plan.limits));
    let mut coverage = Coverage::default();
    let mut messages = 0;
    let start_ns = now_ns();
    loop {
        let mut verdict = Ok(false);
        let mut sink = |message: &[u8]| {
            if let Some(ring) = &mut ring {
                ring.pass(message.len());
            }
            verdict = verifier.check(message);
        };
        if messages % TRY_EVERY != 0 || !rx.try_recv(&mut sink)? {
            coverage.empty += u64::from(messages % TRY_EVERY == 0);
            rx.recv(&mut sink)?;
        }
        messages += 1;
        ledger.received(messages);
        if verdict.map_err(|what| anyhow!("{what}"))? {
            break;
        }
    }
    if let Some(ring) = ring {
        coverage = coverage.plus(ring.coverage);
    }
    let (by_producer, hashes) = verifier.received();
    Ok(Report {
        messages,
        measured: by_producer.iter().sum(),
        measured_ns: now_ns() - start_ns,
        by_producer,
        hashes,
        coverage,
        repairs: rx.repairs(),
        ..Report::default()
    })
}

/// Where in the ring the records must lie, by the crate's rule that none is split at the end.
struct Track {
    overhead: u64,
    capacity: u64,
    position: u64,
    coverage: Coverage,
}

impl Track {
    fn new(overhead: u64, limits: Limits) -> Track {
        Track { overhead, capacity: limits.capacity, position: 0, coverage: Coverage::default() }
    }

    fn pass(&mut self, len: usize) {
        let record = (len as u64 + self.overhead).next_multiple_of(8);
        let gap = self.capacity - self.position;
        if record > gap {
            self.coverage.wrapped += 1;
            self.coverage.padded += u64::from(gap > 0);
            self.position = record.min(self.capacity);
        } else {
            self.position += record;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_and_pads_are_counted_by_hand() {
        let mut ring = Track::new(8, Limits { max_len: 56, capacity: 64 });
        for len in [24, 24, 0, 40, 24] {
            // Records of 32, 32 | 8, 48 | pad of 8, 32.
            ring.pass(len);
        }
        assert_eq!((ring.coverage.wrapped, ring.coverage.padded), (2, 1));
    }
}
