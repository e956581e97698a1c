//! Reports of a made-up run, from outside: rendering, checking, publishing, the exit codes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "../../src/report/fixture.rs"]
mod fixture;

const README: &str =
    "# A project\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nThe end.\n";

/// A project of its own, in which nothing was measured yet.
struct Project {
    folder: TempDir,
}

impl Project {
    fn new() -> Project {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let project = Project { folder };
        fs::create_dir_all(project.latest()).expect("the folder is writable");
        fs::write(project.path("README.md"), README).expect("the folder is writable");
        project
    }

    /// With a made-up run in `results/latest`, whose stamp is changed so.
    fn with_run(change: &[(&str, Value)]) -> Project {
        let project = Project::new();
        make_up(&project.latest(), change);
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn latest(&self) -> PathBuf {
        self.path("results/latest")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("the file is there")
    }

    /// The one published run.
    fn published(&self) -> PathBuf {
        self.path("results/published/linux-x86_64-example-9000-2-cores/2026-01-02-0123456")
    }

    /// `harness report` as cargo would run it in this project.
    fn report(&self, words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.arg("report").args(words.split_whitespace()).current_dir(self.folder.path());
        command.env("CARGO_MANIFEST_DIR", self.path("harness"));
        command.output().expect("the harness starts")
    }

    #[track_caller]
    fn expect(&self, words: &str, code: i32) -> String {
        let output = self.report(words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "report {words}: {text}");
        text
    }
}

/// Writes a made-up run's rows and stamp, the latter changed so.
fn make_up(folder: &Path, change: &[(&str, Value)]) {
    let lines: Vec<_> = fixture::rows().iter().map(|row| row.to_string() + "\n").collect();
    fs::write(folder.join("runs.jsonl"), lines.concat()).expect("writable");
    let mut env = fixture::env();
    for (field, value) in change {
        env[*field] = value.clone();
    }
    fs::write(folder.join("env.json"), env.to_string()).expect("writable");
}

/// Below `folder`, all files by name with what is in them.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.push((path.display().to_string(), fs::read(path).expect("a file")));
        }
    }
    files.sort();
    files
}

#[test]
fn a_report_is_made_again_byte_for_byte_and_a_flipped_byte_is_found() {
    let project = Project::with_run(&[]);
    project.expect("", 0);
    let first = contents(&project.latest());
    assert!(first.iter().any(|(name, _)| name.ends_with("plots/throughput-1.svg")));
    project.expect("", 0);
    assert!(contents(&project.latest()) == first, "the second rendering differs");
    project.expect("--check results/latest", 0);
    for name in ["report.md", "index.html", "summary.csv", "plots/throughput-1.svg"] {
        let path = project.latest().join(name);
        let good = fs::read(&path).expect("rendered");
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        fs::write(&path, bad).expect("writable");
        let text = project.expect("--check results/latest", 5);
        assert!(text.contains(&format!("{name} differs")), "{text}");
        fs::write(&path, good).expect("writable");
    }
    let stranger = project.latest().join("plots/old.svg");
    fs::write(&stranger, "<svg/>").expect("writable");
    let text = project.expect("--check results/latest", 5);
    assert!(text.contains("old.svg is of another report"), "{text}");
    project.expect("", 0);
    assert!(!stranger.exists(), "rendering leaves no plot of an earlier report");
}

#[test]
fn a_report_says_what_is_unfair_and_escapes_what_it_quotes() {
    let project = Project::with_run(&[]);
    project.expect("", 0);
    let report = project.read("results/latest/report.md");
    assert!(report.contains("Oversubscribed: 4 producers and a consumer share 2 processors"));
    assert!(report.contains("The machine is virtual"));
    assert!(report.contains("| saturated (6 of 6 blocks) |"));
    assert!(report.contains("a line \\| with a bar and"), "a bar would end the cell");
    assert!(report.contains("| *floors* |"));
    let page = project.read("results/latest/index.html");
    assert!(!page.contains("<script"), "nothing that was quoted may run");
    assert!(page.contains("&lt;script&gt;alert(1)"));
    for outside in ["src=", "http://", "https://"] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(outside), "the page must need no network: {outside}");
    }
}

#[test]
fn figures_have_one_line_each_with_the_interval() {
    let project = Project::with_run(&[]);
    project.expect("", 0);
    let summary = project.read("results/latest/summary.csv");
    let line = |front: &str| {
        let line = summary.lines().find(|line| line.starts_with(front));
        line.unwrap_or_else(|| panic!("{front} is missing"))
    };
    let rate = line("throughput,ipmpsc,false,1,64,1048576,false,0,messages,1/s,");
    let fields: Vec<_> = rate.split(',').skip(10).collect();
    let number = |at: usize| fields[at].parse::<f64>().expect("a number");
    assert!(number(0) <= number(1) && number(1) <= number(2), "{rate}");
    assert_eq!(fields[3..], ["6", "0.96875", "0", "0"], "{rate}");
    assert!(line("latency,ipc-channel,false,4,64,1048576,false,1000000,").ends_with(",6,,,6"));
}

#[test]
fn builds_that_are_not_optimised_say_so_and_are_never_published() {
    let debug = [("debug_assertions", json!(true)), ("profile", json!("dev"))];
    let project = Project::with_run(&debug);
    project.expect("", 0);
    assert!(project.read("results/latest/report.md").contains("not to be published"));
    let text = project.expect("--publish --force", 2);
    assert!(text.contains("never published"), "{text}");
    assert!(!project.path("results/published").exists());
    assert_eq!(project.read("README.md"), README);
}

#[test]
fn doubtful_runs_are_published_only_by_force() {
    for (field, value, word) in [
        ("ending", json!("interrupted"), "it ended interrupted"),
        ("ending", json!(""), "it ended unfinished"),
        ("revision", json!("0123456789ab with changes"), "commit first"),
        ("sources", json!("0"), "sources have changed"),
        ("emulated", json!("qemu-aarch64-static"), "it was emulated, by qemu-aarch64-static"),
    ] {
        let project = Project::with_run(&[(field, value)]);
        let text = project.expect("--publish", 2);
        assert!(text.contains(word), "{text}");
        assert!(!project.path("results/published").exists());
    }
}

#[test]
fn a_run_that_was_emulated_ranks_nothing() {
    let ranked = |change: &[(&str, Value)]| {
        let project = Project::with_run(change);
        project.expect("", 0);
        let report = project.read("results/latest/report.md");
        let tables = report.split("## Plots").next().unwrap_or_default();
        let words = ["faster", "slower", "unclear", "At a glance"];
        words.map(|word| tables.matches(word).count())
    };
    assert!(ranked(&[]).iter().all(|&count| count > 0), "{:?}", ranked(&[]));
    let emulated = [("emulated", json!("wine 8.0"))];
    assert_eq!(ranked(&emulated), [0; 4]);
}

#[test]
fn what_is_published_is_indexed_shown_and_checked() {
    let project = Project::with_run(&[]);
    project.expect("--publish --force", 0);
    let readme = project.read("README.md");
    assert!(readme.starts_with("# A project\n\n<!-- results:begin -->\n"), "{readme}");
    assert!(readme.ends_with("<!-- results:end -->\n\nThe end.\n"), "{readme}");
    assert!(readme.contains("| ipmpsc |") && readme.contains("What is unfair"), "{readme}");
    assert_eq!(readme.matches(".svg)").count(), 2, "two plots");
    assert!(readme.contains("**Failures, listed below: 1.**"), "force is seen: {readme}");
    for link in readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(project.path(link).exists(), "{link}");
    }
    let index = project.read("results/README.md");
    assert!(index.contains("2026-01-02-0123456/report.md"), "{index}");
    let text = project.expect("--check", 0);
    assert!(text.contains("stale, ipmpsc's sources have changed"), "{text}");
    project.expect("--check --strict", 5);

    for name in ["README.md", "results/README.md"] {
        let good = project.read(name);
        fs::write(project.path(name), good.replace("virtual", "real")).expect("writable");
        let text = project.expect("--check", 5);
        assert!(text.contains(&format!("{name} differs")), "{text}");
        project.expect("--renew", 0);
        assert_eq!(project.read(name), good);
    }
    let report = project.published().join("report.md");
    fs::write(&report, "edited by hand").expect("writable");
    let text = project.expect("--check", 5);
    assert!(text.contains("report.md differs"), "{text}");
    fs::remove_dir_all(project.published()).expect("writable");
    let text = project.expect("--check", 5);
    assert!(text.contains("README.md differs"), "a run that is gone must not be shown: {text}");
}

#[test]
fn a_newer_run_of_a_part_stands_beside_the_run_that_is_shown() {
    let project = Project::with_run(&[]);
    project.expect("--publish --force", 0);
    let shown = project.read("README.md");
    for (words, part) in [
        ("compare --profile scale", "scale"),
        ("torture --matrix", "faults"),
        ("torture --for 30m", "torture"),
    ] {
        let words: Vec<_> = words.split(' ').collect();
        let later = [("arguments", words.into()), ("started", "2026-01-02T05:00:00Z".into())];
        make_up(&project.latest(), &later);
        project.expect("--publish --force", 0);
        assert_eq!(project.read("README.md"), shown);
        let link = format!("2026-01-02-0123456-{part}/report.md");
        assert!(project.read("results/README.md").contains(&link));
    }
    project.expect("--check", 0);
}

#[test]
fn a_readme_without_its_two_lines_is_left_alone() {
    let project = Project::with_run(&[]);
    for readme in ["# None\n", "<!-- results:end -->\n<!-- results:begin -->\n"] {
        fs::write(project.path("README.md"), readme).expect("writable");
        let text = project.expect("--renew", 70);
        assert!(text.contains("README.md"), "{text}");
        assert_eq!(project.read("README.md"), readme);
    }
}

#[test]
fn a_folder_without_a_run_is_named() {
    let project = Project::new();
    let text = project.expect("results/latest", 70);
    assert!(text.contains("results/latest/runs.jsonl"), "{text}");
}

#[test]
#[ignore = "leaves a made-up run in the folder MADE_UP, for ci/page.sh to look at"]
fn a_made_up_run_is_left_to_look_at() {
    let folder = PathBuf::from(std::env::var_os("MADE_UP").expect("MADE_UP names a folder"));
    fs::create_dir_all(&folder).expect("MADE_UP is writable");
    make_up(&folder, &[]);
}
