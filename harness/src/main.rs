//! Test-and-benchmark harness around `ipmpsc`.
fn main() {}
