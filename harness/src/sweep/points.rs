//! Every named point of the protocol as a place to die, and as one to be stopped at: the first
//! passage, then the second, until a victim comes to its end without another one.
//!
//! A victim is a program of its own, told by a variable where to end; the points count from its
//! start, so that what leads to the act, and what follows it, is swept as well. It appends to a
//! file at each of its marks, from which the books know how far it has come.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use hdrhistogram::Histogram;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::{
    Way,
    acts::{Act, Does},
    apart, close, note,
    scene::{Aftermath, Scene},
};
use crate::{
    child,
    protocol::SweepJob,
    record::{Ended, Places, SweepRow},
    sys,
};

/// The points of the crate, in the order of a message's way.
pub(crate) const POINTS: [&str; 21] = [
    "attach-slot",
    "attach-locked",
    "attach-counted",
    "claim-locked",
    "claim-ended",
    "claim-marked",
    "claim-moved",
    "pad-moved",
    "claim-rousing",
    "claim-done",
    "copy-half",
    "copy-done",
    "commit-done",
    "commit-waking",
    "sleep-looked",
    "recv-found",
    "recv-copied",
    "recv-released",
    "recover-locked",
    "recover-done",
    "detach",
];
/// More passages of one point than this and the victim goes round in circles.
const PASSAGES_MAX: u64 = 1_000;

/// Sweeps one act; `at` is told about each victim.
pub(super) fn run(job: &SweepJob, mut at: impl FnMut(usize)) -> Result<SweepRow> {
    let act = super::acts(Places::Points).nth(job.act).context("no such act")?;
    let path = job.folder.join(format!("points-{}", std::process::id()));
    let began = Instant::now();
    let way: Option<Way> = apart(|| act.way_of_the_first(&path))?;
    let mut row = SweepRow {
        act: act.name.into(),
        places: Places::Points,
        end: job.end,
        ..SweepRow::default()
    };
    let mut recovery = Histogram::<u64>::new(3).context("three digits")?;
    let mut victims = 0;
    for point in POINTS {
        for passage in 1.. {
            at(victims);
            victims += 1;
            let stage = Stage { job, act, path: &path, way: way.as_ref() };
            let met = apart(|| stage.once(point, passage));
            let met = met.with_context(|| format!("{} at {point}@{passage}", act.name))?;
            let Some(after) = met else { break };
            recovery.record(after.took_ns)?;
            note(&mut row, point, passage, &after);
            row.steps += 1;
            ensure!(passage < PASSAGES_MAX, "{point} is passed more than {passage} times");
        }
    }
    close(row, &recovery, began, &path)
}

/// The hidden `__victim`: plays its act, and ends where the variable says.
pub(crate) fn play(act: usize, path: &Path) -> Result<()> {
    sys::die_with_parent();
    let act = super::acts(Places::Points).nth(act).context("no such act")?;
    let marks = File::options().append(true).create(true).open(marks_path(path))?;
    let mark = || (&marks).write_all(b".").expect("a file in memory takes a byte");
    act.play(path, &mark).map_err(|what| anyhow!(what))
}

fn marks_path(path: &Path) -> PathBuf {
    path.with_extension("marks")
}

/// What all victims of an act have in common.
struct Stage<'a> {
    job: &'a SweepJob,
    act: &'static Act,
    path: &'a Path,
    way: Option<&'a Way>,
}

impl Stage<'_> {
    /// One victim that ends at this passage of the point; none if it does not come by.
    fn once(&self, point: &str, passage: u64) -> Result<Option<Aftermath>> {
        let mut scene = self.act.set(self.path, self.way)?;
        match fs::remove_file(marks_path(self.path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let action = if self.job.end == Ended::Killed { "kill" } else { "stop" };
        let fault = format!("{point}:{action}@{passage}");
        let mut victim = Victim::start(self.job.act, self.path, &fault)?;
        let mut marks = 0;
        let mut end = victim.wait(WaitOptions::UNTRACED)?.context("a wait without an end")?;
        let met = end != End::Done;
        if end == End::Stopped {
            self.keep_books(&mut scene, &mut marks)?;
            scene.watch_frozen()?;
            if marks == 0 {
                // It will send what it means to send.
                self.act.open_books(&mut scene);
                marks = 1;
            }
            victim.goes_on()?;
            end = loop {
                match victim.wait(WaitOptions::UNTRACED | WaitOptions::NOHANG)? {
                    Some(end) => break end,
                    // The way to the ring's beginning may need a receiver.
                    None => scene.help()?,
                }
            };
            ensure!(end == End::Done, "thawed, it did not come to its end: {end:?}");
        }
        self.keep_books(&mut scene, &mut marks)?;
        ensure!(end == End::Killed || marks == 2, "it ended after {marks} marks");
        if marks == 0 {
            self.act.open_books_early(&mut scene);
        }
        let after = scene.survive()?;
        if self.act.does == Does::Create {
            scene.survive_maker()?;
        }
        self.act.clear(self.path);
        Ok(met.then_some(after))
    }

    /// Tells the books of the marks that have been set since the last time.
    fn keep_books(&self, scene: &mut Scene, marks: &mut u64) -> Result<()> {
        let set = match fs::metadata(marks_path(self.path)) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error).context("count the marks"),
        };
        if *marks < 1 && set >= 1 {
            self.act.open_books(scene);
        }
        if *marks < 2 && set >= 2 {
            self.act.close_books(scene);
        }
        *marks = set;
        Ok(())
    }
}

/// How a victim has come to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It has exited, and everything went as it should.
    Done,
    Killed,
    Stopped,
}

/// A victim's process, dead at the latest when this is dropped.
struct Victim {
    child: Child,
    pid: Pid,
    /// It has been reaped, and its id may be another's.
    is_gone: bool,
}

impl Victim {
    fn start(act: usize, path: &Path, fault: &str) -> Result<Victim> {
        let mut process = child::itself("__victim")?;
        process.arg(act.to_string()).arg(path).env("IPMPSC_FAULT", fault);
        let child = process.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("a process id is positive and small")?;
        Ok(Victim { child, pid, is_gone: false })
    }

    fn goes_on(&self) -> Result<()> {
        Ok(kill_process(self.pid, Signal::CONT)?)
    }

    /// Waits until it stops or ends; `None` if it has not, and was not to be waited for.
    fn wait(&mut self, how: WaitOptions) -> Result<Option<End>> {
        let status = loop {
            match waitpid(Some(self.pid), how) {
                Ok(Some((_, status))) => break status,
                Ok(None) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        self.is_gone = status.stopping_signal().is_none();
        match (status.exit_status(), status.terminating_signal(), status.stopping_signal()) {
            (Some(0), ..) => Ok(Some(End::Done)),
            (_, Some(libc::SIGKILL), _) => Ok(Some(End::Killed)),
            (.., Some(libc::SIGSTOP)) => Ok(Some(End::Stopped)),
            _ => bail!("the victim ended by itself: {status:?}"),
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if !self.is_gone {
            // Stopped or running, it is still this process's child.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every string that a source file of the crate passes to `hit`.
    fn points_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the crate's sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                points_in(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let points = text.split("hit(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(points.map(String::from));
            }
        }
    }

    #[test]
    fn the_list_names_every_point_of_the_crate() {
        let mut found = BTreeSet::new();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ipmpsc/src");
        points_in(&sources, &mut found);
        assert_eq!(found, POINTS.map(String::from).into_iter().collect());
    }
}
