//! A copy in and a read: what moving the bytes costs where nobody has to be told of them.
//!
//! One thread goes round a buffer as large as the ring, so that a message meets memory as cold as a
//! ring's would be.

use std::{cell::RefCell, rc::Rc};

use anyhow::Result;

use super::{Floor, Pair, Rx, SendError, Setup, Sink, Transport, Tx};

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
        Some(Floor::Turns(|setup: &Setup| cyclic(setup.ring_bytes, setup.message_max)))
    }
}

/// Messages begin at a cache line, as they do in a ring that is kind to its copies.
const LINE: usize = 64;

/// Both ends of a buffer of so many bytes, for one thread and messages up to `longest`.
pub(super) fn cyclic(bytes: u64, longest: u64) -> Pair {
    let bytes = usize::try_from(bytes.max(longest)).expect("args keeps rings below the memory");
    let memory = vec![0; bytes + LINE];
    let base = memory.as_ptr().align_offset(LINE);
    let end = base + bytes;
    let buffer = Rc::new(RefCell::new(Buffer { memory, base, end, start: base, len: 0 }));
    (Box::new(End(Rc::clone(&buffer))), Box::new(End(buffer)))
}

struct Buffer {
    memory: Vec<u8>,
    /// The first byte and the one after the last.
    base: usize,
    end: usize,
    /// The message.
    start: usize,
    len: usize,
}

struct End(Rc<RefCell<Buffer>>);

impl Tx for End {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let buffer = &mut *self.0.borrow_mut();
        let next = (buffer.start + buffer.len).next_multiple_of(LINE);
        buffer.start = if next + message.len() > buffer.end { buffer.base } else { next };
        buffer.len = message.len();
        let room = buffer.memory.get_mut(buffer.start..buffer.start + message.len());
        room.ok_or(SendError::TooLarge)?.copy_from_slice(message);
        Ok(())
    }
}

impl Rx for End {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        let buffer = self.0.borrow();
        sink(&buffer.memory[buffer.start..buffer.start + buffer.len]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_round_the_buffer_and_are_read_where_they_lie() {
        let (mut tx, mut rx) = cyclic(256, 100);
        for byte in 0..10 {
            tx.send(&[byte; 100]).expect("it fits");
            let mut seen = Vec::new();
            rx.recv(&mut |message| seen.extend_from_slice(message)).expect("it is there");
            assert_eq!(seen, [byte; 100]);
        }
        assert!(matches!(tx.send(&[0; 400]), Err(SendError::TooLarge)));
    }
}
