//! Every transport by size, by producers and by offered load, in randomised blocks, each measured
//! beside its rivals. `plan` says what and in which order, `measure` does one of it.

mod measure;
mod plan;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use crate::{child::Trouble, session::Session};
use measure::Times;
use plan::Run;

/// Compares all named transports, or the profile's, for about this time if one is given.
pub(crate) fn run(session: &mut Session, time: Option<Duration>) -> Result<()> {
    let table = session.options.profile.table();
    let (runs, skipped) = plan::runs(&session.options, table);
    for (what, why) in skipped {
        session.skip(&what, &why);
    }
    if runs.is_empty() {
        return Ok(());
    }
    let mut comparison = Comparison {
        random: Pcg64Mcg::seed_from_u64(session.options.seed),
        times: Times { table, scale: 1.0 },
        runs,
        failed: BTreeSet::new(),
        until: time.map(|time| Instant::now() + time),
    };
    comparison.begin(session, time);
    comparison.blocks(session, table.blocks)?;
    session.progress.end();
    // A twin is no transport of its own. Everything else that did not fail has passed.
    for run in &comparison.runs {
        if !session.is_over() && !run.cell.twin && !comparison.failed.contains(run) {
            session.pass();
        }
    }
    Ok(())
}

struct Comparison {
    random: Pcg64Mcg,
    times: Times,
    runs: Vec<Run>,
    failed: BTreeSet<Run>,
    /// When the time that was asked for is over.
    until: Option<Instant>,
}

impl Comparison {
    /// Says how much there is to do and how long it will take, and fits it to the time if there is
    /// one.
    fn begin(&mut self, session: &mut Session, time: Option<Duration>) {
        let blocks = self.times.table.blocks;
        let once = self.runs.iter().filter(|run| run.is_once()).count() as u32;
        let count = self.runs.len() as u32;
        let steps = (count - once) * blocks + once;
        session.progress.begin("compare", u64::from(steps));
        let overhead = self.overhead(session);
        let mut estimate = overhead + self.measured();
        if let Some(time) = time {
            let left = time.saturating_sub(overhead);
            self.times.scale = left.as_secs_f64() / self.measured().as_secs_f64();
            estimate = overhead + self.measured();
        }
        let estimate = about(estimate);
        session.progress.say(&format!("{steps} runs in {blocks} blocks take {estimate}"));
    }

    /// What all runs take, without what it takes to start and end their processes.
    fn measured(&self) -> Duration {
        self.sum(|run| self.times.whole(run))
    }

    /// What the processes of all runs take, from channels with the fewest and the most of them.
    fn overhead(&self, session: &mut Session) -> Duration {
        let producers = |run: &&Run| run.cell.producers;
        let (Some(few), Some(many)) =
            (self.runs.iter().min_by_key(producers), self.runs.iter().max_by_key(producers))
        else {
            return Duration::ZERO;
        };
        let (low, high) = (measure::overhead(session, few), measure::overhead(session, many));
        let more = many.cell.producers - few.cell.producers;
        let each = high.saturating_sub(low) / more.max(1);
        self.sum(|run| low + each * (run.cell.producers - few.cell.producers))
    }

    /// Over all blocks, where what runs together counts once.
    fn sum(&self, of: impl Fn(&Run) -> Duration) -> Duration {
        let mut random = self.random.clone();
        let batches = plan::shuffled(&self.runs, &mut random);
        let each = batches.iter().map(|batch| {
            let times = if batch[0].is_once() { 1 } else { self.times.table.blocks };
            of(&batch[0]) * times
        });
        each.sum()
    }

    fn blocks(&mut self, session: &mut Session, blocks: u32) -> Result<()> {
        let mut last = Duration::ZERO;
        for block in 0..blocks {
            if block > 0 && !self.has_time_for(session, last) {
                session.progress.say(&format!("{block} blocks of {blocks}, as the time is up"));
                break;
            }
            let started = Instant::now();
            if !self.block(session, block)? {
                break;
            }
            last = started.elapsed();
            let left = about(last * (blocks - block - 1));
            if block + 1 < blocks {
                session.progress.say(&format!("block {} of {blocks}, {left} left", block + 1));
            }
        }
        Ok(())
    }

    /// Returns false if everything is over.
    fn block(&mut self, session: &mut Session, block: u32) -> Result<bool> {
        for batch in plan::shuffled(&self.runs, &mut self.random) {
            let is_left =
                |run: &&Run| !self.failed.contains(*run) && (block == 0 || !run.is_once());
            let batch: Vec<_> = batch.iter().filter(is_left).collect();
            let Some(first) = batch.first() else { continue };
            if session.is_over() {
                return Ok(false);
            }
            if self.until.is_none() && session.is_late() {
                session.inconclusive("the time for everything is used up; some blocks are missing");
                return Ok(false);
            }
            session.progress.step(&first.name());
            let outcomes = measure::measure(session, self.times, &batch, block)?;
            for (run, outcome) in batch.iter().zip(outcomes) {
                if let Err(trouble) = outcome {
                    self.fail(session, run, &trouble)?;
                }
                session.progress.stepped();
            }
        }
        Ok(true)
    }

    /// What failed once is not tried again.
    fn fail(&mut self, session: &mut Session, run: &Run, trouble: &Trouble) -> Result<()> {
        session.fail_with(trouble, "compare", &run.name(), &run.cell.transport)?;
        self.failed.insert(run.clone());
        Ok(())
    }

    fn has_time_for(&self, session: &Session, block: Duration) -> bool {
        self.until.map_or_else(
            || session.has_time_for(block),
            |until| Instant::now() + block.mul_f64(GRACE) < until,
        )
    }
}

/// A block that was asked for by its time may end a little later than that.
const GRACE: f64 = 0.8;

/// A time as people say it.
fn about(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("about {} s", seconds + 1),
        seconds => format!("about {} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_round_numbers() {
        assert_eq!(about(Duration::ZERO), "about 1 s");
        assert_eq!(about(Duration::from_millis(47_100)), "about 48 s");
        assert_eq!(about(Duration::from_secs(601)), "about 11 min");
    }
}
