//! What was promised, as pure functions over what was sent and what arrived: the books of a
//! producer, and the lengths of what is sent under torture.

use crate::{
    ledger::Line,
    payload::{Key, mix},
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

/// The length of a message in a run in which either end is killed, for both ends: small ones and
/// large ones alike.
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
