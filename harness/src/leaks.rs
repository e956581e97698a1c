//! What a finished crew must not leave: processes, and files in the folder of the run.

use std::fs;

use anyhow::Context;

use crate::{
    child::{Plan, Trouble},
    sys::{Group, LOOSE_DESCRIPTORS},
    transports::{Setup, is_ours},
};

/// What a channel of ours puts into the folder, by the ends of the names.
const OURS: [&str; 3] = ["ring", "ledger", "order"];
/// What is there as long as the run is.
const LOCK: &str = "lock";

/// Whether the descriptors of a process have become more or fewer from one count to another.
pub(crate) fn descriptors(before: Option<usize>, after: Option<usize>) -> bool {
    let counts = before.zip(after);
    counts.is_some_and(|(before, after)| before.abs_diff(after) > LOOSE_DESCRIPTORS)
}

/// No process of the crew is left. Each worker leads a group, which its own children are in.
pub(crate) fn processes(groups: &[Group]) -> Result<(), Trouble> {
    let left = groups.iter().filter(|group| group.is_alive()).count();
    groups.iter().for_each(Group::kill);
    match left {
        0 => Ok(()),
        _ => Err(Trouble::Failed(format!("leak: processes of {left} workers are still there"))),
    }
}

/// A channel of ours has made no file but those that it is known for.
pub(crate) fn files(plan: &Plan) -> Result<(), Trouble> {
    if !is_ours(&plan.transport) {
        return Ok(());
    }
    let known = OURS.map(|end| format!("{}.{end}", plan.setup.channel));
    strays(&plan.setup, |name| name == LOCK || known.iter().any(|known| known == name))
}

/// Nothing is left once the channel has been cleared away.
pub(crate) fn rest(setup: &Setup) -> Result<(), Trouble> {
    strays(setup, |name| name == LOCK)
}

fn strays(setup: &Setup, is_known: impl Fn(&str) -> bool) -> Result<(), Trouble> {
    let entries = fs::read_dir(&setup.folder).context("look for files that were left")?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let strays: Vec<_> = names.filter(|name| !is_known(name)).collect();
    if strays.is_empty() {
        return Ok(());
    }
    for name in &strays {
        // So that one leak is not found again by every scenario that follows.
        let _ = fs::remove_file(setup.folder.join(name));
    }
    Err(Trouble::Failed(format!("leak: files were left: {}", strays.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_nobody_knows_is_named() {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let setup = Setup {
            folder: folder.path().into(),
            channel: "c1".into(),
            ring_bytes: 64,
            message_max: 64,
            producers: 1,
        };
        fs::write(folder.path().join(LOCK), "").expect("the folder is writable");
        assert!(rest(&setup).is_ok());
        fs::write(setup.path("ring"), "").expect("the folder is writable");
        let Err(Trouble::Failed(what)) = rest(&setup) else { panic!("the ring is still there") };
        assert!(what.contains("c1.ring"), "{what}");
        assert!(rest(&setup).is_ok(), "it was removed");
    }
}
