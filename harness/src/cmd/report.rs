//! Renders recorded runs, checks what was rendered, publishes; measures nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    args::{ReportMode, default_out, root},
    folder,
    record::{Row, SOURCES, parse_rows},
    report::{
        self, ROWS, STAMP,
        publish::{self, FOLDER, INDEX, README, Run},
    },
    session::Ending,
    stats::thinned,
};

/// Does what was asked with these folders.
pub(crate) fn run(folders: &[PathBuf], mode: ReportMode) -> Result<Ending> {
    let latest = [default_out()];
    match mode {
        ReportMode::Render => render(if folders.is_empty() { &latest } else { folders }),
        ReportMode::Check { strict } if folders.is_empty() => check_published(strict),
        ReportMode::Check { strict } => check(folders, strict).map(Findings::ending),
        ReportMode::Publish { force } => {
            for folder in if folders.is_empty() { &latest } else { folders } {
                if !publish(folder, force)? {
                    return Ok(Ending::Usage);
                }
            }
            renew()
        }
        ReportMode::Renew => renew(),
    }
}

/// Each folder's files, from its rows.
fn render(folders: &[PathBuf]) -> Result<Ending> {
    for folder in folders {
        let (rows, env) = report::read(folder)?;
        let files = report::render(&rows, &env)?;
        folder::replace(folder, &files)?;
        eprintln!("{}: {} files", folder.display(), files.len());
    }
    Ok(Ending::Passed)
}

/// What a check found.
#[derive(Clone, Copy, Debug, Default)]
struct Findings {
    differences: usize,
    /// Counted only where that is asked for.
    stale: usize,
}

impl Findings {
    fn ending(self) -> Ending {
        if self.differences + self.stale > 0 { Ending::Stale } else { Ending::Passed }
    }
}

/// Renders in memory, and compares.
fn check(folders: &[PathBuf], strict: bool) -> Result<Findings> {
    let mut findings = Findings::default();
    for folder in folders {
        let (rows, env) = report::read(folder)?;
        match report::difference(folder, &report::render(&rows, &env)?)? {
            None => eprintln!("{}: the same, byte for byte", folder.display()),
            Some(difference) => {
                findings.differences += 1;
                eprintln!(
                    "{difference}; `harness report {}` makes it anew from its rows",
                    folder.display()
                );
            }
        }
        if env.sources != SOURCES {
            findings.stale += usize::from(strict);
            eprintln!(
                "{}: stale, ipmpsc's sources have changed since revision {}; `scripts/bench` \
                 measures anew",
                folder.display(),
                env.revision
            );
        }
    }
    Ok(findings)
}

/// Everything published, the index over it, and what the README shows of it.
fn check_published(strict: bool) -> Result<Ending> {
    let root = root();
    let folders: Vec<_> = publish::folders(&root)?.into_iter().map(|(_, path)| path).collect();
    let mut findings = check(&folders, strict)?;
    let runs = published(&root)?;
    let hint = "`harness report --renew` writes it anew";
    for (name, wanted) in generated(&root, &runs)? {
        let there = read(&root.join(name))?;
        if there == wanted {
            eprintln!("{name}: shows what is published");
        } else {
            findings.differences += 1;
            eprintln!("{name} differs from what is published; {hint}");
        }
    }
    Ok(findings.ending())
}

/// Copies a run to where published runs are, unless something speaks against it.
fn publish(folder: &Path, force: bool) -> Result<bool> {
    let (rows, env) = report::read(folder)?;
    let objections = publish::objections(&rows, &env);
    for objection in &objections.never {
        eprintln!("{} is never published: {objection}", folder.display());
    }
    for objection in &objections.unless_forced {
        let word = if force { "published although" } else { "not published, as" };
        eprintln!("{}: {word} {objection}", folder.display());
    }
    if !objections.never.is_empty() || (!force && !objections.unless_forced.is_empty()) {
        return Ok(false);
    }
    let to = root().join(FOLDER).join(publish::place(&env));
    let text = read(&folder.join(ROWS))?;
    let kept = text.lines().map(keep).collect::<Result<String>>()?;
    let mut files = report::render(&parse_rows(&kept)?, &env)?;
    files.push((ROWS.into(), kept.into_bytes()));
    files.push((STAMP.into(), read(&folder.join(STAMP))?.into_bytes()));
    folder::replace(&to, &files)?;
    eprintln!("published as {}", to.display());
    Ok(true)
}

/// A row as it is published: the times of the open loop, nine tenths of a run's bytes, are thinned.
fn keep(line: &str) -> Result<String> {
    let row = match serde_json::from_str(line).context("a row")? {
        Row::Latency(mut row) => {
            for times in [&mut row.response, &mut row.service, &mut row.lag] {
                *times = thinned(times);
            }
            serde_json::to_string(&Row::Latency(row))?
        }
        _ => line.to_owned(),
    };
    Ok(row + "\n")
}

/// Writes the index and the README's part anew.
fn renew() -> Result<Ending> {
    let root = root();
    for (name, content) in generated(&root, &published(&root)?)? {
        fs::write(root.join(name), content).with_context(|| format!("write {name}"))?;
        eprintln!("{name}: renewed");
    }
    Ok(Ending::Passed)
}

/// The files that are generated from all published runs.
fn generated(root: &Path, runs: &[Run]) -> Result<[(&'static str, String); 2]> {
    let readme = read(&root.join(README))?;
    let readme = publish::splice(&readme, &publish::block(runs))?;
    Ok([(INDEX, publish::index(runs)), (README, readme)])
}

/// All published runs, the newest first.
fn published(root: &Path) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for (path, folder) in publish::folders(root)? {
        let (rows, env) = report::read(&folder)?;
        runs.push(Run { path, rows, env });
    }
    publish::sort(&mut runs);
    Ok(runs)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
