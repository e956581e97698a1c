//! Messages at a fixed rate, each timed from the moment it was due: an open loop.
//!
//! When a message is due follows from its number alone. A producer that is late sends at once and
//! leaves nothing out, so a stall is felt by every message that it held up, as users would feel it.

use anyhow::Result;
use hdrhistogram::Histogram;

use super::{counts, histogram, receive};
use crate::{
    payload::{Bodies, END, Expected, Moments},
    protocol::{Job, Report, Times},
    sys::{now_ns, sleep_until},
    transports::{Rx, Tx},
};

/// Before a message is due, a producer looks at the clock without pause for so long, if it may: see
/// `spin_ns`. A sleep ends this exactly.
const SPIN_NS: u64 = 20_000;
/// Of the messages that were due in the measured time, so many percent must have begun in it.
const BEGUN_MIN_PERCENT: u64 = 95;

/// When each message is due. The producers take turns, so that together they are as regular as one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) offered_per_s: u64,
    pub(crate) producers: u32,
    /// When the first of all is due, and when those that count begin and end to be.
    pub(crate) at_ns: u64,
    pub(crate) warm_at_ns: u64,
    pub(crate) end_at_ns: u64,
}

impl Schedule {
    fn due_ns(&self, producer: u32, sequence: u64) -> u64 {
        let number = sequence * u64::from(self.producers) + u64::from(producer);
        self.at_ns + number * 1_000_000_000 / self.offered_per_s
    }

    /// From one message of a producer to its next.
    fn interval_ns(&self) -> u64 {
        u64::from(self.producers) * 1_000_000_000 / self.offered_per_s
    }

    /// How many messages are due before a moment.
    fn due_before(&self, moment_ns: u64) -> u64 {
        ((moment_ns - self.at_ns) * self.offered_per_s).div_ceil(1_000_000_000)
    }

    /// How many messages are due in the measured time.
    fn due(&self) -> u64 {
        self.due_before(self.end_at_ns) - self.due_before(self.warm_at_ns)
    }

    fn is_measured(&self, due_ns: u64) -> bool {
        (self.warm_at_ns..self.end_at_ns).contains(&due_ns)
    }

    /// Who is as late as that has lost the race, and stops.
    fn give_up_at_ns(&self) -> u64 {
        self.end_at_ns + (self.end_at_ns - self.warm_at_ns)
    }
}

/// Whether the producers keep the rate.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// Messages due in the measured time that began in it.
    begun: u64,
    /// Messages due in the last quarter of it,
    last: u64,
    /// and those of them that began after the same producer's next one was due.
    last_late: u64,
}

impl Pace {
    fn record(&mut self, schedule: &Schedule, moments: Moments) {
        let Moments { due_ns, begin_ns } = moments;
        let quarter_ns = (schedule.end_at_ns - schedule.warm_at_ns) / 4;
        self.begun += u64::from(begin_ns < schedule.end_at_ns);
        if due_ns >= schedule.end_at_ns - quarter_ns {
            self.last += 1;
            self.last_late += u64::from(begin_ns > due_ns + schedule.interval_ns());
        }
    }

    /// Whether the times say how long the rate was offered and nothing of the channel: too few had
    /// begun by the end, or near the end half of them were behind the next. One stall that was
    /// made up for does neither; a backlog that grows does both sooner or later.
    fn is_lost(self, schedule: &Schedule) -> bool {
        let is_short = self.begun * 100 < schedule.due() * BEGUN_MIN_PERCENT;
        is_short || self.last_late * 2 > self.last
    }
}

/// How long producers spin before each message. Where they share processors with each other and
/// with the consumer, they would take these from the channel: eight that are to send 25,000
/// messages a second each would spin for half of the time, which is twice what two processors have.
/// So they do if that is no more than a quarter of all processors, or if each has one for itself.
pub(crate) fn spin_ns(offered_per_s: u64, producers: u32, processors: u32) -> u64 {
    let is_cheap = 4 * offered_per_s * SPIN_NS <= u64::from(processors) * 1_000_000_000;
    if is_cheap || producers < processors { SPIN_NS } else { 0 }
}

/// Sleeps until shortly before a moment, spins until it has come, and says how late it is.
pub(crate) fn wait_until(due_ns: u64, spin_ns: u64) -> u64 {
    loop {
        let now = now_ns();
        if now >= due_ns {
            return now;
        }
        if due_ns - now > spin_ns {
            sleep_until(due_ns - spin_ns);
        } else {
            std::hint::spin_loop();
        }
    }
}

/// A producer. `wait` waits for a moment, if it has not passed yet, and returns the time.
pub(crate) fn produce(
    job: &Job,
    schedule: Schedule,
    bodies: &mut Bodies,
    tx: &mut dyn Tx,
    mut wait: impl FnMut(u64) -> u64,
) -> Result<Report> {
    let mut sequence = 0;
    loop {
        let due_ns = schedule.due_ns(job.producer, sequence);
        let begin_ns = wait(due_ns);
        if due_ns >= schedule.end_at_ns || begin_ns >= schedule.give_up_at_ns() {
            // Due outside the measured time, so that it does not count.
            let moments = Moments { due_ns: due_ns.max(schedule.end_at_ns), begin_ns };
            tx.send(bodies.stamp_timed(sequence | END, moments))?;
            return Ok(Report { messages: sequence + 1, ..Report::default() });
        }
        tx.send(bodies.stamp_timed(sequence, Moments { due_ns, begin_ns }))?;
        sequence += 1;
    }
}

/// The consumer. `now` reads the clock.
pub(crate) fn consume(
    job: &Job,
    size: usize,
    schedule: Schedule,
    rx: &mut dyn Rx,
    mut now: impl FnMut() -> u64,
) -> Result<Report> {
    let mut expected = Expected::timed(job.seed, schedule.producers, size);
    let mut watch = Watch::new();
    let mut running = schedule.producers;
    let (mut messages, mut pace) = (0, Pace::default());
    while running > 0 {
        let (moments, is_last) = receive_timed(rx, &mut expected)?;
        let received_ns = now();
        messages += 1;
        running -= u32::from(is_last);
        if schedule.is_measured(moments.due_ns) {
            watch.record(moments, received_ns);
            pace.record(&schedule, moments);
        }
    }
    Ok(Report {
        messages,
        measured: watch.lag.len(),
        measured_ns: now() - schedule.warm_at_ns,
        by_producer: expected.counts(),
        saturated: pace.is_lost(&schedule),
        times: watch.times(),
        ..Report::default()
    })
}

/// Receives a timed message, all of whose bytes have been compared when this returns.
pub(super) fn receive_timed(rx: &mut dyn Rx, expected: &mut Expected) -> Result<(Moments, bool)> {
    let mut moments = Moments { due_ns: 0, begin_ns: 0 };
    let is_last = receive(rx, |message| {
        let (found, is_last) = expected.check_timed(message)?;
        moments = found;
        Ok(is_last)
    })?;
    Ok((moments, is_last))
}

/// Three clocks stopped by one message.
pub(super) struct Watch {
    response: Histogram<u64>,
    service: Histogram<u64>,
    lag: Histogram<u64>,
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch { response: histogram(), service: histogram(), lag: histogram() }
    }

    pub(super) fn record(&mut self, moments: Moments, received_ns: u64) {
        let Moments { due_ns, begin_ns } = moments;
        self.response.saturating_record(received_ns.saturating_sub(due_ns));
        self.service.saturating_record(received_ns.saturating_sub(begin_ns));
        self.lag.saturating_record(begin_ns - due_ns);
    }

    pub(super) fn times(&self) -> Times {
        Times {
            response: counts(&self.response),
            service: counts(&self.service),
            lag: counts(&self.lag),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::VecDeque, rc::Rc};

    use super::*;
    use crate::{
        protocol::{Role, Task},
        stats::percentile,
        transports::{SendError, Setup, Sink},
    };

    const SIZE: usize = 64;
    /// A message each microsecond, of which the first ten are the warm-up.
    const SCHEDULE: Schedule = Schedule {
        offered_per_s: 1_000_000,
        producers: 1,
        at_ns: 5_000,
        warm_at_ns: 15_000,
        end_at_ns: 115_000,
    };

    fn job() -> Job {
        let setup = Setup {
            folder: "unused".into(),
            channel: "c".into(),
            ring_bytes: 1 << 20,
            message_max: SIZE as u64,
            producers: 1,
        };
        let task = Task::Idle { size: SIZE, for_ns: 0 };
        let (transport, ledger) = ("script".into(), "unused".into());
        let (seed, producer, incarnation, pinned) = (3, 0, 0, false);
        let role = Role::Producer;
        Job { role, task, transport, setup, seed, ledger, producer, incarnation, pinned }
    }

    /// A channel with room for one message and a clock that only its calls advance: a send takes
    /// `send_ns`, and that of one message is held up until a later time.
    struct Script {
        clock: Rc<Cell<u64>>,
        send_ns: u64,
        stall: Option<(usize, u64)>,
        sent: Vec<(u64, Vec<u8>)>,
    }

    impl Tx for Script {
        fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
            if let Some((_, until)) = self.stall.filter(|(at, _)| *at == self.sent.len()) {
                self.clock.set(self.clock.get().max(until));
            }
            self.clock.set(self.clock.get() + self.send_ns);
            self.sent.push((self.clock.get(), message.to_vec()));
            Ok(())
        }
    }

    /// Gives each message out at the time its send ended.
    struct Replay {
        clock: Rc<Cell<u64>>,
        sent: VecDeque<(u64, Vec<u8>)>,
    }

    impl Rx for Replay {
        fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
            let (at_ns, message) = self.sent.pop_front().expect("the last message ends the loop");
            self.clock.set(at_ns);
            sink(&message);
            Ok(())
        }
    }

    /// What a consumer finds, and how many messages it was sent.
    fn run(send_ns: u64, stall: Option<(usize, u64)>) -> (Report, u64) {
        let clock = Rc::new(Cell::new(0));
        let mut tx = Script { clock: Rc::clone(&clock), send_ns, stall, sent: Vec::new() };
        let mut bodies = Bodies::new(3, 0, SIZE);
        let wait = |due| {
            clock.set(clock.get().max(due));
            clock.get()
        };
        let report = produce(&job(), SCHEDULE, &mut bodies, &mut tx, wait).expect("sends succeed");
        let mut rx = Replay { clock: Rc::clone(&clock), sent: tx.sent.into() };
        let found = consume(&job(), SIZE, SCHEDULE, &mut rx, || clock.get());
        (found.expect("messages are whole and in order"), report.messages)
    }

    fn worst(counts: &[(u64, u64)]) -> u64 {
        percentile(counts, 100.0).expect("something was measured")
    }

    /// Whether it is that, as exactly as two digits can tell.
    fn is_about(found: u64, wanted: u64) -> bool {
        found >= wanted && found <= wanted + wanted / 100 + 1
    }

    #[test]
    fn producers_take_turns_and_never_drift() {
        let schedule = Schedule { producers: 3, offered_per_s: 7_000, ..SCHEDULE };
        let all: Vec<_> =
            (0..30).map(|number| schedule.due_ns(number % 3, u64::from(number / 3))).collect();
        assert!(all.is_sorted());
        assert_eq!(all[0], 5_000);
        assert_eq!(schedule.due_ns(0, 7_000), 5_000 + 3_000_000_000);
        for moment in [5_000, 5_001, 147_856, 147_857, 147_858, 1_000_000] {
            let due = all.iter().filter(|&&due| due < moment).count() as u64;
            assert_eq!(schedule.due_before(moment), due, "{moment}");
        }
    }

    #[test]
    fn producers_spin_where_that_takes_no_processor_from_others() {
        assert_eq!(spin_ns(1_000_000, 1, 2), SPIN_NS, "each has its own");
        assert_eq!(spin_ns(200_000, 8, 2), 0);
        assert_eq!(spin_ns(25_000, 8, 2), SPIN_NS, "half a processor of two");
        assert_eq!(spin_ns(25_001, 8, 2), 0);
        assert_eq!(spin_ns(200_000, 64, 16), SPIN_NS);
    }

    #[test]
    fn whoever_keeps_up_shows_the_same_time_thrice() {
        let (report, sent) = run(300, None);
        assert_eq!((report.measured, sent), (100, 111));
        assert!(!report.saturated);
        assert!(is_about(worst(&report.times.response), 300));
        assert!(is_about(worst(&report.times.service), 300));
        assert_eq!(worst(&report.times.lag), 0);
    }

    #[test]
    fn a_stall_is_felt_by_every_message_it_held_up_and_none_is_left_out() {
        // Message 20 is due at 25 us and held up until 65 us: it and the forty after it are late.
        let (report, sent) = run(300, Some((20, 65_000)));
        assert_eq!((report.measured, sent), (100, 111));
        let times = &report.times;
        assert!(is_about(worst(&times.response), 40_300));
        assert!(is_about(worst(&times.lag), 39_300));
        let slow = |counts: &[(u64, u64)]| -> u64 {
            counts.iter().filter(|(ns, _)| *ns > 1_000).map(|(_, count)| count).sum()
        };
        assert_eq!(slow(&times.service), 1, "the one that was held up");
        // Each late one catches up by 700 ns: (40,300 - 300) / 700 = 57 messages end more than
        // 300 ns after they were due, and all but the last of them by more than a microsecond.
        assert_eq!(slow(&times.response), 57);
        assert!(!report.saturated, "one stall is not too high a rate");
    }

    #[test]
    fn whoever_loses_the_race_gives_up_and_says_so() {
        let (report, sent) = run(10_000, None);
        assert!(report.saturated);
        // 21 sends fit between the first due time and the end of the measured time twice over.
        assert_eq!(sent, 22);
        assert!(report.measured < 22);
    }

    #[test]
    fn saturation_by_hand() {
        assert_eq!(SCHEDULE.due(), 100);
        let pace = |begun, last_late| Pace { begun, last: 25, last_late };
        assert!(!pace(95, 12).is_lost(&SCHEDULE));
        assert!(pace(94, 0).is_lost(&SCHEDULE), "too few began");
        assert!(pace(100, 13).is_lost(&SCHEDULE), "half were late near the end");
        let mut pace = Pace::default();
        for (due_ns, begin_ns) in [
            (89_999, 200_000), // before the last quarter, and begun after the end
            (90_000, 91_000),  // as late as the next is due
            (90_000, 91_001),  // and later
        ] {
            pace.record(&SCHEDULE, Moments { due_ns, begin_ns });
        }
        assert_eq!((pace.begun, pace.last, pace.last_late), (2, 2, 1));
    }

    #[test]
    fn a_wait_ends_when_it_should() {
        let now = now_ns();
        for spin_ns in [0, SPIN_NS] {
            assert!(wait_until(now + 100_000, spin_ns) >= now + 100_000);
            assert!(wait_until(now, spin_ns) > now, "the past is not waited for");
        }
    }
}
