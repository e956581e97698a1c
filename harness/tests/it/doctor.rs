//! `doctor` from outside: its rows, its words, its exit code.

use std::fs;

use crate::{Run, json_lines, last_line, stderr};

#[test]
fn doctor_measures_what_it_lists_and_says_whether_verdicts_can_be_trusted() {
    let run = Run::new();
    let output = run.output("doctor --json --seed 5");
    let text = stderr(&output);
    // A busy machine is inconclusive, and says why.
    match output.status.code() {
        Some(0) => assert!(!text.contains("inconclusive"), "{text}"),
        Some(3) => assert!(text.contains("inconclusive: "), "{text}"),
        code => panic!("{code:?}: {text}"),
    }
    let rows = fs::read_to_string(run.out().join("runs.jsonl")).expect("written");
    assert_eq!(String::from_utf8_lossy(&output.stdout), rows, "--json prints the same rows");
    let rows = json_lines(&rows);
    let median = |probe: &str| {
        let row = rows.iter().find(|row| row["probe"] == probe);
        row.unwrap_or_else(|| panic!("no row of {probe}"))["median"].as_f64().expect("a number")
    };
    for probe in
        ["clock read", "system call", "thread wake-up", "process start and end", "memcpy frame"]
    {
        assert!(median(probe) > 0.0, "{probe}");
        assert!(text.contains(probe), "{probe}: {text}");
    }
    assert!(median("A/A difference") > -100.0);
    for row in &rows {
        let [low, median, high] =
            ["low", "median", "high"].map(|name| row[name].as_f64().expect("a number"));
        assert!(row["row"] == "machine" && low <= median && median <= high, "{row}");
    }
    let (passed, failed) = (format!(" {} passed", rows.len()), " 0 failed");
    assert!(last_line(&text).contains(&passed) && last_line(&text).contains(failed), "{text}");
}
