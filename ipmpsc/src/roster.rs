//! Slots, and who is alive.
//!
//! A process that sends or receives takes a slot: it locks the slot's byte of the file, then one
//! of the slot's two life bytes, counts the slot's generation up, and from then on signs with
//! (slot, generation). The kernel frees the locks when the process dies, and only then. So:
//!
//! 1. (slot, generation) is dead if the generation is another or its life byte is not locked.
//!    "Cannot tell" means alive: nothing is ever taken from the living, nor on a timeout.
//!    Odd generations have one life byte and even ones the other. So whoever has the slot's byte
//!    and has not counted yet, stopped there perhaps, does not pass for the last owner.
//! 2. Attaching repairs nothing. Whatever the slot's last owner left carries an old generation,
//!    so it is dead by definition, and whoever meets it deals with it.
//! 3. Where the system refuses locks and rings must work all the same (Android, whose policy may),
//!    a process takes a slot that no lock was ever asked for, by marking its generation
//!    `UNLOCKED` and `HELD`. It lives until it takes the mark back: if it is killed, nobody ever
//!    knows. A slot stays with the one kind or the other for good, so that neither need see the
//!    other's holders to keep out.
//! 4. What this process must not share with a child made by fork (its slot, its lock, its role)
//!    stands in memory that a fork wipes. A child finds itself unattached and attaches anew.
//!
//! A generation has 32 bits in the slot and 16 in a signature. A record left behind would have
//! to lie at the ring's head while its slot is taken 65,536 times to be held for a living one's,
//! and then only until that one leaves.

use crate::atomic::Ordering;
use crate::error::{Error, Result};
use crate::fault::{acts_as_android, hit};
use crate::layout::{COUNT, HELD, Owner, SLOTS_OFFSET, Slot, UNLOCKED, View};
use crate::mutants::mutant;
use crate::sys::{self, ForkPrivate, Life};
use Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// What a mapping wants a slot for: the first slot is kept for a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Sender,
    Receiver,
}

/// This process's place among those attached.
#[derive(Debug)]
pub(crate) struct Roster {
    /// Locks nothing: it asks about the others' locks, and is what clones of the file are.
    file: File,
    /// What `file` must be: a program that closes all descriptors, to become a daemon say, may
    /// have another file under this one's number by now.
    identity: [u64; 2],
    path: Option<PathBuf>,
    private: ForkPrivate,
    /// Sender handles of this mapping in this process; a child made by fork has as many.
    senders: AtomicU32,
}

/// Words of the memory that a fork wipes.
mod private {
    /// The owner word, 0 while not attached.
    pub(super) const OWNER: usize = 0;
    /// 1 while a thread attaches or changes the number of senders.
    pub(super) const LOCK: usize = 1;
    /// Address of the boxed `Life`; 0 if none, as for one that is attached without a lock.
    pub(super) const LIFE: usize = 2;
    /// Number of the `Receiver` that has the role, 0 if none.
    pub(super) const RECEIVER: usize = 3;
    /// 1 in the process that made the ring's temporary file, which removes it.
    pub(super) const CREATOR: usize = 4;
}

impl Roster {
    pub(crate) fn new(file: File, path: Option<PathBuf>) -> Result<Self> {
        let private = ForkPrivate::new()?;
        let identity = sys::identity(&file)?;
        Ok(Self { file, identity, path, private, senders: AtomicU32::new(0) })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.private.words()[index]
    }

    /// This process's signature, taking a slot if it has none.
    #[inline]
    pub(crate) fn me(&self, view: &View, role: Role) -> Result<Owner> {
        // SYNC(owner-lives): Acquire pairs with the Release in `attach`, by another thread.
        match self.word(private::OWNER).load(Acquire) {
            0 => self.locked(|| self.attach(view, role)),
            word => Ok(Owner::of(word)),
        }
    }

    /// Runs `f` with the threads of this process excluded. Not a `Mutex`: a fork while another
    /// thread holds it must leave it free in the child.
    fn locked<R>(&self, f: impl FnOnce() -> R) -> R {
        let lock = self.word(private::LOCK);
        // Acquire and Release: an ordinary lock among threads. Its holder makes a few system
        // calls and runs no code of the user's, so waiting for it ends.
        while lock.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            std::thread::yield_now();
        }
        let result = f();
        lock.store(0, Release);
        result
    }

    #[cold]
    fn attach(&self, view: &View, role: Role) -> Result<Owner> {
        let word = self.word(private::OWNER).load(Relaxed);
        if word != 0 {
            return Ok(Owner::of(word));
        }
        let (owner, life) = match self.attach_locked(view, role) {
            Err(error) if works_without(&error) => {
                let owner = attach_unlocked(view, role)?;
                self.show_senders(view, owner);
                (owner, None)
            }
            attached => attached.map(|(owner, life)| (owner, Some(life)))?,
        };
        let life = life.map_or(0, |life| Box::into_raw(Box::new(life)) as usize as u64);
        self.word(private::LIFE).store(life, Relaxed);
        // SYNC(owner-lives): Release, for the other threads' Acquire in `me`.
        self.word(private::OWNER).store(owner.word(), Release);
        Ok(owner)
    }

    fn attach_locked(&self, view: &View, role: Role) -> Result<(Owner, Life)> {
        let (number, slot, file, before) = loop {
            let (number, file) = self.lock_a_slot(view, role)?;
            let slot = view.slot(number).ok_or(Error::TooManySenders)?;
            // Only a slot that nobody has used yet can become another's while we have its lock.
            // Relaxed: nothing is read by it. If it fails, the slot is passed over from now on.
            let taken = slot.generation.compare_exchange(0, 1, Relaxed, Relaxed);
            let before = taken.unwrap_or_else(|before| before);
            if before & UNLOCKED == 0 {
                break (number, slot, file, before);
            }
        };
        // The slot is ours, so nobody else counts it. 0 is left to slots that nobody has used, and
        // 1 has the life byte of the highest count.
        let more = mutant!("generation-kept", 0, 1);
        let generation = match before.wrapping_add(more) & COUNT {
            0 => 2,
            count => count,
        };
        hit("attach-slot");
        if !sys::try_lock(&file, life_byte(number, generation))? {
            // Nobody who keeps the rules has it.
            return Err(Error::LivenessUnavailable(std::io::ErrorKind::WouldBlock.into()));
        }
        hit("attach-locked");
        let header_len = view.geometry().data_offset() as usize;
        let life = Life::keep(file, header_len)?;
        // Relaxed: published by the generation below; read for counting only.
        slot.senders.store(self.senders.load(Relaxed), Relaxed);
        slot.blocked.store(0, Relaxed);
        slot.pid.store(std::process::id(), Relaxed);
        // SYNC(owner-lives): Release pairs with the Acquire in `is_dead`.
        slot.generation.store(generation, Release);
        hit("attach-counted");
        if !life.sees(slot_byte(number) as usize, generation) {
            // Two mappings of one file that differ: no ring can work on this file system.
            return Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into());
        }
        Ok((Owner { slot: number as u16, generation: generation as u16 }, life))
    }

    /// Locks a free slot's byte through a description of its own.
    fn lock_a_slot(&self, view: &View, role: Role) -> Result<(u32, File)> {
        let file = sys::open_again(&self.file).and_then(|file| self.check(file));
        let file = file.or_else(|error| self.open_path().ok_or(error))?;
        for (number, slot) in slots_for(view, role) {
            // Relaxed: `attach_locked` looks again once it has the lock.
            if slot.generation.load(Relaxed) & UNLOCKED != 0 {
                continue;
            }
            if sys::try_lock(&file, slot_byte(number)).map_err(Error::LivenessUnavailable)? {
                return Ok((number, file));
            }
        }
        Err(Error::TooManySenders)
    }

    /// Whether the owner of this word is certainly dead.
    #[cold]
    pub(crate) fn is_dead(&self, view: &View, word: u64) -> bool {
        let owner = Owner::of(word);
        // A slot that does not exist is nobody's.
        let Some(slot) = view.slot(owner.slot.into()) else {
            return true;
        };
        // SYNC(owner-lives): Acquire.
        let generation = slot.generation.load(Acquire);
        let checked = mutant!("generation-ignored", false, true);
        if checked && generation as u16 != owner.generation {
            return true;
        }
        !self.is_held(owner.slot.into(), generation)
    }

    /// Whether whoever took this slot as this generation lives, or might.
    fn is_held(&self, number: u32, generation: u32) -> bool {
        match generation {
            generation if generation & UNLOCKED != 0 => generation & HELD != 0,
            generation => self.is_locked(life_byte(number, generation)),
        }
    }

    /// Whether the death of anybody attached, or of this process once it is, would be seen.
    pub(crate) fn sees_deaths(&self, view: &View) -> bool {
        let mut slots = (0..view.geometry().slot_count).filter_map(|number| view.slot(number));
        // Relaxed: what is said holds for a moment only.
        let unlocked = |slot: &Slot| slot.generation.load(Relaxed) & HELD_UNLOCKED == HELD_UNLOCKED;
        !slots.any(unlocked) && sys::is_locked(&self.file, slot_byte(0)).is_ok()
    }

    fn is_locked(&self, byte: u32) -> bool {
        mutant!("locks-unseen", return false);
        // If the system does not say, it lives.
        let ask = |file: &File| sys::is_locked(file, byte).unwrap_or(true);
        if ask(&self.file) {
            return true;
        }
        if sys::identity(&self.file).is_ok_and(|identity| identity == self.identity) {
            return false;
        }
        self.open_path().is_none_or(|file| ask(&file))
    }

    /// The ring's file by its path, if it is still there.
    fn open_path(&self) -> Option<File> {
        self.check(sys::open(self.path.as_ref()?).ok()?).ok()
    }

    /// Passes on the ring's file and no other.
    fn check(&self, file: File) -> std::io::Result<File> {
        if sys::identity(&file)? == self.identity {
            Ok(file)
        } else {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    /// Whether this word is signed by this very process: not by the parent that it was forked
    /// from.
    pub(crate) fn is_mine(&self, word: u64) -> bool {
        let me = self.word(private::OWNER).load(Relaxed);
        me != 0 && Owner::of(word) == Owner::of(me)
    }

    /// Adds or removes a sender handle. Attaches if it can; the first send says why not.
    pub(crate) fn add_sender(&self, view: &View) {
        self.locked(|| {
            self.senders.fetch_add(1, Relaxed);
            if let Ok(owner) = self.attach(view, Role::Sender) {
                self.show_senders(view, owner);
            }
        });
        view.header().producers.attaches.fetch_add(1, Relaxed);
    }

    /// Removes a sender handle; true if it was the last one of this process.
    pub(crate) fn remove_sender(&self, view: &View) -> bool {
        self.locked(|| {
            let last = self.senders.fetch_sub(1, Relaxed) == 1;
            let word = self.word(private::OWNER).load(Relaxed);
            if word != 0 {
                self.show_senders(view, Owner::of(word));
            }
            last
        })
    }

    fn show_senders(&self, view: &View, owner: Owner) {
        if let Some(slot) = view.slot(owner.slot.into()) {
            // Release: a message sent before the last sender left is seen by who sees it gone.
            slot.senders.store(self.senders.load(Relaxed), Release);
        }
    }

    /// Counts a sender that waits for space, or, with -1, has done so.
    pub(crate) fn count_blocked(&self, view: &View, me: Owner, by: i32) {
        if let Some(slot) = view.slot(me.slot.into()) {
            slot.blocked.fetch_add(by.cast_unsigned(), Relaxed);
        }
    }

    /// Sums a field over the slots of the living. Asks the system about every slot that has any.
    pub(crate) fn sum_living(&self, view: &View, field: impl Fn(&Slot) -> &AtomicU32) -> u32 {
        let slots = slots_for(view, Role::Receiver);
        // SYNC(senders-left): Acquire pairs with the Release of `show_senders`.
        let values = slots.map(|(number, slot)| (number, slot, field(slot).load(Acquire)));
        values
            .filter(|&(number, slot, value)| {
                // SYNC(owner-lives): Acquire.
                value != 0 && self.is_held(number, slot.generation.load(Acquire))
            })
            .fold(0, |sum, (_, _, value)| sum.saturating_add(value))
    }

    /// Whether the receiver numbered `id` of this process has the receiver's role.
    #[inline]
    pub(crate) fn is_receiver(&self, id: u64) -> bool {
        // Relaxed: only the receiver itself, borrowed exclusively, acts on it.
        self.word(private::RECEIVER).load(Relaxed) == id
    }

    /// Makes the receiver numbered `id` of this process the ring's one receiver.
    #[cold]
    pub(crate) fn take_role(&self, view: &View, id: u64) -> Result<()> {
        self.locked(|| {
            if self.word(private::RECEIVER).load(Relaxed) != 0 {
                return Err(Error::ReceiverExists);
            }
            let me = self.attach(view, Role::Receiver)?.word();
            let owner = &view.header().consumer.owner;
            // SYNC(receiver-role): Acquire pairs with the Release of `leave_role`.
            let before = owner.load(Acquire);
            let free = before == 0 || before == crate::layout::RECEIVER_GONE;
            let kept = mutant!("role-taken-from-the-living", false, true);
            if kept && !free && !self.is_dead(view, before) {
                return Err(Error::ReceiverExists);
            }
            // SYNC(owner-lives), SYNC(receiver-role): AcqRel.
            if owner.compare_exchange(before, me, AcqRel, Relaxed).is_err() {
                return Err(Error::ReceiverExists);
            }
            self.word(private::RECEIVER).store(id, Relaxed);
            Ok(())
        })
    }

    /// Gives the role back, if the receiver numbered `id` has it.
    pub(crate) fn leave_role(&self, view: &View, id: u64) -> bool {
        if !self.is_receiver(id) {
            return false;
        }
        self.locked(|| {
            let me = self.word(private::OWNER).load(Relaxed);
            let gone = crate::layout::RECEIVER_GONE;
            // SYNC(receiver-role): Release publishes `head` to the successor.
            let left = view.header().consumer.owner.compare_exchange(me, gone, AcqRel, Relaxed);
            self.word(private::RECEIVER).store(0, Relaxed);
            left.is_ok()
        })
    }

    /// Whether there was a receiver and it is dead or has left.
    #[cold]
    pub(crate) fn receiver_gone(&self, view: &View) -> bool {
        match view.header().consumer.owner.load(Acquire) {
            0 => false,
            crate::layout::RECEIVER_GONE => true,
            word => self.is_dead(view, word),
        }
    }

    /// Whether there is a receiver and it lives.
    pub(crate) fn receiver_lives(&self, view: &View) -> bool {
        view.header().consumer.owner.load(Acquire) != 0 && !self.receiver_gone(view)
    }

    /// Marks this process, not its children, as the one that removes the ring's file.
    pub(crate) fn set_creator(&self) {
        self.word(private::CREATOR).store(1, Relaxed);
    }

    pub(crate) fn is_creator(&self) -> bool {
        self.word(private::CREATOR).load(Relaxed) == 1
    }

    /// Leaves the slot. What a child made by fork has inherited stays untouched.
    pub(crate) fn detach(&self, view: &View) {
        let owner = self.word(private::OWNER).swap(0, Relaxed);
        if owner == 0 {
            return;
        }
        hit("detach");
        if let Some(slot) = view.slot(Owner::of(owner).slot.into()) {
            slot.senders.store(0, Relaxed);
            slot.blocked.store(0, Relaxed);
        }
        let life = self.word(private::LIFE).swap(0, Relaxed);
        if life == 0 {
            leave_unlocked(view, Owner::of(owner));
            return;
        }
        // SAFETY: the word is not 0 only where `attach` of this very process stored the address
        // of a box there (a fork wipes it), and the swap takes it once.
        drop(unsafe { Box::from_raw(life as usize as *mut Life) });
    }
}

/// The slots that one of this role may take, in the order of preference: the first is a
/// receiver's, who takes another if it must.
fn slots_for(view: &View, role: Role) -> impl Iterator<Item = (u32, &Slot)> {
    let first = if role == Role::Receiver { 0 } else { 1 };
    (first..view.geometry().slot_count).filter_map(|number| Some((number, view.slot(number)?)))
}

/// In a generation: somebody without a lock has the slot.
const HELD_UNLOCKED: u32 = UNLOCKED | HELD;

/// Takes a slot that nobody has used, or one that was left by somebody who had no lock either.
fn attach_unlocked(view: &View, role: Role) -> Result<Owner> {
    for (number, slot) in slots_for(view, role) {
        let before = slot.generation.load(Relaxed);
        if before != 0 && before & HELD_UNLOCKED != UNLOCKED {
            continue;
        }
        let generation = HELD_UNLOCKED | (before.wrapping_add(1) & COUNT);
        // SYNC(owner-lives): AcqRel, with the other's `leave_unlocked` and with `is_held`. Of many
        // that want this slot, one gets it.
        if slot.generation.compare_exchange(before, generation, AcqRel, Relaxed).is_ok() {
            slot.pid.store(std::process::id(), Relaxed);
            return Ok(Owner { slot: number as u16, generation: generation as u16 });
        }
    }
    Err(Error::TooManySenders)
}

/// Takes the mark back, and makes what this owner has signed a dead one's.
fn leave_unlocked(view: &View, owner: Owner) {
    if let Some(slot) = view.slot(owner.slot.into()) {
        // The slot is ours, so nobody else counts it.
        let generation = slot.generation.load(Relaxed);
        // SYNC(owner-lives): Release, for the next owner and for `is_held`.
        slot.generation.store(UNLOCKED | (generation.wrapping_add(1) & COUNT), Release);
    }
}

/// Whether a ring works in spite of this error, all others' lives and this one's unknown. Only on
/// Android, whose policy refuses locks of files, or files once more, and whose oldest kernels have
/// no such locks; elsewhere it is the caller who has to choose another folder.
pub(crate) fn works_without(error: &Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    let (Error::LivenessUnavailable(error) | Error::Io(error)) = error else {
        return false;
    };
    (sys::MAY_REFUSE_LOCKS || acts_as_android())
        && matches!(error.kind(), PermissionDenied | Unsupported | InvalidInput)
}

/// The byte of the file whose lock keeps others out of the slot.
fn slot_byte(slot: u32) -> u32 {
    SLOTS_OFFSET as u32 + 16 * slot
}

/// The byte whose lock shows that the slot's owner of this generation lives.
fn life_byte(slot: u32, generation: u32) -> u32 {
    slot_byte(slot) + 1 + mutant!("one-life-byte", 0, generation & 1)
}
