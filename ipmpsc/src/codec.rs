//! How a typed message becomes bytes: the only file that names bincode.
//!
//! Fixed-width little-endian integers, as bincode 1 writes them by default. Reading rejects
//! trailing bytes and never allocates for more elements than a message's bytes can hold, other
//! than those of no size.

use crate::error::{Error, Result};
use bincode::{BincodeRead, Options};
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};
use std::marker::PhantomData;

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

/// Reads a value that owns all it has out of exactly these bytes. Where there is no memory for it,
/// the error is [`Error::Io`].
#[inline]
pub(crate) fn decode_copying<T: DeserializeOwned>(mut payload: Payload<'_>) -> Result<T> {
    let decoded = options().deserialize_from_custom(&mut payload);
    match decoded.map_err(|error| *error) {
        Ok(value) if payload.left == 0 => Ok(value),
        Ok(_) => Err(decode_error(bincode::ErrorKind::Custom(
            "the message has bytes after its value".to_owned(),
        ))),
        Err(bincode::ErrorKind::Io(error)) if error.kind() == ErrorKind::OutOfMemory => {
            Err(Error::Io(error))
        }
        Err(error) => Err(decode_error(error)),
    }
}

#[cold]
fn decode_error(error: bincode::ErrorKind) -> Error {
    Error::Decode(Box::new(error))
}

/// Bytes that another process may write at any time: each is copied once, and what is looked at is
/// the copy.
#[derive(Debug)]
pub(crate) struct Payload<'a> {
    at: *const u8,
    left: usize,
    mapped: PhantomData<&'a ()>,
}

impl Payload<'_> {
    /// # Safety
    ///
    /// - `len` bytes at `at` stay mapped for the result's lifetime
    #[inline]
    pub(crate) const unsafe fn new(at: *const u8, len: usize) -> Self {
        Self { at, left: len, mapped: PhantomData }
    }

    /// Copies `len` bytes to `to` and steps over them.
    ///
    /// # Safety
    ///
    /// - `to` has room for `len` bytes, none of which is in the ring
    #[inline]
    unsafe fn copy(&mut self, to: *mut u8, len: usize) -> io::Result<()> {
        if len > self.left {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: `at` leads to `left` mapped bytes (`new`), which are no fewer, and `to` has the
        // room (caller). No reference to the source is made: a peer that writes it now makes a
        // wrong message, which is private once copied.
        unsafe { self.at.copy_to_nonoverlapping(to, len) };
        // SAFETY: at most the end of the same bytes.
        self.at = unsafe { self.at.add(len) };
        self.left -= len;
        Ok(())
    }
}

impl Read for Payload<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let len = to.len().min(self.left);
        self.read_exact(&mut to[..len])?;
        Ok(len)
    }

    #[inline]
    fn read_exact(&mut self, to: &mut [u8]) -> io::Result<()> {
        // SAFETY: a slice has room for its length, and no slice of the ring can be written to.
        unsafe { self.copy(to.as_mut_ptr(), to.len()) }
    }
}

impl<'de> BincodeRead<'de> for &mut Payload<'_> {
    fn forward_read_str<V: Visitor<'de>>(
        &mut self,
        len: usize,
        visitor: V,
    ) -> bincode::Result<V::Value> {
        let text = String::from_utf8(self.get_byte_buffer(len)?);
        let text =
            text.map_err(|error| bincode::ErrorKind::InvalidUtf8Encoding(error.utf8_error()))?;
        visitor.visit_string(text)
    }

    #[inline]
    fn get_byte_buffer(&mut self, len: usize) -> bincode::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // A length that the message does not have costs no memory.
        let room = len.min(self.left);
        bytes.try_reserve_exact(room).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
        // SAFETY: the vector has room for as much as is copied: more than is left is refused.
        unsafe { self.copy(bytes.as_mut_ptr(), len)? };
        // SAFETY: these bytes have just been written.
        unsafe { bytes.set_len(len) };
        Ok(bytes)
    }

    fn forward_read_bytes<V: Visitor<'de>>(
        &mut self,
        len: usize,
        visitor: V,
    ) -> bincode::Result<V::Value> {
        visitor.visit_byte_buf(self.get_byte_buffer(len)?)
    }
}

#[cold]
#[allow(clippy::boxed_local, reason = "bincode hands its errors out in boxes")]
fn encode_error(error: bincode::Error) -> Error {
    match *error {
        bincode::ErrorKind::Io(error) if error.kind() == ErrorKind::WriteZero => Error::SizeChanged,
        error => Error::Encode(Box::new(error)),
    }
}
