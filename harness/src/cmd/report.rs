//! Renders recorded runs; measures nothing.

use std::path::PathBuf;

use anyhow::Result;

use crate::{args::Options, session::Ending};

/// Renders each folder, or checks what was rendered.
pub(crate) fn run(_: &Options, _: &[PathBuf], _: bool) -> Result<Ending> {
    anyhow::bail!("report is not there yet")
}
