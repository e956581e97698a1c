//! Where no process is followed by single steps, there are no sweeps.

use std::path::Path;

use anyhow::Result;

use crate::{
    record::Places,
    session::{Ending, Session},
};

/// Says so.
pub(crate) fn run(session: &mut Session, _: Places, _: &str) -> Result<()> {
    session.skip("sweep", "it needs ptrace, on Linux and x86_64");
    Ok(())
}

/// The hidden `__sweep`, which nobody starts here.
pub(crate) fn sweeper() -> ! {
    std::process::exit(Ending::Internal as i32)
}

/// The hidden `__victim`, which nobody starts here.
pub(crate) fn victim(_: usize, _: &Path) -> Result<()> {
    std::process::exit(Ending::Internal as i32)
}
