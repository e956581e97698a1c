//! Failures that are replayed and made small, in a build with the named points and planted bugs;
//! and what a build without them says.

use std::fs;

use super::{Run, stderr};

const PLAN: &str = r#"
    way = "lockstep"
    transport = "ipmpsc-bytes"
    ring_bytes = 128
    producers = 2
    messages = 3
    longest = 40
    seed = 7
    schedule = ["c 4", "p0 to claim-moved", "p1 9", "c 3", "p1 7"]

    [[faults]]
    who = "p0"
    do = "kill"
    at = "claim-moved"
    passage = 2
"#;

fn planned(run: &Run, text: &str) -> String {
    let path = run.folder.path().join("plan.toml");
    fs::write(&path, text).expect("the folder is writable");
    path.display().to_string()
}

#[cfg(feature = "fault")]
#[test]
fn a_plan_in_lockstep_has_one_history_however_often_it_is_replayed() {
    let run = Run::new();
    let output = run.output(&format!("replay {} --times 20", planned(&run, PLAN)));
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("failed 0 of 20 (0 %,"), "{text}");
    assert!(text.contains("histories: 1 (the same history each time)"), "{text}");
    assert!(!text.contains("never stood"), "its fault came about: {text}");
}

#[cfg(feature = "fault")]
#[test]
fn a_fault_at_a_point_that_nobody_reaches_is_named() {
    let run = Run::new();
    let text = PLAN.replace("at = \"claim-moved\"", "at = \"claim-mvoed\"");
    let output = run.output(&format!("replay {} --times 1", planned(&run, &text)));
    let text = stderr(&output);
    assert!(text.contains("p0 never stood at \"claim-mvoed\" 2 times"), "{text}");
}

#[cfg(feature = "fault")]
#[test]
fn a_producer_can_be_killed_at_any_point_of_its_last_send() {
    let run = Run::new();
    for point in ["claim-locked", "claim-moved", "copy-half", "copy-done", "commit-done"] {
        let text = PLAN.replace("messages = 3", "messages = 1");
        let text = text.replace("at = \"claim-moved\"", &format!("at = \"{point}\""));
        for schedule in ["\"p0 40\"", "\"c 4\", \"p0 to commit-done\", \"p0 5\", \"c 9\""] {
            let begin = text.find("schedule = ").expect("it has one");
            let end = begin + text[begin..].find('\n').expect("a line of its own");
            let text = format!("{}schedule = [{schedule}]{}", &text[..begin], &text[end..]);
            let output = run.output(&format!("replay {} --times 3", planned(&run, &text)));
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(0), "{point}, {schedule}: {said}");
            assert!(said.contains("failed 0 of 3"), "{point}, {schedule}: {said}");
            assert!(said.contains("histories: 1 "), "{point}, {schedule}: {said}");
            assert!(!said.contains("never stood"), "{point}, {schedule}: {said}");
        }
    }
}

#[cfg(feature = "fault")]
#[test]
fn random_schedules_in_lockstep_are_the_same_for_the_same_seed() {
    let steps = || {
        let output = Run::new().output("torture --lockstep 40 --seed 11");
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        let line = text.lines().find(|line| line.contains(" steps, ")).map(str::to_owned);
        line.expect("a torture in lockstep counts its steps")
    };
    assert_eq!(steps(), steps());
}

#[cfg(all(feature = "fault", feature = "mutant"))]
#[test]
fn a_planted_bug_becomes_a_folder_then_a_rate_then_a_plan_of_a_few_lines() {
    let run = Run::new();
    let planted = |words: &str| {
        let mut command = run.command(words);
        let output = command.env("IPMPSC_MUTANT", "terminator-forgotten").output();
        output.expect("the harness starts")
    };
    let torture = planted("torture --lockstep 300 --seed 1");
    let text = stderr(&torture);
    assert_eq!(torture.status.code(), Some(1), "{text}");
    let line = text.lines().rev().nth(1).expect("the command comes before the tally");
    let (_, words) = line.split_once("harness replay ").expect("it is one of the harness");
    let (file, _) = words.split_once(" --times 50").expect("fifty times");
    let folder = std::path::Path::new(file).parent().expect("a folder of its own");
    let names = ["plan.toml", "history.txt", "ring.bin", "ring.txt", "process-c.txt"];
    for name in names {
        let size = fs::metadata(folder.join(name)).expect(name).len();
        assert!(size > 0, "{name}");
    }
    // As /proc has it, or as Windows does.
    let state = fs::read_to_string(folder.join("process-c.txt")).expect("it is text");
    assert!(state.contains("State:\t") || state.contains("thread: stopped"), "{state}");

    let replay = planted(&format!("replay {file} --times 5"));
    let text = stderr(&replay);
    assert_eq!(replay.status.code(), Some(1), "{text}");
    assert!(text.contains("failed 5 of 5 (100 %,"), "{text}");

    let shrunk = planted(&format!("shrink {file} --for 60s"));
    let text = stderr(&shrunk);
    assert_eq!(shrunk.status.code(), Some(0), "{text}");
    let small = folder.join("plan.min.toml");
    let lines = |path: &std::path::Path| fs::read_to_string(path).expect("written").lines().count();
    assert!(lines(&small) <= 30, "{text}");
    let again = planted(&format!("replay {} --times 3", small.display()));
    assert!(stderr(&again).contains("failed 3 of 3"), "{}", stderr(&again));
}

#[cfg(not(feature = "fault"))]
#[test]
fn a_build_without_points_cannot_go_in_lockstep_and_says_so() {
    let run = Run::new();
    let file = planned(&run, PLAN);
    for words in [format!("replay {file}"), format!("shrink {file}"), "torture --lockstep 3".into()]
    {
        let output = run.output(&words);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{words}: {text}");
        assert!(text.contains("--features fault -- "), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn a_plan_with_a_mistake_is_refused_by_line_and_reason() {
    let run = Run::new();
    let file = planned(&run, &PLAN.replace("seed = 7", "sed = 7"));
    let output = run.output(&format!("replay {file}"));
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("plan.toml: line 8: unknown field `sed`"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
