//! What the system says about itself, and what of it will hurt numbers. What it does not show is
//! unknown, never an error and never a warning.

use std::{thread, time::Duration};

use anyhow::{Context, Result};

use crate::sys::{self, Conditions, ProcessorTimes};

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

/// All that the system shows, in words.
pub(crate) fn facts(shown: Conditions, processors: usize) -> Vec<Fact> {
    let found = [
        Some(one_processor(processors)),
        shown.load.map(|averages| load(averages, processors)),
        shown.hypervisor.map(virtual_machine),
        shown.siblings.map(siblings),
        shown.governor.map(governor),
        shown.quota.map(|quota| quota_fact(quota, processors)),
        shown.huge_pages.map(|word| fact("huge pages in shared memory", word)),
        shown.pipe_max.map(|bytes| fact("largest pipe", format!("{bytes} bytes"))),
        shown.queue_max.map(message_queues),
    ];
    found.into_iter().flatten().collect()
}

fn one_processor(processors: usize) -> Fact {
    fact("processors", processors.to_string()).harms(
        processors == 1,
        "sender and receiver take turns on one processor: every wait is a switch between them",
    )
}

fn load([load, five, fifteen]: [f64; 3], processors: usize) -> Fact {
    fact("load, 1, 5 and 15 minutes", format!("{load:.2} {five:.2} {fifteen:.2}")).harms(
        load > 0.5 * processors as f64,
        format!(
            "a load of {load} on {processors} processors: if it is not that of an earlier run, \
             wait or expect noise above 20 %"
        ),
    )
}

fn virtual_machine(is_virtual: bool) -> Fact {
    fact("virtual machine", if is_virtual { "yes" } else { "not that it says" }).harms(
        is_virtual,
        "a virtual machine: its processors may be shared or moved without a trace; trust ratios \
         more than times",
    )
}

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

fn quota_fact(quota: f64, processors: usize) -> Fact {
    fact("quota of the control group", format!("{quota:.1} processors")).harms(
        quota < processors as f64,
        format!(
            "this container may use {quota:.1} of {processors} processors: once it has, everything \
             in it stands still for tens of milliseconds"
        ),
    )
}

fn message_queues((messages, bytes): (u64, u64)) -> Fact {
    fact("POSIX message queues", format!("{messages} messages of {bytes} bytes"))
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

    fn harms(facts: &[Fact]) -> Vec<&str> {
        facts.iter().filter(|fact| fact.harm.is_some()).map(|fact| fact.name).collect()
    }

    #[test]
    fn a_quiet_machine_harms_nothing_and_an_unknown_one_says_little() {
        let quiet = Conditions {
            load: Some([0.1, 0.2, 0.3]),
            hypervisor: Some(false),
            siblings: Some("0".into()),
            governor: Some("performance".into()),
            quota: None,
            huge_pages: Some("never".into()),
            pipe_max: Some(1 << 20),
            queue_max: Some((10, 8192)),
        };
        let said = facts(quiet, 4);
        assert_eq!(harms(&said), Vec::<&str>::new());
        assert_eq!(said.len(), 8, "{said:?}");
        assert_eq!(said[1].value, "0.10 0.20 0.30", "as the system writes it");
        let unknown = facts(Conditions::default(), 4);
        assert_eq!(unknown.len(), 1, "the number of processors is always known");
    }

    #[test]
    fn everything_that_harms_is_named() {
        let loud = Conditions {
            load: Some([5.1, 0.2, 0.3]),
            hypervisor: Some(true),
            siblings: Some("0,4".into()),
            governor: Some("powersave".into()),
            quota: Some(1.5),
            ..Conditions::default()
        };
        let said = facts(loud, 4);
        assert_eq!(harms(&said).len(), 5, "{said:?}");
    }
}
