//! The channel against a model that predicts every answer: random sequences of calls, every short
//! sequence in small rings, and threads that race.

use crate::children::{LONG, Note, Random};
use ipmpsc::{Error, Options, Receiver, Sender, SharedRingBuffer};
use proptest::prelude::*;
use serde_bytes::{ByteBuf, Bytes};
use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

/// What stands between head and tail.
#[derive(Debug)]
enum Record {
    Message(Vec<u8>),
    /// Unused bytes: at the ring's end, or after a shortened message.
    Pad(u64),
    /// Bytes that were given up.
    Discarded(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Sent,
    Full,
    TooLarge,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    NeverTaken,
    Taken,
    Left,
}

/// The rule of the format's documentation: a record is 8 bytes and the payload, rounded up to 8; it
/// never wraps; 8 bytes stay free for the word at the tail.
#[derive(Debug)]
struct Rule {
    capacity: u64,
    head: u64,
    tail: u64,
    records: VecDeque<Record>,
    claimed: u64,
    received: u64,
    discarded: u64,
    receiver: Role,
}

fn span_of(len: usize) -> u64 {
    8 + (len as u64).next_multiple_of(8)
}

impl Rule {
    fn of(ring: &SharedRingBuffer) -> Self {
        Self {
            capacity: ring.capacity(),
            head: 0,
            tail: 0,
            records: VecDeque::new(),
            claimed: 0,
            received: 0,
            discarded: 0,
            receiver: Role::NeverTaken,
        }
    }

    fn is_too_large(&self, len: usize) -> bool {
        len as u64 > self.capacity - 16
    }

    /// Moves tail over a span, padding first where it would wrap.
    fn claim(&mut self, span: u64, messages: u64, when_empty: bool) -> Answer {
        loop {
            let to_end = self.capacity - self.tail % self.capacity;
            let piece = span.min(to_end);
            let full = piece + 8 > self.capacity - (self.tail - self.head);
            if full || (when_empty && self.head != self.tail) {
                return if self.receiver == Role::Left { Answer::Gone } else { Answer::Full };
            }
            self.tail += piece;
            if span <= to_end {
                self.claimed += messages;
                return Answer::Sent;
            }
            self.records.push_back(Record::Pad(piece));
        }
    }

    fn send(&mut self, bytes: Vec<u8>, when_empty: bool) -> Answer {
        if self.is_too_large(bytes.len()) {
            return Answer::TooLarge;
        }
        let answer = self.claim(span_of(bytes.len()), 1, when_empty);
        if answer == Answer::Sent {
            self.records.push_back(Record::Message(bytes));
        }
        answer
    }

    fn send_piece(&mut self, messages: &[Vec<u8>]) -> Answer {
        if let [message] = messages
            && self.is_too_large(message.len())
        {
            return Answer::TooLarge;
        }
        let span = messages.iter().map(|message| span_of(message.len())).sum();
        let answer = self.claim(span, messages.len() as u64, false);
        if answer == Answer::Sent {
            self.records.extend(messages.iter().cloned().map(Record::Message));
        }
        answer
    }

    /// A batch goes in pieces of up to a quarter of the ring, or of one message.
    fn send_batch(&mut self, messages: &[Vec<u8>]) -> (usize, Answer) {
        let (mut sent, mut end, mut span) = (0, 0, 0);
        for message in messages {
            span += span_of(message.len());
            if end > sent && span > self.capacity / 4 {
                let answer = self.send_piece(&messages[sent..end]);
                if answer != Answer::Sent {
                    return (sent, answer);
                }
                (sent, span) = (end, span_of(message.len()));
            }
            end += 1;
        }
        if end == sent {
            return (sent, Answer::Sent);
        }
        let answer = self.send_piece(&messages[sent..end]);
        if answer == Answer::Sent { (end, answer) } else { (sent, answer) }
    }

    /// A reservation of `len` bytes, committed with `written` or discarded.
    fn reserve(&mut self, len: usize, written: Option<Vec<u8>>) -> Answer {
        if self.is_too_large(len) {
            return Answer::TooLarge;
        }
        let span = span_of(len);
        let answer = self.claim(span, 1, false);
        match written {
            _ if answer != Answer::Sent => {}
            None => self.records.push_back(Record::Discarded(span)),
            Some(bytes) => {
                let rest = span - span_of(bytes.len());
                self.records.push_back(Record::Message(bytes));
                if rest > 0 {
                    self.records.push_back(Record::Pad(rest));
                }
            }
        }
        answer
    }

    /// What a receive finds, once it has passed what is no message.
    fn front(&mut self) -> Option<&Vec<u8>> {
        self.receiver = Role::Taken;
        while let Some(&(Record::Pad(span) | Record::Discarded(span))) = self.records.front() {
            let passed = self.records.pop_front();
            self.head += span;
            self.discarded += u64::from(matches!(passed, Some(Record::Discarded(_))));
        }
        match self.records.front() {
            Some(Record::Message(bytes)) => Some(bytes),
            _ => None,
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        self.front()?;
        let Some(Record::Message(bytes)) = self.records.pop_front() else {
            unreachable!("front has seen a message");
        };
        self.head += span_of(bytes.len());
        self.received += 1;
        Some(bytes)
    }

    fn drain(&mut self, limit: usize) -> Vec<Vec<u8>> {
        (0..limit).map_while(|_| self.take()).collect()
    }
}

/// Bytes as a typed message carries them.
fn typed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// The bytes of a typed message, if it is one.
fn untyped(message: &[u8]) -> Option<&[u8]> {
    let (len, bytes) = message.split_first_chunk()?;
    (u64::from_le_bytes(*len) == bytes.len() as u64).then_some(bytes)
}

#[derive(Clone, Debug)]
enum Call {
    Send(usize),
    TrySend(usize),
    TrySendBytes(usize),
    SendWhenEmpty(usize),
    Batch(Vec<usize>),
    Commit { len: usize, written: usize },
    Discard(usize),
    TryRecv,
    TryRecvBytes,
    ForgetBytes,
    ZeroCopy,
    Drain(usize),
    ReplaceReceiver,
    CloneSender,
    DropSender,
    Reopen,
}

fn call() -> impl Strategy<Value = Call> {
    let len = || prop_oneof![3 => 0..40_usize, 1 => 0..300_usize];
    prop_oneof![
        2 => len().prop_map(Call::Send),
        3 => len().prop_map(Call::TrySend),
        3 => len().prop_map(Call::TrySendBytes),
        1 => len().prop_map(Call::SendWhenEmpty),
        2 => prop::collection::vec(len(), 0..8).prop_map(Call::Batch),
        2 => (len(), len()).prop_map(|(a, b)| Call::Commit { len: a.max(b), written: a.min(b) }),
        1 => len().prop_map(Call::Discard),
        3 => Just(Call::TryRecv),
        3 => Just(Call::TryRecvBytes),
        1 => Just(Call::ForgetBytes),
        2 => Just(Call::ZeroCopy),
        2 => (0..6_usize).prop_map(Call::Drain),
        1 => Just(Call::ReplaceReceiver),
        1 => Just(Call::CloneSender),
        1 => Just(Call::DropSender),
        1 => Just(Call::Reopen),
    ]
}

/// The ring beside the rule.
struct Pair {
    ring: SharedRingBuffer,
    senders: Vec<Sender>,
    receiver: Receiver,
    rule: Rule,
    calls: usize,
}

type Checked = Result<(), TestCaseError>;

fn same(expected: Answer, got: &ipmpsc::Result<bool>) -> Checked {
    let got = match got {
        Ok(true) => Answer::Sent,
        Ok(false) => Answer::Full,
        Err(Error::MessageTooLarge) => Answer::TooLarge,
        Err(Error::ReceiverGone) => Answer::Gone,
        Err(error) => return Err(TestCaseError::fail(format!("{error}"))),
    };
    prop_assert_eq!(got, expected);
    Ok(())
}

fn same_value<T: AsRef<[u8]>>(
    got: ipmpsc::Result<Option<T>>,
    expected: Option<&Vec<u8>>,
) -> Checked {
    let value = expected.map(|message| untyped(message));
    match got {
        Err(Error::Decode(_)) => prop_assert_eq!(value, Some(None)),
        Err(error) => return Err(TestCaseError::fail(format!("{error}"))),
        Ok(got) => prop_assert_eq!(got.as_ref().map(|bytes| Some(bytes.as_ref())), value),
    }
    Ok(())
}

impl Pair {
    fn new(message_bytes: u64) -> Self {
        let ring = Options::new().capacity(message_bytes).anonymous();
        let ring = ring.expect("a ring can be made");
        Self {
            senders: vec![Sender::new(ring.clone())],
            receiver: Receiver::new(ring.clone()),
            rule: Rule::of(&ring),
            ring,
            calls: 0,
        }
    }

    /// Bytes that differ from those of other calls.
    fn bytes(&self, len: usize) -> Vec<u8> {
        (0..len).map(|i| (self.calls * 31 + i) as u8).collect()
    }

    fn sender(&self) -> &Sender {
        &self.senders[self.calls % self.senders.len()]
    }

    fn call(&mut self, call: Call) -> Checked {
        self.calls += 1;
        match call {
            Call::Send(_) | Call::TrySend(_) | Call::TrySendBytes(_) | Call::SendWhenEmpty(_) => {
                self.send(&call)?;
            }
            Call::Batch(lens) => self.batch(&lens)?,
            Call::Commit { len, written } => self.reserve(len, Some(written))?,
            Call::Discard(len) => self.reserve(len, None)?,
            Call::ReplaceReceiver => {
                let next = Receiver::new(self.ring.clone());
                drop(std::mem::replace(&mut self.receiver, next));
                if self.rule.receiver == Role::Taken {
                    self.rule.receiver = Role::Left;
                }
            }
            Call::CloneSender => self.senders.push(self.sender().clone()),
            Call::DropSender if self.senders.len() > 1 => drop(self.senders.pop()),
            Call::DropSender => {}
            Call::Reopen => {
                let file = self.ring.try_clone_file().expect("a descriptor can be cloned");
                let same = SharedRingBuffer::from_file(file).expect("it is a ring");
                self.senders[0] = Sender::new(same);
            }
            receive => self.receive(&receive)?,
        }
        self.check_stats()
    }

    fn send(&mut self, call: &Call) -> Checked {
        let (&Call::Send(len)
        | &Call::TrySend(len)
        | &Call::TrySendBytes(len)
        | &Call::SendWhenEmpty(len)) = call
        else {
            unreachable!("{call:?} sends nothing");
        };
        let bytes = self.bytes(len);
        let is_typed = !matches!(call, Call::TrySendBytes(_));
        let message = if is_typed { typed(&bytes) } else { bytes.clone() };
        let expected = self.rule.send(message, matches!(call, Call::SendWhenEmpty(_)));
        let (sender, value) = (self.sender(), &Bytes::new(&bytes));
        let got = match call {
            Call::Send(_) if expected == Answer::Full => sender.send_timeout(value, Duration::ZERO),
            Call::Send(_) => sender.send(value).map(|()| true),
            Call::TrySend(_) => sender.try_send(value),
            Call::TrySendBytes(_) => sender.try_send_bytes(&bytes),
            _ => sender.send_when_empty_timeout(value, Duration::ZERO),
        };
        same(expected, &got)
    }

    fn batch(&mut self, lens: &[usize]) -> Checked {
        let values: Vec<ByteBuf> = lens.iter().map(|&len| self.bytes(len).into()).collect();
        let messages: Vec<Vec<u8>> = values.iter().map(|value| typed(value)).collect();
        let (sent, answer) = self.rule.send_batch(&messages);
        let got = self.sender().send_batch_timeout(&values, Duration::ZERO);
        if let Ok(got) = got {
            prop_assert_eq!(got, sent);
        }
        same(answer, &got.map(|sent| sent == values.len()))
    }

    fn reserve(&mut self, len: usize, written: Option<usize>) -> Checked {
        let bytes = written.map(|written| self.bytes(written));
        let expected = self.rule.reserve(len, bytes.clone());
        let got = match (self.sender().try_reserve(len), bytes) {
            (Ok(Some(mut reservation)), Some(bytes)) => {
                reservation.write_all(&bytes).expect("it fits");
                reservation.commit().map(|()| true)
            }
            (reserved, _) => reserved.map(|reservation| reservation.is_some()),
        };
        same(expected, &got)
    }

    fn receive(&mut self, call: &Call) -> Checked {
        match *call {
            Call::TryRecv => {
                let got = self.receiver.try_recv::<ByteBuf>();
                same_value(got, self.rule.take().as_ref())?;
            }
            Call::ZeroCopy => {
                let mut context = self.receiver.zero_copy_context();
                same_value(context.try_recv::<&[u8]>(), self.rule.take().as_ref())?;
            }
            Call::TryRecvBytes => {
                let got = self.receiver.try_recv_bytes().expect("sound");
                prop_assert_eq!(got.map(|message| message.to_vec()), self.rule.take());
            }
            Call::ForgetBytes => {
                let message = self.receiver.try_recv_bytes().expect("sound");
                let got = message.as_ref().map(|message| message.to_vec());
                std::mem::forget(message);
                prop_assert_eq!(got.as_ref(), self.rule.front());
            }
            Call::Drain(limit) => {
                let mut got = Vec::new();
                let drained = self.receiver.try_drain(limit, |bytes| got.push(bytes.to_vec()));
                prop_assert_eq!(drained.expect("sound"), got.len());
                prop_assert_eq!(got, self.rule.drain(limit));
            }
            _ => unreachable!("{call:?} receives nothing"),
        }
        Ok(())
    }

    fn check_stats(&self) -> Checked {
        let (stats, rule) = (self.ring.stats(), &self.rule);
        prop_assert_eq!(stats.used, rule.tail - rule.head);
        prop_assert_eq!(stats.sent, rule.claimed - rule.discarded);
        prop_assert_eq!((stats.received, stats.discarded), (rule.received, rule.discarded));
        prop_assert_eq!((stats.recoveries, stats.blocked_senders), (0, 0));
        prop_assert_eq!(stats.senders as usize, self.senders.len());
        prop_assert_eq!(stats.receiver_alive, rule.receiver == Role::Taken);
        prop_assert!(stats.used <= stats.high_water && stats.high_water <= stats.capacity);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_sequence_of_calls_is_answered_as_the_record_rule_says(
        message_bytes in 1..600_u64,
        calls in prop::collection::vec(call(), 1..60),
    ) {
        let mut pair = Pair::new(message_bytes);
        for call in calls {
            pair.call(call)?;
        }
        while pair.rule.front().is_some() {
            pair.call(Call::TryRecvBytes)?;
        }
        pair.call(Call::TryRecvBytes)?;
        prop_assert_eq!(pair.ring.stats().used, 0);
    }
}

/// Sends the sizes in turn, receiving wherever there is no space, and then receives all.
fn send_in_turn(pair: &mut Pair, sizes: &[usize], bytes: &[u8]) {
    fn take(pair: &mut Pair, sizes: &[usize]) -> bool {
        let got = pair.receiver.try_recv_bytes().expect("sound");
        let expected = pair.rule.take();
        assert_eq!(got.as_deref(), expected.as_deref(), "{sizes:?}");
        expected.is_some()
    }
    for &len in sizes {
        pair.calls += 1;
        let message = &bytes[pair.calls % 64..][..len];
        for tries in 0.. {
            let expected = pair.rule.send(message.to_vec(), false) == Answer::Sent;
            let sent = pair.senders[0].try_send_bytes(message).expect("sound");
            assert_eq!(sent, expected, "{sizes:?}");
            if sent {
                break;
            }
            assert!(tries < 10, "{sizes:?}: no space in an empty ring");
            take(pair, sizes);
        }
    }
    while take(pair, sizes) {}
    assert_eq!(pair.ring.stats().used, 0);
}

#[test]
fn every_four_sizes_pass_through_every_small_ring() {
    let bytes: Vec<u8> = (0..200).collect();
    for message_bytes in 1..=48 {
        let mut pair = Pair::new(message_bytes);
        let most = pair.ring.max_message_len() as usize;
        let mut sizes = vec![0, 1, 7, 8, 9, 15, 16, 17, most - 1, most];
        sizes.retain(|&len| len <= most);
        sizes.sort_unstable();
        sizes.dedup();
        for count in 1..=4 {
            for number in 0..sizes.len().pow(count) {
                let digit = |place| sizes[number / sizes.len().pow(place) % sizes.len()];
                let turn: Vec<usize> = (0..count).map(digit).collect();
                send_in_turn(&mut pair, &turn, &bytes);
            }
        }
    }
}

/// Sends `count` notes in every way there is, and discards some more space between them.
fn send_randomly(sender: &Sender, who: u32, count: u64, most: u64, mut random: Random) {
    let mut seq = 0;
    while seq < count {
        let mut note = |seq| Note::new(who, seq, random.below(most + 1) as usize);
        let (note, next) = (note(seq), note(seq + 1));
        match random.below(6) {
            0 => drop(sender.reserve(note.body.len()).expect("the receiver makes space")),
            1 if seq + 2 <= count => {
                sender.send_batch(&[note, next]).expect("the receiver makes space");
                seq += 2;
            }
            2 => seq += u64::from(sender.try_send(&note).expect("sound")),
            3 => {
                let bytes = written(&note);
                let more = random.below(most - note.body.len() as u64 + 1) as usize;
                let mut reservation = sender.reserve(bytes.len() + more).expect("there is space");
                reservation.write_all(&bytes).expect("it fits");
                reservation.commit().expect("we live");
                seq += 1;
            }
            _ => {
                sender.send(&note).expect("the receiver makes space");
                seq += 1;
            }
        }
    }
}

fn written(note: &Note) -> Vec<u8> {
    [&note.who.to_le_bytes()[..], &note.seq.to_le_bytes(), &*typed(&note.body)].concat()
}

fn read(bytes: &[u8]) -> Note {
    let (who, rest) = bytes.split_first_chunk().expect("a note is longer");
    let (seq, body) = rest.split_first_chunk().expect("a note is longer");
    let body = untyped(body).expect("a note is whole").to_vec();
    Note { who: u32::from_le_bytes(*who), seq: u64::from_le_bytes(*seq), body }
}

fn receive_randomly(receiver: &mut Receiver, random: &mut Random, mut f: impl FnMut(Note)) {
    match random.below(4) {
        0 => f(receiver.recv_timeout(LONG).expect("sound").expect("in time")),
        1 => f(read(&receiver.recv_bytes_timeout(LONG).expect("sound").expect("in time"))),
        2 => {
            let mut context = receiver.zero_copy_context();
            f(context.recv_timeout(LONG).expect("sound").expect("in time"));
        }
        _ => {
            let limit = 1 + random.below(5) as usize;
            let drained = receiver.drain_timeout(limit, LONG, |bytes| f(read(bytes)));
            assert!((1..=limit).contains(&drained.expect("sound")));
        }
    }
}

#[test]
fn racing_threads_lose_nothing_and_keep_each_ones_order() {
    const EACH: u64 = 300;
    let mut random = Random::seeded("racing_threads");
    for _ in 0..30 {
        let asked = Note::OVERHEAD as u64 + random.below(200);
        let ring = Options::new().capacity(asked).anonymous().expect("a ring can be made");
        let most = ring.max_message_len() - Note::OVERHEAD as u64;
        let mut receiver = Receiver::new(ring.clone());
        let mut next = vec![0; 2 + random.below(2) as usize];
        std::thread::scope(|scope| {
            for who in 0..next.len() as u32 {
                let (sender, random) = (Sender::new(ring.clone()), Random(random.next()));
                scope.spawn(move || send_randomly(&sender, who, EACH, most, random));
            }
            while next.iter().any(|&next| next < EACH) {
                receive_randomly(&mut receiver, &mut random, |note| {
                    assert!(note.is_whole());
                    assert_eq!(note.seq, next[note.who as usize], "of thread {}", note.who);
                    next[note.who as usize] += 1;
                });
            }
        });
        assert!(receiver.try_recv_bytes().expect("sound").is_none());
        let (stats, all) = (ring.stats(), next.len() as u64 * EACH);
        assert_eq!((stats.sent, stats.received, stats.used), (all, all, 0));
    }
}
