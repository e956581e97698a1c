//! A plan run once, whichever way it says, with what came of it.

use std::path::Path;

use super::{evidence::Evidence, load, lockstep};
use crate::{
    child::Trouble,
    plan::{Fault, Plan, Way},
    protocol::Task,
    session::{Channel, Session},
};

/// What came of it.
#[derive(Debug)]
pub(super) struct Trial {
    /// As it was run: where a seed has decided, with what it has decided.
    pub(super) plan: Plan,
    pub(super) history: Vec<String>,
    pub(super) verdict: Result<(), Trouble>,
    /// Faults of the plan that did not come about.
    pub(super) unmet: Vec<Fault>,
}

impl Trial {
    /// Nothing yet.
    pub(super) fn new(plan: &Plan) -> Trial {
        Trial { plan: plan.clone(), history: Vec::new(), verdict: Ok(()), unmet: Vec::new() }
    }

    /// Takes the evidence that is gone when the processes are.
    pub(super) fn keep(
        &mut self,
        evidence: Option<&Evidence>,
        ring: &Path,
        processes: &[(String, u32)],
    ) {
        let taken = evidence.map_or(Ok(()), |evidence| evidence.take(ring, processes));
        if let Err(error) = taken {
            self.history.push(format!("the evidence is incomplete: {error:#}"));
        }
    }

    /// What was found, if it was a failure.
    pub(super) fn failure(&self) -> Option<&str> {
        match &self.verdict {
            Err(Trouble::Failed(what)) => Some(what),
            _ => None,
        }
    }
}

/// Whether this build can run the plan.
pub(super) fn can_run(plan: &Plan) -> bool {
    plan.way == Way::Load || cfg!(feature = "fault")
}

/// Runs it once.
pub(super) fn run(session: &mut Session, plan: &Plan, evidence: Option<&Evidence>) -> Trial {
    attempt(session, plan, false, evidence)
}

/// As `run`, in lockstep with turns and deaths as the seed has them.
pub(super) fn improvise(session: &mut Session, plan: &Plan, evidence: Option<&Evidence>) -> Trial {
    attempt(session, plan, true, evidence)
}

fn attempt(
    session: &mut Session,
    plan: &Plan,
    at_random: bool,
    evidence: Option<&Evidence>,
) -> Trial {
    let Plan { ring_bytes, producers, seed, longest, messages, .. } = *plan;
    let task = match plan.way {
        Way::Load => Task::Torture { largest: longest },
        Way::Lockstep => Task::Lockstep { largest: longest, messages },
    };
    let channel = Channel { ring_bytes, message_max: ring_bytes, producers, seed };
    let crew = session.plan(&plan.transport, task, channel);
    let trial = match plan.way {
        Way::Load => load::again(plan, &crew, evidence),
        Way::Lockstep => lockstep::run(plan, &crew, at_random, evidence),
    };
    session.clear(&crew);
    trial
}

/// Names what an error was about.
pub(super) fn context(what: &'static str) -> impl Fn(std::io::Error) -> Trouble {
    move |error| Trouble::Failed(format!("{what}: {error}"))
}
