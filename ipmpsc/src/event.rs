//! Waiting: deadlines, how long to spin before sleeping, and how long to sleep at a stretch.
//!
//! A wait first pauses the processor a few dozen times (a hand-over between two running
//! processes takes less), then yields it for a budget of some microseconds, then sleeps in the
//! kernel. A receiver that yields have cost its processor sleeps instead of them, for a while. No
//! sleep is longer than `LONGEST_NAP`, after which the waiter looks at the data, at its peers'
//! lives and at the closed word again: that, and not the wakes, is what makes every wait survive
//! every death. But for a receiver to whom nothing can have been sent: it is woken before that
//! changes. Which word is slept on, and why no wake is lost, is in `ring.rs`
//! (`SYNC(receiver-wait)`, `SYNC(receiver-sleep)`, `SYNC(space-wait)`).

use crate::fault::is_led;
use crate::sys::WAKES_REACH_ALL;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a waiting [`Sender`](crate::Sender) or [`Receiver`](crate::Receiver) keeps a
/// processor busy before it sleeps. Waking a sleeper costs tens of microseconds, a hand-over to
/// a spinning one a fraction of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spin {
    /// Up to 50 µs, less where experience shows that it is in vain.
    #[default]
    Adaptive,
    /// Not at all: least power, most latency.
    Never,
    /// This long, every time.
    For(Duration),
}

/// No waiter on whom a death may have consequences sleeps longer without looking around: it costs
/// at most this much more.
pub(crate) const LONGEST_NAP: Duration = Duration::from_millis(95);
/// What a receiver sleeps that is idle, if nobody rouses it. For ever would do, if every system let
/// every sender wake it.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
const SHORTEST_NAP: Duration = Duration::from_millis(1);
const MOST_SPIN_US: u32 = 50;
/// What is left to a sender where spinning is in vain: it waits for a receiver that is at work, or
/// whose turn comes if the sender yields. A receiver waits for somebody who may have nothing to say
/// for long: it then spins no more.
const LEAST_SPIN_US: u32 = 3;
/// Pauses before the first yield: one to three microseconds, depending on the processor.
const PAUSES: u32 = 64;
/// Pauses of the longest `Lull`.
const MOST_LULL: u32 = 32;
/// Pauses between two looks, at most.
const MOST_PAUSES: u32 = 8;
/// A yield that took longer has cost the processor: who got it keeps it until the scheduler takes
/// it away, often for milliseconds. One that sleeps is put before others when it is woken.
const LONG_YIELD: Duration = Duration::from_micros(50);
/// For so many times as long as such a yield took there is no other, so that they take 1.5 % of
/// the time at most. The host of a virtual machine makes some yields long that would not be again.
const YIELD_BACK_OFF: u32 = 64;
/// The longest such back-off, whatever stopped the process amid a yield.
const MOST_BACK_OFF: Duration = Duration::from_secs(1);

/// When a wait must end. Monotonic.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadline {
    /// Do not wait.
    Now,
    At(Instant),
    Never,
}

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        if timeout.is_zero() {
            return Self::Now;
        }
        // A timeout beyond what the clock can say is for ever.
        Instant::now().checked_add(timeout).map_or(Self::Never, Self::At)
    }

    /// What is left, at most `most`; `None` if nothing is.
    fn left(self, now: Instant, most: Duration) -> Option<Duration> {
        match self {
            Self::Now => None,
            Self::Never => Some(most),
            Self::At(end) => {
                end.checked_duration_since(now).filter(|d| !d.is_zero()).map(|d| d.min(most))
            }
        }
    }
}

/// The spin budget, in microseconds, that a handle's waits have taught it.
#[derive(Debug)]
pub(crate) struct Learned {
    us: AtomicU32,
    least: u32,
    /// When yields may be tried again, in microseconds from `born` on.
    no_yield_until_us: AtomicU64,
    born: Instant,
}

impl Learned {
    pub(crate) fn for_sender() -> Self {
        Self {
            us: AtomicU32::new(MOST_SPIN_US),
            least: LEAST_SPIN_US,
            no_yield_until_us: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    pub(crate) fn for_receiver() -> Self {
        Self { least: 0, ..Self::for_sender() }
    }

    fn budget(&self, spin: Spin) -> Duration {
        match spin {
            // Relaxed: a hint.
            Spin::Adaptive => Duration::from_micros(self.us.load(Relaxed).into()),
            Spin::Never => Duration::ZERO,
            Spin::For(budget) => budget,
        }
    }

    /// Doubles the budget where spinning ended the wait or would have, halves it where not.
    fn adjust(&self, worth_it: bool) {
        let now = self.us.load(Relaxed);
        let next = if worth_it { (now * 2).max(1) } else { now / 2 };
        self.us.store(next.clamp(self.least, MOST_SPIN_US), Relaxed);
    }

    fn may_yield(&self, now: Instant) -> bool {
        // Relaxed: a hint.
        let until = Duration::from_micros(self.no_yield_until_us.load(Relaxed));
        now.saturating_duration_since(self.born) >= until
    }

    fn forbid_yields(&self, time: Duration) {
        let until = self.born.elapsed() + time;
        self.no_yield_until_us.store(u64::try_from(until.as_micros()).unwrap_or(0), Relaxed);
    }
}

/// How long a receiver that has caught up lets its senders be before it looks again.
///
/// Each look at a record takes its cache line from the sender that is about to write it. A
/// receiver that is faster than its senders would pay that, and make them pay, for every message.
/// So where the next message is always there after the shortest of pauses, the pause doubles, and
/// the messages come in bursts, at twice the speed or more; where it is not, the pause shrinks to
/// almost nothing, and so does what it adds to a round trip.
#[derive(Debug)]
pub(crate) struct Lull(u32);

impl Default for Lull {
    fn default() -> Self {
        Self(1)
    }
}

impl Lull {
    pub(crate) fn pause(&self) {
        for _ in 0..self.0 {
            std::hint::spin_loop();
        }
    }

    /// Takes note of whether there was a message after the pause.
    pub(crate) fn learn(&mut self, there: bool) {
        self.0 = if there { (self.0 * 2).min(MOST_LULL) } else { (self.0 / 2).max(1) };
    }
}

/// What a waiter does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Look again.
    Again,
    /// Sleep, at most this long, having looked around.
    Sleep(Duration),
    /// Give up.
    Expired,
}

/// One wait.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    learned: &'a Learned,
    spin: Spin,
    pauses: u32,
    started: Option<Instant>,
    nap: Duration,
    slept: bool,
    longest_yield: Duration,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(spin: Spin, learned: &'a Learned) -> Self {
        // Time decides nothing in a process that is led.
        let spin = if is_led() { Spin::Never } else { spin };
        let pauses = match spin {
            Spin::Never => PAUSES,
            // One look more.
            Spin::Adaptive if learned.budget(spin).is_zero() => PAUSES - MOST_PAUSES,
            _ => 0,
        };
        Self {
            learned,
            spin,
            pauses,
            started: None,
            nap: SHORTEST_NAP,
            slept: false,
            longest_yield: Duration::ZERO,
        }
    }

    /// Says what to do after having looked in vain, and does it unless it is to sleep. With
    /// `eager`, naps begin short: something is amiss with a peer, or about to change. Without, the
    /// second and later sleeps may be longer than `LONGEST_NAP`, if no death can matter.
    pub(crate) fn next(&mut self, deadline: Deadline, eager: bool) -> Next {
        if matches!(deadline, Deadline::Now) {
            return Next::Expired;
        }
        if self.pauses < PAUSES {
            // Ever longer: each look takes the line from the peer that is writing to it.
            let pauses = (self.pauses + 1).min(MOST_PAUSES);
            for _ in 0..pauses {
                std::hint::spin_loop();
            }
            self.pauses += pauses;
            return Next::Again;
        }
        let now = Instant::now();
        let most = match self.slept {
            _ if eager => self.nap,
            // To be roused costs more than to be woken, so not between two messages.
            true if WAKES_REACH_ALL => LONGEST_SLEEP,
            _ => LONGEST_NAP,
        };
        let Some(nap) = deadline.left(now, most) else {
            return Next::Expired;
        };
        let started = *self.started.get_or_insert(now);
        let is_in_budget = now.duration_since(started) < self.learned.budget(self.spin);
        if is_in_budget && (self.spin != Spin::Adaptive || self.learned.may_yield(now)) {
            std::thread::yield_now();
            self.longest_yield = self.longest_yield.max(now.elapsed());
            return Next::Again;
        }
        self.nap = (self.nap * 2).min(LONGEST_NAP);
        self.slept = true;
        Next::Sleep(nap)
    }

    /// Takes note that the wait is over. Where a yield has cost it the processor, and the senders
    /// have not filled the ring with it, the next waits sleep instead.
    pub(crate) fn end(&self, is_filled: impl FnOnce() -> bool) {
        if self.longest_yield > LONG_YIELD && !is_filled() {
            let time = self.longest_yield.saturating_mul(YIELD_BACK_OFF);
            self.learned.forbid_yields(time.min(MOST_BACK_OFF));
        }
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        let (Spin::Adaptive, Some(started)) = (self.spin, self.started) else {
            return;
        };
        let short = Duration::from_micros((2 * MOST_SPIN_US).into());
        self.learned.adjust(!self.slept || started.elapsed() < short);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_timeout_is_too_long_or_too_short() {
        let now = Instant::now();
        assert_eq!(Deadline::after(Duration::ZERO).left(now, LONGEST_NAP), None);
        assert_eq!(Deadline::after(Duration::MAX).left(now, LONGEST_NAP), Some(LONGEST_NAP));
        let past = Deadline::At(now);
        assert_eq!(past.left(now, LONGEST_NAP), None);
        assert_eq!(past.left(now + Duration::from_secs(1), LONGEST_NAP), None);
    }

    #[test]
    fn a_budget_shrinks_when_spinning_is_in_vain_and_grows_back() {
        for (learned, least) in [(Learned::for_sender(), 3), (Learned::for_receiver(), 0)] {
            let most = learned.budget(Spin::Adaptive);
            for _ in 0..10 {
                learned.adjust(false);
            }
            assert_eq!(learned.budget(Spin::Adaptive), Duration::from_micros(least));
            for _ in 0..10 {
                learned.adjust(true);
            }
            assert_eq!(learned.budget(Spin::Adaptive), most);
        }
    }

    #[test]
    fn a_receiver_that_waits_in_vain_looks_once_and_sleeps_until_waits_are_short_again() {
        let learned = Learned::for_receiver();
        let looks = || {
            let mut patience = Patience::new(Spin::Adaptive, &learned);
            let looks = (0..).take_while(|_| patience.next(Deadline::Never, false) == Next::Again);
            looks.count()
        };
        assert!(looks() > 10);
        learned.us.store(0, Relaxed);
        assert_eq!(looks(), 1);
        learned.adjust(true);
        assert!(looks() > 10);
    }

    #[test]
    fn a_yield_that_cost_the_processor_is_the_last_for_some_time() {
        let learned = Learned::for_receiver();
        // Whether yields are forbidden from now on, and no longer than they should be.
        let end = |longest_yield, is_filled| {
            let before = Instant::now();
            let patience = Patience { longest_yield, ..Patience::new(Spin::Adaptive, &learned) };
            patience.end(|| is_filled);
            assert!(learned.may_yield(Instant::now() + MOST_BACK_OFF));
            !learned.may_yield(before)
        };
        assert!(!end(LONG_YIELD, false));
        assert!(!end(Duration::MAX, true), "the processor was put to good use");
        assert!(end(2 * LONG_YIELD, false));
        assert!(end(Duration::MAX, false));
    }

    #[test]
    fn waits_sleep_instead_of_yielding_where_that_is_forbidden() {
        let learned = Learned::for_receiver();
        let hour = Duration::from_secs(3600);
        let yields = |spin| {
            let mut patience = Patience::new(spin, &learned);
            patience.pauses = PAUSES;
            patience.next(Deadline::Never, false) == Next::Again
        };
        assert!(yields(Spin::Adaptive));
        learned.forbid_yields(hour);
        assert!(!yields(Spin::Adaptive));
        assert!(yields(Spin::For(hour)), "as it was told");
    }

    #[test]
    fn the_first_sleep_of_a_wait_is_a_nap() {
        let learned = Learned::for_receiver();
        let mut patience = Patience::new(Spin::Never, &learned);
        assert_eq!(patience.next(Deadline::Never, false), Next::Sleep(LONGEST_NAP));
    }

    #[test]
    fn a_wait_spins_then_sleeps_then_expires() {
        let learned = Learned::for_sender();
        let spin = Spin::For(Duration::from_micros(1));
        let mut patience = Patience::new(spin, &learned);
        let deadline = Deadline::after(Duration::from_secs(3600));
        let slept = std::iter::repeat_with(|| patience.next(deadline, true))
            .find(|next| *next != Next::Again);
        assert_eq!(slept, Some(Next::Sleep(SHORTEST_NAP)));
        assert_eq!(patience.next(deadline, true), Next::Sleep(2 * SHORTEST_NAP));
        let longest = if WAKES_REACH_ALL { LONGEST_SLEEP } else { LONGEST_NAP };
        assert_eq!(patience.next(deadline, false), Next::Sleep(longest));
        assert_eq!(patience.next(Deadline::At(Instant::now()), false), Next::Expired);
        assert_eq!(Patience::new(spin, &learned).next(Deadline::Now, false), Next::Expired);
    }
}
