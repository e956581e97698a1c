//! The real `ring.rs` under loom: every interleaving of a few threads, up to a number of
//! preemptions, with the weak memory that C11 allows. A thread stands for a process; a crash is a
//! thread that ends at a named point, a stop is a preemption, and the kernel's word on who is dead
//! is a flag and the slot's generation. Payloads are not atomic, as they are not in the program, so
//! a word that is written before its reader has certainly done with it is found as a race.
//! What these cannot show: real files, more than three processes, long runs, time.

mod sleeps;
mod world;

use super::{Claim, Cursor, Peeked, Refused, Ring};
use crate::layout::*;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::SeqCst;
use loom::thread;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use world::World;

/// Bytes of a record with one word of payload.
const ONE: u64 = 16;

loom::thread_local! {
    /// Where this thread is to crash.
    static CRASH: Cell<Option<&'static str>> = Cell::new(None);
}

/// A panic that is a process's death.
struct Crash;

/// Ends this thread if it is to crash at `point`.
pub(crate) fn hit(point: &str) {
    if CRASH.with(|crash| crash.get() == Some(point)) {
        resume_unwind(Box::new(Crash));
    }
}

fn owner(slot: u16) -> Owner {
    Owner { slot, generation: 1 }
}

/// Runs a process that dies at `crash`, if it gets there, and what the kernel does then.
fn process(
    world: &Arc<World>,
    slot: u16,
    crash: Option<&'static str>,
    life: impl FnOnce(&World, &Ring) + 'static,
) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || {
        CRASH.with(|cell| cell.set(crash));
        let result = catch_unwind(AssertUnwindSafe(|| life(&world, &world.ring())));
        match result {
            Ok(()) => {}
            Err(panic) if panic.is::<Crash>() => world.dead[usize::from(slot)].store(true, SeqCst),
            Err(panic) => resume_unwind(panic),
        }
    })
}

fn claim(world: &World, ring: &Ring, me: Owner, words: u64) -> Claim {
    let claim = claim_slowly(world, ring, me, 8 + 8 * words);
    rouse_receiver(world, ring);
    claim
}

fn claim_slowly(world: &World, ring: &Ring, me: Owner, span: u64) -> Claim {
    loop {
        match ring.claim(me, span, 1, false) {
            Ok(claim) => return claim,
            Err(Refused::Held(holder)) => world.free_if_dead(ring, holder),
            Err(Refused::Far) => match ring.go_far(me, span) {
                Err(Refused::Held(holder)) => world.free_if_dead(ring, holder),
                went => went.expect("nobody writes nonsense"),
            },
            Err(Refused::Full) => {
                wake_receiver(world, ring);
                rouse_receiver(world, ring);
                let armed = ring.arm_sender();
                if !ring.may_fit(span, false) {
                    world.sender_bed.sleep_while(&world.header.space_wait.0, armed);
                }
                ring.rearm_sender();
            }
            Err(Refused::Failed(error)) => panic!("{error}"),
        }
    }
}

/// Sends `words` words, each of them `value`.
fn send(world: &World, ring: &Ring, me: Owner, value: u64, words: u64) {
    let claim = claim(world, ring, me, words);
    hit("claim-done");
    for word in 1..=words {
        world.write(claim.offset + 8 * word, value);
        hit("copy-half");
    }
    ring.commit(&claim, 8 * words as u32).expect("nobody takes the living for dead");
    wake_receiver(world, ring);
}

fn wake_receiver(world: &World, ring: &Ring) {
    if ring.take_receiver_wake() {
        hit("commit-waking");
        world.receiver_bed.wake_one();
    }
}

fn rouse_receiver(world: &World, ring: &Ring) {
    if ring.must_rouse() {
        ring.rouse();
        hit("claim-rousing");
        world.receiver_bed.wake_one();
    }
}

/// Receives one message; `None` if there is none and nobody left who could send one.
fn receive(world: &World, ring: &Ring, cursor: &mut Cursor, sleep: bool) -> Option<u64> {
    loop {
        match ring.peek(cursor).expect("nobody writes nonsense") {
            Peeked::Message { offset, len } => {
                let words = u64::from(len) / 8;
                let value = world.read(offset);
                for word in 1..words {
                    assert_eq!(world.read(offset + 8 * word), value, "torn");
                }
                ring.advance(cursor, len);
                ring.release(cursor, 1);
                wake_sender(world, ring, cursor);
                return Some(value);
            }
            Peeked::Busy(word) if world.is_dead(word.0) => {
                if let Err(Refused::Held(holder)) = ring.recover(cursor, owner(0), word) {
                    world.free_if_dead(ring, holder);
                }
            }
            Peeked::Empty if !sleep => return None,
            _ if !sleep => thread::yield_now(),
            before => sleep_unless_changed(world, ring, cursor, &before),
        }
    }
}

fn wake_sender(world: &World, ring: &Ring, cursor: &mut Cursor) {
    if ring.take_space_wake(cursor) {
        world.sender_bed.wake_one();
    }
}

fn sleep_unless_changed(world: &World, ring: &Ring, cursor: &mut Cursor, before: &Peeked) {
    wake_sender(world, ring, cursor);
    let armed = ring.arm_receiver(false);
    let unchanged = match (ring.peek(cursor).expect("nobody writes nonsense"), before) {
        (Peeked::Empty, Peeked::Empty) => true,
        (Peeked::Busy(now), Peeked::Busy(before)) => now == *before,
        _ => false,
    };
    if unchanged && !ring.has_freed(cursor) {
        world.receiver_bed.sleep_while(&world.header.receiver_wait.0, armed);
    }
    ring.disarm_receiver();
}

fn check(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    assert!(builder.preemption_bound.is_some(), "set LOOM_MAX_PREEMPTIONS, or this runs for ever");
    builder.check(test);
}

#[test]
fn two_senders_and_a_sleeping_receiver_lose_no_message_and_no_wake() {
    check(|| {
        let world = World::new(64);
        let senders = [1, 2].map(|slot| {
            process(&world, slot, None, move |world, ring| {
                send(world, ring, owner(slot), u64::from(slot), 1);
            })
        });
        let ring = world.ring();
        let mut cursor = ring.cursor().unwrap();
        let mut got = [0; 2].map(|_| receive(&world, &ring, &mut cursor, true).unwrap());
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn a_sender_that_waits_for_space_is_woken_and_overwrites_nothing_unread() {
    check(|| {
        // Room for one record and the header word after it: the second message must wait, and
        // wraps.
        let world = World::new(ONE + 8);
        let sender = process(&world, 1, None, |world, ring| {
            send(world, ring, owner(1), 1, 1);
            send(world, ring, owner(1), 2, 1);
        });
        let ring = world.ring();
        let mut cursor = ring.cursor().unwrap();
        assert_eq!(receive(&world, &ring, &mut cursor, true), Some(1));
        assert_eq!(receive(&world, &ring, &mut cursor, true), Some(2));
        sender.join().unwrap();
    });
}

#[test]
fn freed_space_is_written_only_after_its_last_read() {
    check(|| {
        // As above, but everybody polls: nothing but `head` says that the space is free.
        let world = World::new(ONE + 8);
        let sender = process(&world, 1, None, |world, ring| {
            for value in [1, 2] {
                let claim = loop {
                    match ring.claim(owner(1), ONE, 1, false) {
                        Ok(claim) => break claim,
                        Err(_) => thread::yield_now(),
                    }
                };
                world.write(claim.offset + 8, value);
                ring.commit(&claim, 8).expect("nobody takes the living for dead");
            }
        });
        let ring = world.ring();
        let mut cursor = ring.cursor().unwrap();
        for value in [1, 2] {
            let got = loop {
                match receive_as(&world, &ring, &mut cursor, owner(0)) {
                    Some(got) => break got,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(got, value);
        }
        sender.join().unwrap();
    });
}

/// The points at which a sender can die, in the order of a send.
const SENDER_POINTS: [&str; 8] = [
    "claim-locked",
    "claim-ended",
    "claim-marked",
    "claim-moved",
    "claim-done",
    "copy-half",
    "commit-done",
    "commit-waking",
];

#[test]
fn a_sender_that_dies_anywhere_costs_the_others_nothing() {
    for point in SENDER_POINTS {
        check(move || {
            let world = World::new(64);
            let dying = process(&world, 1, Some(point), |world, ring| {
                send(world, ring, owner(1), 1, 2);
            });
            let living = process(&world, 2, None, |world, ring| send(world, ring, owner(2), 2, 1));
            let ring = world.ring();
            let mut cursor = ring.cursor().unwrap();
            let first = receive(&world, &ring, &mut cursor, false);
            dying.join().unwrap();
            living.join().unwrap();
            let mut got: Vec<_> = first.into_iter().collect();
            got.extend(std::iter::from_fn(|| receive(&world, &ring, &mut cursor, false)));
            let committed = matches!(point, "commit-done" | "commit-waking");
            let may = if committed { [vec![1, 2], vec![2, 1]] } else { [vec![2], vec![2]] };
            // `commit-waking` is passed only if the receiver sleeps, so the sender may live.
            assert!(may.contains(&got), "{point}: {got:?}");
        });
    }
}

#[test]
fn a_dead_senders_slot_serves_another_while_what_it_left_is_recovered() {
    // Where the dead one has the claim word, and where it has only its record.
    for point in ["claim-marked", "claim-moved", "copy-half"] {
        check(move || {
            let world = World::new(64);
            let other = Arc::clone(&world);
            let senders = thread::spawn(move || {
                let dying = process(&other, 1, Some(point), |world, ring| {
                    send(world, ring, owner(1), 1, 2);
                });
                dying.join().unwrap();
                let next = other.take_slot(1);
                send(&other, &other.ring(), next, 2, 1);
            });
            let ring = world.ring();
            let mut cursor = ring.cursor().unwrap();
            let first = receive(&world, &ring, &mut cursor, false);
            senders.join().unwrap();
            let mut got: Vec<_> = first.into_iter().collect();
            got.extend(std::iter::from_fn(|| receive(&world, &ring, &mut cursor, false)));
            assert_eq!(got, [2], "{point}");
        });
    }
}

#[test]
fn a_receiver_that_dies_recovering_leaves_it_to_its_successor() {
    for point in ["recover-locked", "recover-done"] {
        for left in ["claim-marked", "copy-half"] {
            check(move || {
                let world = World::new(64);
                process(&world, 1, Some(left), |world, ring| send(world, ring, owner(1), 1, 2))
                    .join()
                    .unwrap();
                let dying = process(&world, 0, Some(point), |world, ring| {
                    let mut cursor = ring.cursor().unwrap();
                    while receive(world, ring, &mut cursor, false) != Some(2) {
                        thread::yield_now();
                    }
                });
                let living =
                    process(&world, 2, None, |world, ring| send(world, ring, owner(2), 2, 1));
                dying.join().unwrap();
                // The successor has another slot: the dead one's word must be freed.
                let ring = world.ring();
                let mut cursor = ring.cursor().unwrap();
                let mut got = Vec::new();
                while world.dead[0].load(SeqCst) && got != [2] {
                    match receive_as(&world, &ring, &mut cursor, owner(3)) {
                        Some(value) => got.push(value),
                        None => thread::yield_now(),
                    }
                }
                living.join().unwrap();
            });
        }
    }
}

/// A ring whose senders turn at the next claim.
fn about_to_turn() -> (Arc<World>, Ring, Cursor) {
    let world = World::large(96, 16);
    let ring = world.ring();
    let mut cursor = ring.cursor().unwrap();
    for value in [1, 2] {
        send(&world, &ring, owner(1), value, 1);
        assert_eq!(receive(&world, &ring, &mut cursor, false), Some(value));
    }
    (world, ring, cursor)
}

/// One whose last lap ended early and whose next one has no room for a message, unless the receiver
/// comes on: 3 is there to be received.
fn about_to_reopen() -> (Arc<World>, Ring, Cursor) {
    let (world, ring, cursor) = about_to_turn();
    send(&world, &ring, owner(1), 3, 1);
    (world, ring, cursor)
}

#[test]
fn a_lap_that_ends_early_loses_no_message_and_no_wake() {
    check(|| {
        let (world, ring, mut cursor) = about_to_turn();
        let sender = process(&world, 1, None, |world, ring| send(world, ring, owner(1), 3, 1));
        assert_eq!(receive(&world, &ring, &mut cursor, true), Some(3));
        assert_eq!(ring.view().header().producers.turn.load(SeqCst), 2 * ONE);
        sender.join().unwrap();
    });
}

#[test]
fn a_lap_that_goes_on_behind_a_turn_loses_no_message_and_no_wake() {
    check(|| {
        let (world, ring, mut cursor) = about_to_reopen();
        let sender = process(&world, 1, None, |world, ring| send(world, ring, owner(1), 4, 1));
        for value in [3, 4] {
            assert_eq!(receive(&world, &ring, &mut cursor, true), Some(value));
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_sender_that_dies_turning_leaves_the_ring_to_the_others() {
    for point in ["claim-ended", "claim-marked", "claim-moved", "pad-moved"] {
        check(move || {
            let (world, ring, cursor) = about_to_turn();
            one_dies_and_one_sends(&world, &ring, cursor, point, &[9]);
        });
    }
}

#[test]
fn a_sender_that_dies_behind_a_turn_leaves_the_ring_to_the_others() {
    for point in ["claim-ended", "claim-marked", "claim-moved", "pad-moved"] {
        check(move || {
            let (world, ring, cursor) = about_to_reopen();
            one_dies_and_one_sends(&world, &ring, cursor, point, &[3, 9]);
        });
    }
}

/// One sender dies at `point` of its claim, another sends 9; receives what is `due`.
fn one_dies_and_one_sends(
    world: &Arc<World>,
    ring: &Ring,
    mut cursor: Cursor,
    point: &'static str,
    due: &[u64],
) {
    let dying = process(world, 0, Some(point), |world, ring| {
        send(world, ring, owner(0), 8, 1);
    });
    dying.join().unwrap();
    let living = process(world, 2, None, |world, ring| send(world, ring, owner(2), 9, 1));
    for &value in due {
        let got = loop {
            match receive_as(world, ring, &mut cursor, owner(3)) {
                Some(value) => break value,
                None => {
                    wake_sender(world, ring, &mut cursor);
                    thread::yield_now();
                }
            }
        };
        assert_eq!(got, value, "{point}");
    }
    living.join().unwrap();
}

/// As `receive` without sleep, signing recoveries with `me`.
fn receive_as(world: &World, ring: &Ring, cursor: &mut Cursor, me: Owner) -> Option<u64> {
    match ring.peek(cursor).expect("nobody writes nonsense") {
        Peeked::Message { offset, len } => {
            let value = world.read(offset);
            ring.advance(cursor, len);
            ring.release(cursor, 1);
            Some(value)
        }
        Peeked::Busy(word) if world.is_dead(word.0) => {
            if let Err(Refused::Held(holder)) = ring.recover(cursor, me, word) {
                world.free_if_dead(ring, holder);
            }
            None
        }
        _ => None,
    }
}
