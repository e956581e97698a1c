//! Waits and large allocations that signals interrupt, thousands of times a second.

use crate::children::{Child, LONG, Note, folder, say};
use crate::waits::{ring_of, took};
use ipmpsc::{Options, Receiver, Sender, SharedRingBuffer, Spin};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub(crate) fn child(role: &str, _args: &[&str]) {
    match role {
        "storm" => storm(),
        "storm_create" => storm_create(),
        other => panic!("no child is called {other}"),
    }
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
    let mut child = Child::start("signals::storm", &[]);
    let alarms: u64 = child.hear().parse().expect("a number");
    child.finish();
    assert!(alarms > 100, "{alarms} signals are no storm");
}

/// Allocating this much takes far longer than the storm's signals are apart.
fn storm_create() {
    interrupt_often();
    let (_folder, path) = folder();
    let mut options = Options::new();
    options.capacity(64 << 20);
    let makes: [&dyn Fn() -> ipmpsc::Result<SharedRingBuffer>; 3] =
        [&|| options.create_new(&path), &|| options.create(&path), &|| options.anonymous()];
    for make in makes {
        let ring = make().expect("signals are no reason not to make a ring");
        let sender = Sender::new(ring.clone());
        let sent = Note::new(1, 2, 40 << 20);
        sender.send(&sent).expect("its space is there");
        assert!(Receiver::new(ring).recv::<Note>().expect("no error") == sent);
    }
    say(&ALARMS.load(Relaxed).to_string());
}

#[test]
fn signals_do_not_keep_a_large_ring_from_being_made() {
    let began = Instant::now();
    let mut child = Child::start("signals::storm_create", &[]);
    let alarms: u64 = child.hear().parse().expect("a number");
    child.finish();
    assert!(alarms > 100, "{alarms} signals are no storm");
    println!("took {:?} under {alarms} signals", began.elapsed());
}
