//! What runs when nothing else is said, as tables.

use crate::protocol::Mix;

/// How many producers a scenario has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Producers {
    One,
    /// As many as `--producers` says.
    All,
}

/// One verification.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Which form of ipmpsc, by place among the transports to be verified.
    pub(crate) form: usize,
    pub(crate) ring_bytes: u64,
    pub(crate) producers: Producers,
    pub(crate) mix: Mix,
    /// Parts of the time; the sum over the table is the whole.
    pub(crate) share: u32,
}

const fn scenario(
    name: &'static str,
    form: usize,
    ring_bytes: u64,
    producers: Producers,
    mix: Mix,
    share: u32,
) -> Scenario {
    Scenario { name, form, ring_bytes, producers, mix, share }
}

/// Verifications, from the smallest ring to the most messages.
pub(crate) const VERIFY: [Scenario; 10] = [
    scenario("smallest ring", 2, 64, Producers::One, Mix::Boundaries, 4),
    scenario("smallest ring, shared", 2, 64, Producers::All, Mix::Boundaries, 4),
    scenario("256 B ring", 1, 256, Producers::One, Mix::Boundaries, 6),
    scenario("256 B ring, shared", 0, 256, Producers::All, Mix::Boundaries, 6),
    scenario("4 KiB ring", 0, 4 << 10, Producers::One, Mix::Boundaries, 8),
    scenario("4 KiB ring, shared", 2, 4 << 10, Producers::All, Mix::Boundaries, 8),
    scenario("64 KiB ring, shared", 1, 64 << 10, Producers::All, Mix::Boundaries, 8),
    scenario("1 MiB ring", 2, 1 << 20, Producers::One, Mix::Boundaries, 8),
    scenario("1 MiB ring, shared", 0, 1 << 20, Producers::All, Mix::Boundaries, 8),
    scenario("short messages, shared", 2, 1 << 20, Producers::All, Mix::Short, 40),
];

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
}
