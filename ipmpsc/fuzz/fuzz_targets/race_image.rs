//! Copies messages out of a ring that a peer writes all over at the same time.

#![no_main]

#[allow(dead_code, reason = "each target uses one of the file's functions")]
#[path = "../../tests/it/images.rs"]
mod images;

libfuzzer_sys::fuzz_target!(|input: &[u8]| images::race_image(input));
