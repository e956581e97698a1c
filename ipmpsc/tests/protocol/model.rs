//! The protocol as a Stateright model: one access of shared memory is one step, any process may be
//! killed between two, and a process that is stopped is one whose next step does not come.
//!
//! Left out, since they are hints or follow the rest: `room` (from an older `head`, so a claim
//! refused too often), how far and how long a sender lets the receiver catch up before a lap goes
//! on or is reopened, the counters, batches and shortened records (one BUSY record like any other),
//! `Closed`, deadlines. Recovery takes no claim word here, although `Ring::recover` does: its swap
//! alone is enough. Memory is sequentially consistent; a store that a missing fence would let be
//! seen late is a planted bug here (`Bug::ArmLate` and the like).

use stateright::{Model, Property};

/// Words of the largest ring, senders, and slots of the largest model.
const WORDS: usize = 8;
const SENDERS: usize = 3;
const SLOTS: usize = SENDERS + 1;
/// Messages of the longest sender, as bits.
type Set = u8;

/// A deliberate bug of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// `claim` stores no EMPTY word after its record.
    NoTerminator,
    /// `claim` counts no room for that word.
    NoRoomForTerminator,
    /// `tail` moves before the record is marked.
    TailFirst,
    /// `head` moves before the message is read.
    HeadEarly,
    /// The receiver says that it sleeps after its last look (or before it, without a fence).
    ArmLate,
    /// The look for a sleeping receiver comes before the commit (or after it, without a fence).
    WakeEarly,
    /// A commit wakes nobody.
    NoWake,
    /// The receiver sleeps until it is woken without having looked for claims.
    SleepBlindly,
    /// A claim rouses nobody.
    NoRouse,
    /// A receiver that is to be roused passes for awake before it is.
    RousedFirst,
    /// A commit takes the wake of a receiver that only claims may rouse.
    TakeAnySleep,
    /// A sender says that it sleeps after its last look (or before it, without a fence).
    SenderArmLate,
    /// Freed space wakes nobody.
    NoSpaceWake,
    /// A woken sender does not say that others may sleep.
    NoRearm,
    /// A record is taken from a sender that is not known to be dead.
    NoProof,
    /// Whoever has the slot is taken for its former owner.
    NoGeneration,
    /// The claim word is freed whoever holds it by now.
    FreeBlindly,
    /// A dead holder's claim word stays.
    KeepClaim,
    /// A record that was never made is skipped as if it had been.
    SkipUnmade,
    /// Recovery overwrites whatever stands at its place by now.
    RecoverBlindly,
    /// Owners of odd and of even generations show their lives by the same byte.
    OneLifeByte,
    /// A lap is ended early although the receiver is still in an earlier one.
    TurnBlindly,
    /// `turn` is told before `tail` moves.
    TurnToldFirst,
    /// A reopened lap goes on at the header word of the turn's pad.
    TurnOverwritten,
}

/// A ring and those who use it.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub(crate) words: u8,
    /// By sender: its messages, in words of payload.
    pub(crate) messages: Vec<Vec<u8>>,
    /// How often a sender may be killed, and then replaced or not.
    pub(crate) kills: u8,
    /// How often the receiver may be killed and replaced.
    pub(crate) receiver_kills: u8,
    /// Whether a nap may end by itself.
    pub(crate) naps: bool,
    /// Whether the receiver may sleep until it is woken.
    pub(crate) sleeps: bool,
    /// The offset from which on senders turn, wherever they may.
    pub(crate) warm: Option<u8>,
    pub(crate) bug: Option<Bug>,
}

/// The receiver's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wait {
    Awake,
    /// For a time.
    Naps,
    /// Until it is woken.
    Sleeps,
    Roused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Owner {
    slot: u8,
    generation: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Word {
    Empty,
    Busy(Owner, u8),
    Ready(u8),
    /// Pads, and records given up.
    Passed(u8),
    Payload {
        sender: u8,
        message: u8,
        at: u8,
    },
}

/// What a claim is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Claim {
    Message,
    /// To get to where a record fits: the ring's beginning, or behind a turn.
    Pad,
    Turn,
}

/// What a sender does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Send {
    Attach,
    Live,
    Count,
    Lock,
    Free(Owner),
    /// Whether the receiver is to be roused. In the program the load comes later, but nothing keeps
    /// the stores of the claim from being seen after it.
    RouseLook,
    Look,
    End(Claim),
    Mark(Claim),
    Move(Claim),
    /// Where the turn is.
    Tell,
    Pad,
    Unlock,
    /// Of a receiver that sleeps until it is woken; whether because the ring is full.
    RouseMark(bool),
    Rouse(bool),
    Copy(u8),
    Commit,
    /// Whether the receiver sleeps; and whether that is because the ring is full.
    WakeLook(bool),
    WakeTake(bool),
    Wake(bool),
    UnlockFull,
    Arm,
    LookAgain,
    Sleep,
    Asleep,
    Rearm,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sender {
    next: Send,
    me: Owner,
    /// The message that it sends.
    message: u8,
    /// The claim being made: where and how long.
    at: u8,
    piece: u8,
    /// The senders' word has changed since it was armed.
    stale: bool,
    /// The receiver is to be roused before the commit.
    saw_sleep: bool,
    /// With `Bug::WakeEarly`: what it saw before the commit.
    saw_sleeper: Option<bool>,
    committed: Set,
    received: Set,
}

/// What the receiver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Receive {
    Attach,
    Live,
    Count,
    TakeRole,
    Peek,
    /// Frees the message that it has handled.
    Release,
    Pass(u8),
    Recover(Owner, u8),
    RecoverSwap(Owner, u8, bool),
    /// The look for sleeping senders; whether the receiver sleeps after it.
    SpaceLook(bool),
    SpaceWake(bool),
    /// Before a nap.
    Arm,
    /// Before a sleep: whether something is being claimed.
    LookForClaim,
    PeekAgain,
    Sleep,
    Asleep,
    Disarm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Receiver {
    next: Receive,
    me: Owner,
    place: u8,
    freed: u8,
    /// The word that it waits to see changed.
    seen: Word,
    /// What it has set its own word to.
    armed: Wait,
    /// The message handled and not yet freed.
    handled: Option<(u8, u8)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    memory: [Word; WORDS],
    claim: Option<Owner>,
    tail: u8,
    /// The position of the last turn's pad, 0 if there is none.
    turn: u8,
    head: u8,
    generations: [u8; SLOTS],
    /// By slot: the processes that have locked its byte and its two life bytes; the receiver is
    /// `SENDERS`.
    locks: [[Option<u8>; 3]; SLOTS],
    receiver_wait: Wait,
    /// Whether the senders' word is odd. That its value never comes back is `Sender::stale`.
    space_wait: bool,
    role: Option<Owner>,
    senders: [Sender; SENDERS],
    receiver: Receiver,
    /// What a dead receiver has handled and not freed: it comes again.
    again: Option<(u8, u8)>,
    kills: u8,
    receiver_kills: u8,
    /// The promise that is broken.
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Sender(u8),
    /// The receiver's step; where it wakes a sender, which.
    Receiver(u8),
    /// The receiver's step where it wants to sleep rather than nap.
    ReceiverSleeps,
    SenderNapEnds(u8),
    ReceiverNapEnds,
    /// A sender dies, and is replaced by one that goes on with the next message, or not.
    KillSender(u8, bool),
    KillReceiver,
}

impl Action {
    /// Whether others may rely on its happening.
    pub(crate) fn is_fault(self) -> bool {
        matches!(self, Self::KillSender(..) | Self::KillReceiver)
    }

    /// The sender whose step it is.
    pub(crate) fn sender(self) -> Option<u8> {
        match self {
            Self::Sender(sender) | Self::SenderNapEnds(sender) => Some(sender),
            _ => None,
        }
    }
}

fn is_asleep(state: &State) -> bool {
    matches!(state.receiver_wait, Wait::Sleeps | Wait::Roused)
}

const NOBODY: Owner = Owner { slot: 0, generation: 0 };

impl State {
    fn locked_by(&mut self, process: u8, first: u8) -> Option<u8> {
        let slot = (usize::from(first)..SLOTS).find(|&slot| self.locks[slot][0].is_none())?;
        self.locks[slot][0] = Some(process);
        Some(slot as u8)
    }

    fn unlock_slots(&mut self, process: u8) {
        let locks = self.locks.as_flattened_mut();
        for lock in locks.iter_mut().filter(|lock| **lock == Some(process)) {
            *lock = None;
        }
    }

    fn count(&mut self, slot: u8) -> Owner {
        let generation = &mut self.generations[usize::from(slot)];
        *generation += 1;
        Owner { slot, generation: *generation }
    }

    fn breaks(&mut self, promise: &'static str) {
        self.broken.get_or_insert(promise);
    }
}

impl Protocol {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn is_dead(&self, state: &State, owner: Owner) -> bool {
        let slot = usize::from(owner.slot);
        let generation = state.generations[slot];
        let other = generation != owner.generation && !self.has(Bug::NoGeneration);
        other || state.locks[slot][self.life_byte(generation)].is_none()
    }

    fn life_byte(&self, generation: u8) -> usize {
        if self.has(Bug::OneLifeByte) { 1 } else { 1 + usize::from(generation % 2) }
    }

    /// Locks the life byte of the slot's next generation.
    fn live(&self, state: &mut State, process: usize, slot: u8) {
        let byte = self.life_byte(state.generations[usize::from(slot)] + 1);
        let before = state.locks[usize::from(slot)][byte].replace(process as u8);
        assert_eq!(before, None, "only the slot's holder asks for it");
    }

    fn offset(&self, position: u8) -> usize {
        usize::from(position % self.words)
    }

    fn to_end(&self, position: u8) -> u8 {
        self.words - position % self.words
    }

    /// Words of a sender's record.
    fn span(&self, sender: usize, message: u8) -> u8 {
        1 + self.messages[sender][usize::from(message)]
    }

    /// The position of offset 0 in the senders' lap.
    fn lap(&self, state: &State) -> u8 {
        state.tail - state.tail % self.words
    }

    /// Where the lap goes on if it is reopened, while the receiver has not passed the turn.
    fn behind_turn(&self, state: &State) -> Option<u8> {
        let header = u8::from(!self.has(Bug::TurnOverwritten));
        let (turn, lap) = (state.turn, self.lap(state));
        let is_ahead = state.head <= turn && turn < lap && lap - turn <= self.words;
        is_ahead.then_some(turn + self.words + header)
    }

    /// The position up to which the ring is free; `None` if `tail` and `head` cannot be right.
    fn free_end(&self, state: &State) -> Option<u8> {
        if state.tail - state.head <= self.words {
            return Some(state.head + self.words);
        }
        (state.tail >= self.behind_turn(state)?).then_some(self.lap(state) + self.words)
    }

    fn has_room(&self, state: &mut State, piece: u8) -> bool {
        let terminator = u8::from(!self.has(Bug::NoRoomForTerminator));
        let Some(end) = self.free_end(state) else {
            state.breaks("tail too far from head");
            return false;
        };
        state.tail + piece + terminator <= end
    }

    fn may_fit(&self, state: &State, sender: usize) -> bool {
        let span = self.span(sender, state.senders[sender].message);
        let piece = span.min(self.to_end(state.tail));
        self.free_end(state).is_none_or(|end| state.tail + piece < end)
    }

    fn may_turn(&self, state: &State, span: u8) -> bool {
        let lap = self.lap(state);
        let blindly = self.has(Bug::TurnBlindly) && state.head < lap;
        self.warm.is_some_and(|warm| state.tail - lap >= warm)
            && (span < state.head.saturating_sub(lap) || blindly)
    }

    /// The next claim on the way to one of `span` words, and its own; `None` if there is no room.
    fn look(&self, state: &mut State, span: u8) -> Option<(Claim, u8)> {
        let to_end = self.to_end(state.tail);
        if self.may_turn(state, span) {
            return Some((Claim::Turn, to_end));
        }
        if self.has_room(state, span.min(to_end)) {
            let fits = span <= to_end;
            return Some(if fits { (Claim::Message, span) } else { (Claim::Pad, to_end) });
        }
        let next = self.behind_turn(state)?;
        let fits = next + span < self.lap(state) + self.words;
        (state.tail < next && fits).then(|| (Claim::Pad, next - state.tail))
    }

    /// A sender's step; false if it cannot make one.
    fn send(&self, state: &mut State, sender: usize) -> bool {
        let it = state.senders[sender];
        let next = match it.next {
            Send::Done | Send::Asleep => return false,
            Send::Attach => match state.locked_by(sender as u8, 1) {
                Some(slot) => {
                    state.senders[sender].me = Owner { slot, generation: 0 };
                    Send::Live
                }
                None => return false,
            },
            Send::Live => {
                self.live(state, sender, it.me.slot);
                Send::Count
            }
            Send::Count => {
                state.senders[sender].me = state.count(it.me.slot);
                self.next_message(it.message, sender)
            }
            Send::Lock => match state.claim {
                None => {
                    state.claim = Some(it.me);
                    Send::RouseLook
                }
                Some(holder) if self.is_dead(state, holder) && !self.has(Bug::KeepClaim) => {
                    Send::Free(holder)
                }
                Some(_) => return false,
            },
            Send::Free(dead) => {
                if state.claim == Some(dead) || self.has(Bug::FreeBlindly) {
                    state.claim = None;
                }
                Send::Lock
            }
            _ => return self.claim_or_copy(state, sender),
        };
        state.senders[sender].next = next;
        true
    }

    fn next_message(&self, message: u8, sender: usize) -> Send {
        if usize::from(message) < self.messages[sender].len() { Send::Lock } else { Send::Done }
    }

    fn claim_or_copy(&self, state: &mut State, sender: usize) -> bool {
        let it = state.senders[sender];
        let span = self.span(sender, it.message);
        let at = self.offset(it.at);
        let next = match it.next {
            Send::RouseLook => {
                let sleeps = is_asleep(state) && !self.has(Bug::NoRouse);
                state.senders[sender].saw_sleep = sleeps;
                Send::Look
            }
            Send::Look => match self.look(state, span) {
                Some((claim, piece)) => {
                    let it = &mut state.senders[sender];
                    (it.at, it.piece) = (state.tail, piece);
                    Send::End(claim)
                }
                None => Send::UnlockFull,
            },
            Send::End(claim) => {
                if !self.has(Bug::NoTerminator) {
                    state.memory[self.offset(it.at + it.piece)] = Word::Empty;
                }
                if self.has(Bug::TailFirst) { Send::Move(claim) } else { Send::Mark(claim) }
            }
            Send::Mark(claim) => {
                state.memory[at] = Word::Busy(it.me, it.piece);
                match claim {
                    _ if self.has(Bug::TailFirst) => self.after_claim(claim),
                    Claim::Turn if self.has(Bug::TurnToldFirst) => Send::Tell,
                    _ => Send::Move(claim),
                }
            }
            Send::Move(claim) => {
                state.tail = it.at + it.piece;
                if self.has(Bug::TailFirst) { Send::Mark(claim) } else { self.after_claim(claim) }
            }
            Send::Tell => {
                state.turn = it.at;
                if state.tail == it.at { Send::Move(Claim::Turn) } else { Send::Pad }
            }
            Send::Pad => {
                if state.memory[at] != Word::Busy(it.me, it.piece) {
                    state.breaks("a pad was taken from the living");
                }
                state.memory[at] = Word::Passed(it.piece);
                Send::Look
            }
            Send::Unlock | Send::UnlockFull => {
                if state.claim != Some(it.me) {
                    state.breaks("the claim word was taken from the living");
                }
                state.claim = None;
                state.senders[sender].saw_sleep = false;
                match it.next {
                    Send::UnlockFull => Send::WakeLook(true),
                    _ if it.saw_sleep => Send::RouseMark(false),
                    _ => Send::Copy(0),
                }
            }
            Send::Copy(done) => {
                let payload = Word::Payload { sender: sender as u8, message: it.message, at: done };
                state.memory[at + 1 + usize::from(done)] = payload;
                if done + 2 < span { Send::Copy(done + 1) } else { Send::Commit }
            }
            Send::Commit => return self.commit(state, sender),
            _ => return self.wake_or_sleep(state, sender),
        };
        state.senders[sender].next = next;
        true
    }

    /// What follows when a claim is made and `tail` has moved.
    fn after_claim(&self, claim: Claim) -> Send {
        match claim {
            Claim::Message => Send::Unlock,
            Claim::Turn if !self.has(Bug::TurnToldFirst) => Send::Tell,
            Claim::Turn | Claim::Pad => Send::Pad,
        }
    }

    fn commit(&self, state: &mut State, sender: usize) -> bool {
        let it = state.senders[sender];
        if self.has(Bug::WakeEarly) && it.saw_sleeper.is_none() {
            state.senders[sender].saw_sleeper = Some(state.receiver_wait == Wait::Naps);
            return true;
        }
        let word = &mut state.memory[self.offset(it.at)];
        if *word != Word::Busy(it.me, it.piece) {
            state.breaks("a record was taken from the living");
            return true;
        }
        *word = Word::Ready(it.piece);
        let it = &mut state.senders[sender];
        it.committed |= 1 << it.message;
        let next = match it.saw_sleeper.take() {
            None => Send::WakeLook(false),
            Some(true) => Send::WakeTake(false),
            Some(false) => self.after_wake(state, sender, false),
        };
        state.senders[sender].next = next;
        true
    }

    fn wake_or_sleep(&self, state: &mut State, sender: usize) -> bool {
        let it = state.senders[sender];
        let asleep = is_asleep(state);
        let takes = state.receiver_wait == Wait::Naps || (asleep && self.has(Bug::TakeAnySleep));
        let next = match it.next {
            Send::RouseMark(full) => {
                if state.receiver_wait == Wait::Sleeps {
                    let first = self.has(Bug::RousedFirst);
                    state.receiver_wait = if first { Wait::Awake } else { Wait::Roused };
                }
                Send::Rouse(full)
            }
            Send::WakeLook(true) if asleep => Send::RouseMark(true),
            Send::WakeLook(full) if takes && !self.has(Bug::NoWake) => Send::WakeTake(full),
            Send::WakeTake(full) if takes => {
                state.receiver_wait = Wait::Awake;
                Send::Wake(full)
            }
            Send::Wake(full) | Send::Rouse(full) => {
                if state.receiver.next == Receive::Asleep {
                    state.receiver.next = Receive::Disarm;
                }
                match it.next {
                    Send::Rouse(false) => Send::Copy(0),
                    _ => self.after_wake(state, sender, full),
                }
            }
            Send::WakeLook(full) | Send::WakeTake(full) => self.after_wake(state, sender, full),
            Send::Arm => {
                if !self.has(Bug::SenderArmLate) {
                    state.space_wait = true;
                }
                state.senders[sender].stale = false;
                Send::LookAgain
            }
            Send::LookAgain if self.may_fit(state, sender) => Send::Lock,
            Send::LookAgain => Send::Sleep,
            Send::Sleep => {
                if self.has(Bug::SenderArmLate) {
                    state.space_wait = true;
                }
                if it.stale { Send::Rearm } else { Send::Asleep }
            }
            Send::Rearm => {
                if !self.has(Bug::NoRearm) {
                    state.space_wait = true;
                }
                Send::Lock
            }
            other => unreachable!("{other:?} is done elsewhere"),
        };
        if matches!(next, Send::Lock | Send::Asleep) {
            state.senders[sender].stale = false;
        }
        state.senders[sender].next = next;
        true
    }

    /// What follows a look for the receiver: after a commit the next message, else the wait.
    fn after_wake(&self, state: &mut State, sender: usize, full: bool) -> Send {
        if full {
            return if self.may_fit(state, sender) { Send::Lock } else { Send::Arm };
        }
        let it = &mut state.senders[sender];
        it.message += 1;
        (it.at, it.piece) = (0, 0);
        self.next_message(it.message, sender)
    }

    /// The receiver's step, waking sender `woken` if it wakes one; false if it cannot make one.
    fn receive(&self, state: &mut State, woken: u8) -> bool {
        let it = state.receiver;
        let next = match it.next {
            Receive::Asleep => return false,
            Receive::Attach => match state.locked_by(SENDERS as u8, 0) {
                Some(slot) => {
                    state.receiver.me = Owner { slot, generation: 0 };
                    Receive::Live
                }
                None => return false,
            },
            Receive::Live => {
                self.live(state, SENDERS, it.me.slot);
                Receive::Count
            }
            Receive::Count => {
                state.receiver.me = state.count(it.me.slot);
                Receive::TakeRole
            }
            Receive::TakeRole => {
                if state.role.is_some_and(|role| !self.is_dead(state, role)) {
                    return false;
                }
                if self.free_end(state).is_none() {
                    state.breaks("a new receiver finds tail too far from head");
                }
                state.role = Some(it.me);
                state.receiver.place = state.head;
                Receive::Disarm
            }
            Receive::Peek => self.peek(state),
            Receive::Release => {
                let Some((sender, message)) = it.handled else { unreachable!("handled before") };
                self.check_payload(state, it.place, sender, message);
                state.receiver.handled = None;
                self.free(state, self.span(sender.into(), message));
                // As `space_wake_due`.
                let due = state.space_wait && state.receiver.freed >= self.words / 4;
                if due { Receive::SpaceLook(false) } else { Receive::Peek }
            }
            Receive::Pass(span) => {
                self.free(state, span);
                Receive::Peek
            }
            Receive::SpaceLook(sleeps) => {
                state.receiver.freed = 0;
                if state.space_wait && !self.has(Bug::NoSpaceWake) {
                    state.space_wait = false;
                    let arming =
                        |it: &&mut Sender| matches!(it.next, Send::LookAgain | Send::Sleep);
                    state.senders.iter_mut().filter(arming).for_each(|it| it.stale = true);
                    Receive::SpaceWake(sleeps)
                } else {
                    self.after_space(state, sleeps)
                }
            }
            Receive::SpaceWake(sleeps) => {
                if let Some(sender) = state.senders.get_mut(usize::from(woken)) {
                    sender.next = Send::Rearm;
                }
                self.after_space(state, sleeps)
            }
            _ => return self.recover_or_sleep(state),
        };
        state.receiver.next = next;
        true
    }

    fn peek(&self, state: &mut State) -> Receive {
        let place = state.receiver.place;
        let word = state.memory[self.offset(place)];
        match word {
            Word::Ready(span) => {
                let first = state.memory[(self.offset(place) + 1) % WORDS];
                let Word::Payload { sender, message, .. } = first else {
                    state.breaks("a message without its bytes");
                    return Receive::Peek;
                };
                if span != self.span(sender.into(), message) {
                    state.breaks("a message of another length");
                    return Receive::Peek;
                }
                self.check_payload(state, place, sender, message);
                self.handle(state, sender, message);
                if self.has(Bug::HeadEarly) {
                    state.head = place + span;
                }
                Receive::Release
            }
            Word::Passed(span) => Receive::Pass(span),
            Word::Busy(..) | Word::Empty => {
                state.receiver.seen = word;
                Receive::SpaceLook(true)
            }
            Word::Payload { .. } => {
                state.breaks("bytes where a record begins");
                Receive::Peek
            }
        }
    }

    fn check_payload(&self, state: &mut State, place: u8, sender: u8, message: u8) {
        for at in 0..self.messages[usize::from(sender)][usize::from(message)] {
            let word = state.memory[(self.offset(place) + 1 + usize::from(at)) % WORDS];
            if word != (Word::Payload { sender, message, at }) {
                state.breaks("a torn message");
            }
        }
    }

    /// Takes down that a message has arrived.
    fn handle(&self, state: &mut State, sender: u8, message: u8) {
        state.receiver.handled = Some((sender, message));
        if let Some(due) = state.again.take() {
            if due != (sender, message) {
                state.breaks("what a dead receiver left does not come again");
            }
            return;
        }
        let it = &mut state.senders[usize::from(sender)];
        let known = it.committed >> message & 1 == 1;
        let new = it.received >> message == 0;
        it.received |= 1 << message;
        if !known {
            state.breaks("a message that was not committed");
        }
        if !new {
            state.breaks("a message twice, or out of order");
        }
    }

    fn free(&self, state: &mut State, span: u8) {
        let it = &mut state.receiver;
        it.place += span;
        it.freed += span;
        state.head = it.place;
        if state.head > state.tail {
            state.breaks("head beyond tail");
            state.head = state.tail;
        }
    }

    /// After the look for sleeping senders: with nothing to receive, what becomes of a dead one's
    /// record, or sleep.
    fn after_space(&self, state: &State, sleeps: bool) -> Receive {
        match state.receiver.seen {
            _ if !sleeps => Receive::Peek,
            Word::Busy(owner, span) if self.is_dead(state, owner) || self.has(Bug::NoProof) => {
                Receive::Recover(owner, span)
            }
            _ => Receive::Arm,
        }
    }

    fn recover_or_sleep(&self, state: &mut State) -> bool {
        let it = state.receiver;
        let at = self.offset(it.place);
        let next = match it.next {
            Receive::Recover(owner, span) => {
                let made = state.tail != it.place || self.has(Bug::SkipUnmade);
                Receive::RecoverSwap(owner, span, made)
            }
            Receive::RecoverSwap(owner, span, made) => {
                if state.memory[at] == Word::Busy(owner, span) || self.has(Bug::RecoverBlindly) {
                    state.memory[at] = if made { Word::Passed(span) } else { Word::Empty };
                }
                Receive::Peek
            }
            Receive::Arm => {
                self.arm(state, Wait::Naps);
                Receive::PeekAgain
            }
            Receive::LookForClaim if state.claim.is_some() && !self.has(Bug::SleepBlindly) => {
                Receive::Arm
            }
            Receive::LookForClaim => Receive::PeekAgain,
            Receive::PeekAgain => {
                let unchanged = state.memory[at] == it.seen && it.freed == 0;
                if unchanged { Receive::Sleep } else { Receive::Disarm }
            }
            Receive::Sleep => {
                if self.has(Bug::ArmLate) {
                    state.receiver_wait = it.armed;
                }
                let unchanged = state.receiver_wait == it.armed;
                if unchanged { Receive::Asleep } else { Receive::Disarm }
            }
            Receive::Disarm => {
                state.receiver_wait = Wait::Awake;
                state.receiver.armed = Wait::Awake;
                state.receiver.seen = Word::Empty;
                Receive::Peek
            }
            other => unreachable!("{other:?} is done elsewhere"),
        };
        state.receiver.next = next;
        true
    }

    fn arm(&self, state: &mut State, wait: Wait) {
        if !self.has(Bug::ArmLate) {
            state.receiver_wait = wait;
        }
        state.receiver.armed = wait;
    }

    /// Whether the receiver may want to sleep rather than nap.
    fn may_sleep(&self, state: &State) -> bool {
        let it = state.receiver;
        self.sleeps && it.next == Receive::Arm && it.seen == Word::Empty && it.armed == Wait::Awake
    }

    fn kill_sender(&self, state: &mut State, sender: usize, replaced: bool) -> bool {
        if state.kills == 0 || state.senders[sender].next == Send::Done {
            return false;
        }
        state.kills -= 1;
        state.unlock_slots(sender as u8);
        let it = &mut state.senders[sender];
        let last = self.messages[sender].len() as u8;
        let message = if replaced { (it.message + 1).min(last) } else { last };
        let next = if replaced { Send::Attach } else { Send::Done };
        let (stale, saw_sleep) = (false, false);
        *it = Sender { next, me: NOBODY, message, at: 0, piece: 0, stale, saw_sleep, ..*it };
        true
    }

    fn kill_receiver(&self, state: &mut State) -> bool {
        if state.receiver_kills == 0 {
            return false;
        }
        state.receiver_kills -= 1;
        state.unlock_slots(SENDERS as u8);
        state.again = state.receiver.handled.or(state.again);
        state.receiver = NEW_RECEIVER;
        true
    }

    /// Whether everything sent has arrived and nobody has anything left to do, but for sender
    /// `stopped`.
    pub(crate) fn is_done(&self, state: &State, stopped: Option<u8>) -> bool {
        let it = state.receiver;
        let mut sent = (0..).zip(&state.senders).map(|(sender, it)| {
            it.committed == it.received && (it.next == Send::Done || stopped == Some(sender))
        });
        // What a dead one has claimed and not committed may stay until somebody comes to rouse the
        // receiver.
        let sleeps = it.next == Receive::Asleep && it.armed == Wait::Sleeps;
        let empty = state.head == state.tail || sleeps;
        sent.all(|sent| sent) && empty && state.again.is_none()
    }

    /// Whether a sender is between two claims: it has neither the claim word nor a record that
    /// it has not published.
    pub(crate) fn is_between_claims(state: &State, sender: u8) -> bool {
        let it = state.senders[usize::from(sender)];
        !matches!(
            it.next,
            Send::RouseLook
                | Send::Look
                | Send::End(_)
                | Send::Mark(_)
                | Send::Move(_)
                | Send::Tell
                | Send::Pad
                | Send::Unlock
                | Send::UnlockFull
                | Send::RouseMark(false)
                | Send::Rouse(false)
                | Send::Copy(_)
                | Send::Commit
        )
    }

    /// The promise that is broken in a state.
    pub(crate) fn broken(state: &State) -> Option<&'static str> {
        state.broken
    }
}

const NEW_RECEIVER: Receiver = Receiver {
    next: Receive::Attach,
    me: NOBODY,
    place: 0,
    freed: 0,
    seen: Word::Empty,
    armed: Wait::Awake,
    handled: None,
};

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let senders = std::array::from_fn(|sender| Sender {
            next: if sender < self.messages.len() { Send::Attach } else { Send::Done },
            me: NOBODY,
            message: 0,
            at: 0,
            piece: 0,
            stale: false,
            saw_sleep: false,
            saw_sleeper: None,
            committed: 0,
            received: 0,
        });
        vec![State {
            memory: [Word::Empty; WORDS],
            claim: None,
            tail: 0,
            turn: 0,
            head: 0,
            generations: [0; SLOTS],
            locks: [[None; 3]; SLOTS],
            receiver_wait: Wait::Awake,
            space_wait: false,
            role: None,
            senders,
            receiver: NEW_RECEIVER,
            again: None,
            kills: self.kills,
            receiver_kills: self.receiver_kills,
            broken: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        let senders = 0..self.messages.len() as u8;
        let asleep = |sender: u8| state.senders[usize::from(sender)].next == Send::Asleep;
        actions.extend(senders.clone().map(Action::Sender));
        if matches!(state.receiver.next, Receive::SpaceWake(_)) && senders.clone().any(asleep) {
            actions.extend(senders.clone().filter(|&it| asleep(it)).map(Action::Receiver));
        } else {
            actions.push(Action::Receiver(u8::MAX));
        }
        if self.may_sleep(state) {
            actions.push(Action::ReceiverSleeps);
        }
        if self.naps {
            actions.extend(senders.clone().filter(|&it| asleep(it)).map(Action::SenderNapEnds));
            actions.push(Action::ReceiverNapEnds);
        }
        if state.kills > 0 {
            let kills = |sender| [true, false].map(|again| Action::KillSender(sender, again));
            actions.extend(senders.flat_map(kills));
        }
        if state.receiver_kills > 0 {
            actions.push(Action::KillReceiver);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let made = match action {
            Action::Sender(sender) => self.send(&mut state, sender.into()),
            Action::Receiver(woken) => self.receive(&mut state, woken),
            Action::ReceiverSleeps => {
                self.arm(&mut state, Wait::Sleeps);
                state.receiver.next = Receive::LookForClaim;
                true
            }
            Action::SenderNapEnds(sender) => {
                state.senders[usize::from(sender)].next = Send::Rearm;
                true
            }
            Action::ReceiverNapEnds => {
                let Receiver { next, armed, .. } = state.receiver;
                state.receiver.next = Receive::Disarm;
                next == Receive::Asleep && armed == Wait::Naps
            }
            Action::KillSender(sender, again) => self.kill_sender(&mut state, sender.into(), again),
            Action::KillReceiver => self.kill_receiver(&mut state),
        };
        made.then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("no promise is broken", |_, state: &State| state.broken.is_none())]
    }
}
