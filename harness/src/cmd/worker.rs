//! The hidden `__worker`: one end of one channel, told by lines on stdin what to do.
//!
//! Its stdin is the orchestrator's life line: when it closes, the worker exits wherever it is. The
//! hidden `__janitor` waits on such a line as well, and removes the folder of the run.

use std::{
    io::{BufRead, Write, stdin, stdout},
    path::Path,
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

use anyhow::{Context, Result, bail};

use crate::{
    jobs::{
        alone, attach, idle, latency, lockstep, memory, ping_pong, promises, throughput, torture,
        verify,
    },
    ledger::Ledger,
    payload::Bodies,
    protocol::{Command, Hello, Job, Limits, Reply, Report, Role, Task},
    sys::{self, Processor},
    transports::{self, Bound, Floor, Rx, Setup, Transport, Tx, planted},
};

/// The lines of stdin. Whoever leads a process in lockstep answers to points anywhere in it.
static COMMANDS: OnceLock<Mutex<mpsc::Receiver<String>>> = OnceLock::new();

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
    COMMANDS.get_or_init(|| Mutex::new(commands));
    let outcome = work();
    if let Err(error) = outcome {
        say(&Reply::Failed { what: format!("{error:#}") });
    }
    // What the worker holds of the channel, the other workers may still need.
    loop {
        thread::park();
    }
}

/// Says who this build is.
pub(crate) fn hello() {
    say(&Reply::Hello(Hello::own()));
}

/// Removes the folder once stdin closes, by whatever end the orchestrator has met.
pub(crate) fn janitor(folder: &Path) {
    for _ in stdin().lock().lines().map_while(Result::ok) {}
    transports::remove_outside(folder, None);
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

fn hear() -> Result<Command> {
    let commands = COMMANDS.get().context("read from stdin since the start")?;
    let commands = commands.lock().unwrap_or_else(PoisonError::into_inner);
    let line = commands.recv().context("the orchestrator has gone")?;
    serde_json::from_str(&line).with_context(|| format!("a command: {line}"))
}

/// From `prepare` to `done`.
fn work() -> Result<()> {
    let Command::Prepare(job) = hear()? else { bail!("expected prepare") };
    pin(&job);
    let is_memory = matches!(job.task, Task::Memory { .. });
    let held_bytes = if is_memory { memory::held()? } else { 0 };
    let transport = transports::find(&job.transport).context("an unknown transport")?;
    let bound = bind(&job, transport)?;
    let limits = bound.first().map_or(Limits::default(), |bound| limits(&job, transport, &**bound));
    let endpoints = bound.iter().flat_map(|bound| bound.endpoints()).collect();
    say(&Reply::Bound { endpoints, limits });

    let Command::Connect { endpoints, limits } = hear()? else { bail!("expected connect") };
    let mut ends = Ends::default();
    if matches!(job.task, Task::Attach { .. }) {
        // What joining takes is what is measured, so nobody has joined before `go`.
        (ends.bound, ends.endpoints) = (bound, endpoints);
    } else if job.role == Role::Producer {
        // The pinging side connects first and the answering side accepts first, so neither waits
        // for an accept that comes after its own.
        ends.connect(&endpoints, transport, &job)?;
        ends.accept(bound)?;
    } else {
        ends.accept(bound)?;
        ends.connect(&endpoints, transport, &job)?;
    }
    let ready = Ready::new(&job, transport, limits, held_bytes)?;
    say(&Reply::Ready);

    let Command::Go { at_ns } = hear()? else { bail!("expected go") };
    sys::sleep_until(at_ns);
    if matches!(job.task, Task::Lockstep { .. }) {
        be_led()?;
    }
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
    let _ = hear();
    Ok(())
}

/// In lockstep: says where this process stands, and waits for its turn.
fn stand(at: &str) {
    say(&Reply::Stands { at: at.to_owned() });
    if !matches!(hear(), Ok(Command::Turn)) {
        // The orchestrator has gone, and this process with it.
        std::process::exit(0);
    }
}

/// Has the channel say where it is.
fn be_led() -> Result<()> {
    #[cfg(feature = "fault")]
    ipmpsc::fault::lead(stand);
    #[cfg(not(feature = "fault"))]
    bail!("this build has no points to stand at");
    #[cfg(feature = "fault")]
    Ok(())
}

/// Gives this worker a processor of its own: the last to the consumer, the others to the producers
/// until there are none left. A refusal shows in the numbers only.
fn pin(job: &Job) {
    if job.pinned {
        match job.role {
            Role::Producer => sys::pin(Processor::Nth(job.producer)),
            Role::Consumer => sys::pin(Processor::Last),
            // It pins its threads.
            Role::Alone => return,
        };
    }
}

/// Makes the channels this worker receives from, if it does.
fn bind(job: &Job, transport: &dyn Transport) -> Result<Vec<Box<dyn Bound>>> {
    let setups = match (job.role, job.task) {
        (Role::Consumer, Task::Attach { joins, .. }) => {
            (0..joins as usize).map(|join| attach::setup(&job.setup, join)).collect()
        }
        (Role::Consumer, _) => vec![job.setup.clone()],
        (Role::Producer, Task::PingPong { .. }) => vec![way_back(&job.setup)],
        (Role::Producer | Role::Alone, _) => Vec::new(),
    };
    setups.iter().map(|setup| transport.bind(setup)).collect()
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
#[derive(Default)]
struct Ends {
    tx: Option<Box<dyn Tx>>,
    rx: Option<Box<dyn Rx>>,
    /// Channels that are joined under way, where that is the task.
    bound: Vec<Box<dyn Bound>>,
    endpoints: Vec<String>,
    joined: Vec<Box<dyn Tx>>,
    accepted: Vec<Box<dyn Rx>>,
}

impl Ends {
    fn connect(&mut self, to: &[String], transport: &dyn Transport, job: &Job) -> Result<()> {
        for endpoint in to {
            let tx = transport.connect(endpoint, &job.setup).context("connect")?;
            self.tx = Some(planted::wrap(tx, job.producer, &job.setup)?);
        }
        Ok(())
    }

    fn accept(&mut self, bound: Vec<Box<dyn Bound>>) -> Result<()> {
        for bound in bound {
            self.rx = Some(bound.accept().context("accept")?);
        }
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
    /// By producer, where this worker is one or several of them.
    bodies: Vec<Bodies>,
    /// What this process held before its channel existed, where that matters.
    held_bytes: u64,
}

impl<'a> Ready<'a> {
    fn new(
        job: &'a Job,
        transport: &'static dyn Transport,
        limits: Limits,
        held_bytes: u64,
    ) -> Result<Ready<'a>> {
        let is_kept =
            matches!(job.task, Task::Verify { .. } | Task::Promises | Task::Torture { .. })
                || matches!(job.task, Task::Lockstep { .. });
        let ledger = is_kept.then(|| Ledger::open(&job.ledger)).transpose().context("ledger")?;
        let producers = match job.role {
            Role::Consumer => 0..0,
            Role::Producer => job.producer..job.producer + 1,
            Role::Alone => 0..job.setup.producers,
        };
        let bodies = match job.task {
            Task::Throughput { size, .. } => {
                let batch = throughput::batch(job, transport, size);
                let bodies = |producer| Bodies::for_batches(job.seed, producer, size, batch);
                producers.map(bodies).collect()
            }
            Task::Latency { size, .. }
            | Task::Attach { size, .. }
            | Task::Idle { size, .. }
            | Task::Memory { size, .. } => {
                producers.map(|producer| Bodies::new(job.seed, producer, size)).collect()
            }
            _ => Vec::new(),
        };
        Ok(Ready { job, transport, limits, ledger, bodies, held_bytes })
    }

    fn go(mut self, at_ns: u64, ends: &mut Ends) -> Result<Report> {
        let job = self.job;
        match job.task {
            Task::Throughput { size, warmup_ns, measure_ns } => {
                let plan = throughput_plan(size, at_ns, warmup_ns, measure_ns);
                let is_batched = self.transport.batch() > 1;
                match job.role {
                    Role::Alone => alone::throughput(job, plan, self.floor()?, self.bodies),
                    Role::Consumer if is_batched => {
                        throughput::consume_batches(job, plan, ends.rx()?)
                    }
                    Role::Consumer => throughput::consume(job, plan, ends.rx()?),
                    Role::Producer if is_batched => {
                        let batch = throughput::batch(job, self.transport, size);
                        throughput::produce_batches(plan, batch, self.bodies()?, ends.tx()?)
                    }
                    Role::Producer => throughput::produce(plan, self.bodies()?, ends.tx()?),
                }
            }
            Task::Latency { .. }
            | Task::Attach { .. }
            | Task::Idle { .. }
            | Task::Memory { .. } => self.observe(at_ns, ends),
            Task::PingPong { size, warmup_ns, measure_ns } => {
                let plan = throughput_plan(size, at_ns, warmup_ns, measure_ns);
                if job.role == Role::Alone {
                    return alone::round_trips(job, plan, job.pinned, self.floor()?);
                }
                let (tx, rx) = ends.both()?;
                if job.role == Role::Producer {
                    ping_pong::ping(job, plan, tx, rx)
                } else {
                    ping_pong::pong(job, plan, tx, rx)
                }
            }
            Task::Verify { mix, grain, least_ns, most_ns } => {
                let (transport, limits) = (self.transport, self.limits);
                let (least_at_ns, most_at_ns) = (at_ns + least_ns, at_ns + most_ns);
                let plan = verify::Plan { transport, mix, grain, limits, least_at_ns, most_at_ns };
                if job.role == Role::Producer {
                    verify::produce(job, plan, self.ledger()?, ends.tx()?)
                } else {
                    verify::consume(job, plan, self.ledger()?, ends.rx()?)
                }
            }
            Task::Promises if job.role == Role::Producer => promises::produce(job, self.ledger()?),
            Task::Promises => promises::consume(job, self.ledger()?),
            Task::Torture { largest } if job.role == Role::Producer => {
                torture::produce(job, largest, self.ledger()?, ends.tx()?)
            }
            Task::Torture { largest } => torture::consume(job, largest, ends.rx()?),
            Task::Lockstep { largest, messages } if job.role == Role::Producer => {
                lockstep::produce(job, (largest, messages), self.ledger()?, ends.tx()?, stand)
            }
            Task::Lockstep { largest, .. } => lockstep::consume(job, largest, ends.rx()?, stand),
        }
    }

    /// The tasks that are not about speed.
    fn observe(mut self, at_ns: u64, ends: &mut Ends) -> Result<Report> {
        let (job, is_producer) = (self.job, self.job.role == Role::Producer);
        match job.task {
            Task::Latency { size, offered_per_s, spin_ns, warmup_ns, measure_ns } => {
                let producers = job.setup.producers;
                let warm_at_ns = at_ns + warmup_ns;
                let end_at_ns = warm_at_ns + measure_ns;
                let schedule =
                    latency::Schedule { offered_per_s, producers, at_ns, warm_at_ns, end_at_ns };
                if is_producer {
                    sys::sleep_sharply();
                    let (bodies, tx) = (self.bodies()?, ends.tx()?);
                    let wait = |due_ns| latency::wait_until(due_ns, spin_ns);
                    latency::produce(job, schedule, bodies, tx, wait)
                } else {
                    latency::consume(job, size, schedule, ends.rx()?, sys::now_ns)
                }
            }
            Task::Attach { size, .. } => {
                if is_producer {
                    let (transport, kept) = (self.transport, &mut ends.joined);
                    attach::produce(job, transport, &ends.endpoints, self.bodies()?, kept)
                } else {
                    let bound = std::mem::take(&mut ends.bound);
                    attach::consume(job, size, bound, &mut ends.accepted)
                }
            }
            Task::Idle { for_ns, .. } if is_producer => {
                idle::produce(at_ns + for_ns, self.bodies()?, ends.tx()?)
            }
            Task::Idle { size, .. } => idle::consume(job, size, ends.rx()?),
            Task::Memory { messages, .. } if is_producer => {
                memory::produce(messages, self.held_bytes, self.bodies()?, ends.tx()?)
            }
            Task::Memory { size, .. } => memory::consume(job, size, self.held_bytes, ends.rx()?),
            other => bail!("{other:?} is about speed"),
        }
    }

    fn bodies(&mut self) -> Result<&mut Bodies> {
        self.bodies.first_mut().context("made before `ready`")
    }

    fn floor(&self) -> Result<Floor> {
        self.transport.floor().context("only a floor is measured by one worker")
    }

    fn ledger(&self) -> Result<&Ledger> {
        self.ledger.as_ref().context("opened before `ready`")
    }
}

fn throughput_plan(size: usize, at_ns: u64, warmup_ns: u64, measure_ns: u64) -> throughput::Plan {
    let warm_at_ns = at_ns + warmup_ns;
    throughput::Plan { size, warm_at_ns, end_at_ns: warm_at_ns + measure_ns }
}
