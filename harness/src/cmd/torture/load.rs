//! Kills and freezes producers and the consumer under load, replaces the dead by new processes, and
//! checks that nothing acknowledged is lost and nothing arrives twice, torn, out of order or late.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{
    evidence::Evidence,
    failure,
    trial::Trial,
    watch::{Fault, Waits, Watch},
};
use crate::{
    checks::balance,
    child::{Crew, INTERRUPTED, Plan, Trouble, Worker, dismiss, done},
    emulation::{self, stretched},
    jobs::torture::journal_path,
    journal::{Journal, LIVES},
    ledger::{Ledger, Line},
    payload::mix,
    plan::{self, Deed, Way, Who},
    protocol::{Command, Limits, Reply, Report, Role, Task},
    record::{Row, TimelineRow, TortureRow},
    scenario::{TORTURE_RINGS, silence_max_ms},
    session::{Channel, Session},
    sys::{Deadline, now_ns},
    transports::is_ours,
};

/// Which forms take turns when none is named.
const OURS: [&str; 3] = ["ipmpsc-bytes", "ipmpsc", "ipmpsc-zero-copy"];
/// For anything that must happen while the load is on: the victim's first send, the next message.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two faults at most, beside the time a process takes to start.
const PAUSE_MAX_US: u64 = 2_000;
/// One victim in so many is killed without waiting for its first send, while it attaches.
const EARLY_EVERY: u64 = 8;
/// The longest freeze: past the naps after which the others ask who lives.
const FREEZE_MAX_US: u64 = 120_000;
/// What a typed message needs beside its bytes.
const TYPED_EXTRA: u64 = 8;

/// When a round has done enough.
#[derive(Clone, Copy, Debug)]
enum Enough {
    Faults(u64),
    After(Duration),
}

/// So many faults, or as many as the time allows, over rings from small to large; only where `only`
/// is in the name.
pub(crate) fn run(
    session: &mut Session,
    kills: u64,
    time: Option<Duration>,
    only: &str,
) -> Result<()> {
    let named = session.options.transports.clone();
    for name in named.iter().filter(|name| !is_ours(name)) {
        session.skip(name, "only ipmpsc promises to survive its processes");
    }
    let ours: Vec<_> = named.iter().copied().filter(|name| is_ours(name)).collect();
    let forms = match (named.is_empty(), ours.is_empty()) {
        (true, _) => OURS.to_vec(),
        (false, true) => return Ok(()),
        (false, false) => ours,
    };
    let all = session.options.producers;
    // A ring that many fill is mostly full, and its producers die waiting; one producer alone more
    // often dies while it writes.
    let rounds: Vec<_> = TORTURE_RINGS.iter().flat_map(|&ring| [(ring, all), (ring, 1)]).collect();
    let count = rounds.len() as u64;
    session.progress.begin("torture", count);
    let mut reached = Reached::default();
    for ((round, (ring_bytes, producers)), form) in (0..).zip(rounds).zip(forms.iter().cycle()) {
        let part = kills / count + u64::from(round < kills % count);
        let enough = match time {
            Some(time) => Enough::After(time / u32::try_from(count)?),
            None => Enough::Faults(part),
        };
        let name = name_of(enough, (ring_bytes, producers), form);
        let is_wanted = !matches!(enough, Enough::Faults(0)) && name.contains(only);
        if is_wanted && !session.is_over() {
            step(session, (ring_bytes, producers), form, (&name, enough), &mut reached)?;
        }
        session.progress.stepped();
    }
    session.progress.end();
    reached.say(session);
    if only.is_empty() {
        reached.judge(session);
    }
    Ok(())
}

fn name_of(enough: Enough, (ring_bytes, producers): (u64, u32), transport: &str) -> String {
    let name = match enough {
        Enough::Faults(count) => format!("{count} faults"),
        Enough::After(time) => format!("faults for {}", humantime::format_duration(time)),
    };
    format!("{name}, producers {producers}, {ring_bytes} byte ring ({transport})")
}

fn step(
    session: &mut Session,
    (ring_bytes, producers): (u64, u32),
    transport: &str,
    (name, enough): (&str, Enough),
    reached: &mut Reached,
) -> Result<()> {
    session.progress.step(name);
    // Half of them, as a plan's numbers have a sign.
    let seed = mix(session.options.seed ^ ring_bytes ^ u64::from(producers)) >> 1;
    let channel = Channel { ring_bytes, message_max: ring_bytes, producers, seed };
    let largest = usize::try_from(ring_bytes - TYPED_EXTRA)?;
    let plan = session.plan(transport, Task::Torture { largest }, channel);
    let evidence = failure::evidence(session)?;
    let (trial, rows) = round(&as_plan(&plan, largest), &plan, Some(enough), evidence.as_ref());
    session.clear(&plan);
    match rows {
        Some((row, mut timeline)) => {
            session.pass();
            reached.add(&row);
            timeline.name = name.into();
            session.record(&Row::Torture(row))?;
            session.record(&Row::Timeline(timeline))
        }
        None => failure::report(session, name, &trial, evidence.as_ref()),
    }
}

/// What a later `replay` is told, as far as it is known before the faults are.
fn as_plan(plan: &Plan, longest: usize) -> plan::Plan {
    plan::Plan {
        note: String::new(),
        mutant: String::new(),
        way: Way::Load,
        transport: plan.transport.clone(),
        ring_bytes: plan.setup.ring_bytes,
        producers: plan.setup.producers,
        messages: 0,
        longest,
        seed: plan.seed,
        schedule: Vec::new(),
        faults: Vec::new(),
    }
}

/// The faults of a plan once more.
pub(super) fn again(plan: &plan::Plan, crew: &Plan, evidence: Option<&Evidence>) -> Trial {
    round(plan, crew, None, evidence).0
}

/// From spawning to the books: the plan's faults or, if it is to be enough, drawn ones.
fn round(
    script: &plan::Plan,
    plan: &Plan,
    enough: Option<Enough>,
    evidence: Option<&Evidence>,
) -> (Trial, Option<(TortureRow, TimelineRow)>) {
    let mut trial = Trial::new(script);
    let rows = Field::open(plan).and_then(|mut field| {
        let ended = field.strikes(&script.faults, enough).and_then(|()| field.hear_out());
        if enough.is_some() {
            trial.plan.faults = field.struck.iter().map(|(_, fault)| fault.clone()).collect();
        }
        trial.history = field.history();
        if ended.is_err() {
            trial.keep(evidence, &plan.setup.path("ring"), &field.processes());
        }
        let rows = field.close(ended?).row(plan);
        if rows.is_err() {
            trial.keep(evidence, &plan.setup.path("ring"), &[]);
        }
        rows
    });
    match rows {
        Ok(rows) => (trial, Some(rows)),
        Err(trouble) => (Trial { verdict: Err(trouble), ..trial }, None),
    }
}

/// A killed producer's line, as it left it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grave {
    pub(super) producer: u32,
    pub(super) incarnation: u32,
    pub(super) line: Line,
}

/// The load, and what has become of it so far.
struct Field<'a> {
    plan: &'a Plan,
    ledger: Ledger,
    random: Pcg64Mcg,
    consumer: Worker,
    /// How many consumers there have been before.
    heirs: u32,
    /// Every producer with its incarnation.
    producers: Vec<(Worker, u32)>,
    endpoints: Vec<String>,
    limits: Limits,
    graves: Vec<Grave>,
    watch: Watch,
    /// The faults so far, and when they struck.
    struck: Vec<(u64, plan::Fault)>,
    /// How far the consumer was when last looked at, and until when it must have moved on.
    seen: (u64, Deadline),
}

impl<'a> Field<'a> {
    fn open(plan: &'a Plan) -> Result<Field<'a>, Trouble> {
        let failed =
            |what: &str, error: &dyn std::fmt::Display| Trouble::Failed(format!("{what}: {error}"));
        let ledger = Ledger::create(&plan.ledger, plan.setup.producers)
            .map_err(|error| failed("the ledger", &error))?;
        let journal = Journal::create(&journal_path(&plan.ledger), plan.setup.producers)
            .map_err(|error| failed("the journal", &error))?;
        let mut crew = Crew::gather(plan)?;
        crew.go();
        let Crew { consumer, producers, endpoints, limits } = crew;
        let watch = Watch::new(journal, &plan.setup.path("ring"), plan.setup.ring_bytes)?;
        Ok(Field {
            plan,
            ledger,
            random: Pcg64Mcg::seed_from_u64(plan.seed),
            consumer,
            heirs: 0,
            producers: producers.into_iter().map(|worker| (worker, 0)).collect(),
            endpoints,
            limits,
            graves: Vec::new(),
            watch,
            struck: Vec::new(),
            seen: (0, Deadline::after(stretched(PATIENCE))),
        })
    }

    /// These faults, or drawn ones until it is enough.
    fn strikes(&mut self, faults: &[plan::Fault], enough: Option<Enough>) -> Result<(), Trouble> {
        let Some(enough) = enough else {
            return faults.iter().try_for_each(|fault| self.strike(fault));
        };
        let began = Instant::now();
        while match enough {
            Enough::Faults(count) => (self.struck.len() as u64) < count,
            Enough::After(time) => began.elapsed() < time,
        } && !self.is_worn_out()
        {
            let fault = self.draw();
            self.strike(&fault)?;
        }
        Ok(())
    }

    fn draw(&mut self) -> plan::Fault {
        let redelivers = self.redelivers();
        let fault = Fault::draw(&mut self.random, redelivers);
        let random = &mut self.random;
        let victim = random.random_range(0..self.plan.setup.producers);
        let (at, passage) = (None, 1);
        let early = random.random_bool(1.0 / EARLY_EVERY as f64);
        let after_us = random.random_range(0..=PAUSE_MAX_US);
        // Short ones mostly, and some past the others' naps.
        let time = random.random_range(0..=FREEZE_MAX_US.isqrt()).pow(2);
        let (who, deed) = match fault {
            Fault::KillProducer => (Who::Producer(victim), Deed::Kill),
            Fault::KillFrozenProducer => (Who::Producer(victim), Deed::KillStopped),
            Fault::FreezeProducer => (Who::Producer(victim), Deed::Freeze),
            Fault::FreezeConsumer => (Who::Consumer, Deed::Freeze),
            Fault::KillConsumer => (Who::Consumer, Deed::Kill),
        };
        let for_us = if deed == Deed::Kill { 0 } else { time };
        plan::Fault { who, deed, at, passage, early, after_us, for_us }
    }

    fn waits(&self) -> Waits {
        let producers = self.producers.iter().map(|(worker, _)| worker.waited()).collect();
        Waits { consumer: self.consumer.waited(), producers }
    }

    /// Whether a producer has had as many lives as there is room for.
    fn is_worn_out(&self) -> bool {
        self.producers.iter().any(|&(_, life)| life + 2 >= LIVES)
    }

    /// One fault, somewhere in the victim's work, and what heals it.
    fn strike(&mut self, fault: &plan::Fault) -> Result<(), Trouble> {
        let (victim, producer) = match fault.who {
            Who::Producer(producer) => (Some(producer as usize), producer),
            Who::Consumer => (None, 0),
        };
        if !fault.early {
            self.await_first_send(producer as usize, producer)?;
        }
        thread::sleep(Duration::from_micros(fault.after_us));
        self.look_around()?;
        self.struck.push((self.watch.elapsed_ns(), fault.clone()));
        let waits = self.waits();
        let kind = match (fault.deed, victim) {
            (Deed::Kill, Some(_)) => Fault::KillProducer,
            (Deed::Kill | Deed::KillStopped, None) => Fault::KillConsumer,
            (Deed::KillStopped, Some(_)) => Fault::KillFrozenProducer,
            (Deed::Freeze, Some(_)) => Fault::FreezeProducer,
            (Deed::Freeze, None) => Fault::FreezeConsumer,
        };
        self.watch.strikes(kind, waits);
        if fault.deed != Deed::Kill {
            self.freeze(victim, Duration::from_micros(fault.for_us))?;
        }
        match (fault.deed, victim) {
            (Deed::Freeze, Some(victim)) => self.producers[victim].0.thaw(),
            (Deed::Freeze, None) => self.consumer.thaw(),
            (_, Some(victim)) => return self.kill_producer(victim, producer),
            (_, None) => return self.kill_consumer(),
        }
        Ok(())
    }

    /// Whether this form shows a message before it gives it back, so that none is lost with its
    /// consumer. The copying receive promises less.
    fn redelivers(&self) -> bool {
        self.plan.transport != OURS[1]
    }

    /// Stops a producer, or the consumer, for some time.
    fn freeze(&mut self, producer: Option<usize>, time: Duration) -> Result<(), Trouble> {
        let victim = producer.map_or(&self.consumer, |victim| &self.producers[victim].0);
        victim.freeze();
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.look_around()?;
            thread::sleep(Duration::from_millis(1).min(until - Instant::now().min(until)));
        }
        self.watch.thawed(time);
        Ok(())
    }

    fn kill_producer(&mut self, victim: usize, producer: u32) -> Result<(), Trouble> {
        let (worker, incarnation) = &mut self.producers[victim];
        worker.kill();
        let line = self.ledger.line(producer);
        let began = line.incarnation == u64::from(*incarnation);
        let line = if began { line } else { Line::default() };
        self.graves.push(Grave { producer, incarnation: *incarnation, line });
        *incarnation += 1;
        let successor = self.plan.job(Role::Producer, producer, *incarnation);
        let name = format!("producer {producer}.{incarnation}");
        *worker = Worker::enlist(self.plan, Role::Producer, producer, *incarnation, &name)?;
        // All it will ever be told; its answers are read by the way.
        worker.say(&Command::Prepare(Box::new(successor)));
        let endpoints = vec![self.endpoints[victim].clone()];
        worker.say(&Command::Connect { endpoints, limits: self.limits });
        worker.say(&Command::Go { at_ns: now_ns() });
        Ok(())
    }

    fn kill_consumer(&mut self) -> Result<(), Trouble> {
        self.consumer.kill();
        self.heirs += 1;
        let heir = self.plan.job(Role::Consumer, 0, self.heirs);
        let name = format!("consumer.{}", self.heirs);
        self.consumer = Worker::spawn(&self.plan.setup.folder, &name)?;
        self.consumer.say(&Command::Prepare(Box::new(heir)));
        self.consumer.say(&Command::Connect { endpoints: Vec::new(), limits: self.limits });
        self.consumer.say(&Command::Go { at_ns: now_ns() });
        let before = self.watch.messages();
        let deadline = Deadline::after(stretched(PATIENCE));
        while self.watch.messages() == before {
            self.look_around()?;
            if deadline.left().is_zero() {
                return Err(Trouble::Failed(format!("{name} receives nothing")));
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Waits until the victim has begun to send.
    fn await_first_send(&mut self, victim: usize, producer: u32) -> Result<(), Trouble> {
        let deadline = Deadline::after(stretched(PATIENCE));
        loop {
            let line = self.ledger.line(producer);
            let incarnation = self.producers[victim].1;
            if line.incarnation == u64::from(incarnation) && line.intended > 0 {
                return Ok(());
            }
            self.look_around()?;
            if deadline.left().is_zero() {
                let what = format!("producer {producer}.{incarnation} never began to send");
                return Err(Trouble::Failed(what));
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Hears what workers have to say, and notices when messages have ceased to arrive.
    fn look_around(&mut self) -> Result<(), Trouble> {
        if INTERRUPTED.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Trouble::Interrupted);
        }
        let producers = self.producers.iter_mut().map(|(worker, _)| worker);
        for worker in producers.chain([&mut self.consumer]) {
            while let Some(reply) = worker.try_hear() {
                match reply? {
                    Reply::Bound { .. } | Reply::Ready => {}
                    other => return Err(Trouble::Failed(format!("{other:?}, unasked"))),
                }
            }
        }
        self.watch.look();
        let received = self.watch.messages();
        if received != self.seen.0 {
            self.seen = (received, Deadline::after(stretched(PATIENCE)));
        } else if self.seen.1.left().is_zero() {
            let patience = stretched(PATIENCE);
            let what = format!("no message for {patience:?} after {received} messages");
            return Err(Trouble::Failed(what));
        }
        Ok(())
    }

    /// Ends the load and hears the survivors out: what the last consumer says.
    fn hear_out(&mut self) -> Result<Report, Trouble> {
        let waits = self.waits();
        self.watch.settles(&waits);
        self.ledger.stop();
        let deadline = Deadline::after(stretched(PATIENCE));
        loop {
            // A producer's fault comes first, as it would leave the consumer waiting.
            for (worker, _) in &mut self.producers {
                if let Some(Err(trouble)) = worker.try_hear() {
                    return Err(trouble);
                }
            }
            match self.consumer.try_hear() {
                Some(Ok(Reply::Bound { .. } | Reply::Ready)) => {}
                Some(reply) => return done(&self.consumer, reply?),
                None if deadline.left().is_zero() => {
                    return Err(Trouble::Failed("the last messages did not arrive".into()));
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Lets the workers go.
    fn close(self, consumer: Report) -> Closed {
        let (workers, lives) = self.producers.into_iter().unzip();
        let mut workers: Vec<Worker> = workers;
        workers.push(self.consumer);
        dismiss(workers);
        let (ledger, graves, watch) = (self.ledger, self.graves, self.watch);
        Closed { ledger, graves, lives, watch, consumer }
    }

    fn processes(&self) -> Vec<(String, u32)> {
        let producers = (0..).zip(&self.producers);
        let named = producers.map(|(number, (worker, _))| (format!("p{number}"), worker.pid()));
        named.chain([("c".into(), self.consumer.pid())]).collect()
    }

    /// When each fault struck, and what each producer has sent and the consumer received.
    fn history(&self) -> Vec<String> {
        let struck = self.struck.iter().map(|(at_ns, fault)| {
            let plan::Fault { who, deed, .. } = fault;
            format!("{:>10.3} ms  {who:<4} {deed:?}", *at_ns as f64 / 1e6)
        });
        let living = (0..).zip(&self.producers).map(|(producer, &(_, incarnation))| Grave {
            producer,
            incarnation,
            line: self.ledger.line(producer),
        });
        let books = self.graves.iter().copied().chain(living).map(|grave| {
            let Grave { producer, incarnation, line } = grave;
            format!(
                "p{producer}.{incarnation}: {} intended, {} acknowledged, {} received",
                line.intended,
                line.acknowledged,
                self.watch.received(producer, incarnation)
            )
        });
        struck.chain(books).collect()
    }
}

/// A finished round.
struct Closed {
    ledger: Ledger,
    graves: Vec<Grave>,
    /// The last life of each producer.
    lives: Vec<u32>,
    watch: Watch,
    /// What the last consumer says.
    consumer: Report,
}

impl Closed {
    /// The rows, if the books balance and nobody was held up.
    fn row(self, plan: &Plan) -> Result<(TortureRow, TimelineRow), Trouble> {
        if let Some((gap, starved)) = self.watch.too_long() {
            return Err(Trouble::Failed(format!(
                "held up for {} ms by a death, more than {} beside the {} ms for \
                 which the kernel kept the consumer and a producer waiting for a processor",
                gap / 1_000_000,
                silence_max_ms(emulation::anywhere().is_some()),
                starved / 1_000_000
            )));
        }
        let (in_flight, arrived) = self.dead()?;
        self.living()?;
        let repairs = self.consumer.repairs;
        let row = TortureRow {
            transport: plan.transport.clone(),
            producers: plan.setup.producers,
            ring_bytes: plan.setup.ring_bytes,
            seed: plan.seed,
            kills: self.graves.len() as u64,
            kills_in_flight: in_flight,
            in_flight_arrived: arrived,
            messages: self.watch.messages(),
            elapsed_ns: self.watch.elapsed_ns(),
            longest_silence_ns: self.watch.longest_recovery_ns(),
            recoveries: repairs.map(|(recoveries, _)| recoveries),
            discarded: repairs.map(|(_, discarded)| discarded),
            faults: self.watch.counts(),
            came_again: self.watch.came_again(),
            laps: self.watch.laps(),
            asleep: self.watch.asleep(),
            full: self.watch.full(),
            starved: self.watch.starved(),
        };
        Ok((row, self.watch.timeline(&plan.transport)))
    }

    /// The books of the killed: how many died within a send, and how many of those sends arrived.
    fn dead(&self) -> Result<(u64, u64), Trouble> {
        let (mut in_flight, mut arrived) = (0, 0);
        for Grave { producer, incarnation, line } in &self.graves {
            let count = self.watch.received(*producer, *incarnation);
            // Every message was compared as it came, so the count alone is left to check.
            balance(*producer, *line, count, line.hash).map_err(Trouble::Failed)?;
            in_flight += u64::from(line.intended > line.acknowledged);
            arrived += u64::from(count > line.acknowledged);
        }
        Ok((in_flight, arrived))
    }

    /// The books of those that reached the end.
    fn living(&self) -> Result<(), Trouble> {
        for (producer, &life) in (0..).zip(&self.lives) {
            let line = self.ledger.line(producer);
            let count = self.watch.received(producer, life);
            balance(producer, line, count, line.hash).map_err(Trouble::Failed)?;
        }
        Ok(())
    }
}

/// What the rounds have come to: states without which the rest says little.
#[derive(Clone, Debug, Default)]
struct Reached {
    rounds: u64,
    /// By kind: how often, and the recovery times.
    faults: BTreeMap<String, (u64, BTreeMap<u64, u64>)>,
    laps: u64,
    asleep: u64,
    full: u64,
    in_flight: u64,
    recoveries: u64,
    discarded: u64,
    starved: u64,
}

impl Reached {
    fn add(&mut self, row: &TortureRow) {
        self.rounds += 1;
        self.laps += row.laps;
        self.asleep += row.asleep;
        self.in_flight += row.kills_in_flight;
        self.recoveries += row.recoveries.unwrap_or(0);
        self.discarded += row.discarded.unwrap_or(0);
        self.full += row.full;
        self.starved += row.starved;
        for fault in &row.faults {
            let (count, times) = self.faults.entry(fault.fault.clone()).or_default();
            *count += fault.count;
            for &(ns, often) in &fault.recovery {
                *times.entry(ns).or_default() += often;
            }
        }
    }

    /// A line for each kind of fault.
    fn say(&self, session: &Session) {
        for (fault, (count, times)) in &self.faults {
            let mut below = 0;
            let median = times.iter().find(|(_, often)| {
                below += **often;
                2 * below >= *count
            });
            let ms = |ns: Option<&u64>| *ns.unwrap_or(&0) as f64 / 1e6;
            session.progress.say(&format!(
                "{fault}: {count} times; recovery p50 {:.2} ms, max {:.2} ms",
                ms(median.map(|(ns, _)| ns)),
                ms(times.keys().next_back())
            ));
        }
        if self.starved > 0 {
            let allowed = silence_max_ms(emulation::anywhere().is_some());
            session.progress.say(&format!(
                "{} of the kills held the others up for more than {allowed} ms, but not \
                 beside the time for which the kernel kept them waiting for a processor",
                self.starved
            ));
        }
    }

    fn judge(&self, session: &mut Session) {
        let states = [
            ("the ring's end passed", self.laps),
            ("the ring full", self.full),
            ("a producer asleep", self.asleep),
            ("a kill within a send", self.in_flight),
            ("a kill within a claim", self.discarded),
            ("something taken from the dead", self.recoveries),
        ];
        let missing: Vec<_> =
            states.iter().filter(|(_, count)| *count == 0).map(|(state, _)| *state).collect();
        if self.rounds > 0 && !missing.is_empty() && !session.is_over() {
            let missing = missing.join(", ");
            session.inconclusive(&format!("never reached: {missing}; give it longer with --for"));
        }
    }
}
