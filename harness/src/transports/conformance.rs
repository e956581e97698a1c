//! What every transport must do, asked of all that can run here, with producers in threads of this
//! process. `tests/it` asks the same of processes.

use std::sync::Barrier;

use super::{ALL, Rx, SendError, Setup, Transport, Tx, find};
use crate::payload::{Key, claimed};

/// A channel for the test of this name.
fn setup(folder: &tempfile::TempDir, producers: u32) -> Setup {
    Setup {
        folder: folder.path().into(),
        channel: "c1".into(),
        ring_bytes: 1 << 20,
        message_max: 64 << 10,
        producers,
    }
}

/// Connects every producer in a thread of its own and runs both sides; nobody leaves early. The
/// sides are told the longest message that will be sent.
fn join(
    transport: &dyn Transport,
    producers: u32,
    produce: impl Fn(u32, &mut dyn Tx, usize) + Sync,
    consume: impl FnOnce(&mut dyn Rx, usize),
) {
    let folder = tempfile::tempdir().expect("a test needs a temporary folder");
    let setup = setup(&folder, producers);
    let bound = transport.bind(&setup).unwrap_or_else(|e| panic!("{}: {e:#}", transport.name()));
    let wanted = if transport.has_limit() { bound.max_len() } else { setup.message_max };
    let longest = usize::try_from(wanted).expect("it fits the memory");
    let (setup, produce, barrier) = (&setup, &produce, &Barrier::new(producers as usize + 1));
    std::thread::scope(|scope| {
        for (producer, endpoint) in (0..).zip(bound.endpoints()) {
            scope.spawn(move || {
                let mut tx = transport.connect(&endpoint, setup).expect("the consumer listens");
                barrier.wait();
                produce(producer, &mut *tx, longest);
                barrier.wait();
            });
        }
        // Some accept only who is connected, and some connect only whom they are to accept.
        let mut rx = bound.accept().expect("all producers connect");
        barrier.wait();
        consume(&mut *rx, longest);
        barrier.wait();
    });
    super::remove_outside(folder.path(), None);
}

/// All that can run here and lead to another process.
fn each(check: impl Fn(&'static dyn Transport)) {
    for transport in ALL {
        if transport.joins_processes() && transport.missing().is_none() {
            check(transport);
        }
    }
}

fn recv(rx: &mut dyn Rx) -> Vec<u8> {
    let mut all = Vec::new();
    rx.recv(&mut |message| all.push(message.to_vec())).expect("a message comes");
    assert_eq!(all.len(), 1, "one receive shows one message");
    all.remove(0)
}

fn try_recv(rx: &mut dyn Rx) -> bool {
    rx.try_recv(&mut |_| ()).expect("an empty channel is no error")
}

const SEED: u64 = 5;

fn key(producer: u32, sequence: u64) -> Key {
    Key { seed: SEED, producer, incarnation: 0, sequence }
}

/// Every length that has broken a channel somewhere, and some that have not.
fn lengths(transport: &dyn Transport, longest: usize) -> Vec<usize> {
    [0, 1, 7, 8, 9, 23, 24, 25, 63, 64, 65, 4095, 4096, 4097, longest - 1, longest, 24]
        .into_iter()
        .filter(|len| (transport.min_len()..=longest).contains(len))
        .collect()
}

#[test]
fn every_length_arrives_intact_and_in_its_producers_order() {
    each(|transport| {
        let name = transport.name();
        let produce = |producer: u32, tx: &mut dyn Tx, longest: usize| {
            for (sequence, len) in (0..).zip(lengths(transport, longest)) {
                let mut message = vec![0; len];
                key(producer, sequence).fill(&mut message);
                tx.send(&message).unwrap_or_else(|error| panic!("{name}, {len} bytes: {error}"));
            }
        };
        join(transport, 2, produce, |rx, longest| {
            let lengths = lengths(transport, longest);
            let mut next = [0, 0];
            let mut empty = 0;
            for _ in 0..2 * lengths.len() {
                let message = recv(rx);
                let Some(&producer) = message.first() else {
                    empty += 1;
                    continue;
                };
                let next = &mut next[usize::from(producer)];
                // Nobody can say whose an empty one was.
                *next += usize::from(lengths[*next] == 0);
                let key = key(producer.into(), *next as u64);
                assert_eq!(message.len(), lengths[*next], "{name}: {:?}", claimed(&message));
                assert!(key.matches(&message), "{name}, {} bytes", message.len());
                *next += 1;
            }
            assert_eq!(next, [lengths.len(); 2], "{name}");
            assert_eq!(empty, if transport.min_len() == 0 { 2 } else { 0 }, "{name}");
            assert!(!try_recv(rx), "{name}: nothing else was sent");
        });
    });
}

#[test]
fn an_oversized_message_is_refused_and_leaves_nothing_behind() {
    each(|transport| {
        if !transport.has_limit() {
            return;
        }
        let name = transport.name();
        let produce = |_, tx: &mut dyn Tx, longest: usize| {
            let refused = tx.send(&vec![1; longest + 1]);
            assert!(matches!(refused, Err(SendError::TooLarge)), "{name}: {refused:?}");
            let refused = tx.try_send(&vec![1; longest + 1]);
            assert!(matches!(refused, Err(SendError::TooLarge)), "{name}: {refused:?}");
            tx.send(b"after").unwrap_or_else(|error| panic!("{name}: {error}"));
        };
        join(transport, 1, produce, |rx, _| {
            assert_eq!(recv(rx), b"after", "{name}");
            assert!(!try_recv(rx), "{name}");
        });
    });
}

#[test]
fn an_empty_channel_is_seen_to_be_empty_without_waiting() {
    each(|transport| {
        join(transport, 2, |_, _, _| (), |rx, _| assert!(!try_recv(rx), "{}", transport.name()));
    });
}

#[test]
fn what_a_producer_sent_before_it_hung_up_arrives() {
    each(|transport| {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let setup = &setup(&folder, 1);
        let bound = transport.bind(setup).expect("as in the other tests");
        let endpoint = bound.endpoints().remove(0);
        let (sender, receiver) = std::sync::mpsc::channel();
        let producer = move |setup: &Setup| {
            let mut tx = transport.connect(&endpoint, setup).expect("the consumer listens");
            receiver.recv().expect("the consumer accepts");
            for byte in 0..3 {
                tx.send(&[byte; 100]).expect("there is room for three");
            }
        };
        std::thread::scope(|scope| {
            let producer = scope.spawn(move || producer(setup));
            let mut rx = bound.accept().expect("the producer connects");
            sender.send(()).expect("the producer waits");
            producer.join().expect("it hangs up");
            for byte in 0..3 {
                assert_eq!(recv(&mut *rx), [byte; 100], "{}", transport.name());
            }
        });
        super::remove_outside(folder.path(), None);
    });
}

#[test]
fn no_channel_takes_more_than_its_transport_can_carry_whatever_the_ring() {
    each(|transport| {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let setup = Setup { ring_bytes: 16 << 20, message_max: 8 << 20, ..setup(&folder, 1) };
        let bound = transport.bind(&setup).expect("as in the other tests");
        match transport.longest() {
            Some(longest) => assert_eq!(bound.max_len(), longest, "{}", transport.name()),
            None => assert!(bound.max_len() >= setup.message_max, "{}", transport.name()),
        }
        drop(bound);
        super::remove_outside(folder.path(), None);
    });
}

#[test]
fn batches_arrive_as_single_messages_do() {
    each(|transport| {
        let batch = transport.batch();
        assert!(batch.is_power_of_two(), "{}", transport.name());
        let messages: Vec<_> = (0..batch).map(|byte| vec![byte as u8; 100]).collect();
        let produce = |_, tx: &mut dyn Tx, _| {
            for _ in 0..3 {
                tx.send_batch(&messages).expect("the consumer drains");
            }
        };
        join(transport, 1, produce, |rx, _| {
            let mut all = Vec::new();
            let mut count = 0;
            while count < 3 * batch as u64 {
                let shown = rx.recv_batch(&mut |message| all.push(message.to_vec()));
                count += shown.expect("more messages come");
            }
            let sent = [&messages[..]; 3].concat();
            assert_eq!(all, sent, "{}", transport.name());
        });
    });
}

#[test]
fn typed_rows_are_typed_on_the_way_and_raw_rows_are_not() {
    for transport in ALL.into_iter().filter(|transport| super::is_ours(transport.name())) {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let setup = setup(&folder, 1);
        let raw = find("ipmpsc-bytes").expect("it is in the table");
        let bound = raw.bind(&setup).expect("as in the other tests");
        let endpoint = bound.endpoints().remove(0);
        let mut rx = bound.accept().expect("the ring needs nobody for that");
        let mut tx = transport.connect(&endpoint, &setup).expect("the ring is there");
        tx.send(b"body").expect("there is room");
        let is_typed = transport.about().starts_with("typed");
        let wanted: &[u8] = if is_typed { b"\x04\0\0\0\0\0\0\0body" } else { b"body" };
        assert_eq!(recv(&mut *rx), wanted, "{}", transport.name());
    }
}

#[test]
fn a_floor_stands_alone_and_a_rival_does_not() {
    for transport in ALL {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let setup = setup(&folder, 1);
        if transport.is_floor() {
            assert!(transport.bind(&setup).is_err(), "{}", transport.name());
            assert!(transport.connect("", &setup).is_err(), "{}", transport.name());
            assert!(transport.has_throughput(1) || transport.has_round_trip());
        } else {
            assert!(transport.has_throughput(1) && transport.has_throughput(8));
            assert_eq!(transport.has_round_trip(), transport.batch() == 1);
        }
    }
    let above = ALL.iter().take_while(|transport| !transport.is_floor()).count();
    assert!(ALL[above..].iter().all(|transport| transport.is_floor()), "floors come last");
}
