//! Verifications that failed once: kept in `harness/regressions`, one a file, and run first.
//!
//! A failure prints the line to be kept; the note says what it found.

use anyhow::{Context, Result};
use include_dir::{Dir, include_dir};
use serde::{Deserialize, Serialize};

static KEPT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/regressions");

/// What to run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Regression {
    /// By its name in the table.
    pub(crate) scenario: String,
    pub(crate) transport: String,
    pub(crate) producers: u32,
    /// The one of the whole run, as it was printed.
    pub(crate) seed: u64,
    /// How long it goes on even if its map is full.
    pub(crate) least_ms: u64,
    pub(crate) note: String,
}

/// All that are kept, by name.
pub(crate) fn all() -> Result<Vec<Regression>> {
    let mut files: Vec<_> = KEPT.files().collect();
    files.sort_by_key(|file| file.path());
    let read = |file: &include_dir::File<'_>| {
        let name = file.path().display();
        serde_json::from_slice(file.contents()).with_context(|| format!("regressions/{name}"))
    };
    files.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{scenario::VERIFY, transports::is_ours};

    #[test]
    fn every_kept_regression_can_be_run_and_says_what_it_found() {
        let all = all().expect("they are read when the program is built");
        assert!(!all.is_empty());
        for regression in all {
            let Regression { scenario, transport, note, .. } = &regression;
            assert!(VERIFY.iter().any(|known| known.name == scenario), "{scenario}");
            assert!(is_ours(transport), "{transport}");
            assert!(note.len() > 20, "{scenario}: {note}");
        }
    }
}
