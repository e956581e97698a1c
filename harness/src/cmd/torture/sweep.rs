//! The sweeps over every instruction and every named point: a process for each act, and what they
//! found as lines.

use std::{
    collections::BTreeMap,
    io::{Write, stdin, stdout},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    child::{Trouble, Worker, itself},
    protocol::{Command, Reply, SweepJob},
    record::{Ended, Places, Row, SweepRow},
    session::Session,
    sweep,
    sys::{self, Deadline, Processor},
};

#[cfg(feature = "fault")]
pub(crate) use crate::sweep::points::play as victim;

/// A sweeper says where it is at each so many steps,
const SAY_EVERY: usize = 32;
/// which takes no longer than this, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sweeps every act whose name has `only` in it, killing and then freezing.
pub(crate) fn run(session: &mut Session, places: Places, only: &str) -> Result<()> {
    let named = (0..).zip(sweep::acts(places)).filter(|(_, act)| act.name.contains(only));
    let jobs: Vec<_> = named
        .flat_map(|(at, act)| [Ended::Killed, Ended::Frozen].map(|end| (at, act.name, end)))
        .collect();
    let mut passed: BTreeMap<String, u64> = BTreeMap::new();
    session.progress.begin("sweep", jobs.len() as u64);
    for (act, name, end) in jobs {
        if session.is_over() {
            break;
        }
        let name = format!("{name}, {}", end.word());
        session.progress.step(&name);
        let job = SweepJob { act, end, places, folder: session.folder().to_owned() };
        match sweep_one(job) {
            Ok(row) => {
                session.pass();
                say(session, &row);
                for window in row.windows.iter().filter(|_| places == Places::Points) {
                    *passed.entry(window.name.clone()).or_default() += window.deaths;
                }
                session.record(&Row::Sweep(row))?;
            }
            Err(trouble) => session.fail_with(&trouble, "torture", &name, "ipmpsc")?,
        }
        session.progress.stepped();
    }
    session.progress.end();
    #[cfg(feature = "fault")]
    if places == Places::Points && !session.is_over() {
        judge(session, &passed, only.is_empty());
    }
    Ok(())
}

/// How often somebody ended at each point; a point that no act came by is not swept.
#[cfg(feature = "fault")]
fn judge(session: &mut Session, passed: &BTreeMap<String, u64>, is_all: bool) {
    use crate::sweep::points::POINTS;
    let never: Vec<_> = POINTS.into_iter().filter(|&point| !passed.contains_key(point)).collect();
    for point in POINTS {
        let often = passed.get(point).copied().unwrap_or(0);
        session.progress.say(&format!("{point:<16} {often:>6} victims"));
    }
    if is_all && !never.is_empty() {
        session.inconclusive(&format!("never passed: {}", never.join(", ")));
    }
}

fn sweep_one(job: SweepJob) -> Result<SweepRow, Trouble> {
    let folder = job.folder.clone();
    let mut sweeper = Worker::start(itself("__sweep")?, &folder, "sweeper")?;
    sweeper.say(&Command::Sweep(job));
    let mut last = 0;
    loop {
        match sweeper.hear(Deadline::after(PATIENCE)) {
            Ok(Reply::At { step }) => last = step,
            Ok(Reply::Swept(row)) => return Ok(*row),
            Ok(other) => return Err(Trouble::Failed(format!("{other:?}, unasked"))),
            Err(Trouble::Failed(what)) => {
                return Err(Trouble::Failed(format!("{what} (past step {last})")));
            }
            Err(trouble) => return Err(trouble),
        }
    }
}

/// A line for the act, and one for each window.
fn say(session: &Session, row: &SweepRow) {
    let worst = row.windows.iter().map(|window| window.worst_ns).max().unwrap_or(0);
    let unit = if row.places == Places::Points { "passages" } else { "instructions" };
    session.progress.say(&format!(
        "{}, {}: {} {unit} in {:.1} s, {} strayed; worst recovery {:.1} ms",
        row.act,
        row.end.word(),
        row.steps,
        row.elapsed_ns as f64 / 1e9,
        row.strayed,
        worst as f64 / 1e6
    ));
    for window in &row.windows {
        session.progress.say(&format!(
            "  {:>6} to {:>6}  {:<32} {:>5} deaths: {:>5} arrived, {:>5} recovered, \
             {:>5} discarded",
            window.first,
            window.last,
            window.name,
            window.deaths,
            window.arrived,
            window.recovered,
            window.discarded
        ));
    }
}

/// The hidden `__sweep`: one thread, since it forks, and one job, read from stdin.
pub(crate) fn sweeper() -> ! {
    sys::die_with_parent();
    // Tracer and traced take turns, so one processor is as good as two and spares the wake-ups.
    sys::pin(Processor::Last);
    let reply = match swept() {
        Ok(row) => Reply::Swept(Box::new(row)),
        Err(error) => Reply::Failed { what: format!("{error:#}") },
    };
    answer(&reply);
    std::process::exit(0)
}

fn swept() -> Result<SweepRow> {
    let mut line = String::new();
    stdin().read_line(&mut line).context("read the job")?;
    let command = serde_json::from_str(&line).with_context(|| format!("a command: {line}"))?;
    let Command::Sweep(job) = command else { bail!("expected a sweep") };
    sweep::run(&job, |k| {
        if k % SAY_EVERY == 0 {
            answer(&Reply::At { step: k as u64 });
        }
    })
}

fn answer(reply: &Reply) {
    let line = serde_json::to_string(reply).expect("a reply is plain data");
    // If nobody listens, the orchestrator has died, and this process with it.
    let _ = writeln!(stdout().lock(), "{line}");
}

/// The hidden `__victim`, which nobody starts in a build without points.
#[cfg(not(feature = "fault"))]
pub(crate) fn victim(_act: usize, _path: &std::path::Path) -> Result<()> {
    std::process::exit(crate::session::Ending::Internal as i32)
}
