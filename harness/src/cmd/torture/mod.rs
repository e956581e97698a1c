//! Faults on purpose, each with what must hold all the same.

mod evidence;
mod failure;
mod load;
mod lockstep;
mod matrix;
mod replay;
mod schedules;
mod suite;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod sweep;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[path = "no_sweep.rs"]
mod sweep;
mod trial;
mod watch;

use std::path::Path;

use anyhow::Result;

use crate::{
    args::{Faults, Sweep},
    plan::Plan,
    record::Places,
    session::Session,
};

pub(crate) use matrix::{list, nemesis};
pub(crate) use sweep::{sweeper, victim};

/// What belongs to a run of everything.
pub(crate) fn run_part(session: &mut Session) -> Result<()> {
    let part = session.options.profile.table().torture;
    load::run(session, 0, Some(part), "")
}

/// Does what the flags say; without any, kills and freezes under load.
pub(crate) fn run(session: &mut Session, kills: u64, faults: &Faults) -> Result<()> {
    match faults.sweep {
        _ if faults.matrix => matrix::run(session, &faults.only),
        Some(Sweep::Instructions) => sweep::run(session, Places::Instructions, &faults.only),
        Some(Sweep::Points) => sweep::run(session, Places::Points, &faults.only),
        None => match faults.lockstep {
            Some(schedules) => schedules::run(session, schedules, &faults.only),
            None => {
                schedules::kept(session, &faults.only)?;
                load::run(session, kills, session.options.duration, &faults.only)
            }
        },
    }
}

/// How often a plan fails.
pub(crate) fn replay(session: &mut Session, path: &Path, plan: &Plan, times: u32) -> Result<()> {
    replay::replay(session, path, plan, times)
}

/// A plan made small.
pub(crate) fn shrink(session: &mut Session, path: &Path, plan: &Plan) -> Result<()> {
    replay::shrink_plan(session, path, plan)
}
