//! Rows become tables: `report.md` and what the screen shows. Reads rows, measures nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    record::{Cell, Env, PingPongRow, Row, ThroughputRow, TortureRow, VerifyRow},
    scenario::rivals,
    stats::{self, Spread, Verdict},
    transports::{ALL, is_ours},
};

/// A table that is printed twice: with lines for the screen, with bars for Markdown.
struct Sheet {
    title: String,
    head: Vec<String>,
    body: Vec<Vec<String>>,
    notes: Vec<String>,
    /// Columns that are too much for a screen.
    detail: &'static [&'static str],
}

/// The tables as text for a terminal.
pub(crate) fn screen(rows: &[Row]) -> Vec<String> {
    sheets(rows).iter().map(Sheet::screen).collect()
}

/// The whole `report.md`.
pub(crate) fn report(rows: &[Row], env: &Env, interrupted: bool) -> String {
    let mut text = String::from("# Results of the harness\n\n");
    if interrupted {
        text += "**Interrupted: what follows is a part.**\n\n";
    }
    text += &stamp(env);
    for sheet in sheets(rows) {
        text += &sheet.markdown();
    }
    let failures: Vec<_> = rows
        .iter()
        .filter_map(|row| if let Row::Failed(row) = row { Some(row) } else { None })
        .collect();
    if !failures.is_empty() {
        text += "## Failures\n\n";
        for row in failures {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "* {} {}: {}", row.command, row.name, row.what);
        }
        text += "\n";
    }
    text += "## Transports\n\n| transport | version | how |\n|---|---|---|\n";
    for transport in ALL {
        let (name, version) = (transport.name(), transport.version());
        let _ = writeln!(text, "| {name} | {version} | {} |", transport.about());
    }
    text
}

fn stamp(env: &Env) -> String {
    let assertions = if env.debug_assertions { "on" } else { "off" };
    format!(
        "`harness {}`, seed {}, revision {}.\n\n\
         {}, {} cores, Linux {}, {}, {}; profile {}, opt-level {}, debug assertions {assertions}, \
         {}.\n\n",
        env.arguments.join(" "),
        env.seed,
        env.revision,
        env.cpu,
        env.cores,
        env.kernel,
        env.libc,
        env.rustc,
        env.profile,
        env.opt_level,
        env.target,
    )
}

fn sheets(rows: &[Row]) -> Vec<Sheet> {
    let mut sheets = Vec::new();
    sheets.extend(verify_sheet(rows));
    sheets.extend(torture_sheet(rows));
    sheets.extend(throughput_sheets(rows));
    sheets.extend(ping_pong_sheet(rows));
    sheets
}

impl Sheet {
    fn new(title: String, head: &[&str]) -> Sheet {
        let head = head.iter().map(|&word| word.to_owned()).collect();
        Sheet {
            title,
            head,
            body: Vec::new(),
            notes: Vec::new(),
            detail: &["spread", "switches/1k msg", "fairness", "round trips", "p99.9"],
        }
    }

    fn screen(&self) -> String {
        let is_shown = |at: usize| !self.detail.contains(&self.head[at].as_str());
        let shown = |cells: &[String]| -> Vec<String> {
            let cells = cells.iter().enumerate().filter(|&(at, _)| is_shown(at));
            cells.map(|(_, cell)| cell.clone()).collect()
        };
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(shown(&self.head));
        table.add_rows(self.body.iter().map(|cells| shown(cells)));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("\n{}\n{}", self.title, table.trim_fmt());
        for note in &self.notes {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n {note}");
        }
        text
    }

    fn markdown(&self) -> String {
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("## {}\n\n{}", self.title, row(&self.head));
        text += &format!("|---|{}\n", "---:|".repeat(self.head.len() - 1));
        text.extend(self.body.iter().map(|cells| row(cells)));
        text += "\n";
        for note in &self.notes {
            text += &format!("{note}\n\n");
        }
        text
    }
}

fn verify_sheet(rows: &[Row]) -> Option<Sheet> {
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
    let mut sheet = Sheet::new("Verification".into(), &head);
    let mut total = 0;
    for row in rows {
        let Row::Verify(row) = row else { continue };
        let VerifyRow { name, transport, producers, messages, coverage, .. } = row;
        total += messages;
        sheet.body.push(vec![
            name.clone(),
            transport.clone(),
            producers.to_string(),
            grouped(*messages),
            grouped(coverage.wrapped),
            grouped(coverage.padded),
            grouped(coverage.full),
            grouped(coverage.empty),
            grouped(coverage.refused),
        ]);
    }
    sheet.notes.push(format!(
        "{} messages between processes, every one compared byte by byte and accounted for.",
        grouped(total)
    ));
    (!sheet.body.is_empty()).then_some(sheet)
}

fn torture_sheet(rows: &[Row]) -> Option<Sheet> {
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
    let mut sheet = Sheet::new("Producers killed under load".into(), &head);
    let optional = |count: Option<u64>| count.map_or_else(|| "-".into(), grouped);
    for row in rows {
        let Row::Torture(row) = row else { continue };
        let TortureRow { kills, kills_in_flight, in_flight_arrived, messages, .. } = row;
        sheet.body.push(vec![
            bytes(row.ring_bytes),
            row.transport.clone(),
            row.producers.to_string(),
            grouped(*kills),
            grouped(*kills_in_flight),
            grouped(*in_flight_arrived),
            grouped(*messages),
            nanoseconds(row.longest_silence_ns),
            optional(row.recoveries),
            optional(row.discarded),
        ]);
    }
    sheet
        .notes
        .push("Nothing acknowledged was lost; nothing arrived twice, torn or out of order.".into());
    (!sheet.body.is_empty()).then_some(sheet)
}

fn throughput_sheets(rows: &[Row]) -> Vec<Sheet> {
    let mut by_cell: BTreeMap<&Cell, Vec<&ThroughputRow>> = BTreeMap::new();
    for row in rows {
        if let Row::Throughput(row) = row {
            by_cell.entry(&row.cell).or_default().push(row);
        }
    }
    let rates = |cell: &Cell| -> Vec<(u32, f64)> {
        let rows = by_cell.get(cell).map_or(&[][..], |rows| rows);
        rows.iter().map(|row| (row.block, row.rate())).collect()
    };
    let places: BTreeSet<_> =
        by_cell.keys().map(|cell| (cell.producers, cell.size, cell.ring_bytes)).collect();
    places
        .into_iter()
        .map(|(producers, size, ring_bytes)| {
            let title = format!("Throughput, {} from {producers} to one", bytes(size as u64));
            let head = [
                "transport",
                "msg/s",
                "spread",
                "MB/s",
                "CPU ns/msg",
                "switches/1k msg",
                "fairness",
                "vs 0.5.1",
                "vs ipc-channel",
            ];
            let mut sheet = Sheet::new(title, &head);
            let cell = |transport: &str, twin| Cell {
                producers,
                size,
                ring_bytes,
                transport: transport.into(),
                twin,
                pinned: false,
            };
            let noise = stats::noise_floor(&twin_ratios(&rates, &cell));
            for transport in ALL {
                let name = transport.name();
                let Some(rows) = by_cell.get(&cell(name, false)) else {
                    continue;
                };
                let mut line = throughput_cells(name, size, rows);
                let versus = rivals(name).map(|rival| versus(&rates, &cell, (name, rival), noise));
                line.extend(versus);
                sheet.body.push(line);
            }
            sheet.notes.push(noise_note("Noise floor", noise));
            sheet
        })
        .collect()
}

/// Speeds of the twin over those of the transport it doubles.
fn twin_ratios(
    rates: &impl Fn(&Cell) -> Vec<(u32, f64)>,
    cell: &impl Fn(&str, bool) -> Cell,
) -> Vec<f64> {
    let twin_of =
        |name: &str| stats::paired_ratios(&rates(&cell(name, true)), &rates(&cell(name, false)));
    ALL.iter().flat_map(|transport| twin_of(transport.name())).collect()
}

/// The ratio of speeds within each block, and the word that the noise allows.
fn versus(
    rates: &impl Fn(&Cell) -> Vec<(u32, f64)>,
    cell: &impl Fn(&str, bool) -> Cell,
    (name, rival): (&str, &str),
    noise: Option<f64>,
) -> String {
    let ratios = stats::paired_ratios(&rates(&cell(name, false)), &rates(&cell(rival, false)));
    match stats::spread(&ratios) {
        Some(ratio) if name != rival => ratio_text(name, ratio, noise),
        _ => "-".into(),
    }
}

fn ratio_text(name: &str, ratio: Spread, noise: Option<f64>) -> String {
    let Spread { low, median, high, .. } = ratio;
    let numbers = format!("{} [{}-{}]", times(median), times(low), times(high));
    match stats::verdict(ratio, noise) {
        verdict if is_ours(name) => format!("{numbers} {}", verdict.word()),
        Verdict::Faster | Verdict::Slower | Verdict::Unclear => numbers,
    }
}

fn throughput_cells(name: &str, size: usize, rows: &[&ThroughputRow]) -> Vec<String> {
    let speeds: Vec<_> = rows.iter().map(|row| row.rate()).collect();
    let speed =
        stats::spread(&speeds).unwrap_or(Spread { low: 0.0, median: 0.0, high: 0.0, count: 0 });
    let per_message = |count: fn(&ThroughputRow) -> u64| {
        let each = rows.iter().map(|row| count(row) as f64 / row.total_messages.max(1) as f64);
        stats::median(&each.collect::<Vec<_>>()).unwrap_or_default()
    };
    let switches = 1e3 * per_message(|row| row.voluntary_switches + row.involuntary_switches);
    let fairness = rows.iter().filter_map(|row| {
        let least = *row.by_producer.iter().min()? as f64;
        let most = *row.by_producer.iter().max()? as f64;
        (row.by_producer.len() > 1).then_some(least / most.max(1.0))
    });
    let fairness = stats::median(&fairness.collect::<Vec<_>>());
    vec![
        name.to_owned(),
        short(speed.median),
        format!("{}-{}", short(speed.low), short(speed.high)),
        short(speed.median * size as f64 / 1e6),
        short(per_message(|row| row.cpu_ns)),
        short(switches),
        fairness.map_or_else(|| "-".into(), |fairness| format!("{fairness:.2}")),
    ]
}

fn ping_pong_sheet(rows: &[Row]) -> Option<Sheet> {
    let mut by_cell: BTreeMap<&Cell, Vec<&PingPongRow>> = BTreeMap::new();
    for row in rows {
        if let Row::PingPong(row) = row {
            by_cell.entry(&row.cell).or_default().push(row);
        }
    }
    let places: BTreeSet<_> =
        by_cell.keys().map(|cell| (cell.size, cell.ring_bytes, cell.pinned)).collect();
    let head = [
        "transport",
        "bytes",
        "placed",
        "round trips",
        "p50",
        "p99",
        "p99.9",
        "p50 vs 0.5.1",
        "p50 vs ipc-channel",
    ];
    let mut sheet = Sheet::new("Round trip, one message each way in turn".into(), &head);
    for (size, ring_bytes, pinned) in places {
        let placed = if pinned { "pinned" } else { "freely" };
        let cell = |transport: &str, twin| Cell {
            producers: 1,
            size,
            ring_bytes,
            transport: transport.into(),
            twin,
            pinned,
        };
        // The speed of a round trip is one over its time, so that faster is above one here too.
        let rates = |cell: &Cell| -> Vec<(u32, f64)> {
            let rows = by_cell.get(cell).map_or(&[][..], |rows| rows);
            let speed = |row: &&PingPongRow| {
                let middle = stats::percentile(&row.round_trips, 50.0)?;
                Some((row.block, 1.0 / middle as f64))
            };
            rows.iter().filter_map(speed).collect()
        };
        let noise = stats::noise_floor(&twin_ratios(&rates, &cell));
        for transport in ALL {
            let name = transport.name();
            let Some(rows) = by_cell.get(&cell(name, false)) else {
                continue;
            };
            let merged: Vec<_> = rows.iter().flat_map(|row| row.round_trips.clone()).collect();
            let at = |percent| stats::percentile(&merged, percent).map_or("-".into(), nanoseconds);
            let count = merged.iter().map(|&(_, count)| count).sum();
            let mut line = vec![name.to_owned(), bytes(size as u64), placed.into(), grouped(count)];
            line.extend([at(50.0), at(99.0), at(99.9)]);
            line.extend(rivals(name).map(|rival| versus(&rates, &cell, (name, rival), noise)));
            sheet.body.push(line);
        }
        let what = format!("Noise floor at {}, placed {placed},", bytes(size as u64));
        sheet.notes.push(noise_note(&what, noise));
    }
    sheet.notes.push("Pinned: a processor for each side; freely: as the scheduler likes.".into());
    (!sheet.body.is_empty()).then_some(sheet)
}

fn noise_note(what: &str, noise: Option<f64>) -> String {
    match noise {
        Some(noise) => format!("{what} {:.0} %, from an ipmpsc twin.", noise * 100.0),
        None => format!("{what} unknown, as ipmpsc was not measured."),
    }
}

/// Three digits and a unit.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e4 => (value / 1e3, "k"),
        value => (value, ""),
    };
    match value {
        value if value >= 100.0 => format!("{value:.0}{unit}"),
        value if value >= 10.0 => format!("{value:.1}{unit}"),
        value => format!("{value:.2}{unit}"),
    }
}

fn times(ratio: f64) -> String {
    if ratio >= 10.0 { format!("{ratio:.0}x") } else { format!("{ratio:.2}x") }
}

fn nanoseconds(value: u64) -> String {
    match value {
        0..10_000 => format!("{value} ns"),
        10_000..10_000_000 => format!("{:.1} us", value as f64 / 1e3),
        _ => format!("{:.1} ms", value as f64 / 1e6),
    }
}

fn bytes(value: u64) -> String {
    match value {
        value if value >= 1 << 20 && value % (1 << 20) == 0 => format!("{} MiB", value >> 20),
        value if value >= 1 << 10 && value % (1 << 10) == 0 => format!("{} KiB", value >> 10),
        value => format!("{value} B"),
    }
}

/// With a comma every three digits.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(transport: &str, twin: bool, block: u32, messages: u64) -> Row {
        Row::Throughput(ThroughputRow {
            cell: Cell {
                producers: 2,
                size: 1_000,
                ring_bytes: 1 << 20,
                transport: transport.into(),
                twin,
                pinned: false,
            },
            block,
            messages,
            elapsed_ns: 1_000_000_000,
            total_messages: messages,
            cpu_ns: 3 * messages,
            voluntary_switches: messages / 1_000,
            involuntary_switches: messages / 1_000,
            by_producer: vec![messages / 4, messages / 2],
        })
    }

    #[test]
    fn a_table_by_hand() {
        let rows = [
            row("ipmpsc", false, 0, 40_000_000),
            row("ipmpsc", true, 0, 44_000_000),
            row("ipmpsc-0.5.1", false, 0, 4_000_000),
            row("ipc-channel", false, 0, 40_000_000),
            row("ipmpsc", false, 1, 50_000_000),
            row("ipmpsc", true, 1, 50_000_000),
            row("ipmpsc-0.5.1", false, 1, 10_000_000),
            row("ipc-channel", false, 1, 40_000_000),
            row("ipmpsc", false, 2, 45_000_000),
            row("ipmpsc-0.5.1", false, 2, 6_000_000),
            row("ipc-channel", false, 2, 40_000_000),
        ];
        let sheets = sheets(&rows);
        assert_eq!(sheets.len(), 1);
        assert_eq!(sheets[0].title, "Throughput, 1000 B from 2 to one");
        assert_eq!(
            sheets[0].body[0],
            [
                "ipmpsc",
                "45.0M",
                "40.0M-50.0M",
                "45.0k",
                "3.00",
                "2.00",
                "0.50",
                "7.50x [5.00x-10x] faster",
                "1.12x [1.00x-1.25x] unclear"
            ]
        );
        assert_eq!(sheets[0].notes, ["Noise floor 10 %, from an ipmpsc twin."]);
    }

    #[test]
    fn round_trips_merge_and_faster_is_shorter() {
        let row = |transport: &str, twin, block, trips: &[(u64, u64)]| {
            let transport = transport.into();
            let cell = Cell {
                producers: 1,
                size: 64,
                ring_bytes: 1 << 20,
                transport,
                twin,
                pinned: false,
            };
            Row::PingPong(PingPongRow { cell, block, round_trips: trips.to_vec() })
        };
        let rows = [
            row("ipmpsc", false, 0, &[(400, 9), (900, 1)]),
            row("ipmpsc", false, 1, &[(400, 10)]),
            row("ipmpsc", true, 0, &[(440, 10)]),
            row("ipc-channel", false, 0, &[(20_000, 4)]),
            row("ipc-channel", false, 1, &[(16_000, 4)]),
            row("ipmpsc", false, 2, &[(400, 10)]),
            row("ipc-channel", false, 2, &[(18_000, 4)]),
        ];
        let sheet = ping_pong_sheet(&rows).expect("there are rows");
        let line = &sheet.body[0];
        assert_eq!(line[3..7], ["30", "400 ns", "900 ns", "900 ns"]);
        assert_eq!(line[8], "45x [40x-50x] faster");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(100), "100");
        assert_eq!([short(1.5), short(12_345.0), short(2.5e6)], ["1.50", "12.3k", "2.50M"]);
        assert_eq!([bytes(64), bytes(1 << 10), bytes(3 << 20)], ["64 B", "1 KiB", "3 MiB"]);
        assert_eq!([nanoseconds(9), nanoseconds(25_000)], ["9 ns", "25.0 us"]);
    }
}
