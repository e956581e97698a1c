//! Every instruction of a send, a receive, an attach and a recovery as a place to die, and as one
//! to be stopped at: single-stepped by ptrace, k steps, then k + 1, to the end. The named points of
//! the protocol, in `points`, are fewer places and need no ptrace.
//!
//! For each k the ring, its surroundings and the victim are new, and forked from a process that
//! never changes, so that every victim takes the same way. The processor leads it quickly to an
//! instruction shortly before the k-th; that it stands where the first one stood is checked.

mod acts;
#[cfg(feature = "fault")]
pub(crate) mod points;
mod scene;

use std::{collections::HashSet, path::Path, time::Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) use acts::ACTS;
use acts::{Act, Does, STATES};
use scene::Aftermath;

use crate::{
    protocol::SweepJob,
    record::{Ended, Places, SweepRow, Window},
    sys::trace::{self, Stop, Traced, mark},
};

/// More steps than this and the victim goes round in circles.
const STEPS_MAX: usize = 1_000_000;

/// The addresses of a process's instructions from its first mark on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Way {
    addresses: Vec<u64>,
    /// For each step the last one up to it whose address had not come before.
    anchors: Vec<usize>,
    #[serde(skip)]
    seen: HashSet<u64>,
}

/// Both ways of an act.
#[derive(Debug, Serialize, Deserialize)]
struct Ways {
    first: Option<Way>,
    victim: Way,
}

/// How one victim fared.
#[derive(Debug, Serialize, Deserialize)]
struct Met {
    window: String,
    after: Aftermath,
    /// It stood at another instruction than the first one at this step.
    strayed: bool,
    /// It had come to its second mark.
    done: bool,
}

/// The acts that are swept: fewer where each of them takes long.
pub(crate) fn acts(places: Places) -> impl Iterator<Item = &'static Act> {
    let states: &[Act] = if places == Places::Points { &STATES } else { &[] };
    ACTS.iter().chain(states)
}

/// Sweeps one act; `at` is told about each place.
pub(crate) fn run(job: &SweepJob, at: impl FnMut(usize)) -> Result<SweepRow> {
    match job.places {
        Places::Instructions => instructions(job, at),
        #[cfg(feature = "fault")]
        Places::Points => points::run(job, at),
        #[cfg(not(feature = "fault"))]
        Places::Points => bail!("this build has no named points"),
    }
}

fn instructions(job: &SweepJob, mut at: impl FnMut(usize)) -> Result<SweepRow> {
    let act = ACTS.get(job.act).context("no such act")?;
    let path = job.folder.join(format!("sweep-{}", std::process::id()));
    let began = Instant::now();
    let ways: Ways = apart(|| find(act, &path))?;
    let mut row = SweepRow { act: act.name.into(), end: job.end, ..SweepRow::default() };
    let mut recovery = Histogram::<u64>::new(3).context("three digits")?;
    for k in 0.. {
        at(k);
        let met = apart(|| once(act, job.end, &path, &ways, k));
        let met = met.with_context(|| format!("{} at step {k}", act.name))?;
        recovery.record(met.after.took_ns)?;
        row.strayed += u64::from(met.strayed);
        note(&mut row, &met.window, k as u64, &met.after);
        if met.done {
            row.steps = k as u64;
            break;
        }
        ensure!(k < STEPS_MAX, "no end after {STEPS_MAX} steps");
    }
    close(row, &recovery, began, &path)
}

/// Completes the row once every place has been swept.
fn close(
    mut row: SweepRow,
    recovery: &Histogram<u64>,
    began: Instant,
    path: &Path,
) -> Result<SweepRow> {
    let counted = recovery.iter_recorded();
    row.recovery =
        counted.map(|at| (at.value_iterated_to(), at.count_since_last_iteration())).collect();
    row.elapsed_ns = u64::try_from(began.elapsed().as_nanos())?;
    std::fs::remove_file(path).context("remove the ring")?;
    Ok(row)
}

/// Does a part in a process of its own, so that each begins with the same memory.
fn apart<T: Serialize + DeserializeOwned>(part: impl FnOnce() -> Result<T>) -> Result<T> {
    let said = trace::apart(|| {
        let outcome = part().map_err(|error| format!("{error:#}"));
        serde_json::to_string(&outcome).expect("plain data")
    })?;
    let outcome: Result<T, String> = serde_json::from_str(&said).context("what a part said")?;
    outcome.map_err(|what| anyhow!(what))
}

/// Steps through the act once without a death.
fn find(act: &Act, path: &Path) -> Result<Ways> {
    let first = act.way_of_the_first(path)?;
    let scene = act.set(path, first.as_ref())?;
    let mut victim = Traced::fork(|| act.play(path, &mark))?;
    let mut way = Way::default();
    loop {
        way.push(victim.next_address()?);
        match victim.step()? {
            Stop::Step => ensure!(way.len() < STEPS_MAX, "no end after {STEPS_MAX} steps"),
            Stop::Mark => break,
            other => bail!("it does not come to its end: {other:?}"),
        }
    }
    victim.kill()?;
    drop(scene);
    act.clear(path);
    Ok(Ways { first, victim: way })
}

/// One victim, ended after k steps.
fn once(act: &Act, end: Ended, path: &Path, ways: &Ways, k: usize) -> Result<Met> {
    let mut scene = act.set(path, ways.first.as_ref())?;
    let mut victim = Traced::fork(|| act.play(path, &mark))?;
    scene.set_out();
    act.open_books(&mut scene);
    let done = ways.victim.lead(&mut victim, k)?;
    let strayed = !done && ways.victim.addresses.get(k) != Some(&victim.next_address()?);
    let window = act.window(&scene).into();
    if done {
        act.close_books(&mut scene);
    } else if end == Ended::Frozen {
        scene.watch_frozen()?;
        match victim.go_on()? {
            Stop::Mark => act.close_books(&mut scene),
            other => bail!("thawed, it did not come to its end: {other:?}"),
        }
    }
    victim.kill()?;
    let after = scene.survive()?;
    if act.does == Does::Create {
        scene.survive_maker()?;
    }
    Ok(Met { window, after, strayed, done })
}

impl Way {
    fn push(&mut self, address: u64) {
        let step = self.addresses.len();
        let anchor = self.anchors.last().copied().unwrap_or(0);
        self.anchors.push(if self.seen.insert(address) { step } else { anchor });
        self.addresses.push(address);
    }

    fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Leads a process k steps from its first mark; true if it has come to its second.
    fn lead(&self, victim: &mut Traced, k: usize) -> Result<bool> {
        let anchor = self.anchors[k.min(self.len() - 1)];
        if anchor > 0 {
            match victim.run_to(self.addresses[anchor])? {
                Stop::Step => {}
                Stop::Mark => return Ok(true),
                other => bail!("led to step {anchor}: {other:?}"),
            }
        }
        for step in anchor..k {
            match victim.step()? {
                Stop::Step => {}
                Stop::Mark => return Ok(true),
                other => bail!("step {step}: {other:?}"),
            }
        }
        Ok(false)
    }
}

/// Counts a death by the window it fell into.
fn note(row: &mut SweepRow, name: &str, k: u64, after: &Aftermath) {
    let known = row.windows.iter().position(|known| known.name == name);
    let at = known.unwrap_or_else(|| {
        row.windows.push(Window { name: name.into(), first: k, ..Window::default() });
        row.windows.len() - 1
    });
    let window = &mut row.windows[at];
    window.last = k;
    window.deaths += 1;
    window.arrived += u64::from(after.arrived);
    window.recovered += u64::from(after.recovered);
    window.discarded += u64::from(after.discarded);
    window.worst_ns = window.worst_ns.max(after.took_ns);
}
