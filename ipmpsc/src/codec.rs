//! How a typed message becomes bytes: the only file that names bincode.
//!
//! Fixed-width little-endian integers, as bincode 1 writes them by default. Reading rejects
//! trailing bytes and never allocates for more elements than a message's bytes can hold, other
//! than those of no size.

use crate::error::{Error, Result};
use bincode::Options;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Write};

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
    options().serialize_into(writer, value).map_err(encode_error)
}

/// Reads a value out of exactly these bytes.
#[inline]
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    options().deserialize(bytes).map_err(|error| Error::Decode(error))
}

#[cold]
#[allow(clippy::boxed_local, reason = "bincode hands its errors out in boxes")]
fn encode_error(error: bincode::Error) -> Error {
    match *error {
        bincode::ErrorKind::Io(error) if error.kind() == ErrorKind::WriteZero => Error::SizeChanged,
        error => Error::Encode(Box::new(error)),
    }
}
