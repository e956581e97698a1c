//! What the victims of the sweep do, as a table: one row for each state of the ring that takes
//! another way through the protocol.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail, ensure};
use ipmpsc::SharedRingBuffer;
use serde_bytes::{ByteBuf, Bytes as TypedBytes};

use super::{
    Way,
    scene::{Form, Scene, VICTIM, WITNESS, message, receiver, second_ring, sender},
};
use crate::{
    payload::{HEADER_LEN, claimed},
    sys::trace::{Stop, Traced, mark as stop},
};

/// Longer than any of it takes; nobody waits for it when things are well.
const LONG: Duration = Duration::from_secs(5);
/// A receive from an empty ring: one sleep, and longer than the single steps up to it take.
const NAP: Duration = Duration::from_millis(50);
/// More than a receive without time lets pass before it asks again.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);
/// Steps in which every sender has made its claim.
const STEPS_MAX: usize = 100_000;

/// One row of the sweep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    pub(crate) name: &'static str,
    pub(crate) does: Does,
    form: Form,
    /// The length of the victim's message.
    len: usize,
    ring_bytes: u64,
    /// Messages that have gone through the ring, which bring its ends to where they are.
    drained: u64,
    /// Messages that wait to be received.
    waiting: u64,
    /// The length of these, where it is not that of the victim's.
    witness_len: usize,
    /// Then the witness turns, and fills the lap that it begins.
    is_turned: bool,
    /// Messages behind a record that is left behind, where one is recovered.
    behind: u64,
    before: Before,
}

/// Called by a victim where what is swept begins, and where it ends.
type Mark<'a> = &'a dyn Fn();

/// What is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Send,
    SendBatch,
    Receive,
    /// From a ring without a message.
    ReceiveNothing,
    /// Past the record of a sender that died writing it.
    Recover,
    /// Of a sender that died making it, by looks without waiting.
    RecoverClaim,
    Attach,
    AttachToReceive,
    Leave,
    Create,
}

/// Who has died before the victim sets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nobody,
    /// A sender with the claim word.
    HoldingWord,
    /// A sender with the claim word, its record marked and its tail not moved.
    Marked,
    /// A sender that had claimed and was writing.
    Writing,
    /// A receiver that napped, so that the next commit wakes.
    NappingReceiver,
    /// One that slept, so that the next claim rouses.
    SleepingReceiver,
    /// A sender that slept in front of a full ring, so that freed space wakes.
    SleepingSender,
}

const fn act(name: &'static str, does: Does, form: Form, ring: (u64, u64, u64)) -> Act {
    let (ring_bytes, drained, waiting) = ring;
    let (len, witness_len, before) = (HEADER_LEN, HEADER_LEN, Before::Nobody);
    let (is_turned, behind) = (false, 2);
    Act {
        name,
        does,
        form,
        len,
        ring_bytes,
        drained,
        waiting,
        witness_len,
        is_turned,
        behind,
        before,
    }
}

impl Act {
    const fn of_len(self, len: usize) -> Act {
        Act { len, ..self }
    }

    const fn among(self, witness_len: usize) -> Act {
        Act { witness_len, ..self }
    }

    const fn behind_a_turn(self) -> Act {
        Act { is_turned: true, ..self }
    }

    const fn after(self, before: Before) -> Act {
        Act { before, ..self }
    }

    const fn before_others(self, behind: u64) -> Act {
        Act { behind, ..self }
    }
}

use Before::{HoldingWord, Marked, NappingReceiver, SleepingReceiver, SleepingSender, Writing};
use Does::{
    Attach, AttachToReceive, Create, Leave, Receive, ReceiveNothing, Recover, RecoverClaim, Send,
    SendBatch,
};
use Form::{Borrowed, Bytes, Typed};

/// Messages of 24 bytes take 32 of the ring, typed ones 40. A ring of 256 has room for 7 or 6
/// (eight bytes stay free); after 6 or 5 of them the next does not fit before the end. A ring of
/// 4 MiB is large, and 16 messages of 64 KiB bring it to where a lap may end early.
pub(crate) const ACTS: [Act; 28] = [
    act("send bytes, empty", Send, Bytes, (256, 1, 0)),
    act("send bytes, nearly full", Send, Bytes, (256, 1, 6)),
    act("send bytes, at the wrap", Send, Bytes, (256, 6, 0)).of_len(64),
    act("send bytes, receiver napping", Send, Bytes, (256, 1, 0)).after(NappingReceiver),
    act("send bytes, receiver asleep", Send, Bytes, (256, 1, 0)).after(SleepingReceiver),
    act("send typed, empty", Send, Typed, (256, 1, 0)),
    act("send typed, nearly full", Send, Typed, (256, 1, 4)),
    act("send typed, at the wrap", Send, Typed, (256, 5, 0)).of_len(64),
    act("send typed in place, at the wrap", Send, Typed, (2048, 35, 0)).of_len(1200),
    act("send a batch", SendBatch, Typed, (512, 1, 0)),
    act("send, claim word of a dead sender", Send, Bytes, (256, 1, 0)).after(HoldingWord),
    act("send, half-made claim", Send, Bytes, (256, 1, 0)).after(Marked),
    act("turn in a large ring", Send, Bytes, (4 << 20, 16, 0)).among(1 << 16),
    act("go far without a turn", Send, Bytes, (4 << 20, 0, 16)).among(1 << 16),
    act("go on behind a turn", Send, Bytes, (4 << 20, 8, 8)).among(1 << 16).behind_a_turn(),
    act("receive bytes", Receive, Bytes, (256, 0, 4)),
    act("receive bytes, at the wrap", Receive, Bytes, (256, 5, 4)).of_len(32),
    act("receive typed", Receive, Typed, (256, 0, 4)),
    act("receive typed, at the wrap", Receive, Typed, (256, 5, 4)),
    act("receive, sender asleep", Receive, Bytes, (256, 0, 7)).after(SleepingSender),
    act("receive from an empty ring", ReceiveNothing, Bytes, (256, 1, 0)),
    act("recover a record", Recover, Bytes, (256, 1, 0)).after(Writing),
    act("recover a half-made claim", RecoverClaim, Bytes, (256, 1, 0)).after(Marked),
    act("attach to send", Attach, Bytes, (256, 1, 1)),
    act("attach to receive", AttachToReceive, Bytes, (256, 1, 2)),
    act("leave as a sender", Leave, Bytes, (256, 1, 1)),
    act("leave with a record left behind", Leave, Bytes, (256, 1, 0)).after(Writing),
    act("create", Create, Bytes, (256, 0, 0)),
];

/// The largest message of a ring of 256 bytes, and the largest typed one of 2,048, which is
/// serialized in place.
const LARGEST: usize = 240;
const LARGEST_TYPED: usize = 2048 - 16 - 8;

/// What the rows above leave out of {send, receive, attach, recover} x {empty, nearly full, at the
/// wrap, largest message}: for the named points, which are few enough for all of it.
pub(crate) const STATES: [Act; 24] = [
    act("send bytes, largest", Send, Bytes, (256, 0, 0)).of_len(LARGEST),
    act("send typed, largest", Send, Typed, (2048, 0, 0)).of_len(LARGEST_TYPED),
    act("receive bytes, nearly full", Receive, Bytes, (256, 0, 6)),
    act("receive typed, nearly full", Receive, Typed, (256, 0, 5)),
    act("receive borrowed, nearly full", Receive, Borrowed, (256, 0, 5)),
    act("receive borrowed, at the wrap", Receive, Borrowed, (256, 5, 4)),
    act("attach to send, empty", Attach, Bytes, (256, 1, 0)),
    act("attach to send, nearly full", Attach, Bytes, (256, 1, 6)),
    act("attach to send, at the wrap", Attach, Bytes, (256, 6, 0)),
    act("attach to send, largest", Attach, Bytes, (256, 0, 1)).of_len(LARGEST),
    act("attach to receive, nearly full", AttachToReceive, Bytes, (256, 1, 6)),
    act("attach to receive, at the wrap", AttachToReceive, Bytes, (256, 6, 2)),
    act("attach to receive, largest", AttachToReceive, Bytes, (256, 0, 1)).of_len(LARGEST),
    act("recover a record, nearly full", Recover, Bytes, (256, 1, 0))
        .after(Writing)
        .before_others(5),
    act("recover a record, at the wrap", Recover, Bytes, (256, 6, 0)).after(Writing).of_len(64),
    act("recover a record, largest", ReceiveNothing, Bytes, (256, 0, 0))
        .after(Writing)
        .of_len(LARGEST),
    act("recover a half-made claim, at the wrap", RecoverClaim, Bytes, (256, 6, 0))
        .after(Marked)
        .of_len(64),
    act("recover a half-made claim, largest", RecoverClaim, Bytes, (256, 0, 0))
        .after(Marked)
        .of_len(LARGEST),
    act("send, claim word of the dead, nearly full", Send, Bytes, (256, 1, 6)).after(HoldingWord),
    act("send, claim word of the dead, at the wrap", Send, Bytes, (256, 6, 0))
        .after(HoldingWord)
        .of_len(64),
    act("send, claim word of the dead, largest", Send, Bytes, (256, 0, 0))
        .after(HoldingWord)
        .of_len(LARGEST),
    act("send, half-made claim, nearly full", Send, Bytes, (256, 1, 6)).after(Marked),
    act("send, half-made claim, at the wrap", Send, Bytes, (256, 6, 0)).after(Marked).of_len(64),
    act("send, half-made claim, largest", Send, Bytes, (256, 0, 0)).after(Marked).of_len(LARGEST),
];

impl Act {
    /// The scene as the victim finds it.
    pub(crate) fn set(&self, path: &Path, way_of_the_first: Option<&Way>) -> Result<Scene> {
        let mut scene = self.prepare(path)?;
        if self.before != Before::Nobody {
            self.bury(&scene, way_of_the_first)?;
        }
        if self.does == Recover {
            scene.witness_goes_on(self.behind)?;
        }
        scene.begin(self.before != Before::Nobody);
        Ok(scene)
    }

    /// The scene before anybody has died.
    fn prepare(&self, path: &Path) -> Result<Scene> {
        // A receiver meets the lengths that the row is about; other victims send them.
        let is_met = matches!(self.does, Receive | Attach | AttachToReceive);
        let len = if is_met { self.len } else { self.witness_len };
        let mut scene = Scene::create(path, self.ring_bytes, self.form, len)?;
        scene.prefill(self.drained, self.waiting)?;
        if self.is_turned {
            scene.turn_and_fill()?;
        }
        if self.receives() || matches!(self.before, NappingReceiver | SleepingReceiver) {
            scene.leave_receiving(self.receives());
        }
        scene.begin(false);
        Ok(scene)
    }

    /// Whether the victim is, or becomes, the receiver.
    pub(crate) fn receives(&self) -> bool {
        match self.does {
            Receive | ReceiveNothing | Recover | RecoverClaim | AttachToReceive => true,
            Send | SendBatch | Attach | Leave | Create => false,
        }
    }

    /// Kills the one who dies first where it should; `way` leads there quickly.
    fn bury(&self, scene: &Scene, way: Option<&Way>) -> Result<()> {
        let (mut dead, mut step) = (self.first_to_die(&scene.path)?, 0);
        if let Some(way) = way {
            step = way.len() - 1;
            ensure!(!way.lead(&mut dead, step)?, "the first to die has come to its end");
        }
        while !self.is_where_the_first_dies(scene) {
            step_on(&mut dead)?;
            step += 1;
            ensure!(step < STEPS_MAX, "the first to die does not get there");
        }
        dead.kill()?;
        if self.before == SleepingReceiver {
            scene.let_dead_receiver_sleep();
        }
        Ok(())
    }

    /// The way of the one who dies first to where it does.
    pub(crate) fn way_of_the_first(&self, path: &Path) -> Result<Option<Way>> {
        if self.before == Before::Nobody {
            return Ok(None);
        }
        let scene = self.prepare(path)?;
        let mut dead = self.first_to_die(path)?;
        let mut way = Way::default();
        while !self.is_where_the_first_dies(&scene) {
            way.push(dead.next_address()?);
            step_on(&mut dead)?;
            ensure!(way.len() < STEPS_MAX, "the first to die does not get there");
        }
        way.push(dead.next_address()?);
        Ok(Some(way))
    }

    fn first_to_die(&self, path: &Path) -> Result<Traced> {
        let part = || match self.before {
            NappingReceiver | SleepingReceiver => said(receives_nothing(path, LONG, &stop)),
            _ => said(sends(Bytes, path, self.len, &stop)),
        };
        Ok(Traced::fork(part)?)
    }

    fn is_where_the_first_dies(&self, scene: &Scene) -> bool {
        match self.before {
            Before::Nobody => true,
            HoldingWord => scene.claim_holder() != 0,
            Marked => scene.sender_window() == "record marked, tail not moved",
            Writing => scene.sender_window() == "record being written",
            NappingReceiver | SleepingReceiver => scene.is_receiver_napping(),
            SleepingSender => scene.is_sender_asleep(),
        }
    }

    /// The victim's part, up to its first mark unswept, from there to its second swept.
    pub(crate) fn play(&self, path: &Path, mark: Mark) -> Result<(), String> {
        said(match self.does {
            Send => sends(self.form, path, self.len, mark),
            SendBatch => sends_batch(path, mark),
            Receive => receives(self.form, path, self.drained, mark),
            ReceiveNothing => receives_nothing(path, NAP, mark),
            Recover => recovers(path, self.drained, mark),
            RecoverClaim => recovers_claim(path, mark),
            Attach => attaches(path, mark),
            AttachToReceive => attaches_to_receive(path, mark),
            Leave => leaves(path, mark),
            Create => creates(path, mark),
        })
    }

    /// Tells the books what a victim may have done that died before its first mark.
    #[cfg(feature = "fault")]
    pub(crate) fn open_books_early(&self, scene: &mut Scene) {
        if self.does == Receive {
            scene.victim_received(0, true);
        }
    }

    /// Tells the books what the victim has done by its first mark, and may have done after it.
    pub(crate) fn open_books(&self, scene: &mut Scene) {
        match self.does {
            Send => scene.victim_sent(0, 1),
            SendBatch => scene.victim_sent(0, 3),
            Receive => scene.victim_received(1, true),
            Recover | AttachToReceive => scene.victim_received(0, true),
            ReceiveNothing | RecoverClaim | Attach | Leave | Create => {}
        }
    }

    /// The victim has reached its second mark.
    pub(crate) fn close_books(&self, scene: &mut Scene) {
        match self.does {
            Send => scene.victim_sent(1, 1),
            SendBatch => scene.victim_sent(3, 3),
            Receive | Recover | AttachToReceive => scene.victim_received(1, false),
            // What the witness has sent meanwhile, if anything.
            ReceiveNothing | RecoverClaim => scene.victim_received(0, true),
            Attach | Leave | Create => {}
        }
    }

    /// Removes what a victim that lived has made beside the scene's ring.
    pub(crate) fn clear(&self, path: &Path) {
        if self.does == Create {
            // If it is not there, the next victim finds what it should find.
            let _ = std::fs::remove_file(second_ring(path));
        }
    }

    /// Where in the protocol the victim is.
    pub(crate) fn window(&self, scene: &Scene) -> &'static str {
        match self.does {
            Send | SendBatch => scene.sender_window(),
            Receive | ReceiveNothing | Recover | RecoverClaim => scene.receiver_window(),
            Attach | AttachToReceive | Leave => scene.attach_window(),
            Create => scene.create_window(),
        }
    }
}

fn step_on(dead: &mut Traced) -> Result<()> {
    match dead.step()? {
        Stop::Step => Ok(()),
        other => bail!("the first to die was not to get so far: {other:?}"),
    }
}

fn said(played: Result<()>) -> Result<(), String> {
    played.map_err(|error| format!("{error:#}"))
}

fn sends(form: Form, path: &Path, len: usize, mark: Mark) -> Result<()> {
    let tx = sender(path)?;
    let bytes = message(VICTIM, 0, len);
    mark();
    match form {
        Bytes => tx.send_bytes(&bytes)?,
        Typed | Borrowed => tx.send(&TypedBytes::new(&bytes))?,
    }
    mark();
    Ok(())
}

fn sends_batch(path: &Path, mark: Mark) -> Result<()> {
    let tx = sender(path)?;
    let messages: Vec<_> = (0..3).map(|s| ByteBuf::from(message(VICTIM, s, HEADER_LEN))).collect();
    mark();
    tx.send_batch(&messages)?;
    mark();
    Ok(())
}

/// Receives one message unswept and the next one swept.
fn receives(form: Form, path: &Path, first: u64, mark: Mark) -> Result<()> {
    let mut rx = receiver(path)?;
    let one = form.receive(&mut rx, LONG)?;
    ensure!(one.is_some_and(|bytes| claimed(&bytes) == Some((WITNESS, 0, first))), "the first");
    mark();
    let two = match form {
        Bytes => claimed(&rx.recv_bytes()?),
        Typed => claimed(&rx.recv::<ByteBuf>()?),
        Borrowed => claimed(rx.zero_copy_context().recv::<&TypedBytes>()?),
    };
    mark();
    ensure!(two == Some((WITNESS, 0, first + 1)), "received {two:?} after {first}");
    Ok(())
}

/// Whether there is a message already: the witness sends while a victim is stopped before it
/// begins, and that is as good an end.
fn is_early(rx: &mut ipmpsc::Receiver, mark: Mark) -> Result<bool> {
    let Some(message) = rx.try_recv_bytes()? else { return Ok(false) };
    ensure!(claimed(&message).is_some_and(|(who, ..)| who == WITNESS), "a message of nobody");
    mark();
    mark();
    Ok(true)
}

/// Takes the role unswept. If the witness sends meanwhile, its message is as good an end.
fn receives_nothing(path: &Path, limit: Duration, mark: Mark) -> Result<()> {
    let mut rx = receiver(path)?;
    if is_early(&mut rx, mark)? {
        return Ok(());
    }
    mark();
    drop(rx.recv_bytes_timeout(limit)?);
    mark();
    Ok(())
}

/// A receive without time asks who lives at its second look, and so at every look here: the first
/// frees the claim word, the second the record.
fn recovers_claim(path: &Path, mark: Mark) -> Result<()> {
    let mut rx = receiver(path)?;
    if is_early(&mut rx, mark)? {
        return Ok(());
    }
    std::thread::sleep(BETWEEN_LOOKS);
    mark();
    drop(rx.try_recv_bytes()?);
    std::thread::sleep(BETWEEN_LOOKS);
    drop(rx.try_recv_bytes()?);
    mark();
    Ok(())
}

/// Takes the role unswept: a receive without time does not ask who lives.
fn recovers(path: &Path, first: u64, mark: Mark) -> Result<()> {
    let mut rx = receiver(path)?;
    ensure!(rx.try_recv_bytes()?.is_none(), "a message past an unfinished one");
    mark();
    let one = claimed(&rx.recv_bytes()?);
    mark();
    ensure!(one == Some((WITNESS, 0, first)), "received {one:?}");
    Ok(())
}

fn attaches(path: &Path, mark: Mark) -> Result<()> {
    mark();
    let tx = sender(path)?;
    mark();
    drop(tx);
    Ok(())
}

fn attaches_to_receive(path: &Path, mark: Mark) -> Result<()> {
    mark();
    let mut rx = receiver(path)?;
    let message = rx.try_recv_bytes()?;
    ensure!(message.is_some(), "nothing waits");
    drop(message);
    mark();
    Ok(())
}

fn leaves(path: &Path, mark: Mark) -> Result<()> {
    let tx = sender(path)?;
    mark();
    drop(tx);
    mark();
    Ok(())
}

fn creates(path: &Path, mark: Mark) -> Result<()> {
    let path = second_ring(path);
    mark();
    let ring = SharedRingBuffer::options().capacity(240).create_new(path)?;
    mark();
    drop(ring);
    Ok(())
}
