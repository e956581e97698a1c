//! Opens any image, and uses what opens.

#![no_main]

#[allow(dead_code, reason = "each target uses one of the file's functions")]
#[path = "../../tests/it/images.rs"]
mod images;

libfuzzer_sys::fuzz_target!(|input: &[u8]| images::open_image(input));
