//! The ring under real threads that share one piece of heap: for Miri, the sanitizers and Valgrind,
//! which see neither files nor other processes. Payloads are copied as they really are, so a copy
//! that races with another is theirs to find.

use super::{Peeked, Refused, Ring};
use crate::layout::{Geometry, Owner, View, span_of};
use std::alloc::Layout;
use std::ptr::NonNull;

const SENDERS: u64 = 2;
const EACH: u64 = if cfg!(miri) { 40 } else { 20_000 };
const GEOMETRY: Geometry = Geometry { capacity: 160, slot_count: SENDERS as u32 + 1 };

/// What all threads share.
pub(super) struct Memory {
    base: NonNull<u8>,
    geometry: Geometry,
}

// SAFETY: it is only ever used through views, which are `Sync`.
unsafe impl Sync for Memory {}

impl Memory {
    fn layout(geometry: Geometry) -> Layout {
        let bytes = geometry.total().expect("a small ring") as usize;
        Layout::from_size_align(bytes, 4096).expect("a small ring")
    }

    pub(super) fn new(geometry: Geometry) -> Self {
        // SAFETY: the size is not 0.
        let base = unsafe { std::alloc::alloc_zeroed(Self::layout(geometry)) };
        Self { base: NonNull::new(base).expect("there is memory for a small ring"), geometry }
    }

    pub(super) fn ring(&self) -> Ring {
        // SAFETY: aligned, of the geometry's size, used through views only, and outlives the
        // threads of the test.
        Ring::new(unsafe { View::new(self.base, self.geometry) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), Self::layout(self.geometry)) };
    }
}

/// The bytes of a message: its sender and number, and some more.
fn message(sender: u64, seq: u64) -> Vec<u8> {
    let first = sender << 32 | seq;
    first.to_le_bytes().into_iter().cycle().take(8 + (seq % 40) as usize).collect()
}

fn send_all(ring: &Ring, sender: u64) {
    let me = Owner { slot: sender as u16, generation: 1 };
    for seq in 0..EACH {
        let bytes = message(sender, seq);
        let claim = loop {
            match ring.claim(me, span_of(bytes.len() as u64), 1, false) {
                Ok(claim) => break claim,
                Err(Refused::Failed(error)) => panic!("{error}"),
                Err(_) => std::thread::yield_now(),
            }
        };
        ring.write(&claim, 0, &bytes);
        ring.commit(&claim, bytes.len() as u32).expect("everybody lives");
    }
}

#[test]
fn threads_over_one_piece_of_heap_race_for_nothing() {
    let memory = Memory::new(GEOMETRY);
    std::thread::scope(|scope| {
        for sender in 1..=SENDERS {
            let memory = &memory;
            scope.spawn(move || send_all(&memory.ring(), sender));
        }
        let ring = memory.ring();
        let mut cursor = ring.cursor().expect("nobody writes nonsense");
        let mut next = [0; SENDERS as usize + 1];
        while next.iter().sum::<u64>() < SENDERS * EACH {
            match ring.peek(&mut cursor).expect("nobody writes nonsense") {
                Peeked::Message { offset, len } => {
                    let from = ring.payload(offset, len as usize);
                    // SAFETY: `peek` has shown them, and they are not released yet.
                    let bytes = unsafe { std::slice::from_raw_parts(from, len as usize) }.to_vec();
                    ring.advance(&mut cursor, len);
                    ring.release(&cursor, 1);
                    let first = bytes.first_chunk().expect("no message is shorter");
                    let sender = u64::from_le_bytes(*first) >> 32;
                    let next = &mut next[sender as usize];
                    assert_eq!(bytes, message(sender, *next));
                    *next += 1;
                }
                _ => std::thread::yield_now(),
            }
        }
    });
}
