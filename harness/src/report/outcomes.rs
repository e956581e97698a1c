//! The tables of what was checked, what failed, the machine, and the transports: rows as they are,
//! compared with nothing.

use std::collections::BTreeMap;

use super::{
    table::Sheet,
    words::{bytes, grouped, nanoseconds, short},
};
use crate::record::{Env, Row, Stamp, TortureRow, VerifyRow};

/// Messages of awkward sizes, all of them checked.
pub(super) fn verify(rows: &[Row]) -> Option<Sheet> {
    let head = [
        "verified",
        "transport",
        "producers",
        "messages",
        "wrapped",
        "padded",
        "full",
        "empty",
        "refused",
    ];
    let mut sheet = Sheet::new("Verification", &head);
    let mut total = 0;
    for row in rows {
        let Row::Verify(row) = row else { continue };
        let VerifyRow { name, transport, producers, messages, coverage, .. } = row;
        total += messages;
        sheet.body.push(vec![
            name.into(),
            transport.into(),
            producers.to_string().into(),
            grouped(*messages).into(),
            grouped(coverage.wrapped).into(),
            grouped(coverage.padded).into(),
            grouped(coverage.full).into(),
            grouped(coverage.empty).into(),
            grouped(coverage.refused).into(),
        ]);
    }
    sheet.note(format!(
        "{} messages between processes, every one compared byte by byte and accounted for.",
        grouped(total)
    ));
    sheet.filled()
}

/// Processes killed and stopped under load, and what that did.
pub(super) fn torture(rows: &[Row]) -> Option<Sheet> {
    let head = [
        "ring",
        "transport",
        "producers",
        "kills",
        "in flight",
        "arrived",
        "messages",
        "longest silence",
        "recoveries",
        "discarded",
    ];
    let mut sheet = Sheet::new("Killed and stopped under load", &head).detail(&["discarded"]);
    let optional = |count: Option<u64>| count.map_or_else(|| "-".into(), grouped).into();
    for row in rows {
        let Row::Torture(row) = row else { continue };
        let TortureRow { kills, kills_in_flight, in_flight_arrived, messages, .. } = row;
        sheet.body.push(vec![
            bytes(row.ring_bytes).into(),
            row.transport.as_str().into(),
            row.producers.to_string().into(),
            grouped(*kills).into(),
            grouped(*kills_in_flight).into(),
            grouped(*in_flight_arrived).into(),
            grouped(*messages).into(),
            nanoseconds(row.longest_silence_ns as f64).into(),
            optional(row.recoveries),
            optional(row.discarded),
        ]);
    }
    sheet.note("Nothing acknowledged was lost; nothing arrived twice, torn or out of order.");
    sheet.filled()
}

/// What the machine itself does.
pub(super) fn machine(rows: &[Row]) -> Option<Sheet> {
    let head = ["probe", "median", "low", "high", "unit", "values"];
    let mut sheet = Sheet::new("This machine", &head);
    for row in rows {
        let Row::Machine(row) = row else { continue };
        sheet.body.push(vec![
            row.probe.as_str().into(),
            short(row.median).into(),
            short(row.low).into(),
            short(row.high).into(),
            row.unit.as_str().into(),
            row.count.to_string().into(),
        ]);
    }
    sheet.filled()
}

/// The same failure of several blocks is one line.
pub(super) fn failures(rows: &[Row]) -> Option<Sheet> {
    let mut counts: BTreeMap<(&str, &str, &str, String), usize> = BTreeMap::new();
    for row in rows {
        let Row::Failed(row) = row else { continue };
        let what = row.what.split_whitespace().collect::<Vec<_>>().join(" ");
        *counts.entry((&row.command, &row.name, &row.transport, what)).or_default() += 1;
    }
    // A terminal has had each as it happened.
    let mut sheet = Sheet::new("Failures", &["where", "what", "transport", "times", "why"]);
    sheet.is_detail = true;
    for ((command, name, transport, what), count) in counts {
        let count = count.to_string();
        sheet.body.push(vec![
            command.into(),
            name.into(),
            transport.into(),
            count.into(),
            what.into(),
        ]);
    }
    sheet.filled()
}

/// What each row of the other tables is, and what could not run.
pub(super) fn transports(env: &Env) -> Sheet {
    let mut sheet = Sheet::new("Transports", &["transport", "version", "how", "cannot run here"]);
    for Stamp { name, version, about, missing, floor } in &env.transports {
        let missing = missing.clone().unwrap_or_default();
        let line = vec![
            name.as_str().into(),
            version.as_str().into(),
            about.as_str().into(),
            missing.into(),
        ];
        if *floor { sheet.floors.push(line) } else { sheet.body.push(line) }
    }
    sheet
}
