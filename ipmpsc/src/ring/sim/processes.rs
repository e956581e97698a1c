//! What virtual processes do: the steps of `sender`, `receiver` and `roster` over the real core,
//! with the machine's kernel in place of the system's.

use super::machine::{Bed, SLOTS, World};
use crate::error::Error;
use crate::layout::{HEADER_BYTES, Owner, RECEIVER_GONE, RecordWord, span_of};
use crate::ring::{Claim, Cursor, Peeked, Refused, Ring};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Something to send, in words of payload.
#[derive(Clone, Debug)]
pub(super) enum Job {
    Message(u64),
    Batch(Vec<u64>),
    /// A reservation of the first that is shortened to the second.
    Shortened(u64, u64),
    /// A reservation that is given up.
    Given(u64),
}

struct Sender<'a> {
    world: &'a World,
    ring: Ring,
    process: usize,
    me: Owner,
    seq: u64,
}

/// Takes a free slot, as `Roster::attach`.
fn attach(world: &World, ring: &Ring, process: usize, first: u32) -> Option<Owner> {
    let lock = |number: u32, byte: usize| {
        let lock = &mut world.locks.borrow_mut()[number as usize][byte];
        lock.is_none().then(|| *lock = Some(process)).is_some()
    };
    let number = (first..SLOTS).find(|&number| lock(number, 0))?;
    let slot = ring.view().slot(number).expect("a number below the count");
    let generation = slot.generation.load(Relaxed).wrapping_add(1);
    assert!(lock(number, life_byte(generation)), "only the slot's holder asks for it");
    slot.generation.store(generation, Release);
    Some(Owner { slot: number as u16, generation: generation as u16 })
}

/// As `Roster::is_dead`.
fn is_dead(world: &World, ring: &Ring, word: u64) -> bool {
    let owner = Owner::of(word);
    let Some(slot) = ring.view().slot(owner.slot.into()) else {
        return true;
    };
    let generation = slot.generation.load(Acquire);
    generation as u16 != owner.generation
        || world.locks.borrow()[usize::from(owner.slot)][life_byte(generation)].is_none()
}

/// As `roster::life_byte`, from the slot's own.
fn life_byte(generation: u32) -> usize {
    1 + (generation & 1) as usize
}

fn free_if_dead(world: &World, ring: &Ring, holder: u64) -> bool {
    is_dead(world, ring, holder) && ring.free_claim(holder)
}

/// Sends all jobs and ends.
pub(super) fn send_all(world: &World, process: usize, jobs: &[Job]) {
    let ring = world.ring();
    let Some(me) = attach(world, &ring, process, 1) else {
        return;
    };
    let mut sender = Sender { world, ring, process, me, seq: 0 };
    for job in jobs {
        if sender.send(job).is_none() {
            return;
        }
    }
}

impl Sender<'_> {
    /// Does a job; `None` if it was taken for dead meanwhile.
    fn send(&mut self, job: &Job) -> Option<()> {
        let room = self.ring.view().capacity() / 8 - 2;
        match job {
            Job::Message(words) => self.send_batch(&[(*words).min(room)]),
            Job::Batch(sizes) => {
                let mut sizes = sizes.clone();
                while sizes.iter().map(|words| words + 1).sum::<u64>() > room + 1 {
                    sizes.pop();
                }
                if sizes.is_empty() { Some(()) } else { self.send_batch(&sizes) }
            }
            Job::Shortened(words, used) => {
                self.send_shortened((*words).min(room), (*used).min(*words).min(room))
            }
            Job::Given(words) => {
                let claim = self.claim(span_of(8 * (*words).min(room)), 1);
                let given = self.ring.discard(&claim);
                self.finish(given, 0)
            }
        }
    }

    fn send_batch(&mut self, sizes: &[u64]) -> Option<()> {
        let span = sizes.iter().map(|words| span_of(8 * words)).sum();
        let claim = self.claim(span, sizes.len() as u64);
        let mut at = 0;
        for (seq, &words) in (self.seq..).zip(sizes) {
            if at > 0 {
                let word = RecordWord::ready(self.me, Self::len(seq, words));
                self.ring.write_inner(&claim, at, word);
            }
            self.write(&claim, at, seq, words);
            at += span_of(8 * words);
        }
        self.has_written();
        let committed = self.ring.commit(&claim, Self::len(self.seq, sizes[0]));
        self.finish(committed, sizes.len() as u64)
    }

    fn send_shortened(&mut self, words: u64, used: u64) -> Option<()> {
        let claim = self.claim(span_of(8 * words), 1);
        self.write(&claim, 0, self.seq, used);
        let len = Self::len(self.seq, used);
        let rest = claim.word.span() - span_of(len.into());
        if rest > 0 {
            let pad = RecordWord::pad(self.me, (rest - HEADER_BYTES) as u32);
            self.ring.write_inner(&claim, span_of(len.into()), pad);
        }
        self.has_written();
        let committed = self.ring.commit(&claim, len);
        self.finish(committed, 1)
    }

    /// Bytes of a message: its last word is not always full.
    fn len(seq: u64, words: u64) -> u32 {
        (8 * words - seq % 8) as u32
    }

    fn write(&self, claim: &Claim, at: u64, seq: u64, words: u64) {
        for word in 0..words {
            let place = self.ring.view().word(claim.offset + at + HEADER_BYTES + 8 * word);
            place.store(value(self.process, seq, word), Relaxed);
        }
    }

    fn has_written(&self) {
        self.world.ledger.borrow_mut().accounts[self.process].written = true;
    }

    /// Takes a publish of `messages` down and wakes the receiver.
    fn finish(&mut self, published: crate::Result<()>, messages: u64) -> Option<()> {
        let evicted = {
            let account = &mut self.world.ledger.borrow_mut().accounts[self.process];
            account.written = false;
            match published {
                Ok(()) => account.committed += messages,
                Err(Error::Evicted) => assert!(account.evicted, "taken from the living"),
                Err(error) => panic!("{error}"),
            }
            account.evicted
        };
        self.seq += messages;
        self.wake_receiver();
        (!evicted).then_some(())
    }

    fn wake_receiver(&self) {
        if self.ring.take_receiver_wake() {
            self.world.wake_one(Bed::Receiver);
        }
    }

    fn rouse_receiver(&self) {
        if self.ring.must_rouse() {
            self.ring.rouse();
            self.world.wake_one(Bed::Receiver);
        }
    }

    fn claim(&self, span: u64, messages: u64) -> Claim {
        let claim = self.claim_slowly(span, messages);
        self.rouse_receiver();
        claim
    }

    /// As `Sender::claim_slowly` with all the time there is.
    fn claim_slowly(&self, span: u64, messages: u64) -> Claim {
        loop {
            match self.ring.claim(self.me, span, messages, false) {
                Ok(claim) => return claim,
                Err(Refused::Failed(error)) => panic!("{error}"),
                Err(Refused::Far) => match self.ring.go_far(self.me, span) {
                    Err(Refused::Held(holder)) => {
                        free_if_dead(self.world, &self.ring, holder);
                    }
                    went => went.expect("nobody writes nonsense"),
                },
                Err(Refused::Held(holder)) => {
                    free_if_dead(self.world, &self.ring, holder);
                }
                Err(Refused::Full) => {
                    self.wake_receiver();
                    self.rouse_receiver();
                    if self.ring.may_fit(span, false) {
                        continue;
                    }
                    let armed = self.ring.arm_sender();
                    if self.ring.may_fit(span, false) {
                        continue;
                    }
                    self.world.sleep(self.process, Bed::Senders, armed);
                    self.ring.rearm_sender();
                }
            }
        }
    }
}

/// The payload of a message, of which no two words are alike.
fn value(process: usize, seq: u64, word: u64) -> u64 {
    (process as u64 + 1) << 32 | seq << 8 | word
}

/// Receives for ever, up to `limit` messages at a time, as `drain`.
pub(super) fn receive_all(world: &World, process: usize, limit: u64) {
    let ring = world.ring();
    let Some(me) = attach(world, &ring, process, 0) else {
        return;
    };
    // As `Roster::take_role`.
    let role = &ring.view().header().consumer.owner;
    let before = role.load(Acquire);
    let free = before == 0 || before == RECEIVER_GONE || is_dead(world, &ring, before);
    if !free || role.compare_exchange(before, me.word(), AcqRel, Relaxed).is_err() {
        return;
    }
    world.ledger.borrow_mut().receiver = Some(process);
    let mut cursor = ring.cursor().expect("nobody writes nonsense");
    ring.disarm_receiver();
    loop {
        let busy = match ring.peek(&mut cursor).expect("nobody writes nonsense") {
            Peeked::Message { offset, len } => {
                receive_some(world, &ring, &mut cursor, limit, (offset, len));
                continue;
            }
            Peeked::Busy(word) => Some(word),
            Peeked::Empty => None,
        };
        if ring.take_space_wake(&mut cursor) {
            world.wake_one(Bed::Senders);
        }
        let go_on = match busy {
            Some(word) if is_dead(world, &ring, word.0) => match ring.recover(&cursor, me, word) {
                Err(Refused::Held(holder)) => free_if_dead(world, &ring, holder),
                _ => true,
            },
            Some(_) => false,
            None => {
                ring.check_empty(&cursor).expect("nobody writes nonsense");
                false
            }
        };
        if !go_on {
            sleep(world, &ring, process, &mut cursor, busy);
        }
    }
}

/// As `End::sleep`.
fn sleep(
    world: &World,
    ring: &Ring,
    process: usize,
    cursor: &mut Cursor,
    busy: Option<RecordWord>,
) {
    // Now so, now so, as a schedule has it.
    let to_sleep = busy.is_none() && cursor.head.count_ones().is_multiple_of(2);
    let armed = ring.arm_receiver(to_sleep);
    let unchanged = match ring.peek(cursor) {
        Ok(Peeked::Empty) => busy.is_none(),
        Ok(Peeked::Busy(word)) => busy == Some(word),
        _ => false,
    };
    if unchanged && !ring.has_freed(cursor) {
        world.sleep(process, Bed::Receiver, armed);
    }
    ring.disarm_receiver();
}

fn receive_some(
    world: &World,
    ring: &Ring,
    cursor: &mut Cursor,
    limit: u64,
    mut found: (u64, u32),
) {
    for messages in 1.. {
        let (offset, len) = found;
        let first = ring.view().word(offset).load(Relaxed);
        let (sender, seq) = ((first >> 32) as usize, first >> 8 & 0xff_ffff);
        assert!(sender > 0, "a message that nobody wrote");
        for word in 0..u64::from(len).div_ceil(8) {
            let got = ring.view().word(offset + 8 * word).load(Relaxed);
            assert_eq!(got, value(sender - 1, seq, word), "torn, or overwritten");
        }
        assert_eq!(u64::from(len) % 8, (8 - seq % 8) % 8, "a length that nobody sent");
        ring.advance(cursor, len);
        world.ledger.borrow_mut().handle(cursor.head, sender - 1, seq);
        let next = if messages < limit { ring.peek(cursor).ok() } else { None };
        match next {
            Some(Peeked::Message { offset, len }) => found = (offset, len),
            _ => {
                ring.release(cursor, messages);
                break;
            }
        }
    }
    if ring.space_wake_due(cursor) && ring.take_space_wake(cursor) {
        world.wake_one(Bed::Senders);
    }
}
