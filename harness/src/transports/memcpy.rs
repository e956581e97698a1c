//! A copy in and a read: what moving the bytes costs where nobody has to be told of them.
//!
//! One thread goes round a buffer as large as the ring, so that a message meets memory as cold as a
//! ring's would be.

use anyhow::{Context, Result};

use super::{Floor, Setup, Sink, Through, Transport};

/// A cyclic copy.
#[derive(Debug)]
pub(super) struct Memcpy;

impl Transport for Memcpy {
    fn name(&self) -> &'static str {
        "memcpy"
    }

    fn about(&self) -> &'static str {
        "no channel: one thread that copies into a buffer as large as the ring, round and round, \
         and reads each message there"
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    fn floor(&self) -> Option<Floor> {
        Some(Floor::Turns(|setup: &Setup| {
            Box::new(Buffer::new(setup.ring_bytes, setup.message_max))
        }))
    }
}

/// Messages begin at a cache line, as they do in a ring that is kind to its copies.
const LINE: usize = 64;

/// Goes round in this.
struct Buffer {
    memory: Vec<u8>,
    /// The first byte and the one after the last.
    base: usize,
    end: usize,
    /// Where the next message begins.
    next: usize,
}

impl Buffer {
    /// A buffer of so many bytes, for messages up to `longest`.
    fn new(bytes: u64, longest: u64) -> Buffer {
        let bytes = usize::try_from(bytes.max(longest)).expect("args keeps rings below the memory");
        let memory = vec![0; bytes + LINE];
        let base = memory.as_ptr().align_offset(LINE);
        Buffer { memory, base, end: base + bytes, next: base }
    }
}

impl Through for Buffer {
    fn pass(&mut self, message: &[u8], sink: &mut Sink<'_>) -> Result<()> {
        let start = if self.next + message.len() > self.end { self.base } else { self.next };
        let end = start + message.len();
        let room = self.memory.get_mut(start..end).context("a message longer than was said")?;
        room.copy_from_slice(message);
        sink(room);
        self.next = end.next_multiple_of(LINE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn messages_go_round_the_buffer_and_are_read_where_they_lie() {
        let mut buffer = Buffer::new(256, 100);
        let mut places = BTreeSet::new();
        for byte in 0..10 {
            let mut see = |message: &[u8]| {
                assert_eq!(message, [byte; 100]);
                places.insert(message.as_ptr().addr());
            };
            buffer.pass(&[byte; 100], &mut see).expect("it fits");
        }
        assert_eq!(places.len(), 2, "two of them fit at a time");
        assert!(buffer.pass(&[0; 400], &mut |_| {}).is_err());
    }
}
