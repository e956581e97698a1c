//! Kills producers with SIGKILL under load, replaces each by a new process, and checks that nothing
//! acknowledged is lost and nothing arrives twice, torn, out of order or late.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::{
    checks::balance,
    child::{Crew, INTERRUPTED, Plan, Trouble, Worker, dismiss, done},
    ledger::{Ledger, Line},
    payload::mix,
    protocol::{Command, Limits, Reply, Report, Role, Task},
    record::{Row, TortureRow},
    scenario::{SILENCE_MAX_MS, TORTURE_RINGS},
    session::{Channel, Session},
    sys::{Deadline, now_ns},
    transports::is_ours,
};

/// Which forms take turns when none is named.
const OURS: [&str; 3] = ["ipmpsc-bytes", "ipmpsc", "ipmpsc-zero-copy"];
/// For anything that must happen while the load is on: the victim's first send, the next message.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two kills at most, beside the time a process takes to start.
const PAUSE_MAX_US: u64 = 2_000;
/// One victim in so many is killed without waiting for its first send, while it attaches.
const EARLY_EVERY: u64 = 8;
/// What a typed message needs beside its bytes.
const TYPED_EXTRA: u64 = 8;

/// Kills so many producers, over rings from small to large.
pub(crate) fn run(session: &mut Session, kills: u64) -> Result<()> {
    let named = session.options.transports.clone();
    for name in named.iter().filter(|name| !is_ours(name)) {
        session.skip(name, "only ipmpsc promises to survive its producers");
    }
    let ours: Vec<_> = named.iter().copied().filter(|name| is_ours(name)).collect();
    let forms = match (named.is_empty(), ours.is_empty()) {
        (true, _) => OURS.to_vec(),
        (false, true) => return Ok(()),
        (false, false) => ours,
    };
    session.progress.begin("torture", kills);
    let all = session.options.producers;
    // A ring that many fill is mostly full, and its producers die waiting; one producer alone more
    // often dies while it writes.
    let rounds: Vec<_> = TORTURE_RINGS.iter().flat_map(|&ring| [(ring, all), (ring, 1)]).collect();
    let count = rounds.len() as u64;
    for ((round, (ring_bytes, producers)), form) in (0..).zip(rounds).zip(forms.iter().cycle()) {
        let part = kills / count + u64::from(round < kills % count);
        if part > 0 && !session.is_over() {
            step(session, (ring_bytes, producers), form, part)?;
        }
    }
    session.progress.end();
    Ok(())
}

fn step(
    session: &mut Session,
    (ring_bytes, producers): (u64, u32),
    transport: &str,
    kills: u64,
) -> Result<()> {
    let name =
        format!("{kills} kills, producers {producers}, {ring_bytes} byte ring ({transport})");
    session.progress.step(&name);
    let seed = mix(session.options.seed ^ ring_bytes ^ u64::from(producers));
    let channel = Channel { ring_bytes, message_max: ring_bytes, producers, seed };
    let largest = usize::try_from(ring_bytes - TYPED_EXTRA)?;
    let plan = session.plan(transport, Task::Torture { largest }, channel);
    let outcome = round(session, &plan, kills);
    session.clear(&plan);
    match outcome {
        Ok(row) => {
            session.pass();
            session.record(&Row::Torture(row))
        }
        Err(trouble) => session.fail_with(&trouble, "torture", &name, transport),
    }
}

/// One ring's share of the kills, from spawning to the books.
fn round(session: &Session, plan: &Plan, kills: u64) -> Result<TortureRow, Trouble> {
    let mut field = Field::open(plan)?;
    for _ in 0..kills {
        field.kill_one()?;
        session.progress.stepped();
    }
    field.close()?.row(plan)
}

/// A killed producer's line, as it left it.
#[derive(Clone, Copy, Debug)]
struct Grave {
    producer: u32,
    incarnation: u32,
    line: Line,
}

/// The load, and what has become of it so far.
struct Field<'a> {
    plan: &'a Plan,
    ledger: Ledger,
    random: Pcg64Mcg,
    consumer: Worker,
    /// Every producer with its incarnation.
    producers: Vec<(Worker, u32)>,
    endpoints: Vec<String>,
    limits: Limits,
    graves: Vec<Grave>,
    /// How far the consumer was when last looked at, and until when it must have moved on.
    seen: (u64, Deadline),
}

impl<'a> Field<'a> {
    fn open(plan: &'a Plan) -> Result<Field<'a>, Trouble> {
        let ledger = Ledger::create(&plan.ledger, plan.setup.producers)
            .map_err(|error| Trouble::Failed(format!("the ledger: {error}")))?;
        let mut crew = Crew::gather(plan)?;
        crew.go();
        let Crew { consumer, producers, endpoints, limits } = crew;
        Ok(Field {
            plan,
            ledger,
            random: Pcg64Mcg::seed_from_u64(plan.seed),
            consumer,
            producers: producers.into_iter().map(|worker| (worker, 0)).collect(),
            endpoints,
            limits,
            graves: Vec::new(),
            seen: (0, Deadline::after(PATIENCE)),
        })
    }

    /// Kills a producer somewhere in its work and puts another in its place.
    fn kill_one(&mut self) -> Result<(), Trouble> {
        let victim = self.random.random_range(0..self.producers.len());
        let producer = u32::try_from(victim).expect("args keeps producers below 256");
        if !self.random.random_bool(1.0 / EARLY_EVERY as f64) {
            self.await_first_send(victim, producer)?;
        }
        let pause = self.random.random_range(0..=PAUSE_MAX_US);
        thread::sleep(Duration::from_micros(pause));
        self.look_around()?;
        let (worker, incarnation) = &mut self.producers[victim];
        worker.kill();
        let line = self.ledger.line(producer);
        let began = line.incarnation == u64::from(*incarnation);
        let line = if began { line } else { Line::default() };
        self.graves.push(Grave { producer, incarnation: *incarnation, line });
        *incarnation += 1;
        let successor = self.plan.job(Role::Producer, producer, *incarnation);
        let name = format!("producer {producer}.{incarnation}");
        *worker = Worker::spawn(&self.plan.setup.folder, &name)?;
        // All it will ever be told; its answers are read by the way.
        worker.say(&Command::Prepare(Box::new(successor)));
        let endpoints = vec![self.endpoints[victim].clone()];
        worker.say(&Command::Connect { endpoints, limits: self.limits });
        worker.say(&Command::Go { at_ns: now_ns() });
        Ok(())
    }

    /// Waits until the victim has begun to send.
    fn await_first_send(&mut self, victim: usize, producer: u32) -> Result<(), Trouble> {
        let deadline = Deadline::after(PATIENCE);
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
        let received = self.ledger.received_so_far();
        if received != self.seen.0 {
            self.seen = (received, Deadline::after(PATIENCE));
        } else if self.seen.1.left().is_zero() {
            let what = format!("no message for {PATIENCE:?} after {received} messages");
            return Err(Trouble::Failed(what));
        }
        Ok(())
    }

    /// Ends the load and hears the survivors out.
    fn close(mut self) -> Result<Closed, Trouble> {
        self.ledger.stop();
        let deadline = Deadline::after(PATIENCE);
        let consumer = loop {
            // A producer's fault comes first, as it would leave the consumer waiting.
            for (worker, _) in &mut self.producers {
                if let Some(Err(trouble)) = worker.try_hear() {
                    return Err(trouble);
                }
            }
            if let Some(reply) = self.consumer.try_hear() {
                break done(&self.consumer, reply?)?;
            }
            if deadline.left().is_zero() {
                return Err(Trouble::Failed("the last messages did not arrive".into()));
            }
            thread::sleep(Duration::from_millis(1));
        };
        let workers = self.producers.into_iter().map(|(worker, _)| worker);
        dismiss(workers.chain([self.consumer]).collect());
        Ok(Closed { ledger: self.ledger, graves: self.graves, consumer })
    }
}

/// A finished round.
struct Closed {
    ledger: Ledger,
    graves: Vec<Grave>,
    consumer: Report,
}

impl Closed {
    /// The row, if the books balance and nobody was held up.
    fn row(&self, plan: &Plan) -> Result<TortureRow, Trouble> {
        let silence = self.consumer.silences.iter().map(|&(_, silence)| silence).max().unwrap_or(0);
        if silence > SILENCE_MAX_MS * 1_000_000 {
            return Err(Trouble::Failed(format!(
                "{} ms without a message, more than {SILENCE_MAX_MS}",
                silence / 1_000_000
            )));
        }
        let (in_flight, arrived) = self.dead()?;
        self.living()?;
        let report = &self.consumer;
        Ok(TortureRow {
            transport: plan.transport.clone(),
            producers: plan.setup.producers,
            ring_bytes: plan.setup.ring_bytes,
            seed: plan.seed,
            kills: self.graves.len() as u64,
            kills_in_flight: in_flight,
            in_flight_arrived: arrived,
            messages: report.messages,
            elapsed_ns: report.measured_ns,
            longest_silence_ns: silence,
            recoveries: report.repairs.map(|(recoveries, _)| recoveries),
            discarded: report.repairs.map(|(_, discarded)| discarded),
        })
    }

    /// The books of the killed: how many died within a send, and how many of those sends arrived.
    fn dead(&self) -> Result<(u64, u64), Trouble> {
        let mut received: BTreeMap<_, _> = self
            .consumer
            .ended
            .iter()
            .map(|&(producer, incarnation, count)| ((producer, incarnation), count))
            .collect();
        let (mut in_flight, mut arrived) = (0, 0);
        for Grave { producer, incarnation, line } in &self.graves {
            let count = received.remove(&(*producer, *incarnation)).unwrap_or(0);
            // Every message was compared as it came, so the count alone is left to check.
            balance(*producer, *line, count, line.hash).map_err(Trouble::Failed)?;
            in_flight += u64::from(line.intended > line.acknowledged);
            arrived += u64::from(count > line.acknowledged);
        }
        match received.into_iter().find(|&(_, count)| count > 0) {
            Some(((producer, incarnation), count)) => Err(Trouble::Failed(format!(
                "{count} messages of producer {producer}.{incarnation}, which was never killed"
            ))),
            None => Ok((in_flight, arrived)),
        }
    }

    /// The books of those that reached the end.
    fn living(&self) -> Result<(), Trouble> {
        let received = self.consumer.by_producer.iter().zip(&self.consumer.hashes);
        for (producer, (&count, &hash)) in (0..).zip(received) {
            balance(producer, self.ledger.line(producer), count, hash).map_err(Trouble::Failed)?;
        }
        Ok(())
    }
}
