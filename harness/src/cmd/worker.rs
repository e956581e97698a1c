//! The hidden `__worker`: one end of one channel, told by lines on stdin what to do.
//!
//! Its stdin is the orchestrator's life line: when it closes, the worker exits wherever it is. The
//! hidden `__janitor` waits on such a line as well, and removes the folder of the run.

use std::{
    io::{BufRead, Write, stdin, stdout},
    path::Path,
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, bail};

use crate::{
    jobs::{ping_pong, throughput, torture, verify},
    ledger::Ledger,
    payload::Bodies,
    protocol::{Command, Job, Limits, Reply, Report, Role, Task},
    sys::{self, Processor},
    transports::{self, Bound, Rx, Setup, Transport, Tx},
};

/// Runs until stdin closes.
pub(crate) fn run() -> ! {
    sys::die_with_parent();
    let (sender, commands) = mpsc::channel();
    thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    let outcome = work(&commands);
    if let Err(error) = outcome {
        say(&Reply::Failed { what: format!("{error:#}") });
    }
    // What the worker holds of the channel, the other workers may still need.
    loop {
        thread::park();
    }
}

/// Removes the folder once stdin closes, by whatever end the orchestrator has met.
pub(crate) fn janitor(folder: &Path) {
    for _ in stdin().lock().lines().map_while(Result::ok) {}
    // Workers exit at the same time and may still make a file, so one attempt can fail.
    for _ in 0..100 {
        let gone = std::fs::remove_dir_all(folder);
        if gone.is_ok() || !folder.exists() {
            return;
        }
        thread::yield_now();
    }
}

fn say(reply: &Reply) {
    let line = serde_json::to_string(reply).expect("a reply is plain data");
    // If nobody listens, stdin has closed as well, and its watcher ends this process.
    let _ = writeln!(stdout().lock(), "{line}");
}

fn failed(error: &anyhow::Error) -> Reply {
    Reply::Failed { what: format!("{error:#}") }
}

fn hear(commands: &mpsc::Receiver<String>) -> Result<Command> {
    let line = commands.recv().context("the orchestrator has gone")?;
    serde_json::from_str(&line).with_context(|| format!("a command: {line}"))
}

/// From `prepare` to `done`.
fn work(commands: &mpsc::Receiver<String>) -> Result<()> {
    let Command::Prepare(job) = hear(commands)? else { bail!("expected prepare") };
    pin(&job);
    let transport = transports::find(&job.transport).context("an unknown transport")?;
    let bound = bind(&job, transport)?;
    let limits = bound.as_deref().map_or(Limits::default(), |bound| limits(&job, transport, bound));
    let endpoints = bound.as_deref().map_or(Vec::new(), Bound::endpoints);
    say(&Reply::Bound { endpoints, limits });

    let Command::Connect { endpoints, limits } = hear(commands)? else { bail!("expected connect") };
    let mut ends = Ends { tx: None, rx: None };
    // The pinging side connects first and the answering side accepts first, so neither waits for
    // an accept that comes after its own.
    if job.role == Role::Producer {
        ends.connect(&endpoints, transport, &job)?;
        ends.accept(bound)?;
    } else {
        ends.accept(bound)?;
        ends.connect(&endpoints, transport, &job)?;
    }
    let ready = Ready::new(&job, transport, limits)?;
    say(&Reply::Ready);

    let Command::Go { at_ns } = hear(commands)? else { bail!("expected go") };
    sys::sleep_until(at_ns);
    let before = sys::usage();
    match ready.go(at_ns, &mut ends) {
        Ok(mut report) => {
            report.usage = sys::usage().since(before);
            say(&Reply::Done(Box::new(report)));
        }
        Err(error) => say(&failed(&error)),
    }
    // Until stdin closes: dropping an end here would cut off peers that still drain, and after a
    // failure they would blame the end that is gone.
    let _ = commands.recv();
    Ok(())
}

/// Gives each side of a pinned ping-pong its own processor. A refusal shows in the numbers only, so
/// the orchestrator asks for it where it can be had.
fn pin(job: &Job) {
    if matches!(job.task, Task::PingPong { pinned: true, .. }) {
        sys::pin(match job.role {
            Role::Producer => Processor::First,
            Role::Consumer | Role::Alone => Processor::Last,
        });
    }
}

/// Makes the channel this worker receives from, if it does.
fn bind(job: &Job, transport: &dyn Transport) -> Result<Option<Box<dyn Bound>>> {
    let is_ping_pong = matches!(job.task, Task::PingPong { .. });
    Ok(match job.role {
        Role::Consumer => Some(transport.bind(&job.setup)?),
        Role::Producer if is_ping_pong => Some(transport.bind(&way_back(&job.setup))?),
        Role::Producer | Role::Alone => None,
    })
}

/// What the channel takes; where it takes anything, what will be sent at most.
fn limits(job: &Job, transport: &dyn Transport, bound: &dyn Bound) -> Limits {
    let max_len = bound.max_len();
    let wanted = if transport.has_limit() { max_len } else { job.setup.message_max };
    Limits { max_len: max_len.min(wanted), capacity: bound.capacity() }
}

/// The channel from the answering side to the other.
fn way_back(setup: &Setup) -> Setup {
    Setup { channel: format!("{}-back", setup.channel), ..setup.clone() }
}

/// What a worker holds of its channels.
struct Ends {
    tx: Option<Box<dyn Tx>>,
    rx: Option<Box<dyn Rx>>,
}

impl Ends {
    fn connect(&mut self, to: &[String], transport: &dyn Transport, job: &Job) -> Result<()> {
        for endpoint in to {
            self.tx = Some(transport.connect(endpoint, &job.setup).context("connect")?);
        }
        Ok(())
    }

    fn accept(&mut self, bound: Option<Box<dyn Bound>>) -> Result<()> {
        self.rx = bound.map(Bound::accept).transpose().context("accept")?;
        Ok(())
    }

    fn tx(&mut self) -> Result<&mut dyn Tx> {
        Ok(&mut **self.tx.as_mut().context("this worker sends nothing")?)
    }

    fn rx(&mut self) -> Result<&mut dyn Rx> {
        Ok(&mut **self.rx.as_mut().context("this worker receives nothing")?)
    }

    fn both(&mut self) -> Result<(&mut dyn Tx, &mut dyn Rx)> {
        let tx = self.tx.as_mut().context("this worker sends nothing")?;
        let rx = self.rx.as_mut().context("this worker receives nothing")?;
        Ok((&mut **tx, &mut **rx))
    }
}

/// All that can be made before the clock starts.
struct Ready<'a> {
    job: &'a Job,
    transport: &'static dyn Transport,
    limits: Limits,
    ledger: Option<Ledger>,
    bodies: Option<Bodies>,
}

impl<'a> Ready<'a> {
    fn new(job: &'a Job, transport: &'static dyn Transport, limits: Limits) -> Result<Ready<'a>> {
        let is_kept = matches!(job.task, Task::Verify { .. } | Task::Torture { .. });
        let ledger = is_kept.then(|| Ledger::open(&job.ledger)).transpose().context("ledger")?;
        let bodies = match job.task {
            Task::Throughput { size, .. } if job.role == Role::Producer => {
                Some(Bodies::new(job.seed, job.producer, size))
            }
            _ => None,
        };
        Ok(Ready { job, transport, limits, ledger, bodies })
    }

    fn go(mut self, at_ns: u64, ends: &mut Ends) -> Result<Report> {
        let job = self.job;
        match job.task {
            Task::Throughput { size, warmup_ns, measure_ns } => {
                let plan = throughput_plan(size, at_ns, warmup_ns, measure_ns);
                match job.role {
                    Role::Alone => throughput::alone(job, plan),
                    Role::Consumer => throughput::consume(job, plan, ends.rx()?),
                    Role::Producer => {
                        let bodies = self.bodies.as_mut().context("made before `ready`")?;
                        throughput::produce(plan, bodies, ends.tx()?)
                    }
                }
            }
            Task::PingPong { size, warmup_ns, measure_ns, .. } => {
                let plan = throughput_plan(size, at_ns, warmup_ns, measure_ns);
                let (tx, rx) = ends.both()?;
                if job.role == Role::Producer {
                    ping_pong::ping(job, plan, tx, rx)
                } else {
                    ping_pong::pong(job, plan, tx, rx)
                }
            }
            Task::Verify { mix, for_ns } => {
                let (transport, limits) = (self.transport, self.limits);
                let plan = verify::Plan { transport, mix, limits, end_at_ns: at_ns + for_ns };
                if job.role == Role::Producer {
                    verify::produce(job, plan, self.ledger()?, ends.tx()?)
                } else {
                    verify::consume(job, plan, self.ledger()?, ends.rx()?)
                }
            }
            Task::Torture { largest } if job.role == Role::Producer => {
                torture::produce(job, largest, self.ledger()?, ends.tx()?)
            }
            Task::Torture { largest } => torture::consume(job, largest, ends.rx()?),
        }
    }

    fn ledger(&self) -> Result<&Ledger> {
        self.ledger.as_ref().context("opened before `ready`")
    }
}

fn throughput_plan(size: usize, at_ns: u64, warmup_ns: u64, measure_ns: u64) -> throughput::Plan {
    let warm_at_ns = at_ns + warmup_ns;
    throughput::Plan { size, warm_at_ns, end_at_ns: warm_at_ns + measure_ns }
}
