//! The table itself, in the order of the design's sections.

use super::{
    Alone, Entry, Field,
    How::{self, Crate, Load, No, Swept},
    around, both,
};

/// A scenario of one process over both crates: whether 0.5.1 is known to fail, what ours documents
/// instead of surviving, and whether it needs a tiny file system.
macro_rules! alone {
    ($scenario:ident, $old_fails:expr, $documented:expr, $tiny:expr) => {
        alone!(both, $scenario, $old_fails, $documented, $tiny)
    };
    ($file:ident, $scenario:ident, $old_fails:expr, $documented:expr, $tiny:expr) => {
        How::Alone(Alone {
            ours: $file::ours::$scenario,
            old: $file::old::$scenario,
            old_fails: $old_fails,
            documented: $documented,
            tiny: $tiny,
        })
    };
}

const fn entry(id: &'static str, fault: &'static str, how: How) -> Entry {
    Entry { id, fault, how }
}

/// Every row.
pub(crate) const CATALOGUE: [Entry; 111] = [
    entry("P1", "producer killed before its claim", Swept("send")),
    entry("P2", "killed with the claim word", Swept("send")),
    entry(
        "P3",
        "killed between claim and owner label",
        No("a claim and its owner are one word here"),
    ),
    entry("P4", "killed before the first byte of its payload", Swept("send")),
    entry("P5", "killed amid the copy", Swept("send")),
    entry("P6", "killed before the commit", Swept("send")),
    entry("P7", "killed after the commit, before the wake", Swept("receiver asleep")),
    entry("P8", "killed before the call that wakes", Swept("receiver asleep")),
    entry("P9", "killed after the wake, before it returns", Swept("receiver asleep")),
    entry("P10", "killed after the pad at the end", Swept("at the wrap")),
    entry("P11", "killed asleep in front of a full ring", Load("kill producer")),
    entry("P12", "killed with a reservation", Swept("in place")),
    entry(
        "P13",
        "two killed side by side",
        Crate("senders_killed_side_by_side_do_not_hold_up_the_one_behind_them"),
    ),
    entry("P14", "all producers killed at once", How::Field(Field::KillAll)),
    entry("P15", "killed while it attaches", Swept("attach to send")),
    entry("P16", "killed while it leaves", Swept("leave")),
    entry(
        "P17",
        "SIGSEGV with a large core dump",
        No("a dump goes wherever the machine sends it; alive until it ends"),
    ),
    entry(
        "P18",
        "killed for want of memory",
        No("the same SIGKILL, but it may choose any other process"),
    ),
    entry("P19", "exec amid a send", Crate("a_claim_goes_with_its_process_whatever_ends_it")),
    entry(
        "P20",
        "abort, bad access or exit of another thread amid a send",
        Crate("a_claim_goes_with_its_process_whatever_ends_it"),
    ),
    entry("P21", "producers killed in their sends", How::Field(Field::KillProducers)),
    entry("S1", "producer stopped", How::Field(Field::FreezeProducer)),
    entry("S2", "stopped with the claim word", Swept("send")),
    entry("S3", "stopped until the ring is full", Load("freeze producer")),
    entry("S4", "stopped, then killed", Load("kill stopped producer")),
    entry(
        "S5",
        "a living slot judged dead",
        No("only the kernel answers for a lock; ci/sim.sh gives the ring wrong answers"),
    ),
    entry("S6", "all stopped and resumed, as by a freezer", How::Field(Field::Blink)),
    entry("S7", "all on one processor, producers killed", How::Field(Field::OneProcessor)),
    entry(
        "S8",
        "panic with a reservation",
        Crate("a_reservation_dropped_shortened_or_overfilled_is_what_was_written_or_nothing"),
    ),
    entry("C1", "consumer killed asleep", Swept("receiver asleep")),
    entry("C2", "killed amid a receive", Swept("receive")),
    entry("C3", "killed after it freed the space", Swept("receive typed")),
    entry("C4", "killed with a borrowed message", Load("kill consumer")),
    entry("C5", "killed while it frees space", Swept("sender asleep")),
    entry("C6", "killed while it recovers a record", Swept("recover")),
    entry("C7", "consumer killed, and none comes back", How::Field(Field::LoseConsumer)),
    entry("C8", "second consumer", alone!(second_receiver, true, None, false)),
    entry("C9", "old consumer stopped, new one started", Swept("receive")),
    entry("C10", "consumer stopped while the ring fills", How::Field(Field::FreezeConsumer)),
    entry("C11", "restart into leftovers", Load("kill consumer")),
    entry("C12", "killed at every instruction of a receive", Swept("receive")),
    entry("C13", "message that cannot be decoded", alone!(undecodable, true, None, false)),
    entry("C14", "slow consumer", How::Field(Field::SlowConsumer)),
    entry(
        "F1",
        "file truncated in use",
        alone!(
            truncated,
            true,
            Some("SIGBUS, as documented; a sealed memfd cannot be truncated"),
            false
        ),
    ),
    entry("F2", "create on a live ring's path", alone!(create_over_live, true, None, false)),
    entry("F3", "file grown in use", alone!(grown, false, None, false)),
    entry("F4", "unlinked in use", alone!(unlinked, false, None, false)),
    entry("F5", "replaced in use", alone!(replaced, false, None, false)),
    entry("F6", "removed by a cleaner of old files", No("the same unlink as F4")),
    entry(
        "F7",
        "hole punched in use",
        Crate("a_hole_punched_into_the_records_is_corruption_and_not_an_empty_ring"),
    ),
    entry("F8", "no space at create", alone!(no_space, true, None, true)),
    entry("F9", "no space later", alone!(space_runs_out, true, None, true)),
    entry("F10", "RLIMIT_FSIZE below the size", alone!(file_limit, true, None, false)),
    entry("F11", "memory limit of a group too small", No("pages are taken at create, as F9 shows")),
    entry("F12", "symlink, folder or FIFO at the path", alone!(odd_paths, true, None, false)),
    entry(
        "F13",
        "file of another user, or writable by others",
        Crate("a_file_that_others_may_write_is_trusted_only_if_asked"),
    ),
    entry("F14", "file system read-only", alone!(around, read_only, false, None, true)),
    entry(
        "F15",
        "locks refused by the system",
        Crate("where_files_cannot_be_locked_it_is_said_at_once"),
    ),
    entry(
        "F16",
        "copy of a ring opened",
        Crate("a_copied_file_is_a_crashed_ring_and_gives_what_was_in_it"),
    ),
    entry("F17", "file system without coherent mappings", No("needs such a file system mounted")),
    entry("H1", "a file that is no ring", alone!(not_a_ring, true, None, false)),
    entry("H2", "other byte order", Crate("a_header_that_makes_no_sense_is_told_by_its_own_error")),
    entry(
        "H3",
        "capacity and offsets overwritten",
        Crate("a_header_that_makes_no_sense_is_told_by_its_own_error"),
    ),
    entry("H4", "head overwritten", Crate("words_poked_under_way_are_an_error_or_a_wait_in_time")),
    entry("H5", "tail overwritten", Crate("words_poked_under_way_are_an_error_or_a_wait_in_time")),
    entry(
        "H6",
        "record length overwritten",
        Crate("words_poked_under_way_are_an_error_or_a_wait_in_time"),
    ),
    entry(
        "H7",
        "record state overwritten",
        Crate("words_poked_under_way_are_an_error_or_a_wait_in_time"),
    ),
    entry(
        "H8",
        "slot of a record overwritten",
        Crate("words_poked_under_way_are_an_error_or_a_wait_in_time"),
    ),
    entry(
        "H9",
        "record of a living process never finished",
        Crate("a_stopped_sender_keeps_what_it_has_claimed_and_sends_it_when_it_goes_on"),
    ),
    entry(
        "H10",
        "every word of the header overwritten in use",
        alone!(flipped_header, true, None, false),
    ),
    entry(
        "H11",
        "overwritten at memory speed",
        Crate("nonsense_written_at_the_same_time_is_survived"),
    ),
    entry(
        "H12",
        "payload changed while it is received; borrowed, it is outside the contract",
        Crate("nonsense_written_at_the_same_time_is_survived"),
    ),
    entry("H13", "after corruption", Crate("corruption_stays_and_a_new_ring_is_the_way_out")),
    entry("R1", "no descriptors left", alone!(descriptor_limit, false, None, false)),
    entry(
        "R2",
        "no address space left",
        Crate("running_out_of_address_space_is_an_error_that_leaves_nothing_behind"),
    ),
    entry(
        "R3",
        "no memory for a large message",
        Crate("lengths_that_lie_allocate_nothing_and_are_an_error"),
    ),
    entry("R4", "more senders than slots, who come and go", alone!(churn, false, None, false)),
    entry("R5", "signals all the time", alone!(signal_storm, false, None, false)),
    entry("R6", "send from a signal handler", No("documented as not allowed")),
    entry("R7", "wall clock steps", alone!(around, clock_steps, true, None, false)),
    entry("R8", "suspend", No("needs a machine that sleeps")),
    entry("R9", "longest timeout", alone!(longest_timeout, true, None, false)),
    entry("R10", "no futex", alone!(around, no_futex, true, None, false)),
    entry(
        "R11",
        "large positions",
        Crate("a_thousand_messages_pass_positions_of_any_size_in_order"),
    ),
    entry("R12", "waits woken for nothing", alone!(around, woken_for_nothing, false, None, false)),
    entry("L1", "fork with an open sender", Crate("a_sender_works_on_both_sides_of_a_fork")),
    entry(
        "L2",
        "fork, and the parent dies",
        Crate("a_dead_parents_place_is_free_though_its_child_lives"),
    ),
    entry(
        "L3",
        "all descriptors closed",
        Crate("a_sender_lives_on_when_all_its_descriptors_are_closed"),
    ),
    entry("L4", "opened twice, dropped once", alone!(opened_twice, false, None, false)),
    entry(
        "L5",
        "senders leave while others wait",
        Crate("disconnected_comes_after_the_last_message_of_the_last_sender"),
    ),
    entry(
        "L6",
        "receiver leaves while senders wait",
        Crate("blocked_senders_are_counted_and_return_when_the_receiver_leaves"),
    ),
    entry("L7", "guard forgotten", alone!(forgotten_context, false, None, false)),
    entry("L8", "longjmp", No("undefined in Rust")),
    entry("L9", "opened before it is made", Swept("create")),
    entry("L10", "creator dies", Swept("create")),
    entry(
        "L11",
        "many create or open at once",
        Crate("of_sixteen_that_open_or_create_at_once_one_creates"),
    ),
    entry("M1", "message of no bytes", alone!(empty_message, true, None, false)),
    entry("M2", "message larger than the ring", alone!(too_large, false, None, false)),
    entry(
        "M3",
        "largest message in the middle of the ring",
        Crate("the_largest_message_passes_wherever_the_tail_stands"),
    ),
    entry("M4", "Serialize panics", alone!(panicking_value, false, None, false)),
    entry("M5", "Serialize lies about its size", alone!(lying_value, true, None, false)),
    entry("M6", "Serialize sends on the same ring", alone!(reentrant_value, true, None, false)),
    entry("M7", "another type asked for", Crate("a_message_of_the_wrong_type_costs_itself_only")),
    entry("M8", "length of a terabyte", alone!(hostile_length, false, None, false)),
    entry("M9", "Deserialize panics", alone!(panicking_receive, false, None, false)),
    entry("M10", "two receives on one context", alone!(received_twice, true, None, false)),
    entry("M11", "all sizes, all alignments", Load("kill producer")),
    entry(
        "M12",
        "one process id in two namespaces",
        Crate("two_processes_with_one_id_in_two_namespaces_are_two"),
    ),
    entry("M13", "ring of two users", Crate("another_users_ring_opens_only_if_both_agree")),
    entry("M14", "Windows", No("not Linux")),
    entry("M15", "wine", No("not Linux")),
];
