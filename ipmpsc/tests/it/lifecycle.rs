//! Attaching, leaving, forking, dying and replacing: who is there, and what becomes of the rest.

use crate::children::{
    ASLEEP, Child, RECEIVER_WAIT, Random, Words, folder, listen, say, soon, wait_until,
};
use ipmpsc::{Error, Options, Receiver, Sender, SharedRingBuffer};
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

pub(crate) fn child(role: &str, args: &[&str]) {
    let open = || SharedRingBuffer::open(args[0]).expect("the ring can be opened");
    match role {
        "receiver" => {
            let receiver = Receiver::new(open());
            say(&format!("{}", receiver.recv::<u64>().expect("a message can be received")));
            match listen().as_str() {
                "drop" => drop(receiver),
                "again" => say(&format!("{}", receiver.recv::<u64>().expect("and another"))),
                _ => {}
            }
            say("done");
            listen();
        }
        "sender" => {
            let sender = Sender::new(open());
            say(&format!("{:?}", sender.send(&1_u64).map_err(|error| error.to_string())));
            listen();
        }
        "stdin" => receive_from_stdin(),
        "maker" => make_or_open(args[0]),
        "until_closed" => {
            let receiver = Receiver::new(open());
            say(&format!("{}", receiver.recv::<u64>().expect("a message is there")));
            let error = receiver.recv::<u64>().expect_err("no more messages come");
            say(&format!("{error:?}"));
        }
        "fill" => {
            let sender = Sender::new(open());
            while sender.try_send(&[0_u64; 4]).expect("the ring is sound") {}
            say("full");
            let error = sender.send(&[0_u64; 4]).expect_err("nobody receives");
            say(&format!("{error:?}"));
        }
        other => panic!("no child is called {other}"),
    }
}

pub(crate) fn ring_at(path: &str, max_senders: u32) -> SharedRingBuffer {
    let ring = Options::new().capacity(4096).max_senders(max_senders).create_new(path);
    ring.expect("a ring can be made")
}

#[test]
fn a_second_receiver_is_refused_until_the_first_has_died_or_left() {
    for end in ["drop", "kill"] {
        let (_folder, path) = folder();
        let ring = ring_at(&path, 4);
        let sender = Sender::new(ring.clone());
        sender.send(&1_u64).expect("it fits");
        let mut first = Child::start("lifecycle::receiver", &[&path]);
        assert_eq!(first.hear(), "1");
        let second = Receiver::new(ring.clone());
        sender.send(&2_u64).expect("it fits");
        let refused = second.try_recv::<u64>();
        assert!(matches!(refused, Err(Error::ReceiverExists)), "{refused:?}");
        assert!(ring.stats().receiver_alive);
        if end == "kill" {
            first.kill();
        } else {
            first.tell("drop");
            assert_eq!(first.hear(), "done");
        }
        assert!(!ring.stats().receiver_alive);
        assert_eq!(second.try_recv::<u64>().expect("the role is free"), Some(2));
    }
}

#[test]
fn the_first_receiver_is_not_disturbed_by_those_refused() {
    let (_folder, path) = folder();
    let ring = ring_at(&path, 4);
    let sender = Sender::new(ring.clone());
    sender.send(&1_u64).expect("it fits");
    let mut first = Child::start("lifecycle::receiver", &[&path]);
    assert_eq!(first.hear(), "1");
    for _ in 0..3 {
        let refused = Receiver::new(ring.clone()).recv::<u64>();
        assert!(matches!(refused, Err(Error::ReceiverExists)));
    }
    sender.send(&2_u64).expect("it fits");
    first.tell("again");
    assert_eq!(first.hear(), "2");
}

#[test]
fn one_process_cannot_receive_twice_through_a_clone_or_another_mapping() {
    let (_folder, path) = folder();
    let ring = ring_at(&path, 4);
    let first = Receiver::new(ring.clone());
    assert_eq!(first.try_recv::<u64>().expect("the role is free"), None);
    let clone = Receiver::new(ring);
    let other = Receiver::new(SharedRingBuffer::open(&path).expect("the ring can be opened"));
    for second in [&clone, &other] {
        assert!(matches!(second.try_recv::<u64>(), Err(Error::ReceiverExists)));
    }
    drop(first);
    assert_eq!(other.try_recv::<u64>().expect("the role is free"), None);
    assert!(matches!(clone.try_recv::<u64>(), Err(Error::ReceiverExists)));
}

#[test]
fn a_full_ring_of_senders_refuses_one_more_until_one_dies() {
    let (_folder, path) = folder();
    let ring = ring_at(&path, 2);
    let receiver = Receiver::new(ring.clone());
    assert_eq!(receiver.try_recv::<u64>().expect("a receiver has a slot of its own"), None);
    let mut children: Vec<Child> =
        (0..2).map(|_| Child::start("lifecycle::sender", &[&path])).collect();
    children.iter_mut().for_each(|child| assert_eq!(child.hear(), "Ok(())"));
    let late = Sender::new(SharedRingBuffer::open(&path).expect("the ring can be opened"));
    assert!(matches!(late.send(&2_u64), Err(Error::TooManySenders)));
    assert_eq!(ring.stats().senders, 2);
    children[0].kill();
    late.send(&2_u64).expect("a slot is free");
}

#[test]
fn three_hundred_deaths_leak_no_slot_and_no_handle() {
    let (_folder, path) = folder();
    let ring = ring_at(&path, 2);
    let receiver = Receiver::new(ring.clone());
    let mut open_after_the_first = None;
    for _ in 0..300 {
        let mut child = Child::start("lifecycle::sender", &[&path]);
        assert_eq!(child.hear(), "Ok(())");
        child.kill();
        assert_eq!(receiver.try_recv::<u64>().expect("the ring is sound"), Some(1));
        child.hear_end();
        drop(child);
        open_after_the_first.get_or_insert_with(crate::os::open_handles);
    }
    assert_eq!(ring.stats().senders, 0);
    assert_eq!(Some(crate::os::open_handles()), open_after_the_first);
}

#[test]
fn two_mappings_in_one_process_do_not_share_a_fate() {
    let (_folder, path) = folder();
    let ring = ring_at(&path, 4);
    let receiver = Receiver::new(ring.clone());
    let open = || Sender::new(SharedRingBuffer::open(&path).expect("the ring can be opened"));
    let (first, second) = (open(), open());
    let mut reservation = second.reserve(8).expect("there is space");
    assert_eq!(ring.stats().senders, 2);
    drop(first);
    assert_eq!(ring.stats().senders, 1);
    let wait = Duration::from_millis(150);
    assert_eq!(receiver.recv_timeout::<u64>(wait).expect("a wait is no error"), None);
    std::io::Write::write_all(&mut reservation, &[0; 8]).expect("it fits");
    reservation.commit().expect("it still lives");
    assert_eq!(receiver.recv::<u64>().expect("sound"), 0);
}

pub(crate) fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).expect("it is there").count()
}

fn receive_from_stdin() {
    let ring = SharedRingBuffer::from_file(crate::os::stdin_file()).expect("it is a ring");
    let receiver = Receiver::new(ring.clone());
    let sender = Sender::new(ring);
    say(&format!("{:?}", receiver.recv::<String>().expect("sound")));
    sender.send(&"back").expect("it fits");
}

#[test]
fn an_anonymous_ring_reaches_a_child_as_its_standard_input() {
    let ring = Options::new().anonymous().expect("a ring can be made");
    let sender = Sender::new(ring.clone());
    let file = ring.try_clone_file().expect("its file can be cloned");
    let mut child = Child::start_with("lifecycle::stdin", &[], |command| {
        command.stdin(file);
    });
    sender.send(&"hello").expect("it fits");
    assert_eq!(child.hear(), "\"hello\"");
    child.finish();
    assert_eq!(Receiver::new(ring).recv::<String>().expect("the role is free"), "back");
}

fn make_or_open(path: &str) {
    say("ready");
    listen();
    let number = u64::from(std::process::id());
    let ring = Options::new().capacity(4096 + 8 * number).max_senders(32).open_or_create(path);
    let ring = ring.expect("it can be opened or made");
    let sender = Sender::new(ring.clone());
    sender.send(&number).expect("it fits");
    say(&format!("{}", ring.capacity() == 4096 + 8 * number + 16));
    listen();
}

#[test]
fn of_sixteen_that_open_or_create_at_once_one_creates() {
    for _ in 0..3 {
        let (folder, path) = folder();
        let mut children: Vec<Child> =
            (0..16).map(|_| Child::start("lifecycle::maker", &[&path])).collect();
        children.iter_mut().for_each(|child| assert_eq!(child.hear(), "ready"));
        children.iter_mut().for_each(|child| child.tell("go"));
        let created =
            children.iter_mut().filter_map(|child| (child.hear() == "true").then_some(()));
        assert_eq!(created.count(), 1);
        let ring = SharedRingBuffer::open(&path).expect("the ring can be opened");
        assert_eq!((ring.stats().senders, ring.stats().sent), (16, 16));
        assert_eq!(entries(folder.path().to_str().expect("UTF-8")), 1, "no draft is left");
    }
}

#[test]
fn of_many_that_replace_at_once_all_but_the_last_are_closed() {
    for _ in 0..100 {
        let (_folder, path) = folder();
        let rings: Vec<_> = std::thread::scope(|scope| {
            let create = || Options::new().capacity(64).create(&path).expect("it can be made");
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let open = rings.iter().filter(|ring| !ring.stats().closed).count();
        assert_eq!(open, 1, "only one is at the path");
    }
}

#[test]
fn the_last_handle_of_a_temporary_ring_removes_it() {
    let (path, ring) = SharedRingBuffer::create_temp(100).expect("a ring can be made");
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    drop(sender);
    assert!(Path::new(&path).exists());
    drop(receiver);
    assert!(!Path::new(&path).exists());
}

#[test]
fn create_over_a_live_ring_closes_it_for_those_attached() {
    let (_folder, path) = folder();
    let old = SharedRingBuffer::create(&path, 64).expect("a ring can be made");
    let sender = Sender::new(old.clone());
    sender.send(&1_u64).expect("it fits");
    let mut receiver = Child::start("lifecycle::until_closed", &[&path]);
    assert_eq!(receiver.hear(), "1");
    let words = Words::of(&path);
    wait_until("the receiver sleeps", || words.half(RECEIVER_WAIT).load(SeqCst) == ASLEEP);
    let new = SharedRingBuffer::create(&path, 64).expect("a ring can be made");
    assert_eq!(receiver.hear_within(soon()).as_deref(), Some("Closed"));
    receiver.finish();
    assert!(matches!(sender.send(&2_u64), Err(Error::Closed)));
    assert!(matches!(sender.try_send(&[0_u64; 8]), Err(Error::Closed)));
    assert!(old.stats().closed && !new.stats().closed);
    assert_eq!(new.stats().sent, 0);
    Sender::new(new.clone()).send(&3_u64).expect("it fits");
    assert_eq!(Receiver::new(new).recv::<u64>().expect("the role is free"), 3);
}

#[test]
fn a_closed_ring_gives_what_was_sent_and_then_says_so() {
    let (_folder, path) = folder();
    let old = SharedRingBuffer::create(&path, 64).expect("a ring can be made");
    let (sender, receiver) = (Sender::new(old.clone()), Receiver::new(old));
    for number in 0..3_u64 {
        sender.send(&number).expect("it fits");
    }
    drop(SharedRingBuffer::create(&path, 64).expect("a ring can be made"));
    for number in 0..3_u64 {
        assert_eq!(receiver.recv::<u64>().expect("it was sent before"), number);
    }
    for _ in 0..2 {
        assert!(matches!(receiver.recv::<u64>(), Err(Error::Closed)));
        assert!(matches!(receiver.try_recv::<u64>(), Err(Error::Closed)));
    }
}

#[test]
fn a_sender_that_waits_for_space_learns_that_its_ring_was_replaced() {
    let (_folder, path) = folder();
    let ring = SharedRingBuffer::create(&path, 64).expect("a ring can be made");
    let receiver = Receiver::new(ring);
    assert_eq!(receiver.try_recv::<u64>().expect("the role is free"), None);
    let mut child = Child::start("lifecycle::fill", &[&path]);
    assert_eq!(child.hear(), "full");
    assert_eq!(child.hear_within(Duration::from_millis(60)), None, "it waits");
    drop(SharedRingBuffer::create(&path, 64).expect("a ring can be made"));
    assert_eq!(child.hear(), "Closed");
}

#[test]
fn disconnected_comes_after_the_last_message_of_the_last_sender() {
    let (_folder, path) = folder();
    let ring = ring_at(&path, 4);
    let mut receiver = Receiver::new(ring.clone());
    receiver.set_disconnect(true);
    assert_eq!(receiver.try_recv::<u64>().expect("nobody has come yet"), None);
    let sender = Sender::new(ring);
    let mut child = Child::start("lifecycle::sender", &[&path]);
    assert_eq!(child.hear(), "Ok(())");
    assert_eq!(receiver.senders(), 2);
    sender.send(&2_u64).expect("it fits");
    drop(sender);
    child.kill();
    assert_eq!(receiver.recv::<u64>().expect("it was sent"), 1);
    assert_eq!(receiver.recv::<u64>().expect("it was sent"), 2);
    assert!(matches!(receiver.recv::<u64>(), Err(Error::Disconnected)));
    assert!(matches!(receiver.try_recv::<u64>(), Err(Error::Disconnected)));
    receiver.set_disconnect(false);
    assert_eq!(receiver.try_recv::<u64>().expect("not asked for"), None);
}

#[test]
fn a_waiting_receiver_is_told_when_the_last_sender_dies() {
    let (_folder, path) = folder();
    let ring = ring_at(&path, 4);
    let mut receiver = Receiver::new(ring);
    receiver.set_disconnect(true);
    let mut child = Child::start("lifecycle::sender", &[&path]);
    assert_eq!(receiver.recv::<u64>().expect("it is sent"), 1);
    let waiting = std::thread::spawn(move || receiver.recv::<u64>());
    assert_eq!(child.hear(), "Ok(())");
    child.kill();
    let ended = waiting.join().expect("no panic");
    assert!(matches!(ended, Err(Error::Disconnected)));
}

#[test]
fn a_full_ring_whose_receiver_was_killed_is_an_error_and_not_a_hang() {
    let (_folder, path) = folder();
    let ring = SharedRingBuffer::create(&path, 64).expect("a ring can be made");
    let sender = Sender::new(ring.clone());
    sender.send(&1_u64).expect("it fits");
    let mut receiver = Child::start("lifecycle::receiver", &[&path]);
    assert_eq!(receiver.hear(), "1");
    receiver.kill();
    while sender.try_send(&2_u64).is_ok_and(|sent| sent) {}
    assert!(matches!(sender.send(&2_u64), Err(Error::ReceiverGone)));
    assert!(matches!(sender.try_send(&2_u64), Err(Error::ReceiverGone)));
    let empty = sender.send_when_empty(&2_u64);
    assert!(matches!(empty, Err(Error::ReceiverGone)));
    let next = Receiver::new(ring);
    assert_eq!(next.recv::<u64>().expect("the role is free"), 2);
    sender.send(&3_u64).expect("there is a receiver and space");
}

#[test]
fn blocked_senders_are_counted_and_return_when_the_receiver_leaves() {
    let (_folder, path) = folder();
    let ring = SharedRingBuffer::create(&path, 64).expect("a ring can be made");
    let receiver = Receiver::new(ring.clone());
    assert_eq!(receiver.try_recv::<u64>().expect("the role is free"), None);
    let mut child = Child::start("lifecycle::fill", &[&path]);
    assert_eq!(child.hear(), "full");
    wait_until("the sender is counted", || ring.stats().blocked_senders == 1);
    drop(receiver);
    assert_eq!(child.hear(), "ReceiverGone");
    child.finish();
    assert_eq!(ring.stats().blocked_senders, 0);
}

#[test]
fn a_full_ring_that_never_had_a_receiver_is_waited_for() {
    let ring = Options::new().capacity(64).anonymous().expect("a ring can be made");
    let sender = Sender::new(ring);
    while sender.try_send(&1_u64).expect("the ring is sound") {}
    let waited = sender.send_timeout(&1_u64, Duration::from_millis(20));
    assert!(!waited.expect("a wait is no error"));
}

#[test]
fn statistics_need_nobody_to_be_attached() {
    let (_folder, path) = folder();
    let ring = ring_at(&path, 4);
    let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    let mut random = Random(1);
    let mut used = 0;
    for number in 0..10_u64 {
        let len = random.below(100) as usize;
        sender.send_bytes(&vec![0; len]).expect("it fits");
        used += 8 + len.next_multiple_of(8) as u64;
        assert_eq!(sender.reserve(0).expect("there is space").len(), 0, "{number}");
        used += 8;
    }
    drop((sender, receiver));
    let stats = SharedRingBuffer::open(&path).expect("the ring can be opened").stats();
    assert_eq!((stats.senders, stats.blocked_senders, stats.recoveries), (0, 0, 0));
    assert_eq!((stats.used, stats.received, stats.discarded), (used, 0, 0));
    assert!(stats.high_water >= used && stats.high_water <= stats.capacity);
    assert!(!stats.receiver_alive && !stats.closed);
    let mut receiver = Receiver::new(SharedRingBuffer::open(&path).expect("it is there"));
    assert_eq!(receiver.try_drain(100, |_| ()).expect("sound"), 10);
    drop(receiver);
    let stats = SharedRingBuffer::open(&path).expect("the ring can be opened").stats();
    assert_eq!((stats.used, stats.received, stats.sent, stats.discarded), (0, 10, 10, 10));
}
