//! Worker processes: spawn them, hold them at the barrier, let them go, hear them out, reap them.
//!
//! No step waits for ever: each has a limit, and an interrupt ends any of them. A dropped worker is
//! a dead and reaped one.

use std::{
    fmt,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command as Process, Stdio},
    sync::{
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    emulation::{self, stretched},
    protocol::{Command, Hello, Job, Limits, Reply, Report, Role, Task},
    sys::{self, Deadline, Group},
    transports::{Setup, find},
};

/// Set by Ctrl-C and SIGTERM.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// In the environment: a program, and its first arguments, by way of which every worker is started.
const RUNNER: &str = "HARNESS_RUNNER";
/// For everything up to `go`, and for what a task takes beyond its own time.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a waiting orchestrator looks for an interrupt.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// From the last `ready` to the start, so that every worker has heard of it.
const LEAD_NS: u64 = 3_000_000;
/// A worker's last words, at most.
const WORDS: usize = 2_000;

/// Why a run has no result.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The user wants out.
    Interrupted,
    /// A worker died, hung or found a fault.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Interrupted => f.write_str("interrupted"),
            Trouble::Failed(what) => f.write_str(what),
        }
    }
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Trouble {
        Trouble::Failed(format!("{error:#}"))
    }
}

/// One worker process.
#[derive(Debug)]
pub(crate) struct Worker {
    name: String,
    child: Child,
    group: Group,
    stdin: Option<ChildStdin>,
    replies: mpsc::Receiver<String>,
    words: PathBuf,
}

impl Worker {
    /// Starts a worker of this build; it waits for `prepare`. Its files go to `folder`.
    pub(crate) fn spawn(folder: &Path, name: &str) -> Result<Worker> {
        Worker::start(itself("__worker")?, folder, name)
    }

    /// As `spawn`, for whoever plays this part in this life by the plan.
    pub(crate) fn enlist(
        plan: &Plan,
        role: Role,
        number: u32,
        life: u32,
        name: &str,
    ) -> Result<Worker> {
        let builds = if role == Role::Producer { &plan.producer_bins[..] } else { &[] };
        let turn = u64::from(number) + u64::from(life);
        let program = match builds.len() as u64 {
            0 => itself("__worker")?,
            count => program(&builds[usize::try_from(turn % count)?], "__worker"),
        };
        Worker::start(program, &plan.setup.folder, name)
    }

    /// Starts this program as a worker, which is told by lines what to do.
    pub(crate) fn start(mut program: Process, folder: &Path, name: &str) -> Result<Worker> {
        static SPAWNED: AtomicU32 = AtomicU32::new(0);
        let number = SPAWNED.fetch_add(1, Relaxed);
        let words = folder.join(format!("worker-{number}.err"));
        let mut child = program
            .envs(["TMPDIR", "TMP", "TEMP"].map(|name| (name, folder)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&words).context("a file for a worker's stderr")?)
            .spawn()
            .context("spawn a worker")?;
        let group = Group::led_by(&child).context("a worker's group of processes")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("stdout is piped")?;
        let (sender, replies) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Worker { name: name.to_owned(), child, group, stdin, replies, words })
    }

    /// Sends a command. A worker that cannot take it will be missed when it does not answer.
    pub(crate) fn say(&mut self, command: &Command) {
        let line = serde_json::to_string(command).expect("a command is plain data");
        if let Some(stdin) = &mut self.stdin {
            let _ = writeln!(stdin, "{line}");
        }
    }

    /// Waits for an answer.
    pub(crate) fn hear(&mut self, deadline: Deadline) -> Result<Reply, Trouble> {
        loop {
            if INTERRUPTED.load(Relaxed) {
                return Err(Trouble::Interrupted);
            }
            match self.replies.recv_timeout(deadline.left().min(LOOK_EVERY)) {
                Ok(line) => return self.understand(&line),
                Err(mpsc::RecvTimeoutError::Timeout) if deadline.left().is_zero() => {
                    return Err(self.trouble("did not answer in time"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().map(|status| status.to_string());
                    return Err(self.trouble(&format!("died ({status:?})")));
                }
            }
        }
    }

    /// Whether an answer has come that `hear` would return at once, for good or for ill.
    pub(crate) fn try_hear(&mut self) -> Option<Result<Reply, Trouble>> {
        match self.replies.try_recv() {
            Ok(line) => Some(self.understand(&line)),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => Some(Err(self.trouble("died"))),
        }
    }

    fn understand(&self, line: &str) -> Result<Reply, Trouble> {
        match serde_json::from_str(line) {
            Ok(Reply::Failed { what }) => Err(self.trouble(&what)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.trouble(&format!("said {line:?}: {error}"))),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the worker did, followed by what it wrote to stderr.
    pub(crate) fn trouble(&self, what: &str) -> Trouble {
        let words = std::fs::read_to_string(&self.words).unwrap_or_default();
        let start = words.len().saturating_sub(WORDS);
        let words = words.get(start..).unwrap_or_default().trim();
        let words = if words.is_empty() { String::new() } else { format!("; stderr: {words}") };
        Trouble::Failed(format!("{}: {what}{words}", self.name))
    }

    /// Stops it where it is. It is not reaped yet, so the id is still its own.
    pub(crate) fn freeze(&self) {
        sys::freeze(self.child.id());
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        sys::thaw(self.child.id());
    }

    /// Has the system kill it, without waiting until it is gone.
    pub(crate) fn strike(&mut self) {
        // It may have exited by itself, which is as good.
        let _ = self.child.kill();
    }

    /// Its process, and for how long that has waited for a processor so far.
    pub(crate) fn waited(&self) -> (u32, u64) {
        (self.child.id(), sys::waited_ns(self.child.id()))
    }

    /// Puts its main thread on the last processor that this process may use; false if it cannot.
    pub(crate) fn pin(&self) -> bool {
        sys::pin_other(self.child.id(), sys::Processor::Last)
    }

    /// Kills the worker, which has no say in it, and reaps it.
    pub(crate) fn kill(&mut self) {
        self.strike();
        let _ = self.child.wait();
    }
}

/// Lets workers go by themselves, all at once, and kills those that do not.
pub(crate) fn dismiss(mut workers: Vec<Worker>) {
    for worker in &mut workers {
        drop(worker.stdin.take());
    }
    let deadline = Deadline::after(stretched(Duration::from_secs(1)));
    for worker in &workers {
        // Its stdout closes when it exits; nothing it says after `done` matters.
        while worker.replies.recv_timeout(deadline.left()).is_ok() {}
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
        // Only the last words of a failed worker matter, and those have been read.
        let _ = std::fs::remove_file(&self.words);
    }
}

/// Asks this program's workers, and those of other builds, who they are; the first that cannot take
/// part is an error in one line.
pub(crate) fn greet(builds: &[PathBuf]) -> Result<(), String> {
    if std::env::var_os(RUNNER).is_some() {
        // A runner that does not work shows in every run, with its own words.
        let hello = itself("__hello").and_then(ask);
        if let Ok(Hello { emulated: Some(name), .. }) = hello {
            emulation::of_a_worker(&name);
        }
    }
    for build in builds {
        let refused = |why: String| {
            let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("--producer-bin {} cannot take part: {why}", build.display())
        };
        let hello = ask(program(build, "__hello")).map_err(|why| refused(format!("{why:#}")))?;
        if let Some(why) = hello.objection() {
            return Err(refused(why));
        }
        hello.emulated.iter().for_each(|name| emulation::of_a_worker(name));
    }
    Ok(())
}

fn ask(program: Process) -> Result<Hello> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let mut worker = Worker::start(program, folder.path(), "no answer to `__hello`")?;
    match worker.hear(Deadline::after(stretched(PATIENCE))) {
        Ok(Reply::Hello(hello)) => Ok(hello),
        Ok(other) => bail!("it said {other:?} to `__hello`"),
        Err(trouble) => bail!("{trouble}"),
    }
}

/// This program again, by way of the runner if there is one.
pub(crate) fn itself(argument: &str) -> Result<Process> {
    Ok(program(&std::env::current_exe().context("the path of this program")?, argument))
}

/// A build of this program, by way of the runner if there is one.
fn program(program: &Path, argument: &str) -> Process {
    let runner = std::env::var(RUNNER).unwrap_or_default();
    let mut words = runner.split_whitespace();
    let mut process = match words.next() {
        Some(first) => {
            let mut process = Process::new(first);
            process.args(words).arg(program);
            process
        }
        None => Process::new(program),
    };
    sys::set_apart(process.arg(argument));
    process
}

/// What a crew is to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) transport: String,
    pub(crate) task: Task,
    pub(crate) setup: Setup,
    pub(crate) seed: u64,
    pub(crate) ledger: PathBuf,
    /// Whether each process gets a processor of its own, as far as there are any.
    pub(crate) pinned: bool,
    /// Whose builds the producers are of, in turn; of this one, if there are none.
    pub(crate) producer_bins: Vec<PathBuf>,
}

impl Plan {
    /// One worker's part of it.
    pub(crate) fn job(&self, role: Role, producer: u32, incarnation: u32) -> Job {
        Job {
            role,
            task: self.task,
            transport: self.transport.clone(),
            setup: self.setup.clone(),
            seed: self.seed,
            ledger: self.ledger.clone(),
            producer,
            incarnation,
            pinned: self.pinned,
        }
    }

    /// Where this producer connects, of all endpoints.
    fn endpoints(&self, producer: usize, all: &[String]) -> Vec<String> {
        match self.task {
            Task::Attach { .. } => all.to_vec(),
            _ => all.get(producer).cloned().into_iter().collect(),
        }
    }
}

/// A consumer and its producers, connected and waiting for `go`.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) consumer: Worker,
    pub(crate) producers: Vec<Worker>,
    pub(crate) endpoints: Vec<String>,
    pub(crate) limits: Limits,
}

impl Crew {
    /// Starts all workers and brings them to the barrier.
    pub(crate) fn gather(plan: &Plan) -> Result<Crew, Trouble> {
        let deadline = Deadline::after(stretched(PATIENCE));
        let folder = &plan.setup.folder;
        let is_alone = find(&plan.transport).is_some_and(|transport| transport.is_floor());
        let mut consumer = Worker::spawn(folder, "consumer")?;
        let role = if is_alone { Role::Alone } else { Role::Consumer };
        consumer.say(&Command::Prepare(Box::new(plan.job(role, 0, 0))));
        let count = if is_alone { 0 } else { plan.setup.producers };
        let mut producers = Vec::new();
        for producer in 0..count {
            let name = format!("producer {producer}");
            let mut worker = Worker::enlist(plan, Role::Producer, producer, 0, &name)?;
            worker.say(&Command::Prepare(Box::new(plan.job(Role::Producer, producer, 0))));
            producers.push(worker);
        }
        let (endpoints, limits) = bound(&mut consumer, deadline)?;
        let mut back = Vec::new();
        for (producer, worker) in producers.iter_mut().enumerate() {
            back.extend(bound(worker, deadline)?.0);
            let endpoints = plan.endpoints(producer, &endpoints);
            worker.say(&Command::Connect { endpoints, limits });
        }
        consumer.say(&Command::Connect { endpoints: back, limits });
        for worker in producers.iter_mut().chain([&mut consumer]) {
            match worker.hear(deadline)? {
                Reply::Ready => {}
                other => return Err(worker.trouble(&format!("said {other:?}, not ready"))),
            }
        }
        Ok(Crew { consumer, producers, endpoints, limits })
    }

    /// Starts the task in all workers at the same moment.
    pub(crate) fn go(&mut self) {
        let at_ns = sys::now_ns() + LEAD_NS;
        for worker in self.producers.iter_mut().chain([&mut self.consumer]) {
            worker.say(&Command::Go { at_ns });
        }
    }

    /// The processes of each worker.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let workers = self.producers.iter().chain([&self.consumer]);
        workers.map(|worker| worker.group.clone()).collect()
    }

    /// Hears every worker out: the consumer's report and the producers'. Dismisses them.
    pub(crate) fn finish(self, limit: Duration) -> Result<(Report, Vec<Report>), Trouble> {
        self.finish_watched(limit, || Ok(()))
    }

    /// As `finish`, and gives up as soon as `watch` finds a reason to.
    pub(crate) fn finish_watched(
        mut self,
        limit: Duration,
        mut watch: impl FnMut() -> Result<(), Trouble>,
    ) -> Result<(Report, Vec<Report>), Trouble> {
        let deadline = Deadline::after(stretched(limit + PATIENCE));
        let mut reports = Vec::new();
        // A fault that the consumer finds leaves producers blocked: whoever speaks first counts.
        let mut waiting: Vec<_> = self.producers.iter_mut().collect();
        let consumer = loop {
            match self.consumer.try_hear() {
                Some(reply) => break done(&self.consumer, reply?)?,
                None if deadline.left().is_zero() => {
                    return Err(self.consumer.trouble("did not finish in time"));
                }
                None => {}
            }
            let mut still = Vec::new();
            for worker in waiting {
                match worker.try_hear() {
                    Some(reply) => reports.push(done(worker, reply?)?),
                    None => still.push(worker),
                }
            }
            waiting = still;
            if INTERRUPTED.load(Relaxed) {
                return Err(Trouble::Interrupted);
            }
            watch()?;
            // Rarely, as what is measured meanwhile needs the processors.
            thread::sleep(Duration::from_millis(4));
        };
        for worker in waiting {
            let reply = worker.hear(deadline)?;
            reports.push(done(worker, reply)?);
        }
        self.producers.push(self.consumer);
        dismiss(self.producers);
        Ok((consumer, reports))
    }
}

fn bound(worker: &mut Worker, deadline: Deadline) -> Result<(Vec<String>, Limits), Trouble> {
    match worker.hear(deadline)? {
        Reply::Bound { endpoints, limits } => Ok((endpoints, limits)),
        other => Err(worker.trouble(&format!("said {other:?}, not bound"))),
    }
}

/// The report in a worker's last answer.
pub(crate) fn done(worker: &Worker, reply: Reply) -> Result<Report, Trouble> {
    match reply {
        Reply::Done(report) => Ok(*report),
        other => Err(worker.trouble(&format!("said {other:?}, not done"))),
    }
}
