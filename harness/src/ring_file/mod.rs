//! Reads the bytes of a ring's file, live or left behind, and changes nothing by it.
//!
//! An independent reader of format 1, written from the document in `ipmpsc/src/layout.rs` and not
//! from the code below it, so that each checks the other. It opens the file for reading only,
//! reads by position, where a file that is cut off is an error and not a signal, takes no lock,
//! and asks about the locks of others by a call that takes none either.
//!
//! A live ring moves under its reader. What is shown all the same is true of some moment:
//!
//! 1. `head` and `tail` only grow, so a `tail` read between two looks at `head` lies at or beyond
//!    the first and at most `capacity` beyond the second. It may lie further where the lap before
//!    that of `tail` was ended early, by a turn that `head` has not passed, and that of `tail` goes
//!    on behind the turn. `turn` is read after `tail`: no other turn is made before `head` has
//!    passed that one, and then the distance is an ordinary one.
//! 2. Bytes are overwritten only once `head` has passed them, or inside a turn's pad. Bytes of
//!    records read before a look at `head` that has not passed them were whole records; those it
//!    has passed are dropped and counted.
//! 3. A contradiction counts only if it is still there after several looks.

mod walk;

use std::{fs::File, io::ErrorKind, path::Path, time::Duration};

use crate::sys;
use walk::Word;
pub(crate) use walk::{Record, State, Step};

/// The first word of every ring.
const MAGIC: u64 = u64::from_le_bytes(*b"ipmpsc\xf1\n");
/// The format this file reads.
const VERSION: u32 = 1;
/// Bytes of a record's header word.
const WORD: u64 = 8;
const SLOTS_OFFSET: u64 = 1024;
const SLOT_BYTES: u64 = 16;
const SLOTS_MAX: u32 = 4095;
const PAGE: u64 = 4096;
/// In `owner`: a receiver was attached and has left.
const RECEIVER_GONE: u64 = 4;
/// In a slot's generation: for those who are refused locks; somebody has it.
const UNLOCKED: u32 = 1 << 31;
const HELD: u32 = 1 << 30;

/// Where the fields stand, by the names of the document.
mod at {
    pub(super) const MAGIC: u64 = 0;
    pub(super) const VERSION: u64 = 8;
    pub(super) const SLOT_COUNT: u64 = 12;
    pub(super) const CAPACITY: u64 = 16;
    pub(super) const ID: u64 = 24;
    pub(super) const CLAIM: u64 = 128;
    pub(super) const TAIL: u64 = 136;
    pub(super) const ROOM: u64 = 144;
    pub(super) const CLAIMED: u64 = 152;
    pub(super) const HIGH_WATER: u64 = 160;
    pub(super) const TAKEOVERS: u64 = 168;
    pub(super) const ATTACHES: u64 = 176;
    pub(super) const CLOSED_TO_SENDERS: u64 = 184;
    pub(super) const TURN: u64 = 192;
    pub(super) const HEAD: u64 = 256;
    pub(super) const OWNER: u64 = 264;
    pub(super) const RECEIVED: u64 = 272;
    pub(super) const DISCARDED: u64 = 280;
    pub(super) const RECLAIMED: u64 = 288;
    pub(super) const CLOSED_TO_RECEIVER: u64 = 296;
    pub(super) const RECEIVER_WAIT: u64 = 384;
    pub(super) const SPACE_WAIT: u64 = 512;
    /// Bytes that no field owns, up to the slots.
    pub(super) const GAPS: [(u64, u64); 6] =
        [(40, 128), (188, 192), (200, 256), (300, 384), (388, 512), (516, super::SLOTS_OFFSET)];
}

/// How often a contradiction is looked at before it is believed, and the pause between.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);
/// Why there is nothing, or nothing more, to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Not there, not readable, or no ring of this format.
    NoRing(String),
    /// A ring, and broken.
    Corrupt(Corrupt),
}

/// The first contradiction of a ring's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt {
    /// In bytes from the file's beginning.
    pub(crate) offset: u64,
    pub(crate) what: String,
}

fn corrupt<T>(offset: u64, what: String) -> Result<T, Trouble> {
    Err(Trouble::Corrupt(Corrupt { offset, what }))
}

/// A slot and the low bits of its generation: who has signed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) slot: u32,
    pub(crate) generation: u16,
}

/// Whether whoever took a slot is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    Gone,
    /// The system does not tell.
    Unknown,
}

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    Never,
    Left,
    Attached(Owner, Life),
}

/// A slot that was taken at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) number: u32,
    pub(crate) generation: u32,
    pub(crate) senders: u32,
    pub(crate) blocked: u32,
    pub(crate) pid: u32,
    pub(crate) life: Life,
}

/// Everything before the data. Each counter is true of its own moment.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) capacity: u64,
    pub(crate) slot_count: u32,
    pub(crate) id: [u64; 2],
    pub(crate) head: u64,
    pub(crate) tail: u64,
    /// Bytes between them that are not free.
    pub(crate) used: u64,
    pub(crate) claim: Option<(Owner, Life)>,
    pub(crate) claimed: u64,
    pub(crate) high_water: u64,
    pub(crate) takeovers: u64,
    pub(crate) attaches: u64,
    pub(crate) receiver: Receiver,
    pub(crate) received: u64,
    pub(crate) discarded: u64,
    pub(crate) reclaimed: u64,
    pub(crate) closed: bool,
    pub(crate) receiver_sleeps: bool,
    /// Whether a sender has said that it waits for space.
    pub(crate) space_wanted: bool,
    pub(crate) slots: Vec<Slot>,
}

impl Header {
    /// The largest message.
    pub(crate) fn message_max(&self) -> u64 {
        (self.capacity - 2 * WORD).min(u64::from(u32::MAX))
    }

    /// Messages sent or being sent: what was claimed, less what came to nothing.
    pub(crate) fn sent(&self) -> u64 {
        self.claimed.saturating_sub(self.discarded)
    }

    /// Claims and records taken from the dead.
    pub(crate) fn recoveries(&self) -> u64 {
        self.takeovers.saturating_add(self.reclaimed)
    }

    /// Sender handles of the living, and how many of them wait for space.
    pub(crate) fn senders(&self) -> (u64, u64) {
        let living = self.slots.iter().filter(|slot| slot.life == Life::Alive);
        living.fold((0, 0), |(senders, blocked), slot| {
            (senders + u64::from(slot.senders), blocked + u64::from(slot.blocked))
        })
    }
}

/// The ring's ends at one moment.
struct Positions {
    head: u64,
    tail: u64,
    /// Bytes between them, without those that a turn passed over and nobody has taken since.
    used: u64,
    /// Nothing from here on is free.
    free_end: u64,
}

/// An open ring.
#[derive(Debug)]
pub(crate) struct RingFile {
    file: File,
    capacity: u64,
    slot_count: u32,
    /// Whether it had a name when it was opened; a ring without one never loses it.
    had_name: bool,
}

impl RingFile {
    /// Opens the ring at `path`. Links are followed: whoever names a path here is trusted, nothing
    /// is written, and `/proc/PID/fd/N` leads to rings without a name.
    pub(crate) fn open(path: &Path) -> Result<RingFile, Trouble> {
        let io = |error: std::io::Error| no_ring(&error);
        // Looked at first, since opening a FIFO would let the writer go that waits for a reader.
        if !path.metadata().map_err(io)?.is_file() {
            return Err(Trouble::NoRing("not a regular file, and so not a ring".into()));
        }
        let file = sys::open_to_read(path).map_err(io)?;
        let there = file.metadata().map_err(io)?;
        let mut identity = [0; 24];
        if there.len() < identity.len() as u64 {
            let bytes = there.len();
            return Err(Trouble::NoRing(format!("{bytes} bytes, too few for a ring's header")));
        }
        sys::read_exact_at(&file, &mut identity, 0).map_err(io)?;
        let (capacity, slot_count) = sizes(&identity)?;
        let had_name = sys::links(&file).map_err(io)? > 0;
        let ring = RingFile { file, capacity, slot_count, had_name };
        ring.check_length()?;
        Ok(ring)
    }

    /// Where the data begin.
    fn data_offset(&self) -> u64 {
        self.slots_end().next_multiple_of(PAGE)
    }

    fn slots_end(&self) -> u64 {
        SLOTS_OFFSET + SLOT_BYTES * u64::from(self.slot_count)
    }

    /// Whether its last name has been removed.
    pub(crate) fn is_removed(&self) -> bool {
        self.had_name && sys::links(&self.file).is_ok_and(|links| links == 0)
    }

    fn check_length(&self) -> Result<(), Trouble> {
        let there = self.file.metadata().map_err(|error| no_ring(&error))?.len();
        let wanted = self.data_offset().checked_add(self.capacity);
        if wanted == Some(there) {
            return Ok(());
        }
        let (count, capacity) = (self.slot_count, self.capacity);
        let wanted = wanted.map_or_else(|| "more than fits".into(), |wanted| wanted.to_string());
        let what = format!(
            "{count} slots (offset 12) and a capacity of {capacity} (offset 16) ask for a file of \
             {wanted} bytes, and it has {there}"
        );
        corrupt(at::CAPACITY, what)
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), Trouble> {
        sys::read_exact_at(&self.file, bytes, offset).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Trouble::Corrupt(Corrupt {
                offset,
                what: "the file has been cut off while it was read".into(),
            }),
            _ => no_ring(&error),
        })
    }

    fn word(&self, offset: u64) -> Result<u64, Trouble> {
        let mut bytes = [0; 8];
        self.read(&mut bytes, offset)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// `head` and `tail` of one moment (invariant 1).
    fn positions(&self) -> Result<Positions, Trouble> {
        let capacity = self.capacity;
        let first = self.word(at::HEAD)?;
        let tail = self.word(at::TAIL)?;
        let turn = self.word(at::TURN)?;
        let head = self.word(at::HEAD)?;
        for (name, offset, position) in
            [("head", at::HEAD, head.max(first)), ("tail", at::TAIL, tail)]
        {
            if !position.is_multiple_of(WORD) || position > u64::MAX / 2 {
                return corrupt(offset, format!("{name} is {position:#x}, which is no position"));
            }
        }
        if first > tail {
            return corrupt(at::HEAD, format!("head {first} lies beyond tail {tail}"));
        }
        let lap = tail - tail % capacity;
        let is_ahead = turn != 0 && head <= turn && turn < lap && lap - turn <= capacity;
        let goes_on = is_ahead && tail - turn > capacity;
        // The word at tail is always free.
        if tail.saturating_sub(head) > capacity - WORD && !goes_on {
            let what = format!("head {head} lies more than {capacity} bytes behind tail {tail}");
            return corrupt(at::HEAD, what);
        }
        let head = head.min(tail);
        let (used, free_end) = match (goes_on, is_ahead) {
            // What the receiver has before the turn lies inside the pad that leads behind it.
            (true, _) => (tail - lap, lap + capacity),
            (false, true) => (tail - head - (lap - turn), head + capacity),
            (false, false) => (tail - head, head + capacity),
        };
        Ok(Positions { head, tail, used, free_end })
    }

    /// Everything before the data, checked.
    pub(crate) fn header(&self) -> Result<Header, Trouble> {
        settled(|| self.read_header())
    }

    fn read_header(&self) -> Result<Header, Trouble> {
        self.check_length()?;
        // 68 KiB at most: `sizes` has bounded the slots.
        let mut bytes = vec![0; self.data_offset() as usize];
        self.read(&mut bytes, 0)?;
        // After the copy, so that `room` and `turn` were read before what they are checked with.
        let Positions { head, tail, used, free_end } = self.positions()?;
        let raw = Raw { bytes: &bytes, slot_count: self.slot_count };
        raw.check_gaps(self.slots_end())?;
        let room = raw.u64(at::ROOM);
        if room > free_end {
            let what = format!("room {room} lies beyond {free_end}, up to where it can be free");
            return corrupt(at::ROOM, what);
        }
        let turn = raw.u64(at::TURN);
        if !turn.is_multiple_of(WORD) || (turn != 0 && turn >= tail) {
            let what = format!("turn {turn} is no position before tail {tail}");
            return corrupt(at::TURN, what);
        }
        let high_water = raw.u64(at::HIGH_WATER);
        if high_water > self.capacity {
            let what = format!("high_water is {high_water}, more than the ring holds");
            return corrupt(at::HIGH_WATER, what);
        }
        let signed = |offset, name| -> Result<Option<(Owner, Life)>, Trouble> {
            let owner = raw.owner_word(offset, name)?;
            Ok(owner.map(|owner| (owner, self.life(owner))))
        };
        Ok(Header {
            capacity: self.capacity,
            slot_count: self.slot_count,
            id: [raw.u64(at::ID), raw.u64(at::ID + 8)],
            head,
            tail,
            used,
            claim: signed(at::CLAIM, "claim")?,
            claimed: raw.u64(at::CLAIMED),
            high_water,
            takeovers: raw.u64(at::TAKEOVERS),
            attaches: raw.u64(at::ATTACHES),
            receiver: match raw.u64(at::OWNER) {
                RECEIVER_GONE => Receiver::Left,
                _ => match signed(at::OWNER, "owner")? {
                    None => Receiver::Never,
                    Some((owner, life)) => Receiver::Attached(owner, life),
                },
            },
            received: raw.u64(at::RECEIVED),
            discarded: raw.u64(at::DISCARDED),
            reclaimed: raw.u64(at::RECLAIMED),
            closed: raw.flag(at::CLOSED_TO_SENDERS, "closed")?
                | raw.flag(at::CLOSED_TO_RECEIVER, "closed")?,
            receiver_sleeps: raw.choice(at::RECEIVER_WAIT, "receiver_wait", 3)? != 0,
            space_wanted: raw.u32(at::SPACE_WAIT) % 2 == 1,
            slots: self.slots(&raw),
        })
    }

    fn slots(&self, raw: &Raw<'_>) -> Vec<Slot> {
        let slot = |number: u32| {
            let at = slot_offset(number);
            let (generation, senders) = (raw.u32(at), raw.u32(at + 4));
            let (blocked, pid) = (raw.u32(at + 8), raw.u32(at + 12));
            let taken = generation != 0 || senders != 0 || blocked != 0 || pid != 0;
            let life = if taken { self.life_of_slot(number, generation) } else { Life::Gone };
            taken.then_some(Slot { number, generation, senders, blocked, pid, life })
        };
        (0..self.slot_count).filter_map(slot).collect()
    }

    fn life_of_slot(&self, number: u32, generation: u32) -> Life {
        // Whoever took it was refused a lock, and is there, was killed, or has left.
        match (generation & UNLOCKED != 0, generation & HELD != 0) {
            (true, true) => return Life::Unknown,
            (true, false) => return Life::Gone,
            (false, _) => {}
        }
        // The one of the slot's two bytes that shows the life of this generation's owner.
        let life_byte = slot_offset(number) + 1 + u64::from(generation & 1);
        match sys::is_locked(&self.file, life_byte) {
            Some(true) => Life::Alive,
            Some(false) => Life::Gone,
            None => Life::Unknown,
        }
    }

    /// Whether whoever signed with this is still there.
    pub(crate) fn life(&self, owner: Owner) -> Life {
        match self.word(slot_offset(owner.slot)) {
            Ok(word) if word as u16 == owner.generation => {
                self.life_of_slot(owner.slot, word as u32)
            }
            Ok(_) => Life::Gone,
            Err(_) => Life::Unknown,
        }
    }

    /// Where the next record to be received begins.
    pub(crate) fn head(&self) -> Result<u64, Trouble> {
        settled(|| self.positions()).map(|ends| ends.head)
    }

    /// Whether another ring has taken its path.
    pub(crate) fn is_closed(&self) -> Result<bool, Trouble> {
        Ok(self.word(at::CLOSED_TO_RECEIVER)? as u32 != 0)
    }
}

/// The copy of everything before the data. Offsets are those of the document, inside it.
struct Raw<'a> {
    bytes: &'a [u8],
    slot_count: u32,
}

impl Raw<'_> {
    fn u64(&self, offset: u64) -> u64 {
        le_u64(&self.bytes[offset as usize..])
    }

    fn u32(&self, offset: u64) -> u32 {
        self.u64(offset & !7).to_le_bytes()[(offset & 4) as usize..]
            .first_chunk()
            .map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn flag(&self, offset: u64, name: &str) -> Result<bool, Trouble> {
        Ok(self.choice(offset, name, 1)? != 0)
    }

    fn choice(&self, offset: u64, name: &str, most: u32) -> Result<u32, Trouble> {
        match self.u32(offset) {
            value if value <= most => Ok(value),
            value => corrupt(offset, format!("{name} is {value}, more than {most}")),
        }
    }

    fn owner_word(&self, offset: u64, name: &str) -> Result<Option<Owner>, Trouble> {
        let word = Word(self.u64(offset));
        let owner = word.owner();
        let signed = word.len() == 0 && word.state() == Some(State::Busy);
        match word.0 {
            0 => Ok(None),
            _ if signed && owner.slot < self.slot_count => Ok(Some(owner)),
            word => corrupt(offset, format!("{name} is {word:#018x}, which is nobody's")),
        }
    }

    fn check_gaps(&self, slots_end: u64) -> Result<(), Trouble> {
        let rest = (slots_end, self.bytes.len() as u64);
        for (from, to) in at::GAPS.into_iter().chain([rest]) {
            let gap = &self.bytes[from as usize..to as usize];
            if let Some(place) = gap.iter().position(|&byte| byte != 0) {
                let what = format!("{:#04x} stands where nobody writes", gap[place]);
                return corrupt(from + place as u64, what);
            }
        }
        Ok(())
    }
}

/// Capacity and number of slots, from the first bytes of a file.
fn sizes(identity: &[u8; 24]) -> Result<(u64, u32), Trouble> {
    let raw = Raw { bytes: identity, slot_count: 0 };
    let (magic, version) = (raw.u64(at::MAGIC), raw.u32(at::VERSION));
    let no_ring = |what: String| Err(Trouble::NoRing(what));
    if magic == MAGIC.swap_bytes() {
        return no_ring("a ring made by a processor of the other byte order".into());
    }
    if magic == 0 && version == VERSION {
        return no_ring("a ring that is still being made, or whose maker died".into());
    }
    if magic != MAGIC {
        return no_ring(format!(
            "not a ring of ipmpsc 0.6: {magic:#018x} stands at offset 0 and not the magic word (a \
             ring of 0.5 has none)"
        ));
    }
    if version != VERSION {
        return no_ring(format!("a ring of format {version} (offset 8); this program reads 1"));
    }
    let (capacity, slot_count) = (raw.u64(at::CAPACITY), raw.u32(at::SLOT_COUNT));
    if !capacity.is_multiple_of(WORD) || capacity < 4 * WORD {
        return corrupt(at::CAPACITY, format!("capacity is {capacity}, which no ring has"));
    }
    if !(2..=SLOTS_MAX).contains(&slot_count) {
        return corrupt(at::SLOT_COUNT, format!("slot_count is {slot_count}, which no ring has"));
    }
    Ok((capacity, slot_count))
}

/// The byte whose lock is the slot's, and where the slot's fields begin.
fn slot_offset(number: u32) -> u64 {
    SLOTS_OFFSET + SLOT_BYTES * u64::from(number)
}

fn le_u64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("every reader has checked for 8 bytes"))
}

fn no_ring(error: &std::io::Error) -> Trouble {
    Trouble::NoRing(error.to_string())
}

/// Looks again while there is a contradiction, which a ring that moves shows in passing.
fn settled<T>(mut look: impl FnMut() -> Result<T, Trouble>) -> Result<T, Trouble> {
    for _ in 1..LOOKS {
        match look() {
            Err(Trouble::Corrupt(_)) => std::thread::sleep(PAUSE),
            settled => return settled,
        }
    }
    look()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_contradiction_that_stays_is_believed() {
        let mut looks = 0;
        let passing = settled(|| {
            looks += 1;
            if looks < 3 { corrupt(7, "in passing".into()) } else { Ok(looks) }
        });
        assert_eq!(passing, Ok(3));
        let staying = settled(|| corrupt::<()>(7, "for good".into()));
        let what = "for good".into();
        assert_eq!(staying, Err(Trouble::Corrupt(Corrupt { offset: 7, what })));
        let mut looks = 0;
        let other = settled(|| {
            looks += 1;
            Err::<(), _>(Trouble::NoRing("gone".into()))
        });
        assert!(other.is_err() && looks == 1, "what is not in passing is not looked at again");
    }
}
