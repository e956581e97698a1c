//! The real `ring.rs` in a deterministic simulation: virtual processes that a schedule lets make
//! one access of shared memory at a time, kills, freezes, wakes too early, takes for dead and
//! starts anew. proptest draws the schedules and shrinks one that breaks a promise.
//!
//! What it checks: G1 (nothing committed is lost), G2 (nothing comes twice but what a dead receiver
//! had not freed), G3 (each sender's order), G4 (nothing is torn), G5 (nobody waits longer than a
//! nap after a death, and without a death nobody needs a nap's end). What it cannot show: orderings
//! weaker than sequential consistency (loom's part), the loops of `sender` and `receiver`, of which
//! it has copies, real processes, locks and files.

mod machine;
mod processes;
pub(crate) mod stepped;

use machine::{Kind, Machine};
use processes::{Job, receive_all, send_all};
use proptest::prelude::*;

/// A step of a schedule. A number means one of the living processes, modulo how many there are.
#[derive(Clone, Debug)]
enum Act {
    Run { who: u8, steps: u8 },
    Kill(u8),
    Freeze(u8),
    Thaw(u8),
    EndNap(u8),
    EvictAny,
    StartSender(Vec<Job>),
    StartReceiver(u64),
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let words = || prop_oneof![4 => 1..4_u64, 1 => 1..20_u64];
    let job = prop_oneof![
        4 => words().prop_map(Job::Message),
        1 => prop::collection::vec(1..4_u64, 1..4).prop_map(Job::Batch),
        1 => (words(), words()).prop_map(|(a, b)| Job::Shortened(a.max(b), a.min(b))),
        1 => words().prop_map(Job::Given),
    ];
    prop::collection::vec(job, 1..5)
}

fn act(faults: bool) -> impl Strategy<Value = Act> {
    let rare = u32::from(faults);
    prop_oneof![
        30 => (any::<u8>(), 1..12_u8).prop_map(|(who, steps)| Act::Run { who, steps }),
        10 => (any::<u8>(), 12..60_u8).prop_map(|(who, steps)| Act::Run { who, steps }),
        2 => any::<u8>().prop_map(Act::Freeze),
        2 => any::<u8>().prop_map(Act::Thaw),
        2 => any::<u8>().prop_map(Act::EndNap),
        2 => jobs().prop_map(Act::StartSender),
        1 => (1..4_u64).prop_map(Act::StartReceiver),
        3 * rare => any::<u8>().prop_map(Act::Kill),
        3 * rare => Just(Act::EvictAny),
    ]
}

fn perform(machine: &mut Machine, act: Act) {
    match act {
        Act::StartSender(jobs) => {
            machine.start(Kind::Sender, move |world, me| send_all(world, me, &jobs));
        }
        Act::StartReceiver(limit) => {
            machine.start(Kind::Receiver, move |world, me| receive_all(world, me, limit));
        }
        Act::EvictAny => machine.evict_any(),
        Act::Run { who, .. }
        | Act::Kill(who)
        | Act::Freeze(who)
        | Act::Thaw(who)
        | Act::EndNap(who) => {
            let Some(process) = machine.pick(who) else {
                return;
            };
            match act {
                Act::Run { steps, .. } => (0..steps).for_each(|_| machine.run(process)),
                Act::Kill(_) => machine.kill(process),
                Act::Freeze(_) => machine.freeze(process, true),
                Act::Thaw(_) => machine.freeze(process, false),
                _ => machine.end_nap(process),
            }
        }
    }
}

/// Runs a schedule, and then everybody to the end.
fn simulate(
    words: u64,
    warm: u64,
    position: u64,
    first: [Vec<Job>; 2],
    limit: u64,
    schedule: Vec<Act>,
) {
    let mut machine = Machine::new(8 * words, 8 * warm, 8 * position);
    perform(&mut machine, Act::StartReceiver(limit));
    for jobs in first {
        perform(&mut machine, Act::StartSender(jobs));
    }
    for act in schedule {
        perform(&mut machine, act);
    }
    machine.run_to_the_end(|machine| perform(machine, Act::StartReceiver(limit)));
}

/// Cases a test, at most; `ci/sim.sh` asks for many more.
fn cases() -> u32 {
    let asked = std::env::var("IPMPSC_SIM_CASES").ok();
    asked.map_or(3000, |asked| asked.parse().expect("IPMPSC_SIM_CASES is a number"))
}

/// Places to begin at: the ring's, and where 32 bits end.
fn position() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), (1_u64 << 29) - 8..(1 << 29) + 8, 0..100_u64]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_schedule_loses_a_message_or_a_wake(
        words in 4..24_u64,
        warm in 1..10_u64,
        position in position(),
        first in [jobs(), jobs()],
        limit in 1..4_u64,
        schedule in prop::collection::vec(act(false), 0..60),
    ) {
        simulate(words, warm.min(words), position, first, limit, schedule);
    }

    #[test]
    fn no_schedule_with_deaths_breaks_a_promise(
        words in 4..24_u64,
        warm in 1..10_u64,
        position in position(),
        first in [jobs(), jobs()],
        limit in 1..4_u64,
        schedule in prop::collection::vec(act(true), 0..60),
    ) {
        simulate(words, warm.min(words), position, first, limit, schedule);
    }
}
