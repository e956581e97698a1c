//! The sweep over the named points, in a build that has them and in one that has none.

use super::{Run, last_line, stderr};

#[cfg(feature = "fault")]
#[test]
fn every_point_of_a_send_and_its_attach_is_a_place_to_die_and_to_stop_at() {
    let run = Run::new();
    let output = run.output("torture --sweep points --json --only bytes,");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let rows = super::json_lines(&String::from_utf8_lossy(&output.stdout));
    for end in ["killed", "frozen"] {
        for point in ["attach-locked", "claim-locked", "copy-half", "commit-waking", "detach"] {
            let is_there = rows.iter().any(|row| {
                let windows = row["windows"].as_array().into_iter().flatten();
                row["end"] == end && windows.into_iter().any(|window| window["name"] == point)
            });
            assert!(is_there, "{point}, {end}: {text}");
        }
    }
    assert!(last_line(&text).starts_with("harness: "), "{text}");
}

#[cfg(not(feature = "fault"))]
#[test]
fn a_build_without_points_says_which_one_has_them() {
    let output = Run::new().output("torture --sweep points");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(last_line(&text).contains("--features fault"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
