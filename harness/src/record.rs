//! The rows of `runs.jsonl` and the stamp of `env.json`: what measuring leaves behind, and all that
//! tables are made of.

use std::{process::Command, time::SystemTime};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    coverage::Cells,
    emulation,
    protocol::{Coverage, Report},
    sys,
    transports::{ALL, Transport},
};

/// One result. A failure is one too.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "snake_case")]
pub(crate) enum Row {
    Verify(VerifyRow),
    Throughput(ThroughputRow),
    PingPong(PingPongRow),
    Latency(LatencyRow),
    Attach(AttachRow),
    Idle(IdleRow),
    Memory(MemoryRow),
    Machine(MachineRow),
    Torture(TortureRow),
    Sweep(SweepRow),
    Timeline(TimelineRow),
    Fault(FaultRow),
    Selftest(SelftestRow),
    Failed(FailedRow),
}

/// What was measured, once in each block.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) producers: u32,
    pub(crate) size: usize,
    pub(crate) ring_bytes: u64,
    pub(crate) transport: String,
    /// A second measurement of the same transport in the same block; its spread is the noise.
    pub(crate) twin: bool,
    /// Whether each side had a processor of its own by order.
    pub(crate) pinned: bool,
}

/// Messages of one size as fast as they went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ThroughputRow {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) block: u32,
    pub(crate) messages: u64,
    pub(crate) elapsed_ns: u64,
    /// All messages of the run, warm-up included: what the following three were spent on.
    pub(crate) total_messages: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
    pub(crate) by_producer: Vec<u64>,
}

impl ThroughputRow {
    /// From what the consumer and its producers report.
    pub(crate) fn new(cell: Cell, block: u32, consumer: Report, producers: &[Report]) -> Self {
        let usage = producers.iter().fold(consumer.usage, |sum, report| sum.plus(report.usage));
        ThroughputRow {
            cell,
            block,
            messages: consumer.measured,
            elapsed_ns: consumer.measured_ns,
            total_messages: consumer.messages,
            cpu_ns: usage.cpu_ns,
            voluntary_switches: usage.voluntary,
            involuntary_switches: usage.involuntary,
            by_producer: consumer.by_producer,
        }
    }

    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 * 1e9 / self.elapsed_ns.max(1) as f64
    }
}

/// One message each way in turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PingPongRow {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) block: u32,
    /// (nanoseconds, how often).
    pub(crate) round_trips: Vec<(u64, u64)>,
}

/// Messages sent at a fixed rate, each timed from the moment it was due: an open loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LatencyRow {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) block: u32,
    /// Messages a second that were due, over all producers.
    pub(crate) offered_per_s: u64,
    /// Whether the producers could not keep that rate, so that the times mean nothing: fewer than
    /// 95 % of the messages that were due in the measured time had begun when it ended, or of those
    /// due in its last quarter more than half began after the same producer's next one was due.
    pub(crate) saturated: bool,
    pub(crate) messages: u64,
    pub(crate) elapsed_ns: u64,
    /// From when a message was due until it was received, as (nanoseconds, how often).
    pub(crate) response: Vec<(u64, u64)>,
    /// From when its send began until it was received.
    pub(crate) service: Vec<(u64, u64)>,
    /// From when it was due until its send began: the generator's own lateness.
    pub(crate) lag: Vec<(u64, u64)>,
    /// What the following three were spent on: the whole run, warm-up included. In the processor
    /// time of producers are the last microseconds before each message, which they spin.
    pub(crate) total_messages: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

impl LatencyRow {
    /// From what the consumer and its producers report.
    pub(crate) fn new(
        cell: Cell,
        block: u32,
        offered_per_s: u64,
        consumer: Report,
        producers: &[Report],
    ) -> Self {
        let usage = producers.iter().fold(consumer.usage, |sum, report| sum.plus(report.usage));
        LatencyRow {
            cell,
            block,
            offered_per_s,
            saturated: consumer.saturated,
            messages: consumer.measured,
            elapsed_ns: consumer.measured_ns,
            response: consumer.times.response,
            service: consumer.times.service,
            lag: consumer.times.lag,
            total_messages: consumer.messages,
            cpu_ns: usage.cpu_ns,
            voluntary_switches: usage.voluntary,
            involuntary_switches: usage.involuntary,
        }
    }
}

/// A producer joins a channel at which a consumer waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AttachRow {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) block: u32,
    /// The call that connects, as (nanoseconds, how often).
    pub(crate) connect: Vec<(u64, u64)>,
    /// From the start of that call until the consumer has the producer's first message.
    pub(crate) first_message: Vec<(u64, u64)>,
}

/// A consumer that waits for nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IdleRow {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) block: u32,
    pub(crate) elapsed_ns: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

/// What a channel makes its processes hold: the growth of their proportional share of resident
/// memory, without the program itself, from before the channel until after traffic of more than it
/// can keep. Buffers that the kernel holds for pipes, sockets and queues are nobody's share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemoryRow {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) consumer_bytes: u64,
    /// The median over producers.
    pub(crate) producer_bytes: u64,
}

/// What the machine itself does, whatever the transport.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MachineRow {
    /// What was probed, such as `cache line round trip`.
    pub(crate) probe: String,
    /// `ns`, `%`, `GB/s`.
    pub(crate) unit: String,
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
    /// How many values that is.
    pub(crate) count: usize,
}

/// Messages of awkward sizes through one channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VerifyRow {
    pub(crate) name: String,
    pub(crate) transport: String,
    pub(crate) producers: u32,
    pub(crate) ring_bytes: u64,
    pub(crate) seed: u64,
    pub(crate) messages: u64,
    pub(crate) elapsed_ns: u64,
    pub(crate) coverage: Coverage,
    /// What was reached of what this verification requires.
    #[serde(default)]
    pub(crate) cells: Cells,
}

/// Producers killed under load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TortureRow {
    pub(crate) transport: String,
    pub(crate) producers: u32,
    pub(crate) ring_bytes: u64,
    pub(crate) seed: u64,
    pub(crate) kills: u64,
    /// Of these, how many hit a producer between the start and the return of a send.
    pub(crate) kills_in_flight: u64,
    /// Of these, how often the message in flight arrived.
    pub(crate) in_flight_arrived: u64,
    pub(crate) messages: u64,
    pub(crate) elapsed_ns: u64,
    pub(crate) longest_silence_ns: u64,
    pub(crate) recoveries: Option<u64>,
    pub(crate) discarded: Option<u64>,
    /// Every kind of fault, how often, and how long the others were held up.
    #[serde(default)]
    pub(crate) faults: Vec<FaultCount>,
    /// Messages that came again after the death of a consumer.
    #[serde(default)]
    pub(crate) came_again: u64,
    /// How often the ring began again at its beginning, as far as its head had come.
    #[serde(default)]
    pub(crate) laps: u64,
    /// Looks that found a producer asleep.
    #[serde(default)]
    pub(crate) asleep: u64,
    /// Looks that found no room for another message of average length.
    #[serde(default)]
    pub(crate) full: u64,
    /// Kills that held the others up for longer than is allowed, but not by more than the kernel
    /// kept them waiting for a processor.
    #[serde(default)]
    pub(crate) starved: u64,
}

/// One kind of fault under load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FaultCount {
    pub(crate) fault: String,
    pub(crate) count: u64,
    /// The longest gap between two messages until the next fault, without the time for which a
    /// process was stopped, as (nanoseconds, how often).
    pub(crate) recovery: Vec<(u64, u64)>,
}

/// How a torture went by, for a plot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TimelineRow {
    pub(crate) name: String,
    pub(crate) transport: String,
    /// (nanoseconds since the start, messages received by then).
    pub(crate) received: Vec<(u64, u64)>,
    /// (nanoseconds since the start, what was done).
    pub(crate) marks: Vec<(u64, String)>,
    /// (nanoseconds since the start, what was done, for how long it held the others up).
    #[serde(default)]
    pub(crate) recoveries: Vec<(u64, String, u64)>,
}

/// One fault against one transport.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FaultRow {
    /// As in the catalogue: `harness torture --list`.
    pub(crate) id: String,
    pub(crate) fault: String,
    pub(crate) transport: String,
    pub(crate) verdict: Verdict,
    pub(crate) note: String,
}

/// What became of the others, or of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Survives,
    Blocks,
    Loses,
    Corrupts,
    Dies,
    NotApplicable,
}

impl Verdict {
    /// The word in a table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Verdict::Survives => "survives",
            Verdict::Blocks => "blocks",
            Verdict::Loses => "loses",
            Verdict::Corrupts => "corrupts",
            Verdict::Dies => "dies",
            Verdict::NotApplicable => "n/a",
        }
    }
}

/// Every instruction of one act as a place to die.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SweepRow {
    /// What the victim did, and in which ring.
    pub(crate) act: String,
    #[serde(default)]
    pub(crate) places: Places,
    /// Whether it was killed at its place or stopped there.
    pub(crate) end: Ended,
    /// Instructions, system calls counted as one each; or passages of named points.
    pub(crate) steps: u64,
    /// Of these, how many a victim met at another place than the first one did.
    pub(crate) strayed: u64,
    pub(crate) windows: Vec<Window>,
    /// From a death until a message sent after it was received, as (nanoseconds, how often).
    pub(crate) recovery: Vec<(u64, u64)>,
    pub(crate) elapsed_ns: u64,
}

/// What kind of place a sweep goes through, one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Places {
    #[default]
    Instructions,
    /// The named points of the protocol, each as often as it is passed.
    Points,
}

/// What became of the victim of a sweep at its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    /// SIGKILL.
    #[default]
    Killed,
    /// It was stopped while the others were watched, went on to its end, and was killed there.
    Frozen,
}

impl Ended {
    /// The word in a line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Ended::Killed => "killed",
            Ended::Frozen => "frozen",
        }
    }
}

/// The steps of a sweep that left the ring in the same state of the protocol, or the passages of
/// one named point, counted from 1.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) name: String,
    /// First and last step, counted from the act's beginning.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) deaths: u64,
    /// Of these, how often the message in flight arrived, or arrived again.
    pub(crate) arrived: u64,
    /// How often somebody took something from the dead.
    pub(crate) recovered: u64,
    /// How often a record was thrown away.
    pub(crate) discarded: u64,
    pub(crate) worst_ns: u64,
}

/// A planted bug, and whether the harness notices it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SelftestRow {
    pub(crate) mutant: String,
    /// What was to notice it; empty where nothing here can, and then `what` says why.
    pub(crate) method: String,
    pub(crate) noticed: bool,
    /// The name of what failed: a schedule by its number, a scenario, an act.
    pub(crate) place: String,
    /// Until it failed, from the start of a harness of its own.
    pub(crate) took_ns: u64,
    pub(crate) what: String,
}

/// What should have been one of the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FailedRow {
    pub(crate) command: String,
    pub(crate) name: String,
    pub(crate) transport: String,
    pub(crate) what: String,
}

/// Reads the rows of a `runs.jsonl` back.
pub(crate) fn parse_rows(text: &str) -> Result<Vec<Row>> {
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("a row: {line}")))
        .collect()
}

/// Where and how the rows came about. No names of hosts or users.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Env {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) libc: String,
    pub(crate) rustc: String,
    pub(crate) profile: String,
    pub(crate) opt_level: String,
    pub(crate) debug_assertions: bool,
    pub(crate) target: String,
    pub(crate) revision: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) seed: u64,
    /// When the run began, in UTC to the second.
    #[serde(default)]
    pub(crate) started: String,
    /// `passed`, `broken`, `inconclusive` or `interrupted`; empty as long as it runs.
    #[serde(default)]
    pub(crate) ending: String,
    /// A hash of ipmpsc's sources, to tell whether they have changed since.
    #[serde(default)]
    pub(crate) sources: String,
    #[serde(default)]
    pub(crate) virtual_machine: bool,
    /// What its processes ran under instead of a machine of their own, if anything: qemu, wine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) emulated: Option<String>,
    /// Every transport this build knows, measured or not.
    pub(crate) transports: Vec<Stamp>,
}

/// A transport as it was in that build on that machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) about: String,
    /// Why it cannot run there, if it cannot.
    pub(crate) missing: Option<String>,
    /// Whether it stands under the line: no channel between processes, but what bounds one.
    #[serde(default)]
    pub(crate) floor: bool,
}

impl Stamp {
    /// What this build says of it on this machine.
    pub(crate) fn of(transport: &dyn Transport) -> Stamp {
        Stamp {
            name: transport.name().into(),
            version: transport.version().into(),
            about: transport.about().into(),
            missing: transport.missing(),
            floor: transport.is_floor(),
        }
    }
}

impl Env {
    /// The stamp of this run.
    pub(crate) fn collect(seed: u64) -> Env {
        Env {
            cpu: sys::processor_model().unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: sys::kernel(),
            libc: sys::libc_version(),
            rustc: env!("HARNESS_RUSTC").into(),
            profile: env!("HARNESS_PROFILE").into(),
            opt_level: env!("HARNESS_OPT").into(),
            debug_assertions: cfg!(debug_assertions),
            target: env!("HARNESS_TARGET").into(),
            revision: revision(),
            arguments: arguments(std::env::args().skip(1)),
            seed,
            started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            ending: String::new(),
            sources: SOURCES.into(),
            virtual_machine: sys::has_hypervisor(),
            emulated: emulation::anywhere().map(str::to_owned),
            transports: ALL.into_iter().map(Stamp::of).collect(),
        }
    }

    /// Whether speeds of this build are worth something to others.
    pub(crate) fn is_optimised(&self) -> bool {
        !self.debug_assertions && matches!(self.opt_level.as_str(), "2" | "3")
    }

    /// What to type for such a run again.
    pub(crate) fn command(&self) -> String {
        let release = if self.profile == "release" { "--release " } else { "" };
        let arguments = self.arguments.join(" ");
        format!("cargo run {release}-p harness -- {arguments}").trim_end().to_owned()
    }
}

/// The hash of ipmpsc's sources that this program was built with.
pub(crate) const SOURCES: &str = env!("HARNESS_SOURCES");

/// The command line without the folder of `--out`, which may name a user.
fn arguments(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut is_folder = false;
    let hide = |word: String| {
        let hidden = is_folder;
        is_folder = word == "--out";
        match (hidden, word.starts_with("--out=")) {
            (true, _) => "DIR".into(),
            (false, true) => "--out=DIR".into(),
            (false, false) => word,
        }
    };
    words.map(hide).collect()
}

/// The revision of the working tree that cargo runs this program from.
fn revision() -> String {
    let Some(folder) = std::env::var_os("CARGO_MANIFEST_DIR") else {
        return "unknown".into();
    };
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&folder).args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let Some(revision) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => revision,
        _ => format!("{revision} with changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_the_file() {
        let cell = Cell {
            producers: 2,
            size: 64,
            ring_bytes: 1 << 20,
            transport: "pipe".into(),
            twin: false,
            pinned: false,
        };
        let row = Row::PingPong(PingPongRow { cell, block: 1, round_trips: vec![(5, 2)] });
        let line = serde_json::to_string(&row).expect("plain data");
        let rows = parse_rows(&format!("{line}\n{line}\n")).expect("two rows were written");
        assert!(matches!(&rows[..], [Row::PingPong(a), Row::PingPong(_)] if a.block == 1));
        assert!(parse_rows("not a row\n").is_err());
    }

    #[test]
    fn the_stamp_does_not_say_where_the_results_went() {
        let words = ["verify", "--out", "/home/me", "-q", "--out=/home/me"].map(String::from);
        assert_eq!(arguments(words.into_iter()), ["verify", "--out", "DIR", "-q", "--out=DIR"]);
    }

    #[test]
    fn the_stamp_knows_the_compiler_and_every_transport() {
        let env = Env::collect(7);
        assert!(env.rustc.starts_with("rustc "), "{}", env.rustc);
        assert_eq!(env.transports.len(), ALL.len());
        assert!(!env.target.is_empty() && !env.opt_level.is_empty());
    }
}
