//! Runs under wine or qemu: everything takes longer there, and nothing that is measured says
//! anything of a machine that has the system or the processor in question.

use std::{sync::OnceLock, time::Duration};

use crate::sys;

/// In the environment, what this run is under, where nothing else tells.
const VARIABLE: &str = "HARNESS_EMULATED";
/// So many times longer may anything take.
const FACTOR: u32 = 5;

/// What a worker of this run has said that it runs under.
static WORKERS: OnceLock<String> = OnceLock::new();

/// What this process runs under, if anything.
pub(crate) fn here() -> Option<&'static str> {
    static HERE: OnceLock<Option<String>> = OnceLock::new();
    let said = || std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    HERE.get_or_init(|| sys::emulator().or_else(said)).as_deref()
}

/// What this process or one of its workers runs under, if anything.
pub(crate) fn anywhere() -> Option<&'static str> {
    here().or_else(|| WORKERS.get().map(String::as_str))
}

/// A worker runs under this. One is enough: the first stays.
pub(crate) fn of_a_worker(name: &str) {
    WORKERS.get_or_init(|| name.to_owned());
}

/// How long something may take that takes so long elsewhere.
pub(crate) fn stretched(time: Duration) -> Duration {
    time * if anywhere().is_some() { FACTOR } else { 1 }
}
