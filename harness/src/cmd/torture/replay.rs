//! A plan again and again: how often it fails, and whether a smaller one fails as often.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    evidence::replay_command,
    failure,
    trial::{self, Trial},
};
use crate::{
    plan::{Fault, Plan, Way},
    record::FailedRow,
    session::Session,
    shrink::{Over, shrink, with_points},
    stats::proportion,
    sys::Deadline,
};

/// How long a shrinking takes at most, unless said otherwise.
const BUDGET: Duration = Duration::from_secs(120);
/// Runs that measure the rate before shrinking, and of each smaller plan: under load, and in
/// lockstep, where one run says all.
const MEASURE: (u32, u32) = (10, 2);
const TRY: (u32, u32) = (5, 1);
/// Of the rate that was measured, what a smaller plan must keep.
const KEPT: f64 = 0.8;

/// Runs it so often and says how often it failed.
pub(super) fn replay(session: &mut Session, path: &Path, plan: &Plan, times: u32) -> Result<()> {
    session.progress.begin("replay", times.into());
    let mut count = Count::default();
    for _ in 0..times {
        let trial = trial::run(session, plan, None);
        if session.is_over() {
            break;
        }
        count.add(trial);
        session.progress.stepped();
    }
    session.progress.end();
    let Count { failed, runs, first, histories, unmet } = count;
    session.progress.insist(&rate_text(failed, runs));
    if plan.way == Way::Lockstep {
        let same = if histories.len() <= 1 { "the same history each time" } else { "DIFFERENT" };
        session.progress.insist(&format!("histories: {} ({same})", histories.len()));
        if histories.len() > 1 {
            session.inconclusive("the plan did not decide everything that happened");
        }
    }
    for Fault { who, at, passage, .. } in unmet {
        let at = at.unwrap_or_default();
        session.progress.insist(&format!("{who} never stood at {at:?} {passage} times"));
    }
    match first {
        Some(what) => {
            let (command, name) = ("replay".into(), path.display().to_string());
            session.fail(FailedRow { command, name, transport: plan.transport.clone(), what })
        }
        None => {
            session.pass();
            Ok(())
        }
    }
}

/// What several runs of a plan have come to.
#[derive(Default)]
struct Count {
    failed: u32,
    runs: u32,
    /// The first failure's words.
    first: Option<String>,
    /// Those that differ.
    histories: Vec<Vec<String>>,
    /// Faults of the plan that did not come about, though a run came to its end.
    unmet: Vec<Fault>,
}

impl Count {
    fn add(&mut self, trial: Trial) {
        self.runs += 1;
        if let Some(what) = trial.failure() {
            self.failed += 1;
            self.first.get_or_insert_with(|| what.into());
        } else {
            self.unmet = trial.unmet;
        }
        if !self.histories.contains(&trial.history) {
            self.histories.push(trial.history);
        }
    }
}

fn rate_text(failed: u32, runs: u32) -> String {
    let Some((low, high)) = proportion(failed, runs) else { return "nothing was run".into() };
    let percent = |part: f64| (100.0 * part).round();
    format!(
        "failed {failed} of {runs} ({} %, 95 % interval {} to {} %)",
        percent(f64::from(failed) / f64::from(runs)),
        percent(low),
        percent(high)
    )
}

/// Makes it as small as time allows, and leaves the smallest beside it.
pub(super) fn shrink_plan(session: &mut Session, path: &Path, plan: &Plan) -> Result<()> {
    let deadline = Deadline::after(session.options.duration.unwrap_or(BUDGET));
    let in_lockstep = plan.way == Way::Lockstep;
    let of = |pair: (u32, u32)| if in_lockstep { pair.1 } else { pair.0 };
    let mut search = Search { session, deadline, kind: None, tried: 0, kept: 0 };
    let (failed, runs) = search.measure(plan, of(MEASURE));
    search.session.progress.insist(&format!("as it is: {}", rate_text(failed, runs)));
    let Some(kind) = search.kind.clone().filter(|_| runs > 0) else {
        search.session.inconclusive("it did not fail, so there is nothing to shrink");
        return Ok(());
    };
    search.session.progress.say(&format!("it fails by: {kind}"));
    let smallest = path.with_file_name("plan.min.toml");
    let rate = f64::from(failed) / f64::from(runs);
    let small = search.shrink(plan, rate, of(TRY), &smallest);
    let (tried, kept) = (search.tried, search.kept);
    let small = search.named(small)?;
    let (failed, runs) = search.measure(&small, of(MEASURE));
    let note = format!("Fails by: {kind}; {}.", rate_text(failed, runs));
    let small = Plan { note, ..small };
    finish(session, &small, &smallest, &format!("{tried} tried, {kept} smaller ones kept"))
}

fn finish(session: &mut Session, small: &Plan, path: &Path, what: &str) -> Result<()> {
    fs::write(path, small.text()).with_context(|| format!("write {}", path.display()))?;
    session.progress.say(&format!("shrink: {what}; {}", size_text(small)));
    session.progress.insist(&format!("{}:\n\n{}", path.display(), small.text()));
    session.say_last(&format!("  replay: {}", replay_command(path, failure::TIMES)));
    session.pass();
    Ok(())
}

fn size_text(plan: &Plan) -> String {
    let turns: usize = plan.schedule.len();
    format!(
        "producers {}, messages {}, longest {}, ring {}, entries of the schedule {turns}, \
         faults {}",
        plan.producers,
        plan.messages,
        plan.longest,
        plan.ring_bytes,
        plan.faults.len()
    )
}

/// A shrinking under way.
struct Search<'a> {
    session: &'a mut Session,
    deadline: Deadline,
    /// How it failed, without numbers.
    kind: Option<String>,
    tried: u32,
    kept: u32,
}

impl Search<'_> {
    /// How often of so many times it fails as it first did.
    fn measure(&mut self, plan: &Plan, times: u32) -> (u32, u32) {
        let (mut failed, mut runs) = (0, 0);
        for _ in 0..times {
            let trial = trial::run(self.session, plan, None);
            if self.session.is_over() {
                break;
            }
            runs += 1;
            let kind = trial.failure().map(kind_of);
            if self.kind.is_none() {
                self.kind.clone_from(&kind);
            }
            failed += u32::from(kind.is_some() && kind == self.kind);
        }
        (failed, runs)
    }

    fn shrink(&mut self, plan: &Plan, rate: f64, times: u32, smallest: &PathBuf) -> Plan {
        let needed = ((rate * KEPT * f64::from(times)).floor() as u32).max(1);
        shrink(plan.clone(), |candidate| {
            if self.deadline.left().is_zero() || self.session.is_over() {
                return Err(Over);
            }
            self.tried += 1;
            let (mut failed, mut runs) = (0, 0);
            while failed < needed && runs < times && times - runs >= needed - failed {
                let (one, _) = self.measure(candidate, 1);
                (failed, runs) = (failed + one, runs + 1);
            }
            let holds = failed >= needed && !self.session.is_over();
            if holds {
                self.kept += 1;
                // Whatever ends this program, the smallest so far is there.
                if let Err(error) = fs::write(smallest, candidate.text()) {
                    self.session.progress.insist(&format!("{}: {error}", smallest.display()));
                }
                self.session.progress.say(&format!("  {}: {}", self.tried, size_text(candidate)));
            }
            Ok(holds)
        })
    }

    /// With points instead of counts, if that is the same.
    fn named(&mut self, plan: Plan) -> Result<Plan> {
        if plan.way == Way::Load || self.session.is_over() {
            return Ok(plan);
        }
        let trial = trial::run(self.session, &plan, None);
        let named = with_points(&plan, &trial.history);
        let again = trial::run(self.session, &named, None);
        Ok(if again.history == trial.history { named } else { plan })
    }
}

/// The words of a failure without its numbers and the worker's last words.
fn kind_of(what: &str) -> String {
    let what = what.split(';').next().unwrap_or_default();
    let mut kind = String::new();
    for letter in what.chars() {
        match letter {
            '0'..='9' if kind.ends_with('N') => {}
            '0'..='9' => kind.push('N'),
            letter => kind.push(letter),
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_that_differ_in_numbers_are_of_one_kind() {
        let one = kind_of("c.0: producer 0.1: expected message 3, got 12; stderr: x");
        assert_eq!(one, "c.N: producer N.N: expected message N, got N");
        assert_eq!(one, kind_of("c.1: producer 2.0: expected message 44, got 5"));
        assert_ne!(one, kind_of("c.1: producer 2.0: message 5 is torn"));
    }

    #[test]
    fn a_rate_is_said_with_its_interval() {
        assert_eq!(rate_text(37, 50), "failed 37 of 50 (74 %, 95 % interval 60 to 84 %)");
        assert_eq!(rate_text(0, 0), "nothing was run");
    }
}
