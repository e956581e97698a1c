//! The consumer's side of a verification without faults: it knows every message that must come.
//!
//! No loss, no duplicate, no phantom, each producer's order kept, length and bytes intact; a fault
//! is reported by the name of the check that found it. Memory does not grow.

use crate::{
    ledger::roll,
    payload::{END, Key, claimed},
    sizes::SizeWalk,
};

/// How far around the message that was expected one that came instead is looked for.
const NEIGHBOURS: u64 = 8;

/// What must come from each producer, and how far it has.
#[derive(Debug)]
pub(crate) struct Verifier {
    seed: u64,
    producers: Vec<Sent>,
    /// Empty messages that arrived and are not yet matched with a producer: they have no bytes to
    /// say whose they are, so they are matched when that producer's next message names it.
    unmatched_empty: u64,
    running: usize,
    latest: Option<(u32, u64)>,
}

/// What one producer sends.
#[derive(Debug)]
struct Sent {
    walk: SizeWalk,
    next_len: usize,
    sequence: u64,
    hash: u64,
    ended: bool,
    /// A later message that came instead of the next one. What this producer sends after it tells
    /// whether the next one was lost or overtaken.
    early: Option<u64>,
}

impl Sent {
    fn advance(&mut self) {
        self.hash = roll(self.hash, self.sequence, self.next_len);
        self.sequence += 1;
        self.next_len = self.walk.step();
    }
}

impl Verifier {
    /// Expects these walks, one a producer.
    pub(crate) fn new(seed: u64, walks: impl IntoIterator<Item = SizeWalk>) -> Verifier {
        let sent = |mut walk: SizeWalk| {
            let next_len = walk.step();
            Sent { walk, next_len, sequence: 0, hash: 0, ended: false, early: None }
        };
        let producers: Vec<_> = walks.into_iter().map(sent).collect();
        let running = producers.len();
        Verifier { seed, producers, unmatched_empty: 0, running, latest: None }
    }

    /// Compares all of the next message. Returns whether every producer has sent its last.
    /// `intended` says how many messages a producer has begun to send.
    pub(crate) fn check(
        &mut self,
        message: &[u8],
        intended: &dyn Fn(u32) -> u64,
    ) -> Result<bool, String> {
        self.latest = None;
        let Some(&first) = message.first() else {
            self.unmatched_empty += 1;
            return Ok(false);
        };
        let producer = u32::from(first);
        let Some(sent) = self.producers.get_mut(usize::from(first)) else {
            return Err(format!("phantom: a message of producer {first}, which does not exist"));
        };
        if sent.ended {
            return Err(format!("phantom: a message of producer {producer} after its last"));
        }
        let end_len = sent.walk.end_len();
        loop {
            let sequence = sent.sequence;
            let key = Key { seed: self.seed, producer, incarnation: 0, sequence };
            let end = Key { sequence: sequence | END, ..key };
            if message.len() == sent.next_len && key.matches(message) {
                if let Some(early) = sent.early {
                    let name = format!("message {sequence} of producer {producer}");
                    return Err(format!("order: {name} came after message {early}"));
                }
                self.latest = Some((producer, sequence));
                sent.advance();
                break;
            }
            // Before any empty message is matched: the next of the walk may never have been sent.
            if message.len() == end_len && end.matches(message) && sent.early.is_none() {
                sent.ended = true;
                self.running -= 1;
                break;
            }
            // Empty messages go before whatever else this producer has sent since.
            if sent.next_len > 0 || self.unmatched_empty == 0 {
                return sent.blame(key, message, intended(producer));
            }
            self.unmatched_empty -= 1;
            sent.advance();
        }
        if self.running == 0 && self.unmatched_empty > 0 {
            return Err(format!("phantom: {} empty messages too many", self.unmatched_empty));
        }
        Ok(self.running == 0)
    }

    /// Producer and sequence of the message that was last checked, if it says them.
    pub(crate) fn latest(&self) -> Option<(u32, u64)> {
        self.latest
    }

    /// Messages received by producer, last ones not counted, and their rolling hashes.
    pub(crate) fn received(&self) -> (Vec<u64>, Vec<u64>) {
        self.producers.iter().map(|sent| (sent.sequence, sent.hash)).unzip()
    }
}

impl Sent {
    /// What is wrong with a message that is not the one of `key`; or, where only the next one of
    /// this producer can tell, that nothing is decided yet.
    #[cold]
    fn blame(&mut self, key: Key, message: &[u8], intended: u64) -> Result<bool, String> {
        let Key { producer, sequence, .. } = key;
        let lost = format!("loss: message {sequence} of producer {producer}, as");
        if let Some(early) = self.early {
            return Err(format!("{lost} message {early} came and it did not follow"));
        }
        let is = |sequence| message.len() > 1 && Key { sequence, ..key }.matches(message);
        let claim = claimed(message).map_or(sequence, |(.., claim)| claim);
        let later = (sequence + 1..=sequence + NEIGHBOURS).find(|&later| is(later));
        let ago = (1..=NEIGHBOURS.min(sequence)).find(|&ago| is(sequence - ago));
        match (later, ago) {
            (Some(later), _) => {
                self.early = Some(later);
                Ok(false)
            }
            (_, Some(ago)) => {
                Err(format!("duplicate: message {} of producer {producer}", sequence - ago))
            }
            _ if (sequence..=sequence + NEIGHBOURS).any(|later| is(later | END)) => {
                Err(format!("{lost} its last message came"))
            }
            _ if claim >= intended.max(sequence + 1) => {
                Err(format!("phantom: message {claim} of producer {producer} was never sent"))
            }
            _ if claim > sequence => Err(format!("{lost} message {claim} came")),
            _ if claim < sequence => {
                Err(format!("duplicate: message {claim} of producer {producer}"))
            }
            _ => Err(self.torn(key, message)),
        }
    }

    fn torn(&self, key: Key, message: &[u8]) -> String {
        let Key { producer, sequence, .. } = key;
        let name = format!("message {sequence} of producer {producer}");
        if message.len() != self.next_len {
            return format!("length: {name} has {} bytes, not {}", message.len(), self.next_len);
        }
        let mut whole = vec![0; message.len()];
        key.fill(&mut whole);
        let at = whole.iter().zip(message).position(|(sent, came)| sent != came);
        let at = at.map_or(String::new(), |at| format!(", from byte {at} on"));
        format!("bytes: {name}, of {} bytes, is not what was sent{at}", message.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Limits, Mix};

    const LIMITS: Limits = Limits { max_len: 100, capacity: 256 };

    fn walk(producer: u32) -> SizeWalk {
        SizeWalk::new((1, producer), Mix::Boundaries, LIMITS, 0, 8)
    }

    fn message(producer: u32, incarnation: u32, sequence: u64, len: usize) -> Vec<u8> {
        let mut message = vec![0; len];
        Key { seed: 1, producer, incarnation, sequence }.fill(&mut message);
        message
    }

    /// The first messages of a producer and its last.
    fn stream(producer: u32, count: u64) -> Vec<Vec<u8>> {
        let mut walk = walk(producer);
        let mut all: Vec<_> = (0..count).map(|s| message(producer, 0, s, walk.step())).collect();
        all.push(message(producer, 0, count | END, walk.end_len()));
        all
    }

    #[test]
    fn an_empty_message_is_not_taken_for_one_that_was_never_sent() {
        // Whichever count producer 0 stops at, producer 1's empty messages are waiting.
        let b = stream(1, 400);
        for count in 0..60 {
            let a = stream(0, count);
            let empty = b.iter().position(Vec::is_empty).expect("some are empty");
            let (before, after) = b.split_at(empty + 1);
            assert_eq!(verify(before.iter().chain(&a).chain(after)), Ok(true), "{count}");
        }
    }

    fn verify<'a>(messages: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<bool, String> {
        let mut verifier = Verifier::new(1, [walk(0), walk(1)]);
        messages.into_iter().try_fold(false, |_, message| verifier.check(message, &|_| 500))
    }

    #[test]
    fn any_interleaving_that_keeps_each_order_passes() {
        let (a, b) = (stream(0, 500), stream(1, 500));
        assert_eq!(verify(a.iter().chain(&b)), Ok(true));
        assert_eq!(verify(b.iter().chain(&a)), Ok(true));
        assert_eq!(verify(a.iter().zip(&b).flat_map(|(a, b)| [a, b])), Ok(true));
    }

    #[test]
    fn every_single_loss_duplicate_and_swap_is_caught() {
        let (a, b) = (stream(0, 60), stream(1, 60));
        let all: Vec<_> = a.iter().zip(&b).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        for at in 0..all.len() {
            let mut lost = all.clone();
            lost.remove(at);
            assert_ne!(verify(&lost), Ok(true), "message {at} lost");
            let mut doubled = all.clone();
            doubled.insert(at, all[at].clone());
            assert_ne!(verify(&doubled), Ok(true), "message {at} doubled");
        }
        for at in 2..all.len() {
            let mut swapped = all.clone();
            swapped.swap(at - 2, at);
            // An empty message does not say whose it is, so another's can stand in for it.
            let is_anonymous = all[at].is_empty() || all[at - 2].is_empty();
            let is_same = all[at] == all[at - 2];
            assert!(
                is_anonymous || is_same || verify(&swapped) != Ok(true),
                "messages {at} and two before"
            );
        }
    }

    #[test]
    fn a_phantom_and_a_torn_message_are_caught() {
        let a = stream(0, 50);
        assert!(verify(&[message(2, 0, 0, 9)]).is_err(), "a third producer");
        let long = a.iter().position(|message| message.len() > 8).expect("some are long");
        for at in 0..a[long].len() {
            let mut torn = a[..=long].to_vec();
            torn[long][at] ^= 0x10;
            assert!(verify(&torn).is_err(), "byte {at} torn");
        }
        let mut cut = a[..=long].to_vec();
        cut[long].pop();
        assert!(verify(&cut).is_err(), "a byte short");
    }
    /// The name of the check that fails.
    fn blamed(messages: &[Vec<u8>]) -> String {
        let error = verify(messages).expect_err("a fault was planted");
        error.split(':').next().unwrap_or_default().to_owned()
    }

    #[test]
    fn each_fault_is_called_by_its_name() {
        let whole = stream(0, 200);
        let at = (100..).find(|&at| whole[at].len() > 30 && whole[at + 1].len() > 30);
        let at = at.expect("long ones follow each other somewhere");
        let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
            let mut messages = whole.clone();
            change(&mut messages);
            blamed(&messages)
        };
        assert_eq!(with(&|all| drop(all.remove(at))), "loss");
        assert_eq!(with(&|all| all.insert(at, all[at].clone())), "duplicate");
        let old = (0..at - 10).rev().find(|&old| whole[old].len() >= 24).expect("most are long");
        assert_eq!(with(&|all| all.insert(at, all[old].clone())), "duplicate");
        assert_eq!(with(&|all| all.swap(at, at + 1)), "order");
        assert_eq!(with(&|all| all[at][29] ^= 1), "bytes");
        assert_eq!(with(&|all| all[at].truncate(whole[at].len() - 1)), "length");
        assert_eq!(with(&|all| all[at].push(0)), "length");
        assert_eq!(with(&|all| all.insert(at, message(0, 0, 600, 40))), "phantom");
        assert_eq!(with(&|all| all.insert(at, message(9, 0, 600, 40))), "phantom");
        let last = whole.len() - 2;
        let last = (0..=last).rev().find(|&at| whole[at].len() > 1).expect("not all are short");
        assert_eq!(with(&|all| drop(all.remove(last))), "loss", "message {last}");
    }
}
