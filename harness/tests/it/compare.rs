//! A comparison from outside: that every kind of row is there and makes sense.

use std::fs;

use serde_json::Value;

use crate::{Run, json_lines, last_line, stderr};

/// All rows of `compare` with these words.
fn rows(words: &str) -> (Vec<Value>, String) {
    let run = Run::new();
    let output = run.output(&format!("compare {words}"));
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let rows = fs::read_to_string(run.out().join("runs.jsonl")).expect("written");
    (json_lines(&rows), text)
}

fn of<'a>(rows: &'a [Value], kind: &str) -> Vec<&'a Value> {
    rows.iter().filter(|row| row["row"] == kind).collect()
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("{name} of {row}"))
}

/// (nanoseconds, how often), sorted.
fn times(row: &Value, name: &str) -> Vec<(u64, u64)> {
    serde_json::from_value(row[name].clone()).unwrap_or_else(|_| panic!("{name} of {row}"))
}

fn count(times: &[(u64, u64)]) -> u64 {
    times.iter().map(|(_, count)| count).sum()
}

/// All values in ascending order.
fn spelled_out(times: &[(u64, u64)]) -> Vec<u64> {
    let each = times.iter().flat_map(|&(ns, count)| std::iter::repeat_n(ns, count as usize));
    each.collect()
}

#[test]
fn every_kind_is_measured_of_ours_its_twin_and_a_rival() {
    let (rows, text) = rows("--profile quick --producers 2 --transport ipmpsc,pipe --for 2s");
    assert!(last_line(&text).ends_with(" 0 failed, 0 skipped"), "{text}");
    assert!(text.contains(" blocks take about "), "{text}");
    for kind in ["throughput", "ping_pong", "latency", "attach", "idle", "memory"] {
        let of_kind = of(&rows, kind);
        for (transport, twin) in [("ipmpsc", false), ("ipmpsc", true), ("pipe", false)] {
            let is_it = |row: &&&Value| row["transport"] == transport && row["twin"] == twin;
            assert!(of_kind.iter().filter(is_it).count() > 0, "{kind} {transport} {twin}");
        }
    }
    for row in of(&rows, "throughput") {
        let by_producer: Vec<u64> =
            serde_json::from_value(row["by_producer"].clone()).expect("a list of counts");
        assert_eq!(by_producer.iter().sum::<u64>(), number(row, "total_messages"), "{row}");
        assert_eq!(by_producer.len(), 2);
        assert!(number(row, "cpu_ns") > 0);
    }
    for row in of(&rows, "attach") {
        let (connect, first) = (times(row, "connect"), times(row, "first_message"));
        assert_eq!((count(&connect), count(&first)), (8, 8), "{row}");
        let pairs = spelled_out(&connect).into_iter().zip(spelled_out(&first));
        assert!(pairs.into_iter().all(|(connect, first)| first >= connect), "{row}");
    }
    for row in of(&rows, "idle") {
        assert!(number(row, "elapsed_ns") > number(row, "cpu_ns"), "{row}");
    }
    let held = |transport: &str| -> u64 {
        let mut rows = of(&rows, "memory").into_iter();
        let row = rows.find(|row| row["transport"] == transport).expect("seen above");
        number(row, "consumer_bytes") + 2 * number(row, "producer_bytes")
    };
    // A ring of 1 MiB, of which every page was touched, is shared by three processes.
    assert!(held("ipmpsc") > 700 << 10, "{}", held("ipmpsc"));
}

#[test]
fn times_are_taken_from_when_a_message_was_due() {
    let (rows, text) = rows("--profile quick --producers 1 --transport ipmpsc --size 64 --for 4s");
    let latency = of(&rows, "latency");
    assert!(!latency.is_empty(), "{text}");
    for row in latency {
        let (response, service) = (times(row, "response"), times(row, "service"));
        let lag = times(row, "lag");
        let messages = number(row, "messages");
        assert_eq!((count(&response), count(&service)), (messages, messages), "{row}");
        assert_eq!(count(&lag), messages);
        assert!(messages > 0 && number(row, "offered_per_s") == 10_000);
        // Message by message, response is service and lag, so in order it is no less than either.
        let response = spelled_out(&response);
        for part in [spelled_out(&service), spelled_out(&lag)] {
            assert!(response.iter().zip(&part).all(|(whole, part)| whole >= part), "{row}");
        }
        assert!(lag.iter().any(|(ns, _)| *ns > 0), "no clock is that exact: {row}");
    }
}

#[test]
fn a_rate_that_nobody_can_keep_is_saturated_and_no_failure() {
    // 10,000 messages of 4 MiB are 40 GB a second.
    let words = "--profile quick --producers 1 --transport pipe --size 4m --for 1s";
    let (rows, text) = rows(words);
    let latency = of(&rows, "latency");
    assert!(!latency.is_empty() && latency.iter().all(|row| row["saturated"] == true), "{text}");
}
