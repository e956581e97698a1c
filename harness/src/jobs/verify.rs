//! Messages of awkward sizes, all of them compared with what must come, until every state of the
//! map has been met.
//!
//! The consumer steers: it wants to be behind, ahead or asleep, paces the producers accordingly,
//! and stays until that state lacks nothing. What counts is the state in which each message found
//! it, never the one that was wanted.

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    coverage::{Cells, Grain, Map, Shape, State},
    leaks,
    ledger::{Ledger, Pace, roll},
    order::{InOrder, Stamps},
    payload::{END, Key},
    protocol::{Coverage, Job, Limits, Mix, Report},
    sizes::SizeWalk,
    sys::{Wait, descriptors, now_ns},
    transports::{Rx, SendError, Sink, Transport, Tx, is_ours, planted},
    verifier::Verifier,
};

/// One message in so many is first tried without waiting, to see a full or an empty ring.
const TRY_EVERY: u64 = 4;
/// One message in so many is preceded by one that is too large.
const OVERSIZE_EVERY: u64 = 512;
/// Messages between two looks at the clock, when they are short.
const CLOCK_EVERY: u64 = 16;
/// So late is a message that should find the consumer asleep: twice its longest spin.
const DOZE: Duration = Duration::from_micros(100);
/// Between two looks of a producer whether it is its turn, or of a consumer whether it was used.
const BREATH: Duration = Duration::from_micros(10);
/// A turn that does not come for so long was lost, with the message that it was for: what is sent
/// all the same shows it.
const LOST_NS: u64 = 500_000_000;
/// Looks of a waking consumer before it lets others run.
const LOOKS: u64 = 64;
/// Messages without a new cell after which the consumer goes on to another state.
const STALE: u64 = 512;
/// How often a consumer that wants to be behind lets others run before it looks all the same.
const LINGER: u32 = 50;
/// Nanoseconds a byte of the ring that it lingers for what a lone producer copies into it: a slow
/// copy and a wake. The longest records are claimed once all before them is freed, so whoever looks
/// after some turns only is always ahead of them.
const COPY_NS: u64 = 4;
/// One message in so many it lingers so long in any case, and the ring fills up.
const LINGER_EVERY: u64 = 16;

/// What both ends know of the run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) transport: &'static dyn Transport,
    pub(crate) mix: Mix,
    pub(crate) grain: Option<Grain>,
    pub(crate) limits: Limits,
    /// When a full map may end it, and when it ends all the same.
    pub(crate) least_at_ns: u64,
    pub(crate) most_at_ns: u64,
}

impl Plan {
    fn walk(&self, seed: u64, producer: u32) -> SizeWalk {
        let overhead = self.transport.overhead().unwrap_or(0);
        let min_len = self.transport.min_len();
        SizeWalk::new((seed, producer), self.mix, self.limits, min_len, overhead)
    }

    fn map(&self) -> Option<Map> {
        let overhead = self.transport.overhead()?;
        let shape = Shape {
            capacity: self.limits.capacity,
            least: Shape::span(self.transport.min_len() as u64, overhead),
            most: Shape::span(self.limits.max_len, overhead),
        };
        Some(Map::new(shape, self.grain.unwrap_or(Grain::Any), overhead))
    }

    fn stamps(&self, job: &Job) -> Result<Option<Stamps>> {
        let is_named = self.mix == Mix::Named;
        is_named.then(|| Stamps::open(&job.setup.path("order"))).transpose().context("the stamps")
    }
}

/// How many descriptors this process holds, counted once its first message has passed: with that
/// an end attaches, and on some systems opens what it waits with.
#[derive(Default)]
struct Held(Option<Option<usize>>);

impl Held {
    fn passed(&mut self) {
        self.0.get_or_insert_with(descriptors);
    }

    /// Fails if there are more by now.
    fn no_leak(&self, job: &Job) -> Result<()> {
        let (before, after) = (self.0, descriptors());
        let is_known = is_ours(&job.transport);
        match before {
            Some(before) if is_known && leaks::descriptors(before, after) => {
                bail!("leak: {before:?} descriptors became {after:?}")
            }
            _ => Ok(()),
        }
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
    let stamps = plan.stamps(job)?;
    let mut held = Held::default();
    ledger.begin(job.producer, 0);
    while !walk.is_over() && await_turn(ledger) {
        if plan.transport.has_limit() && sequence % OVERSIZE_EVERY == 0 {
            oversize(tx, &message)?;
            coverage.refused += 1;
        }
        let len = walk.step();
        key(sequence).fill(&mut message[..len]);
        hash = roll(hash, sequence, len);
        ledger.intend(job.producer, sequence);
        if let Some(stamps) = &stamps {
            stamps.begin(job.producer, sequence);
        }
        if sequence % TRY_EVERY != 0 || !tx.try_send(&message[..len])? {
            coverage.full += u64::from(sequence % TRY_EVERY == 0);
            tx.send(&message[..len])?;
        }
        if let Some(stamps) = &stamps {
            stamps.end(job.producer, sequence);
        }
        ledger.acknowledge(job.producer, sequence, hash);
        held.passed();
        sequence += 1;
    }
    let end = &mut message[..walk.end_len()];
    key(sequence | END).fill(end);
    tx.send(end)?;
    held.no_leak(job)?;
    let cells = walk.sequences().map_or(Cells::default(), |(sent, count)| {
        let name = format!("{} sequences in {} bytes", count - sent, plan.limits.capacity);
        Cells::of(sent, count, &name)
    });
    Ok(Report { messages: sequence, coverage, cells, ..Report::default() })
}

/// Waits until this producer may send; false once it need not.
fn await_turn(ledger: &Ledger) -> bool {
    let lost_at_ns = now_ns() + LOST_NS;
    loop {
        if ledger.stopped() {
            return false;
        }
        let pace = ledger.pace();
        let is_mine = pace == Pace::Free || ledger.take_turn();
        if is_mine && pace != Pace::Slow {
            return true;
        }
        // Asleep, as those who wait would keep the consumer from its processor.
        thread::sleep(if pace == Pace::Slow { DOZE } else { BREATH });
        if is_mine || now_ns() >= lost_at_ns {
            return true;
        }
    }
}

/// A message one byte longer than the longest must be refused; that nothing of it stays behind is
/// seen by the consumer, which knows what must come.
fn oversize(tx: &mut dyn Tx, message: &[u8]) -> Result<()> {
    for sent in [tx.try_send(message), tx.send(message).map(|()| true)] {
        match sent {
            Err(SendError::TooLarge) => {}
            Err(other) => return Err(anyhow!("oversized: a message was refused by {other}")),
            Ok(_) => bail!("oversized: {} bytes were taken, one too many", message.len()),
        }
    }
    Ok(())
}

/// The consumer.
pub(crate) fn consume(job: &Job, plan: Plan, ledger: &Ledger, rx: &mut dyn Rx) -> Result<Report> {
    let walks = (0..job.setup.producers).map(|producer| plan.walk(job.seed, producer));
    let mut verifier = Verifier::new(job.seed, walks);
    let intended = |producer| ledger.line(producer).intended;
    let stamps = plan.stamps(job)?;
    let mut order = InOrder::default();
    let mut steer = Steer::new(job.setup.producers, plan, ledger);
    let mut held = Held::default();
    let start_ns = now_ns();
    loop {
        let (mut verdict, mut len) = (Ok(false), 0);
        let state = steer.receive(rx, &mut |message| {
            len = message.len();
            verdict = verifier.check(message, &intended);
        })?;
        let is_last = verdict.map_err(|what| anyhow!("{what}"))?;
        if let (Some(stamps), Some(message)) = (&stamps, verifier.latest()) {
            let stamp = stamps.of(message.0, message.1);
            order.check(message, stamp).map_err(|what| anyhow!("{what}"))?;
        }
        if is_last {
            break;
        }
        held.passed();
        steer.received(len, state);
    }
    let measured_ns = now_ns() - start_ns;
    held.no_leak(job)?;
    let (by_producer, hashes) = verifier.received();
    let Steer { map, mut coverage, messages, .. } = steer;
    let cells = map.as_ref().filter(|_| plan.grain.is_some()).map(Map::cells);
    if let Some(map) = map {
        (coverage.wrapped, coverage.padded) = (map.wrapped, map.padded);
    }
    coverage.judged = order.judged;
    Ok(Report {
        messages: messages + 1,
        measured: by_producer.iter().sum(),
        measured_ns,
        by_producer,
        hashes,
        coverage,
        cells: cells.unwrap_or_default(),
        repairs: rx.repairs(),
        ..Report::default()
    })
}

/// Where the consumer is, and where it wants to be.
struct Steer<'a> {
    plan: Plan,
    ledger: &'a Ledger,
    producers: u32,
    map: Option<Map>,
    /// None: as it comes.
    wanted: Option<State>,
    messages: u64,
    /// Messages since the last new cell.
    stale: u64,
    stopped: bool,
    hurries: bool,
    coverage: Coverage,
}

impl<'a> Steer<'a> {
    fn new(producers: u32, plan: Plan, ledger: &'a Ledger) -> Steer<'a> {
        let map = plan.map();
        let wanted = plan.grain.map(|_| State::Behind).filter(|_| map.is_some());
        Steer {
            plan,
            ledger,
            producers,
            map,
            wanted,
            messages: 0,
            stale: 0,
            stopped: false,
            hurries: planted::hurries(),
            coverage: Coverage::default(),
        }
    }

    /// Receives a message, and says in which state it found the consumer.
    fn receive(&mut self, rx: &mut dyn Rx, sink: &mut Sink<'_>) -> Result<State> {
        if self.wanted.is_none() && !self.messages.is_multiple_of(TRY_EVERY) {
            rx.recv(sink)?;
            return Ok(State::Behind);
        }
        if self.wanted == Some(State::Behind) {
            self.linger();
        }
        if rx.try_recv(sink)? {
            return Ok(State::Behind);
        }
        self.coverage.empty += 1;
        match self.wanted {
            None => {
                rx.recv(sink)?;
                return Ok(State::Ahead);
            }
            Some(State::Behind) => {}
            Some(State::Ahead) => self.ledger.give_turn(),
            Some(State::Asleep) => {
                self.ledger.give_turn();
                let wait = Wait::begin();
                rx.recv(sink)?;
                let has_slept = wait.has_slept(DOZE);
                return Ok(if has_slept { State::Asleep } else { State::Ahead });
            }
        }
        for look in 1_u64.. {
            if rx.try_recv(sink)? {
                break;
            }
            if look % LOOKS == 0 {
                thread::yield_now();
            }
            std::hint::spin_loop();
        }
        Ok(State::Ahead)
    }

    /// Lets producers run until one of their messages is here, or until that seems to need a look
    /// at the ring, as it does where a pad is in the way.
    fn linger(&self) {
        let is_long = self.messages.is_multiple_of(LINGER_EVERY);
        let copied_at_ns = self.await_send().unwrap_or(0);
        let mut turns = 0;
        while turns < LINGER || now_ns() < copied_at_ns {
            if !is_long && self.ledger.acknowledged(self.producers) > self.messages {
                return;
            }
            // Asleep once that lasts, as whoever waits would keep the producer from its processor.
            if turns < LINGER {
                thread::yield_now();
            } else {
                thread::sleep(BREATH);
            }
            turns += 1;
        }
    }

    /// Lets a lone producer make its next message, which needs no look at the ring however long it
    /// takes, and says when it should have copied it. With several, chance decides anyway.
    fn await_send(&self) -> Option<u64> {
        let is_coming = self.producers == 1 && !self.stopped;
        let lost_at_ns = now_ns() + LOST_NS;
        while is_coming && self.ledger.intended(1) <= self.messages && now_ns() < lost_at_ns {
            thread::sleep(BREATH);
        }
        is_coming.then(|| now_ns() + self.plan.limits.capacity * COPY_NS)
    }

    /// Takes note of a message, and decides what is wanted next.
    fn received(&mut self, len: usize, state: State) {
        self.messages += 1;
        self.ledger.received(self.messages);
        let is_new = self.map.as_mut().is_some_and(|map| map.pass(len, state));
        self.stale = if is_new { 0 } else { self.stale + 1 };
        if let (Some(map), Some(wanted)) = (&self.map, self.wanted)
            && (self.stale >= STALE || (!map.lacks(wanted) && !map.is_full()))
        {
            let others = [wanted.next(), wanted.next().next()];
            let next = others.into_iter().find(|&state| map.lacks(state)).unwrap_or(others[0]);
            self.wanted = Some(next);
            self.stale = 0;
            self.ledger.set_pace(match next {
                State::Behind => Pace::Free,
                State::Ahead => Pace::Turns,
                State::Asleep => Pace::Slow,
            });
        }
        let looks = self.wanted.is_some() || self.messages.is_multiple_of(CLOCK_EVERY);
        if looks && !self.stopped && self.is_done() {
            self.stopped = true;
            self.ledger.stop();
        }
    }

    fn is_done(&self) -> bool {
        let now = now_ns();
        let has_all = self.wanted.is_some() && self.map.as_ref().is_some_and(Map::is_full);
        self.hurries || now >= self.plan.most_at_ns || (has_all && now >= self.plan.least_at_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transports::find;

    /// A consumer that has had one message of a lone producer and wants to be behind the next.
    fn one_received(ledger: &Ledger, capacity: u64) -> Steer<'_> {
        let plan = Plan {
            transport: find("ipmpsc-bytes").expect("it is ours"),
            mix: Mix::Boundaries,
            grain: Some(Grain::Magnitudes),
            limits: Limits { max_len: capacity - 16, capacity },
            least_at_ns: 0,
            most_at_ns: u64::MAX,
        };
        ledger.intend(0, 0);
        ledger.acknowledge(0, 0, 0);
        let mut steer = Steer::new(1, plan, ledger);
        steer.received(0, State::Behind);
        steer
    }

    #[test]
    fn who_wants_to_be_behind_lets_a_slow_producer_make_and_copy_its_message() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ledger = Ledger::create(&folder.path().join("ledger"), 1).expect("it is writable");
        let steer = one_received(&ledger, 64 << 20);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Longer than the copy of such a ring may take.
                thread::sleep(Duration::from_millis(300));
                ledger.intend(0, 1);
                thread::sleep(Duration::from_millis(10));
                ledger.acknowledge(0, 1, 0);
            });
            steer.linger();
            assert_eq!(ledger.acknowledged(1), 2);
        });
    }

    #[test]
    fn a_message_that_needs_a_look_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ledger = Ledger::create(&folder.path().join("ledger"), 1).expect("it is writable");
        let mut steer = one_received(&ledger, 1 << 20);
        ledger.intend(0, 1);
        let start_ns = now_ns();
        steer.linger();
        // And a stopped producer makes none.
        steer.stopped = true;
        steer.messages = 2;
        steer.linger();
        assert!(now_ns() - start_ns < LOST_NS);
    }
}
