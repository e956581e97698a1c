//! What orchestrator and worker say to each other, one JSON object a line.
//!
//! The orchestrator sends `prepare`, `connect`, `go`; a worker answers `bound`, `ready`, `done`, or
//! at any point `failed`. The end of a worker's stdin tells it to exit.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    coverage::{Cells, Grain},
    emulation,
    record::{Ended, Places, SweepRow},
    sys::Usage,
    transports::Setup,
};

/// Grows with whatever the processes of a run must agree on: the lines below, what they write into
/// the ledger, the journal and the stamps, and how the bytes of a message are made.
pub(crate) const PROTOCOL: u32 = 1;

/// What a build says of itself when another asks whether its processes can take part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    pub(crate) version: String,
    pub(crate) target: String,
    pub(crate) system: String,
    /// What it runs under instead of a machine of its own, if anything.
    pub(crate) emulated: Option<String>,
}

impl Hello {
    /// This build's.
    pub(crate) fn own() -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            target: env!("HARNESS_TARGET").into(),
            system: std::env::consts::OS.into(),
            emulated: emulation::here().map(str::to_owned),
        }
    }

    /// Why its processes cannot take part in a run of this build, if they cannot.
    pub(crate) fn objection(&self) -> Option<String> {
        let own = Hello::own();
        let Hello { protocol, version, target, system, .. } = self;
        if *protocol != own.protocol {
            return Some(format!(
                "harness {version} for {target} speaks version {protocol} of the control protocol, \
                 and this one version {}",
                own.protocol
            ));
        }
        (*system != own.system).then(|| {
            format!(
                "harness {version} is for {target}, and no ring joins {system} and {}",
                own.system
            )
        })
    }
}

/// From the orchestrator to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Command {
    /// Who the worker is; it binds what it receives from.
    Prepare(Box<Job>),
    /// Where its peers are; it connects and accepts.
    Connect {
        /// One endpoint for each channel it sends into.
        endpoints: Vec<String>,
        /// What the channel can take, as the consumer found it.
        limits: Limits,
    },
    /// Begin at this time on the shared clock.
    Go {
        /// Nanoseconds.
        at_ns: u64,
    },
    /// In lockstep: go on to the next point.
    Turn,
    /// To a sweeper, which is told nothing else.
    Sweep(SweepJob),
}

/// What one process sweeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SweepJob {
    /// The place in `acts`.
    pub(crate) act: usize,
    pub(crate) end: Ended,
    pub(crate) places: Places,
    /// For the rings.
    pub(crate) folder: PathBuf,
}

/// What a channel can take.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// The longest message, in bytes.
    pub(crate) max_len: u64,
    /// Bytes that may wait; 0 where the channel does not say.
    pub(crate) capacity: u64,
}

/// From a worker to the orchestrator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Its channel exists.
    Bound { endpoints: Vec<String>, limits: Limits },
    /// It is connected and waits for `go`.
    Ready,
    /// In lockstep: it stands here until its next turn.
    Stands { at: String },
    /// It has finished.
    Done(Box<Report>),
    /// A sweeper is at this step.
    At { step: u64 },
    /// A sweeper has come to the end.
    Swept(Box<SweepRow>),
    /// Who it is, to whoever asks with `__hello`.
    Hello(Hello),
    /// It could not.
    Failed { what: String },
}

/// One worker's part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) role: Role,
    pub(crate) task: Task,
    pub(crate) transport: String,
    pub(crate) setup: Setup,
    pub(crate) seed: u64,
    pub(crate) ledger: PathBuf,
    /// This producer's number, from 0.
    pub(crate) producer: u32,
    /// How many processes have been this producer before.
    pub(crate) incarnation: u32,
    /// Whether it gets a processor of its own, as far as there are any.
    pub(crate) pinned: bool,
}

/// Which end of the channel a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Consumer,
    Producer,
    /// Both, without a channel: what the harness itself costs.
    Alone,
}

/// What the workers do after `go`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Messages of one size as fast as they go.
    Throughput { size: usize, warmup_ns: u64, measure_ns: u64 },
    /// One message each way in turn.
    PingPong { size: usize, warmup_ns: u64, measure_ns: u64 },
    /// Messages of one size at a fixed rate over all producers.
    Latency { size: usize, offered_per_s: u64, spin_ns: u64, warmup_ns: u64, measure_ns: u64 },
    /// One producer connects to so many channels, one after the other, and sends a message to each.
    Attach { size: usize, joins: u32 },
    /// One message, a silence of this length, and another message.
    Idle { size: usize, for_ns: u64 },
    /// Messages of one size, from each producer so many that the channel has been full.
    Memory { size: usize, messages: u64 },
    /// Messages of awkward sizes, all of them checked, until the map of this grain is full, but for
    /// the least time at least and the most time at most; without a map, for the most time.
    Verify { mix: Mix, grain: Option<Grain>, least_ns: u64, most_ns: u64 },
    /// What the channel promises of single calls: refusals, timeouts, attaching and leaving.
    Promises,
    /// Messages of all sizes until the ledger says stop, while producers are killed.
    Torture { largest: usize },
    /// So many messages of all sizes from each producer, everybody standing still at each point.
    Lockstep { largest: usize, messages: u64 },
}

/// Which sizes a verification draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mix {
    /// Around every boundary of the ring.
    Boundaries,
    /// Short ones, for millions of messages.
    Short,
    /// Short ones that say which they are, for the order across producers.
    Named,
    /// Every sequence of four lengths, then the end.
    Sequences,
}

/// What a worker found. Each task fills its own part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// From `go` to the end.
    pub(crate) usage: Usage,
    /// All messages sent or received, warm-up and last messages included.
    pub(crate) messages: u64,
    /// Of these, the messages inside the measured time.
    pub(crate) measured: u64,
    /// The measured time.
    pub(crate) measured_ns: u64,
    /// Received messages by producer.
    pub(crate) by_producer: Vec<u64>,
    /// The rolling hash over received messages by producer.
    pub(crate) hashes: Vec<u64>,
    /// Round trips as (nanoseconds, how often).
    pub(crate) round_trips: Vec<(u64, u64)>,
    pub(crate) times: Times,
    /// Whether the producers could not keep the rate.
    pub(crate) saturated: bool,
    /// What was used while there was nothing to receive.
    pub(crate) idle: Usage,
    /// By how much the memory of this process grew.
    pub(crate) memory_bytes: u64,
    pub(crate) coverage: Coverage,
    /// What was reached of what had to be.
    pub(crate) cells: Cells,
    /// Incarnations that ended before the run did: (producer, incarnation, messages received).
    pub(crate) ended: Vec<(u32, u32, u64)>,
    /// The longest silences between two messages as (when the later one came, how long).
    pub(crate) silences: Vec<(u64, u64)>,
    /// (recoveries, discarded messages) as the channel counts them.
    pub(crate) repairs: Option<(u64, u64)>,
}

/// Between the moments of a timed message, each as (nanoseconds, how often).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Times {
    /// From due to received.
    pub(crate) response: Vec<(u64, u64)>,
    /// From begun to received.
    pub(crate) service: Vec<(u64, u64)>,
    /// From due to begun.
    pub(crate) lag: Vec<(u64, u64)>,
}

/// How often the states that must be reached were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Coverage {
    /// A record began again at the start of the ring.
    pub(crate) wrapped: u64,
    /// Of these, with bytes left at the end that were skipped.
    pub(crate) padded: u64,
    /// A producer found no room.
    pub(crate) full: u64,
    /// The consumer found no message.
    pub(crate) empty: u64,
    /// Oversized messages that were refused.
    pub(crate) refused: u64,
    /// Messages whose order across producers could be judged, as their send had returned.
    #[serde(default)]
    pub(crate) judged: u64,
}

impl Coverage {
    /// The sum over processes.
    pub(crate) fn plus(self, other: Coverage) -> Coverage {
        Coverage {
            wrapped: self.wrapped + other.wrapped,
            padded: self.padded + other.padded,
            full: self.full + other.full,
            empty: self.empty + other.empty,
            refused: self.refused + other.refused,
            judged: self.judged + other.judged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_build_that_speaks_the_same_for_the_same_system_can_take_part() {
        let own = Hello::own();
        assert_eq!(own.objection(), None);
        let other = Hello { target: "i686-unknown-linux-gnu".into(), ..own.clone() };
        assert_eq!(other.objection(), None, "another processor, or its width, is no matter");
        let newer = Hello { protocol: PROTOCOL + 1, ..own.clone() };
        let line = newer.objection().expect("nobody knows what it would say");
        assert!(line.contains("version 2 of the control protocol"), "{line}");
        let foreign = Hello { system: "plan9".into(), ..own };
        let line = foreign.objection().expect("it has other locks and waits");
        assert!(line.contains("no ring joins plan9 and "), "{line}");
    }

    #[test]
    fn lines_survive_the_way_there_and_back() {
        let go = serde_json::to_string(&Command::Go { at_ns: 5 }).expect("plain data");
        assert_eq!(go, r#"{"do":"go","at_ns":5}"#);
        assert!(matches!(serde_json::from_str(&go), Ok(Command::Go { at_ns: 5 })));
        let done = Reply::Done(Box::new(Report { messages: 3, ..Report::default() }));
        let line = serde_json::to_string(&done).expect("plain data");
        let back: Reply = serde_json::from_str(&line).expect("just written");
        assert!(matches!(back, Reply::Done(report) if report.messages == 3));
    }
}
