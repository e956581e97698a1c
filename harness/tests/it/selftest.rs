//! Planted bugs are noticed, and a harness that does not notice one fails; in a build that has any.

#[cfg(all(feature = "fault", feature = "mutant"))]
mod planted {
    use std::fs;

    use crate::{Run, json_lines, make_executable, stderr};

    /// Lines of a shell before the harness that a harness starts.
    fn output(run: &Run, words: &str, first: &str) -> std::process::Output {
        let runner = run.folder.path().join("runner");
        let script = format!("#!/bin/sh\n{first}\nexec \"$@\"\n");
        fs::write(&runner, script).expect("the folder is writable");
        make_executable(&runner);
        let output = run.command(words).env("HARNESS_RUNNER", &runner).output();
        output.expect("the harness starts")
    }

    #[test]
    fn each_bug_is_noticed_or_has_a_reason() {
        let run = Run::new();
        let output = run.output("selftest --json --only lock");
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains("4 of 6 planted bugs noticed"), "{text}");
        assert!(text.contains("torture --lockstep without a bug: passed"), "{text}");
        for row in json_lines(&String::from_utf8_lossy(&output.stdout)) {
            let is_left_out = row["method"] == "";
            assert!(is_left_out != (row["noticed"] == true), "{row}");
            assert!(row["what"].as_str().is_some_and(|what| !what.is_empty()), "{row}");
        }
    }

    #[test]
    fn a_bug_that_is_not_noticed_is_a_failure() {
        let run = Run::new();
        let output = output(&run, "selftest --only arm-late", "unset IPMPSC_MUTANT");
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("NOT by kept plan"), "{text}");
        assert!(text.contains("0 of 1 planted bugs noticed"), "{text}");
    }

    #[test]
    fn a_method_that_fails_without_a_bug_is_a_failure_and_no_bug_is_tried() {
        let run = Run::new();
        let first = "export IPMPSC_MUTANT=arm-late";
        let output = output(&run, "selftest --only arm-late", first);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("FAILED selftest kept plan without a bug: a wake was lost"),
            "{text}"
        );
        assert!(!text.contains("planted bugs noticed"), "{text}");
    }
}

#[cfg(not(all(feature = "fault", feature = "mutant")))]
#[test]
fn a_build_without_bugs_says_which_one_has_them() {
    let output = super::Run::new().output("selftest");
    let text = super::stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--features fault,mutant -- selftest"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
