//! Rings where the system refuses locks and they must work all the same, as on Android: who has no
//! lock counts as alive until it leaves.
//!
//! A child is refused every lock by a filter of its own system calls, and told to bear it.

use crate::children::{Child, folder, listen, say, soon};
use crate::files::names;
use crate::os::is_emulated;
use crate::refusals::forbid_locks;
use ipmpsc::{Error, Liveness, Options, Receiver, Sender, SharedRingBuffer};
use std::time::Duration;

pub(crate) fn child(role: &str, args: &[&str]) {
    forbid_locks(libc::EACCES);
    match role {
        "maker" => make_and_use(args[0]),
        "sender" => send_until_told(args[0]),
        "receiver" => receive_until_told(args[0]),
        "crowd" => attach_as_often_as_possible(args[0]),
        other => panic!("no child is called {other}"),
    }
}

fn start(role: &str, path: &str) -> Child {
    start_to_fail(role, path, "")
}

fn start_to_fail(role: &str, path: &str, fault: &str) -> Child {
    Child::start_with(role, &[path], |command| {
        command.env("IPMPSC_FAULT_ANDROID", "1");
        if !fault.is_empty() {
            command.env("IPMPSC_FAULT", fault);
        }
    })
}

fn ring_at(path: &str) -> SharedRingBuffer {
    Options::new().capacity(1000).max_senders(4).create_new(path).expect("a ring can be made")
}

fn make_and_use(path: &str) {
    let mut options = Options::new();
    options.capacity(1000);
    for round in 0..3 {
        let ring = match round {
            0 => options.create_new(path),
            1 => options.create(path),
            _ => options.open_or_create(path),
        };
        let ring = ring.expect("no lock is needed");
        assert_eq!(ring.liveness(), Liveness::Unknown, "said at once");
        let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
        for number in 0..1000_u64 {
            sender.send(&number).expect("sound");
            assert_eq!(receiver.recv::<u64>().expect("sound"), number);
        }
        let second = Receiver::new(SharedRingBuffer::open(path).expect("it is there"));
        assert!(matches!(second.try_recv::<u64>(), Err(Error::ReceiverExists)));
        let stats = ring.stats();
        assert_eq!((stats.senders, stats.receiver_alive), (1, true));
        drop((sender, receiver));
        assert_eq!(second.try_recv::<u64>().expect("the role is free"), None);
        assert_eq!(ring.stats().senders, 0, "leaving is noticed");
    }
    let ring = Options::new().anonymous().expect("no lock is needed");
    assert_eq!(ring.liveness(), Liveness::Unknown);
    Sender::new(ring.clone()).send(&1_u8).expect("sound");
    assert_eq!(Receiver::new(ring).recv::<u8>().expect("sound"), 1);
    say("done");
}

#[test]
fn rings_are_made_and_used_without_locks_and_say_that_deaths_are_not_seen() {
    if is_emulated() {
        return;
    }
    let (folder, path) = folder();
    let mut child = start("unlocked::maker", &path);
    assert_eq!(child.hear(), "done");
    child.finish();
    assert_eq!(names(folder.path()), ["ring"], "no draft is left");
}

fn send_until_told(path: &str) {
    let ring = SharedRingBuffer::open(path).expect("it is there");
    assert_eq!(ring.liveness(), Liveness::Unknown);
    let sender = Sender::new(ring);
    sender.send(&1_u64).expect("sound");
    say("sent");
    listen();
    sender.send(&2_u64).expect("sound");
}

#[test]
fn who_has_no_lock_lives_for_everybody_until_it_leaves() {
    if is_emulated() {
        return;
    }
    let (_folder, path) = folder();
    let ring = ring_at(&path);
    let receiver = Receiver::new(ring.clone());
    assert_eq!(ring.liveness(), Liveness::Known);
    for _ in 0..3 {
        let mut child = start("unlocked::sender", &path);
        assert_eq!(child.hear(), "sent");
        assert_eq!((ring.liveness(), receiver.senders()), (Liveness::Unknown, 1));
        child.tell("go on");
        child.finish();
        assert_eq!((ring.liveness(), receiver.senders()), (Liveness::Known, 0));
        assert_eq!(receiver.try_recv::<u64>().expect("sound"), Some(1));
        assert_eq!(receiver.try_recv::<u64>().expect("sound"), Some(2));
    }
}

#[test]
fn nothing_is_taken_from_one_killed_without_a_lock() {
    if is_emulated() {
        return;
    }
    let (_folder, path) = folder();
    let ring = ring_at(&path);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    let mut child = start_to_fail("unlocked::sender", &path, "claim-done:stop@2");
    assert_eq!(child.hear(), "sent");
    child.tell("go on");
    child.wait_stopped();
    child.kill();
    assert_eq!(receiver.recv_timeout::<u64>(soon()).expect("sound"), Some(1));
    // Its second message was never finished, and nobody is there to say so.
    sender.send_timeout(&3_u64, soon()).expect("there is space behind it");
    let pause = Duration::from_millis(300);
    assert_eq!(receiver.recv_timeout::<u64>(pause).expect("sound"), None);
    assert_eq!(ring.stats().recoveries, 0);
    assert_eq!((ring.liveness(), receiver.senders()), (Liveness::Unknown, 2));
    // What helps is a new ring.
    let new = Options::new().capacity(1000).create(&path).expect("it can be replaced");
    assert_eq!(new.liveness(), Liveness::Known);
    assert!(matches!(sender.send(&4_u64), Err(Error::Closed)));
}

fn receive_until_told(path: &str) {
    let receiver = Receiver::new(SharedRingBuffer::open(path).expect("it is there"));
    receiver.recv::<u64>().expect("sound");
    say("received");
    listen();
}

#[test]
fn the_role_of_a_receiver_without_a_lock_is_not_taken_until_it_leaves() {
    if is_emulated() {
        return;
    }
    for killed in [true, false] {
        let (_folder, path) = folder();
        let ring = ring_at(&path);
        let sender = Sender::new(ring.clone());
        sender.send(&1_u64).expect("sound");
        let mut child = start("unlocked::receiver", &path);
        assert_eq!(child.hear(), "received");
        let second = Receiver::new(ring.clone());
        assert!(matches!(second.try_recv::<u64>(), Err(Error::ReceiverExists)));
        if killed {
            child.kill();
            assert!(matches!(second.try_recv::<u64>(), Err(Error::ReceiverExists)));
            assert!(ring.stats().receiver_alive);
        } else {
            child.tell("leave");
            child.finish();
            sender.send(&2_u64).expect("sound");
            assert_eq!(second.try_recv::<u64>().expect("the role is free"), Some(2));
        }
    }
}

/// Attaches by a mapping each until it is refused, says how often, and leaves when told.
fn attach_as_often_as_possible(path: &str) {
    let mut senders = Vec::new();
    loop {
        let sender = Sender::new(SharedRingBuffer::open(path).expect("it is there"));
        match sender.send(&1_u64) {
            Ok(()) => senders.push(sender),
            Err(Error::TooManySenders) => break,
            Err(error) => panic!("{error}"),
        }
    }
    say(&senders.len().to_string());
    listen();
}

#[test]
fn those_with_and_those_without_locks_take_no_slot_twice() {
    if is_emulated() {
        return;
    }
    let (_folder, path) = folder();
    let ring = ring_at(&path);
    let receiver = Receiver::new(ring.clone());
    let open = || Sender::new(SharedRingBuffer::open(&path).expect("it is there"));
    // In use, and used before: neither is for those who cannot see which it is.
    let used = [open(), open()];
    for sender in &used {
        sender.send(&0_u64).expect("sound");
    }
    let [used, left] = used;
    drop(left);
    for _ in 0..2 {
        let mut crowd = start("unlocked::crowd", &path);
        assert_eq!(crowd.hear(), "2", "of four slots");
        assert_eq!(receiver.senders(), 3);
        // The one that was left is for those with locks, and no other.
        let again = open();
        again.send(&0_u64).expect("sound");
        assert!(matches!(open().send(&0_u64), Err(Error::TooManySenders)));
        crowd.tell("leave");
        crowd.finish();
        drop(again);
        assert_eq!(receiver.senders(), 1);
    }
    drop(used);
}
