//! Messages borrowed from the ring: one by context or guard, many by `drain`. Each frees its space
//! when it is dropped, so that nothing borrowed can outlive it.

use crate::codec::{self, Payload};
use crate::error::{Error, Result};
use crate::event::Deadline;
use crate::fault::hit;
use crate::receiver::{End, Found, Place};
use crate::ring::Cursor;
use serde::Deserialize;
use std::ops::Deref;
use std::time::Duration;

/// A receiver borrowed to receive one message with references into the ring.
///
/// Made by [`Receiver::zero_copy_context`](crate::Receiver::zero_copy_context). The message's
/// space is freed when the context is dropped. One message per context: a second receive is
/// [`Error::AlreadyReceived`]. A message that cannot be decoded is consumed and does not count.
///
/// The references stay valid only while every process that maps the ring keeps to this crate's
/// protocol: a peer that writes into a message that is being read breaks Rust's rules in this
/// process. Where you do not trust a peer that far, use [`Receiver::recv`](crate::Receiver::recv).
///
/// # Examples
///
/// ```
/// use ipmpsc::{Receiver, Sender, SharedRingBuffer};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Frame<'a> {
///     number: u32,
///     #[serde(with = "serde_bytes")]
///     pixels: &'a [u8],
/// }
///
/// let ring = SharedRingBuffer::options().anonymous()?;
/// let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
/// sender.send(&Frame { number: 1, pixels: &[0; 100] })?;
/// let mut context = receiver.zero_copy_context();
/// let frame: Frame = context.recv()?;
/// assert_eq!((frame.number, frame.pixels.len()), (1, 100));
/// # Ok::<(), ipmpsc::Error>(())
/// ```
#[derive(Debug)]
pub struct ZeroCopyContext<'a> {
    end: &'a End,
    place: &'a mut Place,
    /// Length of the message received.
    taken: Option<u32>,
}

impl<'a> ZeroCopyContext<'a> {
    pub(crate) fn new(end: &'a End, place: &'a mut Place) -> Self {
        Self { end, place, taken: None }
    }
}

impl ZeroCopyContext<'_> {
    /// Receives a message, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`](crate::Receiver::recv), and [`Error::AlreadyReceived`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Error, Receiver, Sender, SharedRingBuffer};
    /// # let ring = SharedRingBuffer::options().anonymous()?;
    /// # let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    /// sender.send(&"once")?;
    /// let mut context = receiver.zero_copy_context();
    /// assert_eq!(context.recv::<&str>()?, "once");
    /// assert!(matches!(context.recv::<&str>(), Err(Error::AlreadyReceived)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn recv<'b, T: Deserialize<'b>>(&'b mut self) -> Result<T> {
        Ok(self.recv_until(Deadline::Never)?.expect("a wait without a deadline ends with one"))
    }

    /// Receives a message if there is one; `Ok(None)` if not.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, SharedRingBuffer};
    /// # let mut receiver = Receiver::new(SharedRingBuffer::options().anonymous()?);
    /// assert_eq!(receiver.zero_copy_context().try_recv::<&str>()?, None);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn try_recv<'b, T: Deserialize<'b>>(&'b mut self) -> Result<Option<T>> {
        self.recv_until(Deadline::Now)
    }

    /// Receives a message, waiting up to `timeout`; `Ok(None)` if that was too short.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, SharedRingBuffer};
    /// # use std::time::Duration;
    /// # let mut receiver = Receiver::new(SharedRingBuffer::options().anonymous()?);
    /// let mut context = receiver.zero_copy_context();
    /// assert_eq!(context.recv_timeout::<&str>(Duration::ZERO)?, None);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn recv_timeout<'b, T>(&'b mut self, timeout: Duration) -> Result<Option<T>>
    where
        T: Deserialize<'b>,
    {
        self.recv_until(Deadline::after(timeout))
    }

    #[inline]
    fn recv_until<'b, T: Deserialize<'b>>(&'b mut self, deadline: Deadline) -> Result<Option<T>> {
        if self.taken.is_some() {
            return Err(Error::AlreadyReceived);
        }
        let Some(found) = self.end.wait(self.place, deadline)? else {
            return Ok(None);
        };
        hit("recv-found");
        // SAFETY: `wait` has found the message with `peek`, and it is freed by the drop of self,
        // which what T borrows (for 'b, of self) cannot outlive, or below, if there is no T.
        let bytes = unsafe { self.end.borrow(found) };
        match codec::decode(bytes) {
            Ok(value) => {
                self.taken = Some(found.len);
                Ok(Some(value))
            }
            Err(error) => {
                self.end.consume(self.place, found.len);
                Err(error)
            }
        }
    }
}

impl Drop for ZeroCopyContext<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(len) = self.taken {
            self.end.consume(self.place, len);
        }
    }
}

/// A message's bytes, where they lie in the ring. Its space is freed on drop.
///
/// Made by [`Receiver::recv_bytes`](crate::Receiver::recv_bytes). The bytes stay as they are only
/// while every process that maps the ring keeps to this crate's protocol; see
/// [`ZeroCopyContext`]. They begin at a multiple of 8 bytes. If a guard is leaked, the next
/// receive yields the same message again.
///
/// # Examples
///
/// ```
/// # use ipmpsc::{Receiver, Sender, SharedRingBuffer};
/// # let ring = SharedRingBuffer::options().anonymous()?;
/// # let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
/// sender.send_bytes(b"in place")?;
/// let message = receiver.recv_bytes()?;
/// assert!(message.starts_with(b"in"));
/// # Ok::<(), ipmpsc::Error>(())
/// ```
#[derive(Debug)]
pub struct Message<'a> {
    end: &'a End,
    place: &'a mut Place,
    found: Found,
}

impl<'a> Message<'a> {
    #[inline]
    pub(crate) fn new(end: &'a End, place: &'a mut Place, found: Found) -> Self {
        Self { end, place, found }
    }

    /// The bytes, for a copy.
    #[inline]
    pub(crate) fn unread(&self) -> Payload<'_> {
        let len = self.found.len as usize;
        let from = self.end.region.ring.payload(self.found.offset, len);
        // SAFETY: `payload` has checked that the bytes lie inside the ring, which stays mapped as
        // long as this borrow of the receiver.
        unsafe { Payload::new(from, len) }
    }
}

impl Deref for Message<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `wait` has found the message with `peek`, and it is freed by the drop of self,
        // which the result cannot outlive.
        unsafe { self.end.borrow(self.found) }
    }
}

impl Drop for Message<'_> {
    #[inline]
    fn drop(&mut self) {
        self.end.consume(self.place, self.found.len);
    }
}

/// Messages that `drain` has handed out, freed together on drop.
pub(crate) struct Drained<'a> {
    end: &'a End,
    place: &'a mut Place,
    pub(crate) messages: usize,
}

impl<'a> Drained<'a> {
    pub(crate) fn new(end: &'a End, place: &'a mut Place) -> Self {
        Self { end, place, messages: 0 }
    }

    pub(crate) fn cursor(&mut self) -> &mut Cursor {
        self.place.cursor()
    }

    #[inline]
    pub(crate) fn note_read(&mut self, len: u32) {
        self.end.note_read(self.place, len);
    }
}

impl Drop for Drained<'_> {
    fn drop(&mut self) {
        self.end.release(self.place, self.messages as u64);
    }
}
