//! No faults: awkward sizes around the ring's end, and every message accounted for.
//!
//! Coverage ends a scenario, not a count: it runs until its map is full, or until its share of the
//! time and what others have left of theirs is used, and then what is missing makes the run
//! inconclusive. With `--for` a scenario takes its share even if its map is full before, and so do
//! those whose map tells no gaps apart, as such a map is soon full and says little.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    checks::balance,
    child::{Crew, Plan, Trouble},
    coverage::{Cells, Grain},
    emulation::stretched,
    leaks,
    ledger::Ledger,
    order::Stamps,
    payload::mix,
    protocol::{Coverage, Mix, Report, Task},
    record::{FailedRow, Row, VerifyRow},
    regression::{self, Regression},
    scenario::{Aim, Producers, SEQUENCE_CAPACITIES, Scenario, VERIFY, chosen},
    session::{Channel, Session},
    sys::Deadline,
    transports::{Transport, find, is_ours},
};

/// What maps that are not full may take beyond that, on a busy machine; longer under an emulator.
const GRACE: Duration = Duration::from_secs(20);
/// No verification goes on without a message for so long.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Transports that need not be as fast are verified with messages up to this length.
const FOREIGN_MAX: u64 = 64 << 10;
/// What is verified when no transport is named.
const OURS: [&str; 3] = ["ipmpsc", "ipmpsc-zero-copy", "ipmpsc-bytes"];
/// What is called by name of the cells that are missing.
const NAMED_CELLS: usize = 8;

/// One scenario as it is run.
#[derive(Clone, Copy, Debug)]
struct Case<'a> {
    scenario: &'a Scenario,
    transport: &'a str,
    producers: u32,
    /// That of the session, or of the run that a regression was found by.
    seed: u64,
}

/// How long a case takes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    least: Duration,
    most: Duration,
}

/// The time that is left.
struct Budget {
    time: Duration,
    /// Whether the user has said how long.
    is_ordered: bool,
    /// What others have left of their shares, and the grace.
    spare: Duration,
    started: Instant,
}

/// Runs the committed regressions and the table of scenarios, or for named transports that are not
/// ours one scenario each. With `only`, the scenarios whose name contains it.
pub(crate) fn run(session: &mut Session, only: Option<&str>) -> Result<()> {
    let named = session.options.transports.clone();
    let ours: Vec<_> = named.iter().copied().filter(|name| is_ours(name)).collect();
    let ours = if named.is_empty() { OURS.to_vec() } else { ours };
    let foreign: Vec<_> = named.iter().copied().filter(|name| !is_ours(name)).collect();
    let wanted = chosen(only);
    let old = if only.is_none() && !ours.is_empty() { regression::all()? } else { Vec::new() };
    let steps = old.len() + if ours.is_empty() { 0 } else { wanted.len() } + foreign.len();
    session.progress.begin("verify", steps as u64);
    let mut budget = Budget::new(session, steps);
    for regression in &old {
        again(session, regression)?;
    }
    let mut coverage = Coverage::default();
    for scenario in wanted.into_iter().filter(|_| !ours.is_empty()) {
        // A form that was not asked for is replaced by one that was.
        let transport = ours[scenario.form % ours.len()];
        let case = Case::new(session, scenario, transport);
        coverage = coverage.plus(timed(session, &case, &mut budget)?);
    }
    if !ours.is_empty() && only.is_none() {
        judge(session, coverage);
    }
    for transport in foreign {
        if let Some(why) = find(transport).and_then(Transport::missing) {
            session.skip(transport, &why);
        } else if find(transport).is_some_and(Transport::joins_processes) {
            let part = budget.time / u32::try_from(steps)?;
            let case = Case::new(session, &FOREIGN, transport);
            step(session, &case, Limits { least: part, most: part })?;
        } else {
            session.skip(transport, "it joins no processes");
        }
    }
    session.progress.end();
    Ok(())
}

/// How transports that are not ours are verified: by messages of all sizes.
const FOREIGN: Scenario = Scenario {
    name: "all sizes",
    form: 0,
    ring_bytes: 1 << 20,
    producers: Producers::All,
    aim: Aim::Time(Mix::Boundaries),
    share: 0,
};

impl Budget {
    fn new(session: &Session, steps: usize) -> Budget {
        let ordered = session.options.duration;
        // A single step leaves nothing to others.
        let spare = stretched(if steps == 1 { 2 * GRACE } else { GRACE });
        let (time, is_ordered) =
            (ordered.unwrap_or(session.options.profile.table().verify), ordered.is_some());
        Budget { time, is_ordered, spare, started: Instant::now() }
    }

    fn limits(&self, scenario: &Scenario) -> Limits {
        let share = self.time.mul_f64(f64::from(scenario.share) / 100.0);
        match scenario.aim {
            // The one that takes what the others have left.
            Aim::Time(Mix::Short) => {
                let rest = share.max(self.time.saturating_sub(self.started.elapsed()));
                Limits { least: rest, most: rest }
            }
            Aim::Time(_) => Limits { least: share, most: share },
            Aim::Map(..) | Aim::Sequences | Aim::Promises => {
                let is_soon_full = scenario.aim == Aim::Map(Grain::Any);
                let least = if self.is_ordered || is_soon_full { share } else { Duration::ZERO };
                // Half of what there is, so that one alone cannot starve those that follow.
                Limits { least, most: share + self.spare / 2 }
            }
        }
    }
}

/// A case within its share, of which it leaves what it does not need to the others.
fn timed(session: &mut Session, case: &Case<'_>, budget: &mut Budget) -> Result<Coverage> {
    let limits = budget.limits(case.scenario);
    let started = Instant::now();
    let coverage = step(session, case, limits)?;
    if !matches!(case.scenario.aim, Aim::Time(_)) {
        let kept = budget.spare - budget.spare / 2;
        budget.spare = kept + limits.most.saturating_sub(started.elapsed());
    }
    Ok(coverage)
}

/// A regression, as briefly as it can be.
fn again(session: &mut Session, regression: &Regression) -> Result<()> {
    let named = VERIFY.iter().find(|scenario| scenario.name == regression.scenario);
    let Some(scenario) = named else {
        bail!("a regression names \"{}\", which is no scenario", regression.scenario);
    };
    let case = Case {
        scenario,
        transport: &regression.transport,
        producers: regression.producers,
        seed: regression.seed,
    };
    let least = Duration::from_millis(regression.least_ms);
    step(session, &case, Limits { least, most: least + stretched(GRACE / 2) }).map(drop)
}

impl<'a> Case<'a> {
    fn new(session: &Session, scenario: &'a Scenario, transport: &'a str) -> Case<'a> {
        let all = session.options.producers;
        let producers = match scenario.producers {
            Producers::One => 1,
            Producers::Several => all.max(2),
            Producers::All => all,
        };
        Case { scenario, transport, producers, seed: session.options.seed }
    }

    /// The rings to go through, by the bytes that are asked for.
    fn rings(&self) -> Vec<u64> {
        match self.scenario.aim {
            // A ring is 16 bytes larger than the message that it must take.
            Aim::Sequences => SEQUENCE_CAPACITIES.step_by(8).map(|bytes| bytes - 16).collect(),
            Aim::Map(..) | Aim::Time(_) | Aim::Promises => vec![self.scenario.ring_bytes],
        }
    }

    fn plan(&self, session: &mut Session, ring_bytes: u64, limits: Limits) -> Result<Plan> {
        let message_max = if is_ours(self.transport) { ring_bytes } else { FOREIGN_MAX };
        let seed = mix(self.seed ^ ring_bytes ^ u64::from(self.producers));
        let channel = Channel { ring_bytes, message_max, producers: self.producers, seed };
        let least_ns = u64::try_from(limits.least.as_nanos())?;
        let most_ns = u64::try_from(limits.most.as_nanos())?;
        let (mix, grain) = match self.scenario.aim {
            Aim::Map(grain) => (Mix::Boundaries, Some(grain)),
            Aim::Time(mix) => (mix, None),
            Aim::Sequences => (Mix::Sequences, None),
            Aim::Promises => return Ok(session.plan(self.transport, Task::Promises, channel)),
        };
        let task = Task::Verify { mix, grain, least_ns, most_ns };
        Ok(session.plan(self.transport, task, channel))
    }

    fn regression(&self) -> Regression {
        Regression {
            scenario: self.scenario.name.into(),
            transport: self.transport.into(),
            producers: self.producers,
            seed: self.seed,
            least_ms: 0,
            note: String::new(),
        }
    }
}

/// What a case has found.
#[derive(Default)]
struct Found {
    messages: u64,
    elapsed_ns: u64,
    coverage: Coverage,
    cells: Cells,
}

/// One case, from spawning to the books.
fn step(session: &mut Session, case: &Case<'_>, limits: Limits) -> Result<Coverage> {
    if session.is_over() {
        return Ok(Coverage::default());
    }
    let name = format!("{} ({})", case.scenario.name, case.transport);
    session.progress.step(&name);
    let mut found = Found::default();
    let deadline = Deadline::after(limits.most);
    for ring_bytes in case.rings() {
        let most = limits.most.min(deadline.left());
        let limits = Limits { least: limits.least.min(most), most };
        let plan = case.plan(session, ring_bytes, limits)?;
        let outcome = verify(&plan, most, &mut found);
        let strays = leaks::files(&plan);
        session.clear(&plan);
        let outcome = outcome.and(strays).and_then(|()| leaks::rest(&plan.setup));
        if let Err(trouble) = outcome {
            session.progress.stepped();
            blame(session, case, &name, &trouble)?;
            return Ok(Coverage::default());
        }
    }
    session.progress.stepped();
    conclude(session, case, &name, &found.cells);
    session.record(&Row::Verify(VerifyRow {
        name: case.scenario.name.into(),
        transport: case.transport.into(),
        producers: case.producers,
        ring_bytes: case.scenario.ring_bytes,
        seed: mix(case.seed ^ case.scenario.ring_bytes ^ u64::from(case.producers)),
        messages: found.messages,
        elapsed_ns: found.elapsed_ns,
        coverage: found.coverage,
        cells: found.cells,
    }))?;
    Ok(found.coverage)
}

/// A failure, how to see it again, and how to keep it.
fn blame(session: &mut Session, case: &Case<'_>, name: &str, trouble: &Trouble) -> Result<()> {
    let Trouble::Failed(what) = trouble else { return Ok(()) };
    let Case { scenario, transport, producers, seed } = case;
    session.fail(FailedRow {
        command: "verify".into(),
        name: name.into(),
        transport: (*transport).into(),
        what: what.clone(),
    })?;
    if is_ours(transport) {
        let again = format!(
            "harness verify --seed {seed} --producers {producers} --transport {transport} \
             --only \"{}\"",
            scenario.name
        );
        session.progress.insist(&format!("  replay: {again}"));
        let line = serde_json::to_string(&case.regression())?;
        session.progress.insist(&format!("  keep in harness/regressions/NAME.json: {line}"));
    }
    Ok(())
}

/// Green if all was reached that had to be.
fn conclude(session: &mut Session, case: &Case<'_>, name: &str, cells: &Cells) {
    let Cells { reached, required, missing } = cells;
    if *required > 0 {
        let unit = if case.scenario.aim == Aim::Sequences { "sequences" } else { "cells" };
        session.progress.say(&format!("coverage: {name}: {reached} of {required} {unit}"));
    }
    if missing.is_empty() {
        session.pass();
    } else if !session.is_over() {
        let more = missing.len().saturating_sub(NAMED_CELLS);
        let mut names = missing[..missing.len() - more].join(", ");
        if more > 0 {
            names += &format!(" and {more} more");
        }
        session.inconclusive(&format!("{name}: not reached: {names}; give it longer with --for"));
    }
}

/// One crew: what it found is added, or why it found nothing.
fn verify(plan: &Plan, part: Duration, found: &mut Found) -> Result<(), Trouble> {
    let failed = |error: std::io::Error| Trouble::Failed(format!("the ledger: {error}"));
    let producers = plan.setup.producers;
    let ledger = Ledger::create(&plan.ledger, producers).map_err(failed)?;
    if let Task::Verify { mix: Mix::Named, .. } = plan.task {
        Stamps::create(&plan.setup.path("order"), producers).map_err(failed)?;
    }
    let mut crew = Crew::gather(plan)?;
    let groups = crew.groups();
    crew.go();
    let mut seen = (0, Deadline::after(SILENCE_MAX));
    let (consumer, reports) = crew.finish_watched(part, || {
        let received = ledger.received_so_far();
        if received != seen.0 {
            seen = (received, Deadline::after(SILENCE_MAX));
        }
        match seen.1.left().is_zero() {
            true => Err(Trouble::Failed(format!(
                "progress: no message for {SILENCE_MAX:?} after {received} messages"
            ))),
            false => Ok(()),
        }
    })?;
    leaks::processes(&groups)?;
    let books = consumer.by_producer.iter().zip(&consumer.hashes);
    for (producer, (&count, &hash)) in (0..).zip(books) {
        balance(producer, ledger.line(producer), count, hash).map_err(Trouble::Failed)?;
    }
    found.add(plan, &consumer, &reports);
    Ok(())
}

impl Found {
    fn add(&mut self, plan: &Plan, consumer: &Report, producers: &[Report]) {
        self.messages += consumer.measured;
        self.elapsed_ns += consumer.measured_ns;
        let mut cells = Cells::default();
        for report in producers.iter().chain([consumer]) {
            self.coverage = self.coverage.plus(report.coverage);
            cells = cells.plus(report.cells.clone());
        }
        if let Task::Verify { mix: Mix::Named, .. } = plan.task {
            let is_judged = consumer.coverage.judged > 0;
            let missing = "a send that had returned when its message came";
            cells = Cells::of(u64::from(is_judged), 1, missing);
        }
        self.cells = std::mem::take(&mut self.cells).plus(cells);
    }
}

/// Green only if the states that break rings were reached.
fn judge(session: &mut Session, coverage: Coverage) {
    let Coverage { wrapped, padded, full, empty, refused, judged } = coverage;
    session.progress.say(&format!(
        "coverage: {wrapped} times around the end, {padded} of them skipping bytes, {full} times \
         full, {empty} times empty, {refused} oversized messages refused, the order of {judged} \
         messages judged"
    ));
    let missing: Vec<_> = [
        ("around the end", wrapped),
        ("bytes skipped at the end", padded),
        ("full", full),
        ("empty", empty),
        ("oversized refused", refused),
        ("order judged", judged),
    ]
    .into_iter()
    .filter_map(|(state, count)| (count == 0).then_some(state))
    .collect();
    if !missing.is_empty() && !session.is_over() {
        let missing = missing.join(", ");
        session.inconclusive(&format!("never reached: {missing}; give it longer with --for"));
    }
}
