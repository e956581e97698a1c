//! A made-up run with rows of every kind, as JSON, for the tests in here and those from outside.
//! Nothing in it was measured.

use serde_json::{Value, json};

type Known = (&'static str, &'static str, u64, u64, u64);

/// Name, what it says of itself, nanoseconds a message, nanoseconds a KiB, round trip.
const TRANSPORTS: [Known; 14] = [
    ("ipmpsc", "typed: received as an owned copy", 45, 110, 700),
    ("ipmpsc-zero-copy", "typed: received as a borrow of the ring", 40, 55, 650),
    ("ipmpsc-bytes", "raw bytes, received as a borrow of the ring", 39, 55, 620),
    ("ipmpsc-batch", "raw bytes, many for each claim", 20, 50, 630),
    ("ipmpsc-0.5.1", "typed: received as an owned copy", 230, 240, 52_000),
    ("ipmpsc-0.5.1-zero-copy", "typed: received as a borrow of the ring", 220, 200, 51_000),
    ("ipc-channel", "typed: its send takes the struct by value", 1_080, 230, 58_000),
    ("ipc-channel-bytes", "raw bytes, received as an owned copy", 1_020, 190, 54_000),
    ("pipe", "raw bytes, a named pipe for each producer", 750, 350, 50_500),
    ("unix-seqpacket", "raw bytes, a connection for each producer", 790, 150, 52_500),
    ("unix-stream", "raw bytes, a connection for each producer", 800, 160, 53_000),
    ("tcp", "raw bytes, loopback", 900, 240, 61_000),
    ("null", "no channel: the harness's own cost", 21, 45, 0),
    ("memcpy", "no channel: a copy in memory", 12, 40, 0),
];
const BLOCKS: u64 = 6;
const MILLISECOND: u64 = 1_000_000;

/// The stamp.
pub(crate) fn env() -> Value {
    let stamp = |(name, about, ..): Known| {
        json!({"name": name, "version": "1.0", "about": about,
            "missing": null})
    };
    let mut transports = TRANSPORTS.map(stamp).to_vec();
    transports.push(json!({"name": "iceoryx2", "version": "0.7", "about": "raw bytes, loaned",
        "missing": "this build is without the feature `iceoryx2` <&>"}));
    json!({
        "cpu": "Example(R) Cpu 9000 Processor", "cores": 2, "kernel": "6.1", "libc": "glibc 2.36",
        "rustc": "rustc 1.95.0", "profile": "release", "opt_level": "3",
        "debug_assertions": false, "target": "x86_64-unknown-linux-gnu",
        "revision": "0123456789ab", "arguments": ["--producers", "4"], "seed": 7,
        "started": "2026-01-02T03:04:05Z", "ending": "passed", "sources": "0",
        "virtual_machine": true, "transports": transports,
    })
}

/// Rows of every kind.
pub(crate) fn rows() -> Vec<Value> {
    let mut random = Random(1);
    let mut rows = Vec::new();
    for block in 0..BLOCKS {
        for (producers, size) in [1, 4]
            .into_iter()
            .flat_map(|count| [64, 1 << 10, 64 << 10, 12_441_600].map(|s| (count, s)))
        {
            each(|transport, twin| {
                rows.push(throughput(&mut random, transport, twin, (block, producers, size)));
            });
        }
        for pinned in [false, true] {
            each(|transport, twin| {
                rows.extend(round_trip(&mut random, transport, twin, (block, pinned)));
            });
        }
        for offered in [1_000, 10_000, 100_000, 1_000_000] {
            each(|transport, twin| {
                rows.extend(latency(&mut random, transport, twin, (block, offered)));
            });
        }
        each(|transport, twin| rows.extend(others(&mut random, transport, twin, block)));
    }
    rows.extend([
        json!({"row": "verify", "name": "4 KiB ring", "transport": "ipmpsc", "producers": 4,
            "ring_bytes": 4096, "seed": 1, "messages": 1_270_112, "elapsed_ns": 800 * MILLISECOND,
            "coverage": {"wrapped": 467_634, "padded": 378_781, "full": 107_796, "empty": 103_526,
                "refused": 2_481}}),
        json!({"row": "torture", "transport": "ipmpsc", "producers": 4, "ring_bytes": 65536,
            "seed": 1, "kills": 100, "kills_in_flight": 60, "in_flight_arrived": 20,
            "messages": 1_000_000, "elapsed_ns": 900 * MILLISECOND,
            "longest_silence_ns": 30 * MILLISECOND, "recoveries": 40, "discarded": 40}),
        json!({"row": "machine", "probe": "clock read", "unit": "ns", "low": 19.0, "median": 20.5,
            "high": 30.25, "count": 100}),
        json!({"row": "failed", "command": "torture", "name": "<script>alert(1)</script> | x",
            "transport": "pipe", "what": "a line | with a bar\nand <b>another</b>"}),
    ]);
    rows
}

/// Each transport, and the twin of the first.
fn each(mut make: impl FnMut(Known, bool)) {
    for transport in TRANSPORTS {
        make(transport, false);
    }
    make(TRANSPORTS[0], true);
}

fn cell((name, ..): Known, twin: bool, producers: u64, size: u64, pinned: bool) -> Value {
    let ring_bytes = (3 * size).next_power_of_two().max(1 << 20);
    json!({"producers": producers, "size": size, "ring_bytes": ring_bytes, "transport": name,
        "twin": twin, "pinned": pinned})
}

fn joined(mut row: Value, more: Value) -> Value {
    let fields = row.as_object_mut().expect("an object was made");
    let Value::Object(more) = more else { unreachable!("an object was made") };
    fields.extend(more);
    row
}

fn throughput(
    random: &mut Random,
    transport: Known,
    twin: bool,
    (block, producers, size): (u64, u64, u64),
) -> Value {
    let (_, _, each_ns, kib_ns, _) = transport;
    let elapsed_ns = 60 * MILLISECOND;
    let crowd = 10 + producers;
    let ns = random.about((each_ns + kib_ns * size / 1024) * crowd / 11).max(1);
    let messages = (elapsed_ns / ns).max(1);
    let share = |at: u64| messages * (at + 1) * 2 / (producers * (producers + 1));
    joined(
        cell(transport, twin, producers, size, false),
        json!({"row": "throughput", "block": block, "messages": messages, "elapsed_ns": elapsed_ns,
            "total_messages": messages, "cpu_ns": 2 * elapsed_ns,
            "voluntary_switches": messages / 900, "involuntary_switches": 9,
            "by_producer": (0..producers).map(share).collect::<Vec<_>>()}),
    )
}

fn round_trip(
    random: &mut Random,
    transport: Known,
    twin: bool,
    (block, pinned): (u64, bool),
) -> Option<Value> {
    let (.., trip) = transport;
    let times = random.times(trip, 3_000);
    (trip > 0).then(|| {
        joined(
            cell(transport, twin, 1, 64, pinned),
            json!({"row": "ping_pong", "block": block, "round_trips": times}),
        )
    })
}

fn latency(
    random: &mut Random,
    transport: Known,
    twin: bool,
    (block, offered): (u64, u64),
) -> Option<Value> {
    let (_, _, each_ns, _, trip) = transport;
    let saturated = offered * each_ns > 900 * MILLISECOND;
    let load = 1 + offered * each_ns / (100 * MILLISECOND);
    let (response, service) =
        (random.times(trip / 2 * load + 100, 2_000), random.times(trip / 2 + 80, 2_000));
    let lag = random.times(60, 2_000);
    (trip > 0).then(|| {
        joined(
            cell(transport, twin, 4, 64, false),
            json!({"row": "latency", "block": block, "offered_per_s": offered,
                "saturated": saturated, "messages": 2_000, "elapsed_ns": 100 * MILLISECOND,
                "response": response, "service": service, "lag": lag, "total_messages": 2_200,
                "cpu_ns": 90 * MILLISECOND, "voluntary_switches": 1_000,
                "involuntary_switches": 5}),
        )
    })
}

fn others(random: &mut Random, transport: Known, twin: bool, block: u64) -> Vec<Value> {
    let (_, _, _, kib_ns, trip) = transport;
    if trip == 0 || twin {
        return Vec::new();
    }
    let cell = || cell(transport, twin, 1, 64, false);
    let mut rows = vec![
        joined(
            cell(),
            json!({"row": "attach", "block": block, "connect": random.times(30 * kib_ns, 100),
                "first_message": random.times(90 * kib_ns, 100)}),
        ),
        joined(
            cell(),
            json!({"row": "idle", "block": block, "elapsed_ns": 500 * MILLISECOND,
                "cpu_ns": random.about(trip), "voluntary_switches": 5, "involuntary_switches": 0}),
        ),
    ];
    if block == 0 {
        rows.push(joined(
            cell(),
            json!({"row": "memory", "consumer_bytes": 9_000 * kib_ns,
                "producer_bytes": 6_000 * kib_ns}),
        ));
    }
    rows
}

/// Numbers that look measured, the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 >> 33
    }

    /// Within five percent.
    fn about(&mut self, value: u64) -> u64 {
        value * (950 + self.next() % 101) / 1_000
    }

    /// Around a middle, with a tail.
    fn times(&mut self, middle: u64, count: u64) -> Vec<(u64, u64)> {
        let steps = [(85, 30), (95, 300), (105, 400), (130, 200), (180, 60), (400, 9), (1_500, 1)];
        let middle = self.about(middle);
        steps.map(|(percent, parts)| (middle * percent / 100, count * parts / 1_000)).to_vec()
    }
}
