//! The command line: what may be said, and one clear line about what may not.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::{
    payload::STAMP_LEN,
    plan::{Plan, Way},
    profile::Profile,
    scenario,
    transports::find,
};

/// More producers than this and the ring has no slot for each.
const PRODUCERS_MAX: u32 = 255;
/// How many there are unless said otherwise.
const PRODUCERS: u32 = 4;
/// How often a plan is replayed unless said otherwise.
const REPLAYS: u32 = 50;
/// The largest ring that can be asked for.
const RING_MAX: u64 = 1 << 30;
/// What a ring keeps for itself beside the largest typed message.
pub(crate) const RING_OVERHEAD: u64 = 16;
/// The most of a message that is shown; a screen has long scrolled away by then.
const SHOWN_MAX: i64 = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  harness --producers 8                     verify and compare everything, about a minute
  harness verify --for 10m --seed 7         look longer for faults, replayable
  harness compare --size 1k,frame --transport ipmpsc,pipe

Exit: 0 passed, 1 promise broken, 2 usage, 3 inconclusive, 5 stale, 70 internal, 130 interrupted";

/// Does this channel keep its promises, and which IPC transport should I use?
#[derive(Debug, Parser)]
#[command(name = "harness", version, after_help = EXAMPLES, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Word>,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    grid: Grid,
    #[command(flatten)]
    voice: Voice,
}

#[derive(Clone, Debug, Subcommand)]
enum Word {
    /// No faults: awkward sizes around the ring's end, every message accounted for
    Verify {
        /// Only scenarios whose name contains this, as a failure's replay line says
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        voice: Voice,
    },
    /// Every transport by size, by producers and by load, interleaved
    Compare {
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        grid: Grid,
        #[command(flatten)]
        voice: Voice,
    },
    /// Faults on purpose; nothing that was acknowledged is lost
    Torture {
        /// How many kills and freezes under load, unless --for says how long
        #[arg(long, value_name = "N", default_value_t = scenario::KILLS)]
        kills: u64,
        #[command(flatten)]
        faults: Faults,
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        voice: Voice,
    },
    /// Tables, plots and a page from recorded runs; measures nothing
    Report {
        /// Folders with runs.jsonl and env.json [default: results/latest, and with --check all that
        /// is published]
        #[arg(value_name = "DIR")]
        folders: Vec<PathBuf>,
        /// Render in memory and compare byte for byte with what is there: 5 if anything differs.
        /// Says as well whose run is older than ipmpsc's sources
        #[arg(long)]
        check: bool,
        /// 5 as well if ipmpsc's sources have changed since the run
        #[arg(long, requires = "check")]
        strict: bool,
        /// Copy the run to results/published, and renew the index and the README's table
        #[arg(long, conflicts_with = "check")]
        publish: bool,
        /// Publish although it failed, was interrupted, or its revision is not committed; never a
        /// build with debug assertions
        #[arg(long, requires = "publish")]
        force: bool,
        /// Renew the index and the README's table alone
        #[arg(long, conflicts_with_all = ["check", "publish", "folders"])]
        renew: bool,
        #[command(flatten)]
        voice: Voice,
    },
    /// What is in a ring, live or left behind: header, senders, records; only reads
    Inspect {
        /// The ring's file, or /proc/PID/fd/N for a ring without one
        path: PathBuf,
        /// How many records to show
        #[arg(long, value_name = "N", default_value_t = 20)]
        records: u64,
        /// How much of each message to show, in bytes
        #[arg(long, value_name = "N", default_value_t = 32,
              value_parser = clap::value_parser!(u32).range(..=SHOWN_MAX))]
        bytes: u32,
        /// A JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// The records of a ring as they come, as far as they can be read in time; only reads
    Tail {
        /// The ring's file, or /proc/PID/fd/N for a ring without one
        path: PathBuf,
        /// How much of each message to show, in bytes
        #[arg(long, value_name = "N", default_value_t = 32,
              value_parser = clap::value_parser!(u32).range(..=SHOWN_MAX))]
        bytes: u32,
        /// How long: 10s, 2m [default: until Ctrl-C]
        #[arg(long = "for", value_name = "D", value_parser = parse_duration)]
        duration: Option<Duration>,
        /// A JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// A failed torture again: how often its plan fails
    Replay {
        /// The plan, as a failed torture has left it
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How often to run it
        #[arg(long, value_name = "N", default_value_t = REPLAYS,
              value_parser = clap::value_parser!(u32).range(1..))]
        times: u32,
        #[command(flatten)]
        voice: Voice,
    },
    /// A failed torture made small: what its plan can do without
    Shrink {
        /// The plan; the smaller one goes beside it, as plan.min.toml
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How long at most: 10s, 2m [default: 2m]
        #[arg(long = "for", value_name = "D", value_parser = parse_duration)]
        duration: Option<Duration>,
        #[command(flatten)]
        voice: Voice,
    },
    /// The harness itself: planted bugs, each of which it must notice
    Selftest {
        /// Only bugs that have this in their names
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        only: String,
        #[command(flatten)]
        voice: Voice,
    },
    /// This machine: its noise, and what its memory and its scheduler cost
    Doctor {
        /// Producers of the run that is planned
        #[arg(long, value_name = "N", default_value_t = PRODUCERS)]
        producers: u32,
        /// Repeats the random choices of an earlier run
        #[arg(long, value_name = "S")]
        seed: Option<u64>,
        /// Folder for the rows [default: they are not kept]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        voice: Voice,
    },
    /// What can be compared, and what cannot run here and why
    Transports {
        /// A JSON object a line
        #[arg(long)]
        json: bool,
    },
    #[command(name = "__worker", hide = true)]
    Worker,
    #[command(name = "__hello", hide = true)]
    Hello,
    #[command(name = "__sweep", hide = true)]
    Sweeper,
    #[command(name = "__victim", hide = true)]
    Victim { act: usize, path: PathBuf },
    #[command(name = "__nemesis", hide = true)]
    Nemesis { id: String, subject: String, folder: PathBuf },
    #[command(name = "__janitor", hide = true)]
    Janitor { folder: PathBuf },
    #[command(name = "__attempt", hide = true)]
    Attempt {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// What every run of real processes is told.
#[derive(Clone, Debug, Default, Args)]
struct Load {
    /// Producer processes
    #[arg(long, value_name = "N", default_value_t = PRODUCERS)]
    producers: u32,
    /// Repeats the random choices of an earlier run
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How long to verify, or what the command does: 10s, 2m
    #[arg(long = "for", value_name = "D", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Only these; `harness transports` lists them
    #[arg(long = "transport", value_name = "LIST", value_delimiter = ',')]
    transports: Vec<String>,
    /// Folder for the report and its rows [default: results/latest]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Producers of another build of the harness; of several, in turn
    #[arg(long = "producer-bin", value_name = "P")]
    producer_bins: Vec<PathBuf>,
}

impl Load {
    /// Of a command that has its load from a file.
    fn of_one(duration: Option<Duration>) -> Load {
        Load { producers: PRODUCERS, duration, ..Load::default() }
    }
}

/// Which faults, beside the kills under load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct Faults {
    /// instructions: die, and be stopped, at each single one; points: at the named ones only
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    pub(crate) sweep: Option<Sweep>,
    /// Every fault of the catalogue that can be brought about here, on every transport
    #[arg(long, conflicts_with = "sweep")]
    pub(crate) matrix: bool,
    /// So many random schedules, one step of one process at a time: the same seed, the same steps
    #[arg(long, value_name = "N", conflicts_with_all = ["sweep", "matrix"])]
    pub(crate) lockstep: Option<u64>,
    /// The catalogue of faults: what brings each about, and its last verdict
    #[arg(long, conflicts_with_all = ["sweep", "matrix"])]
    pub(crate) list: bool,
    /// Only what has this in its name, or is this id
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) only: String,
}

/// What is gone through place by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sweep {
    Instructions,
    Points,
}

/// What a comparison covers.
#[derive(Clone, Debug, Default, Args)]
struct Grid {
    /// Message sizes: 64,1k,frame (12,441,600 bytes, 3840x2160 in YUV 4:2:0)
    #[arg(long = "size", value_name = "LIST", value_delimiter = ',', value_parser = parse_size)]
    sizes: Vec<u64>,
    /// Bytes of the ring [default: 1m, or room for three messages]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    ring: Option<u64>,
    /// quick: 15 s; default: at most 90 s; full, scale: say it first
    #[arg(long, value_name = "P", value_enum, default_value_t, hide_possible_values = true)]
    #[arg(hide_default_value = true)]
    profile: Profile,
    /// A processor for each process, as far as there are any
    #[arg(long)]
    pin: bool,
}

/// How it speaks.
#[derive(Clone, Copy, Debug, Default, Args)]
struct Voice {
    /// Rows on stdout, one JSON object a line
    #[arg(long)]
    json: bool,
    /// Results only
    #[arg(short, long)]
    quiet: bool,
    /// Every run by name
    #[arg(short, long)]
    verbose: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Verify, torture, compare, report.
    All,
    Verify {
        only: Option<String>,
    },
    Compare,
    Torture {
        kills: u64,
        faults: Faults,
    },
    Report {
        folders: Vec<PathBuf>,
        mode: ReportMode,
    },
    Inspect {
        path: PathBuf,
        records: u64,
        bytes: u32,
    },
    Tail {
        path: PathBuf,
        bytes: u32,
    },
    Replay {
        file: PathBuf,
        plan: Plan,
        times: u32,
    },
    Shrink {
        file: PathBuf,
        plan: Plan,
    },
    Selftest {
        only: String,
    },
    Doctor,
    Transports,
    Worker,
    Hello,
    Sweeper,
    Victim {
        act: usize,
        path: PathBuf,
    },
    Nemesis {
        id: String,
        subject: String,
        folder: PathBuf,
    },
    Janitor {
        folder: PathBuf,
    },
    Attempt {
        words: Vec<OsString>,
    },
}

/// What to do with recorded runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportMode {
    Render,
    Check { strict: bool },
    Publish { force: bool },
    Renew,
}

/// How to do it, checked.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) producers: u32,
    pub(crate) seed: u64,
    pub(crate) duration: Option<Duration>,
    /// Those that were named; the profile's if none.
    pub(crate) sizes: Vec<u64>,
    /// As said; otherwise it depends on the message.
    pub(crate) ring_bytes: Option<u64>,
    pub(crate) profile: Profile,
    pub(crate) pin: bool,
    /// Those that were named; all if none.
    pub(crate) transports: Vec<&'static str>,
    pub(crate) json: bool,
    /// Where the results go; nowhere if none.
    pub(crate) out: Option<PathBuf>,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Builds that producers are of, in turn; this one if none.
    pub(crate) producer_bins: Vec<PathBuf>,
}

impl Options {
    /// Bytes of the ring for messages of this size: room for one that is read, one that waits and
    /// one that is written.
    pub(crate) fn ring_for(&self, size: u64) -> u64 {
        let enough = (3 * (size + RING_OVERHEAD)).next_power_of_two().max(scenario::RING_BYTES);
        self.ring_bytes.unwrap_or(enough)
    }
}

/// Why there is nothing to do.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Help or the version, as asked for.
    Answer(String),
    /// One line for stderr.
    Mistake(String),
}

/// Reads the command line.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(Order, Options), Stop> {
    // The whole on one screen: what few will say is shown by the commands' own help.
    let screen = CommandLine::command().mut_arg("producer_bins", |arg| arg.hide(true));
    let matches = screen.try_get_matches_from(arguments);
    let line = matches.and_then(|said| CommandLine::from_arg_matches(&said)).map_err(|error| {
        if error.use_stderr() {
            // The first paragraph says what; usage and hints follow it.
            let text = error.to_string();
            let lines: Vec<_> = text.lines().map(str::trim).take_while(|l| !l.is_empty()).collect();
            let what = lines.join(" ");
            let what = what.strip_prefix("error: ").unwrap_or(&what);
            Stop::Mistake(format!("{what}; `harness --help` shows what can be said"))
        } else {
            Stop::Answer(error.to_string())
        }
    })?;
    let no_grid = Grid::default();
    let (order, load, grid, voice) = match line.command {
        None => (Order::All, line.load, line.grid, line.voice),
        Some(Word::Verify { only, load, voice }) => {
            check_only(only.as_deref()).map_err(Stop::Mistake)?;
            (Order::Verify { only }, load, no_grid, voice)
        }
        Some(Word::Compare { load, grid, voice }) => (Order::Compare, load, grid, voice),
        Some(Word::Torture { kills, faults, load, voice }) => {
            check_points(&faults).map_err(Stop::Mistake)?;
            (Order::Torture { kills, faults }, load, no_grid, voice)
        }
        Some(Word::Replay { file, times, voice }) => {
            let plan = read_plan(&file, "replay")?;
            (Order::Replay { file, plan, times }, Load::of_one(None), no_grid, voice)
        }
        Some(Word::Shrink { file, duration, voice }) => {
            let plan = read_plan(&file, "shrink")?;
            (Order::Shrink { file, plan }, Load::of_one(duration), no_grid, voice)
        }
        Some(Word::Selftest { only, voice }) => {
            check_bugs().map_err(Stop::Mistake)?;
            (Order::Selftest { only }, Load::of_one(None), no_grid, voice)
        }
        Some(word) => {
            let (order, load, voice) = word.without_load();
            (order, load, no_grid, voice)
        }
    };
    let mut options = check(load, grid, voice).map_err(Stop::Mistake)?;
    let runs =
        matches!(order, Order::All | Order::Verify { .. } | Order::Compare | Order::Torture { .. });
    if runs {
        options.out.get_or_insert_with(default_out);
    }
    if let Some(out) = &options.out {
        writable(out).map_err(Stop::Mistake)?;
    }
    Ok((order, options))
}

impl Word {
    /// A command that starts no producers, with what little it is told.
    fn without_load(self) -> (Order, Load, Voice) {
        let load = Load { producers: PRODUCERS, ..Load::default() };
        let says = |json| Voice { json, ..Voice::default() };
        match self {
            Word::Report { folders, check, strict, publish, force, renew, voice } => {
                let mode = match (check, publish, renew) {
                    (true, ..) => ReportMode::Check { strict },
                    (_, true, _) => ReportMode::Publish { force },
                    (.., true) => ReportMode::Renew,
                    _ => ReportMode::Render,
                };
                (Order::Report { folders, mode }, load, voice)
            }
            Word::Inspect { path, records, bytes, json } => {
                (Order::Inspect { path, records, bytes }, load, says(json))
            }
            Word::Tail { path, bytes, duration, json } => {
                (Order::Tail { path, bytes }, Load { duration, ..load }, says(json))
            }
            Word::Doctor { producers, seed, out, voice } => {
                (Order::Doctor, Load { producers, seed, out, ..load }, voice)
            }
            Word::Transports { json } => (Order::Transports, load, says(json)),
            Word::Worker => (Order::Worker, load, says(false)),
            Word::Hello => (Order::Hello, load, says(false)),
            Word::Sweeper => (Order::Sweeper, load, says(false)),
            Word::Victim { act, path } => (Order::Victim { act, path }, load, says(false)),
            Word::Nemesis { id, subject, folder } => {
                (Order::Nemesis { id, subject, folder }, load, says(false))
            }
            Word::Janitor { folder } => (Order::Janitor { folder }, load, says(false)),
            Word::Attempt { words } => (Order::Attempt { words }, load, says(false)),
            Word::Verify { .. }
            | Word::Compare { .. }
            | Word::Torture { .. }
            | Word::Replay { .. }
            | Word::Selftest { .. }
            | Word::Shrink { .. } => {
                unreachable!("`parse` has taken these")
            }
        }
    }
}

fn check(load: Load, grid: Grid, voice: Voice) -> Result<Options, String> {
    let Load { producers, seed, duration, transports, out, producer_bins } = load;
    let Grid { sizes, ring, profile, pin } = grid;
    let Voice { json, quiet, verbose } = voice;
    if producers == 0 {
        return Err("--producers 0 sends nothing; use --producers 1 or more".into());
    }
    if producers > PRODUCERS_MAX {
        return Err(format!(
            "--producers {producers} is more than a ring has slots for; \
             use --producers {PRODUCERS_MAX} or fewer"
        ));
    }
    check_sizes(&sizes, ring)?;
    if let Some(path) = producer_bins.iter().find(|path| !path.is_file()) {
        return Err(format!("--producer-bin {} is not there; name a program", path.display()));
    }
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let named = |name: String| match find(&name) {
        Some(transport) => Ok(transport.name()),
        None => Err(format!("--transport {name} is unknown; `harness transports` lists them")),
    };
    Ok(Options {
        producers,
        seed: seed.unwrap_or_else(random_seed),
        duration,
        sizes,
        ring_bytes: ring,
        profile,
        pin,
        transports: transports.into_iter().map(named).collect::<Result<_, _>>()?,
        json,
        out,
        quiet,
        verbose,
        producer_bins: producer_bins.into_iter().map(absolute).collect(),
    })
}

/// Only a build for it has places to die at by name.
fn check_points(faults: &Faults) -> Result<(), String> {
    match faults.sweep {
        Some(Sweep::Points) => needs_points("--sweep points", "torture --sweep points"),
        _ if faults.lockstep.is_some() => needs_points("--lockstep", "torture --lockstep N"),
        _ => Ok(()),
    }
}

fn needs_points(what: &str, words: &str) -> Result<(), String> {
    if cfg!(feature = "fault") {
        return Ok(());
    }
    Err(format!(
        "{what} needs a build with named points: \
         `cargo run -p harness --features fault -- {words}`"
    ))
}

/// Only a build for it has bugs to notice.
fn check_bugs() -> Result<(), String> {
    match cfg!(all(feature = "fault", feature = "mutant")) {
        true => Ok(()),
        false => Err("selftest needs a build with named points and planted bugs: \
                      `cargo run -p harness --features fault,mutant -- selftest`"
            .into()),
    }
}

/// A plan that this build can run.
fn read_plan(file: &Path, word: &str) -> Result<Plan, Stop> {
    let plan = Plan::read(file).map_err(Stop::Mistake)?;
    if plan.way == Way::Lockstep {
        let words = format!("{word} {}", file.display());
        needs_points("a plan in lockstep", &words).map_err(Stop::Mistake)?;
    }
    Ok(plan)
}

fn check_only(only: Option<&str>) -> Result<(), String> {
    if scenario::chosen(only).is_empty() {
        let names = scenario::VERIFY.map(|scenario| scenario.name).join("\", \"");
        let only = only.unwrap_or_default();
        return Err(format!("--only \"{only}\" is no scenario; use a part of \"{names}\""));
    }
    Ok(())
}

fn check_sizes(sizes: &[u64], ring: Option<u64>) -> Result<(), String> {
    if let Some(ring) = ring.filter(|&ring| ring > RING_MAX) {
        return Err(format!("--ring {ring} is above 1 GiB; use --ring 1024m or less"));
    }
    for &size in sizes {
        if size < STAMP_LEN as u64 {
            return Err(format!(
                "--size {size} has no room for the {STAMP_LEN} bytes that say which message it is; \
                 use --size {STAMP_LEN} or more"
            ));
        }
        let ring = ring.unwrap_or(RING_MAX / 2);
        if size > RING_MAX / 2 {
            return Err(format!("--size {size} is above 512 MiB; use --size 512m or less"));
        }
        if size + RING_OVERHEAD > ring {
            return Err(format!(
                "--size {size} does not fit a ring of {ring} bytes; \
                 use --ring {} or a smaller --size",
                (size + RING_OVERHEAD).next_power_of_two()
            ));
        }
    }
    Ok(())
}

/// Makes the folder and proves that files can be written there.
fn writable(out: &Path) -> Result<(), String> {
    let made = std::fs::create_dir_all(out).and_then(|()| tempfile::tempfile_in(out).map(drop));
    made.map_err(|error| {
        format!(
            "cannot write results to {}: {error}; name another folder with --out DIR",
            out.display()
        )
    })
}

/// The workspace when cargo runs this program, the current folder otherwise.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    package.as_deref().and_then(Path::parent).unwrap_or(Path::new(".")).to_path_buf()
}

/// Where results go unless `--out` says otherwise.
pub(crate) fn default_out() -> PathBuf {
    root().join("results").join("latest")
}

/// Different each time, and short enough to type.
fn random_seed() -> u64 {
    crate::payload::mix(crate::sys::now_ns() ^ u64::from(std::process::id())) % 1_000_000_000
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("no time at all; write it like 500ms, 10s or 2m".into()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("write it like 500ms, 10s or 2m".into()),
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let hint = "write it like 64, 1k, 2m or frame";
    let lower = text.to_ascii_lowercase();
    if lower == "frame" {
        return Ok(scenario::FRAME);
    }
    let (digits, shift) = match lower.strip_suffix(['k', 'm']) {
        Some(digits) if lower.ends_with('k') => (digits, 10),
        Some(digits) => (digits, 20),
        None => (lower.as_str(), 0),
    };
    let number: u64 = digits.parse().map_err(|_| hint.to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<(Order, Options), Stop> {
        parse(std::iter::once("harness").chain(words.split_whitespace()).map(Into::into))
    }

    fn mistake(words: &str) -> String {
        match parse_words(words) {
            Err(Stop::Mistake(line)) => line,
            other => panic!("{words} was no mistake: {other:?}"),
        }
    }

    #[test]
    fn each_mistake_gets_one_line_that_says_what_to_do() {
        for (words, hint) in [
            ("--producers 0", "--producers 1 or more"),
            ("--producers 256", "--producers 255 or fewer"),
            ("--producers many", "--help"),
            ("--size 2m --ring 1m", "--ring 4194304 or a smaller --size"),
            ("--size 600m", "--size 512m or less"),
            ("--size 64k --ring 32k", "--ring 131072"),
            ("--size 8", "--size 16 or more"),
            ("--size 1q", "write it like 64, 1k, 2m or frame"),
            ("--size 99999999999999999999m", "write it like"),
            ("--ring 2000m", "--ring 1024m or less"),
            ("--for soon", "write it like 500ms, 10s or 2m"),
            ("--for 0s", "write it like 500ms, 10s or 2m"),
            ("--transport pigeon", "`harness transports`"),
            ("torture --kills some", "--help"),
            ("verify --only pigeon", "use a part of \"single calls\""),
            ("dance", "--help"),
            ("inspect", "--help"),
            ("--seed 7 verify", "--help"),
            ("inspect ring --producers 3", "--help"),
        ] {
            let line = mistake(words);
            assert!(line.contains(hint), "{words}: {line}");
            assert_eq!(line.lines().count(), 1, "{words}: {line}");
        }
    }

    #[test]
    fn an_unwritable_folder_is_a_mistake() {
        let file = tempfile::NamedTempFile::new().expect("a test needs a temporary file");
        let line = writable(&file.path().join("below")).expect_err("a file is no folder");
        assert!(line.contains("--out DIR"), "{line}");
    }

    #[test]
    fn what_is_said_is_what_is_meant() {
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let out = folder.path().display();
        let words = "compare --size 64,1K,2m --ring 4m --transport pipe,null --for 2s --seed 9";
        let words = format!("{words} --profile quick --out {out}");
        let (order, options) = parse_words(&words).expect("all of it is allowed");
        assert_eq!(order, Order::Compare);
        assert_eq!(options.sizes, [64, 1024, 2 << 20]);
        assert_eq!(options.ring_bytes, Some(4 << 20));
        assert_eq!(options.transports, ["pipe", "null"]);
        assert_eq!(options.duration, Some(Duration::from_secs(2)));
        assert_eq!(options.seed, 9);
        assert_eq!(options.profile, Profile::Quick);
        let (order, options) = parse_words(&format!("--out {out}")).expect("nothing need be said");
        assert_eq!((order, options.producers), (Order::All, 4));
        let words = format!("torture --kills 5 --out {out}");
        let (order, _) = parse_words(&words).expect("a command with a flag");
        assert_eq!(order, Order::Torture { kills: 5, faults: Faults::default() });
        let (order, options) = parse_words("tail ring --for 1s").expect("it makes no folder");
        assert_eq!(order, Order::Tail { path: "ring".into(), bytes: 32 });
        assert_eq!(options.duration, Some(Duration::from_secs(1)));
    }

    #[test]
    fn help_fits_a_screen_and_shows_three_examples() {
        let Err(Stop::Answer(help)) = parse_words("--help") else { panic!("help is an answer") };
        assert!(help.lines().count() <= 40, "{} lines", help.lines().count());
        assert!(help.lines().all(|line| line.len() <= 100), "{help}");
        assert_eq!(help.lines().filter(|line| line.starts_with("  harness ")).count(), 3);
        assert!(!help.contains("__worker"));
    }
}
