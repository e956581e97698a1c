//! The tables of the torture beside its rounds: recovery by kind of fault, the sweeps over every
//! instruction, and the matrix of faults and transports.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{
    table::Sheet,
    words::{grouped, nanoseconds},
};
use crate::{
    record::{Env, FaultRow, Places, Row, SweepRow, Window},
    scenario::silence_max_ms,
};

/// How long each kind of fault has held the others up.
pub(super) fn recoveries(rows: &[Row], env: &Env) -> Option<Sheet> {
    let mut kinds: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
    for row in rows {
        let Row::Torture(row) = row else { continue };
        for fault in &row.faults {
            let times = kinds.entry(&fault.fault).or_default();
            for &(ns, often) in &fault.recovery {
                *times.entry(ns).or_default() += often;
            }
        }
    }
    let mut sheet = Sheet::new("Recovery under load", &["fault", "times", "p50", "max"]);
    for (fault, times) in kinds {
        let all: u64 = times.values().sum();
        let mut below = 0;
        let median = times.iter().find(|(_, often)| {
            below += **often;
            2 * below >= all
        });
        let ns = |ns: Option<&u64>| nanoseconds(*ns.unwrap_or(&0) as f64);
        sheet.body.push(vec![
            fault.into(),
            grouped(all).into(),
            ns(median.map(|(ns, _)| ns)).into(),
            ns(times.keys().next_back()).into(),
        ]);
    }
    sheet.note(
        "The longest gap between two messages from a fault to the next one, without the time for \
         which a process was stopped or a successor started.",
    );
    let starved = rows.iter().map(|row| if let Row::Torture(row) = row { row.starved } else { 0 });
    let starved: u64 = starved.sum();
    if starved > 0 {
        let allowed_ms = silence_max_ms(env.emulated.is_some());
        sheet.note(format!(
            "{starved} of the kills held the others up for more than {allowed_ms} ms, but not \
             beside the time for which the kernel kept the consumer and the least delayed producer \
             waiting for a processor."
        ));
    }
    sheet.filled()
}

/// One line for each act that was swept.
pub(super) fn sweeps(rows: &[Row]) -> Option<Sheet> {
    let head = ["swept", "end", "instructions", "arrived", "recovered", "discarded", "worst"];
    let mut sheet = Sheet::new("Every instruction", &head);
    for row in rows {
        let Row::Sweep(SweepRow { act, end, steps, windows, places: Places::Instructions, .. }) =
            row
        else {
            continue;
        };
        let sum = |count: fn(&crate::record::Window) -> u64| {
            grouped(windows.iter().map(count).sum::<u64>()).into()
        };
        let worst = windows.iter().map(|window| window.worst_ns).max().unwrap_or(0);
        sheet.body.push(vec![
            act.as_str().into(),
            end.word().into(),
            grouped(*steps).into(),
            sum(|window| window.arrived),
            sum(|window| window.recovered),
            sum(|window| window.discarded),
            nanoseconds(worst as f64).into(),
        ]);
    }
    sheet.note("Ended after each single instruction in turn; no promise was broken.");
    sheet.filled()
}

/// The deaths of the sweeps by the window of the protocol they fell into.
pub(super) fn windows(rows: &[Row]) -> Option<Sheet> {
    let head =
        ["swept", "end", "window", "from", "to", "deaths", "arrived", "recovered", "discarded"];
    let mut sheet = Sheet::new("Windows of the protocol", &head);
    sheet.is_detail = true;
    for row in rows {
        let Row::Sweep(row) = row else { continue };
        if row.places == Places::Points {
            continue;
        }
        for window in &row.windows {
            sheet.body.push(vec![
                row.act.as_str().into(),
                row.end.word().into(),
                window.name.as_str().into(),
                grouped(window.first).into(),
                grouped(window.last).into(),
                grouped(window.deaths).into(),
                grouped(window.arrived).into(),
                grouped(window.recovered).into(),
                grouped(window.discarded).into(),
            ]);
        }
    }
    sheet.filled()
}

/// One line for each named point and what was done there, over all acts.
pub(super) fn points(rows: &[Row]) -> Option<Sheet> {
    let mut sums: BTreeMap<(&str, &str), (u64, Window)> = BTreeMap::new();
    for row in rows {
        let Row::Sweep(SweepRow { end, windows, places: Places::Points, .. }) = row else {
            continue;
        };
        for window in windows {
            let (acts, sum) = sums.entry((&window.name, end.word())).or_default();
            *acts += 1;
            sum.last = sum.last.max(window.last);
            sum.deaths += window.deaths;
            sum.arrived += window.arrived;
            sum.recovered += window.recovered;
            sum.discarded += window.discarded;
            sum.worst_ns = sum.worst_ns.max(window.worst_ns);
        }
    }
    let head = [
        "point",
        "end",
        "acts",
        "passages",
        "victims",
        "arrived",
        "recovered",
        "discarded",
        "worst",
    ];
    let mut sheet = Sheet::new("Every named point", &head);
    for ((point, end), (acts, sum)) in sums {
        let counts = [acts, sum.last, sum.deaths, sum.arrived, sum.recovered, sum.discarded];
        let mut line = vec![point.into(), end.into()];
        line.extend(counts.map(|count| grouped(count).into()));
        line.push(nanoseconds(sum.worst_ns as f64).into());
        sheet.body.push(line);
    }
    sheet.note(
        "Ended at the first passage of the point, at the second, and so on until one came to its \
         end without; no promise was broken.",
    );
    sheet.filled()
}

/// The fault matrix as lines: what no table has room for is in the notes.
pub(super) fn csv(rows: &[Row]) -> Result<Option<Vec<u8>>> {
    let faults: Vec<_> = rows
        .iter()
        .filter_map(|row| if let Row::Fault(row) = row { Some(row) } else { None })
        .collect();
    if faults.is_empty() {
        return Ok(None);
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["id", "fault", "transport", "verdict", "note"])?;
    for FaultRow { id, fault, transport, verdict, note } in faults {
        writer.write_record([id, fault, transport, verdict.word(), note])?;
    }
    writer.into_inner().map(Some).context("faults.csv is in memory")
}

/// Each fault against each transport that took it.
pub(super) fn matrix(rows: &[Row]) -> Option<Sheet> {
    let (mut transports, mut faults): (Vec<&str>, Vec<(&str, &str)>) = (Vec::new(), Vec::new());
    let mut verdicts: BTreeMap<(&str, &str), &FaultRow> = BTreeMap::new();
    for row in rows {
        let Row::Fault(row) = row else { continue };
        let (transport, fault) = (row.transport.as_str(), (row.id.as_str(), row.fault.as_str()));
        if !transports.contains(&transport) {
            transports.push(transport);
        }
        if !faults.contains(&fault) {
            faults.push(fault);
        }
        verdicts.insert((&row.id, transport), row);
    }
    let head: Vec<_> = ["id", "fault"].into_iter().chain(transports.iter().copied()).collect();
    let mut sheet = Sheet::new("Fault matrix", &head);
    for (id, fault) in faults {
        let words = transports.iter().map(|transport| {
            verdicts.get(&(id, *transport)).map_or("-", |row| row.verdict.word()).into()
        });
        sheet.body.push([id.into(), fault.into()].into_iter().chain(words).collect());
    }
    sheet.note("`harness torture --list` says what brings each fault about, and what cannot be.");
    sheet.filled()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Verdict, parse_rows};

    fn fault(transport: &str, verdict: Verdict) -> Row {
        Row::Fault(FaultRow {
            id: "P21".into(),
            fault: "producers killed".into(),
            transport: transport.into(),
            verdict,
            note: "trial 1, \"a note\"".into(),
        })
    }

    #[test]
    fn the_matrix_is_a_file_of_its_own_with_every_word_and_note() {
        let rows = [fault("ipmpsc", Verdict::Survives), fault("pipe", Verdict::Blocks)];
        let text = csv(&rows).expect("strings are records").expect("there are faults");
        let text = String::from_utf8(text).expect("made of strings");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "id,fault,transport,verdict,note");
        assert!(lines[1].starts_with("P21,producers killed,ipmpsc,survives,"), "{text}");
        assert_eq!(lines[2], "P21,producers killed,pipe,blocks,\"trial 1, \"\"a note\"\"\"");
        assert!(csv(&[]).expect("nothing to write").is_none());
    }

    #[test]
    fn a_sweep_of_points_is_no_sweep_of_instructions() {
        let sweep = |places: &str| {
            let windows = r#"[{"name":"copy-half","first":1,"last":2,"deaths":2,"arrived":0,
                "recovered":2,"discarded":1,"worst_ns":5}]"#;
            let line = format!(
                r#"{{"row":"sweep","act":"send","end":"killed",{places}"steps":2,"strayed":0,
                "windows":{windows},"recovery":[],"elapsed_ns":1}}"#
            );
            parse_rows(&line.replace('\n', " ")).expect("a row as `record` reads it")
        };
        let named = sweep(r#""places":"points","#);
        assert!(points(&named).is_some() && sweeps(&named).is_none() && windows(&named).is_none());
        let single = sweep("");
        assert!(points(&single).is_none() && sweeps(&single).is_some());
    }
}
