//! Random plans in lockstep, and the plans that failed once and are kept.

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{failure, trial};
use crate::{
    payload::{HEADER_LEN, mix},
    plan::{Plan, Way},
    regression,
    session::Session,
    transports::is_ours,
};

/// Which forms take turns when none is named.
const OURS: [&str; 3] = ["ipmpsc-bytes", "ipmpsc", "ipmpsc-zero-copy"];
/// Small rings, so that a few messages go all around.
const RINGS: [u64; 4] = [64, 128, 256, 512];
const PRODUCERS_MAX: u32 = 3;
const MESSAGES_MAX: u64 = 4;
const TYPED_EXTRA: u64 = 8;

/// What has failed before, then so many plans, each with its own seed; of both only those that have
/// `only` in their names.
pub(super) fn run(session: &mut Session, count: u64, only: &str) -> Result<()> {
    kept(session, only)?;
    let named = session.options.transports.clone();
    let forms: Vec<_> = named.into_iter().filter(|name| is_ours(name)).collect();
    let forms = if forms.is_empty() { OURS.to_vec() } else { forms };
    session.progress.begin("lockstep", count);
    let (mut turns, mut deaths) = (0, 0);
    for (number, form) in (0..count).zip(forms.iter().cycle()) {
        if session.is_over() {
            break;
        }
        let plan = draw(session.options.seed, number, form);
        let name = format!("schedule {number} ({form})");
        if !name.contains(only) {
            continue;
        }
        session.progress.step(&name);
        let evidence = failure::evidence(session)?;
        let trial = trial::improvise(session, &plan, evidence.as_ref());
        turns += trial.history.len();
        deaths += trial.plan.faults.len();
        if trial.verdict.is_ok() {
            session.pass();
        } else {
            failure::report(session, &name, &trial, evidence.as_ref())?;
        }
        session.progress.stepped();
    }
    session.progress.end();
    session.progress.say(&format!("lockstep: {turns} steps, {deaths} deaths"));
    Ok(())
}

/// The plan of this number.
fn draw(seed: u64, number: u64, form: &str) -> Plan {
    let mut random = Pcg64Mcg::seed_from_u64(mix(seed ^ mix(number)));
    let ring_bytes = RINGS[random.random_range(0..RINGS.len())];
    let most = usize::try_from(ring_bytes - TYPED_EXTRA).expect("a small ring");
    let lengths = [HEADER_LEN, HEADER_LEN + 16, most / 2, most];
    let longest = lengths[random.random_range(0..lengths.len())].clamp(HEADER_LEN, most);
    Plan {
        note: String::new(),
        mutant: String::new(),
        way: Way::Lockstep,
        transport: form.into(),
        ring_bytes,
        producers: random.random_range(1..=PRODUCERS_MAX),
        messages: random.random_range(1..=MESSAGES_MAX),
        longest,
        seed: random.random::<u64>() >> 1,
        schedule: Vec::new(),
        faults: Vec::new(),
    }
}

/// Runs what has failed before, has `only` in its name, and can run in this build.
pub(super) fn kept(session: &mut Session, only: &str) -> Result<()> {
    let all = regression::plans()?.into_iter();
    let chosen = all.filter(|(name, plan)| name.contains(only) && trial::can_run(plan));
    for (name, plan) in chosen {
        if session.is_over() {
            break;
        }
        session.progress.step(&name);
        let evidence = failure::evidence(session)?;
        let trial = trial::run(session, &plan, evidence.as_ref());
        if trial.verdict.is_ok() {
            session.pass();
        } else {
            failure::report(session, &name, &trial, evidence.as_ref())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawn_plan_is_one_and_seeds_differ() {
        let plans: Vec<_> = (0..500).map(|number| draw(7, number, OURS[0])).collect();
        for plan in &plans {
            assert_eq!(Plan::parse(&plan.text()).as_ref(), Ok(plan));
        }
        assert!(RINGS.iter().all(|&ring| plans.iter().any(|plan| plan.ring_bytes == ring)));
        assert_ne!(draw(7, 0, OURS[0]), draw(8, 0, OURS[0]));
        assert_eq!(draw(7, 0, OURS[0]), plans[0]);
    }
}
