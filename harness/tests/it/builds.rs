//! Workers by way of a runner, producers of other builds, and runs that are emulated.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{Run, json_lines, last_line, make_executable, stderr};

/// A shell script.
fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("the folder is writable");
    make_executable(path);
}

/// This build by another name.
fn build(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::hard_link(env!("CARGO_BIN_EXE_harness"), &path)
        .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_harness"), &path).map(drop))
        .expect("the folder is writable");
    path
}

/// A runner that notes what it runs; `HARNESS_RUNNER` has a first argument for it.
fn runner(run: &Run) -> (String, impl Fn() -> Vec<String>) {
    let folder = run.folder.path();
    let (path, log) = (folder.join("runner"), folder.join("log"));
    script(&path, &format!("echo \"$*\" >>{}\nshift\nexec \"$@\"", log.display()));
    let lines = move || {
        let text = fs::read_to_string(&log).expect("something was run");
        text.lines().map(str::to_owned).collect()
    };
    (format!("{} by-way", path.display()), lines)
}

#[test]
fn a_runner_with_its_arguments_stands_before_every_process() {
    let run = Run::new();
    let (words, lines) = runner(&run);
    let mut command = run.command("verify --for 1s --producers 2 --only 64");
    let output = command.env("HARNESS_RUNNER", words).output().expect("the harness starts");
    let text = stderr(&output);
    assert!(last_line(&text).contains(" 0 failed"), "{text}");
    let lines = lines();
    assert!(lines.iter().all(|line| line.starts_with("by-way ")), "{lines:?}");
    let own = |word: &str| {
        let line = format!("by-way {} {word}", env!("CARGO_BIN_EXE_harness"));
        lines.iter().filter(|there| there.starts_with(&line)).count()
    };
    assert_eq!((own("__hello"), own("__janitor")), (1, 1), "{lines:?}");
    assert!(own("__worker") >= 3, "a consumer and two producers: {lines:?}");
}

#[test]
fn producers_of_other_builds_take_turns_and_the_consumer_is_this_one() {
    let run = Run::new();
    let (words, lines) = runner(&run);
    let folder = run.folder.path();
    let builds = ["one", "two"].map(|name| build(folder, name));
    let mut command =
        run.command("torture --kills 40 --producers 2 --transport ipmpsc-bytes --only faults");
    command.env("HARNESS_RUNNER", words);
    for build in &builds {
        command.arg("--producer-bin").arg(build);
    }
    let output = command.output().expect("the harness starts");
    let text = stderr(&output);
    assert_eq!(last_line(&text), "harness: 10 passed, 0 failed, 0 skipped", "{text}");
    let lines = lines();
    let count = |program: &Path, word: &str| {
        let line = format!("by-way {} {word}", program.display());
        lines.iter().filter(|there| **there == line).count()
    };
    let asked = builds.each_ref().map(|build| count(build, "__hello"));
    assert_eq!(asked, [1, 1], "{lines:?}");
    // Two in five rounds and one in five others, and those that take the places of the killed.
    let sent = builds.each_ref().map(|build| count(build, "__worker"));
    assert!(sent[0] > 5 && sent[1] > 5 && sent[0] + sent[1] > 15, "{sent:?}");
    assert!(count(Path::new(env!("CARGO_BIN_EXE_harness")), "__worker") >= 10, "{lines:?}");
}

#[test]
fn a_build_that_cannot_take_part_is_refused_in_one_line() {
    let run = Run::new();
    let path = run.folder.path().join("other");
    let refused = |words: &str, what: &str| {
        let mut command = run.command(words);
        let output = command.arg("--producer-bin").arg(&path).output();
        let output = output.expect("the harness starts");
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.starts_with("harness: --producer-bin ") && text.contains(what), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    };
    refused("verify", "is not there; name a program");
    let hello = json!({
        "is": "hello", "protocol": 99, "version": "9.9.9", "target": "some-target",
        "system": std::env::consts::OS, "emulated": null,
    });
    script(&path, &format!("echo '{hello}'"));
    let what = "harness 9.9.9 for some-target speaks version 99 of the control protocol, and this";
    for words in ["verify", "torture --kills 1", "compare"] {
        refused(words, what);
    }
    script(&path, "echo 'harness: unrecognized subcommand' >&2\nexit 2");
    refused("verify", "cannot take part: no answer to `__hello`: died");
    refused("verify", "stderr: harness: unrecognized subcommand");
}

#[test]
fn an_emulated_run_says_so_in_every_row_and_has_no_headline() {
    let run = Run::new();
    let words = "compare --transport ipmpsc,pipe --size 64 --for 1s --producers 1";
    let output = run.command(words).env("HARNESS_EMULATED", "an emulator").output();
    let text = stderr(&output.expect("the harness starts"));
    assert!(last_line(&text).contains(" 0 failed"), "{text}");
    let read = |name: &str| fs::read_to_string(run.out().join(name)).expect("written");
    let rows = json_lines(&read("runs.jsonl"));
    assert!(rows.len() > 4 && rows.iter().all(|row| row["emulated"] == "an emulator"));
    let stamp: Value = serde_json::from_str(&read("env.json")).expect("env.json is JSON");
    assert_eq!(stamp["emulated"], "an emulator");
    let report = read("report.md");
    assert!(report.contains("**Emulated, by an emulator"), "{report}");
    assert!(!report.contains("At a glance") && !text.contains("At a glance"), "{report}");
}

#[test]
fn a_build_that_is_emulated_makes_the_run_so() {
    let run = Run::new();
    let path = run.folder.path().join("other");
    let own = env!("CARGO_BIN_EXE_harness");
    script(&path, &format!("HARNESS_EMULATED='another machine' exec {own} \"$@\""));
    let mut command = run.command("verify --for 1s --producers 1 --only 64 --json");
    let output = command.arg("--producer-bin").arg(&path).output().expect("the harness starts");
    let rows = json_lines(&String::from_utf8_lossy(&output.stdout));
    assert!(!rows.is_empty(), "{}", stderr(&output));
    assert!(rows.iter().all(|row| row["emulated"] == "another machine"), "{rows:?}");
}
