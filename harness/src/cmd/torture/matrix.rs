//! The fault matrix: every row of the catalogue that can be brought about here, against every
//! transport that can take it.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Child, Command as Process, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::suite::Suite;
use crate::{
    args::Options,
    child::{Crew, Plan, Trouble, Worker},
    emulation::stretched,
    jobs::torture::journal_path,
    journal::Journal,
    ledger::Ledger,
    nemesis::{self, Alone, Broken, CATALOGUE, Entry, Field, How},
    payload::mix,
    protocol::Task,
    record::{FailedRow, FaultRow, Row, Verdict, parse_rows},
    session::{Channel, Session},
    sys::{self, Deadline},
    transports::{ALL, is_ours},
};

/// A scenario of one process takes milliseconds, if it ends.
const ALONE_LIMIT: Duration = Duration::from_secs(20);
/// After this without a message a transport blocks.
const STILL: Duration = Duration::from_secs(1);
/// How long a process stays stopped.
const FREEZE: Duration = Duration::from_millis(300);
/// Between two kills.
const BETWEEN_KILLS: Duration = Duration::from_millis(10);
/// A slow consumer's turns: so long it is stopped, and then it runs a tenth of that.
const LAZE: Duration = Duration::from_millis(20);
const TURNS: u32 = 30;
/// How often all are stopped and resumed at once, each wait of theirs ending for nothing.
const BLINKS: u32 = 2_000;
/// A kill has to fall into a send, which takes luck.
const TRIALS: u32 = 10;
const PRODUCERS: u32 = 4;
const RING: u64 = 64 << 10;
const LARGEST: usize = 4096;
/// The two crates whose API the scenarios of one process use.
const NEW: &str = "ipmpsc";
const OLD: &str = "ipmpsc-0.5.1";
/// Mounts a file system of 64 KiB at its first argument, then becomes the rest.
const MOUNT: &str = r#"mount -t tmpfs -o size=64k tmpfs "$1" && shift && exec "$@""#;

/// Prints the catalogue, with the verdicts of the results at hand.
pub(crate) fn list(options: &Options) -> Result<()> {
    let runs = options.out.as_ref().map(|out| out.join("runs.jsonl"));
    let text = runs.and_then(|runs| fs::read_to_string(runs).ok()).unwrap_or_default();
    let rows = parse_rows(&text)?;
    let mut out = std::io::stdout().lock();
    for Entry { id, fault, how } in CATALOGUE {
        let verdict = verdicts(&rows, id, how);
        let (platform, how) = place(how);
        writeln!(out, "{id:<4} {platform:<12} {fault}; {how}; {verdict}")?;
    }
    Ok(())
}

/// What the rows of a run say of an entry. A sweep or a load that broke has left a failure instead.
fn verdicts(rows: &[Row], id: &str, how: How) -> String {
    let (mut words, mut times) = (Vec::new(), 0);
    for row in rows {
        match (row, how) {
            (Row::Fault(row), _) if row.id == id => {
                words.push(format!("{} {}", row.transport, row.verdict.word()));
            }
            (Row::Sweep(row), How::Swept(act)) if row.act.contains(act) => {
                times += row.windows.iter().map(|window| window.deaths).sum::<u64>();
            }
            (Row::Torture(row), How::Load(fault)) => {
                let kinds = row.faults.iter().filter(|kind| kind.fault == fault);
                times += kinds.map(|kind| kind.count).sum::<u64>();
            }
            _ => {}
        }
    }
    if times > 0 {
        words.push(format!("{NEW} survives, {times} times"));
    }
    if words.is_empty() { "-".into() } else { words.join(", ") }
}

/// Where a row is run, and by what.
fn place(how: How) -> (&'static str, String) {
    match how {
        How::Alone(alone) => (alone.platform, "torture --matrix, one process".into()),
        How::Elsewhere(system) => (system, "on that system only".into()),
        How::Field(_) => ("any", "torture --matrix, every transport".into()),
        How::Swept(act) => ("linux x86_64", format!("torture --sweep instructions --only {act:?}")),
        How::Load(fault) => ("any", format!("torture, {fault}")),
        How::Crate(test) => ("any", format!("torture --matrix, the crate's {test}")),
        How::No(why) => ("n/a", why.into()),
    }
}

/// Runs the rows whose id or name has `only` in it.
pub(crate) fn run(session: &mut Session, only: &str) -> Result<()> {
    let wanted = |entry: &&Entry| entry.id == only || entry.fault.contains(only);
    let entries: Vec<_> = CATALOGUE.iter().filter(wanted).collect();
    let mut suite = None;
    session.progress.begin("faults", entries.len() as u64);
    for entry in entries {
        if matches!(entry.how, How::Swept(_) | How::Load(_) | How::Elsewhere(_) | How::No(_)) {
            let (_, how) = place(entry.how);
            session.progress.say(&format!("{} {}: not here; {how}", entry.id, entry.fault));
        }
        if session.is_over() {
            break;
        }
        match entry.how {
            How::Alone(alone) => {
                for subject in [NEW, OLD] {
                    if is_wanted(session, subject) {
                        let (verdict, note) = run_alone(session, entry.id, alone, subject)?;
                        judge(session, entry, subject, verdict, note)?;
                    }
                }
            }
            How::Field(field) => {
                for transport in ALL {
                    let runs = transport.joins_processes() && transport.missing().is_none();
                    if runs && is_wanted(session, transport.name()) && !session.is_over() {
                        let (verdict, note) = run_field(session, field, transport.name());
                        judge(session, entry, transport.name(), verdict, note)?;
                    }
                }
            }
            How::Crate(test) => {
                if is_wanted(session, NEW) {
                    let (verdict, note) = match suite.get_or_insert_with(Suite::build) {
                        Ok(suite) => suite.run(session, test)?,
                        Err(why) => (Verdict::NotApplicable, why.clone()),
                    };
                    judge(session, entry, NEW, verdict, note)?;
                }
            }
            How::Swept(_) | How::Load(_) | How::Elsewhere(_) | How::No(_) => {}
        }
        session.progress.stepped();
    }
    session.progress.end();
    Ok(())
}

fn is_wanted(session: &Session, transport: &str) -> bool {
    let named = &session.options.transports;
    named.is_empty() || named.contains(&transport)
}

/// Records a verdict, and holds it against what is promised or known.
fn judge(
    session: &mut Session,
    entry: &Entry,
    transport: &str,
    verdict: Verdict,
    note: String,
) -> Result<()> {
    let (documented, old_fails) = match entry.how {
        How::Alone(alone) => (alone.documented, alone.old_fails),
        How::Field(field) => (None, matches!(field, Field::KillProducers | Field::LoseConsumer)),
        _ => (None, false),
    };
    let name = format!("{} {}", entry.id, entry.fault);
    let why = if note.is_empty() { String::new() } else { format!(" ({note})") };
    session.progress.say(&format!("{name}: {transport} {}{why}", verdict.word()));
    let survives = matches!(verdict, Verdict::Survives | Verdict::NotApplicable);
    if is_ours(transport) && !survives && documented.is_none() {
        let (command, transport) = ("torture".into(), transport.into());
        session.fail(FailedRow { command, name, transport, what: note.clone() })?;
    } else if transport == OLD && old_fails && verdict == Verdict::Survives {
        session.inconclusive(&format!("{name}: 0.5.1 is known to fail and did not"));
    } else {
        session.pass();
    }
    let note = documented.filter(|_| !survives && is_ours(transport)).map_or(note, Into::into);
    session.record(&Row::Fault(FaultRow {
        id: entry.id.into(),
        fault: entry.fault.into(),
        transport: transport.into(),
        verdict,
        note,
    }))
}

/// A scenario in a process of its own.
fn run_alone(
    session: &Session,
    id: &str,
    alone: Alone,
    subject: &str,
) -> Result<(Verdict, String)> {
    let folder = session.folder().join(format!("fault-{id}-{subject}"));
    fs::create_dir_all(&folder)?;
    let words = session.folder().join("fault.err");
    let mut process = if alone.tiny {
        let mut process = Process::new("unshare");
        process.args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh"]);
        process.arg(&folder).arg(std::env::current_exe()?).arg("__nemesis");
        process
    } else {
        crate::child::itself("__nemesis")?
    };
    process.args([id, subject]).arg(&folder).stdin(Stdio::null()).stdout(Stdio::piped());
    let Ok(mut child) = process.stderr(File::create(&words)?).spawn() else {
        return Ok((Verdict::NotApplicable, "unshare(1) is not there".into()));
    };
    let said = child.stdout.take().context("stdout is piped")?;
    let status = outcome(child, ALONE_LIMIT, session)?;
    let said = std::io::read_to_string(said)?;
    let words = fs::read_to_string(&words).unwrap_or_default();
    // What it leaves goes with the run's folder at the latest.
    let _ = fs::remove_dir_all(&folder);
    Ok(verdict_of(status, &said, &words, alone.tiny))
}

/// How a process ends, if it does within its limit.
pub(super) fn outcome(
    mut child: Child,
    limit: Duration,
    session: &Session,
) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Deadline::after(stretched(limit));
    while !deadline.left().is_zero() && !session.is_over() {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(2));
    }
    // It may have ended by itself, which is as good.
    let _ = child.kill();
    child.wait()?;
    Ok(None)
}

fn verdict_of(
    status: Option<ExitStatus>,
    said: &str,
    words: &str,
    tiny: bool,
) -> (Verdict, String) {
    let Some(status) = status else {
        return (Verdict::Blocks, format!("no end after {ALONE_LIMIT:?}"));
    };
    if let Ok(verdict) = serde_json::from_str(said) {
        return verdict;
    }
    let last = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if tiny && (words.starts_with("unshare:") || words.starts_with("mount:")) {
        return (Verdict::NotApplicable, last.into());
    }
    (Verdict::Dies, format!("{status}; {last}"))
}

/// The hidden `__nemesis`: one scenario, its verdict on stdout.
pub(crate) fn nemesis(id: &str, subject: &str, folder: &Path) -> Result<()> {
    let entry = nemesis::find(id).context("no such fault")?;
    let How::Alone(alone) = entry.how else { anyhow::bail!("{id} is no scenario of one process") };
    let scenario = if subject == OLD { alone.old } else { alone.ours };
    // A crash is a verdict here, not something to keep.
    sys::keep_no_core();
    let verdict = match scenario(folder) {
        Ok(()) => (Verdict::Survives, String::new()),
        Err(Broken::Blocks(note)) => (Verdict::Blocks, note),
        Err(Broken::Loses(note)) => (Verdict::Loses, note),
        Err(Broken::Corrupts(note)) => (Verdict::Corrupts, note),
        Err(Broken::Dies(note)) => (Verdict::Dies, note),
        Err(Broken::NotHere(note)) => (Verdict::NotApplicable, note),
    };
    writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&verdict)?)?;
    Ok(())
}

/// Signals to real processes, until one shows.
fn run_field(session: &mut Session, field: Field, transport: &str) -> (Verdict, String) {
    let trials = match field {
        Field::KillProducers => TRIALS,
        Field::KillAll => TRIALS / 2,
        _ => 2,
    };
    for trial in 1..=trials {
        let seed = mix(session.options.seed ^ u64::from(trial));
        let channel =
            Channel { ring_bytes: RING, message_max: LARGEST as u64, producers: PRODUCERS, seed };
        let plan = session.plan(transport, Task::Torture { largest: LARGEST }, channel);
        let met = Trial::run(&plan, field);
        session.clear(&plan);
        match met {
            Ok(None) => {}
            Ok(Some((verdict, note))) => return (verdict, format!("trial {trial}: {note}")),
            Err(Trouble::Interrupted) => return (Verdict::NotApplicable, "interrupted".into()),
            Err(Trouble::Failed(what)) => {
                // The checks' own words say what kind of failure it is.
                let verdict = match &what {
                    what if what.contains("torn") => Verdict::Corrupts,
                    what if what.contains("expected message") => Verdict::Loses,
                    _ => Verdict::Dies,
                };
                return (verdict, format!("trial {trial}: {what}"));
            }
        }
    }
    (Verdict::Survives, format!("{trials} trials"))
}

/// Whether a consumer complains that there is nobody left who could send to it.
fn is_hang_up(what: &str) -> bool {
    ["hung up", "isconnected"].iter().any(|words| what.contains(words))
}

/// Four producers and a consumer, one of whom gets a signal.
struct Trial {
    crew: Crew,
    ledger: Ledger,
    journal: Journal,
}

impl Trial {
    /// What was not survived, if anything.
    fn run(plan: &Plan, field: Field) -> Result<Option<(Verdict, String)>, Trouble> {
        let failed = |error: std::io::Error| Trouble::Failed(error.to_string());
        let ledger = Ledger::create(&plan.ledger, PRODUCERS).map_err(failed)?;
        let journal = Journal::create(&journal_path(&plan.ledger), PRODUCERS).map_err(failed)?;
        let mut crew = Crew::gather(plan)?;
        crew.go();
        let mut trial = Trial { crew, ledger, journal };
        if !trial.goes_on()? {
            return Err(Trouble::Failed("it never began".into()));
        }
        if field == Field::KillAll {
            trial.kill_all()?;
            return Ok(trial.lost().map(|note| (Verdict::Loses, note)));
        }
        if field == Field::LoseConsumer {
            return Ok(trial.lose_consumer().map(|note| (Verdict::Blocks, note)));
        }
        if !trial.strike(field)? {
            return Ok(Some((Verdict::Blocks, format!("no message for {STILL:?} after it"))));
        }
        trial.ledger.stop();
        while trial.goes_on()? {}
        Ok(trial.lost().map(|note| (Verdict::Loses, note)))
    }

    /// Kills all producers and lets the consumer receive what there is. Where it is told that they
    /// have hung up, its complaint ends that, unless it is of a message.
    fn kill_all(&mut self) -> Result<(), Trouble> {
        thread::sleep(BETWEEN_KILLS);
        self.crew.producers.iter_mut().for_each(Worker::strike);
        self.crew.producers.drain(..).for_each(|mut worker| worker.kill());
        loop {
            match self.goes_on() {
                Ok(true) => {}
                Err(Trouble::Failed(what)) if is_hang_up(&what) => return Ok(()),
                ended => return ended.map(drop),
            }
        }
    }

    /// Kills the consumer for good: every producer is told, or finds room for its last messages.
    /// Who is neither waits for ever.
    fn lose_consumer(&mut self) -> Option<String> {
        self.crew.consumer.kill();
        // To fill the channel, and to ask who lives.
        thread::sleep(FREEZE);
        self.ledger.stop();
        let deadline = Deadline::after(stretched(STILL));
        let producers = &mut self.crew.producers;
        while !producers.is_empty() && !deadline.left().is_zero() {
            producers.retain_mut(|producer| producer.try_hear().is_none());
            thread::sleep(Duration::from_millis(1));
        }
        let count = producers.len();
        (count > 0).then(|| format!("{count} of {PRODUCERS} producers wait for ever"))
    }

    /// Does it; true if messages go on.
    fn strike(&mut self, field: Field) -> Result<bool, Trouble> {
        match field {
            Field::KillAll | Field::LoseConsumer => unreachable!("nothing goes on after it"),
            Field::SlowConsumer => {
                for _ in 0..TURNS {
                    self.crew.consumer.freeze();
                    thread::sleep(LAZE);
                    self.crew.consumer.thaw();
                    thread::sleep(LAZE / 10);
                }
                self.goes_on()
            }
            Field::KillProducers => {
                while self.crew.producers.len() > 1 {
                    thread::sleep(BETWEEN_KILLS);
                    self.crew.producers.remove(0).kill();
                    if !self.goes_on()? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Field::OneProcessor => {
                let Crew { producers, consumer, .. } = &self.crew;
                if !(consumer.pin() && producers.iter().all(Worker::pin)) {
                    return Err(Trouble::Failed("not all can be put on one processor".into()));
                }
                self.strike(Field::KillProducers)
            }
            Field::Blink => {
                for _ in 0..BLINKS {
                    let crew = self.crew.producers.iter().chain([&self.crew.consumer]);
                    crew.clone().for_each(Worker::freeze);
                    crew.for_each(Worker::thaw);
                }
                self.goes_on()
            }
            Field::FreezeProducer | Field::FreezeConsumer => {
                let victim = match field {
                    Field::FreezeProducer => &self.crew.producers[0],
                    _ => &self.crew.consumer,
                };
                victim.freeze();
                thread::sleep(FREEZE);
                victim.thaw();
                self.goes_on()
            }
        }
    }

    /// Whether another message comes soon. A worker's own complaint is an error.
    fn goes_on(&mut self) -> Result<bool, Trouble> {
        let before = self.journal.messages();
        let deadline = Deadline::after(stretched(STILL));
        while self.journal.messages() == before {
            let workers = self.crew.producers.iter_mut().chain([&mut self.crew.consumer]);
            for worker in workers {
                if let Some(Err(trouble)) = worker.try_hear() {
                    return Err(trouble);
                }
            }
            if deadline.left().is_zero() {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(true)
    }

    /// Acknowledged messages that did not come, of anybody.
    fn lost(&self) -> Option<String> {
        (0..PRODUCERS).find_map(|producer| {
            let acknowledged = self.ledger.line(producer).acknowledged;
            let received = self.journal.received(producer, 0);
            (received < acknowledged).then(|| {
                format!("producer {producer}: {received} received of {acknowledged} acknowledged")
            })
        })
    }
}
