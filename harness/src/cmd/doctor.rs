//! This machine and its noise floor: probes run, rows written, and what will hurt numbers said.
//!
//! The machine is too noisy for verdicts, which is exit code 3, if
//!
//! * the same work, done twice, differed by more than 10 % in more than one pair of ten, or
//! * the host of this virtual machine took more than 5 % of the processors' time, or
//! * others used more than half of the processors' time.

use std::thread;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};

use crate::{
    machine::{self, Fact},
    probes::{A_A, OTHERS, PROBES, STOLEN},
    record::{MachineRow, Row},
    session::Session,
    stats,
    sys::Conditions,
};

/// What is too much, in percent: nine in ten samples of the first, the median of the others.
const A_A_MOST: f64 = 10.0;
const STOLEN_MOST: f64 = 5.0;
const OTHERS_MOST: f64 = 50.0;

/// Probes the machine and says what its numbers are worth.
pub(crate) fn run(session: &mut Session) -> Result<()> {
    let mut rows = Vec::new();
    let mut verdict = None;
    session.progress.begin("doctor", PROBES.len() as u64);
    for probe in PROBES {
        if session.is_over() {
            break;
        }
        session.progress.step(probe.name);
        match (probe.run)(session.options.seed) {
            Ok(samples) => {
                verdict = verdict.or_else(|| too_noisy(probe.name, &samples));
                let row = row(probe.name, probe.unit, &samples);
                session.record(&Row::Machine(row.clone()))?;
                session.pass();
                rows.push(row);
            }
            Err(why) => session.skip(probe.name, &format!("{why:#}")),
        }
        session.progress.stepped();
    }
    session.progress.end();
    session.progress.insist(&table(&rows));
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let mut facts = machine::facts(Conditions::now(), processors);
    facts.extend(machine::limits());
    session.progress.say(&list(&facts));
    // A run keeps its consumer and its producers busy.
    let crowded = machine::oversubscribed(session.options.producers + 1);
    let harms = facts.into_iter().filter_map(|fact| fact.harm).chain(crowded);
    for harm in harms {
        session.progress.insist(&format!("note: {harm}"));
    }
    if let Some(verdict) = verdict {
        session.inconclusive(&verdict);
    }
    Ok(())
}

/// What a probe's samples mean, by the rules above.
fn too_noisy(probe: &str, samples: &[f64]) -> Option<String> {
    let limit = |limit: f64, value: Option<f64>| value.filter(|&value| value > limit);
    match probe {
        A_A => limit(A_A_MOST, nine_in_ten(samples)).map(|percent| {
            format!(
                "the same work, done twice, differs by up to {percent:.0} % in nine pairs of ten; \
                 verdicts need less than {A_A_MOST} %, so stop what else is running and try again"
            )
        }),
        STOLEN => limit(STOLEN_MOST, stats::median(samples)).map(|percent| {
            format!("the host takes {percent:.0} % of this virtual machine's time; try again later")
        }),
        OTHERS => limit(OTHERS_MOST, stats::median(samples)).map(|percent| {
            format!(
                "others use {percent:.0} % of the processors' time; wait until they are done, or \
                 expect noise above 20 %"
            )
        }),
        _ => None,
    }
}

/// The size, whatever its sign, that nine samples of ten do not exceed.
fn nine_in_ten(samples: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = samples.iter().map(|sample| sample.abs()).collect();
    sorted.sort_by(f64::total_cmp);
    let at = (9 * sorted.len()).div_ceil(10);
    sorted.get(at.checked_sub(1)?).copied()
}

fn row(probe: &str, unit: &str, samples: &[f64]) -> MachineRow {
    let spread = stats::spread(samples).expect("a probe returns samples or an error");
    MachineRow {
        probe: probe.into(),
        unit: unit.into(),
        low: spread.low,
        median: spread.median,
        high: spread.high,
        count: spread.count,
    }
}

/// The rows for the screen.
fn table(rows: &[MachineRow]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "This machine",
        "median",
        "low",
        "high",
        "unit",
        "samples",
    ]);
    for row in rows {
        let [median, low, high] = [row.median, row.low, row.high].map(short);
        table.add_row([
            row.probe.clone(),
            median,
            low,
            high,
            row.unit.clone(),
            row.count.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

/// Three digits, or all before the point.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn list(facts: &[Fact]) -> String {
    let lines: Vec<String> =
        facts.iter().map(|fact| format!(" {:<29} {}", fact.name, fact.value)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_judged_by_the_written_rule() {
        let mut quiet = vec![-2.0; 9];
        quiet.push(300.0);
        assert_eq!(too_noisy(A_A, &quiet), None, "one pair in ten may be disturbed");
        quiet.extend([11.0, -12.0]);
        assert!(too_noisy(A_A, &quiet).is_some_and(|line| line.contains("12 %")));
        assert_eq!(too_noisy(STOLEN, &[0.0, 1.0, 40.0]), None);
        assert!(too_noisy(STOLEN, &[6.0, 6.0, 0.0]).is_some());
        assert_eq!(too_noisy(OTHERS, &[50.0]), None);
        assert!(too_noisy(OTHERS, &[51.0]).is_some_and(|line| line.contains("wait")));
        assert_eq!(too_noisy("memcpy 64 B", &[1e9]), None);
        assert_eq!(nine_in_ten(&[]), None);
        assert_eq!(nine_in_ten(&[4.0]), Some(4.0));
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([1.0, 12.34, 123.4, 12345.6].map(short), ["1.00", "12.3", "123", "12346"]);
    }
}
