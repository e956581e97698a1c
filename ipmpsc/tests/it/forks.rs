//! What only a Unix process can do to a ring: fork, close what it did not open, remove what is in
//! use.

use crate::children::{Child, LONG, folder, listen, say, wait_until};
use crate::files::{make, open_error};
use crate::lifecycle::{entries, ring_at};
use crate::os::{in_fork, is_emulated};
use ipmpsc::{Error, Options, Receiver, Sender, SharedRingBuffer};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

pub(crate) fn child(role: &str, args: &[&str]) {
    match role {
        "forker" => fork_and_wait(args[0], args[1]),
        "closer" => close_everything(args[0]),
        "reuser" => reuse_descriptor(args[0]),
        other => panic!("no child is called {other}"),
    }
}

#[test]
fn a_sender_works_on_both_sides_of_a_fork() {
    let (_folder, path) = folder();
    let ring = ring_at(&path, 4);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    sender.send(&0_u64).expect("it fits");
    let child = in_fork(|| {
        let sent = (1..=100).all(|i| sender.send(&(i as u64)).is_ok());
        i32::from(!sent)
    });
    (101..=200).for_each(|i| sender.send(&(i as u64)).expect("the parent can send"));
    assert_eq!(child.wait(), 0);
    let mut got: Vec<u64> = std::iter::from_fn(|| receiver.try_recv().expect("sound")).collect();
    got.sort_unstable();
    assert_eq!(got, (0..=200).collect::<Vec<_>>());
    assert_eq!(ring.stats().senders, 1);
}

#[test]
fn a_receiver_inherited_by_fork_is_refused_while_the_parent_has_the_role() {
    if is_emulated() {
        return;
    }
    let (_folder, path) = folder();
    let ring = ring_at(&path, 4);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    sender.send(&1_u64).expect("it fits");
    assert_eq!(receiver.recv::<u64>().expect("it is there"), 1);
    sender.send(&2_u64).expect("it fits");
    let child = in_fork(|| match receiver.try_recv::<u64>() {
        Err(Error::ReceiverExists) => 0,
        _ => 1,
    });
    assert_eq!(child.wait(), 0);
    assert_eq!(receiver.recv::<u64>().expect("the parent goes on"), 2);
    let child = in_fork(|| {
        drop(receiver);
        0
    });
    assert_eq!(child.wait(), 0);
}

#[test]
fn guards_inherited_by_fork_do_nothing_in_the_child() {
    if is_emulated() {
        return;
    }
    let ring = Options::new().capacity(4096).anonymous().expect("a ring can be made");
    let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    let reservation = sender.reserve(8).expect("there is space");
    let mut reservation = Some(reservation);
    let child = in_fork(|| {
        drop(reservation.take());
        0
    });
    assert_eq!(child.wait(), 0);
    let reservation = reservation.expect("only the child has dropped it");
    reservation.commit().expect("the child's drop is not the parent's");
    for number in 0..2_u64 {
        sender.send(&number).expect("it fits");
    }
    assert_eq!(*receiver.recv_bytes().expect("it is there"), []);
    let mut message = Some(receiver.recv_bytes().expect("it is there"));
    let child = in_fork(|| {
        drop(message.take());
        0
    });
    assert_eq!(child.wait(), 0);
    std::mem::forget(message);
    assert_eq!(receiver.recv::<u64>().expect("not consumed by the child"), 0);
}

/// Attaches, forks, and lets the child, which sends nothing, live on after its parent.
fn fork_and_wait(path: &str, role: &str) {
    let ring = SharedRingBuffer::open(path).expect("the ring can be opened");
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    if role == "sender" {
        sender.send(&1_u64).expect("it fits");
    } else {
        assert_eq!(receiver.recv::<u64>().expect("it is there"), 1);
    }
    let parent = std::process::id();
    let _orphan = in_fork(|| {
        // SAFETY: takes no arguments, touches no memory.
        wait_until("the parent is dead", || unsafe { libc::getppid() }.cast_unsigned() != parent);
        say("orphan");
        listen();
        0
    });
    say("forked");
    listen();
}

#[test]
fn a_dead_parents_place_is_free_though_its_child_lives() {
    if is_emulated() {
        return;
    }
    for role in ["sender", "receiver"] {
        let (_folder, path) = folder();
        let ring = ring_at(&path, 1);
        if role == "receiver" {
            Sender::new(ring.clone()).send(&1_u64).expect("it fits");
        }
        // A mapping of its own: the one above keeps the only slot until it is dropped.
        drop(ring);
        let ring = SharedRingBuffer::open(&path).expect("the ring can be opened");
        let mut parent = Child::start("forks::forker", &[&path, role]);
        assert_eq!(parent.hear(), "forked");
        let sender = Sender::new(ring.clone());
        let receiver = Receiver::new(ring.clone());
        if role == "sender" {
            assert!(matches!(sender.send(&2_u64), Err(Error::TooManySenders)));
        } else {
            assert!(matches!(receiver.try_recv::<u64>(), Err(Error::ReceiverExists)));
        }
        // The parent alone. It is waited for, since its locks last until the last of its threads
        // has ended, and its children have a new parent before that.
        parent.kill();
        assert_eq!(parent.hear(), "orphan");
        // A reader of /proc/PID can hold the memory of the dead, and so their locks, for a moment.
        wait_until("the slot is free", || match sender.send(&2_u64) {
            Err(Error::TooManySenders) => false,
            sent => sent.is_ok(),
        });
        wait_until("the role is free", || match receiver.try_recv::<u64>() {
            Err(Error::ReceiverExists) => false,
            got => got.expect("sound") == Some(if role == "sender" { 1 } else { 2 }),
        });
        parent.tell("the orphan may end");
        parent.hear_end();
    }
}

/// Closes all descriptors but the standard ones, as daemons do, with a claim in hand.
fn close_everything(path: &str) {
    let sender = Sender::new(SharedRingBuffer::open(path).expect("the ring can be opened"));
    let mut reservation = sender.reserve(8).expect("there is space");
    // SAFETY: numbers only. Nothing in this process uses those descriptors again but the ring's
    // handle, which this is about and which is leaked below.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    assert_eq!(closed, 0);
    say("closed");
    listen();
    std::io::Write::write_all(&mut reservation, &[1; 8]).expect("it fits");
    say(&format!("{:?}", reservation.commit()));
    say(&format!("{:?}", sender.send(&2_u64)));
    // A drop would close a descriptor that is closed, which Rust aborts on.
    std::mem::forget(sender);
}

#[test]
fn a_sender_lives_on_when_all_its_descriptors_are_closed() {
    let (_folder, path) = folder();
    let ring = ring_at(&path, 4);
    let receiver = Receiver::new(ring.clone());
    let mut child = Child::start("forks::closer", &[&path]);
    assert_eq!(child.hear(), "closed");
    let wait = Duration::from_millis(150);
    assert_eq!(receiver.recv_timeout::<u64>(wait).expect("a wait is no error"), None);
    assert_eq!(ring.stats().senders, 1);
    child.tell("go on");
    assert_eq!(child.hear(), "Ok(())");
    assert_eq!(child.hear(), "Ok(())");
    assert_eq!(receiver.recv::<u64>().expect("sound"), 0x0101_0101_0101_0101);
    assert_eq!(receiver.recv::<u64>().expect("sound"), 2);
    child.finish();
}

/// A receiver whose descriptor's number means another file by now.
fn reuse_descriptor(path: &str) {
    let ring = SharedRingBuffer::open(path).expect("the ring can be opened");
    let receiver = Receiver::new(ring);
    assert_eq!(receiver.try_recv::<u64>().expect("the role is free"), None);
    let file = std::fs::metadata(path).expect("it is there");
    let is_ring = |fd: &i32| {
        use std::os::unix::fs::MetadataExt;
        let there = std::fs::metadata(format!("/proc/self/fd/{fd}"));
        there.is_ok_and(|there| there.ino() == file.ino())
    };
    let null = std::fs::File::open("/dev/null").expect("it is there");
    for fd in (3..64).filter(is_ring) {
        // SAFETY: the descriptor becomes another file, which is what this is about.
        assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), fd) }, fd);
    }
    let wait = Duration::from_millis(300);
    say(&format!("{:?}", receiver.recv_timeout::<u64>(wait).expect("a wait is no error")));
    say(&format!("{:?}", receiver.recv_timeout::<u64>(LONG).expect("a wait is no error")));
}

#[test]
fn nobody_is_taken_for_dead_by_one_whose_descriptor_was_reused() {
    let (_folder, path) = folder();
    let ring = ring_at(&path, 4);
    let sender = Sender::new(ring);
    let mut child = Child::start("forks::reuser", &[&path]);
    let mut reservation = sender.reserve(8).expect("there is space");
    assert_eq!(child.hear(), "None");
    std::io::Write::write_all(&mut reservation, &[0; 8]).expect("it fits");
    reservation.commit().expect("we live");
    assert_eq!(child.hear(), "Some(0)");
}

#[test]
fn an_open_ring_holds_one_descriptor_and_no_thread() {
    let (_folder, path) = folder();
    let before = (entries("/proc/self/fd"), entries("/proc/self/task"));
    let ring = ring_at(&path, 4);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    sender.send(&1_u64).expect("it fits");
    assert_eq!(receiver.recv::<u64>().expect("it is there"), 1);
    let between = (entries("/proc/self/fd"), entries("/proc/self/task"));
    assert_eq!((between.0 - before.0, between.1), (1, before.1));
    drop((sender, receiver));
    assert_eq!((entries("/proc/self/fd"), entries("/proc/self/task")), before);
}

#[test]
fn a_temporary_ring_is_removed_by_its_maker_alone() {
    let (path, ring) = SharedRingBuffer::create_temp(100).expect("a ring can be made");
    let clone = ring.clone();
    let child = in_fork(|| {
        drop(ring);
        0
    });
    assert_eq!(child.wait(), 0);
    assert!(Path::new(&path).exists(), "a child removed it");
    drop(SharedRingBuffer::open(&path).expect("the ring can be opened"));
    assert!(Path::new(&path).exists(), "another mapping removed it");
    drop(clone);
    assert!(!Path::new(&path).exists(), "the last handle removes it");
}

#[test]
fn a_ring_without_its_path_goes_on() {
    let (_folder, path) = folder();
    let ring = make(&path);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    std::fs::remove_file(&path).expect("it is there");
    sender.send(&1_u64).expect("it is sound");
    assert_eq!(receiver.recv::<u64>().expect("it is sound"), 1);
    assert!(matches!(open_error(&path), Error::Io(e) if e.kind() == ErrorKind::NotFound));
    // And a new one at the path has nothing to do with it.
    let new = make(&path);
    sender.send(&2_u64).expect("it is sound");
    assert_eq!(new.stats().sent, 0);
    assert_eq!(receiver.recv::<u64>().expect("it is sound"), 2);
    let child = in_fork(|| i32::from(sender.send(&3_u64).is_err()));
    assert_eq!(child.wait(), 0, "a child attaches without the path");
}
