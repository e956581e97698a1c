//! What failed once: kept one a file, and run first.
//!
//! Verifications, in `harness/regressions`, are JSON, whose line a failure prints; tortures, in
//! `harness/plans`, are plans in TOML, which `shrink` writes. The note says what was found.

use anyhow::{Context, Result, anyhow};
use include_dir::{Dir, File, include_dir};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

static KEPT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/regressions");

#[cfg(feature = "fault")]
static PLANS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/plans");
/// None: a build without the points of the protocol does not name them either.
#[cfg(not(feature = "fault"))]
static PLANS: Dir<'_> = Dir::new("", &[]);

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

/// All verifications that are kept, by name.
pub(crate) fn all() -> Result<Vec<Regression>> {
    let read = |file: &File<'_>| {
        let name = file.path().display();
        serde_json::from_slice(file.contents()).with_context(|| format!("regressions/{name}"))
    };
    files(&KEPT).into_iter().map(read).collect()
}

/// All plans that are kept, each with its name.
pub(crate) fn plans() -> Result<Vec<(String, Plan)>> {
    let read = |file: &File<'_>| {
        let name = format!("plans/{}", file.path().display());
        let text = file.contents_utf8().with_context(|| format!("{name} is no text"))?;
        let plan = Plan::parse(text).map_err(|what| anyhow!("{name}: {what}"))?;
        Ok((name, plan))
    };
    files(&PLANS).into_iter().map(read).collect()
}

fn files(folder: &'static Dir<'static>) -> Vec<&'static File<'static>> {
    let mut files: Vec<_> = folder.files().collect();
    files.sort_by_key(|file| file.path());
    files
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

    #[test]
    fn every_kept_plan_can_be_read_and_says_what_it_found() {
        let plans = plans().expect("they are read when the program is built");
        for (name, plan) in plans {
            assert!(plan.note.len() > 20, "{name}: {}", plan.note);
            assert_eq!(name, format!("plans/{}.toml", plan.mutant));
        }
    }
}
