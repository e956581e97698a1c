//! What was promised, as pure functions over what was sent and what arrived: the books of a
//! producer, and what the survivors of torture may be sent.

use crate::{
    ledger::{Line, roll},
    payload::{END, Key, claimed, mix},
};

/// The books balance: what a producer's ledger says it sent is what the consumer took.
pub(crate) fn balance(producer: u32, line: Line, received: u64, hash: u64) -> Result<(), String> {
    let owed = format!(
        "producer {producer}: {} intended, {} acknowledged, {received} received",
        line.intended, line.acknowledged
    );
    if received < line.acknowledged {
        return Err(format!("loss: {owed}"));
    }
    if received > line.intended {
        return Err(format!("phantom: {owed}"));
    }
    if received == line.acknowledged && hash != line.hash {
        return Err(format!("bytes: {owed}, other messages than those sent"));
    }
    Ok(())
}

/// The consumer's side of a run in which producers are killed and replaced.
#[derive(Debug)]
pub(crate) struct Survivors {
    seed: u64,
    largest: usize,
    producers: Vec<Life>,
    ended: Vec<(u32, u32, u64)>,
    running: usize,
}

/// The incarnation of a producer that is heard at present.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    incarnation: u32,
    sequence: u64,
    hash: u64,
    ended: bool,
}

/// The length of a message in such a run, for both ends: small ones and large ones alike.
pub(crate) fn torture_len(key: Key, largest: usize) -> usize {
    let least = crate::payload::HEADER_LEN;
    let random = mix(mix(key.seed ^ key.sequence) ^ u64::from(key.producer));
    let spread = (largest - least + 1) as u64;
    let bits = u64::BITS - spread.leading_zeros();
    let below = (1_u64 << (random % u64::from(bits + 1))).min(spread);
    least + usize::try_from((random >> 8) % below).expect("at most `largest`")
}

impl Survivors {
    /// Expects so many producers at a time, and messages of `torture_len`.
    pub(crate) fn new(seed: u64, producers: u32, largest: usize) -> Survivors {
        let producers = vec![Life::default(); producers as usize];
        let running = producers.len();
        Survivors { seed, largest, producers, ended: Vec::new(), running }
    }

    /// Compares all of the next message. Returns whether every producer has sent its last.
    pub(crate) fn check(&mut self, message: &[u8]) -> Result<bool, String> {
        let Some((producer, incarnation, claim)) = claimed(message) else {
            return Err(format!("a message of {} bytes has no header", message.len()));
        };
        let Some(life) = self.producers.get_mut(producer as usize) else {
            return Err(format!("a message of producer {producer}, which does not exist"));
        };
        if incarnation > life.incarnation && !life.ended {
            self.ended.push((producer, life.incarnation, life.sequence));
            *life = Life { incarnation, ..Life::default() };
        }
        let name = format_args!("producer {producer}.{incarnation}");
        if incarnation < life.incarnation || life.ended {
            return Err(format!("{name}: message {claim} after its successor's, or its last"));
        }
        let (sequence, is_end) = (claim & !END, claim & END != 0);
        if sequence != life.sequence {
            return Err(format!("{name}: expected message {}, got {sequence}", life.sequence));
        }
        let key = Key { seed: self.seed, producer, incarnation, sequence: claim };
        if message.len() != torture_len(key, self.largest) || !key.matches(message) {
            return Err(format!("{name}: message {sequence} is torn"));
        }
        if is_end {
            life.ended = true;
            self.running -= 1;
        } else {
            life.hash = roll(life.hash, sequence, message.len());
            life.sequence += 1;
        }
        Ok(self.running == 0)
    }

    /// Incarnations that a later one replaced: (producer, incarnation, messages received).
    pub(crate) fn ended(&self) -> &[(u32, u32, u64)] {
        &self.ended
    }

    /// Of the last incarnation of each producer: messages received, last one not counted, and hash.
    pub(crate) fn received(&self) -> (Vec<u64>, Vec<u64>) {
        self.producers.iter().map(|life| (life.sequence, life.hash)).unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(incarnation: u32, sequence: u64, len: usize) -> Vec<u8> {
        let mut message = vec![0; len];
        Key { seed: 1, producer: 0, incarnation, sequence }.fill(&mut message);
        message
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

    fn torture(messages: &[(u32, u64)]) -> Result<bool, String> {
        let mut survivors = Survivors::new(1, 1, 200);
        messages.iter().try_fold(false, |_, &(incarnation, sequence)| {
            let key = Key { seed: 1, producer: 0, incarnation, sequence };
            survivors.check(&message(incarnation, sequence, torture_len(key, 200)))
        })
    }

    #[test]
    fn a_successor_starts_afresh_and_its_predecessor_stays_dead() {
        assert_eq!(torture(&[(0, 0), (0, 1), (2, 0), (2, 1 | END)]), Ok(true));
        assert!(torture(&[(0, 0), (0, 2)]).is_err(), "a loss");
        assert!(torture(&[(0, 0), (0, 0)]).is_err(), "a duplicate");
        assert!(torture(&[(0, 0), (1, 1)]).is_err(), "a successor's first is lost");
        assert!(torture(&[(1, 0), (0, 0)]).is_err(), "a message after its successor's");
        assert!(torture(&[(0, END), (1, 0)]).is_err(), "a message after the last");
    }

    #[test]
    fn a_torn_message_of_a_killed_producer_is_caught() {
        let key = Key { seed: 1, producer: 0, incarnation: 0, sequence: 0 };
        let whole = message(0, 0, torture_len(key, 200));
        assert!(Survivors::new(1, 1, 200).check(&whole).is_ok());
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            assert!(Survivors::new(1, 1, 200).check(&torn).is_err(), "byte {at}");
        }
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
