//! What the system says about itself, and what of it will hurt numbers. Reads files where Linux has
//! them; what a system does not show is unknown, never an error and never a warning.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context, Result};

use crate::sys::{self, ProcessorTimes};

/// Shares of all processors' time, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Shares {
    /// At work, for whomever.
    pub(crate) busy: f64,
    /// Ready to run, while the host of a virtual machine ran something else.
    pub(crate) stolen: f64,
}

/// Looks at the processors for so long, asleep.
pub(crate) fn watch(time: Duration) -> Result<Shares> {
    let look = || sys::processor_times().context("this system does not tell how busy it is");
    let before = look()?;
    thread::sleep(time);
    Ok(shares(before, look()?))
}

fn shares(before: ProcessorTimes, after: ProcessorTimes) -> Shares {
    let spent = |part: fn(ProcessorTimes) -> u64| part(after).saturating_sub(part(before)) as f64;
    let all = spent(|times| times.all);
    if all == 0.0 {
        return Shares::default();
    }
    let stolen = spent(|times| times.stolen);
    Shares { busy: (all - spent(|times| times.idle) - stolen) / all, stolen: stolen / all }
}

/// Whether processes that would each use a processor have one: looks for a tenth of a second and
/// returns the line to say if not.
pub(crate) fn oversubscribed(processes: u32) -> Option<String> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let others = watch(Duration::from_millis(100)).map_or(0.0, |shares| shares.busy);
    too_full(processes, processors, others * processors as f64)
}

/// The rule behind `oversubscribed`: `others` is how many processors others use.
fn too_full(processes: u32, processors: usize, others: f64) -> Option<String> {
    let on =
        if processors == 1 { "1 processor".into() } else { format!("{processors} processors") };
    // A tenth is what a quiet system does by itself.
    let wanted = f64::from(processes) + if others < 0.1 * processors as f64 { 0.0 } else { others };
    if wanted <= processors as f64 {
        return None;
    }
    Some(if others >= 0.5 {
        format!(
            "oversubscribed: {processes} busy processes on {on}, of which others use \
             {others:.1}; wait until they are done, or expect noise above 20 %"
        )
    } else {
        format!(
            "oversubscribed: {processes} busy processes on {on} take turns, so that times include \
             waiting for a processor; compare rows of this run with each other only"
        )
    })
}

/// A fact, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// What it does to numbers, if it does them harm.
    pub(crate) harm: Option<String>,
}

fn fact(name: &'static str, value: impl Into<String>) -> Fact {
    Fact { name, value: value.into(), harm: None }
}

impl Fact {
    fn harms(self, is_so: bool, harm: impl Into<String>) -> Fact {
        Fact { harm: is_so.then(|| harm.into()), ..self }
    }
}

/// All that is known of a system whose files stand under `root`, which is `/` but in tests.
pub(crate) fn facts(root: &Path, processors: usize) -> Vec<Fact> {
    let read = |path: &str| {
        let text = fs::read_to_string(root.join(path)).ok()?;
        Some(text.trim().to_owned())
    };
    let found = [
        Some(one_processor(processors)),
        read("proc/loadavg").and_then(|text| load(&text, processors)),
        read("proc/cpuinfo").map(|text| virtual_machine(&text)),
        read("sys/devices/system/cpu/cpu0/topology/thread_siblings_list").map(siblings),
        read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").map(governor),
        quota(&read).map(|quota| quota_fact(quota, processors)),
        read("sys/kernel/mm/transparent_hugepage/shmem_enabled").and_then(huge_pages),
        read("proc/sys/fs/pipe-max-size").map(|text| fact("largest pipe", text + " bytes")),
        message_queues(&read),
    ];
    found.into_iter().flatten().collect()
}

fn one_processor(processors: usize) -> Fact {
    fact("processors", processors.to_string()).harms(
        processors == 1,
        "sender and receiver take turns on one processor: every wait is a switch between them",
    )
}

fn load(text: &str, processors: usize) -> Option<Fact> {
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    let load: f64 = words.first()?.parse().ok()?;
    Some(fact("load, 1, 5 and 15 minutes", words.join(" ")).harms(
        load > 0.5 * processors as f64,
        format!(
            "a load of {load} on {processors} processors: if it is not that of an earlier run, \
             wait or expect noise above 20 %"
        ),
    ))
}

fn virtual_machine(cpuinfo: &str) -> Fact {
    let is_virtual = sys::names_hypervisor(cpuinfo);
    fact("virtual machine", if is_virtual { "yes" } else { "not that it says" }).harms(
        is_virtual,
        "a virtual machine: its processors may be shared or moved without a trace; trust ratios \
         more than times",
    )
}

/// Of the first processor, as a list like `0,4` or `0-1`.
fn siblings(list: String) -> Fact {
    let shared = list.contains([',', '-']);
    fact("processors of the first core", list).harms(
        shared,
        "cores have two processors each: two busy processes on one core slow each other down",
    )
}

fn governor(name: String) -> Fact {
    let changes = name != "performance";
    fact("frequency governor", name).harms(
        changes,
        "the processors' frequency follows the load: set the governor to performance, or expect \
         the first seconds to be slow",
    )
}

/// How many processors a control group allows, by version 2 or 1.
fn quota(read: &impl Fn(&str) -> Option<String>) -> Option<f64> {
    let (quota, period) = match read("sys/fs/cgroup/cpu.max") {
        Some(text) => {
            let (quota, period) = text.split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => (
            read("sys/fs/cgroup/cpu/cpu.cfs_quota_us")?,
            read("sys/fs/cgroup/cpu/cpu.cfs_period_us")?,
        ),
    };
    // "max" or -1 where there is none.
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn quota_fact(quota: f64, processors: usize) -> Fact {
    fact("quota of the control group", format!("{quota:.1} processors")).harms(
        quota < processors as f64,
        format!(
            "this container may use {quota:.1} of {processors} processors: once it has, everything \
             in it stands still for tens of milliseconds"
        ),
    )
}

/// The word in brackets of `always within_size [never]`.
fn huge_pages(text: String) -> Option<Fact> {
    let (_, rest) = text.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(fact("huge pages in shared memory", word))
}

fn message_queues(read: &impl Fn(&str) -> Option<String>) -> Option<Fact> {
    let limit = |name: &str| read(&format!("proc/sys/fs/mqueue/{name}"));
    let (messages, bytes) = (limit("msg_max")?, limit("msgsize_max")?);
    Some(fact("POSIX message queues", format!("{messages} messages of {bytes} bytes")))
}

/// What only calls tell: shared memory and open files.
pub(crate) fn limits() -> Vec<Fact> {
    let shared_memory = match sys::room() {
        None => fact("shared memory", "no /dev/shm")
            .harms(true, "no /dev/shm: rings lie on a disk's file system and may be written to it"),
        Some((size, free)) => {
            let (size, free) = (size >> 20, free >> 20);
            fact("shared memory", format!("{size} MiB, {free} free")).harms(
                free < 256,
                format!("/dev/shm has {free} MiB left: rings for large messages will not fit"),
            )
        }
    };
    let files = sys::open_files_max();
    let text = files.map_or_else(|| "no limit".into(), |files| files.to_string());
    let open_files = fact("open files", text).harms(
        files.is_some_and(|files| files < 1024),
        "few open files are allowed: many producers over sockets will fail; raise `ulimit -n`",
    );
    vec![shared_memory, open_files]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_by_hand() {
        let times = |all, idle, stolen| ProcessorTimes { all, idle, stolen };
        let before = times(1000, 810, 35);
        assert_eq!(shares(before, times(1100, 860, 35)), Shares { busy: 0.5, stolen: 0.0 });
        assert_eq!(shares(before, times(1100, 885, 60)), Shares { busy: 0.0, stolen: 0.25 });
        assert_eq!(shares(before, before), Shares::default(), "no time has passed");
    }

    #[test]
    fn a_run_is_oversubscribed_by_itself_or_by_others() {
        assert_eq!(too_full(2, 2, 0.0), None);
        assert_eq!(too_full(2, 2, 0.1), None, "a quiet system is never quite idle");
        assert_eq!(too_full(2, 8, 5.9), None);
        let line = too_full(9, 2, 0.1).expect("nine on two");
        assert!(line.contains("9 busy processes on 2 processors take turns"), "{line}");
        let line = too_full(2, 2, 1.9).expect("others use it");
        assert!(line.contains("others use 1.9; wait"), "{line}");
        assert!(too_full(2, 1, 0.0).is_some_and(|line| line.contains("on 1 processor take turns")));
    }

    fn system(files: &[(&str, &str)]) -> Vec<Fact> {
        let root = tempfile::tempdir().expect("a test needs a temporary folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("inside the root")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        facts(root.path(), 4)
    }

    fn harms(facts: &[Fact]) -> Vec<&str> {
        facts.iter().filter(|fact| fact.harm.is_some()).map(|fact| fact.name).collect()
    }

    #[test]
    fn a_quiet_machine_harms_nothing_and_an_unknown_one_says_little() {
        let facts = system(&[
            ("proc/loadavg", "0.10 0.20 0.30 1/90 11633\n"),
            ("proc/cpuinfo", "processor : 0\nflags : fpu vme\n"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
            ("sys/kernel/mm/transparent_hugepage/shmem_enabled", "always [never] deny\n"),
            ("proc/sys/fs/pipe-max-size", "1048576\n"),
            ("proc/sys/fs/mqueue/msg_max", "10\n"),
            ("proc/sys/fs/mqueue/msgsize_max", "8192\n"),
        ]);
        assert_eq!(harms(&facts), Vec::<&str>::new());
        assert_eq!(facts.len(), 8, "{facts:?}");
        assert_eq!(system(&[]).len(), 1, "the number of processors is always known");
    }

    #[test]
    fn everything_that_harms_is_named() {
        let facts = system(&[
            ("proc/loadavg", "5.10 0.20 0.30 1/90 11633\n"),
            ("proc/cpuinfo", "flags\t\t: fpu hypervisor vme\n"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,4\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
            ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
        ]);
        assert_eq!(harms(&facts).len(), 5, "{facts:?}");
        let old = [
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(harms(&system(&old)), ["quota of the control group"]);
        let none = [("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"), old[1]];
        assert_eq!(system(&none).len(), 1);
    }
}
