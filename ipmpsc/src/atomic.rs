//! The atomics of the ring: std's, or loom's when the model checker drives them, or in unit tests
//! the simulation's, which are std's unless it drives them. Nothing else.

#[cfg(not(any(loom, test)))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(all(test, not(loom)))]
pub(crate) use crate::ring::sim::stepped::{AtomicU32, AtomicU64};

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::fence;

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};

pub(crate) use std::sync::atomic::Ordering;

/// Separates a sequentially consistent store from the sequentially consistent load after it.
///
/// The memory model of Rust needs nothing here, and so the real build does nothing. loom treats
/// `SeqCst` accesses as `AcqRel`, and only its fences order a store before a later load.
#[inline(always)]
pub(crate) fn loom_store_load_fence() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
