//! The command line: what may be said, and one clear line about what may not.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    payload::STAMP_LEN,
    profile::Profile,
    scenario,
    transports::{ALL, find},
};

/// More producers than this and the ring has no slot for each.
const PRODUCERS_MAX: u32 = 255;
/// The largest ring that can be asked for.
const RING_MAX: u64 = 1 << 30;
/// What a ring keeps for itself beside the largest typed message.
const RING_OVERHEAD: u64 = 16;

const EXAMPLES: &str = "\
Examples:
  harness --producers 8                     verify and compare everything, about a minute
  harness verify --for 10m --seed 7         look longer for faults, replayable
  harness compare --size 1k,frame --transport ipmpsc,pipe

Exit codes: 0 passed, 1 a promise broken, 2 usage, 3 inconclusive, 5 a published report is stale,
            70 internal, 130 interrupted.";

/// Does this channel keep its promises, and which IPC transport should I use?
#[derive(Debug, Parser)]
#[command(name = "harness", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Word>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Clone, Debug, Subcommand)]
enum Word {
    /// No faults: awkward sizes around the ring's end, every message accounted for
    Verify,
    /// Every transport by size and by producers, interleaved
    Compare,
    /// Kill producers under load; lose nothing that was acknowledged
    Torture {
        /// How many producers to kill
        #[arg(long, value_name = "N", default_value_t = scenario::KILLS)]
        kills: u64,
    },
    /// Tables, plots and a page from recorded runs; measures nothing
    Report {
        /// Folders with runs.jsonl and env.json; results/latest if none is named, and with --check
        /// everything below results/published, its index and the README's table
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
    },
    /// What is in a ring, live or left behind: header, senders, records; only reads
    Inspect {
        /// The ring's file
        path: PathBuf,
    },
    /// The records of a ring as they come; only reads
    Tail {
        /// The ring's file
        path: PathBuf,
    },
    /// This machine: its noise, and what its memory and its scheduler cost
    Doctor,
    /// What can be compared, and what cannot run here and why
    Transports,
    #[command(name = "__worker", hide = true)]
    Worker,
    #[command(name = "__janitor", hide = true)]
    Janitor { folder: PathBuf },
}

#[derive(Clone, Debug, Args)]
struct Flags {
    /// Producer processes
    #[arg(long, value_name = "N", default_value_t = 4, global = true)]
    producers: u32,
    /// Repeats the random choices of an earlier run
    #[arg(long, value_name = "S", global = true)]
    seed: Option<u64>,
    /// How long to verify, or to compare if that is the command: 10s, 2m
    #[arg(long = "for", value_name = "D", value_parser = parse_duration, global = true)]
    duration: Option<Duration>,
    /// Message sizes to compare: 64,1k,frame (a frame is 3840x2160 YUV 4:2:0, 12,441,600 bytes)
    #[arg(long = "size", value_name = "LIST", value_delimiter = ',', value_parser = parse_size,
          global = true)]
    sizes: Vec<u64>,
    /// Bytes of the ring to compare with: 1m; by default 1m, or more where the message is large
    #[arg(long, value_name = "SIZE", value_parser = parse_size, global = true)]
    ring: Option<u64>,
    /// Only these; `harness transports` lists them
    #[arg(long = "transport", value_name = "LIST", value_delimiter = ',', global = true)]
    transports: Vec<String>,
    /// How much to do: quick 15 s, default 90 s, full says how long first
    #[arg(long, value_name = "P", value_enum, default_value_t, global = true)]
    profile: Profile,
    /// A processor for each process, as far as there are any
    #[arg(long, global = true)]
    pin: bool,
    /// Rows on stdout, one JSON object a line
    #[arg(long, global = true)]
    json: bool,
    /// Folder for the report and the rows it is made of
    #[arg(long, value_name = "DIR", global = true)]
    out: Option<PathBuf>,
    /// Results only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Every run by name
    #[arg(short, long, global = true)]
    verbose: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Verify, compare, report.
    All,
    Verify,
    Compare,
    Torture {
        kills: u64,
    },
    Report {
        folders: Vec<PathBuf>,
        mode: ReportMode,
    },
    Inspect {
        path: PathBuf,
    },
    Tail {
        path: PathBuf,
    },
    Doctor,
    Transports,
    Worker,
    Janitor {
        folder: PathBuf,
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
    pub(crate) out: PathBuf,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
}

impl Options {
    /// Bytes of the ring for messages of this size.
    pub(crate) fn ring_for(&self, size: u64) -> u64 {
        let enough = (2 * size).next_power_of_two().max(scenario::RING_BYTES);
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
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<(Order, Options), Stop> {
    let line = CommandLine::try_parse_from(arguments).map_err(|error| {
        if error.use_stderr() {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let first = first.strip_prefix("error: ").unwrap_or(first);
            Stop::Mistake(format!("{first}; `harness --help` shows what can be said"))
        } else {
            Stop::Answer(error.to_string())
        }
    })?;
    let order = match line.command {
        None => Order::All,
        Some(Word::Verify) => Order::Verify,
        Some(Word::Compare) => Order::Compare,
        Some(Word::Torture { kills }) => Order::Torture { kills },
        Some(Word::Report { folders, check, strict, publish, force, renew }) => {
            let mode = match (check, publish, renew) {
                (true, ..) => ReportMode::Check { strict },
                (_, true, _) => ReportMode::Publish { force },
                (.., true) => ReportMode::Renew,
                _ => ReportMode::Render,
            };
            Order::Report { folders, mode }
        }
        Some(Word::Inspect { path }) => Order::Inspect { path },
        Some(Word::Tail { path }) => Order::Tail { path },
        Some(Word::Doctor) => Order::Doctor,
        Some(Word::Transports) => Order::Transports,
        Some(Word::Worker) => Order::Worker,
        Some(Word::Janitor { folder }) => Order::Janitor { folder },
    };
    let options = line.flags.check().map_err(Stop::Mistake)?;
    let measures = matches!(
        order,
        Order::All | Order::Verify | Order::Compare | Order::Torture { .. } | Order::Doctor
    );
    if measures {
        writable(&options.out).map_err(Stop::Mistake)?;
    }
    Ok((order, options))
}

impl Flags {
    fn check(self) -> Result<Options, String> {
        let Flags {
            producers,
            duration,
            sizes,
            ring,
            transports,
            profile,
            pin,
            json,
            out,
            quiet,
            verbose,
            ..
        } = self;
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
        let named = |name: String| match find(&name) {
            Some(transport) => Ok(transport.name()),
            None => Err(format!(
                "--transport {name} is unknown; use some of {}",
                ALL.map(|transport| transport.name()).join(",")
            )),
        };
        let transports = transports.into_iter().map(named).collect::<Result<_, _>>()?;
        let seed = self.seed.unwrap_or_else(random_seed);
        let out = out.unwrap_or_else(default_out);
        Ok(Options {
            producers,
            seed,
            duration,
            sizes,
            ring_bytes: ring,
            transports,
            profile,
            pin,
            json,
            out,
            quiet,
            verbose,
        })
    }
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
fn default_out() -> PathBuf {
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
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let out = format!("--out={}", folder.path().display());
        let words = words.split_whitespace().chain([out.as_str()]);
        parse(std::iter::once("harness").chain(words).map(std::ffi::OsString::from))
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
            ("--transport pigeon", "use some of ipmpsc,"),
            ("torture --kills some", "--help"),
            ("dance", "--help"),
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
        let words = "compare --size 64,1K,2m --ring 4m --transport pipe,null --for 2s --seed 9";
        let (order, options) = parse_words(words).expect("all of it is allowed");
        assert_eq!(order, Order::Compare);
        assert_eq!(options.sizes, [64, 1024, 2 << 20]);
        assert_eq!(options.ring_bytes, Some(4 << 20));
        assert_eq!(options.transports, ["pipe", "null"]);
        assert_eq!(options.duration, Some(Duration::from_secs(2)));
        assert_eq!(options.seed, 9);
        let (order, options) = parse_words("").expect("nothing need be said");
        assert_eq!((order, options.producers), (Order::All, 4));
        let (order, _) = parse_words("torture --kills 5").expect("a command with a flag");
        assert_eq!(order, Order::Torture { kills: 5 });
    }

    #[test]
    fn help_fits_a_screen_and_shows_three_examples() {
        let Err(Stop::Answer(help)) = parse_words("--help") else { panic!("help is an answer") };
        assert!(help.lines().count() <= 40, "{} lines", help.lines().count());
        assert_eq!(help.lines().filter(|line| line.starts_with("  harness ")).count(), 3);
        assert!(!help.contains("__worker"));
    }
}
