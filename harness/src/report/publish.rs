//! What is published: which runs may be, where they go, the index over them, and the part of the
//! README that shows the newest. Pure, as the rest of the report; `cmd/report` does the writing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{
    headline, plot,
    sheets::Source,
    summary::{Kind, Summary},
    words::producers,
};
use crate::record::{Env, Row, SOURCES};

/// Below the root of the project.
pub(crate) const FOLDER: &str = "results/published";
/// The index of all runs.
pub(crate) const INDEX: &str = "results/README.md";
/// Where the newest run of everything is shown.
pub(crate) const README: &str = "README.md";

/// The README's lines around what is generated.
const BEGIN: &str = "<!-- results:begin -->";
const END: &str = "<!-- results:end -->";
/// Letters and digits of a revision that name a folder.
const REVISION_LEN: usize = 7;

/// A published run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Below `FOLDER`, with slashes.
    pub(crate) path: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) env: Env,
}

/// Why this run is not to be published. Nothing excuses the first kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Objections {
    pub(crate) never: Vec<String>,
    pub(crate) unless_forced: Vec<String>,
}

/// What speaks against publishing this run.
pub(crate) fn objections(rows: &[Row], env: &Env) -> Objections {
    let mut objections = Objections::default();
    if !env.is_optimised() {
        objections.never.push(format!(
            "it is of a build with profile {}, opt-level {}, debug assertions {}; use --release",
            env.profile,
            env.opt_level,
            if env.debug_assertions { "on" } else { "off" }
        ));
    }
    let doubts = &mut objections.unless_forced;
    if let Some(name) = &env.emulated {
        doubts.push(format!("it was emulated, by {name}"));
    }
    if env.ending != "passed" {
        let ending = if env.ending.is_empty() { "unfinished" } else { &env.ending };
        doubts.push(format!("it ended {ending}"));
    }
    let failed = rows.iter().filter(|row| matches!(row, Row::Failed(_))).count();
    if failed > 0 {
        doubts.push(format!("{failed} of its rows are failures"));
    }
    if env.revision == "unknown" || env.revision.contains(' ') {
        doubts.push(format!("its revision is {}; commit first", env.revision));
    }
    if env.sources != SOURCES {
        doubts.push("ipmpsc's sources have changed since".into());
    }
    objections
}

/// Where this run goes, below `FOLDER`.
pub(crate) fn place(env: &Env) -> String {
    let mut parts = env.target.split('-');
    let arch = parts.next().unwrap_or("unknown");
    let os = ["linux", "windows", "android", "darwin", "freebsd"]
        .into_iter()
        .find(|os| env.target.contains(os))
        .unwrap_or("other");
    let machine = format!("{}-{}-cores", slug(&env.cpu), env.cores);
    let date = env.started.get(..10).unwrap_or("undated");
    let revision: String = env.revision.chars().take(REVISION_LEN).collect();
    let part = part(env).map_or_else(String::new, |part| format!("-{part}"));
    format!("{os}-{arch}-{machine}/{date}-{revision}{part}")
}

/// What a run is of, if not of everything: curves far along each axis, the fault matrix, or faults
/// under load.
fn part(env: &Env) -> Option<&'static str> {
    let has = |words: &[&str]| env.arguments.windows(words.len()).any(|there| there == words);
    match () {
        () if has(&["--profile", "scale"]) => Some("scale"),
        () if has(&["--matrix"]) => Some("faults"),
        () if has(&["torture"]) => Some("torture"),
        () => None,
    }
}

/// The words of a processor's name that tell it from others, fit for a folder.
fn slug(cpu: &str) -> String {
    let lower = cpu.to_ascii_lowercase().replace("(r)", " ").replace("(tm)", " ");
    let name = lower.split('@').next().unwrap_or_default();
    let is_said_by_all =
        |word: &&str| !matches!(*word, "intel" | "amd" | "cpu" | "processor" | "with" | "");
    let words: Vec<_> = name
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(is_said_by_all)
        .take(4)
        .collect();
    if words.is_empty() { "cpu".into() } else { words.join("-") }
}

/// The newest first; of the same second, by path.
pub(crate) fn sort(runs: &mut [Run]) {
    runs.sort_by(|a, b| b.env.started.cmp(&a.env.started).then(b.path.cmp(&a.path)));
}

/// The whole `results/README.md`.
pub(crate) fn index(runs: &[Run]) -> String {
    let mut text = INDEX_HEAD.to_owned();
    if runs.is_empty() {
        text += "None yet; `scripts/bench` makes one.\n";
        return text;
    }
    text += "| run | machine | started | command |\n|---|---|---|---|\n";
    for Run { path, env, .. } in runs {
        let virtual_machine = if env.virtual_machine { ", virtual" } else { "" };
        text += &format!(
            "| [{path}](published/{path}/report.md) | {}, {} processors{virtual_machine} | {} | \
             `{}` |\n",
            env.cpu,
            env.cores,
            env.started,
            env.command()
        );
    }
    text
}

const INDEX_HEAD: &str = "\
# Results

<!-- Generated by `harness report --publish`; edits are lost. -->

What the harness measured and checked: each folder holds what is needed to judge it and to do it
again. Its files are written by the harness, and nothing in them is edited by hand.

| folder | what | in git |
|---|---|---|
| `latest/` | the last run on this machine, unless `--out` named another folder | no |
| `published/<os>-<arch>-<machine>/<date>-<revision>/` | runs that the project stands by | yes |

## What is in a run

| file | what |
|---|---|
| `report.md` | the tables, what is unfair about them, and how to read them |
| `index.html` | the same and the plots, as one page |
| `plots/*.svg` | the plots |
| `summary.csv` | every figure with its interval, one line each |
| `faults.csv` | the fault matrix with its notes, if it was run |
| `runs.jsonl` | the rows of which all of that is made, open-loop times in 62 steps at most |
| `env.json` | the machine, the compiler and its profile, the revision, the command and the seed |

To trace a number: find its line in `summary.csv` by kind, transport, size and producers; its blocks
are the rows of `runs.jsonl` with the same words; the machine, the command and the revision that it
holds for are in `env.json`. `cargo run -p harness -- report DIR` makes all files of a run again
from its rows and its stamp, and `report --check` proves that this changes no byte.

## Published runs

";

/// What the README shows of the newest run of everything.
pub(crate) fn block(runs: &[Run]) -> String {
    let whole = runs.iter().find(|run| part(&run.env).is_none());
    let Some(Run { path, rows, env }) = whole.or(runs.first()) else {
        return "No run is published yet; `scripts/bench` makes one.\n".into();
    };
    let summary = Summary::of(rows, env);
    let source = Source { rows, env, summary: &summary };
    let folder = format!("{FOLDER}/{path}");
    let mut text =
        String::from("<!-- Generated by `harness report --publish`; edits are lost. -->\n\n");
    for warning in headline::warnings(env, rows) {
        text += &format!("**{warning}**\n\n");
    }
    for (at, sheet) in headline::sheets(source).iter().enumerate() {
        if at == 0 {
            text += &format!("{}:\n\n{}", sheet.title, sheet.bare_markdown());
        } else {
            // The blank lines make it Markdown again inside the element.
            text += &format!(
                "<details><summary>{}</summary>\n\n{}</details>\n\n",
                sheet.title,
                sheet.bare_markdown()
            );
        }
    }
    for drawing in plot::headline(source) {
        text += &format!("![{}]({folder}/plots/{}.svg)\n\n", drawing.title, drawing.name);
    }
    let most = summary.places(Kind::Throughput).iter().map(|place| place.producers).max();
    let most = most.map_or_else(String::new, |most| format!(", up to {}", producers(most)));
    let virtual_machine = if env.virtual_machine { "virtual " } else { "" };
    text += &format!(
        "On {}, {} {virtual_machine}processors, kernel {}, {}, {} build with {}{most}; revision \
         {}, by `{}`. All tables and plots, the raw rows and how to read them are in \
         [{folder}]({folder}/report.md).\n\n",
        env.cpu,
        env.cores,
        env.kernel,
        env.libc,
        env.profile,
        env.rustc,
        env.revision,
        env.command()
    );
    text += "What is unfair about these numbers:\n\n";
    text.extend(headline::unfair(source).iter().map(|item| format!("- {item}\n")));
    text
}

/// The README with this block between its two lines.
pub(crate) fn splice(readme: &str, block: &str) -> Result<String> {
    let one = |marker: &str| {
        let count = readme.matches(marker).count();
        ensure!(count == 1, "{README} has {count} lines `{marker}` and must have one");
        readme.find(marker).context("just counted")
    };
    let (begin, end) = (one(BEGIN)? + BEGIN.len(), one(END)?);
    ensure!(begin < end, "{README} has its lines `{BEGIN}` and `{END}` the wrong way round");
    Ok(format!("{}\n{block}{}", &readme[..begin], &readme[end..]))
}

/// The folders below `FOLDER` that hold a run, two levels down, in order.
pub(crate) fn folders(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let list = |folder: &Path| -> Result<Vec<(String, PathBuf)>> {
        let entries =
            std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
            }
        }
        found.sort();
        Ok(found)
    };
    let top = root.join(FOLDER);
    if !top.exists() {
        return Ok(Vec::new());
    }
    let mut runs = Vec::new();
    for (machine, folder) in list(&top)? {
        runs.extend(
            list(&folder)?.into_iter().map(|(run, path)| (format!("{machine}/{run}"), path)),
        );
    }
    Ok(runs)
}
