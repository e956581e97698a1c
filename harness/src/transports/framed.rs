//! Messages over byte streams: four bytes of length, then the message, written with one `writev`.
//!
//! The consumer reads as much as is there at once, so that one call brings many small messages, and
//! polls when it serves more than one producer. Pipes and stream sockets share this.

use std::{
    collections::VecDeque,
    io::{IoSlice, Read, Write},
};

use anyhow::{Result, bail};

use super::{Rx, SendError, Sink, Tx};
use crate::sys::{Stream, readable};

/// Bytes of the length in front of a message.
const PREFIX: usize = 4;

/// A producer's end.
pub(super) struct FramedTx(pub(super) Stream);

impl Tx for FramedTx {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let len = u32::try_from(message.len()).map_err(|_| SendError::TooLarge)?;
        let prefix = len.to_le_bytes();
        let slices = [IoSlice::new(&prefix), IoSlice::new(message)];
        let written = self.0.write_vectored(&slices)?;
        if written < PREFIX + message.len() {
            // A blocking write takes all of it, unless a signal interrupts a long write.
            if written < PREFIX {
                self.0.write_all(&prefix[written..])?;
            }
            self.0.write_all(&message[written.saturating_sub(PREFIX)..])?;
        }
        Ok(())
    }
}

/// One producer's bytes, and what was read from it and not yet shown.
struct Input {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Its producer has not hung up.
    is_open: bool,
}

impl Input {
    fn new(stream: Stream, longest: usize) -> Input {
        let room = (2 * (PREFIX + longest)).max(1 << 16);
        Input { stream, buffer: vec![0; room], start: 0, end: 0, is_open: true }
    }

    /// Shows the next message if all of it was read.
    fn show(&mut self, sink: &mut Sink<'_>) -> bool {
        let unread = &self.buffer[self.start..self.end];
        let Some((prefix, rest)) = unread.split_first_chunk::<PREFIX>() else {
            return false;
        };
        let len = u32::from_le_bytes(*prefix) as usize;
        let Some(message) = rest.get(..len) else {
            return false;
        };
        sink(message);
        self.start += PREFIX + len;
        true
    }

    /// Reads what there is, at least one byte unless its producer has hung up.
    fn read(&mut self) -> Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let read = self.stream.read(&mut self.buffer[self.end..])?;
        // Half a message that a dead producer leaves is never whole, so it is never shown.
        self.is_open = read > 0;
        self.end += read;
        Ok(())
    }
}

/// The consumer's end of all producers.
pub(super) struct FramedRx {
    inputs: Vec<Input>,
    /// Inputs that may hold another whole message, oldest first.
    ready: VecDeque<usize>,
}

impl Rx for FramedRx {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        while !self.show_ready(sink) {
            if let [input] = &mut self.inputs[..] {
                input.read()?;
                if !input.is_open {
                    bail!("the producer hung up before its last message");
                }
                self.ready.push_back(0);
            } else {
                self.poll(true)?;
            }
        }
        Ok(())
    }

    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        if self.show_ready(sink) {
            return Ok(true);
        }
        self.poll(false)?;
        Ok(self.show_ready(sink))
    }
}

impl FramedRx {
    /// Receives messages of at most `longest` bytes.
    pub(super) fn new(streams: Vec<Stream>, longest: usize) -> FramedRx {
        let inputs = streams.into_iter().map(|stream| Input::new(stream, longest)).collect();
        FramedRx { inputs, ready: VecDeque::new() }
    }

    /// Shows a message that was read whole, if there is one.
    #[inline]
    fn show_ready(&mut self, sink: &mut Sink<'_>) -> bool {
        while let Some(&input) = self.ready.front() {
            if self.inputs[input].show(sink) {
                return true;
            }
            self.ready.pop_front();
        }
        false
    }

    /// Waits until any producer's end has bytes and reads all those that do. Who has hung up is
    /// left out from then on; the others are served as before.
    fn poll(&mut self, waits: bool) -> Result<()> {
        let open: Vec<_> =
            (0..self.inputs.len()).filter(|&input| self.inputs[input].is_open).collect();
        if open.is_empty() {
            bail!("every producer hung up before its last message");
        }
        let streams: Vec<_> = open.iter().map(|&input| &self.inputs[input].stream).collect();
        let ready = readable(&streams, waits)?;
        for (input, _) in open.into_iter().zip(ready).filter(|(_, is_ready)| *is_ready) {
            self.inputs[input].read()?;
            self.ready.push_back(input);
        }
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        fs::File,
        os::{fd::OwnedFd, unix::net::UnixStream},
    };

    use super::*;

    fn pipe() -> (File, File) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        (File::from(OwnedFd::from(reader)), File::from(OwnedFd::from(writer)))
    }

    fn socket() -> (File, File) {
        let (reader, writer) = UnixStream::pair().expect("a pair of sockets");
        (File::from(OwnedFd::from(reader)), File::from(OwnedFd::from(writer)))
    }

    #[test]
    fn the_others_are_served_when_one_hangs_up_amid_a_message() {
        for pair in [pipe, socket] {
            let ((first, mut dying), (second, living)) = (pair(), pair());
            dying.write_all(&100_u32.to_le_bytes()).expect("room for a length");
            dying.write_all(b"half").expect("room for a part");
            drop(dying);
            let mut rx = FramedRx::new(vec![first, second], 100);
            let mut got = Vec::new();
            let nothing = rx.try_recv(&mut |_| panic!("half a message is none"));
            assert!(!nothing.expect("one still lives"));
            let mut living = FramedTx(living);
            living.send(b"whole").expect("room for a message");
            rx.recv(&mut |message| got.extend_from_slice(message)).expect("one still lives");
            assert_eq!(got, b"whole");
            drop(living);
            assert!(rx.recv(&mut |_| panic!("nobody sends")).is_err(), "all have hung up");
        }
    }
}
