//! The receiving end: wait for a record, decode it by copy or by borrow, free its space on drop.
//!
//! Methods that take `&self` exclude one another by a lock that costs nothing unless it fails;
//! those that take `&mut self` need none. This file makes the only references to bytes of the
//! ring: to the payload of one READY record, between `peek` and `release` (`ring.rs`,
//! invariant 6).

use crate::codec;
use crate::error::{Error, Result};
use crate::event::{Deadline, LONGEST_NAP, Learned, Lull, Next, Patience, Spin};
use crate::fault::hit;
use crate::layout::{NAPS, RecordWord};
use crate::message::{Drained, Message, ZeroCopyContext};
use crate::mutants::mutant;
use crate::options::SharedRingBuffer;
use crate::region::Region;
use crate::ring::{Cursor, Peeked, Reading, Refused, is_large};
use crate::roster::Role;
use serde::Deserialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

/// `try_` calls that find a record unfinished ask no oftener whether its sender is alive.
const TRY_ASKS_EVERY: Duration = Duration::from_millis(1);

/// The receiving end of a channel.
///
/// A ring has one receiver at a time: the first to receive is it, until it is dropped or its
/// process dies. Its successor goes on with the first message that was not consumed.
///
/// # Examples
///
/// ```
/// use ipmpsc::{Error, Receiver, Sender, SharedRingBuffer};
///
/// let ring = SharedRingBuffer::options().anonymous()?;
/// let sender = Sender::new(ring.clone());
/// let (first, second) = (Receiver::new(ring.clone()), Receiver::new(ring));
/// sender.send(&"hello")?;
/// assert_eq!(first.recv::<String>()?, "hello");
/// assert!(matches!(second.try_recv::<String>(), Err(Error::ReceiverExists)));
/// # Ok::<(), ipmpsc::Error>(())
/// ```
#[derive(Debug)]
pub struct Receiver {
    end: End,
    place: Mutex<Place>,
}

/// What does not change from one receive to the next.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) region: Arc<Region>,
    /// Tells this receiver from others of the process.
    id: u64,
    spin: Spin,
    learned: Learned,
    disconnect: bool,
}

/// Where the receiver is.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// `None` before the first receive.
    cursor: Option<Cursor>,
    /// An unfinished record that a `try_` call saw, and when it, or its owner, was looked at.
    unfinished: Option<(RecordWord, Instant)>,
    /// Since when a large message is read, if somebody wants to know.
    reading: Option<Reading>,
    lull: Lull,
}

/// A message's payload in the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl Receiver {
    /// Makes a receiver for the ring. It becomes the ring's receiver at its first receive.
    pub fn new(buffer: SharedRingBuffer) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let end = End {
            region: buffer.region,
            // Relaxed: only the number matters.
            id: NEXT.fetch_add(1, Relaxed),
            spin: Spin::default(),
            learned: Learned::for_receiver(),
            disconnect: false,
        };
        Self { end, place: Mutex::default() }
    }

    /// How long this receiver spins before it sleeps, when the ring is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// use ipmpsc::{Receiver, SharedRingBuffer, Spin};
    /// use std::time::Duration;
    ///
    /// let mut receiver = Receiver::new(SharedRingBuffer::options().anonymous()?);
    /// receiver.set_spin(Spin::For(Duration::from_millis(1)));
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn set_spin(&mut self, spin: Spin) {
        self.end.spin = spin;
    }

    /// Whether a receive from an empty ring is [`Error::Disconnected`] once there have been
    /// senders and all of them have gone. Otherwise, and by default, it waits for others.
    ///
    /// To see that one was killed it looks around eleven times a second while it waits, where it
    /// would sleep until it is woken.
    ///
    /// # Examples
    ///
    /// ```
    /// use ipmpsc::{Error, Receiver, Sender, SharedRingBuffer};
    ///
    /// let ring = SharedRingBuffer::options().anonymous()?;
    /// let mut receiver = Receiver::new(ring.clone());
    /// receiver.set_disconnect(true);
    /// Sender::new(ring).send(&1_u8)?;
    /// assert_eq!(receiver.recv::<u8>()?, 1);
    /// assert!(matches!(receiver.recv::<u8>(), Err(Error::Disconnected)));
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn set_disconnect(&mut self, on: bool) {
        self.end.disconnect = on;
    }

    /// How many senders live: handles, clones included.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, Sender, SharedRingBuffer};
    /// let ring = SharedRingBuffer::options().anonymous()?;
    /// let sender = Sender::new(ring.clone());
    /// let another = sender.clone();
    /// assert_eq!(Receiver::new(ring).senders(), 2);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn senders(&self) -> u32 {
        let region = &self.end.region;
        region.roster.sum_living(region.view(), |slot| &slot.senders)
    }

    /// Receives a message by copy, waiting for one as long as it takes.
    ///
    /// Its bytes are copied out of the ring once, straight into the value, and whatever is looked
    /// at is the copy: no peer can change it any more. Its space is freed when the value is
    /// complete, or its `Deserialize` panics.
    ///
    /// # Errors
    ///
    /// - [`Error::Decode`] if it is no `T`; it is consumed
    /// - [`Error::Io`] if there is too little memory for its bytes; it is not consumed
    /// - [`Error::ReceiverExists`] if the ring has another living receiver, or another thread is
    ///   receiving through this one
    /// - [`Error::Disconnected`] with [`set_disconnect`](Self::set_disconnect)
    /// - [`Error::Closed`] if another ring has been created at this one's path and this one is
    ///   drained
    /// - [`Error::TooManySenders`], [`Error::LivenessUnavailable`], [`Error::Io`] at the first
    ///   receive, if this process cannot be attached
    /// - [`Error::Corrupt`] if a peer has written nonsense
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Error, Receiver, Sender, SharedRingBuffer};
    /// # let ring = SharedRingBuffer::options().anonymous()?;
    /// # let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    /// sender.send(&'x')?;
    /// sender.send(&"y")?;
    /// assert!(matches!(receiver.recv::<u64>(), Err(Error::Decode(_))));
    /// assert_eq!(receiver.recv::<String>()?, "y");
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn recv<T>(&self) -> Result<T>
    where
        T: for<'de> Deserialize<'de>,
    {
        Ok(self.recv_until(Deadline::Never)?.expect("a wait without a deadline ends with one"))
    }

    /// Receives a message by copy if there is one; `Ok(None)` if not.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, SharedRingBuffer};
    /// let receiver = Receiver::new(SharedRingBuffer::options().anonymous()?);
    /// assert_eq!(receiver.try_recv::<u64>()?, None);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn try_recv<T>(&self) -> Result<Option<T>>
    where
        T: for<'de> Deserialize<'de>,
    {
        self.recv_until(Deadline::Now)
    }

    /// Receives a message by copy, waiting up to `timeout`; `Ok(None)` if that was too short.
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
    /// let receiver = Receiver::new(SharedRingBuffer::options().anonymous()?);
    /// assert_eq!(receiver.recv_timeout::<u64>(Duration::from_millis(1))?, None);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn recv_timeout<T>(&self, timeout: Duration) -> Result<Option<T>>
    where
        T: for<'de> Deserialize<'de>,
    {
        self.recv_until(Deadline::after(timeout))
    }

    /// Borrows the receiver to receive one message with references into the ring.
    ///
    /// The message's space is freed when the context is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, Sender, SharedRingBuffer};
    /// # let ring = SharedRingBuffer::options().anonymous()?;
    /// # let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    /// sender.send(&"borrowed")?;
    /// assert_eq!(receiver.zero_copy_context().recv::<&str>()?, "borrowed");
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    ///
    /// What is borrowed cannot outlive the context:
    ///
    /// ```compile_fail,E0716
    /// # use ipmpsc::{Receiver, SharedRingBuffer};
    /// # let mut receiver = Receiver::new(SharedRingBuffer::options().anonymous()?);
    /// let text: &str = receiver.zero_copy_context().recv()?;
    /// println!("{text}");
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn zero_copy_context(&mut self) -> ZeroCopyContext<'_> {
        let (end, place) = self.parts();
        ZeroCopyContext::new(end, place)
    }

    /// Receives a message's bytes where they lie, waiting as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), but for those of decoding.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, Sender, SharedRingBuffer};
    /// # let ring = SharedRingBuffer::options().anonymous()?;
    /// # let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    /// sender.send_bytes(&[1, 2, 3])?;
    /// let message = receiver.recv_bytes()?;
    /// assert_eq!(message.iter().sum::<u8>(), 6);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn recv_bytes(&mut self) -> Result<Message<'_>> {
        let message = self.message_until(Deadline::Never)?;
        Ok(message.expect("a wait without a deadline ends with a message"))
    }

    /// Receives a message's bytes where they lie if there is one; `Ok(None)` if not.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, SharedRingBuffer};
    /// let mut receiver = Receiver::new(SharedRingBuffer::options().anonymous()?);
    /// assert!(receiver.try_recv_bytes()?.is_none());
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn try_recv_bytes(&mut self) -> Result<Option<Message<'_>>> {
        self.message_until(Deadline::Now)
    }

    /// Receives a message's bytes where they lie, waiting up to `timeout`; `Ok(None)` if that
    /// was too short.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, SharedRingBuffer};
    /// # use std::time::Duration;
    /// let mut receiver = Receiver::new(SharedRingBuffer::options().anonymous()?);
    /// assert!(receiver.recv_bytes_timeout(Duration::from_millis(1))?.is_none());
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Option<Message<'_>>> {
        self.message_until(Deadline::after(timeout))
    }

    /// Waits for a message, then calls `f` with the bytes of each that is there, at most
    /// `limit`, and frees their space in one step. Returns how many there were.
    ///
    /// If `f` panics, the messages up to that one are consumed.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, Sender, SharedRingBuffer};
    /// # let ring = SharedRingBuffer::options().anonymous()?;
    /// # let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    /// sender.send_bytes(b"a")?;
    /// sender.send_bytes(b"bc")?;
    /// let mut bytes = 0;
    /// assert_eq!(receiver.drain(100, |message| bytes += message.len())?, 2);
    /// assert_eq!(bytes, 3);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn drain(&mut self, limit: usize, f: impl FnMut(&[u8])) -> Result<usize> {
        self.drain_until(limit, Deadline::Never, f)
    }

    /// As [`drain`](Self::drain), but 0 if there is no message.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, SharedRingBuffer};
    /// let mut receiver = Receiver::new(SharedRingBuffer::options().anonymous()?);
    /// assert_eq!(receiver.try_drain(100, |_| ())?, 0);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn try_drain(&mut self, limit: usize, f: impl FnMut(&[u8])) -> Result<usize> {
        self.drain_until(limit, Deadline::Now, f)
    }

    /// As [`drain`](Self::drain), waiting for the first message up to `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, SharedRingBuffer};
    /// # use std::time::Duration;
    /// let mut receiver = Receiver::new(SharedRingBuffer::options().anonymous()?);
    /// assert_eq!(receiver.drain_timeout(100, Duration::from_millis(1), |_| ())?, 0);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn drain_timeout(
        &mut self,
        limit: usize,
        timeout: Duration,
        f: impl FnMut(&[u8]),
    ) -> Result<usize> {
        self.drain_until(limit, Deadline::after(timeout), f)
    }

    fn recv_until<T>(&self, deadline: Deadline) -> Result<Option<T>>
    where
        T: for<'de> Deserialize<'de>,
    {
        let mut place = match self.place.try_lock() {
            Ok(place) => place,
            // A panic of the user's Deserialize leaves nothing half done here.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Error::ReceiverExists),
        };
        let place = &mut *place;
        let Some(found) = self.end.wait(place, deadline)? else {
            return Ok(None);
        };
        // Its drop frees the message's space, also if the user's Deserialize panics.
        let message = Message::new(&self.end, place, found);
        let value = codec::decode_copying(message.unread());
        hit("recv-copied");
        if let Err(Error::Io(_)) = value {
            // Too little memory now may be enough later.
            std::mem::forget(message);
        } else {
            drop(message);
        }
        hit("recv-released");
        value.map(Some)
    }

    fn message_until(&mut self, deadline: Deadline) -> Result<Option<Message<'_>>> {
        let (end, place) = self.parts();
        let found = end.wait(place, deadline)?;
        Ok(found.map(|found| Message::new(end, place, found)))
    }

    fn drain_until(
        &mut self,
        limit: usize,
        deadline: Deadline,
        mut f: impl FnMut(&[u8]),
    ) -> Result<usize> {
        if limit == 0 {
            return Ok(0);
        }
        let (end, place) = self.parts();
        let Some(mut found) = end.wait(place, deadline)? else {
            return Ok(0);
        };
        let mut drained = Drained::new(end, place);
        loop {
            let ring = &end.region.ring;
            ring.advance(drained.cursor(), found.len);
            drained.messages += 1;
            // SAFETY: a message that `peek` has just shown; `drained` frees its space after the
            // call, so that by the protocol nobody writes there before.
            f(unsafe { end.borrow(found) });
            drained.note_read(found.len);
            if drained.messages == limit {
                break;
            }
            match ring.peek(drained.cursor()) {
                Ok(Peeked::Message { offset, len }) => found = Found { offset, len },
                // What may be wrong there is for the next receive to say: these are consumed.
                _ => break,
            }
        }
        Ok(drained.messages)
    }

    /// The parts, for those who have the receiver to themselves.
    #[inline]
    fn parts(&mut self) -> (&End, &mut Place) {
        // A panic of the user's code leaves nothing half done: see `recv_until`.
        let place = self.place.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        (&self.end, place)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let region = &self.end.region;
        if region.roster.leave_role(region.view(), self.end.id) {
            // Those who wait for space may not want to wait for nobody.
            region.wake_all_senders();
        }
    }
}

impl Place {
    #[inline]
    pub(crate) fn cursor(&mut self) -> &mut Cursor {
        self.cursor.as_mut().expect("set by every wait before it finds anything")
    }
}

impl End {
    /// Finds the next message, waiting for it. `None`: out of time.
    #[inline]
    pub(crate) fn wait(&self, place: &mut Place, deadline: Deadline) -> Result<Option<Found>> {
        if !self.region.roster.is_receiver(self.id) {
            self.take_role(place)?;
        }
        match self.region.ring.peek(place.cursor())? {
            Peeked::Message { offset, len } => Ok(Some(self.found(place, offset, len))),
            _ => self.wait_long(place, deadline),
        }
    }

    #[inline(always)]
    fn found(&self, place: &mut Place, offset: u64, len: u32) -> Found {
        if is_large(len) {
            place.reading = self.region.ring.start_reading(place.cursor());
        }
        Found { offset, len }
    }

    #[cold]
    fn take_role(&self, place: &mut Place) -> Result<()> {
        let (roster, view) = (&self.region.roster, self.region.view());
        roster.take_role(view, self.id)?;
        // A role without a place would be worth nothing.
        let cursor = self.region.ring.cursor().inspect_err(|_| {
            roster.leave_role(view, self.id);
        })?;
        place.cursor = Some(cursor);
        // A predecessor that died asleep would be roused for ever.
        self.region.ring.disarm_receiver();
        Ok(())
    }

    #[cold]
    fn wait_long(&self, place: &mut Place, deadline: Deadline) -> Result<Option<Found>> {
        let ring = &self.region.ring;
        if self.spin != Spin::Never && !matches!(deadline, Deadline::Now) {
            place.lull.pause();
            let peeked = ring.peek(place.cursor())?;
            place.lull.learn(matches!(peeked, Peeked::Message { .. }));
            if let Peeked::Message { offset, len } = peeked {
                return Ok(Some(self.found(place, offset, len)));
            }
        }
        let mut patience = Patience::new(self.spin, &self.learned);
        loop {
            let busy = match ring.peek(place.cursor())? {
                Peeked::Message { offset, len } => {
                    patience.end(|| ring.is_half_full(place.cursor()));
                    return Ok(Some(self.found(place, offset, len)));
                }
                Peeked::Empty => None,
                Peeked::Busy(word) => Some(word),
            };
            match patience.next(deadline, busy.is_some()) {
                Next::Again => {}
                Next::Expired => {
                    if !self.look_around_briefly(place, busy)? {
                        return Ok(None);
                    }
                }
                Next::Sleep(nap) => {
                    if !self.look_around(place, busy)? {
                        self.sleep(place, busy, nap)?;
                    }
                }
            }
        }
    }

    /// Sleeps unless something has changed since `busy` was seen.
    fn sleep(&self, place: &mut Place, busy: Option<RecordWord>, nap: Duration) -> Result<()> {
        let ring = &self.region.ring;
        // Whether all have gone is for the receiver to see: nobody who is killed rouses it.
        let to_sleep = busy.is_none() && nap > LONGEST_NAP && !self.disconnect;
        let armed = mutant!("arm-late", NAPS, ring.arm_receiver(to_sleep));
        let unchanged = match ring.peek(place.cursor()) {
            Ok(Peeked::Empty) => busy.is_none(),
            Ok(Peeked::Busy(word)) => busy == Some(word),
            _ => false,
        };
        hit("sleep-looked");
        // A pad or a skipped record may have been passed just now, and a sender wait for its space.
        let freed = ring.has_freed(place.cursor());
        mutant!("arm-late", _ = ring.arm_receiver(false));
        if unchanged && !freed && !ring.is_closed() {
            let nap = if armed == NAPS { nap.min(LONGEST_NAP) } else { nap };
            self.region.sleep_as_receiver(armed, nap);
        }
        ring.disarm_receiver();
        Ok(())
    }

    /// What a receive does before it sleeps: looks whether there is anything but patience to
    /// have. True if the ring should be looked at again at once.
    fn look_around(&self, place: &mut Place, busy: Option<RecordWord>) -> Result<bool> {
        let ring = &self.region.ring;
        if ring.take_space_wake(place.cursor()) {
            self.region.wake_sender();
        }
        if let Some(busy) = busy {
            return Ok(self.recover(place, busy));
        }
        ring.check_empty(place.cursor())?;
        let ended = if ring.is_closed() {
            Error::Closed
        } else if self.disconnect && self.disconnected() {
            Error::Disconnected
        } else {
            return Ok(false);
        };
        // What was sent before the end comes first: it was there before the end was seen.
        match ring.peek(place.cursor())? {
            Peeked::Empty => Err(ended),
            _ => Ok(true),
        }
    }

    /// What a receive does when it has no time, or none left: as `look_around`, but not so
    /// often that a caller who polls spends its time here.
    fn look_around_briefly(&self, place: &mut Place, busy: Option<RecordWord>) -> Result<bool> {
        let Some(word) = busy else {
            return self.look_around(place, None);
        };
        match place.unfinished {
            Some((seen, since)) if seen == word => {
                if since.elapsed() < TRY_ASKS_EVERY {
                    return Ok(false);
                }
                place.unfinished = Some((word, Instant::now()));
                self.look_around(place, busy)
            }
            _ => {
                place.unfinished = Some((word, Instant::now()));
                Ok(false)
            }
        }
    }

    /// Makes the record `busy` passable if its owner is dead, freeing the claim word first if
    /// that one's holder is dead too. True if something changed.
    #[cold]
    fn recover(&self, place: &mut Place, busy: RecordWord) -> bool {
        let region = &self.region;
        if !mutant!("reclaim-without-proof", true, region.is_dead(busy.0)) {
            return false;
        }
        let Ok(me) = region.me(Role::Receiver) else {
            return false;
        };
        match region.ring.recover(place.cursor(), me, busy) {
            Err(Refused::Held(holder)) => region.is_dead(holder) && region.ring.free_claim(holder),
            _ => true,
        }
    }

    fn disconnected(&self) -> bool {
        let (roster, view) = (&self.region.roster, self.region.view());
        // Relaxed: counts up; a sender that attaches now is one that came too late.
        view.header().producers.attaches.load(Relaxed) > 0
            && roster.sum_living(view, |slot| &slot.senders) == 0
    }

    /// Takes note that a message was read, which `wait` has found or came after it in a drain.
    #[inline]
    pub(crate) fn note_read(&self, place: &mut Place, len: u32) {
        if is_large(len)
            && let Some(reading) = place.reading.take()
        {
            self.region.ring.end_reading(&reading, len);
        }
    }

    /// Frees the message at the receiver's place.
    #[inline]
    pub(crate) fn consume(&self, place: &mut Place, len: u32) {
        self.note_read(place, len);
        self.region.ring.advance(place.cursor(), len);
        self.release(place, 1);
    }

    /// Frees everything before the receiver's place, unless it is the place of the process that
    /// this one was forked from.
    #[inline]
    pub(crate) fn release(&self, place: &mut Place, messages: u64) {
        if !self.region.roster.is_receiver(self.id) {
            return;
        }
        let ring = &self.region.ring;
        ring.release(place.cursor(), messages);
        if ring.space_wake_due(place.cursor()) && ring.take_space_wake(place.cursor()) {
            self.region.wake_sender();
        }
    }

    /// A message's bytes.
    ///
    /// # Safety
    ///
    /// - `peek` has shown the message, and its space is not freed while the result is used
    #[inline]
    pub(crate) unsafe fn borrow<'b>(&self, found: Found) -> &'b [u8] {
        let len = found.len as usize;
        let bytes = self.region.ring.payload(found.offset, len);
        // SAFETY: `payload` has checked that the bytes lie inside the ring, which stays mapped as
        // long as the caller's borrow of the receiver. The record is READY and not freed
        // (caller), so no peer that keeps to the protocol writes it; that all do is the
        // condition that the documentation of every borrowing receive states.
        unsafe { std::slice::from_raw_parts(bytes, len) }
    }
}
