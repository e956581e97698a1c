//! The sending end: encode into claimed space, publish, and wait for space where there is none.
//!
//! A small value is serialized on the stack before anything is claimed, so a `Serialize`
//! implementation that panics, fails, sends on the same ring or takes its time holds nobody up.
//! A large one is measured and then serialized in place, into a claim that is given up if that
//! goes wrong; it delays the messages behind it meanwhile.

use crate::codec;
use crate::error::{Error, Result};
use crate::event::{Deadline, Learned, Next, Patience, Spin};
use crate::fault::{hit, is_led, told};
use crate::layout::{HEADER_BYTES, Owner, span_of};
use crate::mutants::mutant;
use crate::options::SharedRingBuffer;
use crate::region::Region;
use crate::reservation::{Reservation, Writing};
use crate::ring::{Attempt, Claim, Refused};
use crate::roster::Role;
use serde::Serialize;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Values up to this many bytes are serialized on the stack.
const SMALL: u64 = 1024;
/// Looks at a claim word in other hands before a `try_` call asks whether the holder is alive.
const TRY_PAUSES: u32 = 128;
/// Pauses of a sender that found the claim word taken: under a microsecond, up to three.
const STAND_BACK: u32 = 64;
/// A claim is held for some fifteen instructions, so its waiters never sleep long.
const CLAIM_NAP: Duration = Duration::from_millis(1);
/// So long a receiver is waited for, far into a large ring: less would not get one that has just
/// lost its processor, and four such waits a lap are no great delay to a burst.
const CATCHING_UP: Duration = Duration::from_millis(1);

/// The sending end of a channel.
///
/// Any number of processes, threads and clones may send at the same time. A `Sender` in a child
/// made by fork works: it attaches anew by itself.
///
/// # Examples
///
/// ```
/// use ipmpsc::{Receiver, Sender, SharedRingBuffer};
///
/// let ring = SharedRingBuffer::options().anonymous()?;
/// let (sender, receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
/// std::thread::spawn(move || sender.send(&1_u64)).join().unwrap()?;
/// assert_eq!(receiver.recv::<u64>()?, 1);
/// # Ok::<(), ipmpsc::Error>(())
/// ```
#[derive(Debug)]
pub struct Sender {
    pub(crate) region: Arc<Region>,
    spin: Spin,
    learned: Learned,
}

/// What a wait for space found.
enum Space {
    /// A claim may succeed.
    Perhaps,
    /// A claim may succeed, and is the last: time is out.
    LastLook,
    /// None, and time is out.
    None,
}

/// What is to be claimed.
#[derive(Clone, Copy)]
struct Wanted {
    span: u64,
    messages: u64,
    when_empty: bool,
}

impl Sender {
    /// Makes a sender for the ring.
    ///
    /// It takes one of the ring's slots for this process if it can; if not, the first send says
    /// why.
    pub fn new(buffer: SharedRingBuffer) -> Self {
        Self::attached(buffer.region, Spin::default())
    }

    fn attached(region: Arc<Region>, spin: Spin) -> Self {
        region.roster.add_sender(region.view());
        Self { region, spin, learned: Learned::for_sender() }
    }

    /// How long this sender spins before it sleeps, when the ring is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use ipmpsc::{Sender, SharedRingBuffer, Spin};
    ///
    /// let mut sender = Sender::new(SharedRingBuffer::options().anonymous()?);
    /// sender.set_spin(Spin::Never);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn set_spin(&mut self, spin: Spin) {
        self.spin = spin;
    }

    /// Sends a message, waiting for space as long as it takes.
    ///
    /// # Errors
    ///
    /// - [`Error::MessageTooLarge`] if it can never fit
    /// - [`Error::ReceiverGone`] if the ring is full and its receiver has died or left
    /// - [`Error::Encode`] if `value`'s own `Serialize` fails, [`Error::SizeChanged`] if it
    ///   writes different amounts each time, [`Error::WouldDeadlock`] if it sends on this ring
    ///   and there is no space
    /// - [`Error::Closed`] if another ring has been created at this one's path
    /// - [`Error::TooManySenders`], [`Error::LivenessUnavailable`], [`Error::Io`] at the first
    ///   send, if this process cannot be attached
    /// - [`Error::Corrupt`] if a peer has written nonsense
    ///
    /// Nothing was sent then, nor when `value`'s `Serialize` panics.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Error, Sender, SharedRingBuffer};
    /// let sender = Sender::new(SharedRingBuffer::options().capacity(100).anonymous()?);
    /// sender.send(&"a message")?;
    /// assert!(matches!(sender.send(&[0_u64; 32]), Err(Error::MessageTooLarge)));
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn send(&self, value: &impl Serialize) -> Result<()> {
        self.send_value(value, false, Deadline::Never).map(drop)
    }

    /// Sends a message if there is space now; `Ok(false)` if not, or if another sender is being
    /// slow to make its claim.
    ///
    /// A message does not wrap around the ring's end. One of more than half the ring may find an
    /// empty ring without space for it, until the receiver has looked once more and so moved
    /// to the ring's beginning; a thread that sends and receives by turns makes its ring at least
    /// twice as large as its messages.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Sender, SharedRingBuffer};
    /// let sender = Sender::new(SharedRingBuffer::options().capacity(16).anonymous()?);
    /// assert!(sender.try_send(&1_u64)?);
    /// assert!(!sender.try_send(&2_u64)?);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn try_send(&self, value: &impl Serialize) -> Result<bool> {
        self.send_value(value, false, Deadline::Now)
    }

    /// Sends a message, waiting for space up to `timeout`; `Ok(false)` if that was too short.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Sender, SharedRingBuffer};
    /// # use std::time::Duration;
    /// let sender = Sender::new(SharedRingBuffer::options().anonymous()?);
    /// assert!(sender.send_timeout(&1_u64, Duration::MAX)?);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn send_timeout(&self, value: &impl Serialize, timeout: Duration) -> Result<bool> {
        self.send_value(value, false, Deadline::after(timeout))
    }

    /// Sends a message once the ring is empty: for what is worthless if it has to queue.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Sender, SharedRingBuffer};
    /// let sender = Sender::new(SharedRingBuffer::options().anonymous()?);
    /// sender.send_when_empty(&"frame 1")?;
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn send_when_empty(&self, value: &impl Serialize) -> Result<()> {
        self.send_value(value, true, Deadline::Never).map(drop)
    }

    /// As [`send_when_empty`](Self::send_when_empty), up to `timeout`; `Ok(false)` if that was
    /// too short.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Sender, SharedRingBuffer};
    /// # use std::time::Duration;
    /// let sender = Sender::new(SharedRingBuffer::options().anonymous()?);
    /// assert!(sender.send_when_empty_timeout(&"frame 1", Duration::ZERO)?);
    /// assert!(!sender.send_when_empty_timeout(&"frame 2", Duration::ZERO)?);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn send_when_empty_timeout(
        &self,
        value: &impl Serialize,
        timeout: Duration,
    ) -> Result<bool> {
        self.send_value(value, true, Deadline::after(timeout))
    }

    /// Sends bytes as they are, waiting for space as long as it takes.
    ///
    /// The receiver gets them by [`recv_bytes`](crate::Receiver::recv_bytes), with any codec or
    /// none. They begin at a multiple of 8 bytes.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), but for those of serialization.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, Sender, SharedRingBuffer};
    /// # let ring = SharedRingBuffer::options().anonymous()?;
    /// # let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    /// sender.send_bytes(b"as they are")?;
    /// assert_eq!(&*receiver.recv_bytes()?, b"as they are");
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.send_slice(bytes, false, Deadline::Never).map(drop)
    }

    /// Sends bytes if there is space now; `Ok(false)` if not.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Sender, SharedRingBuffer};
    /// let sender = Sender::new(SharedRingBuffer::options().anonymous()?);
    /// assert!(sender.try_send_bytes(b"")?);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<bool> {
        self.send_slice(bytes, false, Deadline::Now)
    }

    /// Sends bytes, waiting for space up to `timeout`; `Ok(false)` if that was too short.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Sender, SharedRingBuffer};
    /// # use std::time::Duration;
    /// let sender = Sender::new(SharedRingBuffer::options().capacity(16).anonymous()?);
    /// assert!(sender.send_bytes_timeout(b"12345678", Duration::ZERO)?);
    /// assert!(!sender.send_bytes_timeout(b"12345678", Duration::from_millis(1))?);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<bool> {
        self.send_slice(bytes, false, Deadline::after(timeout))
    }

    /// Reserves space for a message of up to `len` bytes, to be written where it will be read.
    ///
    /// Messages sent after the reservation are received after it: commit or drop it soon. Do
    /// not send on the same ring while holding one: if the ring fills up behind it, both wait.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, Sender, SharedRingBuffer};
    /// # use std::io::Write;
    /// # let ring = SharedRingBuffer::options().anonymous()?;
    /// # let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    /// let mut reservation = sender.reserve(100)?;
    /// write!(reservation, "{} bytes at most", reservation.len())?;
    /// reservation.commit()?;
    /// assert_eq!(&*receiver.recv_bytes()?, b"100 bytes at most");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&self, len: usize) -> Result<Reservation<'_>> {
        let reservation = self.reserve_until(len as u64, false, Deadline::Never)?;
        Ok(reservation.expect("a wait without a deadline ends with a claim"))
    }

    /// Reserves space if there is any now; `Ok(None)` if not.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Sender, SharedRingBuffer};
    /// let sender = Sender::new(SharedRingBuffer::options().anonymous()?);
    /// let reservation = sender.try_reserve(100)?.expect("the ring is empty");
    /// drop(reservation); // nothing is sent
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn try_reserve(&self, len: usize) -> Result<Option<Reservation<'_>>> {
        self.reserve_until(len as u64, false, Deadline::Now)
    }

    /// Reserves space, waiting for it up to `timeout`; `Ok(None)` if that was too short.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Sender, SharedRingBuffer};
    /// # use std::time::Duration;
    /// let sender = Sender::new(SharedRingBuffer::options().anonymous()?);
    /// assert!(sender.reserve_timeout(100, Duration::from_secs(1))?.is_some());
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn reserve_timeout(
        &self,
        len: usize,
        timeout: Duration,
    ) -> Result<Option<Reservation<'_>>> {
        self.reserve_until(len as u64, false, Deadline::after(timeout))
    }

    /// Sends many messages with one claim, one commit and one wake; the receiver gets all or,
    /// if this process dies, none. A batch of more than a quarter of the ring goes in pieces.
    /// The messages are serialized in place, and whatever is sent behind them waits for that.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send). Pieces before the one that failed have been sent.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Receiver, Sender, SharedRingBuffer};
    /// # let ring = SharedRingBuffer::options().anonymous()?;
    /// # let (sender, mut receiver) = (Sender::new(ring.clone()), Receiver::new(ring));
    /// sender.send_batch(&["a", "b", "c"])?;
    /// assert_eq!(receiver.try_drain(10, |_| ())?, 3);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn send_batch<T: Serialize>(&self, values: &[T]) -> Result<()> {
        self.send_batch_until(values, Deadline::Never).map(drop)
    }

    /// As [`send_batch`](Self::send_batch), waiting for space up to `timeout`. Returns how many
    /// of the messages, from the first on, have been sent.
    ///
    /// # Errors
    ///
    /// As [`send_batch`](Self::send_batch).
    ///
    /// # Examples
    ///
    /// ```
    /// # use ipmpsc::{Sender, SharedRingBuffer};
    /// # use std::time::Duration;
    /// let sender = Sender::new(SharedRingBuffer::options().capacity(16).anonymous()?);
    /// let sent = sender.send_batch_timeout(&[1_u64, 2], Duration::ZERO)?;
    /// assert_eq!(sent, 1);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn send_batch_timeout<T: Serialize>(
        &self,
        values: &[T],
        timeout: Duration,
    ) -> Result<usize> {
        self.send_batch_until(values, Deadline::after(timeout))
    }

    #[inline]
    fn send_value(
        &self,
        value: &impl Serialize,
        when_empty: bool,
        deadline: Deadline,
    ) -> Result<bool> {
        let len = codec::measure(value)?;
        if len > SMALL {
            return self.send_large(value, len, when_empty, deadline);
        }
        let mut small = [const { MaybeUninit::<u8>::uninit() }; SMALL as usize];
        let small = &mut small[..len as usize];
        // No more than is needed: for the smallest, a whole buffer takes longer than the rest.
        small.fill(MaybeUninit::new(0));
        // SAFETY: all of these bytes have just been written.
        let small = unsafe { &mut *(std::ptr::from_mut(small) as *mut [u8]) };
        let mut rest = &mut *small;
        codec::encode(value, &mut rest)?;
        if !rest.is_empty() {
            return Err(Error::SizeChanged);
        }
        self.send_slice(small, when_empty, deadline)
    }

    /// Serializes a value of `len` bytes in place.
    fn send_large(
        &self,
        value: &impl Serialize,
        len: u64,
        when_empty: bool,
        deadline: Deadline,
    ) -> Result<bool> {
        let Some(mut reservation) = self.reserve_until(len, when_empty, deadline)? else {
            return Ok(false);
        };
        let writing = Writing::into(&self.region);
        let written = reservation.push(value, true)?;
        drop(writing);
        if u64::from(written) != len {
            return Err(Error::SizeChanged);
        }
        reservation.commit().map(|()| true)
    }

    #[inline]
    fn send_slice(&self, bytes: &[u8], when_empty: bool, deadline: Deadline) -> Result<bool> {
        let Some(claim) = self.claim_for(bytes.len() as u64, when_empty, deadline)? else {
            return Ok(false);
        };
        hit("claim-done");
        mutant!("commit-before-copy", self.publish(&claim, bytes.len() as u32)?);
        let half = bytes.len() / 2;
        if cfg!(feature = "fault") {
            self.region.ring.write(&claim, 0, &bytes[..half]);
            hit("copy-half");
        }
        self.region.ring.write(&claim, 0, bytes);
        hit("copy-done");
        // A slice that was claimed for fits 32 bits.
        mutant!("commit-before-copy", (), self.publish(&claim, bytes.len() as u32)?);
        Ok(true)
    }

    fn send_batch_until<T: Serialize>(&self, values: &[T], deadline: Deadline) -> Result<usize> {
        let most = self.region.view().capacity() / 4;
        let mut rest = values;
        while !rest.is_empty() {
            let (mut messages, mut span) = (0, 0);
            for value in rest {
                let more = span_of(codec::measure(value)?);
                if messages > 0 && span + more > most {
                    break;
                }
                (messages, span) = (messages + 1, span + more);
            }
            let (piece, next) = rest.split_at(messages);
            if !self.send_piece(piece, span, deadline)? {
                break;
            }
            rest = next;
        }
        Ok(values.len() - rest.len())
    }

    /// Serializes values of `span` bytes, headers included, in place, and publishes them at once.
    fn send_piece<T: Serialize>(&self, piece: &[T], span: u64, deadline: Deadline) -> Result<bool> {
        let len = span - HEADER_BYTES;
        if len > self.max_message_bytes() {
            return Err(Error::MessageTooLarge);
        }
        let wanted = Wanted { span, messages: piece.len() as u64, when_empty: false };
        let Some(claim) = self.claim(wanted, deadline)? else {
            return Ok(false);
        };
        hit("claim-done");
        let mut batch = Reservation::new(self, claim, len);
        let writing = Writing::into(&self.region);
        let mut first_len = None;
        for value in piece {
            let len = batch.push(value, first_len.is_none())?;
            first_len.get_or_insert(len);
        }
        drop(writing);
        batch.commit_all(first_len.unwrap_or(0)).map(|()| true)
    }

    fn max_message_bytes(&self) -> u64 {
        self.region.view().geometry().max_message_bytes()
    }

    fn reserve_until(
        &self,
        len: u64,
        when_empty: bool,
        deadline: Deadline,
    ) -> Result<Option<Reservation<'_>>> {
        let claim = self.claim_for(len, when_empty, deadline)?;
        hit("claim-done");
        Ok(claim.map(|claim| Reservation::new(self, claim, len)))
    }

    #[inline(always)]
    fn claim_for(&self, len: u64, when_empty: bool, deadline: Deadline) -> Result<Option<Claim>> {
        if len > self.max_message_bytes() {
            return Err(Error::MessageTooLarge);
        }
        self.claim(Wanted { span: span_of(len), messages: 1, when_empty }, deadline)
    }

    #[inline(always)]
    fn claim(&self, wanted: Wanted, deadline: Deadline) -> Result<Option<Claim>> {
        let me = self.region.me(Role::Sender)?;
        let Wanted { span, messages, when_empty } = wanted;
        match self.region.ring.claim(me, span, messages, when_empty) {
            Ok(claim) => {
                self.rouse_receiver();
                Ok(Some(claim))
            }
            Err(refused) => self.claim_slowly(me, wanted, deadline, refused),
        }
    }

    #[cold]
    fn claim_slowly(
        &self,
        me: Owner,
        wanted: Wanted,
        deadline: Deadline,
        mut refused: Refused,
    ) -> Result<Option<Claim>> {
        let Wanted { span, messages, when_empty } = wanted;
        let mut for_space = Patience::new(self.spin, &self.learned);
        let mut last = false;
        loop {
            match refused {
                Refused::Failed(error) => return Err(error),
                Refused::Held(_) if !self.wait_for_claim_word(deadline) => return Ok(None),
                Refused::Held(_) => {}
                Refused::Far => {
                    if let Err(again) = self.let_receiver_catch_up(me, span, deadline) {
                        refused = again;
                        continue;
                    }
                }
                // There was space at the deadline's last look, and somebody else got it.
                Refused::Full if last => return Ok(None),
                Refused::Full => {
                    match self.wait_for_space(me, wanted, deadline, &mut for_space)? {
                        Space::Perhaps => {}
                        Space::LastLook => last = true,
                        Space::None => return Ok(None),
                    }
                }
            }
            match self.region.ring.claim(me, span, messages, when_empty) {
                Ok(claim) => {
                    self.rouse_receiver();
                    return Ok(Some(claim));
                }
                Err(again) => refused = again,
            }
        }
    }

    /// Waits until the receiver of a large ring has made room for the next turn, and where that
    /// takes long lets claims go further.
    fn let_receiver_catch_up(&self, me: Owner, span: u64, deadline: Deadline) -> Attempt<()> {
        let region = &*self.region;
        let until = Instant::now() + CATCHING_UP;
        let mut patience = Patience::new(self.spin, &self.learned);
        while region.ring.is_far(span) {
            let nap = match patience.next(deadline, true) {
                Next::Again if Instant::now() < until => continue,
                Next::Sleep(nap) => nap.min(until.saturating_duration_since(Instant::now())),
                Next::Again | Next::Expired => Duration::ZERO,
            };
            if nap.is_zero() || is_led() {
                return region.ring.go_far(me, span);
            }
            // It sleeps, as what keeps the receiver may be that the senders have its processor.
            self.sleep_unless(me, nap, || !region.ring.is_far(span));
        }
        Ok(())
    }

    /// Waits until the claim word is free, freeing it if its holder is dead. False: out of time.
    fn wait_for_claim_word(&self, deadline: Deadline) -> bool {
        let ring = &self.region.ring;
        // Two senders that run at once take the ring's lines from each other at every message.
        // Whoever finds the word taken stands back, so that the other sends a few dozen messages
        // at full speed meanwhile.
        for _ in 0..STAND_BACK {
            std::hint::spin_loop();
        }
        let learned = Learned::for_sender();
        let mut patience = Patience::new(self.spin, &learned);
        let mut pauses = 0;
        loop {
            let Some(holder) = ring.claim_holder() else {
                return true;
            };
            let next = match deadline {
                // Not waiting is one thing, giving up on a holder of some instructions another.
                Deadline::Now if pauses < TRY_PAUSES => {
                    pauses += 1;
                    std::hint::spin_loop();
                    continue;
                }
                deadline => patience.next(deadline, true),
            };
            if next == Next::Again {
                continue;
            }
            if self.region.is_dead(holder) {
                ring.free_claim(holder);
                continue;
            }
            match next {
                Next::Sleep(_) if told("waits for the claim word") => {}
                Next::Sleep(nap) => std::thread::sleep(nap.min(CLAIM_NAP)),
                _ => return false,
            }
        }
    }

    /// Waits until there may be space, or time is out.
    fn wait_for_space(
        &self,
        me: Owner,
        wanted: Wanted,
        deadline: Deadline,
        patience: &mut Patience<'_>,
    ) -> Result<Space> {
        let region = &*self.region;
        // The claim that was refused may have padded the ring's end. Only the receiver can pass
        // the pad, and it may have gone to sleep before there was one.
        self.wake_receiver();
        self.rouse_receiver();
        let may_fit = || region.ring.may_fit(wanted.span, wanted.when_empty);
        loop {
            let next = patience.next(deadline, true);
            if next == Next::Again {
                // A sender that went on with each message that leaves would fight the receiver
                // for its line, message by message. A burst's worth is worth a short wait.
                if region.ring.is_roomy() && may_fit() {
                    return Ok(Space::Perhaps);
                }
                continue;
            }
            if may_fit() {
                let expired = next == Next::Expired;
                return Ok(if expired { Space::LastLook } else { Space::Perhaps });
            }
            if region.roster.receiver_gone(region.view()) {
                return Err(Error::ReceiverGone);
            }
            let Next::Sleep(nap) = next else {
                return Ok(Space::None);
            };
            if Writing::is_into(region) {
                return Err(Error::WouldDeadlock);
            }
            self.sleep_unless(me, nap, || may_fit() || region.ring.is_closed());
            return Ok(Space::Perhaps);
        }
    }

    /// Sleeps until the receiver has freed some space, unless the last look finds that enough is.
    fn sleep_unless(&self, me: Owner, nap: Duration, enough: impl FnOnce() -> bool) {
        let armed = self.region.ring.arm_sender();
        if !enough() {
            self.region.roster.count_blocked(self.region.view(), me, 1);
            self.region.sleep_as_sender(armed, nap);
            self.region.roster.count_blocked(self.region.view(), me, -1);
            self.region.ring.rearm_sender();
        }
    }

    #[inline]
    pub(crate) fn publish(&self, claim: &Claim, len: u32) -> Result<()> {
        mutant!("wake-before-commit", self.wake_receiver());
        self.region.ring.commit(claim, len)?;
        mutant!("wake-before-commit", (), self.wake_receiver());
        Ok(())
    }

    #[inline]
    pub(crate) fn wake_receiver(&self) {
        if self.region.ring.take_receiver_wake() {
            hit("commit-waking");
            self.region.wake_receiver();
        }
    }

    #[inline]
    fn rouse_receiver(&self) {
        let ring = &self.region.ring;
        if ring.must_rouse() {
            ring.rouse();
            hit("claim-rousing");
            self.region.wake_receiver();
        }
    }
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        Self::attached(Arc::clone(&self.region), self.spin)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.region.roster.remove_sender(self.region.view()) {
            // A receiver that waits for messages may want to know that none will come.
            self.wake_receiver();
        }
    }
}
