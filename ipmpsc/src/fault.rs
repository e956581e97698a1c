//! Named points of the protocol at which a test can kill or stop the process.
//!
//! With the feature `fault`, the variable `IPMPSC_FAULT="point:action@n"` makes the n-th passage
//! (from 1, the default) of `point` in this process `kill` (SIGKILL) or `stop` (SIGSTOP) it, or
//! `panic`. Under loom a point can end its thread, as a crash. Otherwise a point is nothing.
//! `IPMPSC_FAULT_ANDROID` makes this process bear a system without locks, as Android must.

#[cfg(feature = "fault")]
pub(crate) fn hit(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    static PLAN: OnceLock<Option<(String, String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

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
