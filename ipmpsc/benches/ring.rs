//! What a message costs inside one process, with nobody else at the ring: instructions and cache,
//! no contention. What it costs between processes, only the harness can say.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ipmpsc::{Receiver, Sender, SharedRingBuffer};
use serde::{Deserialize, Serialize};
use std::hint::black_box;

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

criterion_group!(benches, send_and_receive, batch_and_drain, look_in_vain);
criterion_main!(benches);
