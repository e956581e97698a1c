//! One small ring with everybody around the victim: who has sent what, what must still come, and
//! what must hold once the victim is dead.
//!
//! The scene lives in one process with one thread, so nothing here blocks on a peer: whoever needs
//! the other side's help (a full ring, the way to its beginning) asks for it in turns.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use ipmpsc::{Error, Receiver, Sender, SharedRingBuffer, Spin};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use crate::{
    payload::{Key, claimed},
    sys::SharedWords,
};

/// Who sends, by the number in its messages.
pub(crate) const WITNESS: u32 = 0;
pub(crate) const VICTIM: u32 = 1;
const PARTIES: usize = 2;

/// From a death until everybody else has gone on.
pub(crate) const BOUND: Duration = Duration::from_millis(200);
/// Between two looks of a side at the other.
const TURN: Duration = Duration::from_millis(1);
/// How long the others are watched while the victim is stopped: long enough for them to ask whether
/// it lives, which they do before they first sleep.
const WATCH: Duration = Duration::from_millis(2);

/// Words of the ring's file, as `ipmpsc/src/layout.rs` documents them.
const CLAIM: usize = 128 / 8;
const TAIL: usize = 136 / 8;
const LAST_TURN: usize = 192 / 8;
const HEAD: usize = 256 / 8;
const RECEIVER: usize = 264 / 8;
const RECEIVER_WAIT: usize = 384 / 8;
const SPACE_WAIT: usize = 512 / 8;
/// First word of a slot: generation and senders.
const fn slot(number: usize) -> usize {
    (1024 + 16 * number) / 8
}
/// The slot after the receiver's and the witness's.
const SENDER_SLOT: usize = slot(2);
const RECEIVER_SLOT: usize = slot(0);
/// Where the records begin in a ring of so few slots.
const DATA: u64 = 4096;
/// One slot for the witness and one for the victim: a newcomer sends only if the victim's is free.
const SENDERS: u32 = 2;

/// How messages are sent and received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Bytes,
    Typed,
    /// Typed, and received by borrowing.
    Borrowed,
}

/// Which message of whom.
fn key(producer: u32, sequence: u64) -> Key {
    Key { seed: 0, producer, incarnation: 0, sequence }
}

/// The bytes of a message.
pub(crate) fn message(producer: u32, sequence: u64, len: usize) -> Vec<u8> {
    let mut message = vec![0; len];
    key(producer, sequence).fill(&mut message);
    message
}

impl Form {
    pub(crate) fn send(self, tx: &Sender, message: &[u8], limit: Duration) -> Result<bool, Error> {
        match self {
            Form::Bytes => tx.send_bytes_timeout(message, limit),
            Form::Typed | Form::Borrowed => tx.send_timeout(&Bytes::new(message), limit),
        }
    }

    pub(crate) fn receive(
        self,
        rx: &mut Receiver,
        limit: Duration,
    ) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Form::Bytes => Ok(rx.recv_bytes_timeout(limit)?.map(|message| message.to_vec())),
            Form::Borrowed => {
                let mut context = rx.zero_copy_context();
                Ok(context.recv_timeout::<&Bytes>(limit)?.map(|bytes| bytes.to_vec()))
            }
            Form::Typed => Ok(rx.recv_timeout::<ByteBuf>(limit)?.map(ByteBuf::into_vec)),
        }
    }
}

/// What has come and what must come, one line a party.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    next: u64,
    acknowledged: u64,
    intended: u64,
}

/// The ring and those around it.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) form: Form,
    pub(crate) path: PathBuf,
    capacity: u64,
    words: SharedWords,
    witness: Sender,
    rx: Option<Receiver>,
    books: [Line; PARTIES],
    /// The next message may be gone with a dead receiver that had it.
    may_skip: bool,
    /// It was not: it came again.
    came_again: bool,
    /// The length of the witness's messages.
    len: usize,
    /// Which slot the victim takes.
    slot: usize,
    before: Positions,
    /// Somebody has died before the victim set out.
    buried: bool,
}

/// Where the ring's ends were when the victim set out.
#[derive(Clone, Copy, Debug, Default)]
struct Positions {
    /// Who has died holding the claim word.
    claim: u64,
    head: u64,
    tail: u64,
    turn: u64,
    generation: u64,
    recoveries: u64,
}

/// What followed a death.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Aftermath {
    /// The message in flight came, or came again.
    pub(crate) arrived: bool,
    /// The others had to take something from the dead.
    pub(crate) recovered: bool,
    /// A record was thrown away.
    pub(crate) discarded: bool,
    /// From the death until the witness's next message was received.
    pub(crate) took_ns: u64,
}

pub(crate) fn open(path: &Path) -> Result<SharedRingBuffer, Error> {
    SharedRingBuffer::options().open(path)
}

/// The path of the ring that a victim makes beside this one.
pub(crate) fn second_ring(path: &Path) -> PathBuf {
    path.with_extension("second")
}

/// A sender that reaches its sleep without spinning, so that each run takes the same instructions.
pub(crate) fn sender(path: &Path) -> Result<Sender, Error> {
    let mut sender = Sender::new(open(path)?);
    sender.set_spin(Spin::Never);
    Ok(sender)
}

/// A receiver of that kind.
pub(crate) fn receiver(path: &Path) -> Result<Receiver, Error> {
    let mut receiver = Receiver::new(open(path)?);
    receiver.set_spin(Spin::Never);
    Ok(receiver)
}

impl Scene {
    /// A ring of its own at `path`.
    pub(crate) fn create(path: &Path, capacity: u64, form: Form, len: usize) -> Result<Scene> {
        // The largest message of a ring is 16 bytes shorter than the ring.
        let mut options = SharedRingBuffer::options();
        options.capacity(capacity - 16).max_senders(SENDERS);
        drop(options.create(path).context("create the ring")?);
        Ok(Scene {
            form,
            path: path.to_owned(),
            capacity,
            words: SharedWords::open(path).context("map the ring's file")?,
            witness: sender(path).context("attach the witness")?,
            rx: Some(receiver(path).context("open a receiver")?),
            books: [Line::default(); PARTIES],
            may_skip: false,
            came_again: false,
            len,
            slot: SENDER_SLOT,
            before: Positions::default(),
            buried: false,
        })
    }

    /// The witness sends `count` messages that are received, then `waiting` that are not.
    pub(crate) fn prefill(&mut self, drained: u64, waiting: u64) -> Result<()> {
        for _ in 0..drained {
            ensure!(self.witness_sends(BOUND)?, "no room for what is received at once");
            ensure!(self.receive(BOUND)?.is_some(), "what was just sent does not come");
        }
        for _ in 0..waiting {
            ensure!(self.witness_sends(Duration::ZERO)?, "no room to fill");
        }
        Ok(())
    }

    /// The witness ends a large ring's lap early, and fills the next one up to the receiver.
    pub(crate) fn turn_and_fill(&mut self) -> Result<()> {
        ensure!(self.witness_sends(Duration::ZERO)?, "no room behind the turn");
        ensure!(self.word(LAST_TURN) != 0, "the witness did not turn");
        // All but the header word of this message and the one behind it. A second try, with less,
        // would go on behind the turn.
        let left = self.word(HEAD) + self.capacity - self.word(TAIL) - 16;
        let len = std::mem::replace(&mut self.len, usize::try_from(left)?);
        ensure!(self.witness_sends(Duration::ZERO)?, "no room for {left} bytes");
        self.len = len;
        Ok(())
    }

    /// The witness sends its next message.
    fn witness_sends(&mut self, limit: Duration) -> Result<bool> {
        let line = &mut self.books[WITNESS as usize];
        let bytes = message(WITNESS, line.acknowledged, self.len);
        let sent = match self.form.send(&self.witness, &bytes, limit) {
            // Said of a full ring, as it should be; whoever receives next makes room.
            Err(Error::ReceiverGone) => false,
            sent => sent.context("the witness sends")?,
        };
        line.acknowledged += u64::from(sent);
        line.intended = line.acknowledged;
        Ok(sent)
    }

    /// Receives a message if one comes in time, checks it and gives who sent it.
    pub(crate) fn receive(&mut self, limit: Duration) -> Result<Option<u32>> {
        let rx = self.rx.as_mut().context("nobody receives in this scene")?;
        let Some(bytes) = self.form.receive(rx, limit).context("a receive")? else {
            return Ok(None);
        };
        let (producer, _, sequence) = claimed(&bytes).context("a message without a header")?;
        let line = self.books.get_mut(producer as usize).context("a message of nobody")?;
        if producer == WITNESS && std::mem::take(&mut self.may_skip) {
            if sequence == line.next + 1 {
                line.next += 1;
            } else {
                self.came_again = true;
            }
        }
        let due = line.next;
        ensure!(sequence == due, "producer {producer}: expected message {due}, got {sequence}");
        ensure!(due < line.intended, "producer {producer}: message {due} was never sent");
        ensure!(key(producer, sequence).matches(&bytes), "message {producer}/{due} is torn");
        line.next += 1;
        Ok(Some(producer))
    }

    /// The victim has sent so many messages, and perhaps one more.
    pub(crate) fn victim_sent(&mut self, acknowledged: u64, intended: u64) {
        let line = &mut self.books[VICTIM as usize];
        (line.acknowledged, line.intended) = (acknowledged, intended);
    }

    /// The victim has received the next `certain` of the witness's messages, and perhaps one more
    /// if there is one.
    pub(crate) fn victim_received(&mut self, certain: u64, perhaps: bool) {
        let line = &mut self.books[WITNESS as usize];
        line.next += certain;
        self.may_skip = perhaps && line.next < line.acknowledged;
    }

    /// The witness sends so many more messages.
    pub(crate) fn witness_goes_on(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            ensure!(self.witness_sends(BOUND)?, "no room behind the dead");
        }
        Ok(())
    }

    /// Nobody receives until somebody else does.
    pub(crate) fn leave_receiving(&mut self, to_the_victim: bool) {
        self.rx = None;
        if to_the_victim {
            self.slot = RECEIVER_SLOT;
        }
    }

    /// From here on somebody acts; `buried` if another has died in this ring.
    pub(crate) fn begin(&mut self, buried: bool) {
        self.before = self.positions();
        self.buried = buried;
    }

    /// The victim stands at its first mark.
    pub(crate) fn set_out(&mut self) {
        self.before = self.positions();
    }

    fn word(&self, index: usize) -> u64 {
        self.words.word(index).load(std::sync::atomic::Ordering::SeqCst)
    }

    fn positions(&self) -> Positions {
        Positions {
            claim: self.word(CLAIM),
            head: self.word(HEAD),
            tail: self.word(TAIL),
            turn: self.word(LAST_TURN),
            generation: self.word(self.slot),
            recoveries: self.recoveries(),
        }
    }

    fn recoveries(&self) -> u64 {
        open(&self.path).map_or(0, |ring| ring.stats().recoveries)
    }

    /// Receives what there is, where somebody receives, or lets a moment pass.
    #[cfg(feature = "fault")]
    pub(crate) fn help(&mut self) -> Result<()> {
        match self.rx {
            Some(_) => drop(self.receive(TURN)?),
            None => std::thread::sleep(TURN),
        }
        Ok(())
    }

    /// Whether the victim has locked the slot of the one who died with the claim word and has not
    /// yet counted its generation up: until then the dead one seems alive to everybody.
    fn is_inherited(&self) -> bool {
        let holder = self.claim_holder();
        let is_theirs = holder != 0 && holder == self.before.claim;
        is_theirs && self.slot == SENDER_SLOT && self.word(self.slot) == self.before.generation
    }

    /// Whether the witness's next message finds no room, with the header behind it.
    fn is_full(&self) -> Result<bool> {
        let record = self.len as u64 + if self.form == Form::Bytes { 16 } else { 24 };
        Ok(open(&self.path)?.stats().used + record.next_multiple_of(8) > self.capacity)
    }

    /// The value of the claim word: 0, or who holds it.
    pub(crate) fn claim_holder(&self) -> u64 {
        self.word(CLAIM)
    }

    /// Whether a receiver has the role, dead or alive.
    fn is_role_held(&self) -> bool {
        self.word(RECEIVER) & 15 == 1
    }

    /// Whether a sender is about to sleep, or sleeps, in front of a full ring.
    pub(crate) fn is_sender_asleep(&self) -> bool {
        self.word(SPACE_WAIT) & 1 == 1
    }

    /// Whether the receiver is about to nap, or naps.
    pub(crate) fn is_receiver_napping(&self) -> bool {
        self.word(RECEIVER_WAIT) == 1
    }

    /// Leaves the ring as a receiver does that dies asleep, where one has died napping: that nap
    /// would have taken longer than all the rest.
    pub(crate) fn let_dead_receiver_sleep(&self) {
        self.words.word(RECEIVER_WAIT).store(2, std::sync::atomic::Ordering::SeqCst);
    }

    /// The state in the header word at a position; the last one before `tail` if there are several.
    fn record_state(&self, from: u64, to: u64) -> u64 {
        let mut at = from;
        loop {
            let index = usize::try_from((DATA + at % self.capacity) / 8).expect("inside the file");
            let header = self.word(index);
            let span = ((header >> 32) + 8).next_multiple_of(8);
            if header == 0 || at + span >= to {
                return header & 15;
            }
            at += span;
        }
    }

    /// Where in the protocol a sender is, by what it has written.
    pub(crate) fn sender_window(&self) -> &'static str {
        let tail = self.word(TAIL);
        let (holder, moved) = (self.claim_holder(), tail != self.before.tail);
        if holder != 0 && holder == self.before.claim {
            return "claim word still the dead one's";
        }
        let held = holder != 0;
        let record = match (held, moved) {
            (true, false) => self.record_state(tail, tail),
            _ => self.record_state(self.before.tail, tail),
        };
        let is_turn = self.word(LAST_TURN) != self.before.turn
            && self.record_state(self.before.tail, self.before.tail) == 1;
        match (held, moved, record) {
            _ if is_turn => "turn told, pad not published",
            (false, false, _) => "before the claim",
            (true, false, 0) => "claim word taken",
            (true, false, _) => "record marked, tail not moved",
            (true, true, 3) => "end padded, claim word held",
            (true, true, _) => "claimed, claim word held",
            (false, true, 1) => "record being written",
            (false, true, 2) => "committed",
            (false, true, 3) => "padded, nothing claimed",
            (false, true, _) => "given up",
        }
    }

    /// Where in the protocol a receiver is.
    pub(crate) fn receiver_window(&self) -> &'static str {
        let head = self.word(HEAD);
        let record = self.record_state(self.before.head, self.before.head);
        let holder = self.claim_holder();
        if holder != 0 && holder == self.before.claim {
            return "claim word still the dead one's";
        }
        match (holder != 0, head != self.before.head, record) {
            (true, _, _) => "claim word held",
            (false, true, _) => "space freed",
            (false, false, 4) => "dead record marked as skipped",
            (false, false, _) => "nothing freed",
        }
    }

    /// Where somebody who attaches or leaves is.
    pub(crate) fn attach_window(&self) -> &'static str {
        let (slot, before) = (self.word(self.slot), self.before.generation);
        let counted = slot & 0xffff_ffff != before & 0xffff_ffff;
        let receives = self.slot == RECEIVER_SLOT && self.is_role_held();
        match (counted, slot >> 32 != before >> 32, receives) {
            (false, true, _) => "leaving, handles counted down",
            (_, _, true) => "receiver's role held",
            (true, _, _) => "slot taken",
            (false, false, _) => "as before",
        }
    }

    /// Where the maker of another ring is.
    pub(crate) fn create_window(&self) -> &'static str {
        match (self.draft().exists(), self.second_ring().exists()) {
            (false, false) => "nothing made",
            (true, false) => "draft",
            (_, true) => "published",
        }
    }

    /// The ring that a victim makes.
    pub(crate) fn second_ring(&self) -> PathBuf {
        second_ring(&self.path)
    }

    fn draft(&self) -> PathBuf {
        let path = self.second_ring();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!(".{name}.ipmpsc-new"))
    }

    /// A maker that died leaves a whole ring or none, and is in nobody's way.
    pub(crate) fn survive_maker(&self) -> Result<()> {
        let since = Instant::now();
        let path = self.second_ring();
        match open(&path) {
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => bail!("half a ring at its path: {error}"),
        }
        let ring = SharedRingBuffer::options().create(&path).context("make it again")?;
        ensure!(ring.try_clone_file().is_ok() && open(&path).is_ok(), "it is not there");
        ensure!(!self.draft().exists(), "a draft stays behind");
        ensure!(since.elapsed() < BOUND, "the next maker waited {:?}", since.elapsed());
        std::fs::remove_file(path).context("remove it")
    }

    /// While the victim is stopped, nobody takes it for dead, and whoever need not wait for it does
    /// not.
    pub(crate) fn watch_frozen(&mut self) -> Result<()> {
        let holder = self.claim_holder();
        let by_victim = holder != 0 && holder != self.before.claim;
        if self.rx.is_none() && self.slot == SENDER_SLOT {
            self.rx = Some(receiver(&self.path)?);
        }
        if self.rx.is_some() {
            while self.receive(Duration::ZERO)?.is_some() {}
        }
        let sent = self.witness_sends(WATCH)?;
        ensure!(!(sent && by_victim), "a stopped process that holds the claim word was passed");
        if self.rx.is_some() {
            // What it has claimed stays its own, be it the whole ring.
            let may_wait = by_victim || self.is_inherited() || self.is_full()?;
            ensure!(sent || may_wait, "a stopped process that holds nothing is waited for");
            self.receive(WATCH)?;
        } else if self.is_role_held() {
            let mut second = receiver(&self.path)?;
            match self.form.receive(&mut second, Duration::ZERO) {
                Err(Error::ReceiverExists) => {}
                other => bail!("a second receiver beside a stopped one: {other:?}"),
            }
        }
        if by_victim {
            ensure!(self.claim_holder() == holder, "the claim word was taken from a stopped one");
        }
        let recoveries = self.recoveries();
        let nobody_died = self.before.claim == 0 && !self.buried;
        ensure!(!nobody_died || recoveries == 0, "a stopped process was taken for dead");
        Ok(())
    }

    /// After the victim's death everybody else goes on within the bound: what was acknowledged
    /// comes, nothing else does, and what the victim held is free.
    pub(crate) fn survive(&mut self) -> Result<Aftermath> {
        let died = Instant::now();
        if self.rx.is_none() {
            self.rx = Some(receiver(&self.path)?);
        }
        while !self.is_level(WITNESS) {
            self.receive(TURN)?;
            ensure!(died.elapsed() < BOUND, "what was acknowledged does not come");
        }
        self.pass_one(died)?;
        let took = died.elapsed();
        let newcomer = sender(&self.path)?;
        self.pass_largest(&newcomer).context("a newcomer")?;
        ensure!(self.receive(Duration::ZERO)?.is_none(), "a message too many");
        let victim = self.books[VICTIM as usize];
        ensure!(
            victim.next >= victim.acknowledged,
            "an acknowledged message of the victim is lost"
        );
        let whole = [victim.acknowledged, victim.intended].contains(&victim.next);
        ensure!(whole, "{} of {} messages of a batch came", victim.next, victim.intended);
        let stats = open(&self.path)?.stats();
        ensure!(stats.used == 0, "{} bytes stay taken", stats.used);
        ensure!(stats.senders == 2, "{} senders, not the two that live", stats.senders);
        ensure!(stats.blocked_senders == 0, "{} senders wait", stats.blocked_senders);
        Ok(Aftermath {
            arrived: victim.next > 0 || self.came_again,
            recovered: stats.recoveries > self.before.recoveries,
            discarded: stats.discarded > 0,
            took_ns: u64::try_from(took.as_nanos())?,
        })
    }

    /// Whether all that a party has been promised has come.
    fn is_level(&self, party: u32) -> bool {
        let line = self.books[party as usize];
        let skipped = party == WITNESS && self.may_skip;
        line.next + u64::from(skipped) >= line.acknowledged
    }

    /// A message of the witness, from its send to its receive.
    fn pass_one(&mut self, since: Instant) -> Result<()> {
        while !self.witness_sends(TURN)? {
            self.receive(Duration::ZERO)?;
            ensure!(since.elapsed() < BOUND, "the witness cannot send");
        }
        while !self.is_level(WITNESS) {
            self.receive(TURN)?;
            ensure!(since.elapsed() < BOUND, "the witness's message does not come");
        }
        Ok(())
    }

    /// The largest message of the ring, which needs all of it.
    fn pass_largest(&mut self, tx: &Sender) -> Result<()> {
        let largest = open(&self.path)?.max_message_len();
        let since = Instant::now();
        let bytes = vec![9; usize::try_from(largest)?];
        // The ring's beginning is free once the receiver has looked there.
        while !tx.send_bytes_timeout(&bytes, Duration::ZERO)? {
            self.receive(Duration::ZERO)?;
            ensure!(since.elapsed() < BOUND, "the largest message finds no room");
        }
        let rx = self.rx.as_mut().context("somebody receives by now")?;
        let message = rx.recv_bytes_timeout(BOUND)?.context("the largest message does not come")?;
        ensure!(*message == *bytes, "the largest message is torn");
        Ok(())
    }
}
