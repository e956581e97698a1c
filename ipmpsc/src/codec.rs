//! How a typed message becomes bytes: the only file that names bincode.
//!
//! Fixed-width little-endian integers, as bincode 1 writes them by default. Reading rejects
//! trailing bytes and never allocates for more elements than a message's bytes can hold, other
//! than those of no size.

use crate::error::{Error, Result};
use bincode::Options;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// Room for a small value on the stack.
pub(crate) struct Small {
    bytes: [u8; Self::BYTES],
    written: usize,
}

impl Small {
    /// Larger values are measured and serialized into the ring itself.
    const BYTES: usize = 256;

    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; Self::BYTES],
            written: 0,
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.written]
    }
}

impl Write for &mut Small {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.written + bytes.len();
        let room = self.bytes.get_mut(self.written..end);
        room.ok_or(io::ErrorKind::WriteZero)?.copy_from_slice(bytes);
        self.written = end;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding()
}

/// Bytes that `value` takes, by a pass over it that writes nothing.
pub(crate) fn measure(value: &impl Serialize) -> Result<u64> {
    options().serialized_size(value).map_err(encode_error)
}

/// Writes `value`; what `writer` refuses with `WriteZero` is reported as [`Error::SizeChanged`].
#[inline]
pub(crate) fn encode(value: &impl Serialize, writer: impl Write) -> Result<()> {
    options()
        .serialize_into(writer, value)
        .map_err(encode_error)
}

/// Reads a value out of exactly these bytes.
#[inline]
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    options()
        .deserialize(bytes)
        .map_err(|error| Error::Decode(error))
}

#[cold]
#[allow(clippy::boxed_local, reason = "bincode hands its errors out in boxes")]
fn encode_error(error: bincode::Error) -> Error {
    match *error {
        bincode::ErrorKind::Io(error) if error.kind() == io::ErrorKind::WriteZero => {
            Error::SizeChanged
        }
        error => Error::Encode(Box::new(error)),
    }
}
