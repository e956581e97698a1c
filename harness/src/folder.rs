//! The files of a finished run on the disk: all of them or none, and none of an earlier run.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Files that are written here are found, with their folder, by this prefix until they are whole.
const UNFINISHED: &str = ".harness-unfinished-";
/// The one folder whose files a later run may lack, so that those have to go.
pub(crate) const PLOTS: &str = "plots";
/// The one file beside them that a later run may lack: the fault matrix.
pub(crate) const FAULTS: &str = "faults.csv";

/// A file of a run: its name within the folder, with slashes, and what is in it.
pub(crate) type File = (String, Vec<u8>);

/// Puts the files into `folder`. They are written aside and then renamed, so whoever is interrupted
/// leaves what was there before.
pub(crate) fn replace(folder: &Path, files: &[File]) -> Result<()> {
    replace_in(folder, files).with_context(|| format!("write the results to {}", folder.display()))
}

fn replace_in(folder: &Path, files: &[File]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let aside = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(folder)?;
    for (name, bytes) in files {
        let path = aside.path().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, bytes)?;
    }
    for (name, _) in files {
        let place = folder.join(name);
        place.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::rename(aside.path().join(name), place)?;
    }
    strangers(folder, files)?.into_iter().try_for_each(fs::remove_file)
}

/// Plots in the folder, and a fault matrix, that are not among the files, in order.
pub(crate) fn strangers(folder: &Path, files: &[File]) -> io::Result<Vec<PathBuf>> {
    let mut strangers = Vec::new();
    let faults = folder.join(FAULTS);
    if faults.exists() && files.iter().all(|(known, _)| known != FAULTS) {
        strangers.push(faults);
    }
    let plots = match fs::read_dir(folder.join(PLOTS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(strangers),
        plots => plots?,
    };
    for plot in plots {
        let plot = plot?;
        let name = format!("{PLOTS}/{}", plot.file_name().to_string_lossy());
        if files.iter().all(|(known, _)| *known != name) {
            strangers.push(plot.path());
        }
    }
    strangers.sort();
    Ok(strangers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> File {
        (name.into(), text.as_bytes().to_vec())
    }

    #[test]
    fn a_later_run_leaves_nothing_of_an_earlier_one_but_what_is_not_ours() {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let path = folder.path();
        fs::write(path.join("notes.txt"), "mine").expect("the folder is writable");
        replace(
            path,
            &[
                file("report.md", "1"),
                file("faults.csv", "f"),
                file("plots/a.svg", "a"),
                file("plots/b.svg", "b"),
            ],
        )
        .expect("the folder is writable");
        replace(path, &[file("report.md", "2"), file("plots/a.svg", "c")])
            .expect("the folder is writable");
        let text = |name: &str| fs::read_to_string(path.join(name)).ok();
        assert_eq!(text("report.md").as_deref(), Some("2"));
        assert_eq!(text("plots/a.svg").as_deref(), Some("c"));
        assert_eq!((text("plots/b.svg"), text("faults.csv")), (None, None));
        assert_eq!(text("notes.txt").as_deref(), Some("mine"));
        let left = fs::read_dir(path).expect("it is a folder").flatten();
        let left = left.filter(|e| e.file_name().to_string_lossy().starts_with(UNFINISHED));
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_earlier_run_whole() {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let path = folder.path();
        replace(path, &[file("report.md", "1")]).expect("the folder is writable");
        let bad = [file("report.md", "2"), file("report.md/below", "a file is no folder")];
        assert!(replace(path, &bad).is_err());
        assert_eq!(fs::read_to_string(path.join("report.md")).expect("still there"), "1");
    }
}
