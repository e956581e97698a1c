//! The faults that tests of the crate bring about: cargo builds the tests once, each then runs in a
//! process of its own, and how it ends is the row's verdict.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::matrix::outcome;
use crate::{record::Verdict, session::Session};

/// The longest of them takes a minute where processes take long to start.
const LIMIT: Duration = Duration::from_secs(120);
/// Where the crate's sources were when this program was built.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ipmpsc/Cargo.toml");

/// The crate's tests, ready to run.
#[derive(Debug)]
pub(super) struct Suite {
    program: PathBuf,
    /// The tests with the modules they are in.
    names: Vec<String>,
}

impl Suite {
    /// Builds it, or says why it cannot be built.
    pub(super) fn build() -> Result<Suite, String> {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--manifest-path", MANIFEST, "--test", "it", "--features", "fault"]);
        cargo.args(["--no-run", "--locked", "--message-format", "json"]).stdin(Stdio::null());
        let built = cargo.output().map_err(|error| format!("cargo is not there: {error}"))?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr);
            let last = said.lines().next_back().unwrap_or_default();
            return Err(format!("cargo cannot build the crate's tests: {last}"));
        }
        let program = String::from_utf8_lossy(&built.stdout).lines().find_map(executable);
        let program = program.ok_or("cargo built no tests")?;
        let list = Command::new(&program).args(["--list", "--format", "terse"]).output();
        let list = list.map_err(|error| format!("the tests do not start: {error}"))?;
        let names = String::from_utf8_lossy(&list.stdout);
        let names = names.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(Suite { program, names: names.map(str::to_owned).collect() })
    }

    /// Runs the test of this name.
    pub(super) fn run(&self, session: &Session, test: &str) -> std::io::Result<(Verdict, String)> {
        let Some(name) = self.names.iter().find(|name| name.rsplit("::").next() == Some(test))
        else {
            return Ok((Verdict::NotApplicable, format!("{test} is not built on this system")));
        };
        let words = session.folder().join("fault.out");
        let said = File::create(&words)?;
        let mut process = Command::new(&self.program);
        process.args([name, "--exact", "--nocapture", "--test-threads=1"]).stdin(Stdio::null());
        let child = process.stdout(said.try_clone()?).stderr(said).spawn()?;
        let status = outcome(child, LIMIT, session)?;
        Ok(verdict_of(status.map(|status| status.success()), &fs::read_to_string(&words)?, test))
    }
}

/// The tests' program, if this line of cargo's says it.
fn executable(line: &str) -> Option<PathBuf> {
    let artifact: Value = serde_json::from_str(line).ok()?;
    let is_it = artifact["target"]["name"] == "it";
    is_it.then(|| artifact["executable"].as_str().map(|path| Path::new(path).to_owned()))?
}

/// How a test ended that passed, failed or did not end, and what it said meanwhile.
fn verdict_of(passed: Option<bool>, said: &str, test: &str) -> (Verdict, String) {
    let line_of = |words: &str| said.lines().find(|line| line.contains(words));
    match passed {
        None => (Verdict::Blocks, format!("{test} did not end within {LIMIT:?}")),
        Some(true) => match line_of("skipped: ") {
            Some(line) => (Verdict::NotApplicable, line.to_owned()),
            None => (Verdict::Survives, test.to_owned()),
        },
        Some(false) => {
            let panic = line_of("panicked at").unwrap_or("and says no more");
            (Verdict::Dies, format!("{test} failed, {panic}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_passes_fails_skips_or_hangs_is_told_apart() {
        let verdict = |passed, said| verdict_of(passed, said, "a_test").0;
        assert_eq!(verdict(Some(true), "test a::a_test ... ok"), Verdict::Survives);
        assert_eq!(verdict(Some(true), "skipped: only root can"), Verdict::NotApplicable);
        assert_eq!(verdict(None, ""), Verdict::Blocks);
        let (verdict, note) = verdict_of(Some(false), "thread 'x' panicked at y.rs:7:8:", "a_test");
        assert_eq!(verdict, Verdict::Dies);
        assert_eq!(note, "a_test failed, thread 'x' panicked at y.rs:7:8:");
    }

    #[test]
    fn the_program_is_the_one_of_the_tests() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"it"},"executable":"/a/it"}"#;
        assert_eq!(executable(line), Some("/a/it".into()));
        assert_eq!(executable(&line.replace("\"it\"", "\"ipmpsc\"")), None);
        assert_eq!(executable(&line.replace("\"/a/it\"", "null")), None);
        assert_eq!(executable("not JSON"), None);
    }
}
