//! The bytes that other processes see: the format of a ring's file, version 1, as a document.
//!
//! ```text
//! 0                                                       1024              data_offset
//! +----------+-----------+----------+---------------+-----+-----------------+------------------+
//! | identity | producers | consumer | receiver_wait | ... | slots, 16 bytes | data, `capacity` |
//! | 128      | 128       | 128      | space_wait    |     | each            | bytes            |
//! +----------+-----------+----------+---------------+-----+-----------------+------------------+
//! ```
//!
//! | offset | size | field | written by |
//! |---|---|---|---|
//! | 0 | 8 | `magic`, stored last by the creator | creator |
//! | 8 | 4 | `version` of this format | creator |
//! | 12 | 4 | `slot_count` | creator |
//! | 16 | 8 | `capacity` of the data, bytes, a multiple of 8 | creator |
//! | 24 | 16 | `id`, random; names the ring's kernel objects where the OS needs names | creator |
//! | 128 | 8 | `claim`: 0, or the owner word of whoever makes a claim | anyone, by CAS |
//! | 136 | 8 | `tail`: position of the next record to be claimed | owner of `claim` |
//! | 144 | 8 | `room`: up to this position all is free, as far as was looked | owner of `claim` |
//! | 152 | 8 | `claimed`: messages claimed | owner of `claim` |
//! | 160 | 8 | `high_water`: most bytes seen in use | owner of `claim` |
//! | 168 | 8 | `takeovers`: claim words taken from the dead | owner of `claim` |
//! | 176 | 8 | `attaches`: sender handles ever attached | a sender that attaches |
//! | 184 | 4 | `closed`: 1 once another ring has replaced this one | replacer |
//! | 192 | 8 | `turn`: position of the pad that last ended a lap early, 0 if none did | owner of `claim` |
//! | 256 | 8 | `head`: position of the next record to be received | receiver |
//! | 264 | 8 | `owner`: 0, the owner word of the receiver, or `RECEIVER_GONE` | receivers, by CAS |
//! | 272 | 8 | `received` messages | receiver |
//! | 280 | 8 | `discarded` records: given up by their sender or taken from a dead one | receiver |
//! | 288 | 8 | `reclaimed` records of dead senders | receiver |
//! | 296 | 4 | `closed`, as above | replacer |
//! | 304 | 8 | `read_ns`: what reading takes, by the way it was written (`ring/copy.rs`) | receiver |
//! | 384 | 4 | `receiver_wait`: 0, or how the receiver sleeps or is about to (`NAPS` and so on) | anyone |
//! | 512 | 4 | `space_wait`: odd while a sender waits for space, even otherwise | anyone |
//! | 1024 + 16 i | 4 | slot i: `generation`, counts the attaches; its upper bits are marks | owner of the slot |
//! | + 4 | 4 | `senders`: sender handles of this mapping | owner of the slot |
//! | + 8 | 4 | `blocked`: of those, how many wait for space | owner of the slot |
//! | + 12 | 4 | `pid`, for people to read; nothing is decided by it | owner of the slot |
//!
//! All integers are little-endian and of fixed width, so that 32- and 64-bit processes share one
//! ring. What different parties write lies on cache lines of its own, 128 bytes apart since
//! processors fetch lines in pairs. `data_offset` is the end of the slots, rounded up to 4096.
//!
//! # Records
//!
//! A *position* is a count of bytes since the ring was made, those passed over included, and never
//! wraps: 2^63 bytes last 29 years at 10 GB/s, or 15 where a receiver that keeps up lets the laps
//! of a large ring end early. Its *offset* is the position modulo `capacity`. At each position
//! between `head` and `tail` where a record begins, and at `tail` itself, stands a header word:
//!
//! ```text
//! 63           32 31        16 15       4 3     0
//! +--------------+------------+----------+-------+
//! | len, bytes   | generation | slot     | state |    then len bytes of payload, padded to 8
//! +--------------+------------+----------+-------+
//! ```
//!
//! | state | word at a record's start | next states |
//! |---|---|---|
//! | EMPTY 0 | nothing claimed here yet; the whole word is 0 | BUSY |
//! | BUSY 1 | claimed, being written by (slot, generation) | READY, PAD, SKIP; EMPTY if never made |
//! | READY 2 | a message | none: the space is overwritten a lap later |
//! | PAD 3 | passed over: to the ring's end, after a shortened message, or behind a turn | none |
//! | SKIP 4 | given up, by its sender or for a dead one | none |
//!
//! A record never wraps. An *owner word* is a header word with `len` 0 and state BUSY; so it is
//! never 0, and a claim word and a record of the same owner carry the same (slot, generation).
//! A batch is one BUSY record that spans all its messages; the headers of the second and the
//! following ones are written before the commit turns the first into READY with its own length.
//!
//! # Who may write what, and what is trusted
//!
//! A payload belongs to the owner of its BUSY record until the commit, to the receiver until
//! `head` has passed it, and to nobody between `tail` and `head`. Since any process that maps
//! the file can break this, no Rust reference is ever made to bytes that a peer may rightly be
//! writing, and every word read from here is read once, checked, and used as a local copy:
//! lengths against the space to the ring's end, positions against `capacity` as read at open,
//! slots against `slot_count`. Nonsense is `Error::Corrupt`, never a wild pointer.
//!
//! # Life and death
//!
//! The creator makes the file under a temporary name, allocates and fills it, and only then
//! links it to its path; so a path never shows half a ring. A process takes slot i by locking
//! byte 1024 + 16 i of the file, which keeps others out, then the first byte after it or, if the
//! new generation is odd, the second, and by bumping the generation; the kernel frees the locks
//! when the process dies. (slot, generation) is *dead* if the generation differs or the byte of
//! its parity is not locked. A process that dies or stops between these steps leaves no trace,
//! or one like a dead owner's, and never hides the last owner's death. What a death leaves behind
//! is dealt with by whoever meets it; the windows are in `ring.rs`.
//!
//! A process that is refused locks takes a slot of generation 0, or one that has `UNLOCKED` and
//! not `HELD`, by setting both. Such an owner is dead if the generation differs, which it sees to
//! when it leaves, and alive otherwise. No process takes the lock of an `UNLOCKED` slot.

use crate::atomic::{AtomicU32, AtomicU64};
use crate::error::{Error, Result};
use std::ptr::NonNull;

#[cfg(target_endian = "big")]
compile_error!("the ring's format is little-endian, and so must the processor be");

/// First word of every ring: "ipmpsc" and two bytes that text never holds.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"ipmpsc\xf1\n");
/// Version of the format that this file describes.
pub(crate) const VERSION: u32 = 1;
/// Bytes of a record's header word.
pub(crate) const HEADER_BYTES: u64 = 8;
/// Where the slots begin.
pub(crate) const SLOTS_OFFSET: usize = 1024;
/// Slot numbers have 12 bits, and one slot is the receiver's.
pub(crate) const MAX_SENDERS: u32 = 4094;
/// In `Consumer::owner`: a receiver was attached and has left. Not an owner word, since its state
/// is not BUSY.
pub(crate) const RECEIVER_GONE: u64 = SKIP;

/// In `receiver_wait`: the receiver is awake.
pub(crate) const AWAKE: u32 = 0;
/// In `receiver_wait`: it sleeps and will look again by itself, soon.
pub(crate) const NAPS: u32 = 1;
/// In `receiver_wait`: it sleeps until it is roused.
pub(crate) const SLEEPS: u32 = 2;
/// In `receiver_wait`: the same, and somebody is about to rouse it.
pub(crate) const ROUSED: u32 = 3;

/// In a slot's generation: the slot is for those who are refused locks, for good.
pub(crate) const UNLOCKED: u32 = 1 << 31;
/// In a slot's generation that is `UNLOCKED`: somebody has it.
pub(crate) const HELD: u32 = 1 << 30;
/// In a slot's generation: the count itself.
pub(crate) const COUNT: u32 = HELD - 1;

const PAGE: u64 = 4096;
/// A sender asks for no more of its next record than this: about as many lines as a core can
/// have on their way.
const PREFETCH_BYTES: u64 = 2048;
const EMPTY: u64 = 0;
const BUSY: u64 = 1;
const READY: u64 = 2;
const PAD: u64 = 3;
const SKIP: u64 = 4;

/// What the creator writes once.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Identity {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU32,
    pub(crate) slot_count: AtomicU32,
    pub(crate) capacity: AtomicU64,
    pub(crate) id: [AtomicU64; 2],
}

/// What senders write.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Producers {
    pub(crate) claim: AtomicU64,
    pub(crate) tail: AtomicU64,
    pub(crate) room: AtomicU64,
    pub(crate) claimed: AtomicU64,
    pub(crate) high_water: AtomicU64,
    pub(crate) takeovers: AtomicU64,
    pub(crate) attaches: AtomicU64,
    pub(crate) closed: AtomicU32,
    pub(crate) turn: AtomicU64,
}

/// What the receiver writes.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Consumer {
    pub(crate) head: AtomicU64,
    pub(crate) owner: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) discarded: AtomicU64,
    pub(crate) reclaimed: AtomicU64,
    pub(crate) closed: AtomicU32,
    /// A hint, which may be anything.
    pub(crate) read_ns: AtomicU64,
}

/// A word that somebody sleeps on, alone on its line.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct WaitWord(pub(crate) AtomicU32);

/// Everything before the slots.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) identity: Identity,
    pub(crate) producers: Producers,
    pub(crate) consumer: Consumer,
    pub(crate) receiver_wait: WaitWord,
    pub(crate) space_wait: WaitWord,
}

/// One attached mapping.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) generation: AtomicU32,
    pub(crate) senders: AtomicU32,
    pub(crate) blocked: AtomicU32,
    pub(crate) pid: AtomicU32,
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(offset_of!(Header, identity) + offset_of!(Identity, magic) == 0);
    assert!(offset_of!(Identity, version) == 8 && offset_of!(Identity, slot_count) == 12);
    assert!(offset_of!(Identity, capacity) == 16 && offset_of!(Identity, id) == 24);
    assert!(offset_of!(Header, producers) == 128 && offset_of!(Producers, claim) == 0);
    assert!(offset_of!(Producers, tail) == 8 && offset_of!(Producers, room) == 16);
    assert!(offset_of!(Producers, claimed) == 24 && offset_of!(Producers, high_water) == 32);
    assert!(offset_of!(Producers, takeovers) == 40 && offset_of!(Producers, attaches) == 48);
    assert!(offset_of!(Producers, closed) == 56 && offset_of!(Producers, turn) == 64);
    assert!(offset_of!(Header, consumer) == 256 && offset_of!(Consumer, head) == 0);
    assert!(offset_of!(Consumer, owner) == 8 && offset_of!(Consumer, received) == 16);
    assert!(offset_of!(Consumer, discarded) == 24 && offset_of!(Consumer, reclaimed) == 32);
    assert!(offset_of!(Consumer, closed) == 40 && offset_of!(Consumer, read_ns) == 48);
    assert!(offset_of!(Header, receiver_wait) == 384 && offset_of!(Header, space_wait) == 512);
    assert!(size_of::<Header>() <= SLOTS_OFFSET && size_of::<Slot>() == 16);
    assert!(offset_of!(Slot, senders) == 4 && offset_of!(Slot, blocked) == 8);
    assert!(offset_of!(Slot, generation) == 0 && offset_of!(Slot, pid) == 12);
};

/// Who holds a claim, a record or the receiver's role: a slot and its generation's low 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) slot: u16,
    pub(crate) generation: u16,
}

impl Owner {
    /// The owner word, never 0.
    pub(crate) fn word(self) -> u64 {
        RecordWord::busy(self, 0).0
    }

    /// Reads any word with a slot and a generation in it.
    pub(crate) fn of(word: u64) -> Self {
        Self { slot: (word >> 4) as u16 & 0xfff, generation: (word >> 16) as u16 }
    }
}

/// A record's header word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordWord(pub(crate) u64);

/// The states of a header word, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Busy,
    Ready,
    Pad,
    Skip,
    Nonsense,
}

impl RecordWord {
    pub(crate) fn busy(owner: Owner, len: u32) -> Self {
        Self::new(BUSY, owner, len)
    }

    pub(crate) fn ready(owner: Owner, len: u32) -> Self {
        Self::new(READY, owner, len)
    }

    pub(crate) fn pad(owner: Owner, len: u32) -> Self {
        Self::new(PAD, owner, len)
    }

    pub(crate) fn skip(owner: Owner, len: u32) -> Self {
        Self::new(SKIP, owner, len)
    }

    fn new(state: u64, owner: Owner, len: u32) -> Self {
        let slot = u64::from(owner.slot & 0xfff) << 4;
        Self(u64::from(len) << 32 | u64::from(owner.generation) << 16 | slot | state)
    }

    pub(crate) fn state(self) -> State {
        match self.0 & 0xf {
            EMPTY if self.0 == 0 => State::Empty,
            BUSY => State::Busy,
            READY => State::Ready,
            PAD => State::Pad,
            SKIP => State::Skip,
            _ => State::Nonsense,
        }
    }

    pub(crate) fn owner(self) -> Owner {
        Owner::of(self.0)
    }

    /// Payload bytes.
    pub(crate) fn len(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Bytes of the record: the header word and the padded payload.
    pub(crate) fn span(self) -> u64 {
        span_of(u64::from(self.len()))
    }
}

/// Bytes that a record with `len_bytes` of payload takes.
pub(crate) fn span_of(len_bytes: u64) -> u64 {
    HEADER_BYTES + len_bytes.next_multiple_of(8)
}

/// The sizes of a ring, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) capacity: u64,
    pub(crate) slot_count: u32,
}

impl Geometry {
    /// The smallest ring that takes a message of `message_bytes`: its record and the header word
    /// after it. `None` if no file can be that large.
    pub(crate) fn for_message(message_bytes: u64, max_senders: u32) -> Option<Self> {
        let padded = message_bytes.checked_add(7)? & !7;
        let capacity = padded.checked_add(2 * HEADER_BYTES)?.max(4 * HEADER_BYTES);
        let geometry = Self { capacity, slot_count: max_senders + 1 };
        geometry.total().map(|_| geometry)
    }

    /// Reads and checks the identity of a mapped header, of a file of `file_bytes`.
    pub(crate) fn read(identity: &Identity, file_bytes: u64) -> Result<Self> {
        use crate::atomic::Ordering::{Acquire, Relaxed};
        // SYNC(ring-made): pairs with the creator's Release in `Geometry::write`. The other
        // fields are read after it and never change.
        let magic = identity.magic.load(Acquire);
        let version = identity.version.load(Relaxed);
        if magic == MAGIC.swap_bytes() {
            return Err(Error::IncompatibleRingBuffer);
        }
        if magic != MAGIC {
            let forming = magic == 0 && version == VERSION;
            return Err(if forming { Error::NotReady } else { Error::NotARing });
        }
        if version != VERSION {
            return Err(Error::VersionMismatch { found: version, expected: VERSION });
        }
        let capacity = identity.capacity.load(Relaxed);
        let slot_count = identity.slot_count.load(Relaxed);
        if !capacity.is_multiple_of(8) || capacity < 4 * HEADER_BYTES {
            return Err(Error::Corrupt { offset: 16 });
        }
        if !(2..=MAX_SENDERS + 1).contains(&slot_count) {
            return Err(Error::Corrupt { offset: 12 });
        }
        let geometry = Self { capacity, slot_count };
        let expected = geometry.file_bytes().unwrap_or(u64::MAX);
        if expected != file_bytes {
            return Err(Error::WrongSize { expected, actual: file_bytes });
        }
        // A 64-bit process can make rings that a 32-bit one has no addresses for.
        let fits = geometry.total().ok_or(std::io::ErrorKind::OutOfMemory);
        fits.map(|_| geometry).map_err(|kind| Error::Io(kind.into()))
    }

    /// Writes the identity of a ring that nobody else can see yet, the magic last.
    pub(crate) fn write(self, identity: &Identity, id: [u64; 2]) {
        use crate::atomic::Ordering::{Relaxed, Release};
        // Relaxed: the Release below orders them.
        identity.version.store(VERSION, Relaxed);
        identity.slot_count.store(self.slot_count, Relaxed);
        identity.capacity.store(self.capacity, Relaxed);
        identity.id[0].store(id[0], Relaxed);
        identity.id[1].store(id[1], Relaxed);
        // SYNC(ring-made): publishes the identity to `Geometry::read`.
        identity.magic.store(MAGIC, Release);
    }

    /// Where the data begin.
    pub(crate) fn data_offset(self) -> u64 {
        (SLOTS_OFFSET as u64 + 16 * u64::from(self.slot_count)).next_multiple_of(PAGE)
    }

    /// Bytes of the file.
    fn file_bytes(self) -> Option<u64> {
        self.data_offset().checked_add(self.capacity)
    }

    /// Bytes of the file, if they can be mapped in this process.
    pub(crate) fn total(self) -> Option<u64> {
        self.file_bytes().filter(|&total| isize::try_from(total).is_ok())
    }

    /// The largest payload: the record and the header word after it must fit, and `len` has 32
    /// bits.
    pub(crate) fn max_message_bytes(self) -> u64 {
        (self.capacity - 2 * HEADER_BYTES).min(u64::from(u32::MAX))
    }
}

/// A mapped ring, as pointers: valid for as long as the `Region` that made it.
#[derive(Debug)]
pub(crate) struct View {
    header: NonNull<Header>,
    slots: NonNull<Slot>,
    words: NonNull<AtomicU64>,
    geometry: Geometry,
}

// SAFETY: all that the pointers lead to are atomics, or bytes that ring.rs hands to one owner at
// a time; nothing here is tied to a thread.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// A view of a mapping of `geometry.total()` bytes.
    ///
    /// # Safety
    ///
    /// - `base` is aligned to 128 and valid for reads and writes of `geometry.total()` bytes for
    ///   as long as the view is used, and shared: nobody makes a `&mut` to any of it.
    #[cfg(not(loom))]
    pub(crate) unsafe fn new(base: NonNull<u8>, geometry: Geometry) -> Self {
        debug_assert!(base.as_ptr().addr().is_multiple_of(128));
        // `total` fits isize, so the offset does.
        let data_offset = geometry.data_offset() as usize;
        // SAFETY: the slots lie inside `total()` bytes from base, by the layout.
        let slots = unsafe { base.add(SLOTS_OFFSET) }.cast();
        // SAFETY: so do the data.
        let words = unsafe { base.add(data_offset) }.cast();
        Self { header: base.cast(), slots, words, geometry }
    }

    /// A view of memory that is not a file, for the model checker.
    ///
    /// # Safety
    ///
    /// - the pointers lead to a header, to `slot_count` slots and to `capacity / 8` words that live
    ///   as long as the view, and to which nobody has a `&mut`
    #[cfg(all(test, loom))]
    pub(crate) unsafe fn of_parts(
        header: NonNull<Header>,
        slots: NonNull<Slot>,
        words: NonNull<AtomicU64>,
        geometry: Geometry,
    ) -> Self {
        Self { header, slots, words, geometry }
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: valid by the contract of `new`; a Header is all atomics, so a peer's write
        // is never a data race, whatever it writes.
        unsafe { self.header.as_ref() }
    }

    /// The slot with this number, if there is one.
    pub(crate) fn slot(&self, number: u32) -> Option<&Slot> {
        (number < self.geometry.slot_count).then(|| {
            // SAFETY: `number` was compared with the count that the mapping was sized for.
            let slot = unsafe { self.slots.add(number as usize) };
            // SAFETY: inside the mapping, as above; all atomics.
            unsafe { slot.as_ref() }
        })
    }

    /// The 8 bytes of the data at `offset`, as an atomic.
    #[inline(always)]
    pub(crate) fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(
            offset < self.geometry.capacity && offset.is_multiple_of(8),
            "an offset inside the ring"
        );
        // SAFETY: the assertion keeps it inside the data, which are `capacity` bytes, a multiple
        // of 8.
        let word = unsafe { self.words.add((offset / 8) as usize) };
        // SAFETY: inside the mapping, aligned to 8, and atomic.
        unsafe { word.as_ref() }
    }

    /// Asks the processor for the lines from `offset` on, up to the ring's end, which are about to
    /// be written. They lie in the cache of the receiver, which read them a lap ago; asked for
    /// one record ahead, they arrive while this record is written, instead of stalling its commit.
    #[inline(always)]
    pub(crate) fn prefetch(&self, offset: u64, len: u64) {
        let end = (offset + len.min(PREFETCH_BYTES)).min(self.geometry.capacity);
        let mut at = offset & !63;
        while at < end {
            #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
            // SAFETY: an address inside the ring, by `end`; and the instruction, which every
            // x86-64 processor has, if only as a no-op, neither reads, writes nor faults.
            // (`_mm_prefetch` for writing compiles to a prefetch for reading.)
            unsafe {
                let address = self.words.as_ptr().cast::<u8>().wrapping_add(at as usize);
                std::arch::asm!("prefetchw [{}]", in(reg) address,
                    options(nostack, preserves_flags, readonly));
            }
            at += 64;
        }
    }

    /// The address of the payload byte at `offset`.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn payload(&self, offset: u64) -> NonNull<u8> {
        assert!(offset <= self.geometry.capacity, "an offset inside the ring");
        // SAFETY: the assertion keeps it inside the data or one past their end.
        unsafe { self.words.cast::<u8>().add(offset as usize) }
    }

    #[inline(always)]
    pub(crate) fn capacity(&self) -> u64 {
        self.geometry.capacity
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }
}
