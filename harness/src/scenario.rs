//! What runs when nothing else is said, as tables.

use std::ops::RangeInclusive;

use crate::{coverage::Grain, protocol::Mix};

/// How many producers a scenario has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Producers {
    One,
    /// As many as `--producers` says.
    All,
    /// Likewise, and two at least.
    Several,
}

/// What ends a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// A full map of this grain.
    Map(Grain),
    /// Every sequence of four lengths through every ring of `SEQUENCE_CAPACITIES`.
    Sequences,
    /// Every form of every call.
    Promises,
    /// Its share of the time.
    Time(Mix),
}

/// One verification.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Which form of ipmpsc, by place among the transports to be verified.
    pub(crate) form: usize,
    pub(crate) ring_bytes: u64,
    pub(crate) producers: Producers,
    pub(crate) aim: Aim,
    /// Parts of the time; the sum over the table is the whole.
    pub(crate) share: u32,
}

const fn scenario(
    name: &'static str,
    form: usize,
    ring_bytes: u64,
    producers: Producers,
    aim: Aim,
    share: u32,
) -> Scenario {
    Scenario { name, form, ring_bytes, producers, aim, share }
}

/// Verifications, from the smallest ring to the most messages.
pub(crate) const VERIFY: [Scenario; 15] = {
    use Grain::{Any, Magnitudes, Residues};
    use Producers::{All, One, Several};
    [
        scenario("single calls", 2, 256, One, Aim::Promises, 5),
        scenario("every sequence, smallest rings", 2, 256, One, Aim::Sequences, 22),
        scenario("smallest ring", 2, 64, One, Aim::Map(Residues), 4),
        scenario("smallest ring, shared", 2, 64, All, Aim::Map(Residues), 5),
        scenario("128 B ring, shared", 0, 128, All, Aim::Map(Residues), 6),
        scenario("256 B ring", 1, 256, One, Aim::Map(Residues), 5),
        scenario("4 KiB ring", 0, 4 << 10, One, Aim::Map(Magnitudes), 5),
        scenario("4 KiB ring, shared", 2, 4 << 10, All, Aim::Map(Any), 4),
        scenario("64 KiB ring, shared", 1, 64 << 10, All, Aim::Map(Any), 4),
        scenario("1 MiB ring", 2, 1 << 20, One, Aim::Map(Magnitudes), 6),
        scenario("1 MiB ring, shared", 0, 1 << 20, All, Aim::Map(Any), 6),
        scenario("8 MiB ring, shared", 1, 8 << 20, All, Aim::Map(Any), 3),
        scenario("order across producers, 1 KiB ring", 2, 1 << 10, Several, ORDER, 5),
        scenario("order across producers, 16 KiB ring", 0, 16 << 10, Several, ORDER, 5),
        scenario("short messages, shared", 2, 1 << 20, All, Aim::Time(Mix::Short), 15),
    ]
};
const ORDER: Aim = Aim::Time(Mix::Named);

/// The verification of this name, or those whose names contain it; all if none is given.
pub(crate) fn chosen(only: Option<&str>) -> Vec<&'static Scenario> {
    let is_exact = VERIFY.iter().any(|scenario| Some(scenario.name) == only);
    let is_chosen = |scenario: &&Scenario| {
        only.is_none_or(|only| scenario.name == only || !is_exact && scenario.name.contains(only))
    };
    VERIFY.iter().filter(is_chosen).collect()
}

/// The smallest rings, all of them.
pub(crate) const SEQUENCE_CAPACITIES: RangeInclusive<u64> = 64..=256;

/// A 3840x2160 frame in YUV 4:2:0, the message that ipmpsc was made for.
pub(crate) const FRAME: u64 = 3840 * 2160 * 3 / 2;
/// The ring of the comparison.
pub(crate) const RING_BYTES: u64 = 1 << 20;
/// Rings of the torture, one after the other.
pub(crate) const TORTURE_RINGS: [u64; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
/// Kills of the torture.
pub(crate) const KILLS: u64 = 1_000;
/// The longest that the survivors may be held up by a dead producer.
pub(crate) const SILENCE_MAX_MS: u64 = 200;

/// The same, where an emulator stands in for the machine: it takes a process much longer to start
/// there, and the system does not say how long one was kept waiting.
pub(crate) const fn silence_max_ms(is_emulated: bool) -> u64 {
    if is_emulated { 1_000 } else { SILENCE_MAX_MS }
}

/// Against what the transport of this name is held: the old release and ipc-channel, each in the
/// form that does the same for its user.
pub(crate) fn rivals(transport: &str) -> [&'static str; 2] {
    match transport {
        "ipmpsc-zero-copy" | "ipmpsc-batch" => ["ipmpsc-0.5.1-zero-copy", "ipc-channel"],
        "ipmpsc-bytes" | "ipc-channel-bytes" | "pipe" | "unix-seqpacket" | "unix-stream"
        | "tcp" | "posix-mq" | "iceoryx2" => ["ipmpsc-0.5.1-zero-copy", "ipc-channel-bytes"],
        _ => ["ipmpsc-0.5.1", "ipc-channel"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transports::{ALL, Transport, find, is_ours};

    #[test]
    fn typed_rows_are_held_against_typed_rows_and_raw_ones_against_raw_ones() {
        let is_typed = |transport: &dyn Transport| transport.about().starts_with("typed");
        for transport in ALL.into_iter().filter(|transport| transport.joins_processes()) {
            let [_, foreign] = rivals(transport.name());
            let foreign = find(foreign).expect("it exists");
            assert_eq!(is_typed(transport), is_typed(foreign), "{}", transport.name());
            assert!(is_typed(transport) || transport.about().starts_with("raw bytes"));
        }
    }

    #[test]
    fn the_tables_name_what_exists() {
        for transport in ALL {
            for rival in rivals(transport.name()) {
                assert!(find(rival).is_some(), "{rival}");
            }
        }
        let forms = ALL.iter().filter(|transport| is_ours(transport.name())).count();
        assert!(VERIFY.iter().all(|scenario| scenario.form < forms));
        assert_eq!(VERIFY.iter().map(|scenario| scenario.share).sum::<u32>(), 100);
    }

    #[test]
    fn a_whole_name_chooses_one_and_a_part_of_it_all_that_have_it() {
        let names = |only| chosen(only).into_iter().map(|scenario| scenario.name);
        assert_eq!(names(None).count(), VERIFY.len());
        assert!(names(Some("256 B ring")).eq(["256 B ring"]));
        assert!(names(Some("order")).eq(names(Some("order across producers, "))));
        assert_eq!(names(Some("nothing")).count(), 0);
    }

    #[test]
    fn stamps_are_kept_for_all_that_waits_in_a_ring() {
        let named = VERIFY.iter().filter(|scenario| scenario.aim == ORDER);
        // A message that says which it is, and its record's header.
        let most = named.map(|scenario| scenario.ring_bytes / 32).max();
        assert!(most.is_some_and(|most| most < crate::order::KEPT));
    }
}
