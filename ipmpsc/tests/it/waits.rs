//! Time: every timeout, signals during waits, and what waiting costs.

use crate::children::{Child, LONG, Note, RECEIVER_WAIT, Words, say, wait_until};
use ipmpsc::{Error, Options, Receiver, Sender, SharedRingBuffer, Spin};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How much later than asked a wait may end on a machine that has other things to do.
const LATE: Duration = Duration::from_secs(2);

pub(crate) fn child(role: &str, _args: &[&str]) {
    match role {
        "storm" => storm(),
        "idle" => idle(),
        other => panic!("no child is called {other}"),
    }
}

fn ring_of(message_bytes: u64) -> SharedRingBuffer {
    Options::new().capacity(message_bytes).anonymous().expect("a ring can be made")
}

fn took(timeout: Duration, wait: impl FnOnce()) {
    let began = Instant::now();
    wait();
    let took = began.elapsed();
    assert!(took >= timeout, "{timeout:?} ended after {took:?}");
    assert!(took < timeout + LATE, "{timeout:?} took {took:?}");
}

const TIMEOUTS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_micros(20),
    Duration::from_millis(1),
    Duration::from_millis(70),
    Duration::from_millis(130),
];

#[test]
fn a_receive_in_vain_takes_as_long_as_it_was_given() {
    for spin in [Spin::Adaptive, Spin::Never, Spin::For(Duration::from_micros(200))] {
        let mut receiver = Receiver::new(ring_of(100));
        receiver.set_spin(spin);
        for timeout in TIMEOUTS {
            took(timeout, || {
                assert_eq!(receiver.recv_timeout::<u64>(timeout).expect("no error"), None);
            });
            took(timeout, || {
                assert!(receiver.recv_bytes_timeout(timeout).expect("no error").is_none());
            });
            took(timeout, || {
                let mut context = receiver.zero_copy_context();
                assert_eq!(context.recv_timeout::<u64>(timeout).expect("no error"), None);
            });
            took(timeout, || {
                assert_eq!(receiver.drain_timeout(9, timeout, |_| ()).expect("no error"), 0);
            });
        }
    }
}

#[test]
fn a_send_in_vain_takes_as_long_as_it_was_given() {
    for spin in [Spin::Adaptive, Spin::Never, Spin::For(Duration::from_micros(200))] {
        let ring = ring_of(64);
        let mut sender = Sender::new(ring.clone());
        sender.set_spin(spin);
        while sender.try_send(&[0_u64; 2]).expect("no error") {}
        let before = ring.stats();
        for timeout in TIMEOUTS {
            took(timeout, || {
                assert!(!sender.send_timeout(&[0_u64; 2], timeout).expect("no error"));
            });
            took(timeout, || {
                assert!(!sender.send_bytes_timeout(&[0; 16], timeout).expect("no error"));
            });
            took(timeout, || {
                assert!(sender.reserve_timeout(16, timeout).expect("no error").is_none());
            });
            took(timeout, || {
                assert_eq!(sender.send_batch_timeout(&[[0_u64; 2]], timeout).expect("no error"), 0);
            });
            took(timeout, || {
                let sent = sender.send_when_empty_timeout(&0_u64, timeout);
                assert!(!sent.expect("no error"));
            });
        }
        assert_eq!(ring.stats().used, before.used);
    }
}

#[test]
fn a_timeout_without_end_is_waited_for_and_what_is_there_comes_at_once() {
    for timeout in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1 << 40)] {
        let ring = ring_of(64);
        let words = Words::of_file(&ring.try_clone_file().expect("it can be cloned"));
        let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
        assert!(sender.send_timeout(&1_u64, timeout).expect("no error"));
        assert!(!sender.send_when_empty_timeout(&1_u64, Duration::ZERO).expect("no error"));
        assert_eq!(receiver.recv_timeout::<u64>(timeout).expect("no error"), Some(1));
        assert!(sender.send_when_empty_timeout(&2_u64, timeout).expect("no error"));
        assert_eq!(receiver.recv_timeout::<u64>(Duration::ZERO).expect("no error"), Some(2));
        let waiting = std::thread::spawn(move || receiver.recv_timeout::<u64>(timeout));
        wait_until("the receiver sleeps", || words.half(RECEIVER_WAIT).load(Relaxed) == 1);
        sender.send(&3_u64).expect("no error");
        assert_eq!(waiting.join().expect("no panic").expect("no error"), Some(3));
    }
}

#[test]
fn a_sleeping_receiver_gets_a_message_soon() {
    let ring = ring_of(64);
    let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    receiver.set_spin(Spin::Never);
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                barrier.wait();
                sender.send(&Instant::now().elapsed().subsec_nanos()).expect("no error");
            }
        });
        for _ in 0..100 {
            barrier.wait();
            let message = receiver.recv_timeout::<u32>(LONG).expect("no error");
            assert!(message.is_some());
        }
    });
}

#[test]
fn a_sender_that_waits_for_space_gets_it_soon() {
    let ring = ring_of(64);
    let (mut sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    sender.set_spin(Spin::Never);
    while sender.try_send(&0_u64).expect("no error") {}
    let waiting = std::thread::spawn(move || sender.send(&1_u64));
    wait_until("the sender sleeps", || ring.stats().blocked_senders == 1);
    let began = Instant::now();
    while receiver.try_recv::<u64>().expect("no error") == Some(0) {}
    waiting.join().expect("no panic").expect("no error");
    assert!(began.elapsed() < LATE);
}

#[test]
fn when_empty_means_that_nothing_waits_to_be_received() {
    let ring = ring_of(1000);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    sender.send_when_empty(&1_u64).expect("no error");
    let short = Duration::from_millis(10);
    assert!(!sender.send_when_empty_timeout(&2_u64, short).expect("no error"));
    let waiting = std::thread::spawn(move || sender.send_when_empty(&3_u64));
    wait_until("the sender sleeps", || ring.stats().blocked_senders == 1);
    assert_eq!(receiver.recv::<u64>().expect("no error"), 1);
    waiting.join().expect("no panic").expect("no error");
    assert_eq!(receiver.recv::<u64>().expect("no error"), 3);
}

#[test]
fn of_two_threads_that_share_a_receiver_one_is_refused() {
    let ring = ring_of(64);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    std::thread::scope(|scope| {
        let receive = || receiver.recv_timeout::<u64>(LONG);
        let (one, two) = (scope.spawn(receive), scope.spawn(receive));
        wait_until("one is refused", || one.is_finished() || two.is_finished());
        let (first, second) = if one.is_finished() { (one, two) } else { (two, one) };
        let first = first.join().expect("no panic");
        assert!(matches!(first, Err(Error::ReceiverExists)), "{first:?}");
        sender.send(&1_u64).expect("no error");
        assert_eq!(second.join().expect("no panic").expect("no error"), Some(1));
    });
}

static ALARMS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_alarm(_: libc::c_int) {
    ALARMS.fetch_add(1, Relaxed);
}

/// A timer that interrupts every system call it can, 5000 times a second.
fn interrupt_often() {
    // SAFETY: a struct of integers and a set of signals, for which 0 means none.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_alarm as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler does nothing but an atomic addition; no SA_RESTART.
    let set = unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    let every = libc::timeval { tv_sec: 0, tv_usec: 200 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: a valid struct, read only.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

fn storm() {
    interrupt_often();
    let ring = ring_of(256 << 10);
    let (mut sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    sender.set_spin(Spin::Never);
    receiver.set_spin(Spin::Never);
    let wait = Duration::from_millis(150);
    took(wait, || assert_eq!(receiver.recv_timeout::<u64>(wait).expect("no error"), None));
    let sending = std::thread::spawn(move || {
        for seq in 0..2000 {
            sender.send(&Note::new(1, seq, (seq * 97 % 5000) as usize)).expect("no error");
        }
        sender
    });
    for seq in 0..2000 {
        let note = receiver.recv_timeout::<Note>(LONG).expect("no error").expect("it comes");
        assert!(note.seq == seq && note.is_whole());
    }
    let sender = sending.join().expect("no panic");
    while sender.try_send(&[0_u64; 30]).expect("no error") {}
    took(wait, || {
        assert!(!sender.send_timeout(&[0_u64; 30], wait).expect("no error"));
    });
    say(&ALARMS.load(Relaxed).to_string());
}

#[test]
fn signals_shorten_no_wait_and_harm_no_message() {
    let mut child = Child::start("waits::storm", &[]);
    let alarms: u64 = child.hear().parse().expect("a number");
    child.finish();
    assert!(alarms > 100, "{alarms} signals are no storm");
}

fn processor_time() -> Duration {
    // SAFETY: a struct of integers, for the call to fill.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: writes the struct it is given.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) }, 0);
    let of = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.cast_unsigned())
            + Duration::from_micros(time.tv_usec.cast_unsigned())
    };
    of(usage.ru_utime) + of(usage.ru_stime)
}

fn idle() {
    let receiver = Receiver::new(ring_of(100));
    assert_eq!(receiver.try_recv::<u64>().expect("no error"), None);
    let before = processor_time();
    let second = Duration::from_secs(1);
    assert_eq!(receiver.recv_timeout::<u64>(second).expect("no error"), None);
    say(&(processor_time() - before).as_micros().to_string());
}

#[test]
fn an_idle_receiver_leaves_the_processor_alone() {
    let mut child = Child::start("waits::idle", &[]);
    let used: u64 = child.hear().parse().expect("a number");
    assert!(used < 20_000, "{used} us of a second");
}
