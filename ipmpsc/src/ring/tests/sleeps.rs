//! A receiver that sleeps until it is roused.

use super::*;

/// As `receive`, by a receiver that sleeps until it is roused, and whose naps end at once.
fn receive_roused(world: &World, ring: &Ring, cursor: &mut Cursor) -> u64 {
    loop {
        if let Some(value) = receive_as(world, ring, cursor, owner(0)) {
            return value;
        }
        let armed = ring.arm_receiver(true);
        let empty = matches!(ring.peek(cursor), Ok(Peeked::Empty));
        if empty && armed == SLEEPS {
            world.receiver_bed.sleep_while(&world.header.receiver_wait.0, armed);
        } else {
            thread::yield_now();
        }
        ring.disarm_receiver();
    }
}

#[test]
fn a_receiver_that_sleeps_until_it_is_roused_sleeps_over_no_commit() {
    for point in [None, Some("commit-done"), Some("commit-waking")] {
        check(move || {
            let world = World::new(64);
            let sender = process(&world, 1, point, |world, ring| {
                send(world, ring, owner(1), 1, 1);
            });
            let ring = world.ring();
            assert_eq!(receive_roused(&world, &ring, &mut ring.cursor().unwrap()), 1);
            sender.join().unwrap();
        });
    }
}

#[test]
fn whoever_dies_leaves_it_to_the_next_to_rouse_the_receiver() {
    for point in ["claim-locked", "claim-moved", "claim-rousing", "commit-waking"] {
        check(move || {
            let world = World::new(64);
            let other = Arc::clone(&world);
            let senders = thread::spawn(move || {
                let dying = process(&other, 1, Some(point), |world, ring| {
                    send(world, ring, owner(1), 1, 1);
                });
                dying.join().unwrap();
                send(&other, &other.ring(), owner(2), 2, 1);
            });
            let ring = world.ring();
            let mut cursor = ring.cursor().unwrap();
            let first = receive_roused(&world, &ring, &mut cursor);
            // The first has not come to its point, or no further than its commit.
            let last = if first == 1 { receive_roused(&world, &ring, &mut cursor) } else { first };
            assert_eq!(last, 2, "{point}");
            senders.join().unwrap();
        });
    }
}
