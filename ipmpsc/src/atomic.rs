//! The atomics of the ring: std's, or loom's when the model checker drives them. Nothing else.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

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
