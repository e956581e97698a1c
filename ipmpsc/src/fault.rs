//! Named points of the protocol at which a test can kill, stop or lead the process.
//!
//! With the feature `fault`, the variable `IPMPSC_FAULT="point:action@n"` makes the n-th passage
//! (from 1, the default) of `point` in this process `kill` (SIGKILL) or `stop` (SIGSTOP) it, or
//! `panic`. Or `lead` names a function that is told every point and returns when the process may
//! go on; whoever leads is told of sleeps and wakes as well, and decides when a sleep ends. Under
//! loom a point can end its thread, as a crash. Otherwise a point is nothing.
//! `IPMPSC_FAULT_ANDROID` makes this process bear a system without locks, as Android must.

#[cfg(feature = "fault")]
static LEADER: std::sync::OnceLock<fn(&'static str)> = std::sync::OnceLock::new();

/// From here on `leader` is called at every point of this process, and instead of every sleep; no
/// wait spins or looks at the clock before it sleeps.
#[cfg(feature = "fault")]
pub fn lead(leader: fn(&'static str)) {
    // The first leader stays: two cannot both decide.
    let _ = LEADER.set(leader);
}

/// Whether somebody leads this process.
#[cfg(feature = "fault")]
pub(crate) fn is_led() -> bool {
    LEADER.get().is_some()
}

/// Tells the leader, if there is one, of a sleep, which is its to end, or of a wake.
#[cfg(feature = "fault")]
pub(crate) fn told(what: &'static str) -> bool {
    LEADER.get().map(|leader| leader(what)).is_some()
}

#[cfg(feature = "fault")]
pub(crate) fn hit(point: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    static PLAN: OnceLock<Option<(String, String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    if told(point) {
        return;
    }
    let plan = PLAN.get_or_init(|| {
        let text = std::env::var("IPMPSC_FAULT").ok()?;
        let (point, rest) = text.split_once(':').expect("IPMPSC_FAULT is point:action@n");
        let (action, n) = rest.split_once('@').unwrap_or((rest, "1"));
        let n = n.parse().expect("IPMPSC_FAULT is point:action@n, n a number");
        Some((point.to_owned(), action.to_owned(), n))
    });
    let Some((planned, action, n)) = plan else {
        return;
    };
    if point != planned || PASSED.fetch_add(1, Relaxed) + 1 != *n {
        return;
    }
    match action.as_str() {
        "kill" => crate::sys::kill_self(),
        "stop" => crate::sys::stop_self(),
        "panic" => panic!("planned at {point}"),
        other => panic!("IPMPSC_FAULT: unknown action {other:?}"),
    }
}

#[cfg(feature = "fault")]
pub(crate) fn acts_as_android() -> bool {
    std::env::var_os("IPMPSC_FAULT_ANDROID").is_some()
}

#[cfg(not(feature = "fault"))]
#[inline(always)]
pub(crate) fn acts_as_android() -> bool {
    false
}

#[cfg(all(loom, test))]
pub(crate) use crate::ring::tests::hit;

#[cfg(not(any(feature = "fault", all(loom, test))))]
#[inline(always)]
pub(crate) fn hit(_point: &str) {}

#[cfg(not(feature = "fault"))]
#[inline(always)]
pub(crate) fn is_led() -> bool {
    false
}

#[cfg(not(feature = "fault"))]
#[inline(always)]
pub(crate) fn told(_what: &str) -> bool {
    false
}
