//! Uses a ring with any positions, slots and records.

#![no_main]

#[allow(dead_code, reason = "each target uses one of the file's functions")]
#[path = "../../tests/it/images.rs"]
mod images;

libfuzzer_sys::fuzz_target!(|input: &[u8]| images::use_image(input));
