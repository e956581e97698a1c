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

#[cfg(feature = "fault")]
#[test]
fn the_acts_around_a_turn_of_a_large_ring_take_the_ways_they_are_named_for() {
    let run = Run::new();
    let output = run.output("torture --sweep points --json --only turn");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let rows = super::json_lines(&String::from_utf8_lossy(&output.stdout));
    // How often each takes the claim word, and how many pads it makes.
    for (act, claims, pads) in [
        ("turn in a large ring", 1, 1),
        ("go far without a turn", 3, 0),
        ("go on behind a turn", 3, 1),
    ] {
        let of_act = |row: &&serde_json::Value| row["act"] == act && row["end"] == "killed";
        let row = rows.iter().find(of_act).expect("every act has a row");
        let windows = row["windows"].as_array().expect("a list");
        let last = |point: &str| {
            let window = windows.iter().find(|window| window["name"] == point);
            window.map_or(0, |window| window["last"].as_u64().expect("a number"))
        };
        assert_eq!((last("claim-locked"), last("pad-moved")), (claims, pads), "{act}: {row}");
    }
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
