//! How much a run does: the tables behind `--profile`.
//!
//! The times were chosen on two processors: `quick` ends within 15 s, `default` within 90 s, both
//! with the three blocks that a verdict needs. `full` draws curves and takes what it takes; `scale`
//! draws those along one axis at a time, far beyond what a table has room for.

use std::time::Duration;

use clap::ValueEnum;

use crate::scenario::FRAME;

/// How much to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    Quick,
    #[default]
    Default,
    Full,
    Scale,
}

/// What a profile does where the command line does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    /// The time of all verifications together.
    pub(crate) verify: Duration,
    /// The time of the torture.
    pub(crate) torture: Duration,
    /// Nothing is repeated once more if the whole would then take longer than this.
    pub(crate) enough: Duration,
    /// After this nothing is begun.
    pub(crate) cap: Duration,
    /// How often each comparison is repeated at most.
    pub(crate) blocks: u32,
    /// What is compared; everything if empty.
    pub(crate) transports: &'static [&'static str],
    /// Numbers of producers beside the one of `--producers`.
    pub(crate) producers: &'static [u32],
    /// Of these numbers, those above so many for each processor are left out.
    pub(crate) crowd: u32,
    /// Sizes as fast as they go.
    pub(crate) throughput: Measured,
    /// Sizes as fast as they go from one producer only, as each message takes milliseconds.
    pub(crate) large: Measured,
    /// Rings of these sizes, beside the usual one, for each of `ringed`: one producer.
    pub(crate) rings: &'static [u64],
    /// Message sizes for these rings.
    pub(crate) ringed: &'static [u64],
    /// And for these rings from all of `--producers`.
    pub(crate) ringed_by_all: &'static [u64],
    /// Sizes each way in turn.
    pub(crate) ping_pong: Measured,
    /// Sizes at each of the offered rates.
    pub(crate) latency: Measured,
    /// Messages a second over all producers: as many as find a processor beside the consumer's, as
    /// more would offer what the scheduler makes of it.
    pub(crate) offered_per_s: &'static [u64],
    /// Whether all of `--producers` offer it as well.
    pub(crate) offered_by_all: bool,
    /// How often a producer joins in one run; if never, nothing waits or counts memory either.
    pub(crate) joins: u32,
    /// How long a consumer waits for nothing.
    pub(crate) idle: Duration,
}

/// Message sizes, and how long each is measured in one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) sizes: &'static [u64],
    pub(crate) time: Duration,
}

const fn measured(sizes: &'static [u64], millis: u64) -> Measured {
    Measured { sizes, time: Duration::from_millis(millis) }
}

/// More producers than this for each processor show only how the scheduler copes.
const CROWD: u32 = 4;

/// One rival of each family, and what the harness costs.
const MAIN: &[&str] = &[
    "ipmpsc",
    "ipmpsc-zero-copy",
    "ipmpsc-0.5.1",
    "ipc-channel",
    "pipe",
    "unix-seqpacket",
    "null",
];

const QUICK: Table = Table {
    verify: Duration::from_secs(3),
    torture: Duration::from_secs(5),
    enough: Duration::from_secs(13),
    cap: Duration::from_secs(14),
    blocks: 3,
    transports: MAIN,
    producers: &[],
    crowd: CROWD,
    throughput: measured(&[64, 64 << 10], 30),
    large: measured(&[], 0),
    rings: &[],
    ringed: &[],
    ringed_by_all: &[],
    ping_pong: measured(&[64], 25),
    latency: measured(&[64], 60),
    offered_per_s: &[10_000],
    offered_by_all: false,
    joins: 8,
    idle: Duration::from_millis(300),
};

const DEFAULT: Table = Table {
    verify: Duration::from_secs(12),
    torture: Duration::from_secs(12),
    enough: Duration::from_secs(80),
    cap: Duration::from_secs(84),
    blocks: 3,
    transports: &[],
    producers: &[1],
    crowd: CROWD,
    throughput: measured(&[64, 1 << 10, 64 << 10], 35),
    large: measured(&[FRAME], 80),
    rings: &[],
    ringed: &[],
    ringed_by_all: &[],
    ping_pong: measured(&[64, 64 << 10], 30),
    latency: measured(&[64], 80),
    offered_per_s: &[2_000, 20_000],
    offered_by_all: false,
    joins: 8,
    idle: Duration::from_millis(500),
};

const FULL: Table = Table {
    verify: Duration::from_secs(30),
    torture: Duration::from_secs(12),
    enough: Duration::MAX,
    cap: Duration::MAX,
    // The fewest whose range holds the true median with 95 %.
    blocks: 6,
    transports: &[],
    producers: &[1, 2, 4, 8, 16],
    crowd: CROWD,
    throughput: measured(&[64, 256, 1 << 10, 4 << 10, 64 << 10, 1 << 20], 50),
    // A ring of five frames goes round some dozens of times, also where copies are slow.
    large: measured(&[FRAME], 400),
    rings: &[],
    ringed: &[],
    ringed_by_all: &[],
    ping_pong: measured(&[64, 1 << 10, 64 << 10], 60),
    latency: measured(&[64], 150),
    offered_per_s: &[1_000, 5_000, 20_000, 50_000, 100_000, 200_000],
    offered_by_all: true,
    joins: 16,
    idle: Duration::from_secs(2),
};

const SCALE: Table = Table {
    transports: &[
        "ipmpsc",
        "ipmpsc-zero-copy",
        "ipmpsc-bytes",
        "ipmpsc-batch",
        "ipmpsc-0.5.1-zero-copy",
        "ipc-channel-bytes",
        "pipe",
        "unix-seqpacket",
        "null",
    ],
    producers: &[1, 2, 4, 8, 16, 32, 64],
    crowd: u32::MAX,
    throughput: measured(&[64, 4 << 10], 60),
    large: measured(
        &[16, 256, 1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20],
        120,
    ),
    // From one page to what no cache and hardly any page table has room for.
    rings: &[
        4 << 10,
        16 << 10,
        64 << 10,
        256 << 10,
        4 << 20,
        16 << 20,
        64 << 20,
        256 << 20,
        1 << 30,
    ],
    ringed: &[64, 1 << 10],
    ringed_by_all: &[64 << 10],
    ping_pong: measured(&[], 0),
    latency: measured(&[], 0),
    offered_per_s: &[],
    joins: 0,
    ..FULL
};

impl Profile {
    /// What it does.
    pub(crate) fn table(self) -> &'static Table {
        match self {
            Profile::Quick => &QUICK,
            Profile::Default => &DEFAULT,
            Profile::Full => &FULL,
            Profile::Scale => &SCALE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{payload::TIMED_LEN, transports::find};

    #[test]
    fn the_tables_name_what_exists_and_what_can_be_measured() {
        for table in [QUICK, DEFAULT, FULL, SCALE] {
            assert!(table.transports.iter().all(|name| find(name).is_some()));
            assert!(table.latency.sizes.iter().all(|&size| size >= TIMED_LEN as u64));
            assert!(table.enough <= table.cap);
        }
    }

    #[test]
    fn every_profile_repeats_often_enough_for_a_verdict() {
        // From six values on, their order gives an interval that holds the median 19 times in 20.
        for (profile, least) in [Profile::Quick, Profile::Default, Profile::Full, Profile::Scale]
            .into_iter()
            .zip([3, 3, 6, 6])
        {
            assert!(profile.table().blocks >= least, "{profile:?}");
        }
    }
}
