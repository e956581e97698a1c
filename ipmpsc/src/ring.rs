//! The algorithm: claim, commit, peek, release and recover over a mapped ring.
//!
//! Owns every access to the words of `layout.rs` that carries a message from a sender to the
//! receiver, and the two words that say who sleeps. Knows no OS, file, clock or codec: whoever
//! must wait, look whether somebody lives, or sleep does so in `event`, `roster` and `sys`.
//! The record that the receiver polls, so that it never touches the senders' line, follows
//! the idea of Agrona's ManyToOneRingBuffer; the claim lock that survives its holder is ours.
//!
//! # Invariants
//!
//! 1. Only the owner of the claim word writes `tail`, `head_cache`, and the header words at and
//!    after `tail`. It holds no user code and no copy: about fifteen instructions. The receiver is
//!    one for as long as `recover` or `go_back` takes.
//! 2. The header word at `tail` is EMPTY, or BUSY of a claim that is being made or was never
//!    finished (its owner died). `claim` stores the EMPTY after its record before the record.
//! 3. `tail - head <= capacity`, and 8 bytes at `tail` are always free (the EMPTY word).
//! 4. A BUSY record's bytes belong to its owner. It leaves that state by one CAS: by its owner
//!    (READY, PAD, SKIP), or by the receiver with proof that the owner is dead, holding the
//!    claim word.
//! 5. Only the receiver writes `head`, and only forwards over records that are not BUSY.
//! 6. `head` passes a message only when the receiver has done with its bytes.
//!
//! # Crash windows
//!
//! | a sender dies | what stands there | who deals with it |
//! |---|---|---|
//! | before taking the claim word | nothing | - |
//! | `claim-locked`, `claim-ended` | claim word; an EMPTY in free space | next claimer frees the word |
//! | `claim-marked` | and BUSY at tail, tail not moved | next claim overwrites it, or `recover` zeroes it |
//! | `claim-moved` | and tail moved | word as above; BUSY record as below |
//! | `claim-done`, `copy-half`, `copy-done` | BUSY record | `recover` turns it into SKIP |
//! | `commit-done` | READY record, receiver perhaps asleep | receiver's nap ends within 95 ms |
//! | `commit-waking` | the same, wait word already 0 | the same |
//! | `pad-moved` | BUSY record up to the ring's end | as any BUSY record |
//!
//! | the receiver dies | what stands there | what follows |
//! |---|---|---|
//! | before `release` | `head` not moved | the message comes again: at least once |
//! | after `release`, before the caller has it | `head` moved | `recv` is at most once there |
//! | `recover-locked` | claim word | freed by whoever meets it |
//! | `recover-done` | SKIP or EMPTY, claim word | as above; `recover` again finds nothing to do |
//! | `back-marked` | claim word; BUSY at tail, tail not moved | as `claim-marked` |
//! | `back-moved` | claim word; BUSY record up to the ring's end | as `claim-moved` |
//! | `back-passed` | claim word; the ring empty, at its beginning | as above |
//!
//! # Orderings
//!
//! Grep for `SYNC(`; each tag names both ends. Everything under the claim word needs no more than
//! its Acquire and Release while its holders live. When one died inside, its successor frees
//! the word by CAS after the kernel said so, which orders memory by itself; the loads of `tail`
//! and `head_cache` are Acquire all the same, so that the argument does not need the kernel.

#[cfg(not(loom))]
mod copy;
#[cfg(all(test, not(loom)))]
pub(crate) mod sim;
#[cfg(all(test, loom))]
pub(crate) mod tests;
#[cfg(all(test, not(loom)))]
mod threads;
mod warm;

use crate::atomic::{AtomicU64, Ordering, fence, loom_store_load_fence};
use crate::error::{Error, Result};
use crate::fault::hit;
use crate::layout::{HEADER_BYTES, Owner, RecordWord, State, View, span_of};
use crate::mutants::mutant;
use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
#[cfg(not(loom))]
use copy::Copier;

/// How far ahead of a record, at least, a sender asks for the lines it will write.
const PREFETCH_AHEAD: u64 = 256;

/// The shared ring, seen by one process.
#[derive(Debug)]
pub(crate) struct Ring {
    view: View,
    /// The position of offset 0 in the lap that `new_offset` met last. A hint of this process
    /// alone: any multiple of the capacity is right, a near one saves a division.
    lap: AtomicU64,
    /// The offset in that lap from which on a claim is refused as far. A hint likewise: any value
    /// up to the capacity is right.
    near: AtomicU64,
    #[cfg(not(loom))]
    copier: Copier,
}

/// A BUSY record, to be written and then committed or discarded by its owner.
#[derive(Debug)]
#[must_use]
pub(crate) struct Claim {
    /// Offset of the header word.
    pub(crate) offset: u64,
    /// Header word as claimed; its span is what was claimed.
    pub(crate) word: RecordWord,
}

/// Why a claim was not made.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The claim word is taken: its value.
    Held(u64),
    /// Not enough space, or not empty where that was asked.
    Full,
    /// So far into a large ring that the receiver might be let catch up. Then `go_far`.
    Far,
    /// Never: the ring is closed or corrupt.
    Failed(Error),
}

/// The receiver's private place in the ring.
#[derive(Debug)]
pub(crate) struct Cursor {
    head: u64,
    offset: u64,
    /// Bytes freed since blocked senders were last woken.
    freed: u64,
}

/// What stands at the receiver's place.
#[derive(Debug)]
pub(crate) enum Peeked {
    /// A message: offset and length of its payload.
    Message { offset: u64, len: u32 },
    /// Nothing claimed.
    Empty,
    /// A record that its owner is writing, or left behind.
    Busy(RecordWord),
}

fn corrupt(offset: u64) -> Error {
    Error::Corrupt { offset }
}

impl Ring {
    pub(crate) fn new(view: View) -> Self {
        #[cfg(not(loom))]
        let copier = Copier::new(view.capacity());
        let near = AtomicU64::new(warm::near_bytes(view.capacity()));
        Self {
            view,
            lap: AtomicU64::new(0),
            near,
            #[cfg(not(loom))]
            copier,
        }
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Claims `span` bytes for `messages` messages, padding to the ring's end where they do not
    /// fit before it. With `when_empty`, only if nothing is waiting to be received. After
    /// `Refused::Full` there may be a pad that the receiver is to be woken for.
    ///
    /// Always inlined, as its callers up to the send are: out of line, the result goes through
    /// memory, which costs a third of a send.
    #[inline(always)]
    pub(crate) fn claim(
        &self,
        me: Owner,
        span: u64,
        messages: u64,
        when_empty: bool,
    ) -> std::result::Result<Claim, Refused> {
        self.lock(me)?;
        let claim = self.claim_locked(me, span, messages, when_empty);
        mutant!("lock-kept", return claim);
        self.unlock();
        claim
    }

    #[inline]
    fn lock(&self, me: Owner) -> std::result::Result<(), Refused> {
        // SYNC(claim-word): Acquire pairs with the Release of `unlock` and of `free_claim`.
        // SYNC(owner-lives): Release and, where it fails, Acquire: whoever reads an owner here
        // and then its slot must not find the generation from before the owner attached.
        let claim = &self.view.header().producers.claim;
        let free = mutant!("lock-ignored", claim.load(Relaxed), 0);
        match claim.compare_exchange(free, me.word(), AcqRel, Acquire) {
            Ok(_) => {
                hit("claim-locked");
                Ok(())
            }
            Err(holder) => Err(Refused::Held(holder)),
        }
    }

    #[inline]
    fn unlock(&self) {
        let release = mutant!("unlock-relaxed", Relaxed, Release);
        // SYNC(claim-word): Release publishes all that was done under the word to `lock`.
        self.view.header().producers.claim.store(0, release);
    }

    /// Who holds the claim word: its value, if it is not free.
    pub(crate) fn claim_holder(&self) -> Option<u64> {
        // SYNC(owner-lives): Acquire, as where `lock` fails.
        Some(self.view.header().producers.claim.load(Acquire)).filter(|&holder| holder != 0)
    }

    /// Whether a claim could succeed: a look without the claim word, for waiting.
    pub(crate) fn may_fit(&self, span: u64, when_empty: bool) -> bool {
        // Acquire, but only a hint: `claim` looks again.
        let tail = self.view.header().producers.tail.load(Acquire);
        let used = tail.wrapping_sub(self.view.header().consumer.head.load(Acquire));
        let capacity = self.view.capacity();
        if used > capacity || !tail.is_multiple_of(8) {
            // Let `claim` say that it is corrupt.
            return true;
        }
        let to_end = capacity - tail % capacity;
        (used == 0 || !when_empty) && span.min(to_end) + HEADER_BYTES <= capacity - used
    }

    /// Whether an eighth of the ring is free: a hint, as `may_fit`.
    pub(crate) fn is_roomy(&self) -> bool {
        let head = self.view.header().consumer.head.load(Acquire);
        let used = self.view.header().producers.tail.load(Acquire).wrapping_sub(head);
        let capacity = self.view.capacity();
        used <= capacity - capacity / 8 || used > capacity
    }

    /// Frees the claim word of a dead holder; whatever the holder left unfinished at tail, the
    /// next claim overwrites. False if somebody else has been quicker.
    #[cold]
    pub(crate) fn free_claim(&self, dead: u64) -> bool {
        let producers = &self.view.header().producers;
        mutant!("lock-kept-from-the-dead", return false);
        let word = mutant!("lock-freed-blindly", producers.claim.load(Relaxed), dead);
        // SYNC(claim-word): as `unlock`, for one who cannot. The word names slot and generation,
        // so it cannot be a living holder's: a dead generation never comes back.
        let freed = producers.claim.compare_exchange(word, 0, AcqRel, Relaxed).is_ok();
        if freed {
            producers.takeovers.fetch_add(1, Relaxed);
        }
        freed
    }

    #[inline(always)]
    fn claim_locked(
        &self,
        me: Owner,
        span: u64,
        messages: u64,
        when_empty: bool,
    ) -> std::result::Result<Claim, Refused> {
        let producers = &self.view.header().producers;
        if mutant!("closed-ignored", 0, producers.closed.load(Relaxed)) != 0 {
            return Err(Refused::Failed(Error::Closed));
        }
        loop {
            // SYNC(tail-moved): Acquire for the case that the last claimer died in here.
            let tail = producers.tail.load(Acquire);
            if !tail.is_multiple_of(8) || tail > u64::MAX / 2 {
                return Err(Refused::Failed(corrupt(136)));
            }
            let offset = self.near_offset(tail)?;
            let to_end = self.view.capacity() - offset;
            let piece = span.min(to_end);
            if !self.has_room(tail, piece)? || (when_empty && !self.is_empty(tail)?) {
                return Err(Refused::Full);
            }
            let end = if piece == to_end { 0 } else { offset + piece };
            // Relaxed: published by the Release below, before the receiver can get there.
            mutant!("terminator-forgotten", (), self.view.word(end).store(0, Relaxed));
            hit("claim-ended");
            // The piece fits the ring, whose messages have 32-bit lengths, unless it is a pad.
            let len = u32::try_from(piece - HEADER_BYTES)
                .map_err(|_| Refused::Failed(Error::MessageTooLarge))?;
            let word = RecordWord::busy(me, len);
            mutant!("tail-first", producers.tail.store(tail + piece, Release));
            // SYNC(record-claimed): Release publishes the EMPTY word after the record to a
            // receiver that turns this record into SKIP and goes on to it.
            self.view.word(offset).store(word.0, Release);
            hit("claim-marked");
            if span <= to_end {
                // Relaxed: counters are read for people only.
                let claimed = producers.claimed.load(Relaxed);
                producers.claimed.store(claimed.wrapping_add(messages), Relaxed);
            }
            // SYNC(tail-moved): Release, for the Acquire above and those of the receiver, which
            // must then find the BUSY word.
            producers.tail.store(tail + piece, Release);
            hit("claim-moved");
            let claim = Claim { offset, word };
            if span <= to_end {
                self.view.prefetch(end + span.max(PREFETCH_AHEAD), span);
                return Ok(claim);
            }
            hit("pad-moved");
            let pad = RecordWord::pad(me, mutant!("pad-off-by-one", len.saturating_sub(8), len));
            self.publish(&claim, pad).map_err(Refused::Failed)?;
        }
    }

    /// Whether a record of `span` bytes at `tail` and the header word after it are free.
    #[inline]
    fn has_room(&self, tail: u64, span: u64) -> std::result::Result<bool, Refused> {
        let producers = &self.view.header().producers;
        let capacity = self.view.capacity();
        let wanted = mutant!("terminator-no-room", span, span + HEADER_BYTES);
        // The true use is known only when `head` is read, a cache miss; so it is read when the
        // ring seems full, and when the use seems to have grown by an eighth of the ring.
        // Relaxed: read for people only.
        let high_water = producers.high_water.load(Relaxed);
        let limit = high_water.saturating_add(capacity / 8).min(capacity);
        // SYNC(space-freed): Acquire pairs with the Release below, hence with the receiver's.
        let used = tail.wrapping_sub(producers.head_cache.load(Acquire));
        if used.saturating_add(wanted) <= limit {
            return Ok(true);
        }
        let consumer = &self.view.header().consumer;
        let head = mutant!("head-not-read-again", &producers.head_cache, &consumer.head);
        let trust = mutant!("place-trusted", true, false);
        // SYNC(space-freed): Acquire pairs with `release`: the receiver has done with the bytes
        // that are about to be overwritten.
        let head = head.load(mutant!("space-relaxed", Relaxed, Acquire));
        let used = tail.wrapping_sub(head);
        if !trust && (!head.is_multiple_of(8) || used > capacity) {
            return Err(Refused::Failed(corrupt(256)));
        }
        // SYNC(space-freed): Release hands the receiver's Release on to later claimers.
        producers.head_cache.store(head, Release);
        let fits = wanted <= capacity - used;
        let use_now = used + if fits { span } else { 0 };
        if use_now > high_water {
            producers.high_water.store(use_now, Relaxed);
        }
        Ok(fits)
    }

    fn is_empty(&self, tail: u64) -> std::result::Result<bool, Refused> {
        // SYNC(space-freed): Acquire, as in `has_room`.
        let head = self.view.header().consumer.head.load(Acquire);
        if !head.is_multiple_of(8) || tail.wrapping_sub(head) > self.view.capacity() {
            // `may_fit` sends its callers here to be told.
            return Err(Refused::Failed(corrupt(256)));
        }
        Ok(head == tail)
    }

    /// Offset of a sender's position, unless it is far.
    #[inline]
    fn near_offset(&self, position: u64) -> std::result::Result<u64, Refused> {
        // Relaxed: any value that was ever stored is a start of a lap, and of `near` up to the
        // capacity, so that what is below it is an offset.
        let offset = position.wrapping_sub(self.lap.load(Relaxed));
        if offset < self.near.load(Relaxed) { Ok(offset) } else { self.new_offset(position) }
    }

    /// Writes the header of a message or pad inside a claimed span, for `commit` to publish.
    pub(crate) fn write_inner(&self, claim: &Claim, at: u64, word: RecordWord) {
        debug_assert!(at >= HEADER_BYTES && at + word.span() <= claim.word.span());
        // Relaxed: the receiver does not look here before the commit's Release.
        self.view.word(claim.offset + at).store(word.0, Relaxed);
    }

    /// The address of `len` payload bytes at `offset`, inside the ring.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn payload(&self, offset: u64, len: usize) -> *mut u8 {
        assert!(len as u64 <= self.view.capacity() - offset, "a payload inside the ring");
        self.view.payload(offset).as_ptr()
    }

    /// Publishes the record as a message of `len` bytes. What was claimed beyond it must have
    /// been given headers by `write_inner`.
    #[inline]
    pub(crate) fn commit(&self, claim: &Claim, len: u32) -> Result<()> {
        self.publish(claim, RecordWord::ready(claim.word.owner(), len))
    }

    /// Gives the claimed bytes up.
    #[cold]
    pub(crate) fn discard(&self, claim: &Claim) -> Result<()> {
        self.publish(claim, RecordWord::skip(claim.word.owner(), claim.word.len()))
    }

    #[inline]
    fn publish(&self, claim: &Claim, word: RecordWord) -> Result<()> {
        let header = self.view.word(claim.offset);
        let order = mutant!("publish-relaxed", Relaxed, SeqCst);
        let before = mutant!("commit-blind", header.load(Relaxed), claim.word.0);
        // SYNC(record-published): Release publishes the payload, and the EMPTY word after it,
        // to `peek`. SeqCst for the look at `receiver_wait` that follows: SYNC(receiver-wait).
        let won = header.compare_exchange(before, word.0, order, Relaxed).is_ok();
        hit("commit-done");
        if won { Ok(()) } else { Err(Error::Evicted) }
    }

    /// After a publish: whether the receiver sleeps and is the caller's to wake. Of several
    /// senders that see it asleep, one gets the wake to do; the receiver sets the word again
    /// before it sleeps again.
    #[inline]
    pub(crate) fn take_receiver_wake(&self) -> bool {
        loom_store_load_fence();
        let wait = &self.view.header().receiver_wait.0;
        mutant!("wake-omitted", return false);
        // SYNC(receiver-wait): SeqCst. Either this load sees the 1 of `arm_receiver`, or the
        // receiver's look at the record after it sees what was published.
        wait.load(SeqCst) != 0 && wait.swap(0, SeqCst) != 0
    }

    /// Before the receiver looks a last time and sleeps.
    pub(crate) fn arm_receiver(&self) {
        // SYNC(receiver-wait): see `take_receiver_wake`. A swap, not a store, although the memory
        // model needs none: loom does not know that nothing comes between a swap's read and its
        // write, and lets a sender see the 0 of an earlier swap.
        let order = mutant!("receiver-fence-forgotten", Relaxed, SeqCst);
        self.view.header().receiver_wait.0.swap(1, order);
        mutant!("receiver-fence-forgotten", (), fence(SeqCst));
    }

    /// After the receiver slept or found something. Relaxed: a wake in vain does no harm.
    pub(crate) fn disarm_receiver(&self) {
        self.view.header().receiver_wait.0.swap(0, Relaxed);
    }

    /// Before a sender looks a last time for space and sleeps: the word to sleep on.
    pub(crate) fn arm_sender(&self) -> u32 {
        // SYNC(space-wait): see `take_space_wake`.
        let before = self.view.header().space_wait.0.fetch_or(1, SeqCst);
        fence(SeqCst);
        before | 1
    }

    /// After a sender was woken: others may sleep as well.
    pub(crate) fn rearm_sender(&self) {
        mutant!("rearm-forgotten", return);
        // Relaxed: a hint to the receiver's next look.
        self.view.header().space_wait.0.fetch_or(1, Relaxed);
    }

    /// Whether senders sleep for space, one of which is to be woken. That one sets the word again
    /// (`arm_sender` or `rearm_sender`), so that the next is woken when more is freed: waking
    /// all at once costs the receiver more than they gain. A sender that sets the word after
    /// this look finds the space by its own last look, or sleeps until more is freed. If the
    /// woken one dies first, the others' naps end by themselves.
    #[cold]
    pub(crate) fn take_space_wake(&self, cursor: &mut Cursor) -> bool {
        cursor.freed = 0;
        mutant!("space-wake-omitted", return false);
        // SYNC(space-wait): the fence orders the store of `head` before the look at the word,
        // against `arm_sender` and its look at `head`.
        mutant!("space-fence-forgotten", (), fence(SeqCst));
        let wait = &self.view.header().space_wait.0;
        let word = wait.load(Relaxed);
        // Odd + 1 is even: nobody waits, and it differs from every value slept on before.
        word & 1 == 1 && wait.compare_exchange(word, word.wrapping_add(1), SeqCst, Relaxed).is_ok()
    }

    /// Makes every sender that is about to sleep look again; wake those that do so already.
    pub(crate) fn disturb_senders(&self) {
        // By 2: still odd if somebody waits, yet another word than the one slept on.
        self.view.header().space_wait.0.fetch_add(2, SeqCst);
    }

    /// Whether so much has been freed, with somebody waiting, that `take_space_wake` is due.
    #[inline]
    pub(crate) fn space_wake_due(&self, cursor: &Cursor) -> bool {
        // Relaxed and without a fence: a waiter missed here is seen by the next message's look,
        // by the fenced one before the receiver sleeps, or wakes by itself.
        self.view.header().space_wait.0.load(Relaxed) & 1 == 1
            && cursor.freed >= self.view.capacity() / 4
    }

    /// Whether anything has been freed since the last `take_space_wake`.
    pub(crate) fn has_freed(&self, cursor: &Cursor) -> bool {
        cursor.freed > 0
    }

    /// The receiver's place as its predecessor left it.
    pub(crate) fn cursor(&self) -> Result<Cursor> {
        let header = self.view.header();
        // SYNC(space-freed): Acquire; the predecessor is dead or gone.
        let head = header.consumer.head.load(Acquire);
        // SYNC(tail-moved): Acquire.
        let tail = header.producers.tail.load(Acquire);
        let plausible = head.is_multiple_of(8) && head <= u64::MAX / 2;
        if !plausible || tail.wrapping_sub(head) > self.view.capacity() {
            return Err(corrupt(256));
        }
        Ok(Cursor { head, offset: head % self.view.capacity(), freed: 0 })
    }

    /// Looks at the next record, passing pads and skipped ones.
    #[inline]
    pub(crate) fn peek(&self, cursor: &mut Cursor) -> Result<Peeked> {
        loop {
            let acquire = mutant!("peek-relaxed", Relaxed, Acquire);
            // SYNC(record-published): Acquire pairs with `publish`; for a BUSY word, with
            // SYNC(record-claimed).
            let word = RecordWord(self.view.word(cursor.offset).load(acquire));
            match word.state() {
                State::Ready => {
                    self.check_span(cursor, word)?;
                    mutant!("head-early", self.free_early(cursor.head + word.span()));
                    let offset = cursor.offset + HEADER_BYTES;
                    return Ok(Peeked::Message { offset, len: word.len() });
                }
                State::Empty => return Ok(Peeked::Empty),
                State::Busy => return Ok(Peeked::Busy(word)),
                State::Pad | State::Skip => self.pass(cursor, word)?,
                State::Nonsense => return Err(corrupt(self.file_offset(cursor))),
            }
        }
    }

    #[cold]
    fn pass(&self, cursor: &mut Cursor, word: RecordWord) -> Result<()> {
        self.check_span(cursor, word)?;
        // SYNC(tail-moved): Acquire. A record that has left BUSY lies before tail; this check
        // is what ends the loop of `peek` over a file full of pads.
        let tail = self.view.header().producers.tail.load(Acquire);
        if tail.wrapping_sub(cursor.head) < word.span() {
            return Err(corrupt(self.file_offset(cursor)));
        }
        if word.state() == State::Skip {
            bump(&self.view.header().consumer.discarded, 1);
        }
        self.advance(cursor, word.len());
        mutant!("skip-not-passed", (), self.release(cursor, 0));
        Ok(())
    }

    #[inline]
    fn check_span(&self, cursor: &Cursor, word: RecordWord) -> Result<()> {
        let trust = mutant!("length-trusted", true, false);
        if trust || word.span() <= self.view.capacity() - cursor.offset {
            Ok(())
        } else {
            Err(corrupt(self.file_offset(cursor)))
        }
    }

    /// Moves the private place over a record of `len` payload bytes that `peek` showed.
    #[inline]
    pub(crate) fn advance(&self, cursor: &mut Cursor, len: u32) {
        let span = span_of(u64::from(len));
        cursor.head += span;
        cursor.offset += span;
        cursor.freed += span;
        if cursor.offset == self.view.capacity() {
            cursor.offset = 0;
        }
    }

    /// Frees everything before the place, after `messages` messages.
    #[inline]
    pub(crate) fn release(&self, cursor: &Cursor, messages: u64) {
        let consumer = &self.view.header().consumer;
        bump(&consumer.received, messages);
        // SYNC(space-freed): Release: the receiver has done with the bytes before `head`.
        consumer.head.store(cursor.head, mutant!("head-relaxed", Relaxed, Release));
    }

    #[cfg(feature = "mutant")]
    fn free_early(&self, head: u64) {
        self.view.header().consumer.head.store(head, Release);
    }

    /// When `peek` says empty and the receiver is about to wait: whether that can be true.
    #[cold]
    pub(crate) fn check_empty(&self, cursor: &Cursor) -> Result<()> {
        // SYNC(tail-moved): Acquire; a tail beyond head means that a header stands at head.
        let tail = self.view.header().producers.tail.load(Acquire);
        let word = self.view.word(cursor.offset).load(Acquire);
        if tail == cursor.head || word != 0 {
            return Ok(());
        }
        Err(corrupt(self.file_offset(cursor)))
    }

    /// Turns the record `busy` at the receiver's place, whose owner is dead, into one that
    /// `peek` passes. Idempotent: whoever dies in here leaves it to be done again.
    #[cold]
    pub(crate) fn recover(
        &self,
        cursor: &Cursor,
        me: Owner,
        busy: RecordWord,
    ) -> std::result::Result<(), Refused> {
        // Under the claim word nobody makes or remakes a claim at this place (invariant 1).
        self.lock(me)?;
        hit("recover-locked");
        let header = self.view.header();
        let word = self.view.word(cursor.offset);
        // SYNC(tail-moved): Acquire.
        let moved = header.producers.tail.load(Acquire) != cursor.head;
        let made = mutant!("reclaim-as-made", true, moved);
        let next = if made { RecordWord::skip(busy.owner(), busy.len()).0 } else { 0 };
        // SYNC(record-claimed): Acquire. A failure means that it is another record by now.
        if word.compare_exchange(busy.0, next, AcqRel, Relaxed).is_ok() {
            bump(&header.consumer.reclaimed, 1);
        }
        hit("recover-done");
        self.unlock();
        Ok(())
    }

    /// Whether another ring has taken this one's path.
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: the word only ever goes from 0 to 1, and nothing is read after it.
        self.view.header().consumer.closed.load(Relaxed) != 0
    }

    /// Tells everyone attached that another ring has taken this one's path.
    pub(crate) fn close(&self) {
        // Relaxed: as in `is_closed`.
        self.view.header().producers.closed.store(1, Relaxed);
        self.view.header().consumer.closed.store(1, Relaxed);
    }

    #[cold]
    fn file_offset(&self, cursor: &Cursor) -> u64 {
        self.view.geometry().data_offset() + cursor.offset
    }
}

/// Adds to a counter that only the caller's role writes. Relaxed: read for people only.
#[inline]
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}
