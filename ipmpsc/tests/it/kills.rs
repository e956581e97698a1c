//! Death and suspension at every named point of the protocol, and at random ones.

use crate::children::{
    ASLEEP, CLAIM, Child, LONG, Note, RECEIVER_WAIT, Random, TAIL, Words, folder, listen, say,
    soon, wait_until,
};
use ipmpsc::{Options, Receiver, Sender, SharedRingBuffer, Spin};
use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

const CAPACITY: usize = 4096;

pub(crate) fn child(role: &str, args: &[&str]) {
    let number = |at: usize| args[at].parse::<u64>().expect("a number");
    match role {
        "sender" => sender(args[0], number(1) as u32, number(2), number(3) as usize),
        "napper_waker" => wake_a_napper(args[0]),
        "receiver" => receiver(args[0], args[1]),
        "torturer" => torture(args[0], args[1], number(2) as u32, number(3)),
        other => panic!("no child is called {other}"),
    }
}

/// Sends notes and says how many were.
fn sender(path: &str, who: u32, count: u64, body_len: usize) {
    let sender = Sender::new(SharedRingBuffer::open(path).expect("the ring can be opened"));
    for seq in 0..count {
        sender.send(&Note::new(who, seq, body_len)).expect("a note can be sent");
        say(&format!("sent {seq}"));
    }
    drop(sender);
    say("done");
    listen();
}

fn wake_a_napper(path: &str) {
    let words = Words::of(path);
    let sender = Sender::new(SharedRingBuffer::open(path).expect("the ring can be opened"));
    wait_until("the receiver naps", || words.half(RECEIVER_WAIT).load(SeqCst) == 1);
    sender.send(&Note::new(1, 0, 16)).expect("a note can be sent");
}

/// Receives notes until it is killed, saying which.
fn receiver(path: &str, how: &str) {
    let ring = SharedRingBuffer::open(path).expect("the ring can be opened");
    let mut receiver = Receiver::new(ring);
    loop {
        let note: Note = match how {
            "copy" => receiver.recv(),
            _ => receiver.zero_copy_context().recv(),
        }
        .expect("a note can be received");
        say(&format!("{}", note.seq));
        if how == "leave" {
            return;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    Empty,
    /// The victim's two messages fill the ring to its last byte.
    Full,
    /// The victim's first message ends so near the ring's end that the second needs a pad.
    Wrap,
}

/// A sender that sends two notes, to be killed at the n-th passage of a point in the second.
#[derive(Clone, Copy, Debug)]
struct Case {
    point: &'static str,
    n: u64,
    body_len: usize,
    fill: Fill,
    /// How many of its notes arrive.
    arrive: u64,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for body_len in [16, 1200] {
        for fill in [Fill::Empty, Fill::Full, Fill::Wrap] {
            let mut add = |point, n, arrive| {
                cases.push(Case { point, n, body_len, fill, arrive });
            };
            add("attach-slot", 1, 0);
            add("attach-locked", 1, 0);
            add("attach-counted", 1, 0);
            add("claim-locked", 2, 1);
            for point in ["claim-ended", "claim-marked", "claim-moved"] {
                add(point, 2, 1);
                if fill == Fill::Wrap {
                    // The second passage is the pad's, the third the message's.
                    add(point, 3, 1);
                }
            }
            add("claim-done", 2, 1);
            if body_len > 1024 {
                // A large one is written in four pieces, one for each field and the length.
                add("copy-half", 6, 1);
                add("copy-half", 8, 1);
            } else {
                add("copy-half", 2, 1);
            }
            add("copy-done", 2, 1);
            if fill == Fill::Wrap {
                add("pad-moved", 1, 1);
                add("commit-done", 2, 1);
                add("commit-done", 3, 2);
            } else {
                add("commit-done", 2, 2);
            }
            add("detach", 1, 2);
        }
    }
    cases
}

fn span(body_len: usize) -> usize {
    8 + (Note::OVERHEAD + body_len).next_multiple_of(8)
}

/// A ring of CAPACITY bytes.
fn small_ring(path: &str) -> SharedRingBuffer {
    let ring = Options::new().capacity(CAPACITY as u64 - 16).create_new(path);
    let ring = ring.expect("a ring can be made");
    assert_eq!(ring.capacity(), CAPACITY as u64);
    ring
}

/// Runs a case: how long the others were held up, or `None` if the point was never reached.
fn run(case: Case) -> Option<Duration> {
    let (_folder, path) = folder();
    let ring = small_ring(&path);
    let witness = Sender::new(SharedRingBuffer::open(&path).expect("the ring can be opened"));
    let mut receiver = Receiver::new(ring.clone());
    let filler = match case.fill {
        Fill::Empty => 0,
        Fill::Full => CAPACITY - 8 - 2 * span(case.body_len),
        Fill::Wrap => CAPACITY - 16 - span(case.body_len),
    };
    if filler > 0 {
        witness.send_bytes(&vec![7; filler - 8]).expect("it fits");
    }
    if case.fill == Fill::Wrap {
        receiver.recv_bytes().expect("it is there");
    }
    let fault = format!("{}:kill@{}", case.point, case.n);
    let args = [path.as_str(), "1", "2", &case.body_len.to_string()];
    let mut victim = Child::start_to_fail("kills::sender", &args, &fault);
    while victim.hear_within(soon()).is_some_and(|line| line != "done") {}
    if victim.hear_within(Duration::ZERO).as_deref() == Some("done") || !victim.was_killed() {
        return None;
    }
    let died = Instant::now();
    let body_len = case.body_len;
    let witness = std::thread::spawn(move || {
        let sent = witness.send_timeout(&Note::new(2, 0, body_len), LONG);
        assert!(sent.expect("the witness can send"), "{case:?}: the witness waits");
    });
    if case.fill == Fill::Full {
        assert_eq!(receiver.recv_bytes().expect("it is there").len(), filler - 8);
    }
    let expected = (0..case.arrive).map(|seq| (1, seq)).chain([(2, 0)]);
    for expected in expected {
        let note: Note = receiver
            .recv_timeout(LONG)
            .unwrap_or_else(|error| panic!("{case:?}: {error}"))
            .unwrap_or_else(|| panic!("{case:?}: {expected:?} does not come"));
        assert_eq!((note.who, note.seq), expected, "{case:?}");
        assert!(note.is_whole(), "{case:?}: torn");
    }
    witness.join().expect("the witness lives");
    let took = died.elapsed();
    newcomer_can_send_the_largest(&path, &mut receiver);
    Some(took)
}

fn newcomer_can_send_the_largest(path: &str, receiver: &mut Receiver) {
    let ring = SharedRingBuffer::open(path).expect("the ring can be opened");
    let bytes = vec![9; ring.max_message_len() as usize];
    let newcomer = Sender::new(ring);
    let sending = std::thread::spawn(move || {
        let sent = newcomer.send_bytes_timeout(&bytes, LONG);
        assert!(sent.expect("a newcomer can send"), "a newcomer waits");
        bytes.len()
    });
    let message = receiver.recv_bytes_timeout(LONG);
    let message = message.expect("a newcomer's message can be received");
    let len = message.expect("a newcomer's message comes").len();
    assert_eq!(len, sending.join().expect("the newcomer lives"));
}

#[test]
fn a_sender_killed_at_any_point_costs_no_other_message_and_little_time() {
    let mut longest = Duration::ZERO;
    let mut unreached = Vec::new();
    for case in cases() {
        match run(case) {
            Some(took) => {
                assert!(took < soon(), "{case:?} held the others up for {took:?}");
                longest = longest.max(took);
            }
            None => unreached.push(case),
        }
    }
    println!("the longest delay was {longest:?}");
    assert!(unreached.is_empty(), "these points were never met: {unreached:?}");
}

#[test]
fn a_sender_killed_while_it_wakes_the_receiver_has_sent() {
    let (_folder, path) = folder();
    let mut receiver = Receiver::new(small_ring(&path));
    receiver.set_spin(Spin::Never);
    // It then looks by itself whether all have gone, and so it never sleeps for long.
    receiver.set_disconnect(true);
    let mut victim = Child::start_to_fail("kills::napper_waker", &[&path], "commit-waking:kill");
    let note: Option<Note> = receiver.recv_timeout(LONG).expect("the ring is sound");
    assert_eq!(note, Some(Note::new(1, 0, 16)));
    assert!(victim.was_killed(), "commit-waking was never met");
    newcomer_can_send_the_largest(&path, &mut receiver);
}

#[test]
fn a_sender_killed_anywhere_leaves_no_receiver_asleep_that_it_or_another_has_sent_to() {
    // Where it dies, and how many of its notes arrive.
    let cases = [
        ("claim-locked", 0),
        ("claim-ended", 0),
        ("claim-marked", 0),
        ("claim-moved", 0),
        ("claim-rousing", 0),
        ("claim-done", 0),
        ("copy-half", 0),
        ("commit-done", 1),
    ];
    for (point, arrive) in cases {
        if point == "claim-rousing" && cfg!(windows) {
            continue;
        }
        let (_folder, path) = folder();
        let receiver = Receiver::new(small_ring(&path));
        let words = Words::of(&path);
        let sender = Sender::new(SharedRingBuffer::open(&path).expect("the ring can be opened"));
        let waiting = std::thread::spawn(move || receiver.recv_timeout(LONG));
        let word = words.half(RECEIVER_WAIT);
        wait_until("the receiver sleeps", || word.load(SeqCst) == ASLEEP);
        let fault = format!("{point}:kill");
        let args = [path.as_str(), "1", "1", "16"];
        let mut victim = Child::start_to_fail("kills::sender", &args, &fault);
        assert!(victim.was_killed(), "{point} was never met");
        let died = Instant::now();
        if arrive == 0 {
            sender.send(&Note::new(2, 0, 16)).expect("the ring is sound");
        }
        let note: Option<Note> = waiting.join().expect("no panic").expect("the ring is sound");
        let took = died.elapsed();
        assert_eq!(note.map(|note| note.who), Some(2 - arrive), "after a death at {point}");
        assert!(took < soon(), "a death at {point} held the receiver up for {took:?}");
    }
}

#[test]
fn a_receiver_killed_at_any_point_is_followed_by_one_that_resumes_where_it_was() {
    // The point, its passage, how it receives, and the first note that the next one gets.
    let cases = [
        ("attach-slot", 1, "copy", 0),
        ("attach-locked", 1, "copy", 0),
        ("attach-counted", 1, "copy", 0),
        ("recv-copied", 3, "copy", 2),
        ("recv-released", 3, "copy", 3),
        ("recv-found", 3, "borrow", 2),
        ("detach", 1, "leave", 1),
    ];
    for (point, n, how, next) in cases {
        let (_folder, path) = folder();
        let ring = small_ring(&path);
        let sender = Sender::new(ring.clone());
        for seq in 0..5 {
            sender.send(&Note::new(1, seq, 100)).expect("it fits");
        }
        let fault = format!("{point}:kill@{n}");
        let mut victim = Child::start_to_fail("kills::receiver", &[&path, how], &fault);
        assert!(victim.was_killed(), "{point} was never met");
        let mut receiver = Receiver::new(ring);
        for seq in next..5 {
            let note: Option<Note> = receiver.recv_timeout(LONG).expect("the role is free");
            assert_eq!(note, Some(Note::new(1, seq, 100)), "after a death at {point}");
        }
        newcomer_can_send_the_largest(&path, &mut receiver);
    }
}

#[test]
fn a_newcomer_stopped_while_it_takes_a_dead_ones_slot_hides_no_death() {
    for point in ["attach-slot", "attach-locked", "attach-counted"] {
        let fault = format!("{point}:stop");
        let (_folder, path) = folder();
        let ring = small_ring(&path);
        let args = [path.as_str(), "1", "1", "16"];
        let kill = "claim-marked:kill";
        assert!(Child::start_to_fail("kills::sender", &args, kill).was_killed());
        let mut newcomer = Child::start_to_fail("kills::sender", &args, &fault);
        newcomer.wait_stopped();
        let witness = Sender::new(ring.clone());
        let sent = witness.send_timeout(&Note::new(2, 0, 16), LONG).expect("the ring is sound");
        assert!(sent, "with a newcomer stopped at {point}, the dead sender's claim is kept");

        let args = [path.as_str(), "copy"];
        let mut victim = Child::start("kills::receiver", &args);
        assert_eq!(victim.hear(), "0");
        victim.kill();
        let mut stopped = Child::start_to_fail("kills::receiver", &args, &fault);
        stopped.wait_stopped();
        witness.send(&Note::new(2, 1, 16)).expect("the ring is sound");
        let mut receiver = Receiver::new(ring);
        let note: Option<Note> = receiver.recv_timeout(LONG).expect("the role is free");
        assert_eq!(note, Some(Note::new(2, 1, 16)), "with a newcomer stopped at {point}");
        newcomer.kill();
        stopped.kill();
        newcomer_can_send_the_largest(&path, &mut receiver);
    }
}

#[test]
fn a_receiver_killed_inside_recovery_leaves_it_to_the_next() {
    for sender_point in ["copy-half", "claim-marked", "claim-moved", "claim-ended"] {
        for receiver_point in ["recover-locked", "recover-done"] {
            let (_folder, path) = folder();
            let ring = small_ring(&path);
            let witness = Sender::new(ring.clone());
            let fault = format!("{sender_point}:kill");
            let args = [path.as_str(), "1", "1", "16"];
            assert!(Child::start_to_fail("kills::sender", &args, &fault).was_killed());
            let fault = format!("{receiver_point}:kill");
            let args = [path.as_str(), "copy"];
            let mut victim = Child::start_to_fail("kills::receiver", &args, &fault);
            if sender_point == "claim-ended" {
                // Nothing was claimed, so nothing is to be recovered.
                victim.kill();
            } else {
                assert!(victim.was_killed(), "{receiver_point} was never met");
            }
            let died = Instant::now();
            witness.send(&Note::new(2, 0, 16)).expect("the ring is sound");
            let mut receiver = Receiver::new(ring);
            let note: Option<Note> = receiver.recv_timeout(LONG).expect("the role is free");
            assert_eq!(note, Some(Note::new(2, 0, 16)));
            assert!(died.elapsed() < soon());
            newcomer_can_send_the_largest(&path, &mut receiver);
        }
    }
}

/// Bytes of a note of which four take senders out of a large ring's warm part.
const FAR: usize = 300 << 10;

/// A ring of 4 MiB, whose first is the warm part.
fn large_ring(path: &str) -> SharedRingBuffer {
    Options::new().capacity(4 << 20).create_new(path).expect("a ring can be made")
}

#[test]
fn a_large_ring_is_used_as_a_small_one_and_is_there_as_a_whole() {
    let (_folder, path) = folder();
    let (ring, message) = (large_ring(&path), [7; FAR]);
    let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
    let words = Words::of(&path);
    for _ in 0..20 {
        sender.send_bytes(&message).expect("it fits");
        assert!(words.word(TAIL).load(SeqCst) % ring.capacity() <= 4 * (FAR as u64 + 8));
        assert_eq!(*receiver.recv_bytes().expect("it comes"), message);
        assert!(receiver.try_recv_bytes().expect("the ring is sound").is_none());
        let stats = ring.stats();
        assert_eq!(stats.used, 0, "what was passed over is in use");
        assert!(stats.high_water < ring.capacity() / 2, "or counts as such: {stats:?}");
    }
    newcomer_can_send_the_largest(&path, &mut receiver);
}

#[test]
fn a_sender_killed_where_a_lap_ends_early_or_goes_on_leaves_the_ring_to_the_others() {
    let points = ["claim-ended", "claim-marked", "claim-moved", "pad-moved"];
    // Before the victim, four are sent and received; and what else is sent, for which the lap that
    // its turn began has room, and none after it.
    for (point, more) in points.into_iter().flat_map(|point| [(point, 0), (point, 3)]) {
        let (_folder, path) = folder();
        let ring = large_ring(&path);
        let words = Words::of(&path);
        let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
        let receive = |receiver: &mut Receiver| {
            let note: Option<Note> = receiver.recv_timeout(LONG).expect("the ring is sound");
            note.expect("it comes")
        };
        for seq in 0..4 + more {
            sender.send(&Note::new(2, seq, FAR)).expect("it fits");
            if seq < 4 {
                assert_eq!(receive(&mut receiver), Note::new(2, seq, FAR));
            }
        }
        let before = words.word(TAIL).load(SeqCst);
        assert_eq!(before > ring.capacity(), more > 0, "where a turn was made");
        let fault = format!("{point}:kill@1");
        let args = [path.as_str(), "1", "1", &FAR.to_string()];
        let mut victim = Child::start_to_fail("kills::sender", &args, &fault);
        assert!(victim.was_killed(), "{point} was never met");
        let moved = words.word(TAIL).load(SeqCst) - before;
        assert_eq!(moved > 0, point == "claim-moved" || point == "pad-moved", "{point}");
        let died = Instant::now();
        for seq in 4..10 {
            sender.send(&Note::new(2, seq + more, FAR)).expect("the ring is sound");
            assert_eq!(receive(&mut receiver), Note::new(2, seq, FAR), "after a death at {point}");
        }
        assert!(died.elapsed() < soon(), "{point} held the others up");
        for seq in 10..10 + more {
            assert_eq!(receive(&mut receiver), Note::new(2, seq, FAR));
        }
        newcomer_can_send_the_largest(&path, &mut receiver);
    }
}

#[test]
fn a_receiver_stopped_between_its_last_look_and_its_sleep_is_woken() {
    let mut shortest = Duration::MAX;
    for _ in 0..5 {
        let (_folder, path) = folder();
        let sender = Sender::new(small_ring(&path));
        let args = [path.as_str(), "copy"];
        let mut child = Child::start_to_fail("kills::receiver", &args, "sleep-looked:stop");
        child.wait_stopped();
        sender.send(&Note::new(1, 0, 16)).expect("it fits");
        let began = Instant::now();
        child.resume();
        assert_eq!(child.hear(), "0");
        shortest = shortest.min(began.elapsed());
    }
    // Unwoken, each would sleep to the end of its nap, which is 95 ms.
    assert!(shortest < Duration::from_millis(60), "the shortest of five took {shortest:?}");
}

#[test]
fn senders_killed_side_by_side_do_not_hold_up_the_one_behind_them() {
    let (_folder, path) = folder();
    let mut receiver = Receiver::new(small_ring(&path));
    let words = Words::of(&path);
    let stopped = |who| {
        let args = [path.as_str(), who, "1", "600"];
        let before = words.word(TAIL).load(SeqCst);
        let mut child = Child::start_to_fail("kills::sender", &args, "copy-half:stop");
        child.wait_stopped();
        assert!(words.word(TAIL).load(SeqCst) > before, "it has claimed");
        child
    };
    let (mut first, mut second) = (stopped("1"), stopped("2"));
    let mut alive = Child::start("kills::sender", &[&path, "3", "1", "600"]);
    assert_eq!(alive.hear(), "sent 0");
    let early: Option<Note> = receiver.recv_timeout(Duration::from_millis(150)).expect("sound");
    assert_eq!(early, None, "a stopped sender was taken for dead");
    first.kill();
    second.kill();
    let died = Instant::now();
    let note: Option<Note> = receiver.recv_timeout(LONG).expect("sound");
    assert_eq!(note, Some(Note::new(3, 0, 600)));
    assert!(died.elapsed() < soon());
    newcomer_can_send_the_largest(&path, &mut receiver);
}

#[test]
fn all_senders_killed_at_once_leave_every_message_they_sent() {
    let (_folder, path) = folder();
    let mut receiver = Receiver::new(small_ring(&path));
    receiver.set_disconnect(true);
    let start = |who: u32| Child::start("kills::sender", &[&path, &who.to_string(), "3", "100"]);
    let mut children: Vec<Child> = (0..4).map(start).collect();
    for child in &mut children {
        while child.hear() != "done" {}
    }
    for child in &mut children {
        child.kill_without_waiting();
    }
    let mut next = [0; 4];
    loop {
        match receiver.recv::<Note>() {
            Ok(note) => {
                assert_eq!(note.seq, next[note.who as usize]);
                next[note.who as usize] += 1;
            }
            Err(ipmpsc::Error::Disconnected) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(next, [3; 4]);
}

#[test]
fn a_stopped_sender_keeps_what_it_has_claimed_and_sends_it_when_it_goes_on() {
    for (point, body_len) in
        [("claim-done", "16"), ("copy-half", "16"), ("copy-half", "600"), ("copy-done", "600")]
    {
        let (_folder, path) = folder();
        let ring = small_ring(&path);
        let (witness, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
        let args = [path.as_str(), "1", "1", body_len];
        let mut child = Child::start_to_fail("kills::sender", &args, &format!("{point}:stop"));
        child.wait_stopped();
        witness.send(&Note::new(2, 0, 16)).expect("others go on");
        let wait = Duration::from_millis(150);
        let early: Option<Note> = receiver.recv_timeout(wait).expect("a wait is no error");
        assert_eq!(early, None, "{point}: it overtook a message that is being sent");
        child.resume();
        assert_eq!(child.hear(), "sent 0");
        for who in [1, 2] {
            let note: Option<Note> = receiver.recv_timeout(LONG).expect("sound");
            let note = note.expect("both come");
            assert!(note.is_whole() && note.who == who, "{point}: {note:?}");
        }
    }
}

#[test]
fn nobody_takes_the_claim_word_from_a_stopped_sender() {
    for point in ["claim-locked", "claim-ended", "claim-marked", "claim-moved"] {
        let (_folder, path) = folder();
        let ring = small_ring(&path);
        let (witness, receiver) = (Sender::new(ring.clone()), Receiver::new(ring.clone()));
        let args = [path.as_str(), "1", "1", "16"];
        let mut child = Child::start_to_fail("kills::sender", &args, &format!("{point}:stop"));
        child.wait_stopped();
        let words = Words::of(&path);
        let holder = words.word(CLAIM).load(SeqCst);
        assert_ne!(holder, 0, "{point}: it holds the claim word");
        let began = Instant::now();
        let note = Note::new(2, 0, 16);
        assert!(!witness.try_send(&note).expect("a wait is no error"));
        let wait = Duration::from_millis(100);
        assert!(!witness.send_timeout(&note, wait).expect("a wait is no error"));
        let early: Option<Note> = receiver.recv_timeout(wait).expect("a wait is no error");
        assert_eq!(early, None);
        assert!(began.elapsed() >= 2 * wait && began.elapsed() < 2 * wait + soon());
        assert_eq!(words.word(CLAIM).load(SeqCst), holder, "{point}: stolen");
        child.resume();
        assert_eq!(child.hear(), "sent 0");
        witness.send(&note).expect("the word is free");
        for who in [1, 2] {
            let note: Option<Note> = receiver.recv_timeout(LONG).expect("sound");
            assert_eq!(note, Some(Note::new(who, 0, 16)));
        }
        assert_eq!(ring.stats().recoveries, 0, "{point}");
    }
}

/// A sender stopped and then killed is as dead as any other.
#[test]
fn a_sender_killed_while_stopped_is_recovered_from() {
    let (_folder, path) = folder();
    let ring = small_ring(&path);
    let (witness, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    let args = [path.as_str(), "1", "1", "16"];
    let mut child = Child::start_to_fail("kills::sender", &args, "claim-moved:stop");
    child.wait_stopped();
    child.kill();
    assert!(witness.send_timeout(&Note::new(2, 0, 16), soon()).expect("sound"));
    let note: Option<Note> = receiver.recv_timeout(soon()).expect("sound");
    assert_eq!(note, Some(Note::new(2, 0, 16)));
    newcomer_can_send_the_largest(&path, &mut receiver);
}

/// A machine that wakes a sleeper so late has too much to do to be asked for a second's progress.
const MACHINE_LATE_MS: u64 = 30;
/// But no machine is that busy for so many times in a row: then nobody goes on any more.
const EXCUSES: u32 = 10;

/// Sends notes of random sizes, counting each in the ledger when its send has returned.
fn torture(path: &str, ledger: &str, who: u32, seed: u64) {
    let ledger = Words::of(ledger);
    let sent = ledger.word(8 * who as usize);
    let ring = SharedRingBuffer::open(path).expect("the ring can be opened");
    let most = ring.max_message_len() as usize - Note::OVERHEAD;
    let sender = Sender::new(ring);
    let mut random = Random(seed);
    for seq in 0.. {
        let body_len = match random.below(8) {
            0 => random.below(most as u64 + 1) as usize,
            1..4 => random.below(most.min(2000) as u64) as usize,
            _ => random.below(64) as usize,
        };
        sender.send(&Note::new(who, seq, body_len)).expect("a note can be sent");
        sent.store(seq + 1, SeqCst);
    }
}

/// What a receiver has seen of each sender: the next number due.
fn receive_and_check(receiver: &Receiver, next: &mut HashMap<u32, u64>) -> bool {
    let note: Option<Note> = receiver.recv_timeout(soon()).expect("the ring is sound");
    let Some(note) = note else {
        return false;
    };
    assert!(note.is_whole(), "torn: {} of {}", note.seq, note.who);
    let due = next.entry(note.who).or_default();
    assert_eq!(note.seq, *due, "sender {}: lost, doubled or reordered", note.who);
    *due += 1;
    true
}

fn torture_ring(capacity: u64, kills: u32, random: &mut Random) {
    let (folder, path) = folder();
    let ledger_path = folder.path().join("ledger");
    std::fs::write(&ledger_path, vec![0; 8 * (kills as usize + 8)]).expect("a file can be made");
    let ledger = Words::of(&ledger_path);
    let ledger_path = ledger_path.to_str().expect("TMPDIR is UTF-8");
    let ring = Options::new().capacity(capacity).create_new(&path).expect("a ring can be made");
    let receiver = Receiver::new(ring.clone());
    let mut starts = 0;
    let mut start = |random: &mut Random| {
        let (who, seed) = (starts.to_string(), random.next().to_string());
        starts += 1;
        Child::start("kills::torturer", &[&path, ledger_path, &who, &seed])
    };
    let done = AtomicBool::new(false);
    // How late a thread was that only sleeps, since the last message.
    let late_ms = AtomicU64::new(0);
    let next = std::thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut next = HashMap::new();
            let mut longest = Duration::ZERO;
            let mut excuses = 0;
            loop {
                late_ms.store(0, SeqCst);
                let (began, was_done) = (Instant::now(), done.load(SeqCst));
                let got = receive_and_check(&receiver, &mut next);
                if got && next.len() > 1 {
                    longest = longest.max(began.elapsed());
                }
                if !got && was_done {
                    break;
                }
                // Two of three senders go on at any time, unless there is no processor for them.
                let excused = next.len() <= 1 || done.load(SeqCst);
                let late = late_ms.load(SeqCst);
                excuses = if got || excused { 0 } else { excuses + 1 };
                if !got && !excused {
                    println!("{capacity}: no message for a time; a sleeper was {late} ms late");
                    assert!(late > MACHINE_LATE_MS, "no message for {:?}", soon());
                    assert!(excuses < EXCUSES, "no message for {:?}", excuses * soon());
                }
            }
            println!("{capacity}: the longest wait for a message was {longest:?}");
            next
        });
        scope.spawn(|| {
            let nap = Duration::from_millis(10);
            while !done.load(SeqCst) {
                let began = Instant::now();
                std::thread::sleep(nap);
                late_ms.fetch_max((began.elapsed().saturating_sub(nap)).as_millis() as u64, SeqCst);
            }
        });
        let mut children: Vec<(u32, Child)> = (0..3).map(|who| (who, start(random))).collect();
        for killed in 0..kills {
            // All, so that two go on while a third is killed and begins anew.
            let has_begun = |(who, _): &(u32, _)| ledger.word(8 * *who as usize).load(SeqCst) > 0;
            wait_until("the torturers have begun", || {
                receiving.is_finished() || children.iter().all(has_begun)
            });
            let at = random.below(3) as usize;
            let (_, child) = &mut children[at];
            // Not to wait for anything: to kill at another place each time.
            std::thread::sleep(Duration::from_micros(random.below(2000)));
            child.kill();
            children[at] = (killed + 3, start(random));
        }
        done.store(true, SeqCst);
        drop(children);
        receiving.join().expect("the checks hold")
    });
    for who in 0..kills + 3 {
        let acknowledged = ledger.word(8 * who as usize).load(SeqCst);
        let received = next.get(&who).copied().unwrap_or(0);
        // The one in flight may have arrived.
        let fits = received == acknowledged || received == acknowledged + 1;
        assert!(fits, "sender {who}: {received} received of {acknowledged}");
    }
    let stats = ring.stats();
    println!("{capacity}: {} received, {} recoveries", stats.received, stats.recoveries);
    assert_eq!((stats.used, stats.senders), (0, 0));
}

#[test]
fn a_small_ring_survives_random_kills() {
    let mut random = Random::seeded("a_small_ring_survives_random_kills");
    torture_ring(4 << 10, 150, &mut random);
}

#[test]
fn a_large_ring_survives_random_kills() {
    let mut random = Random::seeded("a_large_ring_survives_random_kills");
    torture_ring(256 << 10, 150, &mut random);
}
