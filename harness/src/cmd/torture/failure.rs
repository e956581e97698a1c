//! A trial that failed: its folder, and the one command that shows it again.

use anyhow::Result;

use super::{
    evidence::{Evidence, replay_command},
    trial::Trial,
};
use crate::{record::FailedRow, session::Session};

/// How often a failure is tried again, unless said otherwise.
pub(crate) const TIMES: u32 = 50;

/// A place for what the next trial may leave; none where results go nowhere.
pub(super) fn evidence(session: &mut Session) -> Result<Option<Evidence>> {
    let seed = session.options.seed;
    let number = session.next_trial();
    let out = session.options.out.as_ref();
    let folder = out.map(|out| out.join("failures").join(format!("torture-{seed}-{number}")));
    folder.map(Evidence::at).transpose()
}

/// Records a failure with its evidence, unless it is the user who ended the trial.
pub(super) fn report(
    session: &mut Session,
    name: &str,
    trial: &Trial,
    evidence: Option<&Evidence>,
) -> Result<()> {
    let Some(what) = trial.failure() else { return Ok(()) };
    let (name, transport) = (name.into(), trial.plan.transport.clone());
    session.fail(FailedRow { command: "torture".into(), name, transport, what: what.into() })?;
    if let Some(evidence) = evidence {
        let plan = evidence.tell(&trial.plan, &trial.history)?;
        session.progress.insist(&format!("  evidence: {}", evidence.folder().display()));
        session.say_last(&format!("  replay: {}", replay_command(&plan, TIMES)));
    }
    Ok(())
}
