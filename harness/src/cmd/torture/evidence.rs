//! What a failure leaves behind, one folder each: the plan, the history, the ring as it was and as
//! `inspect` reads it, and what the kernel knows of each process before it is killed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{child::itself, plan::Plan, sys};

/// Where the evidence of one trial goes, should it fail.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    folder: PathBuf,
}

impl Evidence {
    /// Into this folder, without what an earlier run has left there.
    pub(super) fn at(folder: PathBuf) -> Result<Evidence> {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("clear {}", folder.display()))
            }
            _ => Ok(Evidence { folder }),
        }
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Copies the ring and describes the processes, of which each has a name and an id.
    pub(super) fn take(&self, ring: &Path, processes: &[(String, u32)]) -> Result<()> {
        fs::create_dir_all(&self.folder).context("a folder for the evidence")?;
        fs::copy(ring, self.folder.join("ring.bin")).context("copy the ring")?;
        let listing = itself("inspect")?.arg(ring).output().context("inspect the ring")?;
        fs::write(self.folder.join("ring.txt"), [listing.stdout, listing.stderr].concat())?;
        for (name, pid) in processes {
            fs::write(self.folder.join(format!("process-{name}.txt")), sys::state_of(*pid))?;
        }
        Ok(())
    }

    /// Writes down what was done, and gives the path of the plan.
    pub(super) fn tell(&self, plan: &Plan, history: &[String]) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder).context("a folder for the evidence")?;
        let lines: String = history.iter().flat_map(|line| [line, "\n"]).collect();
        fs::write(self.folder.join("history.txt"), lines)?;
        let path = self.folder.join("plan.toml");
        fs::write(&path, plan.text())?;
        Ok(path)
    }
}

/// The command that shows a failure again; a planted bug has to be planted again.
pub(super) fn replay_command(plan: &Path, times: u32) -> String {
    format!("{}harness replay {} --times {times}", planted(), plan.display())
}

/// What goes before a command whose ring shall have this process' planted bug.
#[cfg(feature = "mutant")]
fn planted() -> String {
    std::env::var("IPMPSC_MUTANT").map_or(String::new(), |name| format!("IPMPSC_MUTANT={name} "))
}

/// Nothing: a release build has no planted bug, nor the name of the variable that chooses one.
#[cfg(not(feature = "mutant"))]
const fn planted() -> &'static str {
    ""
}
