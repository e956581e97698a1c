//! Lists what can be compared, and what cannot be here and why.

use std::io::{Write, stdout};

use crate::{args::Options, record::Stamp, transports::ALL};

/// Names, versions and how each moves its messages, floors under a line. As JSON lines if so asked.
pub(crate) fn run(options: &Options) {
    let stamps: Vec<_> = ALL.into_iter().map(Stamp::of).collect();
    let mut out = stdout().lock();
    let mut is_above = true;
    for stamp in stamps {
        if stamp.floor && is_above && !options.json {
            is_above = false;
            // A reader that has seen enough, like head, is no error.
            let _ = writeln!(out, "Floors, which join no processes:");
        }
        if writeln!(out, "{}", if options.json { json(&stamp) } else { line(&stamp) }).is_err() {
            return;
        }
    }
}

fn json(stamp: &Stamp) -> String {
    let Stamp { name, version, about, missing, floor } = stamp;
    serde_json::json!({
        "transport": name, "version": version, "about": about, "missing": missing, "floor": floor,
    })
    .to_string()
}

fn line(stamp: &Stamp) -> String {
    let Stamp { name, version, about, missing, .. } = stamp;
    match missing {
        None => format!("{name:<24} {version:<8} {about}"),
        Some(why) => format!("{name:<24} {version:<8} cannot run here: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_run_says_why_in_both_forms() {
        let mut stamp = Stamp::of(ALL[0]);
        assert!(json(&stamp).contains(r#""missing":null"#), "{}", json(&stamp));
        assert!(line(&stamp).ends_with(&stamp.about), "{}", line(&stamp));
        stamp.missing = Some("no such kernel".into());
        for text in [json(&stamp), line(&stamp)] {
            assert!(text.contains("no such kernel"), "{text}");
        }
    }
}
