//! Every transport between real processes, and every floor in one: what the list names is
//! delivered, measured or explained.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::{Run, json_lines, last_line, stderr};

const BATCH: &str = "ipmpsc-batch";

/// What `harness transports --json` says.
fn list(run: &Run) -> Vec<Value> {
    let list = run.output("transports --json");
    assert_eq!(list.status.code(), Some(0));
    json_lines(&String::from_utf8_lossy(&list.stdout))
}

fn name(line: &Value) -> &str {
    line["transport"].as_str().expect("every line has a name")
}

fn is_here(line: &Value) -> bool {
    line["missing"].is_null()
}

fn is_floor(line: &Value) -> bool {
    line["floor"].as_bool().expect("every line says whether it is a floor")
}

fn rows(run: &Run) -> Vec<Value> {
    json_lines(&fs::read_to_string(run.out().join("runs.jsonl")).expect("written"))
}

#[test]
fn every_transport_delivers_all_sizes_of_three_producers_in_order() {
    let run = Run::new();
    let list = list(&run);
    let here = |line: &&&Value| is_here(line) && !is_floor(line);
    // The scenarios of our forms go round three of them, so the fourth gets a turn of its own.
    let (batch, rest): (Vec<_>, Vec<_>) = list.iter().partition(|line| name(line) == BATCH);
    for (lines, time) in [(rest, "8s"), (batch, "3s")] {
        let names: Vec<_> = lines.iter().copied().map(name).collect();
        let words = format!("verify --producers 3 --for {time} --transport {}", names.join(","));
        let output = run.output(&words);
        // On a busy machine some state may not be met in that time; that is another test's matter.
        assert!(matches!(output.status.code(), Some(0 | 3)), "{}", stderr(&output));
        let rows = rows(&run);
        for name in lines.iter().filter(here).map(|line| name(line)) {
            let row = rows.iter().find(|row| row["transport"] == name && row["producers"] == 3);
            let messages = row.and_then(|row| row["messages"].as_u64());
            // Some of each producer; how many, the machine decides: one has come by 91.
            assert!(messages.is_some_and(|count| count > 30), "{name}: {messages:?}");
        }
        let skipped = lines.iter().filter(|line| !here(line)).count();
        let tally = format!(" 0 failed, {skipped} skipped");
        assert!(last_line(&stderr(&output)).ends_with(&tally), "{tally}: {}", stderr(&output));
    }
}

#[test]
fn every_transport_is_measured_in_what_it_can_do() {
    let run = Run::new();
    let list = list(&run);
    let names: Vec<_> = list.iter().map(name).collect();
    let words =
        format!("compare --producers 2 --size 64,64k --for 10s --transport {}", names.join(","));
    let output = run.output(&words);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows = rows(&run);
    let measured = |kind: &str, size: u64, producers: u64| -> BTreeSet<&str> {
        let is_wanted = |row: &&Value| {
            row["row"] == kind && row["size"] == size && row["producers"] == producers
        };
        rows.iter().filter(is_wanted).filter_map(|row| row["transport"].as_str()).collect()
    };
    let all: BTreeSet<_> = list.iter().filter(|line| is_here(line)).map(name).collect();
    let but = |others: &[&'static str]| -> BTreeSet<&str> {
        all.iter().copied().filter(|name| !others.contains(name)).collect()
    };
    // A queue's messages are short unless the machine's owner says otherwise.
    let longest = fs::read_to_string("/proc/sys/fs/mqueue/msgsize_max").unwrap_or_default();
    let is_short = longest.trim().parse().unwrap_or(0) < 64 << 10;
    let queue = if is_short { "posix-mq" } else { "none" };
    assert_eq!(measured("throughput", 64, 1), but(&["cache-line"]));
    assert_eq!(measured("throughput", 64, 2), but(&["cache-line", "null", "memcpy"]));
    assert_eq!(measured("throughput", 64 << 10, 1), but(&["cache-line", queue]));
    let turns = but(&["null", "memcpy", BATCH]);
    assert_eq!(measured("ping_pong", 64, 1), turns);
    let turns = but(&["null", "memcpy", BATCH, "cache-line", queue]);
    assert_eq!(measured("ping_pong", 64 << 10, 1), turns);
}

#[test]
fn what_cannot_run_is_listed_with_the_reason_and_skipped() {
    let run = Run::new();
    let list = list(&run);
    for line in list.iter().filter(|line| !is_here(line)) {
        let why = line["missing"].as_str().expect("a reason is text");
        assert!(!why.is_empty());
        let human = run.output("transports");
        assert!(String::from_utf8_lossy(&human.stdout).contains(why), "{}", name(line));
        let output = run.output(&format!("compare --for 1s --transport {}", name(line)));
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
        assert_eq!(last_line(&stderr(&output)), "harness: 0 passed, 0 failed, 1 skipped");
    }
    let is_built = list.iter().any(|line| name(line) == "iceoryx2" && is_here(line));
    assert_eq!(is_built, cfg!(feature = "iceoryx2"));
}
