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
//! 1. Only the owner of the claim word writes `tail`, `room`, `turn`, and the header words at and
//!    after `tail`. It holds no user code and no copy: about fifteen instructions. The receiver is
//!    one for as long as `recover` takes.
//! 2. The header word at `tail` is EMPTY, or BUSY of a claim that is being made or was never
//!    finished (its owner died). `claim` stores the EMPTY after its record before the record.
//! 3. `tail - head <= capacity`, and 8 bytes at `tail` are always free (the EMPTY word). Where a
//!    lap was ended early and the next one went on behind that turn, `tail - head` is more for as
//!    long as `head` is before the turn; then `tail` may not pass the lap's end (`warm.rs`).
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
//! | `claim-rousing` | BUSY record, receiver perhaps asleep, wait word ROUSED | next claimer rouses it |
//! | `commit-done` | READY record, receiver perhaps napping | receiver's nap ends within 95 ms |
//! | `commit-waking` | the same, wait word already 0 | the same |
//! | `claim-moved`, of a turn | the same; `turn` still names an old one | the lap is not reopened |
//! | `pad-moved` | BUSY record up to the ring's end, or over what is not received | as any BUSY record |
//!
//! | the receiver dies | what stands there | what follows |
//! |---|---|---|
//! | before `release` | `head` not moved | the message comes again: at least once |
//! | after `release`, before the caller has it | `head` moved | `recv` is at most once there |
//! | `recover-locked` | claim word | freed by whoever meets it |
//! | `recover-done` | SKIP or EMPTY, claim word | as above; `recover` again finds nothing to do |
//!
//! # Naps and sleeps
//!
//! Between a commit and its wake a sender can die, and so the receiver only naps while anything is
//! claimed. While nothing is, it sleeps until it is roused: a sender that claims looks for that
//! (`must_rouse`) and rouses it before it commits. Whoever dies before that has committed nothing,
//! and leaves the word as it is, so that the next to claim rouses.
//!
//! # Orderings
//!
//! Grep for `SYNC(`; each tag names both ends. Everything under the claim word needs no more than
//! its Acquire and Release while its holders live. When one died inside, its successor frees
//! the word by CAS after the kernel said so, which orders memory by itself; the loads of `tail`
//! and `room` are Acquire all the same, so that the argument does not need the kernel.

#[cfg(not(loom))]
mod copy;
#[cfg(all(test, not(loom)))]
pub(crate) mod sim;
mod space;
#[cfg(all(test, loom))]
pub(crate) mod tests;
#[cfg(all(test, not(loom)))]
mod threads;
mod warm;

use crate::atomic::{AtomicU64, Ordering, fence, loom_store_load_fence};
use crate::error::{Error, Result};
use crate::fault::hit;
use crate::layout::{AWAKE, HEADER_BYTES, Header, NAPS, Owner, ROUSED, RecordWord, SLEEPS};
use crate::layout::{State, View, span_of};
use crate::mutants::mutant;
use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
#[cfg(not(loom))]
use copy::Copier;
#[cfg(not(loom))]
pub(crate) use copy::{Reading, is_large};

/// How far ahead of a record, at least, a sender asks for the lines it will write.
const PREFETCH_AHEAD: u64 = 256;

/// The shared ring, seen by one process.
#[derive(Debug)]
pub(crate) struct Ring {
    view: View,
    /// The position of offset 0 in the lap that `look_far` met last. A hint of this process
    /// alone: any multiple of the capacity is right, a near one saves a division.
    lap: AtomicU64,
    /// The offset in that lap from which on a claim is to look whether it is far. A hint likewise:
    /// any value up to the capacity is right.
    near: AtomicU64,
    /// What `near` is at the beginning of each lap, in bytes.
    warm: u64,
    /// For how many messages of the length at hand it leaves room at least.
    warm_messages: u64,
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

/// The senders' place in the ring.
#[derive(Clone, Copy, Debug)]
struct Place {
    tail: u64,
    /// `tail` modulo the capacity.
    offset: u64,
}

/// Why a claim was not made.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The claim word is taken: its value.
    Held(u64),
    /// Not enough space, or not empty where that was asked.
    Full,
    /// Only far into a large ring, unless the receiver catches up. If it does not, `go_far`.
    Far,
    /// Never: the ring is closed or corrupt.
    Failed(Error),
}

/// What comes of trying to claim, or to do something else under the claim word.
pub(crate) type Attempt<T> = std::result::Result<T, Refused>;

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
        let warm = warm::warm_bytes(view.capacity());
        Self {
            view,
            lap: AtomicU64::new(0),
            near: AtomicU64::new(warm),
            warm,
            warm_messages: warm::WARM_MESSAGES,
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
    ) -> Attempt<Claim> {
        self.lock(me)?;
        let claim = self.claim_locked(me, span, messages, when_empty);
        mutant!("lock-kept", return claim);
        self.unlock();
        claim
    }

    #[inline]
    fn lock(&self, me: Owner) -> Attempt<()> {
        // SYNC(claim-word): Acquire pairs with the Release of `unlock` and of `free_claim`.
        // SYNC(owner-lives): Release and, where it fails, Acquire: whoever reads an owner here
        // and then its slot must not find the generation from before the owner attached.
        // SYNC(receiver-sleep): SeqCst, for the load of `must_rouse` that follows.
        let claim = &self.view.header().producers.claim;
        let free = mutant!("lock-ignored", claim.load(Relaxed), 0);
        match claim.compare_exchange(free, me.word(), SeqCst, Acquire) {
            Ok(_) => {
                loom_store_load_fence();
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
    ) -> Attempt<Claim> {
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
            let offset = match self.near_offset(tail) {
                Some(offset) => offset,
                None => match self.look_far(me, tail, span, when_empty)? {
                    Some(offset) => offset,
                    None => continue,
                },
            };
            let place = Place { tail, offset };
            let to_end = self.view.capacity() - offset;
            if !self.has_room(place, span.min(to_end))? || (when_empty && !self.is_empty(place)?) {
                return Err(self.full(place, span, when_empty));
            }
            if span > to_end {
                self.pad(me, place, to_end, false)?;
                continue;
            }
            let claim = self.mark(me, place, span)?;
            // Relaxed: counters are read for people only.
            let claimed = producers.claimed.load(Relaxed);
            producers.claimed.store(claimed.wrapping_add(messages), Relaxed);
            self.move_tail(place, span);
            self.view.prefetch(self.after(place, span) + span.max(PREFETCH_AHEAD), span);
            return Ok(claim);
        }
    }

    /// The offset after a record.
    #[inline]
    fn after(&self, place: Place, span: u64) -> u64 {
        let end = place.offset + span;
        if end == self.view.capacity() { 0 } else { end }
    }

    /// Makes a record at `tail`, before `move_tail`.
    #[inline]
    fn mark(&self, me: Owner, place: Place, span: u64) -> Attempt<Claim> {
        let end = self.view.word(self.after(place, span));
        // Relaxed: published by the Release below, before the receiver can get there.
        mutant!("terminator-forgotten", (), end.store(0, Relaxed));
        hit("claim-ended");
        // It fits the ring, whose messages have 32-bit lengths.
        let len = u32::try_from(span - HEADER_BYTES)
            .map_err(|_| Refused::Failed(Error::MessageTooLarge))?;
        let word = RecordWord::busy(me, len);
        mutant!("tail-first", self.store_tail(place, span));
        // SYNC(record-claimed): Release publishes the EMPTY word after the record to a
        // receiver that turns this record into SKIP and goes on to it.
        self.view.word(place.offset).store(word.0, Release);
        hit("claim-marked");
        Ok(Claim { offset: place.offset, word })
    }

    #[inline]
    fn move_tail(&self, place: Place, span: u64) {
        self.store_tail(place, span);
        hit("claim-moved");
    }

    #[inline]
    fn store_tail(&self, place: Place, span: u64) {
        // SYNC(tail-moved): Release, for the Acquire in `claim_locked` and those of the receiver,
        // which must then find the BUSY word.
        self.view.header().producers.tail.store(place.tail + span, Release);
    }

    /// Claims and gives up `span` bytes at `tail`, by a turn or to get to where a record fits.
    #[cold]
    fn pad(&self, me: Owner, place: Place, span: u64, is_turn: bool) -> Attempt<()> {
        let claim = self.mark(me, place, span)?;
        self.move_tail(place, span);
        if is_turn {
            // After `tail`: whoever dies between leaves no turn that was never made.
            self.view.header().producers.turn.store(place.tail, Release);
        }
        hit("pad-moved");
        let len = claim.word.len();
        let pad = RecordWord::pad(me, mutant!("pad-off-by-one", len.saturating_sub(8), len));
        self.publish(&claim, pad).map_err(Refused::Failed)
    }

    /// Offset of a sender's position, unless it is far.
    #[inline]
    fn near_offset(&self, position: u64) -> Option<u64> {
        // Relaxed: any value that was ever stored is a start of a lap, and of `near` up to the
        // capacity, so that what is below it is an offset.
        let offset = position.wrapping_sub(self.lap.load(Relaxed));
        (offset < self.near.load(Relaxed)).then_some(offset)
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

    /// After a publish: whether the receiver naps and is the caller's to wake. Of several
    /// senders that see it napping, one gets the wake to do; the receiver sets the word again
    /// before it naps again.
    #[inline]
    pub(crate) fn take_receiver_wake(&self) -> bool {
        loom_store_load_fence();
        let wait = &self.view.header().receiver_wait.0;
        mutant!("wake-omitted", return false);
        // SYNC(receiver-wait): SeqCst. Either this load sees the NAPS of `arm_receiver`, or the
        // receiver's look at the record after it sees what was published.
        let word = wait.load(SeqCst);
        let naps = mutant!("sleep-taken", word != AWAKE, word == NAPS);
        naps && wait.compare_exchange(word, AWAKE, SeqCst, Relaxed).is_ok()
    }

    /// After a claim and before its publish, and after a refused one: whether the receiver sleeps
    /// until it is roused. If so, everybody who sees it calls `rouse` and wakes it.
    #[inline]
    pub(crate) fn must_rouse(&self) -> bool {
        mutant!("rouse-omitted", return false);
        // SYNC(receiver-sleep): SeqCst. Either this load sees the SLEEPS of `arm_receiver`, or the
        // receiver's look at the claim word after it sees the claim.
        self.view.header().receiver_wait.0.load(SeqCst) >= SLEEPS
    }

    /// Before the wake of a receiver that sleeps: keeps one that is about to from doing so. It
    /// stays one to be roused until it is awake, whoever dies meanwhile.
    #[cold]
    pub(crate) fn rouse(&self) {
        let roused = mutant!("roused-first", AWAKE, ROUSED);
        let wait = &self.view.header().receiver_wait.0;
        // A failure means that somebody else was quicker, or that it is awake.
        let _ = wait.compare_exchange(SLEEPS, roused, SeqCst, Relaxed);
    }

    /// Before the receiver looks a last time and sleeps: its word, to sleep on, which is SLEEPS
    /// only if that is wanted and nobody is making a claim.
    pub(crate) fn arm_receiver(&self, to_sleep: bool) -> u32 {
        let Header { producers, receiver_wait, .. } = self.view.header();
        if to_sleep {
            receiver_wait.0.swap(SLEEPS, SeqCst);
            // Also for the look at `closed` that follows, against `close`.
            fence(SeqCst);
            // SYNC(receiver-sleep): SeqCst, see `must_rouse`. Acquire, so that `peek` finds the
            // claims that have been made.
            let claim = mutant!("claim-unseen", 0, producers.claim.load(SeqCst));
            if claim == 0 {
                return SLEEPS;
            }
        }
        // SYNC(receiver-wait): see `take_receiver_wake`. A swap, not a store, although the memory
        // model needs none: loom does not know that nothing comes between a swap's read and its
        // write, and lets a sender see the 0 of an earlier swap.
        let order = mutant!("receiver-fence-forgotten", Relaxed, SeqCst);
        receiver_wait.0.swap(NAPS, order);
        mutant!("receiver-fence-forgotten", (), fence(SeqCst));
        NAPS
    }

    /// After the receiver slept or found something. Relaxed: a wake in vain does no harm.
    pub(crate) fn disarm_receiver(&self) {
        self.view.header().receiver_wait.0.swap(AWAKE, Relaxed);
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

    /// Whether so much has been freed, with somebody waiting, that `take_space_wake` is due: a
    /// quarter of what senders use while the receiver keeps up.
    #[inline]
    pub(crate) fn space_wake_due(&self, cursor: &Cursor) -> bool {
        // Relaxed and without a fence: a waiter missed here is seen by the next message's look,
        // by the fenced one before the receiver sleeps, or wakes by itself.
        self.view.header().space_wait.0.load(Relaxed) & 1 == 1 && cursor.freed >= self.warm / 4
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
        let capacity = self.view.capacity();
        if self.free_end(tail, head, tail - tail % capacity).is_none() {
            return Err(corrupt(256));
        }
        Ok(Cursor { head, offset: head % capacity, freed: 0 })
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
    pub(crate) fn recover(&self, cursor: &Cursor, me: Owner, busy: RecordWord) -> Attempt<()> {
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
        // Before the look for a receiver that sleeps: SYNC(receiver-sleep).
        fence(SeqCst);
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
