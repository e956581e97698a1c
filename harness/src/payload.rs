//! What is inside a message, so that the consumer can tell whether it is the right one.
//!
//! Every byte follows from `Key` (seed, producer, incarnation, sequence), so a reader that knows
//! which message it expects can compare all of it. Two forms:
//!
//! * *verified* messages, of any length, written afresh for each send. One of 24 bytes or more
//!   opens with a header of producer, incarnation and sequence; a shorter one has the low byte of
//!   its producer first. The rest are the words `k, k + G, k + 2G ...`, `k` hashed from the key: as
//!   fast as memory to write and to compare, and two messages differ in every word.
//! * *compared* messages, of one size, whose body is written before the clock starts. A header of
//!   two words is all the producer stamps while it is measured; the consumer compares every byte.
//!   A *timed* one ends with two more words: when it was due, and when its send began.

/// Who sent a message, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) seed: u64,
    pub(crate) producer: u32,
    pub(crate) incarnation: u32,
    pub(crate) sequence: u64,
}

/// Bytes of the header of a verified message.
pub(crate) const HEADER_LEN: usize = 24;
/// Bytes of the header of a compared message, and so the smallest size that can be compared.
pub(crate) const STAMP_LEN: usize = 16;
/// Bytes at the end of a timed message.
const TIMES_LEN: usize = 16;
/// The smallest size that can be timed.
pub(crate) const TIMED_LEN: usize = STAMP_LEN + TIMES_LEN;
/// The sequence bit that marks the last message of a producer.
pub(crate) const END: u64 = 1 << 63;
/// The golden ratio in 64 bits: odd, so that the words of a body repeat after 2^64 only.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bodies a producer of compared messages cycles through, so that no message equals the last.
const BODIES: u64 = 4;

/// A good 64-bit mix (the finaliser of SplitMix64).
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Key {
    /// The first word of the body.
    fn hash(self) -> u64 {
        let who = (u64::from(self.producer) << 32) | u64::from(self.incarnation);
        mix(mix(self.seed ^ STEP).wrapping_add(who)).wrapping_add(mix(self.sequence ^ STEP))
    }

    /// Writes the verified message of this key over all of `message`.
    pub(crate) fn fill(self, message: &mut [u8]) {
        let body = self.fill_header(message);
        fill_body(self.hash(), &mut message[body..]);
    }

    /// Whether `message` is the verified message of this key, whole.
    pub(crate) fn matches(self, message: &[u8]) -> bool {
        let mut header = [0; HEADER_LEN];
        let header = &mut header[..message.len().min(HEADER_LEN)];
        let body = self.fill_header(header);
        message[..body] == header[..body] && body_matches(self.hash(), &message[body..])
    }

    /// Writes the header that fits and returns its length.
    fn fill_header(self, message: &mut [u8]) -> usize {
        if message.len() >= HEADER_LEN {
            message[..4].copy_from_slice(&self.producer.to_le_bytes());
            message[4..8].copy_from_slice(&self.incarnation.to_le_bytes());
            message[8..16].copy_from_slice(&self.sequence.to_le_bytes());
            message[16..24].copy_from_slice(&mix(self.seed).to_le_bytes());
            HEADER_LEN
        } else if let Some(first) = message.first_mut() {
            *first = self.producer.to_le_bytes()[0];
            1
        } else {
            0
        }
    }
}

/// The producer, incarnation and sequence that a message of `HEADER_LEN` bytes or more claims.
pub(crate) fn claimed(message: &[u8]) -> Option<(u32, u32, u64)> {
    let producer = message.get(..4)?.try_into().ok().map(u32::from_le_bytes)?;
    let incarnation = message.get(4..8)?.try_into().ok().map(u32::from_le_bytes)?;
    let sequence = message.get(8..16)?.try_into().ok().map(u64::from_le_bytes)?;
    (message.len() >= HEADER_LEN).then_some((producer, incarnation, sequence))
}

fn fill_body(first: u64, body: &mut [u8]) {
    let mut word = first;
    let mut words = body.chunks_exact_mut(8);
    for chunk in &mut words {
        chunk.copy_from_slice(&word.to_le_bytes());
        word = word.wrapping_add(STEP);
    }
    let rest = words.into_remainder();
    let len = rest.len();
    rest.copy_from_slice(&word.to_le_bytes()[..len]);
}

/// Four words at a time, side by side, and with nothing to set up, as most messages are short.
#[inline]
fn body_matches(first: u64, body: &[u8]) -> bool {
    let mut expected = [0, 1, 2, 3].map(|index| first.wrapping_add(STEP.wrapping_mul(index)));
    let mut differences = [0; 4];
    let (blocks, rest) = body.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for lane in 0..4 {
            differences[lane] |= u64::from_le_bytes(words[lane]) ^ expected[lane];
            expected[lane] = expected[lane].wrapping_add(STEP.wrapping_mul(4));
        }
    }
    let mut word = expected[0];
    let mut difference = differences[0] | differences[1] | differences[2] | differences[3];
    let (words, tail) = rest.as_chunks::<8>();
    for found in words {
        difference |= u64::from_le_bytes(*found) ^ word;
        word = word.wrapping_add(STEP);
    }
    // Most bodies are whole words, and an empty comparison is a call all the same.
    difference == 0 && (tail.is_empty() || *tail == word.to_le_bytes()[..tail.len()])
}

/// The messages of one producer of a compared transport.
#[derive(Debug)]
pub(crate) struct Bodies {
    /// A power of two of them, and so a multiple of `BODIES`.
    messages: Vec<Vec<u8>>,
}

impl Bodies {
    /// Writes all bodies, stamped with the first sequences.
    pub(crate) fn new(seed: u64, producer: u32, size: usize) -> Bodies {
        Bodies::with_messages(seed, producer, size, BODIES)
    }

    /// As `new`, for batches of up to so many messages, which is a power of two.
    pub(crate) fn for_batches(seed: u64, producer: u32, size: usize, batch: usize) -> Bodies {
        assert!(batch.is_power_of_two(), "so that a batch lies in one piece");
        Bodies::with_messages(seed, producer, size, BODIES.max(batch as u64))
    }

    fn with_messages(seed: u64, producer: u32, size: usize, count: u64) -> Bodies {
        assert!(size >= STAMP_LEN, "args refuses sizes below the stamp");
        let messages = (0..count)
            .map(|sequence| {
                let mut message = vec![0; size];
                message[..8].copy_from_slice(&u64::from(producer).to_le_bytes());
                message[8..STAMP_LEN].copy_from_slice(&sequence.to_le_bytes());
                let body = body_seed(seed, producer, sequence % BODIES);
                fill_body(body, &mut message[STAMP_LEN..]);
                message
            })
            .collect();
        Bodies { messages }
    }

    /// The messages from this sequence on, which is a multiple of their count, itself a power of
    /// two. Only their headers are written here.
    pub(crate) fn stamp_batch(&mut self, first: u64, count: usize) -> &[Vec<u8>] {
        let at = (first as usize) & (self.messages.len() - 1);
        let batch = &mut self.messages[at..at + count];
        for (message, sequence) in batch.iter_mut().zip(first..) {
            message[8..STAMP_LEN].copy_from_slice(&sequence.to_le_bytes());
        }
        batch
    }

    /// The message of this sequence; only its header is written here.
    ///
    /// It is written well before it is sent, each time for the message one round ahead: a processor
    /// that has to copy a word it has just stored waits for it longer than a short message takes.
    #[inline]
    pub(crate) fn stamp(&mut self, sequence: u64) -> &[u8] {
        let last = sequence.wrapping_sub(1);
        let count = self.messages.len();
        let at = |sequence: u64| (sequence as usize) & (count - 1);
        self.messages[at(last)][8..STAMP_LEN]
            .copy_from_slice(&last.wrapping_add(count as u64).to_le_bytes());
        let message = &mut self.messages[at(sequence)];
        if word(message, 8) != Some(sequence) {
            // The last message, which says so.
            message[8..STAMP_LEN].copy_from_slice(&sequence.to_le_bytes());
        }
        message
    }
}

/// What a consumer of compared messages knows.
#[derive(Debug)]
pub(crate) struct Expected {
    size: usize,
    /// By producer: the sequence that must come next, and the first word of each body.
    producers: Vec<(u64, [u64; BODIES as usize])>,
}

impl Expected {
    /// Expects messages of `size` bytes from `producers` producers.
    pub(crate) fn new(seed: u64, producers: u32, size: usize) -> Expected {
        let bodies = |producer| std::array::from_fn(|body| body_seed(seed, producer, body as u64));
        Expected { size, producers: (0..producers).map(|p| (0, bodies(p))).collect() }
    }

    /// Compares every byte of the next message. Returns whether it was its producer's last.
    #[inline]
    pub(crate) fn check(&mut self, message: &[u8]) -> Result<bool, String> {
        self.accept(message).ok_or_else(|| self.explain(message))
    }

    /// Whether it was its producer's last, if it is the message that must come.
    ///
    /// Always inline: the call and its registers are a tenth of what a short message costs here.
    #[inline(always)]
    fn accept(&mut self, message: &[u8]) -> Option<bool> {
        let (stamp, body) = message.split_first_chunk::<STAMP_LEN>()?;
        let (producer, claim) = (word(stamp, 0)?, word(stamp, 8)?);
        let (next, bodies) = self.producers.get_mut(usize::try_from(producer).ok()?)?;
        let sequence = claim & !END;
        let first = bodies[(sequence % BODIES) as usize];
        let is_right = message.len() == self.size && sequence == *next;
        if !is_right || !body_matches(first, body) {
            return None;
        }
        *next += 1;
        Some(claim & END != 0)
    }

    /// What is wrong with a message that was not accepted.
    #[cold]
    fn explain(&self, message: &[u8]) -> String {
        let (Some(producer), Some(claim)) = (word(message, 0), word(message, 8)) else {
            return format!("a message of {} bytes has no header", message.len());
        };
        let known = usize::try_from(producer).ok().and_then(|p| self.producers.get(p));
        let Some((next, bodies)) = known else {
            return format!("a message of producer {producer}, which does not exist");
        };
        let sequence = claim & !END;
        let first = bodies[(sequence % BODIES) as usize];
        let intact = message.len() == self.size && body_matches(first, &message[STAMP_LEN..]);
        format!(
            "producer {producer}: expected message {next}, got {sequence} ({})",
            if intact { "intact" } else { "torn" }
        )
    }

    /// Messages received by producer, the last one of each included.
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.producers.iter().map(|(next, _)| *next).collect()
    }
}

/// The moments of a timed message before it is received, on the clock that all processes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moments {
    /// When it should have been sent.
    pub(crate) due_ns: u64,
    /// When its send began.
    pub(crate) begin_ns: u64,
}

impl Bodies {
    /// The message of this sequence with its moments at the end. Bodies are of one kind or the
    /// other: a message that was timed once is not what `check` expects.
    pub(crate) fn stamp_timed(&mut self, sequence: u64, moments: Moments) -> &[u8] {
        self.stamp(sequence);
        let bodies = self.messages.len() as u64;
        let message = &mut self.messages[(sequence % bodies) as usize];
        let at = message.len() - TIMES_LEN;
        message[at..at + 8].copy_from_slice(&moments.due_ns.to_le_bytes());
        message[at + 8..].copy_from_slice(&moments.begin_ns.to_le_bytes());
        message
    }
}

impl Expected {
    /// Expects timed messages of `size` bytes. All but the moments are the bytes of a message that
    /// is shorter by them.
    pub(crate) fn timed(seed: u64, producers: u32, size: usize) -> Expected {
        Expected::new(seed, producers, size - TIMES_LEN)
    }

    /// As `check`, for a timed message. Returns its moments and whether it was its producer's last.
    pub(crate) fn check_timed(&mut self, message: &[u8]) -> Result<(Moments, bool), String> {
        let Some(at) = message.len().checked_sub(TIMES_LEN) else {
            return Err(format!("a message of {} bytes has no moments", message.len()));
        };
        let is_last = self.check(&message[..at])?;
        let word = |at| word(message, at).expect("the line above found room for two words");
        let moments = Moments { due_ns: word(at), begin_ns: word(at + 8) };
        if moments.begin_ns < moments.due_ns {
            return Err(format!("a send began before it was due: {moments:?}"));
        }
        Ok((moments, is_last))
    }
}

fn word(message: &[u8], at: usize) -> Option<u64> {
    message.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// `Bodies` marks the end in the sequence; the body is that of the sequence without the mark.
fn body_seed(seed: u64, producer: u32, body: u64) -> u64 {
    Key { seed, producer, incarnation: u32::MAX, sequence: body }.hash()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { seed: 1, producer: 2, incarnation: 3, sequence: 4 };

    #[test]
    fn a_message_matches_its_own_key_at_every_length() {
        for len in 0..200 {
            let mut message = vec![0; len];
            KEY.fill(&mut message);
            assert!(KEY.matches(&message), "{len} bytes");
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        for len in [1, 7, 8, 23, 24, 25, 64, 100] {
            let mut message = vec![0; len];
            KEY.fill(&mut message);
            for at in 0..len {
                message[at] ^= 1;
                assert!(!KEY.matches(&message), "byte {at} of {len}");
                message[at] ^= 1;
            }
        }
    }

    #[test]
    fn another_key_writes_other_bytes() {
        let mut message = [0; 40];
        KEY.fill(&mut message);
        assert_eq!(claimed(&message), Some((2, 3, 4)));
        for other in [
            Key { seed: 0, ..KEY },
            Key { producer: 0, ..KEY },
            Key { incarnation: 0, ..KEY },
            Key { sequence: 0, ..KEY },
        ] {
            assert!(!other.matches(&message), "{other:?}");
        }
    }

    #[test]
    fn every_flipped_byte_of_a_compared_message_is_noticed() {
        for size in [16, 17, 24, 40, 47, 48, 64, 87, 200] {
            let mut bodies = Bodies::new(9, 0, size);
            let message = bodies.stamp(0).to_vec();
            for at in 0..size {
                let mut torn = message.clone();
                torn[at] ^= 0x80;
                let found = Expected::new(9, 1, size).check(&torn);
                assert_ne!(found, Ok(false), "byte {at} of {size}");
            }
            assert_eq!(Expected::new(9, 1, size).check(&message), Ok(false), "{size} bytes");
        }
    }

    #[test]
    fn compared_messages_pass_in_order_and_fail_otherwise() {
        let mut bodies = Bodies::new(9, 1, 64);
        let mut expected = Expected::new(9, 2, 64);
        assert_eq!(expected.check(bodies.stamp(0)), Ok(false));
        assert!(expected.check(bodies.stamp(0)).is_err(), "a duplicate");
        assert!(expected.check(bodies.stamp(2)).is_err(), "a gap");
        let mut torn = bodies.stamp(1).to_vec();
        torn[63] ^= 1;
        assert!(expected.check(&torn).is_err(), "a torn message");
        assert!(expected.check(&torn[..8]).is_err(), "no header");
        assert_eq!(expected.check(bodies.stamp(1 | END)), Ok(true));
        assert_eq!(expected.counts(), [0, 2]);
    }

    #[test]
    fn timed_messages_carry_their_moments_and_are_compared_up_to_them() {
        for size in [TIMED_LEN, 33, 64, 100] {
            let mut bodies = Bodies::new(9, 0, size);
            let mut expected = Expected::timed(9, 1, size);
            let moments = Moments { due_ns: 5, begin_ns: 7 };
            let message = bodies.stamp_timed(0, moments);
            assert_eq!(message.len(), size);
            assert_eq!(expected.check_timed(message), Ok((moments, false)));
            let mut torn = bodies.stamp_timed(1, moments).to_vec();
            for at in 0..size - TIMES_LEN {
                torn[at] ^= 1;
                assert!(expected.check_timed(&torn).is_err(), "byte {at} of {size}");
                torn[at] ^= 1;
            }
            let impossible = Moments { due_ns: 7, begin_ns: 5 };
            let early = bodies.stamp_timed(1, impossible).to_vec();
            assert!(expected.check_timed(&early).is_err());
        }
        assert!(Expected::timed(9, 1, 64).check_timed(&[0; 8]).is_err(), "no moments");
    }

    #[test]
    fn a_message_carries_its_own_sequence_in_whatever_order_they_are_asked_for() {
        let mut bodies = Bodies::new(9, 3, 24);
        for sequence in [0, 1, 2, 3, 4, 5, 4, 9, 0, 7, 8, 8 | END, 9, 10, END, 1, 5 | END] {
            let message = bodies.stamp(sequence);
            assert_eq!((word(message, 0), word(message, 8)), (Some(3), Some(sequence)));
        }
    }

    #[test]
    fn batches_pass_in_order_as_single_messages_do() {
        for batch in [1, 2, 32] {
            let mut bodies = Bodies::for_batches(9, 0, 64, batch);
            let mut expected = Expected::new(9, 1, 64);
            for first in (0..10).map(|round| round * batch as u64) {
                for message in bodies.stamp_batch(first, batch) {
                    assert_eq!(expected.check(message), Ok(false), "{batch}");
                }
            }
            assert_eq!(expected.check(bodies.stamp((10 * batch as u64) | END)), Ok(true));
        }
    }

    #[test]
    fn a_phantom_producer_is_refused() {
        let mut expected = Expected::new(9, 2, 64);
        assert!(expected.check(Bodies::new(9, 2, 64).stamp(0)).is_err());
    }
}
