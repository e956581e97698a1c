//! Faults on purpose, each with what must hold all the same.

mod kills;
mod sweep;

use anyhow::Result;

use crate::{
    args::{Faults, Sweep},
    session::Session,
};

pub(crate) use sweep::sweeper;

/// Does what the flags say; without any, kills producers under load.
pub(crate) fn run(session: &mut Session, kills: u64, faults: &Faults) -> Result<()> {
    match faults.sweep {
        Some(Sweep::Instructions) => sweep::run(session, &faults.only),
        None => kills::run(session, kills),
    }
}
