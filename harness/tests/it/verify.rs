//! Each check of `verify` is shown to fail: a fault is planted in one producer (the table is in
//! `src/transports/planted.rs`), and the program must exit with 1 and call it by its name.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

use crate::{Run, await_true, json_lines, last_line, run_folders, stderr};

const ORDER: &str = "order across producers, 16 KiB ring";

/// A verification of one scenario with three producers, of which the first has this fault.
fn with_fault(run: &Run, fault: &str, scenario: &str) -> Output {
    let mut command = run.command("verify --producers 3 --seed 1 --for 1s");
    command.arg(format!("--only={scenario}")).env("HARNESS_PLANT", fault);
    command.output().expect("the harness starts")
}

/// The check of this name fails, and nothing else does.
fn fails(fault: &str, scenario: &str, check: &str) {
    let run = Run::new();
    let output = with_fault(&run, fault, scenario);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{fault}: {text}");
    let failures: Vec<_> = text.lines().filter(|line| line.starts_with("FAILED ")).collect();
    assert_eq!(failures.len(), 1, "{fault}: {text}");
    assert!(failures[0].contains(&format!(": {check}: ")), "{fault}: {text}");
    assert!(last_line(&text).contains(" 1 failed"), "{fault}: {text}");
    let rows = json_lines(&fs::read_to_string(run.out().join("runs.jsonl")).expect("written"));
    assert!(rows.iter().any(|row| row["row"] == "failed"), "{fault}: {rows:?}");
    await_true("no process left", || run.processes() == 0);
}

#[test]
fn a_lost_message_is_noticed() {
    fails("lose@100", "128 B ring, shared", "loss");
    // The first one; two that are too large to be taken come before it.
    fails("lose@3", "4 KiB ring, shared", "loss");
}

#[test]
fn a_doubled_message_is_noticed() {
    fails("double@100", "128 B ring, shared", "duplicate");
}

#[test]
fn two_swapped_messages_of_one_producer_are_noticed() {
    fails("swap@50", ORDER, "order");
}

#[test]
fn a_message_that_nobody_sent_is_noticed() {
    fails("phantom@100", "128 B ring, shared", "phantom");
}

#[test]
fn a_flipped_byte_is_noticed() {
    fails("flip@100", "256 B ring", "bytes");
}

#[test]
fn a_message_that_is_too_short_or_too_long_is_noticed() {
    fails("cut@100", "128 B ring, shared", "length");
    fails("extend@100", "128 B ring, shared", "length");
}

#[test]
fn a_message_that_later_ones_of_others_overtake_is_noticed() {
    fails("delay@100", ORDER, "real-time order");
}

#[test]
fn an_oversized_message_that_is_taken_is_noticed() {
    fails("accept@1", "256 B ring", "oversized");
    fails("accept@1", "single calls", "oversized");
}

#[test]
fn a_wait_that_ends_late_is_noticed() {
    fails("late@1", "single calls", "timeout");
}

#[test]
fn descriptors_files_and_processes_that_are_left_are_noticed() {
    // What comes with the first message is taken for what the channel needs.
    fails("leak@100", "256 B ring", "leak");
    fails("leak@1", "single calls", "leak");
    fails("litter@1", "256 B ring", "leak");
    fails("orphan@1", "256 B ring", "leak");
}

#[test]
fn a_producer_that_stops_is_noticed() {
    fails("stall@100", "256 B ring", "progress");
}

#[test]
fn what_is_planted_but_never_met_does_no_harm() {
    let run = Run::new();
    let output = with_fault(&run, "lose@1000000000", "256 B ring");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = with_fault(&run, "dance@1", "256 B ring");
    assert_eq!(output.status.code(), Some(1), "a fault that nobody knows is no fault");
}

#[test]
fn a_failure_says_how_to_see_it_again_and_how_to_keep_it() {
    let run = Run::new();
    let text = stderr(&with_fault(&run, "lose@10", "smallest ring, shared"));
    let replay = "replay: harness verify --seed 1 --producers 3 --transport ipmpsc-bytes \
                  --only \"smallest ring, shared\"";
    assert!(text.contains(replay), "{text}");
    let line = text.lines().find(|line| line.contains("harness/regressions/"));
    let json = line.and_then(|line| line.split_once(": {")).map(|(_, json)| format!("{{{json}"));
    let kept: Value = serde_json::from_str(&json.expect("a line to keep")).expect("JSON");
    assert_eq!(kept["scenario"], "smallest ring, shared");
    assert_eq!((&kept["seed"], &kept["producers"]), (&Value::from(1), &Value::from(3)));
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/regressions")).expect("kept") {
        let path = file.expect("a readable folder").path();
        let committed = fs::read_to_string(&path).expect("a readable file");
        let committed: Value = serde_json::from_str(&committed).expect("JSON");
        let keys = |value: &Value| value.as_object().expect("an object").keys().count();
        assert_eq!(keys(&committed), keys(&kept), "{}", path.display());
    }
}

#[test]
fn missing_coverage_is_inconclusive_and_named() {
    let run = Run::new();
    let output = with_fault(&run, "hurry@1", "256 B ring");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("not reached: gap 8 pad "), "{text}");
    assert!(last_line(&text).starts_with("harness: 0 passed, 0 failed"), "{text}");
}

#[test]
fn every_sequence_of_lengths_gets_through_the_smallest_rings() {
    let run = Run::new();
    let mut command = run.command("verify --seed 1 --transport ipmpsc-zero-copy");
    let child = command.arg("--only=every sequence").spawn().expect("the harness starts");
    let pid = child.id();
    let output = child.wait_with_output().expect("the harness ends");
    assert_eq!(output.status.code(), Some(0));
    let rows = json_lines(&fs::read_to_string(run.out().join("runs.jsonl")).expect("written"));
    assert_eq!(rows.len(), 1);
    let cells = &rows[0]["cells"];
    assert_eq!(cells["reached"], cells["required"], "{cells}");
    assert!(cells["required"].as_u64() > Some(50_000), "{cells}");
    assert!(run_folders(pid).is_empty());
}

#[test]
fn the_committed_regressions_run_first() {
    let run = Run::new();
    let mut command = run.command("verify --producers 2 --seed 1 --for 1s -v");
    let output: Output = Command::output(&mut command).expect("the harness starts");
    let text = stderr(&output);
    // What a second reaches is the machine's affair.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}");
    let rows = json_lines(&fs::read_to_string(run.out().join("runs.jsonl")).expect("written"));
    let names: Vec<_> = rows.iter().take(2).filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["smallest ring", "single calls"], "the table begins with the latter");
}
