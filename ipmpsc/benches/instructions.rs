//! One kind of call, COUNT times, for `ci/instructions.sh` to count the instructions of:
//! `instructions CALL COUNT`. Messages are of 64 bytes, nobody else is at the ring, and it is never
//! full or empty.

use ipmpsc::{Receiver, Sender, SharedRingBuffer};
use serde_bytes::{ByteBuf, Bytes};
use std::hint::black_box;

/// Messages that are there to be received, and the most that can be sent.
const MOST: usize = 20_000;
/// Messages of a batch, as in the harness.
const BATCH: usize = 32;

fn main() {
    let args: Vec<String> = std::env::args().filter(|arg| arg != "--bench").collect();
    // `cargo bench` gives neither: a few calls then show that it works.
    let call = args.get(1).map_or("send", String::as_str);
    let count = args.get(2).map_or(BATCH, |count| count.parse().expect("a number of calls"));
    assert!(count <= MOST, "at most {MOST} calls");
    let ring = SharedRingBuffer::options().capacity(128 * MOST as u64).anonymous();
    let ring = ring.expect("the system has 2.5 MB and anonymous files");
    let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    let (bytes, typed) = ([7_u8; 64], Bytes::new(&[7; 64]));
    if !call.starts_with("send") {
        (0..MOST).for_each(|_| sender.send(&typed).expect("there is space"));
    }
    match call {
        "send" => (0..count).for_each(|_| sender.send(&typed).expect("there is space")),
        "send-bytes" => (0..count).for_each(|_| sender.send_bytes(&bytes).expect("there is space")),
        "send-batch" => (0..count / BATCH)
            .for_each(|_| sender.send_batch(&[typed; BATCH]).expect("there is space")),
        "recv" => (0..count).for_each(|_| {
            black_box(receiver.recv::<ByteBuf>().expect("it is there"));
        }),
        "recv-zero-copy" => (0..count).for_each(|_| {
            let mut context = receiver.zero_copy_context();
            black_box(context.recv::<&Bytes>().expect("it is there"));
        }),
        "recv-bytes" => (0..count).for_each(|_| {
            black_box(receiver.recv_bytes().expect("it is there").len());
        }),
        "drain" => (0..count / BATCH).for_each(|_| {
            let looked = |bytes: &[u8]| {
                black_box(bytes.len());
            };
            receiver.drain(BATCH, looked).expect("they are there");
        }),
        _ => panic!("no call is named {call}"),
    }
}
