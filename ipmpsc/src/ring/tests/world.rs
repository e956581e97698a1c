//! What loom's processes share: the ring's memory, and a kernel that knows who is dead and lets
//! them sleep.

use super::super::Ring;
use crate::atomic::{AtomicU32, AtomicU64};
use crate::layout::*;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release, Ordering::SeqCst};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::ptr::NonNull;

/// What all processes map, and the kernel.
pub(super) struct World {
    pub(super) header: Box<Header>,
    pub(super) slots: Box<[Slot]>,
    pub(super) words: Box<[AtomicU64]>,
    /// The payloads, where the program has them in `words`.
    pub(super) payloads: Box<[UnsafeCell<u64>]>,
    /// Where senders turn, if they do.
    warm: u64,
    /// By slot: whoever had it has died, and nobody has taken it since.
    pub(super) dead: [AtomicBool; 4],
    pub(super) receiver_bed: Bed,
    pub(super) sender_bed: Bed,
}

// SAFETY: of its fields only the payloads are not `Sync`, and each access of those is one that loom
// checks for races.
unsafe impl Sync for World {}

/// A futex: sleeps while a word has a value.
pub(super) struct Bed {
    lock: Mutex<()>,
    sleepers: Condvar,
}

impl Bed {
    pub(super) fn new() -> Self {
        Self { lock: Mutex::new(()), sleepers: Condvar::new() }
    }

    pub(super) fn sleep_while(&self, word: &AtomicU32, value: u32) {
        let guard = self.lock.lock().unwrap();
        if word.load(SeqCst) == value {
            drop(self.sleepers.wait(guard).unwrap());
        }
    }

    pub(super) fn wake_one(&self) {
        let _guard = self.lock.lock().unwrap();
        self.sleepers.notify_one();
    }
}

impl World {
    pub(super) fn new(capacity: u64) -> Arc<Self> {
        Self::large(capacity, capacity)
    }

    /// As of a large ring with so many bytes of warm part.
    pub(super) fn large(capacity: u64, warm: u64) -> Arc<Self> {
        let long = || AtomicU64::new(0);
        let int = || AtomicU32::new(0);
        let header = Header {
            identity: Identity {
                magic: long(),
                version: int(),
                slot_count: int(),
                capacity: long(),
                id: [long(), long()],
            },
            producers: Producers {
                claim: long(),
                tail: long(),
                room: long(),
                claimed: long(),
                high_water: long(),
                takeovers: long(),
                attaches: long(),
                closed: int(),
                turn: long(),
            },
            consumer: Consumer {
                head: long(),
                owner: long(),
                received: long(),
                discarded: long(),
                reclaimed: long(),
                read_ns: long(),
                closed: int(),
            },
            receiver_wait: WaitWord(int()),
            space_wait: WaitWord(int()),
        };
        let slot =
            |_| Slot { generation: AtomicU32::new(1), senders: int(), blocked: int(), pid: int() };
        Arc::new(Self {
            header: Box::new(header),
            slots: (0..4).map(slot).collect(),
            words: (0..capacity / 8).map(|_| long()).collect(),
            payloads: (0..capacity / 8).map(|_| UnsafeCell::new(0)).collect(),
            warm,
            dead: std::array::from_fn(|_| AtomicBool::new(false)),
            receiver_bed: Bed::new(),
            sender_bed: Bed::new(),
        })
    }

    /// One process's view.
    pub(super) fn ring(&self) -> Ring {
        let capacity = 8 * self.words.len() as u64;
        let geometry = Geometry { capacity, slot_count: 4 };
        let first = |words: &[AtomicU64]| NonNull::from(&words[0]);
        // SAFETY: the parts live as long as the world, which every thread of a test holds, and
        // have the lengths that the geometry says.
        let view = unsafe {
            View::of_parts(
                NonNull::from(&*self.header),
                NonNull::from(&self.slots[0]),
                first(&self.words),
                geometry,
            )
        };
        let mut ring = Ring::new(view);
        ring.set_warm(self.warm);
        ring
    }

    /// Writes a word of payload at an offset.
    pub(super) fn write(&self, offset: u64, value: u64) {
        // SAFETY: the pointer is valid, and loom panics where another access races with this one.
        self.payloads[(offset / 8) as usize].with_mut(|word| unsafe { *word = value });
    }

    /// Reads a word of payload at an offset.
    pub(super) fn read(&self, offset: u64) -> u64 {
        // SAFETY: as in `write`.
        self.payloads[(offset / 8) as usize].with(|word| unsafe { *word })
    }

    /// As `Roster::is_dead`.
    pub(super) fn is_dead(&self, word: u64) -> bool {
        let Owner { slot, generation } = Owner::of(word);
        let slot = usize::from(slot);
        self.slots[slot].generation.load(Acquire) as u16 != generation
            || self.dead[slot].load(SeqCst)
    }

    /// As `Roster::attach`, of a slot whose last owner has died.
    pub(super) fn take_slot(&self, slot: u16) -> Owner {
        let taken = &self.slots[usize::from(slot)].generation;
        let generation = taken.load(Acquire) + 1;
        taken.store(generation, Release);
        // Its life byte, which is not the last owner's: nobody asks for it before it signs.
        assert!(self.dead[usize::from(slot)].swap(false, SeqCst), "a free slot");
        Owner { slot, generation: generation as u16 }
    }

    pub(super) fn free_if_dead(&self, ring: &Ring, holder: u64) {
        if self.is_dead(holder) {
            ring.free_claim(holder);
        } else {
            thread::yield_now();
        }
    }
}
