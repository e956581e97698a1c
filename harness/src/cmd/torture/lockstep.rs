//! Real processes, one step of one of them at a time: a schedule, or a seed, fixes how they
//! interleave, so that the same plan has the same history.
//!
//! Each process stands still at every named point until it is given its turn. Who sleeps is woken
//! by another's wake, or if it only naps by that nap's end, which here the schedule decides. As
//! long as nobody has died, nobody needs a nap's end to get on: if all sleep, a wake was lost.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{
    evidence::Evidence,
    load::Grave,
    trial::{Trial, context},
};
use crate::{
    checks::balance,
    child::{self, Trouble, Worker},
    emulation::stretched,
    jobs::{lockstep::sends_last, torture::journal_path},
    journal::Journal,
    ledger::{Ledger, Line},
    plan::{Deed, Fault, Plan, Turns, Until, Who},
    protocol::{Command, Limits, Reply, Role},
    sys::{Deadline, now_ns},
};

/// Between two points, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Turns of each process, on average, in which some message must get on.
const TURNS_MAX: usize = 400;
/// Turns on the way to a point that a schedule names.
const WAY_MAX: usize = 2_000;
/// Turns that a seed gives one process at a time, at most.
const STRETCH_MAX: u32 = 24;
/// One choice in so many ends somebody's nap by time.
const NAP_EVERY: f64 = 12.0;
/// One turn in so many ends in a death, of which a run has no more than these.
const DEATH_EVERY: f64 = 60.0;
const DEATHS_MAX: usize = 2;

/// Runs the plan by its schedule, or with `at_random` by its seed.
pub(super) fn run(
    plan: &Plan,
    crew: &child::Plan,
    at_random: bool,
    evidence: Option<&Evidence>,
) -> Trial {
    let mut trial = Trial::new(plan);
    match Stage::open(plan, crew) {
        Ok(mut stage) => {
            let ended = stage.play(at_random).and_then(|()| stage.books());
            if ended.is_err() {
                trial.keep(evidence, &crew.setup.path("ring"), &stage.processes());
            }
            trial.verdict = ended;
            trial.history = stage.history;
            trial.unmet = stage.faults;
            if at_random {
                (trial.plan.schedule, trial.plan.faults) = (stage.taken, stage.done);
            }
        }
        Err(trouble) => trial.verdict = Err(trouble),
    }
    trial
}

/// Where a process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    At(String),
    Asleep { woken: bool, naps: bool },
    Done,
}

#[derive(Debug)]
struct Actor {
    who: Who,
    worker: Worker,
    place: Place,
    /// How many have been this one before.
    life: u32,
    /// When it fell asleep, by turns: who sleeps longest is woken first.
    since: usize,
    /// It has begun to send its last. Should that have come when it is killed, a successor would
    /// send what nobody awaits any more.
    is_ending: bool,
}

struct Stage<'a> {
    plan: &'a Plan,
    crew: &'a child::Plan,
    ledger: Ledger,
    journal: Journal,
    endpoints: Vec<String>,
    limits: Limits,
    /// The producers in order, then the consumer.
    actors: Vec<Actor>,
    graves: Vec<Grave>,
    passages: HashMap<(Who, String), u32>,
    /// Those of the plan that have not come about.
    faults: Vec<Fault>,
    /// What has been done, as a plan would say it.
    taken: Vec<Turns>,
    done: Vec<Fault>,
    history: Vec<String>,
    turns: usize,
    /// The turn after which a message last got on, and how far they were.
    progress: (usize, u64),
}

impl<'a> Stage<'a> {
    fn open(plan: &'a Plan, crew: &'a child::Plan) -> Result<Stage<'a>, Trouble> {
        let ledger = Ledger::create(&crew.ledger, plan.producers).map_err(context("the ledger"))?;
        let journal = Journal::create(&journal_path(&crew.ledger), plan.producers)
            .map_err(context("the journal"))?;
        let mut stage = Stage {
            plan,
            crew,
            ledger,
            journal,
            endpoints: Vec::new(),
            limits: Limits::default(),
            actors: Vec::new(),
            graves: Vec::new(),
            passages: HashMap::new(),
            faults: plan.faults.clone(),
            taken: Vec::new(),
            done: Vec::new(),
            history: Vec::new(),
            turns: 0,
            progress: (0, 0),
        };
        // The consumer makes the ring; then one after the other, so that slots are taken in order.
        let consumer = stage.enter(Who::Consumer, 0)?;
        for number in 0..plan.producers {
            let producer = stage.enter(Who::Producer(number), 0)?;
            stage.actors.push(producer);
        }
        stage.actors.push(consumer);
        Ok(stage)
    }

    /// Brings a new process to its first point.
    fn enter(&mut self, who: Who, life: u32) -> Result<Actor, Trouble> {
        let deadline = Deadline::after(stretched(PATIENCE));
        let (role, number) = match who {
            Who::Producer(number) => (Role::Producer, number),
            Who::Consumer => (Role::Consumer, 0),
        };
        let name = format!("{who}.{life}");
        let mut worker = Worker::enlist(self.crew, role, number, life, &name)?;
        worker.say(&Command::Prepare(Box::new(self.crew.job(role, number, life))));
        match worker.hear(deadline)? {
            Reply::Bound { endpoints, limits } if self.endpoints.is_empty() => {
                (self.endpoints, self.limits) = (endpoints, limits);
            }
            Reply::Bound { .. } => {}
            other => return Err(worker.trouble(&format!("said {other:?}, not bound"))),
        }
        let to = if role == Role::Producer { self.endpoints.first() } else { None };
        let (endpoints, limits) = (to.cloned().into_iter().collect(), self.limits);
        worker.say(&Command::Connect { endpoints, limits });
        match worker.hear(deadline)? {
            Reply::Ready => {}
            other => return Err(worker.trouble(&format!("said {other:?}, not ready"))),
        }
        worker.say(&Command::Go { at_ns: now_ns() });
        let place = Place::Done;
        let mut actor = Actor { who, worker, place, life, since: 0, is_ending: false };
        self.settle(&mut actor)?;
        Ok(actor)
    }

    /// Hears where somebody stands after its turn.
    fn settle(&mut self, actor: &mut Actor) -> Result<(), Trouble> {
        let at = match actor.worker.hear(Deadline::after(stretched(PATIENCE)))? {
            Reply::Stands { at } => at,
            Reply::Done(_) => "done".into(),
            other => return Err(actor.worker.trouble(&format!("said {other:?}, unasked"))),
        };
        self.history.push(format!("{:>5} {:<3} {at}", self.turns, actor.who.to_string()));
        actor.place = match at.as_str() {
            "done" => Place::Done,
            "receiver naps" | "sender sleeps" => Place::Asleep { woken: false, naps: true },
            "receiver sleeps" => Place::Asleep { woken: false, naps: false },
            _ => Place::At(at.clone()),
        };
        actor.since = self.turns;
        actor.is_ending |= sends_last(&at);
        *self.passages.entry((actor.who, at)).or_default() += 1;
        Ok(())
    }

    /// One turn of one process, and what befalls it where it comes to stand.
    fn turn(&mut self, index: usize) -> Result<(), Trouble> {
        let who = self.actors[index].who;
        self.turns += 1;
        note_turn(&mut self.taken, who);
        match &self.actors[index].place {
            Place::At(at) => self.pass_on_wakes(&at.clone()),
            Place::Asleep { woken: false, naps: false } => return Ok(()),
            Place::Asleep { woken, .. } => {
                let why = if *woken { "is woken" } else { "has slept its nap" };
                self.history.push(format!("{:>5} {who:<3} {why}", self.turns));
            }
            Place::Done => return Ok(()),
        }
        self.actors[index].worker.say(&Command::Turn);
        let mut actor = self.actors.remove(index);
        let settled = self.settle(&mut actor);
        self.actors.insert(index, actor);
        settled?;
        self.befall(index)?;
        self.look_for_progress()
    }

    /// Whoever leaves this point has woken somebody, if it is one of waking.
    fn pass_on_wakes(&mut self, at: &str) {
        let asleep = |actor: &Actor, consumer: bool| {
            matches!(actor.place, Place::Asleep { woken: false, .. })
                && (actor.who == Who::Consumer) == consumer
        };
        let longest = |actors: &[Actor], consumer| {
            let sleepers = (0..actors.len()).filter(|&index| asleep(&actors[index], consumer));
            sleepers.min_by_key(|&index| actors[index].since)
        };
        let woken: Vec<usize> = match at {
            "wakes the receiver" => longest(&self.actors, true).into_iter().collect(),
            "wakes a sender" => longest(&self.actors, false).into_iter().collect(),
            "wakes all senders" => {
                (0..self.actors.len()).filter(|&index| asleep(&self.actors[index], false)).collect()
            }
            _ => return,
        };
        for index in woken {
            if let Place::Asleep { woken, .. } = &mut self.actors[index].place {
                *woken = true;
            }
        }
    }

    /// The faults that the plan has for where this process stands, and then its successor.
    fn befall(&mut self, index: usize) -> Result<(), Trouble> {
        while self.may_die(index) {
            let (who, at) = (self.actors[index].who, self.actors[index].at());
            let passage = self.passages.get(&(who, at.clone())).copied().unwrap_or(0);
            let due = |fault: &Fault| {
                fault.who == who && fault.at.as_ref() == Some(&at) && fault.passage == passage
            };
            let Some(found) = self.faults.iter().position(due) else { break };
            self.faults.remove(found);
            self.kill(index)?;
        }
        Ok(())
    }

    /// Whether there is something left to die in.
    fn may_die(&self, index: usize) -> bool {
        self.actors[index].place != Place::Done
    }

    /// Kills it where it stands; its successor takes its place, unless its last message has come.
    fn kill(&mut self, index: usize) -> Result<(), Trouble> {
        let (who, at) = (self.actors[index].who, self.actors[index].at());
        let passage = self.passages.get(&(who, at.clone())).copied().unwrap_or(1);
        self.history.push(format!("{:>5} {who:<3} is killed", self.turns));
        let at = Some(at);
        let (deed, early, after_us, for_us) = (Deed::Kill, false, 0, 0);
        self.done.push(Fault { who, deed, at, passage, early, after_us, for_us });
        let life = self.actors[index].life;
        self.actors[index].worker.kill();
        if let Who::Producer(producer) = who {
            let line = self.ledger.line(producer);
            let began = line.incarnation == u64::from(life);
            let line = if began { line } else { Line::default() };
            self.graves.push(Grave { producer, incarnation: life, line });
            if self.actors[index].is_ending {
                if self.journal.has_last(producer) {
                    self.actors[index].place = Place::Done;
                    return Ok(());
                }
                self.journal.awaits(producer, life + 1);
            }
        }
        let successor = self.enter(who, life + 1)?;
        self.actors[index] = successor;
        Ok(())
    }

    fn look_for_progress(&mut self) -> Result<(), Trouble> {
        let done = self.actors.iter().filter(|actor| actor.place == Place::Done).count() as u64;
        let now = self.journal.messages() + self.ledger.acknowledged(self.plan.producers) + done;
        if now != self.progress.1 {
            self.progress = (self.turns, now);
        } else if self.turns - self.progress.0 > TURNS_MAX * self.actors.len() {
            let turns = self.turns - self.progress.0;
            let what = format!("progress: none in {turns} turns; {}", self.standing());
            return Err(Trouble::Failed(what));
        }
        Ok(())
    }

    fn standing(&self) -> String {
        let each =
            self.actors.iter().map(|actor| format!("{} stands at {}", actor.who, actor.at()));
        each.collect::<Vec<_>>().join(", ")
    }

    /// By the schedule or by the seed, then to the end.
    fn play(&mut self, at_random: bool) -> Result<(), Trouble> {
        for index in 0..self.actors.len() {
            self.befall(index)?;
        }
        if at_random {
            self.improvise()?;
        }
        for turns in VecDeque::from(self.plan.schedule.clone()) {
            self.follow(&turns)?;
        }
        while let Some(index) = self.next_able()? {
            // As far as it can go: what is not in the schedule should matter as little as may be.
            self.turn(index)?;
            while self.is_able(index) && !self.actors[index].waits() {
                self.turn(index)?;
            }
        }
        Ok(())
    }

    fn follow(&mut self, turns: &Turns) -> Result<(), Trouble> {
        let found = self.actors.iter().position(|actor| actor.who == turns.who);
        let index = found.expect("a plan names nobody else");
        let is_done = |stage: &Self| stage.actors[index].place == Place::Done;
        match &turns.until {
            Until::Count(count) => {
                for _ in 0..*count {
                    if !is_done(self) {
                        self.turn(index)?;
                    }
                }
            }
            Until::Point(point) => {
                for _ in 0..WAY_MAX {
                    if is_done(self) {
                        break;
                    }
                    self.turn(index)?;
                    if self.actors[index].at() == *point {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_able(&self, index: usize) -> bool {
        !matches!(self.actors[index].place, Place::Done | Place::Asleep { woken: false, .. })
    }

    /// Who is to go on once nobody says, the longest standing first; none if all are done.
    fn next_able(&self) -> Result<Option<usize>, Trouble> {
        let all = || 0..self.actors.len();
        let longest =
            |indices: Vec<usize>| indices.into_iter().min_by_key(|&index| self.actors[index].since);
        let able = longest(all().filter(|&index| self.is_able(index)).collect());
        if able.is_some() || all().all(|index| self.actors[index].place == Place::Done) {
            return Ok(able);
        }
        let napping = longest(all().filter(|&index| self.naps(index)).collect());
        if self.done.is_empty() || napping.is_none() {
            let what = format!("a wake was lost: all sleep; {}", self.standing());
            return Err(Trouble::Failed(what));
        }
        Ok(napping)
    }

    /// Whether it will wake by itself.
    fn naps(&self, index: usize) -> bool {
        matches!(self.actors[index].place, Place::Asleep { naps: true, .. })
    }

    /// Stretches of turns, naps that end and deaths, as the seed has it.
    fn improvise(&mut self) -> Result<(), Trouble> {
        let mut random = Pcg64Mcg::seed_from_u64(self.plan.seed);
        while let Some(next) = self.next_able()? {
            let naps = random.random_bool(1.0 / NAP_EVERY);
            let may = |index: &usize| {
                self.is_able(*index) || (self.naps(*index) && (naps || *index == next))
            };
            let able: Vec<_> = (0..self.actors.len()).filter(may).collect();
            let index = able[random.random_range(0..able.len())];
            for turn in 0..random.random_range(1..=STRETCH_MAX) {
                if turn > 0 && !self.is_able(index) {
                    break;
                }
                self.turn(index)?;
                if random.random_bool(1.0 / DEATH_EVERY) {
                    self.let_die(index)?;
                }
            }
        }
        Ok(())
    }

    fn let_die(&mut self, index: usize) -> Result<(), Trouble> {
        let may = self.actors[index].who != Who::Consumer || self.plan.redelivers();
        if may && self.done.len() < DEATHS_MAX && self.may_die(index) {
            self.kill(index)?;
        }
        Ok(())
    }

    /// What was acknowledged has come, and nothing else.
    fn books(&self) -> Result<(), Trouble> {
        let living = self.actors.iter().filter_map(|actor| match actor.who {
            Who::Producer(producer) => Some((producer, actor.life, self.ledger.line(producer))),
            Who::Consumer => None,
        });
        let dead = self.graves.iter().map(|grave| (grave.producer, grave.incarnation, grave.line));
        for (producer, life, line) in living.chain(dead) {
            let received = self.journal.received(producer, life);
            balance(producer, line, received, line.hash).map_err(Trouble::Failed)?;
        }
        Ok(())
    }

    fn processes(&self) -> Vec<(String, u32)> {
        self.actors.iter().map(|actor| (actor.who.to_string(), actor.worker.pid())).collect()
    }
}

impl Actor {
    fn at(&self) -> String {
        match &self.place {
            Place::At(at) => at.clone(),
            Place::Asleep { .. } if self.who != Who::Consumer => "sender sleeps".into(),
            Place::Asleep { naps: true, .. } => "receiver naps".into(),
            Place::Asleep { .. } => "receiver sleeps".into(),
            Place::Done => "done".into(),
        }
    }

    /// Whether it can do nothing but look again.
    fn waits(&self) -> bool {
        self.at().starts_with("waits ")
    }
}

/// One more turn of somebody.
fn note_turn(taken: &mut Vec<Turns>, who: Who) {
    match taken.last_mut() {
        Some(Turns { who: last, until: Until::Count(count) }) if *last == who => *count += 1,
        _ => taken.push(Turns { who, until: Until::Count(1) }),
    }
}
