//! Faults on purpose, each with what must hold all the same.

mod load;
mod matrix;
mod suite;
mod sweep;
mod watch;

use anyhow::Result;

use crate::{
    args::{Faults, Sweep},
    record::Places,
    session::Session,
};

pub(crate) use matrix::{list, nemesis};
pub(crate) use sweep::{sweeper, victim};

/// What belongs to a run of everything.
pub(crate) fn run_part(session: &mut Session) -> Result<()> {
    let part = session.options.profile.table().torture;
    load::run(session, 0, Some(part))
}

/// Does what the flags say; without any, kills and freezes under load.
pub(crate) fn run(session: &mut Session, kills: u64, faults: &Faults) -> Result<()> {
    match faults.sweep {
        _ if faults.matrix => matrix::run(session, &faults.only),
        Some(Sweep::Instructions) => sweep::run(session, Places::Instructions, &faults.only),
        Some(Sweep::Points) => sweep::run(session, Places::Points, &faults.only),
        None => load::run(session, kills, session.options.duration),
    }
}
