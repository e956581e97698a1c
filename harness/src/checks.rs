//! What was promised, as pure functions over what was sent and what arrived: no loss, no duplicate,
//! no phantom, each producer's order kept, length and bytes intact.

use crate::{
    ledger::{Line, roll},
    payload::{END, Key, claimed, mix},
    sizes::SizeWalk,
};

/// The consumer's side of a verification without faults: it knows every message that must come.
#[derive(Debug)]
pub(crate) struct Verifier {
    seed: u64,
    producers: Vec<Sent>,
    /// Empty messages that arrived and are not yet matched with a producer: they have no bytes to
    /// say whose they are, so they are matched when that producer's next message names it.
    unmatched_empty: u64,
    running: usize,
}

/// What one producer sends.
#[derive(Debug)]
struct Sent {
    walk: SizeWalk,
    next_len: usize,
    sequence: u64,
    hash: u64,
    ended: bool,
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
            Sent { walk, next_len, sequence: 0, hash: 0, ended: false }
        };
        let producers: Vec<_> = walks.into_iter().map(sent).collect();
        let running = producers.len();
        Verifier { seed, producers, unmatched_empty: 0, running }
    }

    /// Compares all of the next message. Returns whether every producer has sent its last.
    pub(crate) fn check(&mut self, message: &[u8]) -> Result<bool, String> {
        let Some(&first) = message.first() else {
            self.unmatched_empty += 1;
            return Ok(false);
        };
        let producer = u32::from(first);
        let Some(sent) = self.producers.get_mut(usize::from(first)) else {
            return Err(format!("a message of producer {first}, which does not exist"));
        };
        if sent.ended {
            return Err(format!("producer {producer}: a message after its last"));
        }
        let end_len = sent.walk.end_len();
        loop {
            let sequence = sent.sequence;
            let key = Key { seed: self.seed, producer, incarnation: 0, sequence };
            let end = Key { sequence: sequence | END, ..key };
            if message.len() == sent.next_len && key.matches(message) {
                sent.advance();
                break;
            }
            // Before any empty message is matched: the next of the walk may never have been sent.
            if message.len() == end_len && end.matches(message) {
                sent.ended = true;
                self.running -= 1;
                break;
            }
            // Empty messages go before whatever else this producer has sent since.
            if sent.next_len > 0 || self.unmatched_empty == 0 {
                return Err(mismatch(key, sent.next_len, message));
            }
            self.unmatched_empty -= 1;
            sent.advance();
        }
        if self.running == 0 && self.unmatched_empty > 0 {
            return Err(format!("{} empty messages too many", self.unmatched_empty));
        }
        Ok(self.running == 0)
    }

    /// Messages received by producer, last ones not counted, and their rolling hashes.
    pub(crate) fn received(&self) -> (Vec<u64>, Vec<u64>) {
        self.producers.iter().map(|sent| (sent.sequence, sent.hash)).unzip()
    }
}

fn mismatch(key: Key, len: usize, message: &[u8]) -> String {
    let got = match claimed(message) {
        Some((producer, _, sequence)) => format!("one that claims {producer}/{sequence}"),
        None => format!("{message:02x?}"),
    };
    format!(
        "producer {}: expected message {} of {len} bytes, got {} bytes, {got}",
        key.producer,
        key.sequence,
        message.len()
    )
}

/// The books balance: what a producer's ledger says it sent is what the consumer took.
pub(crate) fn balance(producer: u32, line: Line, received: u64, hash: u64) -> Result<(), String> {
    let owed = format!(
        "producer {producer}: {} intended, {} acknowledged, {received} received",
        line.intended, line.acknowledged
    );
    if received < line.acknowledged {
        return Err(format!("{owed}: acknowledged messages were lost"));
    }
    if received > line.intended {
        return Err(format!("{owed}: messages nobody sent"));
    }
    if received == line.acknowledged && hash != line.hash {
        return Err(format!("{owed}: other messages than those sent"));
    }
    Ok(())
}

/// The length of a message in a run in which either end is killed, for both ends: small ones and large ones alike.
pub(crate) fn torture_len(key: Key, largest: usize) -> usize {
    let least = crate::payload::HEADER_LEN;
    let random = mix(mix(key.seed ^ key.sequence) ^ u64::from(key.producer));
    let spread = (largest - least + 1) as u64;
    let bits = u64::BITS - spread.leading_zeros();
    let below = (1_u64 << (random % u64::from(bits + 1))).min(spread);
    least + usize::try_from((random >> 8) % below).expect("at most `largest`")
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
        let b = stream(1, 100);
        for count in 0..60 {
            let a = stream(0, count);
            let empty = b.iter().position(Vec::is_empty).expect("some are empty");
            let (before, after) = b.split_at(empty + 1);
            assert_eq!(verify(before.iter().chain(&a).chain(after)), Ok(true), "{count}");
        }
    }

    fn verify<'a>(messages: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<bool, String> {
        let mut verifier = Verifier::new(1, [walk(0), walk(1)]);
        messages.into_iter().try_fold(false, |_, message| verifier.check(message))
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

    #[test]
    fn the_books_balance_or_not() {
        let line = Line { incarnation: 0, intended: 5, acknowledged: 4, hash: 9 };
        assert!(balance(0, line, 4, 9).is_ok());
        assert!(balance(0, line, 5, 1).is_ok(), "the one in flight may arrive");
        assert!(balance(0, line, 3, 9).is_err(), "a loss");
        assert!(balance(0, line, 6, 9).is_err(), "a phantom");
        assert!(balance(0, line, 4, 8).is_err(), "other messages");
    }

    #[test]
    fn torture_sends_small_and_large_messages() {
        let len =
            |sequence| torture_len(Key { seed: 1, producer: 0, incarnation: 0, sequence }, 900);
        let lengths: Vec<_> = (0..2_000).map(len).collect();
        assert!(lengths.iter().all(|len| (24..=900).contains(len)));
        assert!(lengths.iter().any(|&len| len < 32) && lengths.iter().any(|&len| len > 700));
    }
}
