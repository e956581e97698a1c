//! What the channel promises of single calls, in every form of them: an oversized message is
//! refused without side effects, a timeout is kept, and who attaches and leaves leaves nothing.
//!
//! These are calls that the transports do not have, so the ring is opened once more, by its path.
//! The producer drives: while it looks at the ring, the consumer takes nothing.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result, ensure};
use ipmpsc::{Error, Receiver, Sender, SharedRingBuffer, Stats};

use crate::{
    ledger::Ledger,
    payload::{END, Key},
    protocol::{Coverage, Job, Report},
    sys::{descriptors, now_ns},
    transports::planted,
};

/// Rounds of filling the ring, each from another place in it.
const ROUNDS: u64 = 64;
/// How often a sender, and a receiver, attaches and leaves.
const ATTACHES: u64 = 32;
/// Waits that must neither end early nor much too late, shorter than a spin and longer than one.
const TIMEOUTS: [Duration; 2] = [Duration::from_micros(1), Duration::from_millis(2)];
/// Longer than the crate ever sleeps at a stretch.
const LONG: Duration = Duration::from_millis(120);
/// So much later than asked for is a fault and not a busy machine.
const LATE: Duration = Duration::from_secs(2);

/// Bytes of a reservation that are not used.
const SPARE: usize = 16;

type Sent = ipmpsc::Result<bool>;

fn ring(job: &Job) -> Result<SharedRingBuffer> {
    let path = job.setup.path("ring");
    SharedRingBuffer::options().open(path).context("open the ring by its path")
}

fn key(job: &Job, sequence: u64) -> Key {
    Key { seed: job.seed, producer: 0, incarnation: 0, sequence }
}

/// The producer.
pub(crate) fn produce(job: &Job, ledger: &Ledger) -> Result<Report> {
    let ring = ring(job)?;
    let sender = Sender::new(ring.clone());
    let mut bench = Bench { job, ledger, ring, sender, sent: 0, taken: 0 };
    ledger.begin(0, 0);
    // The consumer needs the ring empty first.
    while !ledger.take_turn() {
        std::thread::yield_now();
    }
    let mut coverage = Coverage::default();
    for round in 0..ROUNDS {
        coverage.full += u64::from(bench.fill(round)?);
        coverage.refused += bench.oversize(round)?;
        bench.drain()?;
    }
    while bench.try_send()? {}
    bench.be_late()?;
    bench.drain()?;
    bench.come_and_go()?;
    let mut last = vec![0; 32];
    key(job, bench.sent | END).fill(&mut last);
    bench.sender.send_bytes(&last)?;
    ledger.stop();
    Ok(Report { messages: bench.sent, coverage, ..Report::default() })
}

/// What the producer works with.
struct Bench<'a> {
    job: &'a Job,
    ledger: &'a Ledger,
    ring: SharedRingBuffer,
    sender: Sender,
    sent: u64,
    /// Messages that the consumer has been let take.
    taken: u64,
}

impl Bench<'_> {
    /// The next message, of a length that moves the ring's end about; every third one in a
    /// reservation of more than that, if there is room for one.
    fn try_send(&mut self) -> Result<bool> {
        let mut message = vec![0; len_of(self.sent)];
        key(self.job, self.sent).fill(&mut message);
        let room = match self.sent % 3 {
            0 => self.sender.try_reserve(message.len() + SPARE)?,
            _ => None,
        };
        let sent = match room {
            Some(mut room) => {
                room.write_all(&message).context("what was reserved takes it")?;
                room.commit()?;
                true
            }
            None => self.sender.try_send_bytes(&message)?,
        };
        self.sent += u64::from(sent);
        Ok(sent)
    }

    /// So many messages that the ring is empty, nearly so, half full or full, by turns.
    fn fill(&mut self, round: u64) -> Result<bool> {
        let count = [0, 1, 4, u64::MAX][usize::try_from(round % 4)?];
        for _ in 0..count {
            if !self.try_send()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets the consumer take all there is, and waits until it has.
    fn drain(&mut self) -> Result<()> {
        self.taken = self.sent;
        if let Some(last) = self.taken.checked_sub(1) {
            self.ledger.acknowledge(0, last, 0);
        }
        while self.ledger.received_so_far() < self.taken {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Every form of a send refuses what is one byte too long, and the ring stays as it is.
    fn oversize(&self, round: u64) -> Result<u64> {
        let before = self.ring.stats();
        let calls = refusals(self.ring.max_message_len());
        for (name, call) in &calls {
            let refused = if planted::accepts_oversized() { Ok(true) } else { call(&self.sender) };
            ensure!(
                matches!(refused, Err(Error::MessageTooLarge)),
                "oversized: {name} said {refused:?} in round {round}"
            );
            let after = self.ring.stats();
            ensure!(after == before, "oversized: {name} made {before:?} into {after:?}");
        }
        Ok(calls.len() as u64)
    }

    /// Every form of a send that waits for space gives up when it is told to; the ring is full.
    fn be_late(&self) -> Result<()> {
        for timeout in TIMEOUTS {
            let sender = &self.sender;
            kept("send_timeout", timeout, || is_false(sender.send_timeout(&[0_u64; 8], timeout)))?;
            kept("send_bytes_timeout", timeout, || {
                is_false(sender.send_bytes_timeout(&[0; 64], timeout))
            })?;
            kept("reserve_timeout", timeout, || {
                is_false(sender.reserve_timeout(64, timeout).map(|space| space.is_some()))
            })?;
            kept("send_batch_timeout", timeout, || {
                is_false(sender.send_batch_timeout(&[[0_u64; 8]], timeout).map(|sent| sent > 0))
            })?;
            kept("send_when_empty_timeout", timeout, || {
                is_false(sender.send_when_empty_timeout(&0_u8, timeout))
            })?;
        }
        kept("send_bytes_timeout", LONG, || {
            is_false(self.sender.send_bytes_timeout(&[0; 64], LONG))
        })
    }

    /// Senders attach, send and leave; the process and the ring are as they were.
    fn come_and_go(&mut self) -> Result<()> {
        let held = |ring: &SharedRingBuffer| (descriptors(), ring.stats().senders);
        let before = held(&self.ring);
        for _ in 0..ATTACHES {
            let sender = Sender::new(ring(self.job)?);
            let mine = std::mem::replace(&mut self.sender, sender);
            let sent = self.try_send()?;
            ensure!(sent, "leak: the ring is full after {} messages", self.sent);
            self.sender = mine;
            planted::leak_descriptor();
            self.drain()?;
        }
        let after = held(&self.ring);
        ensure!(after == before, "leak: {before:?} descriptors and senders became {after:?}");
        Ok(())
    }
}

fn len_of(sequence: u64) -> usize {
    let len = 8 * (sequence % 7) + sequence % 3 + 24;
    usize::try_from(len).expect("below 100")
}

fn is_false(outcome: Sent) -> Result<()> {
    let waited = outcome?;
    ensure!(!waited, "timeout: a wait for what never comes was crowned");
    Ok(())
}

/// A call that waits in vain: its error, or how far its end was from the time that it was given.
fn kept(name: &str, timeout: Duration, call: impl FnOnce() -> Result<()>) -> Result<()> {
    let start_ns = now_ns();
    call().with_context(|| format!("{name} of {timeout:?}"))?;
    planted::be_late(LATE);
    let took = Duration::from_nanos(now_ns() - start_ns);
    ensure!(took >= timeout, "timeout: {name} of {timeout:?} took only {took:?}");
    ensure!(took <= timeout + LATE, "timeout: {name} of {timeout:?} took {took:?}");
    Ok(())
}

type Call = Box<dyn Fn(&Sender) -> Sent>;

/// Every way to send a message of one byte more than `longest`.
fn refusals(longest: u64) -> Vec<(&'static str, Call)> {
    let len = usize::try_from(longest + 1).expect("the ring is small");
    // A byte string serializes to its bytes and eight for their number.
    let value = || serde_bytes::ByteBuf::from(vec![7; len - 8]);
    let second = Duration::from_secs(1);
    let (a, b, c, d, e, f, g) = (value(), value(), value(), value(), value(), value(), value());
    let bytes = vec![7; len];
    let (bytes_2, bytes_3) = (bytes.clone(), bytes.clone());
    vec![
        ("send", Box::new(move |to| to.send(&a).map(|()| true))),
        ("try_send", Box::new(move |to| to.try_send(&b))),
        ("send_timeout", Box::new(move |to| to.send_timeout(&c, second))),
        ("send_when_empty", Box::new(move |to| to.send_when_empty(&d).map(|()| true))),
        ("send_when_empty_timeout", Box::new(move |to| to.send_when_empty_timeout(&e, second))),
        ("send_batch", Box::new(move |to| to.send_batch(std::slice::from_ref(&f)).map(|()| true))),
        (
            "send_batch_timeout",
            Box::new(move |to| {
                to.send_batch_timeout(std::slice::from_ref(&g), second).map(|sent| sent > 0)
            }),
        ),
        ("send_bytes", Box::new(move |to| to.send_bytes(&bytes).map(|()| true))),
        ("try_send_bytes", Box::new(move |to| to.try_send_bytes(&bytes_2))),
        ("send_bytes_timeout", Box::new(move |to| to.send_bytes_timeout(&bytes_3, second))),
        ("reserve", Box::new(move |to| to.reserve(len).map(|_| true))),
        ("try_reserve", Box::new(move |to| to.try_reserve(len).map(|space| space.is_some()))),
        (
            "reserve_timeout",
            Box::new(move |to| to.reserve_timeout(len, second).map(|space| space.is_some())),
        ),
    ]
}

/// The consumer.
pub(crate) fn consume(job: &Job, ledger: &Ledger) -> Result<Report> {
    let ring = ring(job)?;
    let start_ns = now_ns();
    receivers_leave_nothing(&ring)?;
    let mut receiver = Receiver::new(ring.clone());
    receive_timeouts(&mut receiver)?;
    ledger.give_turn();
    let mut taken = 0;
    while !ledger.stopped() {
        let may = ledger.acknowledged(1);
        while taken < may {
            let message = receiver.recv_bytes()?;
            let whole = message.len() == len_of(taken) && key(job, taken).matches(&message);
            ensure!(whole, "bytes: message {taken}, after a refusal, is not what was sent");
            drop(message);
            taken += 1;
            ledger.received(taken);
        }
        std::thread::yield_now();
    }
    let last = receiver.recv_bytes()?;
    ensure!(key(job, taken | END).matches(&last), "bytes: the last message is not what was sent");
    drop(last);
    let Stats { used, sent, received, discarded, .. } = ring.stats();
    ensure!(
        (used, sent, received, discarded) == (0, taken + 1, taken + 1, 0),
        "oversized: {used} bytes in use, {sent} sent, {received} received, {discarded} discarded"
    );
    let measured_ns = now_ns() - start_ns;
    Ok(Report { messages: taken, measured: taken, measured_ns, ..Report::default() })
}

/// Receivers attach, look and leave.
fn receivers_leave_nothing(ring: &SharedRingBuffer) -> Result<()> {
    let attach = || -> Result<()> {
        let mut receiver = Receiver::new(ring.clone());
        receiver.try_recv_bytes()?;
        Ok(())
    };
    // The first one opens what the ring keeps, on some systems.
    attach()?;
    let before = descriptors();
    for _ in 0..ATTACHES {
        attach()?;
    }
    let after = descriptors();
    ensure!(after == before, "leak: {before:?} descriptors became {after:?}");
    ensure!(!ring.stats().receiver_alive, "leak: a receiver that was dropped is still there");
    Ok(())
}

/// Every form of a receive gives up when it is told to; the ring is empty.
fn receive_timeouts(receiver: &mut Receiver) -> Result<()> {
    for timeout in TIMEOUTS {
        kept("recv_timeout", timeout, || {
            is_false(receiver.recv_timeout::<u64>(timeout).map(|message| message.is_some()))
        })?;
        kept("recv_bytes_timeout", timeout, || {
            is_false(receiver.recv_bytes_timeout(timeout).map(|message| message.is_some()))
        })?;
        kept("drain_timeout", timeout, || {
            is_false(receiver.drain_timeout(9, timeout, |_| ()).map(|count| count > 0))
        })?;
        kept("zero-copy recv_timeout", timeout, || {
            let mut context = receiver.zero_copy_context();
            is_false(context.recv_timeout::<&str>(timeout).map(|message| message.is_some()))
        })?;
    }
    kept("recv_bytes_timeout", LONG, || {
        is_false(receiver.recv_bytes_timeout(LONG).map(|message| message.is_some()))
    })
}
