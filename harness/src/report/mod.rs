//! Recorded rows become everything a person reads: `report.md`, `index.html`, `summary.csv`, plots,
//! and the screen. Pure functions of the rows and their stamp, so that the same rows give the same
//! bytes; measures nothing.

mod faults;
#[cfg(test)]
mod fixture;
mod headline;
mod html;
mod outcomes;
mod plot;
pub(crate) mod publish;
mod sheets;
mod summary;
mod table;
mod timeline;
mod words;

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    folder::{FAULTS, File, PLOTS, strangers},
    record::{Env, Row, parse_rows},
};
use sheets::Source;
use summary::Summary;

/// What a run leaves beside its report.
pub(crate) const ROWS: &str = "runs.jsonl";
pub(crate) const STAMP: &str = "env.json";
/// Everything a report has beside its rows and its stamp.
pub(crate) fn render(rows: &[Row], env: &Env) -> Result<Vec<File>> {
    let summary = Summary::of(rows, env);
    let source = Source { rows, env, summary: &summary };
    let (tables, plots) = (sheets::all(source), plot::all(source));
    let mut files = vec![
        ("report.md".into(), markdown(source, &tables, &plots).into_bytes()),
        ("index.html".into(), html::page(source, &tables, &plots).into_bytes()),
        ("summary.csv".into(), csv(&summary)?),
    ];
    files.extend(faults::csv(rows)?.map(|table| (FAULTS.into(), table)));
    let file =
        |plot: &plot::Drawing| (format!("{PLOTS}/{}.svg", plot.name), plot.file().into_bytes());
    files.extend(plots.iter().map(file));
    Ok(files)
}

/// The tables that a terminal has room for; all of them if there is no headline.
pub(crate) fn screen(rows: &[Row], env: &Env) -> Vec<String> {
    let summary = Summary::of(rows, env);
    let sheets = sheets::all(Source { rows, env, summary: &summary });
    sheets.iter().filter(|sheet| !sheet.is_detail).map(table::Sheet::screen).collect()
}

/// The rows and the stamp of a recorded run.
pub(crate) fn read(folder: &Path) -> Result<(Vec<Row>, Env)> {
    let text = |name| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let place = || folder.display().to_string();
    let rows = parse_rows(&text(ROWS)?).with_context(|| format!("{}/{ROWS}", place()))?;
    let env =
        serde_json::from_str(&text(STAMP)?).with_context(|| format!("{}/{STAMP}", place()))?;
    Ok((rows, env))
}

/// What differs between the files and the folder first, if anything does.
pub(crate) fn difference(folder: &Path, files: &[File]) -> Result<Option<String>> {
    for (name, content) in files {
        let path = folder.join(name);
        match fs::read(&path) {
            Ok(there) if there == *content => {}
            Ok(_) => return Ok(Some(format!("{} differs", path.display()))),
            Err(error) => return Ok(Some(format!("{}: {error}", path.display()))),
        }
    }
    let stranger = strangers(folder, files)?.into_iter().next();
    Ok(stranger.map(|path| format!("{} is of another report", path.display())))
}

fn markdown(source: Source<'_>, tables: &[table::Sheet], plots: &[plot::Drawing]) -> String {
    let mut text = String::from("# Results of the harness\n\n");
    for warning in headline::warnings(source.env, source.rows) {
        text += &format!("**{warning}**\n\n");
    }
    for (what, value) in headline::stamp(source.env) {
        let value = if what == "command" { format!("`{value}`") } else { value };
        text += &format!("* {what}: {value}\n");
    }
    text += "\n";
    for table in tables {
        text += &table.markdown(2);
    }
    text += "## Plots\n\n";
    for plot in plots {
        text += &format!("![{}]({PLOTS}/{}.svg)\n\n", plot.title, plot.name);
    }
    text += "## What is unfair about these numbers\n\n";
    text += &bullets(&headline::unfair(source));
    text += "## How to read them\n\n";
    text += &bullets(&headline::HOW_TO_READ.map(String::from));
    text += &outcomes::transports(source.env).markdown(2);
    text.trim_end().to_owned() + "\n"
}

fn bullets(items: &[String]) -> String {
    let lines: String = items.iter().map(|item| format!("* {item}\n")).collect();
    lines + "\n"
}

/// One line for each figure of each thing that was measured, in a fixed order.
fn csv(summary: &Summary) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "kind",
        "transport",
        "twin",
        "producers",
        "size",
        "ring_bytes",
        "pinned",
        "offered_per_s",
        "metric",
        "unit",
        "low",
        "value",
        "high",
        "blocks",
        "coverage",
        "outliers",
        "saturated_blocks",
    ])?;
    for (place, twin, transport, subject) in summary.all() {
        let front = [
            place.kind.name().to_owned(),
            transport.to_owned(),
            twin.to_string(),
            place.producers.to_string(),
            place.size.to_string(),
            place.ring_bytes.to_string(),
            place.pinned.to_string(),
            place.offered_per_s.to_string(),
        ];
        let saturated = subject.saturated.to_string();
        if subject.saturated > 0 {
            let empty = ["", "", "", "", ""].map(String::from);
            let back =
                [subject.blocks.to_string(), String::new(), String::new(), saturated.clone()];
            writer.write_record(front.iter().chain(&empty).chain(&back))?;
        }
        for (metric, figure) in &subject.figures {
            let (name, unit) = metric.name();
            let of = |value: fn(&crate::stats::Spread) -> String| {
                figure.spread.as_ref().map(value).unwrap_or_default()
            };
            let back = [
                name,
                unit.to_owned(),
                of(|spread| spread.low.to_string()),
                figure.value.to_string(),
                of(|spread| spread.high.to_string()),
                of(|spread| spread.count.to_string()),
                of(|spread| spread.coverage.to_string()),
                figure.outliers.to_string(),
                saturated.clone(),
            ];
            writer.write_record(front.iter().chain(&back))?;
        }
    }
    writer.into_inner().context("summary.csv is in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_up() -> (Vec<Row>, Env) {
        let row = |row| serde_json::from_value(row).expect("rows are as `record` reads them");
        let env = serde_json::from_value(fixture::env()).expect("a stamp as `record` reads it");
        (fixture::rows().into_iter().map(row).collect(), env)
    }

    #[test]
    fn the_same_rows_give_the_same_bytes() {
        let (rows, env) = made_up();
        let files = render(&rows, &env).expect("made-up rows render");
        let again = render(&rows, &env).expect("made-up rows render");
        for ((name, content), (_, other)) in files.iter().zip(&again) {
            assert!(content == other, "{name}");
        }
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        for name in [
            "report.md",
            "index.html",
            "summary.csv",
            "plots/throughput-1.svg",
            "plots/producers-64.svg",
            "plots/round-trip-64-pinned.svg",
            "plots/latency-64-4.svg",
            "plots/load-64-4.svg",
        ] {
            assert!(names.contains(&name), "{name} of {names:?}");
        }
    }
}
