//! std's atomics, each access of which is a step: before it, a virtual process hands the processor
//! back to the machine. Anywhere else they are std's and nothing more.

use corosensei::Yielder;
use std::cell::Cell;
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::Ordering;

thread_local! {
    /// The way out of the virtual process that runs, if one does.
    static OUT: Cell<*const Yielder<(), ()>> = const { Cell::new(ptr::null()) };
}

/// Says that a virtual process begins here.
pub(super) fn enter(out: &Yielder<(), ()>) {
    OUT.set(out);
}

/// Says, when it is dropped, that the machine goes on.
pub(super) struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        OUT.set(ptr::null());
    }
}

/// Hands the processor back, where a virtual process runs.
pub(super) fn step() {
    let out = OUT.get();
    if out.is_null() {
        return;
    }
    // SAFETY: `enter` stored it at the beginning of the process that runs here, whose stack it
    // lies on, and the machine drops a `Leave` when it stops.
    unsafe { &*out }.suspend(());
    OUT.set(out);
}

macro_rules! stepped {
    ($name:ident, $int:ty) => {
        #[derive(Debug)]
        #[repr(transparent)]
        pub(crate) struct $name(std::sync::atomic::$name);

        #[allow(dead_code, reason = "not every width needs every access")]
        impl $name {
            pub(crate) fn load(&self, order: Ordering) -> $int {
                step();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $int, order: Ordering) {
                step();
                self.0.store(value, order);
            }

            pub(crate) fn swap(&self, value: $int, order: Ordering) -> $int {
                step();
                self.0.swap(value, order)
            }

            pub(crate) fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                step();
                self.0.fetch_add(value, order)
            }

            pub(crate) fn fetch_or(&self, value: $int, order: Ordering) -> $int {
                step();
                self.0.fetch_or(value, order)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                step();
                self.0.compare_exchange(current, new, success, failure)
            }
        }

        /// What the kernel and the checks use: no step.
        impl Deref for $name {
            type Target = std::sync::atomic::$name;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    };
}

stepped!(AtomicU32, u32);
stepped!(AtomicU64, u64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(std::sync::atomic::AtomicU64::new(value))
    }
}
