//! Time: every timeout, signals during waits, and what waiting costs.

use crate::children::{Child, LONG, RECEIVER_WAIT, Words, say, wait_until};
use ipmpsc::{Error, Options, Receiver, Sender, SharedRingBuffer, Spin};
use std::io::Write;
use std::sync::Barrier;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How much later than asked a wait may end on a machine that has other things to do.
const LATE: Duration = Duration::from_secs(2);

pub(crate) fn child(role: &str, _args: &[&str]) {
    match role {
        "idle" => idle(),
        other => panic!("no child is called {other}"),
    }
}

pub(crate) fn ring_of(message_bytes: u64) -> SharedRingBuffer {
    Options::new().capacity(message_bytes).anonymous().expect("a ring can be made")
}

pub(crate) fn took(timeout: Duration, wait: impl FnOnce()) {
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
        wait_until("the receiver sleeps", || words.half(RECEIVER_WAIT).load(Relaxed) != 0);
        sender.send(&3_u64).expect("no error");
        assert_eq!(waiting.join().expect("no panic").expect("no error"), Some(3));
    }
}

/// Every receive with a timeout, given one without end.
const RECEIVES: [fn(&mut Receiver) -> Option<u64>; 4] = [
    |receiver| receiver.recv_timeout(Duration::MAX).expect("no error"),
    |receiver| receiver.zero_copy_context().recv_timeout(Duration::MAX).expect("no error"),
    |receiver| {
        let message = receiver.recv_bytes_timeout(Duration::MAX).expect("no error");
        message.map(|bytes| number(&bytes))
    },
    |receiver| {
        let mut got = None;
        let drained = receiver.drain_timeout(9, Duration::MAX, |bytes| got = Some(number(bytes)));
        assert_eq!(drained.expect("no error"), 1);
        got
    },
];

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("8 bytes"))
}

/// Every send with a timeout, given one without end.
const SENDS: [fn(&Sender, u64) -> bool; 5] = [
    |sender, value| sender.send_timeout(&value, Duration::MAX).expect("no error"),
    |sender, value| {
        sender.send_bytes_timeout(&value.to_le_bytes(), Duration::MAX).expect("no error")
    },
    |sender, value| {
        let reserved = sender.reserve_timeout(8, Duration::MAX).expect("no error");
        let mut reserved = reserved.expect("it waits for ever");
        reserved.write_all(&value.to_le_bytes()).expect("it fits");
        reserved.commit().is_ok()
    },
    |sender, value| sender.send_batch_timeout(&[value], Duration::MAX).expect("no error") == 1,
    |sender, value| sender.send_when_empty_timeout(&value, Duration::MAX).expect("no error"),
];

#[test]
fn every_receive_without_end_takes_what_is_there_and_what_comes_later() {
    let ring = ring_of(64);
    let words = Words::of_file(&ring.try_clone_file().expect("it can be cloned"));
    let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    for receive in RECEIVES {
        sender.send(&1_u64).expect("no error");
        assert_eq!(receive(&mut receiver), Some(1));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| receive(&mut receiver));
            wait_until("the receiver sleeps", || words.half(RECEIVER_WAIT).load(Relaxed) != 0);
            sender.send(&2_u64).expect("no error");
            assert_eq!(waiting.join().expect("no panic"), Some(2));
        });
    }
}

#[test]
fn every_send_without_end_takes_the_space_there_is_and_that_which_comes_later() {
    let ring = ring_of(64);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    for send in SENDS {
        assert!(send(&sender, 1));
        assert_eq!(receiver.try_recv::<u64>().expect("no error"), Some(1));
        while sender.try_send(&0_u64).expect("no error") {}
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| send(&sender, 2));
            wait_until("the sender sleeps", || ring.stats().blocked_senders == 1);
            while receiver.recv_timeout::<u64>(LONG).expect("no error") == Some(0) {}
            assert!(waiting.join().expect("no panic"));
        });
        assert_eq!(ring.stats().used, 0);
    }
}

#[test]
fn sleepers_on_both_sides_are_woken_and_need_not_wait_for_the_ends_of_their_naps() {
    const ROUNDS: u64 = 200;
    const MESSAGES: u64 = 20;
    let ring = ring_of(64);
    let words = Words::of_file(&ring.try_clone_file().expect("it can be cloned"));
    let (mut sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    sender.set_spin(Spin::Never);
    receiver.set_spin(Spin::Never);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 0..ROUNDS * MESSAGES {
                let got = receiver.recv_timeout(LONG).expect("no error");
                assert_eq!(got, Some(seq));
            }
        });
        for round in 0..ROUNDS {
            wait_until("the receiver sleeps", || words.half(RECEIVER_WAIT).load(Relaxed) != 0);
            for message in 0..MESSAGES {
                sender.send(&(round * MESSAGES + message)).expect("no error");
            }
        }
    });
    // A receiver naps for 50 ms or more: without wakes, this would be 10 s at least.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{ROUNDS} rounds took {took:?}");
}

#[test]
fn a_sender_that_has_slept_for_long_is_woken_before_its_nap_is_over() {
    const ROUNDS: usize = 5;
    let ring = ring_of(64);
    let (mut sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    sender.set_spin(Spin::Never);
    let mut waited = Vec::new();
    for _ in 0..ROUNDS {
        while sender.try_send(&0_u64).expect("no error") {}
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| sender.send(&1_u64));
            // Its naps double from 1 ms; the one that begins after 127 ms takes 95. Nothing depends
            // on when this pause ends but how much a missing wake would cost: 75 ms a round.
            std::thread::sleep(Duration::from_millis(145));
            let began = Instant::now();
            while receiver.recv_timeout::<u64>(LONG).expect("no error") == Some(0) {}
            waiting.join().expect("no panic").expect("no error");
            waited.push(began.elapsed());
        });
    }
    // The middle one: a busy machine holds one or the other up. A wake that is missing is so in
    // every round; one that is lost now and then is for the simulation and the model to find.
    waited.sort();
    assert!(waited[ROUNDS / 2] < Duration::from_millis(40), "waits for space took {waited:?}");
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
fn a_burst_fills_a_large_ring_whose_receiver_is_late() {
    const MESSAGE: usize = 1 << 20;
    for (spin, tries) in [(Spin::default(), false), (Spin::Never, false), (Spin::default(), true)] {
        let ring = ring_of(16 * (MESSAGE as u64 + 8) + 8);
        let (mut sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
        sender.set_spin(spin);
        let message = vec![7; MESSAGE];
        for _ in 0..16 {
            let timeout = if tries { Duration::ZERO } else { LONG };
            assert!(sender.send_bytes_timeout(&message, timeout).expect("no error"));
        }
        assert!(!sender.try_send_bytes(&message).expect("no error"), "no more were to fit");
        assert_eq!(receiver.try_drain(20, |_| ()).expect("no error"), 16);
    }
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

fn idle() {
    let receiver = Receiver::new(ring_of(100));
    // An emulator translates what runs for the first time, and charges for it.
    assert_eq!(receiver.recv_timeout::<u64>(Duration::from_millis(200)).expect("no error"), None);
    let used = || {
        let before = crate::os::processor_time();
        let second = Duration::from_secs(1);
        assert_eq!(receiver.recv_timeout::<u64>(second).expect("no error"), None);
        (crate::os::processor_time() - before).as_micros()
    };
    // wine counts in ticks of 10 ms, so one second in some may seem to use that much.
    say(&(0..3).map(|_| used()).min().expect("three").to_string());
}

#[test]
fn an_idle_receiver_leaves_the_processor_alone() {
    let mut child = Child::start("waits::idle", &[]);
    let used: u64 = child.hear().parse().expect("a number");
    println!("an idle receiver used {used} us of a second");
    // The promise is a thousandth; a busy machine may be charged for more.
    assert!(used < 5_000, "{used} us of a second");
}
