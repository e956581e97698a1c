//! One run of the harness: its private folder, its rows, its tally, its end.
//!
//! The folder holds every ring, socket and ledger, in shared memory where there is such a place. It
//! is removed whatever happens: by a janitor process that notices when this one is gone, and should
//! that one be killed as well, by the next run.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    args::Options,
    child::{self, INTERRUPTED, Plan, Trouble},
    emulation, folder,
    progress::Progress,
    protocol::Task,
    record::{Env, FailedRow, Row, parse_rows},
    report, sys,
    transports::{self, Setup, is_ours},
};

/// The names of run folders begin with this and the id of the process.
const PREFIX: &str = "ipmpsc-harness-";

/// One run.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) options: Options,
    pub(crate) progress: Progress,
    folder: Folder,
    env: Env,
    rows: Vec<String>,
    channels: u32,
    trials: u32,
    /// Said at the very end, before the tally.
    last_line: Option<String>,
    tally: Tally,
    started: Instant,
}

/// What has been decided so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
    /// One of ours failed.
    broken: bool,
    /// Something that had to be reached was not.
    inconclusive: bool,
}

/// How a run ended, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Passed = 0,
    Broken = 1,
    Usage = 2,
    Inconclusive = 3,
    Stale = 5,
    Internal = 70,
    Interrupted = 130,
}

impl Session {
    /// Opens the folders and says the seed.
    pub(crate) fn start(options: Options) -> Result<Session> {
        let seed = options.seed;
        let session = Session::open(options)?;
        session.progress.say(&format!("seed {seed}, replay with --seed {seed}"));
        Ok(session)
    }

    /// As `start`, where a file has the seed.
    pub(crate) fn open(options: Options) -> Result<Session> {
        ctrlc::set_handler(|| INTERRUPTED.store(true, Relaxed)).context("watch for Ctrl-C")?;
        let progress = Progress::new(options.quiet, options.verbose);
        let folder = Folder::create().context("a folder for this run's rings")?;
        let env = Env::collect(options.seed);
        let (rows, last_line) = (Vec::new(), None);
        let (channels, trials, tally) = (0, 0, Tally::default());
        let started = Instant::now();
        Ok(Session {
            options,
            progress,
            folder,
            env,
            rows,
            channels,
            trials,
            last_line,
            tally,
            started,
        })
    }

    /// A plan for a channel of its own.
    pub(crate) fn plan(&mut self, transport: &str, task: Task, channel: Channel) -> Plan {
        self.channels += 1;
        let setup = Setup {
            folder: self.folder.path.clone(),
            channel: format!("c{}", self.channels),
            ring_bytes: channel.ring_bytes,
            message_max: channel.message_max,
            producers: channel.producers,
        };
        let ledger = setup.path("ledger");
        let (transport, seed, pinned) = (transport.into(), channel.seed, self.options.pin);
        let producer_bins = self.options.producer_bins.clone();
        Plan { transport, task, setup, seed, ledger, pinned, producer_bins }
    }

    /// A number for what may have to be kept of the next trial.
    pub(crate) fn next_trial(&mut self) -> u32 {
        self.trials += 1;
        self.trials
    }

    /// A line for the end, where the user looks first. One is enough: the first stays.
    pub(crate) fn say_last(&mut self, line: &str) {
        self.last_line.get_or_insert_with(|| line.into());
    }

    /// The private folder of this run.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// Removes what the channel of this plan left.
    pub(crate) fn clear(&self, plan: &Plan) {
        transports::remove_outside(&self.folder.path, Some(&plan.setup.channel));
        let Ok(entries) = fs::read_dir(&self.folder.path) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let rest = name.strip_prefix(&plan.setup.channel).unwrap_or_default();
            if rest.starts_with(['.', '-']) {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let remove = if is_folder { fs::remove_dir_all } else { fs::remove_file };
                // Whatever stays goes with the folder of the run, and is a leak until then.
                let _ = remove(entry.path());
            }
        }
    }

    /// Writes a row down.
    pub(crate) fn record(&mut self, row: &Row) -> Result<()> {
        let line = match emulation::anywhere() {
            None => serde_json::to_string(row)?,
            Some(name) => {
                let mut row = serde_json::to_value(row)?;
                row["emulated"] = name.into();
                row.to_string()
            }
        };
        if self.options.json {
            // Whoever reads may have gone; the files are still wanted.
            let _ = writeln!(io::stdout().lock(), "{line}");
        }
        self.rows.push(line);
        Ok(())
    }

    /// Something holds.
    pub(crate) fn pass(&mut self) {
        self.tally.passed += 1;
    }

    /// Something was left out, and why.
    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        self.tally.skipped += 1;
        self.progress.say(&format!("skipped {what}: {why}"));
    }

    /// Something was left out, and its line comes later.
    #[cfg(all(feature = "fault", feature = "mutant"))]
    pub(crate) fn pass_over(&mut self) {
        self.tally.skipped += 1;
    }

    /// A state that had to be reached was not.
    pub(crate) fn inconclusive(&mut self, what: &str) {
        self.tally.inconclusive = true;
        self.progress.insist(&format!("inconclusive: {what}"));
    }

    /// Something does not hold.
    pub(crate) fn fail(&mut self, row: FailedRow) -> Result<()> {
        self.tally.failed += 1;
        self.tally.broken |= is_ours(&row.transport);
        self.tally.inconclusive |= !is_ours(&row.transport);
        self.progress.insist(&format!("FAILED {} {}: {}", row.command, row.name, row.what));
        self.record(&Row::Failed(row))
    }

    /// Records a failure, unless it is the user who ended it.
    pub(crate) fn fail_with(
        &mut self,
        trouble: &Trouble,
        command: &str,
        name: &str,
        transport: &str,
    ) -> Result<()> {
        match trouble {
            Trouble::Interrupted => Ok(()),
            Trouble::Failed(what) => self.fail(FailedRow {
                command: command.into(),
                name: name.into(),
                transport: transport.into(),
                what: what.clone(),
            }),
        }
    }

    /// Whether to begin nothing more.
    pub(crate) fn is_over(&self) -> bool {
        INTERRUPTED.load(Relaxed)
    }

    /// Whether there is time for something that takes so long.
    pub(crate) fn has_time_for(&self, what: Duration) -> bool {
        self.started.elapsed() + what < self.options.profile.table().enough
    }

    /// Whether the time for everything is used up.
    pub(crate) fn is_late(&self) -> bool {
        self.started.elapsed() > self.options.profile.table().cap
    }

    /// Renders the report from the rows, puts it where it belongs, says the tally, and ends.
    pub(crate) fn finish(mut self) -> Result<Ending> {
        self.progress.end();
        let runs: String = self.rows.iter().flat_map(|row| [row, "\n"]).collect();
        let rows = parse_rows(&runs)?;
        let ending = self.tally.ending(INTERRUPTED.load(Relaxed));
        self.env.ending = ending.word().into();
        if let Some(out) = &self.options.out {
            let stamp = serde_json::to_string_pretty(&self.env)? + "\n";
            let mut files = report::render(&rows, &self.env)?;
            files.push(("runs.jsonl".into(), runs.into_bytes()));
            files.push(("env.json".into(), stamp.into_bytes()));
            folder::replace(out, &files)?;
        }
        for table in report::screen(&rows, &self.env) {
            self.progress.insist(&table);
        }
        if let Some(out) = &self.options.out {
            self.progress.say(&format!("report: {}", out.join("report.md").display()));
        }
        self.last_line.iter().for_each(|line| self.progress.insist(line));
        let Tally { passed, failed, skipped, .. } = self.tally;
        self.progress
            .insist(&format!("harness: {passed} passed, {failed} failed, {skipped} skipped"));
        Ok(ending)
    }
}

impl Ending {
    /// The word in `env.json`.
    fn word(self) -> &'static str {
        match self {
            Ending::Passed => "passed",
            Ending::Broken => "broken",
            Ending::Inconclusive => "inconclusive",
            Ending::Interrupted => "interrupted",
            Ending::Usage | Ending::Stale | Ending::Internal => "unfinished",
        }
    }
}

impl Tally {
    fn ending(self, interrupted: bool) -> Ending {
        match self {
            _ if interrupted => Ending::Interrupted,
            Tally { broken: true, .. } => Ending::Broken,
            Tally { inconclusive: true, .. } => Ending::Inconclusive,
            Tally { .. } => Ending::Passed,
        }
    }
}

/// The sizes of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    pub(crate) ring_bytes: u64,
    pub(crate) message_max: u64,
    pub(crate) producers: u32,
    pub(crate) seed: u64,
}

/// The private folder of a run, locked as long as the run lives.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    janitor: Child,
    /// Held, not used.
    lock: Option<File>,
}

impl Folder {
    fn create() -> Result<Folder> {
        let place = place();
        sweep(&place);
        let path = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir_in(&place)?
            .keep();
        let lock = File::create(path.join("lock"))?;
        lock.lock()?;
        let janitor = child::itself("__janitor")?
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("spawn the janitor")?;
        Ok(Folder { path, janitor, lock: Some(lock) })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is open cannot be removed everywhere.
        drop(self.lock.take());
        // Its stdin closes, it removes the folder and exits; if it was killed, that is left to do.
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
        transports::remove_outside(&self.path, None);
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Where the files of rings are memory and nothing else, if there is such a place.
fn place() -> PathBuf {
    sys::shared_memory().unwrap_or_else(std::env::temp_dir)
}

/// Removes the folders of runs that have died together with their janitor.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let pid = rest.split('-').next().and_then(|pid| pid.parse().ok());
        let is_gone = pid.is_some_and(|pid| !sys::is_there(pid));
        // The lock as well, as the process may be one of another container.
        let lock = File::open(entry.path().join("lock"));
        if is_gone && lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            transports::remove_outside(&entry.path(), None);
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_that_happened_is_the_ending() {
        let tally = Tally::default();
        assert_eq!(tally.ending(false), Ending::Passed);
        let inconclusive = Tally { inconclusive: true, ..tally };
        assert_eq!(inconclusive.ending(false), Ending::Inconclusive);
        assert_eq!(Tally { broken: true, ..inconclusive }.ending(false), Ending::Broken);
        assert_eq!(Tally { broken: true, ..tally }.ending(true), Ending::Interrupted);
    }

    #[test]
    fn only_the_folders_of_the_dead_are_swept() {
        let place = tempfile::tempdir().expect("a test needs a temporary folder");
        let make = |name: String| {
            let path = place.path().join(name);
            fs::create_dir(&path).expect("the place is writable");
            File::create(path.join("lock")).expect("the folder is writable");
            path
        };
        let mine = make(format!("{PREFIX}{}-a", std::process::id()));
        let dead = make(format!("{PREFIX}{}-b", i32::MAX));
        let locked = make(format!("{PREFIX}{}-c", i32::MAX));
        let lock = File::open(locked.join("lock")).expect("just made");
        lock.lock().expect("nobody else knows the file");
        let foreign = make("something-else".into());
        sweep(place.path());
        assert!(mine.exists() && locked.exists() && foreign.exists());
        assert!(!dead.exists());
    }
}
