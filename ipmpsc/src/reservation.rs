//! Space in the ring that a sender writes in place: shortened to what was written on commit, given
//! up on drop. Owns the claim between `claim` and `commit` of `ring.rs`.

use crate::codec;
use crate::error::{Error, Result};
use crate::fault::hit;
use crate::layout::{HEADER_BYTES, RecordWord, span_of};
use crate::mutants::mutant;
use crate::region::Region;
use crate::ring::{Claim, Ring};
use crate::sender::Sender;
use serde::Serialize;
use std::cell::RefCell;
use std::io::{self, Write};

/// Space in the ring for one message, by [`Sender::reserve`].
///
/// Written like a file, or through a pointer; then committed. Dropped, it is discarded.
///
/// # Examples
///
/// ```
/// # use ipmpsc::{Receiver, Sender, SharedRingBuffer};
/// # let ring = SharedRingBuffer::options().anonymous()?;
/// # let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
/// let mut frame = sender.reserve(4)?;
/// // SAFETY: the pointer leads to 4 bytes, all of which are written.
/// unsafe {
///     frame.as_mut_ptr().copy_from_nonoverlapping([1, 2, 3, 4].as_ptr(), 4);
///     frame.set_written(4);
/// }
/// frame.commit()?;
/// assert_eq!(*receiver.recv_bytes()?, [1, 2, 3, 4]);
/// # Ok::<(), ipmpsc::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a reservation that is dropped is discarded"]
pub struct Reservation<'a> {
    sender: &'a Sender,
    /// `None` once committed.
    claim: Option<Claim>,
    len: u32,
    written: u32,
}

impl<'a> Reservation<'a> {
    /// Takes a claim that was made for `len` bytes, which therefore fits 32 bits.
    pub(crate) fn new(sender: &'a Sender, claim: Claim, len: u64) -> Self {
        Self { sender, claim: Some(claim), len: len as u32, written: 0 }
    }
}

impl Reservation<'_> {
    /// Bytes reserved.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no bytes were reserved.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes written, from the first on: what [`commit`](Self::commit) will publish.
    pub fn written(&self) -> usize {
        self.written as usize
    }

    /// The address of the reserved bytes, a multiple of 8.
    ///
    /// Valid for writes of [`len`](Self::len) bytes until the reservation is committed or
    /// dropped. Every process that maps the ring can see them; make no reference to them.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        let claim = self.claim.as_ref().expect("taken by `commit` only, which consumes self");
        self.sender.region.ring.payload(claim.offset + HEADER_BYTES, self.len())
    }

    /// Says that the first `len` bytes have been written through [`as_mut_ptr`].
    ///
    /// # Safety
    ///
    /// - `len` is at most [`len`](Self::len)
    /// - the first `len` bytes have been written: they hold an older message otherwise
    ///
    /// [`as_mut_ptr`]: Self::as_mut_ptr
    pub unsafe fn set_written(&mut self, len: usize) {
        debug_assert!(len <= self.len());
        self.written = len as u32;
    }

    /// Serializes a value as the next message of a batch, behind a header of its own unless it is
    /// the first. Returns its length.
    #[inline]
    pub(crate) fn push(&mut self, value: &impl Serialize, first: bool) -> Result<u32> {
        let header = self.written.next_multiple_of(8);
        let begin = if first { 0 } else { header + HEADER_BYTES as u32 };
        if begin > self.len {
            return Err(Error::SizeChanged);
        }
        let left = (self.len - begin) as usize;
        let at = self.as_mut_ptr().wrapping_add(begin as usize);
        let mut space = Space { at, left, ring: &self.sender.region.ring };
        codec::encode(value, &mut space)?;
        let len = (left - space.left) as u32;
        self.written = begin + len;
        if let (false, Some(claim)) = (first, &self.claim) {
            let word = RecordWord::ready(claim.word.owner(), len);
            self.sender.region.ring.write_inner(claim, begin.into(), word);
        }
        Ok(len)
    }

    /// Publishes all messages of a batch, the first of which has `first_len` bytes.
    #[inline]
    pub(crate) fn commit_all(mut self, first_len: u32) -> Result<()> {
        if self.written.next_multiple_of(8) != self.len {
            return Err(Error::SizeChanged);
        }
        let claim = self.claim.take().expect("taken by a commit only, which consumes self");
        hit("copy-done");
        self.sender.publish(&claim, first_len)
    }

    /// Publishes the bytes written so far as one message.
    ///
    /// # Errors
    ///
    /// [`Error::Evicted`] if the receiver has taken this process for dead, or if the reservation
    /// was made by the process that this one was forked from: it is that one's to commit.
    pub fn commit(mut self) -> Result<()> {
        let claim = self.claim.take().expect("taken by `commit` only, which consumes self");
        if !self.sender.region.roster.is_mine(claim.word.0) {
            return Err(Error::Evicted);
        }
        let used = span_of(self.written.into());
        let rest = claim.word.span() - used;
        if rest > 0 {
            // Both spans are multiples of 8, so a header fits.
            let len = mutant!("inner-pad-off-by-one", rest, rest - HEADER_BYTES) as u32;
            let pad = RecordWord::pad(claim.word.owner(), len);
            self.sender.region.ring.write_inner(&claim, used, pad);
        }
        hit("copy-done");
        self.sender.publish(&claim, self.written)
    }
}

impl Write for Reservation<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let claim = self.claim.as_ref().expect("taken by `commit` only, which consumes self");
        let len = bytes.len().min((self.len - self.written) as usize);
        self.sender.region.ring.write(claim, self.written.into(), &bytes[..len]);
        self.written += len as u32;
        hit("copy-half");
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is left of a reservation while a value is serialized into it: `Reservation`'s own `Write`
/// takes three times as many instructions, and values come in small pieces.
struct Space<'a> {
    at: *mut u8,
    left: usize,
    ring: &'a Ring,
}

impl Write for Space<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.left);
        // SAFETY: `at` leads to `left` bytes of a BUSY record of ours, which are no fewer; they are
        // nobody else's until the commit, and no reference to them is made. A peer that writes
        // there all the same makes a wrong message, not a wrong access. What is written is not in
        // the ring, or in a message not yet released.
        unsafe { self.ring.copy(bytes.as_ptr(), self.at, len) };
        // SAFETY: at most the end of the same bytes.
        self.at = unsafe { self.at.add(len) };
        self.left -= len;
        hit("copy-half");
        Ok(len)
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.left {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.write(bytes).map(drop)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let Some(claim) = self.claim.take() else {
            return;
        };
        if !self.sender.region.roster.is_mine(claim.word.0) {
            // The parent's, and we are its child.
            return;
        }
        mutant!("discard-forgotten", return);
        // If the receiver has taken us for dead, it has skipped the record itself.
        if self.sender.region.ring.discard(&claim).is_ok() {
            self.sender.wake_receiver();
        }
    }
}

thread_local! {
    /// Rings that this thread is serializing a value into, by address.
    static WRITING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Marks a ring as being serialized into by this thread, until it is dropped.
pub(crate) struct Writing;

impl Writing {
    pub(crate) fn into(region: &Region) -> Self {
        WRITING.with_borrow_mut(|rings| rings.push(std::ptr::from_ref(region).addr()));
        Self
    }

    pub(crate) fn is_into(region: &Region) -> bool {
        WRITING.with_borrow(|rings| rings.contains(&std::ptr::from_ref(region).addr()))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.with_borrow_mut(|rings| rings.pop());
    }
}
