//! The planted bugs of the crate, one by one: whether the harness notices each, by which of its
//! methods, and how soon. First every method runs without any, and has to pass.
//!
//! Each try is a harness of its own with the bug's name in its surroundings, so that what is tried
//! is what a user would run; its first failed row ends it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    child,
    record::{FailedRow, Row, SelftestRow},
    session::Session,
    sys::{self, Deadline},
};

/// The variable that names the bug of a process.
const BUG: &str = "IPMPSC_MUTANT";
/// Of all random choices: the same bugs are noticed at the same places each time.
const SEED: &str = "1";
/// No try takes longer, however busy the machine is; the longest finds that a process that goes
/// round in circles has not answered for 10 s.
const LIMIT: Duration = Duration::from_secs(60);
/// How often one that waits looks for an interrupt.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What a harness takes to leave when it is told to.
const LEAVE: Duration = Duration::from_secs(10);
/// What is shown of a failure.
const SHOWN: usize = 72;

/// What notices a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// The kept plan of the bug's own name.
    Plan,
    /// Random schedules in lockstep.
    Schedules,
    /// This scenario without faults.
    Verify(&'static str),
    /// Kills and freezes under load.
    Kills,
    /// This act, ended after each instruction.
    Instructions(&'static str),
    /// This act, ended at each named point.
    Points(&'static str),
    /// This row of the fault catalogue.
    Row(&'static str),
}

use Method::{Instructions, Kills, Plan, Points, Row as InRow, Schedules, Verify};

/// What notices it, or why the harness does not.
type Seen = Result<Method, &'static str>;

const ORDER: &str = "the order of memory accesses: only loom reorders them";
const HOSTILE: &str = "hostile bytes: ci/fuzz-smoke.sh and the crate's tests write them";

/// Every planted bug, each by a method that notices it whatever the machine does meanwhile: kills
/// under load only find by chance what needs a death within a few instructions.
const PLANTED: [(&str, Seen); 43] = [
    ("terminator-forgotten", Ok(Kills)),
    ("terminator-no-room", Ok(Schedules)),
    ("tail-first", Ok(Instructions("send bytes, empty"))),
    ("pad-off-by-one", Ok(Verify("smallest ring"))),
    ("inner-pad-off-by-one", Ok(Verify("single calls"))),
    ("head-not-read-again", Ok(Schedules)),
    ("lock-kept-from-the-dead", Ok(Schedules)),
    ("lock-freed-blindly", Err("needs a step between two reads: simulation and loom have it")),
    ("lock-kept", Ok(Schedules)),
    ("lock-ignored", Ok(Schedules)),
    ("commit-before-copy", Ok(Schedules)),
    ("commit-blind", Err("needs a wrong word of death: only the simulation gives one")),
    ("publish-relaxed", Err(ORDER)),
    ("peek-relaxed", Err(ORDER)),
    ("head-relaxed", Err(ORDER)),
    ("space-relaxed", Err(ORDER)),
    ("unlock-relaxed", Err(ORDER)),
    ("head-early", Ok(Schedules)),
    ("wake-omitted", Ok(Schedules)),
    ("wake-before-commit", Ok(Plan)),
    ("sleep-taken", Err("needs a death at a wake that nothing else makes there: loom has it")),
    ("rouse-omitted", Ok(Schedules)),
    ("roused-first", Ok(Plan)),
    ("claim-unseen", Err(ORDER)),
    ("arm-late", Ok(Plan)),
    ("receiver-fence-forgotten", Err(ORDER)),
    ("space-wake-omitted", Ok(Schedules)),
    ("space-fence-forgotten", Err(ORDER)),
    ("rearm-forgotten", Ok(Plan)),
    ("reclaim-without-proof", Ok(Schedules)),
    ("reclaim-as-made", Ok(Points("half-made claim"))),
    ("skip-not-passed", Ok(Schedules)),
    ("generation-ignored", Ok(Schedules)),
    ("generation-kept", Ok(Schedules)),
    ("one-life-byte", Err("needs a stop while a dead one's slot is taken: a test of the crate")),
    ("locks-unseen", Ok(Schedules)),
    ("role-taken-from-the-living", Ok(InRow("C8"))),
    ("discard-forgotten", Ok(InRow("M5"))),
    ("length-trusted", Err(HOSTILE)),
    ("place-trusted", Err(HOSTILE)),
    ("turn-blindly", Ok(Points("go far without a turn"))),
    ("turn-overwritten", Ok(Points("go on behind a turn"))),
    ("closed-ignored", Ok(InRow("F2"))),
];

impl Method {
    /// What to say to a harness, for this bug or for none.
    fn words(self, bug: Option<&str>) -> Vec<&str> {
        match self {
            Plan => vec!["torture", "--lockstep", "0", "--only", bug.unwrap_or(".toml")],
            Schedules => vec!["torture", "--lockstep", "100", "--only", "schedule"],
            Verify(scenario) => vec!["verify", "--for", "1s", "--only", scenario],
            Kills => vec!["torture", "--kills", "100", "--only", "faults"],
            Instructions(act) => vec!["torture", "--sweep", "instructions", "--only", act],
            Points(act) => vec!["torture", "--sweep", "points", "--only", act],
            InRow(id) => {
                vec!["torture", "--matrix", "--transport", "ipmpsc", "--only", id]
            }
        }
    }

    /// As a person would type it, without what is chosen.
    fn shown(self) -> String {
        match self {
            Plan => "kept plan".into(),
            Schedules => "torture --lockstep".into(),
            Verify(scenario) => format!("verify, {scenario}"),
            Kills => "torture, kills".into(),
            Instructions(act) => format!("sweep instructions, {act}"),
            Points(act) => format!("sweep points, {act}"),
            InRow(id) => format!("torture --matrix, {id}"),
        }
    }
}

/// What notices the bug here.
fn seen(seen: Seen) -> Seen {
    let needs_ptrace = matches!(seen, Ok(Instructions(_) | Points(_)));
    match needs_ptrace && !sys::LEADS_BY_STEPS {
        true => Err("the sweeps need ptrace, on Linux and x86_64"),
        false => seen,
    }
}

/// Every method without a bug, then every bug whose name has `only` in it.
pub(crate) fn run(session: &mut Session, only: &str) -> Result<()> {
    let chosen: Vec<_> = PLANTED
        .iter()
        .filter(|(bug, _)| bug.contains(only))
        .map(|&(bug, method)| (bug, seen(method)))
        .collect();
    let mut methods = Vec::new();
    for method in chosen.iter().filter_map(|(_, method)| method.ok()) {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    let tries = methods.len() + chosen.iter().filter(|(_, method)| method.is_ok()).count();
    session.progress.begin("selftest", tries as u64);
    let clean = without_bugs(session, &methods)?;
    // What fails without a bug says nothing with one.
    if clean {
        let noticed = with_bugs(session, &chosen)?;
        session.say_last(&summary(noticed, chosen.len()));
    }
    session.progress.end();
    Ok(())
}

fn without_bugs(session: &mut Session, methods: &[Method]) -> Result<bool> {
    let mut clean = true;
    for &method in methods {
        let name = format!("{} without a bug", method.shown());
        session.progress.step(&name);
        let tried = attempt(session, method, None)?;
        if session.is_over() {
            return Ok(false);
        }
        match &tried.found {
            None if tried.code == Some(0) => {
                session.pass();
                session.progress.say(&format!("{name}: passed in {}", seconds(tried.took)));
            }
            found => {
                let what = found.as_ref().map_or_else(|| tried.words(), |row| row.what.clone());
                clean = false;
                fail(session, &name, what)?;
            }
        }
        session.progress.stepped();
    }
    Ok(clean)
}

/// Tries each, with a line of the table for each. How many were noticed.
fn with_bugs(session: &mut Session, chosen: &[(&str, Seen)]) -> Result<usize> {
    let mut noticed = 0;
    for &(bug, method) in chosen {
        let row = match method {
            Err(why) => {
                session.pass_over();
                SelftestRow { mutant: bug.into(), what: why.into(), ..SelftestRow::default() }
            }
            Ok(method) => {
                session.progress.step(&format!("{bug}: {}", method.shown()));
                let tried = attempt(session, method, Some(bug))?;
                if session.is_over() {
                    break;
                }
                session.progress.stepped();
                let row = row_of(bug, method, &tried);
                if row.noticed {
                    session.pass();
                } else {
                    let what = format!("{} did not notice it: {}", row.method, row.what);
                    fail(session, bug, what)?;
                }
                row
            }
        };
        noticed += usize::from(row.noticed);
        session.progress.insist(&line(&row));
        session.record(&Row::Selftest(row))?;
    }
    Ok(noticed)
}

fn fail(session: &mut Session, name: &str, what: String) -> Result<()> {
    let (command, transport) = ("selftest".into(), "ipmpsc".into());
    session.fail(FailedRow { command, name: name.into(), transport, what })
}

fn row_of(bug: &str, method: Method, tried: &Tried) -> SelftestRow {
    let found = tried.found.as_ref();
    SelftestRow {
        mutant: bug.into(),
        method: method.shown(),
        noticed: found.is_some(),
        place: found.map(|row| row.name.clone()).unwrap_or_default(),
        took_ns: u64::try_from(tried.took.as_nanos()).unwrap_or(u64::MAX),
        what: found.map_or_else(|| tried.words(), |row| row.what.clone()),
    }
}

/// How a harness fared.
struct Tried {
    /// The first thing that failed, and until then or to its end:
    found: Option<FailedRow>,
    took: Duration,
    /// Its exit code, if it came to its end by itself.
    code: Option<i32>,
    stderr: String,
}

impl Tried {
    /// How it ended that found nothing.
    fn words(&self) -> String {
        let last = self.stderr.lines().next_back().unwrap_or("without a word");
        match self.code {
            Some(code) => format!("exit code {code}; {last}"),
            None => format!("no end within {LIMIT:?}; {last}"),
        }
    }
}

/// Runs a harness until something fails or it ends.
fn attempt(session: &Session, method: Method, bug: Option<&str>) -> Result<Tried> {
    let began = Instant::now();
    let deadline = Deadline::after(LIMIT);
    let (out, words) = (session.folder().join("tried"), session.folder().join("tried.err"));
    let mut process = child::itself("__attempt")?;
    process.args(method.words(bug)).args(["--json", "--seed", SEED, "--out"]).arg(&out);
    process.env_remove(BUG).envs(bug.map(|bug| (BUG, bug)));
    process.stdin(Stdio::null()).stdout(Stdio::piped());
    process.stderr(File::create(&words).context("a file for a harness's stderr")?);
    let mut harness = process.spawn().context("start a harness")?;
    let stdout = harness.stdout.take().context("stdout is piped")?;
    let (sender, rows) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut found = None;
    while found.is_none() && !session.is_over() && !deadline.left().is_zero() {
        match rows.recv_timeout(deadline.left().min(LOOK_EVERY)) {
            Ok(line) => {
                if let Row::Failed(row) = serde_json::from_str(&line).context("a row")? {
                    found = Some(row);
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let took = began.elapsed();
    let code = end(harness, found.is_some() || session.is_over())?;
    let stderr = fs::read_to_string(&words).context("a harness's stderr")?;
    Ok(Tried { found, took, code, stderr })
}

/// Has it end, by itself if it can. Its exit code, if that is its own.
fn end(mut harness: Child, is_told: bool) -> Result<Option<i32>> {
    if is_told {
        sys::ask_to_end(&mut harness).context("end a harness")?;
    }
    let deadline = Deadline::after(LEAVE);
    while !deadline.left().is_zero() {
        if let Some(status) = harness.try_wait().context("wait for a harness")? {
            return Ok(status.code());
        }
        thread::sleep(Duration::from_millis(2));
    }
    harness.kill().context("kill a harness")?;
    harness.wait().context("wait for a harness")?;
    Ok(None)
}

/// A bug's line of the table, and below it what was said.
fn line(row: &SelftestRow) -> String {
    let SelftestRow { mutant, method, noticed, place, took_ns, what } = row;
    let took = match method.is_empty() {
        true => "-".into(),
        false => seconds(Duration::from_nanos(*took_ns)),
    };
    let begin = format!("{mutant:<27} {took:>7}  ");
    match (method.is_empty(), noticed) {
        (true, _) => format!("{begin}{what}"),
        (_, true) => format!("{begin}{method}: {place}\n{:37}{}", "", cut(what)),
        (_, false) => format!("{begin}NOT by {method}\n{:37}{}", "", cut(what)),
    }
}

fn summary(noticed: usize, of: usize) -> String {
    format!("{noticed} of {of} planted bugs noticed; who notices the rest: ipmpsc/tests/mutants.md")
}

fn cut(what: &str) -> String {
    let line = what.lines().next().unwrap_or_default();
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line.into(),
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.2} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{nemesis::CATALOGUE, regression, scenario};

    #[test]
    fn every_planted_bug_of_the_crate_is_there_once() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ipmpsc/src/mutants.rs");
        let text = fs::read_to_string(file).expect("the crate's sources");
        let names = text.lines().filter_map(|line| line.strip_prefix("//! | `")?.split('`').next());
        assert!(names.eq(PLANTED.map(|(bug, _)| bug)), "as in the crate's table, in its order");
    }

    #[test]
    fn what_the_methods_name_exists_and_most_bugs_have_one() {
        let plans = regression::plans().expect("they are read when the program is built");
        for (bug, method) in PLANTED {
            match method {
                Ok(Plan) => assert!(plans.iter().any(|(_, plan)| plan.mutant == bug), "{bug}"),
                Ok(Verify(name)) => assert_eq!(scenario::chosen(Some(name)).len(), 1, "{bug}"),
                Ok(InRow(id)) => assert!(CATALOGUE.iter().any(|entry| entry.id == id), "{bug}"),
                Ok(_) | Err(_) => {}
            }
        }
        assert!(PLANTED.iter().filter(|(_, method)| method.is_ok()).count() >= 15);
    }

    #[test]
    fn a_line_says_who_noticed_what_and_why_others_did_not() {
        let noticed = SelftestRow {
            mutant: "lock-kept".into(),
            method: "torture --lockstep".into(),
            noticed: true,
            place: "schedule 3 (ipmpsc)".into(),
            took_ns: 1_250_000_000,
            what: "x".repeat(200),
        };
        let missed = SelftestRow { noticed: false, ..noticed.clone() };
        let other = SelftestRow { mutant: "a".into(), what: ORDER.into(), ..Default::default() };
        let lines = [noticed, missed, other].map(|row| line(&row));
        assert!(
            lines[0].contains("1.25 s  torture --lockstep: schedule 3 (ipmpsc)\n"),
            "{lines:?}"
        );
        assert!(lines[0].ends_with("x..."), "{lines:?}");
        assert!(lines[1].contains("NOT by torture --lockstep"), "{lines:?}");
        assert!(lines[2].ends_with(ORDER), "{lines:?}");
    }
}
