//! The built harness from outside: exit codes, the last line, the files, and that nothing stays
//! behind however it ends.
#![cfg(unix)] // It looks into `/proc` and sends signals.

mod builds;
mod compare;
mod conformance;
mod doctor;
mod inspect;
mod points;
mod replay;
mod report;
mod screens;
mod selftest;
mod verify;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// In the environment of a harness and all its workers, so that a test can tell its own.
const MARK: &str = "HARNESS_TEST_MARK";
/// Long enough for the slowest machine; nobody waits for it when things are well.
const PATIENCE: Duration = Duration::from_secs(30);

struct Run {
    folder: TempDir,
}

impl Run {
    fn new() -> Run {
        Run { folder: tempfile::tempdir().expect("a test needs a temporary folder") }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.args(words.split_whitespace());
        let first = words.split_whitespace().next().unwrap_or_default();
        if !["transports", "replay", "shrink", "selftest"].contains(&first) {
            command.arg("--out").arg(self.out());
        }
        command.env(MARK, self.folder.path()).stdin(Stdio::null());
        command
    }

    fn output(&self, words: &str) -> Output {
        self.command(words).output().expect("the harness starts")
    }

    fn spawn(&self, words: &str) -> Child {
        let mut command = self.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the harness starts")
    }

    /// Processes that carry this run's mark.
    fn processes(&self) -> usize {
        let mark = format!("{MARK}={}", self.folder.path().display());
        let is_ours = |entry: &fs::DirEntry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|line| line == mark.as_bytes())
        };
        fs::read_dir("/proc").expect("/proc is there").flatten().filter(is_ours).count()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn last_line(text: &str) -> &str {
    text.lines().next_back().unwrap_or_default()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

fn await_true(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::yield_now();
    }
}

/// Folders of the run of this process, wherever they may be.
fn run_folders(pid: u32) -> Vec<PathBuf> {
    let prefix = format!("ipmpsc-harness-{pid}-");
    [PathBuf::from("/dev/shm"), std::env::temp_dir()]
        .iter()
        .filter_map(|place| fs::read_dir(place).ok())
        .flat_map(Iterator::flatten)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect()
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a process id is positive and small");
    let pid = Pid::from_raw(pid).expect("a process id is not zero");
    rustix::process::kill_process(pid, signal).expect("the harness runs");
}

#[test]
fn a_comparison_leaves_a_report_rows_and_a_stamp() {
    let run = Run::new();
    let words = "compare --producers 2 --transport ipmpsc,ipmpsc-0.5.1,ipc-channel,null \
                 --size 64 --for 1s --json --seed 7";
    let output = run.output(words);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("seed 7,"), "{text}");
    assert!(last_line(&text).starts_with("harness: ") && text.contains(" 0 failed"), "{text}");
    let rows = fs::read_to_string(run.out().join("runs.jsonl")).expect("written");
    assert_eq!(String::from_utf8_lossy(&output.stdout), rows, "--json prints the same rows");
    assert!(json_lines(&rows).len() > 20);
    let report = fs::read_to_string(run.out().join("report.md")).expect("written");
    assert!(report.contains("| ipc-channel |") && report.contains("Noise floor"), "{report}");
    let stamp = fs::read_to_string(run.out().join("env.json")).expect("written");
    let stamp: Value = serde_json::from_str(&stamp).expect("env.json is JSON");
    assert_eq!(stamp["seed"], 7);
    assert!(stamp["rustc"].as_str().is_some_and(|rustc| rustc.starts_with("rustc ")));
}

#[test]
fn killed_and_frozen_processes_lose_nothing_that_was_acknowledged() {
    let run = Run::new();
    let output = run.output("torture --kills 200 --producers 3 --only faults");
    let text = stderr(&output);
    // A state that so few faults need not reach makes it inconclusive, and says so.
    let is_fine = match output.status.code() {
        Some(0) => true,
        Some(3) => text.contains("never reached"),
        _ => false,
    };
    assert!(is_fine, "{text}");
    assert_eq!(last_line(&text), "harness: 10 passed, 0 failed, 0 skipped");
    let rows = json_lines(&fs::read_to_string(run.out().join("runs.jsonl")).expect("written"));
    let faults = rows.iter().filter_map(|row| row["faults"].as_array()).flatten();
    let counts: Vec<_> = faults.filter_map(|fault| fault["count"].as_u64()).collect();
    assert_eq!(counts.iter().sum::<u64>(), 200, "each is counted once");
    for kind in ["kill producer", "freeze producer", "freeze consumer", "kill consumer"] {
        assert!(text.contains(&format!("{kind}: ")), "{kind} never drawn: {text}");
    }
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn a_send_is_survived_wherever_it_is_killed_or_stopped() {
    let run = Run::new();
    let mut command = run.command("torture --sweep instructions --json");
    let output = command.args(["--only", "send bytes, empty"]).output();
    let output = output.expect("the harness starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows = json_lines(&String::from_utf8_lossy(&output.stdout));
    let [killed, frozen] = &rows[..] else { panic!("two rows, not {rows:?}") };
    for row in [killed, frozen] {
        let deaths = row["windows"].as_array().expect("windows").iter();
        let deaths: u64 = deaths.filter_map(|window| window["deaths"].as_u64()).sum();
        let steps = row["steps"].as_u64().expect("a number");
        assert!(steps > 100 && deaths == steps + 1, "{steps} steps, {deaths} deaths");
    }
    let windows = killed["windows"].as_array().expect("windows");
    let window = |name: &str| windows.iter().find(|window| window["name"] == name);
    let writing = window("record being written").expect("each send writes");
    assert_eq!(writing["discarded"], writing["deaths"], "a torn record is thrown away");
    let committed = window("committed").expect("each send commits");
    assert_eq!(committed["arrived"], committed["deaths"], "what is committed arrives");
    let frozen = frozen["windows"].as_array().expect("windows").iter();
    assert!(frozen.clone().all(|window| window["recovered"] == 0), "nothing is taken from it");
}

#[test]
fn a_fault_has_a_verdict_for_each_crate_and_the_list_shows_it() {
    let run = Run::new();
    let output = run.output("torture --matrix --only C13 --json");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows = json_lines(&String::from_utf8_lossy(&output.stdout));
    let verdicts: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row["transport"].as_str()?, row["verdict"].as_str()?)))
        .collect();
    assert_eq!(verdicts, [("ipmpsc", "survives"), ("ipmpsc-0.5.1", "blocks")]);
    let list = run.output("torture --list");
    let text = String::from_utf8_lossy(&list.stdout);
    let line = text.lines().find(|line| line.starts_with("C13 ")).expect("every row is listed");
    assert!(line.ends_with("ipmpsc survives, ipmpsc-0.5.1 blocks"), "{line}");
    let kept = json_lines(&fs::read_to_string(run.out().join("runs.jsonl")).expect("written"));
    assert_eq!(kept.len(), 2, "a list leaves the results alone");
}

#[test]
fn what_the_system_and_a_dead_consumer_do_is_survived_and_0_5_1_waits_for_the_dead() {
    let verdict = |id: &str, transport: &str| {
        let line = format!("torture --matrix --only {id} --transport {transport} --json");
        let output = Run::new().output(&line);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let rows = json_lines(&String::from_utf8_lossy(&output.stdout));
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0]["verdict"].as_str().expect("a word").to_owned()
    };
    for id in ["R10", "R12", "C7", "P14"] {
        assert_eq!(verdict(id, "ipmpsc"), "survives", "{id}");
    }
    assert_eq!(verdict("C7", "ipmpsc-0.5.1"), "blocks");
    assert_eq!(verdict("P14", "pipe"), "survives");
}

#[test]
fn an_interrupt_reaps_everything_and_still_reports() {
    let run = Run::new();
    let mut child = run.spawn("compare --for 10m");
    let pid = child.id();
    await_true("workers at work", || run.processes() >= 4);
    signal(&child, Signal::INT);
    let status = child.wait().expect("the harness ends");
    assert_eq!(status.code(), Some(130));
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    let last = stderr.lines().map_while(Result::ok).last().unwrap_or_default();
    assert!(last.starts_with("harness: "), "{last}");
    let report = fs::read_to_string(run.out().join("report.md")).expect("written");
    assert!(report.contains("Interrupted"));
    assert_eq!(run_folders(pid), Vec::<PathBuf>::new());
    await_true("no process left", || run.processes() == 0);
}

#[test]
fn a_killed_harness_leaves_no_process_and_no_file() {
    let run = Run::new();
    let mut child = run.spawn("compare --for 10m");
    let pid = child.id();
    await_true("workers at work", || run.processes() >= 4);
    assert_eq!(run_folders(pid).len(), 1);
    signal(&child, Signal::KILL);
    child.wait().expect("the harness ends");
    await_true("no process left", || run.processes() == 0);
    await_true("no folder left", || run_folders(pid).is_empty());
}

#[test]
fn workers_that_die_are_failed_rows_with_their_last_words() {
    let run = Run::new();
    let runner = run.folder.path().join("runner");
    let mut script = fs::File::create(&runner).expect("the folder is writable");
    writeln!(script, "#!/bin/sh\necho no such luck >&2\nexit 3").expect("the file is writable");
    drop(script);
    make_executable(&runner);
    let output = run
        .command("compare --transport ipmpsc --size 64")
        .env("HARNESS_RUNNER", &runner)
        .output()
        .expect("the harness starts");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no such luck"), "{text}");
    assert!(last_line(&text).starts_with("harness: 0 passed"), "{text}");
    let report = fs::read_to_string(run.out().join("report.md")).expect("written");
    assert!(report.contains("## Failures"));
}

fn make_executable(path: &Path) {
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, executable).expect("the file is ours");
}
