//! What a message costs inside one process: mostly with nobody else at the ring, instructions and
//! cache, no contention. What it costs between processes, only the harness can say.
//!
//! Two groups put a limit beside the ring: `frame` a plain copy, and `64 B between two threads` a
//! queue that can do nothing but hand over slots of that size, and spins.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ipmpsc::{Receiver, Sender, SharedRingBuffer};
use serde::{Deserialize, Serialize};
use std::cell::UnsafeCell;
use std::hint::{black_box, spin_loop};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::Acquire, Ordering::Release};
use std::thread;
use std::time::{Duration, Instant};

const SIZES: [usize; 4] = [8, 64, 1 << 10, 64 << 10];
/// Messages of a batch.
const BATCH: usize = 32;

#[derive(Clone, Serialize, Deserialize)]
struct Payload<'a> {
    #[serde(with = "serde_bytes", borrow)]
    bytes: &'a [u8],
}

fn channel() -> (Sender, Receiver) {
    let ring = SharedRingBuffer::options().capacity(4 << 20).anonymous();
    let ring = ring.expect("the system has 4 MiB and anonymous files");
    (Sender::new(ring.clone()), Receiver::new(ring))
}

/// One message there and taken out again, by each pair of calls.
fn send_and_receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send+receive");
    for size in SIZES {
        let (sender, mut receiver) = channel();
        let bytes = vec![7; size];
        let payload = Payload { bytes: &bytes };
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("typed, zero-copy", size), |bencher| {
            bencher.iter(|| {
                sender.send(&payload).unwrap();
                let mut context = receiver.zero_copy_context();
                black_box(context.recv::<Payload>().unwrap().bytes.len())
            });
        });
        group.bench_function(BenchmarkId::new("typed, copying", size), |bencher| {
            bencher.iter(|| {
                sender.send(&payload).unwrap();
                receiver.recv::<serde_bytes::ByteBuf>().unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("bytes", size), |bencher| {
            bencher.iter(|| {
                sender.send_bytes(&bytes).unwrap();
                black_box(receiver.recv_bytes().unwrap().len())
            });
        });
    }
    group.finish();
}

/// Many messages by one claim and one release.
fn batch_and_drain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send_batch+drain");
    for size in SIZES {
        let (sender, mut receiver) = channel();
        let bytes = vec![7; size];
        let batch = vec![Payload { bytes: &bytes }; BATCH];
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                sender.send_batch(&batch).unwrap();
                let mut left = BATCH;
                while left > 0 {
                    left -= receiver.try_drain(left, |bytes| _ = black_box(bytes.len())).unwrap();
                }
            });
        });
    }
    group.finish();
}

/// Looks that find nothing: what polling costs.
fn look_in_vain(criterion: &mut Criterion) {
    let (_sender, mut receiver) = channel();
    criterion.bench_function("try_recv_bytes of an empty ring", |bencher| {
        bencher.iter(|| receiver.try_recv_bytes().unwrap().is_none());
    });
}

/// A large message that is written in place, and borrowed, against one copy of as many bytes.
fn frame(criterion: &mut Criterion) {
    // 3840x2160 in YUV 4:2:0, as in the harness.
    const FRAME: usize = 12_441_600;
    let ring = SharedRingBuffer::options().capacity(64 << 20).anonymous();
    let ring = ring.expect("the system has 64 MiB and anonymous files");
    let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    let (from, mut to) = (vec![7; FRAME], vec![0; FRAME]);
    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Bytes(FRAME as u64));
    group.bench_function("memcpy", |bencher| {
        bencher.iter(|| black_box(&mut to).copy_from_slice(black_box(&from)));
    });
    group.bench_function("reserve", |bencher| {
        bencher.iter(|| {
            let mut place = sender.reserve(FRAME).unwrap();
            place.write_all(black_box(&from)).unwrap();
            place.commit().unwrap();
            black_box(receiver.recv_bytes().unwrap().len())
        });
    });
    group.finish();
}

type Slot = [u8; 64];

/// A word that no other shares its cache lines with.
#[repr(align(128))]
#[derive(Default)]
struct Word(AtomicUsize);

/// A queue of slots for one thread that sends and one that receives, `BATCH` at a time.
struct Slots {
    slots: Box<[UnsafeCell<Slot>]>,
    sent: Word,
    received: Word,
}

// SAFETY: the two threads share a slot only by way of `sent` and `received`: see `send`, `receive`.
unsafe impl Sync for Slots {}

impl Slots {
    /// As many slots as a ring of 1 MiB has bytes for.
    fn new() -> Self {
        let slots = (0..16 << 10).map(|_| UnsafeCell::new([0; 64])).collect();
        Self { slots, sent: Word::default(), received: Word::default() }
    }

    /// # Safety
    ///
    /// - Only one thread sends
    unsafe fn send(&self, sent: usize, batch: &[Slot; BATCH]) {
        while sent + BATCH - self.received.0.load(Acquire) > self.slots.len() {
            spin_loop();
        }
        for (at, slot) in (sent..).zip(batch) {
            // SAFETY: the receiver has done with it, by `received`, and does not touch it before it
            // sees the store of `sent` below; nobody else sends (caller).
            unsafe { *self.slots[at % self.slots.len()].get() = *slot };
        }
        self.sent.0.store(sent + BATCH, Release);
    }

    /// # Safety
    ///
    /// - Only one thread receives
    unsafe fn receive(&self, received: usize, mut look: impl FnMut(&Slot)) {
        while self.sent.0.load(Acquire) < received + BATCH {
            spin_loop();
        }
        for at in received..received + BATCH {
            // SAFETY: it has been sent, by `sent`, and the sender does not touch it before it sees
            // the store of `received` below; nobody else receives (caller).
            look(unsafe { &*self.slots[at % self.slots.len()].get() });
        }
        self.received.0.store(received + BATCH, Release);
    }
}

/// How long it takes until both have done their part, a thread each.
fn together(send: impl FnOnce() + Send, receive: impl FnOnce()) -> Duration {
    thread::scope(|scope| {
        let start = Instant::now();
        scope.spawn(send);
        receive();
        start.elapsed()
    })
}

/// Batches from one thread to another.
fn two_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("64 B between two threads");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("spinning SPSC", |bencher| {
        bencher.iter_custom(|batches| {
            let (slots, messages) = (Slots::new(), BATCH * batches as usize);
            together(
                || {
                    let batch = [[7; 64]; BATCH];
                    for sent in (0..messages).step_by(BATCH) {
                        // SAFETY: the only thread that does.
                        unsafe { slots.send(sent, black_box(&batch)) };
                    }
                },
                || {
                    for received in (0..messages).step_by(BATCH) {
                        // SAFETY: the only thread that does.
                        unsafe { slots.receive(received, |slot| _ = black_box(slot[63])) };
                    }
                },
            )
        });
    });
    group.bench_function("send_batch+drain", |bencher| {
        bencher.iter_custom(|batches| {
            let ring = SharedRingBuffer::options().capacity(1 << 20).anonymous();
            let ring = ring.expect("the system has 1 MiB and anonymous files");
            let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
            together(
                move || {
                    let bytes = [7; 56];
                    let batch = vec![Payload { bytes: &bytes }; BATCH];
                    (0..batches).for_each(|_| sender.send_batch(black_box(&batch)).unwrap());
                },
                || {
                    let mut left = BATCH * batches as usize;
                    while left > 0 {
                        let look = |bytes: &[u8]| _ = black_box(bytes[63]);
                        left -= receiver.drain(BATCH.min(left), look).unwrap();
                    }
                },
            )
        });
    });
    group.finish();
}

criterion_group!(benches, send_and_receive, batch_and_drain, look_in_vain, frame, two_threads);
criterion_main!(benches);
