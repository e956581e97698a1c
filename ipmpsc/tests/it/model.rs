//! The channel against a queue: any sequence of calls, and every short sequence in small rings.

use ipmpsc::{Options, Receiver, Sender, SharedRingBuffer};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Call {
    TrySend(usize),
    SendTimeout(usize),
    TrySendValue(usize),
    Batch(Vec<u8>),
    Commit { len: usize, written: usize },
    Discard(usize),
    TryRecv,
    TryRecvBytes,
    ForgetBytes,
    WrongType,
    Drain(usize),
    ReplaceReceiver,
    CloneSender,
    DropSender,
    Reopen,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (0..80_usize).prop_map(Call::TrySend),
        2 => (0..80_usize).prop_map(Call::SendTimeout),
        3 => (0..300_usize).prop_map(Call::TrySendValue),
        2 => prop::collection::vec(any::<u8>(), 0..12).prop_map(Call::Batch),
        2 => (0..80_usize, 0..80_usize).prop_map(|(len, written)| Call::Commit {
            len,
            written: written.min(len),
        }),
        1 => (0..80_usize).prop_map(Call::Discard),
        4 => Just(Call::TryRecv),
        4 => Just(Call::TryRecvBytes),
        1 => Just(Call::ForgetBytes),
        1 => Just(Call::WrongType),
        2 => (0..6_usize).prop_map(Call::Drain),
        1 => Just(Call::ReplaceReceiver),
        1 => Just(Call::CloneSender),
        1 => Just(Call::DropSender),
        1 => Just(Call::Reopen),
    ]
}

/// The ring and what must be in it.
struct Model {
    ring: SharedRingBuffer,
    senders: Vec<Sender>,
    receiver: Receiver,
    queue: VecDeque<Vec<u8>>,
    sent: u8,
    /// A receiver has left and the next has not received yet.
    gone: bool,
}

impl Model {
    fn new(message_bytes: u64) -> Self {
        let ring = Options::new().capacity(message_bytes).anonymous();
        let ring = ring.expect("a ring can be made");
        Self {
            senders: vec![Sender::new(ring.clone())],
            receiver: Receiver::new(ring.clone()),
            ring,
            queue: VecDeque::new(),
            sent: 0,
            gone: false,
        }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        self.sent = self.sent.wrapping_add(1);
        let first = self.sent;
        (0..len).map(|i| first.wrapping_mul(31).wrapping_add(i as u8)).collect()
    }

    fn sender(&self) -> &Sender {
        let at = usize::from(self.sent) % self.senders.len();
        &self.senders[at]
    }

    fn sent(&mut self, bytes: Vec<u8>, sent: ipmpsc::Result<bool>) -> Result<(), TestCaseError> {
        let fits = bytes.len() as u64 <= self.ring.max_message_len();
        match sent {
            Ok(true) => self.queue.push_back(bytes),
            // An empty ring has space for whatever fits at all.
            Ok(false) => prop_assert!(fits && !self.queue.is_empty()),
            Err(ipmpsc::Error::MessageTooLarge) => prop_assert!(!fits),
            Err(ipmpsc::Error::ReceiverGone) => prop_assert!(fits && self.gone),
            Err(error) => prop_assert!(false, "{error}"),
        }
        Ok(())
    }

    /// Tries to send, up to three times if the ring is empty: what was given up, and then what is
    /// left unused at the ring's end, takes space until the receiver has passed it.
    fn attempt(
        &mut self,
        bytes: Vec<u8>,
        try_send: impl Fn(&Sender) -> ipmpsc::Result<bool>,
    ) -> Result<(), TestCaseError> {
        let mut sent = try_send(self.sender());
        for _ in 0..2 {
            if matches!(sent, Ok(false)) && self.queue.is_empty() {
                prop_assert!(self.receiver.try_recv_bytes()?.is_none());
                self.gone = false;
                sent = try_send(self.sender());
            }
        }
        self.sent(bytes, sent)
    }

    fn send(&mut self, call: Call) -> Result<(), TestCaseError> {
        match call {
            Call::TrySend(len) => {
                let bytes = self.bytes(len);
                self.attempt(bytes.clone(), |sender| sender.try_send_bytes(&bytes))
            }
            Call::SendTimeout(len) => {
                let (bytes, short) = (self.bytes(len), Duration::from_micros(1));
                self.attempt(bytes.clone(), |sender| sender.send_bytes_timeout(&bytes, short))
            }
            Call::TrySendValue(len) => {
                let bytes = self.bytes(len);
                let mut message = (len as u64).to_le_bytes().to_vec();
                message.extend(&bytes);
                let value = serde_bytes::Bytes::new(&bytes);
                self.attempt(message, |sender| sender.try_send(&value))
            }
            Call::Batch(values) => {
                // An error would not say how many were sent before it.
                self.call(Call::ForgetBytes)?;
                let sent = self.sender().send_batch_timeout(&values, Duration::ZERO)?;
                prop_assert!(sent > 0 || values.is_empty() || !self.queue.is_empty());
                self.queue.extend(values[..sent].iter().map(|value| vec![*value]));
                Ok(())
            }
            Call::Commit { len, written } => self.reserve(len, Some(written)),
            Call::Discard(len) => self.reserve(len, None),
            other => unreachable!("{other:?} sends nothing"),
        }
    }

    fn reserve(&mut self, len: usize, written: Option<usize>) -> Result<(), TestCaseError> {
        let fits = len as u64 <= self.ring.max_message_len();
        let bytes = self.bytes(written.unwrap_or(len));
        let sender = &self.senders[usize::from(self.sent) % self.senders.len()];
        match sender.try_reserve(len) {
            Ok(Some(mut reservation)) => {
                if written.is_some() {
                    reservation.write_all(&bytes)?;
                    reservation.commit().expect("we live");
                    self.queue.push_back(bytes);
                }
            }
            Ok(None) => prop_assert!(fits),
            Err(error) => {
                let gone = matches!(error, ipmpsc::Error::ReceiverGone) && self.gone;
                let too_large = matches!(error, ipmpsc::Error::MessageTooLarge) && !fits;
                prop_assert!(gone || too_large, "{error}");
            }
        }
        Ok(())
    }

    fn drain(&mut self, limit: usize) -> Result<(), TestCaseError> {
        let mut got = Vec::new();
        let drained = self.receiver.try_drain(limit, |bytes| got.push(bytes.to_vec()))?;
        prop_assert_eq!(drained, got.len());
        let expected: Vec<_> = self.queue.drain(..limit.min(self.queue.len())).collect();
        prop_assert_eq!(got, expected);
        Ok(())
    }

    fn call(&mut self, call: Call) -> Result<(), TestCaseError> {
        self.gone &= !matches!(
            call,
            Call::TryRecv | Call::TryRecvBytes | Call::ForgetBytes | Call::WrongType
        );
        match call {
            Call::TryRecv => {
                // Bytes of another length come back as an error, and are consumed.
                let expected = self.queue.pop_front();
                match (self.receiver.try_recv::<[u8; 3]>(), expected) {
                    (Ok(Some(got)), Some(expected)) => prop_assert_eq!(got.to_vec(), expected),
                    (Ok(None), None) => {}
                    (Err(ipmpsc::Error::Decode(_)), Some(expected)) => {
                        prop_assert_ne!(expected.len(), 3);
                    }
                    (got, expected) => prop_assert!(false, "{got:?}, not {expected:?}"),
                }
            }
            Call::TryRecvBytes => {
                let expected = self.queue.pop_front();
                let got = self.receiver.try_recv_bytes()?.map(|message| message.to_vec());
                prop_assert_eq!(got, expected);
            }
            Call::ForgetBytes => {
                let message = self.receiver.try_recv_bytes()?;
                let got = message.as_deref().map(<[u8]>::to_vec);
                std::mem::forget(message);
                prop_assert_eq!(got.as_ref(), self.queue.front());
            }
            Call::WrongType => {
                let was = self.queue.pop_front();
                let got = self.receiver.zero_copy_context().try_recv::<[u64; 30]>();
                prop_assert!(matches!(
                    (got, was),
                    (Ok(None), None)
                        | (Err(ipmpsc::Error::Decode(_)), Some(_))
                        | (Ok(Some(_)), Some(_))
                ));
            }
            Call::Drain(limit) => self.drain(limit)?,
            Call::ReplaceReceiver => {
                let next = Receiver::new(self.ring.clone());
                drop(std::mem::replace(&mut self.receiver, next));
                self.gone = true;
            }
            Call::CloneSender => self.senders.push(self.sender().clone()),
            Call::DropSender if self.senders.len() > 1 => drop(self.senders.pop()),
            Call::DropSender => {}
            Call::Reopen => {
                let file = self.ring.try_clone_file()?;
                let same = SharedRingBuffer::from_file(file).expect("it is a ring");
                self.senders[0] = Sender::new(same);
            }
            send => return self.send(send),
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), TestCaseError> {
        while !self.queue.is_empty() {
            self.call(Call::TryRecvBytes)?;
        }
        prop_assert!(self.receiver.try_recv_bytes()?.is_none());
        let stats = self.ring.stats();
        prop_assert_eq!((stats.used, stats.recoveries), (0, 0));
        prop_assert_eq!(stats.senders as usize, self.senders.len());
        // The largest message fits wherever the tail stands.
        let bytes = vec![1; self.ring.max_message_len() as usize];
        self.attempt(bytes.clone(), |sender| sender.try_send_bytes(&bytes))
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_of_calls_does_what_a_queue_does(
        message_bytes in 16..500_u64,
        calls in prop::collection::vec(call(), 1..120),
    ) {
        let mut model = Model::new(message_bytes);
        for call in calls {
            model.call(call)?;
        }
        model.end()?;
    }
}

/// Sends the sizes in turn, receiving only for space, and then receives all.
fn send_in_turn(sender: &Sender, receiver: &mut Receiver, sizes: &[usize], mark: &mut u8) {
    let mut queue = VecDeque::new();
    let take = |receiver: &mut Receiver, queue: &mut VecDeque<Vec<u8>>| {
        let message = receiver.try_recv_bytes().expect("sound").map(|bytes| bytes.to_vec());
        assert_eq!(message, queue.pop_front(), "{sizes:?}");
    };
    for &len in sizes {
        *mark = mark.wrapping_add(1);
        let bytes = vec![*mark; len];
        let mut looked = false;
        while !sender.try_send_bytes(&bytes).expect("sound") {
            // The unused bytes at the ring's end are free once the receiver has looked.
            assert!(!looked, "{sizes:?}: no space in an empty ring");
            looked = queue.is_empty();
            take(receiver, &mut queue);
        }
        queue.push_back(bytes);
    }
    while !queue.is_empty() {
        take(receiver, &mut queue);
    }
    take(receiver, &mut queue);
}

#[test]
fn every_four_sizes_pass_through_every_small_ring() {
    for message_bytes in (16..=48).step_by(8) {
        let ring = Options::new().capacity(message_bytes).anonymous().expect("it can be made");
        let most = ring.max_message_len() as usize;
        let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
        // Each multiple of 8 and one byte less, which pads.
        let sizes: Vec<usize> = (0..=most).filter(|len| len % 8 == 0 || len % 8 == 7).collect();
        let count = sizes.len();
        let mut mark = 0;
        for number in 0..count.pow(4) {
            let digit = |place: u32| sizes[number / count.pow(place) % count];
            let four = [digit(0), digit(1), digit(2), digit(3)];
            send_in_turn(&sender, &mut receiver, &four, &mut mark);
        }
    }
}
