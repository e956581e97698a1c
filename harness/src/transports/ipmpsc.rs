//! The channel under test, in its four forms: typed and copied out, typed and borrowed from the
//! ring, the same in batches, and raw bytes.

use anyhow::Result;
use ipmpsc::{Error, Receiver, Sender, SharedRingBuffer};

use super::{Borrowed, Bound, Owned, Rx, SendError, Setup, Sink, Transport, Tx};

/// How messages enter and leave the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Copying,
    ZeroCopy,
    Bytes,
    Batch,
}

pub(super) const COPYING: Ipmpsc = Ipmpsc(Form::Copying);
pub(super) const ZERO_COPY: Ipmpsc = Ipmpsc(Form::ZeroCopy);
pub(super) const BYTES: Ipmpsc = Ipmpsc(Form::Bytes);
pub(super) const BATCH: Ipmpsc = Ipmpsc(Form::Batch);

/// `ipmpsc`, this repository's crate.
#[derive(Debug)]
pub(super) struct Ipmpsc(Form);

/// Bytes serde adds to a struct of one byte string.
const TYPED_EXTRA: u64 = 8;
/// Bytes the ring adds to every message.
const RECORD_EXTRA: u64 = 8;
/// Messages of a batch.
const MESSAGES: usize = 32;

impl Transport for Ipmpsc {
    fn name(&self) -> &'static str {
        match self.0 {
            Form::Copying => "ipmpsc",
            Form::ZeroCopy => "ipmpsc-zero-copy",
            Form::Bytes => "ipmpsc-bytes",
            Form::Batch => "ipmpsc-batch",
        }
    }

    fn about(&self) -> &'static str {
        match self.0 {
            Form::Copying => "typed: a struct of bytes, received as an owned copy",
            Form::ZeroCopy => "typed: a struct of bytes, received as a borrow of the ring",
            Form::Bytes => "raw bytes, received as a borrow of the ring",
            Form::Batch => {
                "typed: structs of bytes, up to 32 with one claim, received as borrows of the \
                 ring, up to 32 with one release"
            }
        }
    }

    fn version(&self) -> &'static str {
        ipmpsc::VERSION
    }

    fn has_limit(&self) -> bool {
        true
    }

    fn has_ring(&self) -> bool {
        true
    }

    fn overhead(&self) -> Option<u64> {
        match self.0 {
            Form::Bytes => Some(RECORD_EXTRA),
            Form::Copying | Form::ZeroCopy | Form::Batch => Some(RECORD_EXTRA + TYPED_EXTRA),
        }
    }

    fn batch(&self) -> usize {
        if self.0 == Form::Batch { MESSAGES } else { 1 }
    }

    fn bind(&self, setup: &Setup) -> Result<Box<dyn Bound>> {
        let path = setup.path("ring");
        // The path is this run's own: a ring that is there is that of a consumer that was killed.
        let ring = SharedRingBuffer::options().capacity(setup.ring_bytes).open_or_create(&path)?;
        let endpoint = path.display().to_string();
        Ok(Box::new(Ring { ring, endpoint, form: self.0, producers: setup.producers }))
    }

    fn connect(&self, endpoint: &str, _: &Setup) -> Result<Box<dyn Tx>> {
        let sender = Sender::new(SharedRingBuffer::options().open(endpoint)?);
        Ok(match self.0 {
            Form::Bytes => Box::new(BytesTx(sender)),
            Form::Copying | Form::ZeroCopy | Form::Batch => Box::new(TypedTx(sender)),
        })
    }
}

struct Ring {
    ring: SharedRingBuffer,
    endpoint: String,
    form: Form,
    producers: u32,
}

impl Bound for Ring {
    fn endpoints(&self) -> Vec<String> {
        (0..self.producers).map(|_| self.endpoint.clone()).collect()
    }

    fn max_len(&self) -> u64 {
        match self.form {
            Form::Bytes => self.ring.max_message_len(),
            Form::Copying | Form::ZeroCopy | Form::Batch => {
                self.ring.max_message_len() - TYPED_EXTRA
            }
        }
    }

    fn capacity(&self) -> u64 {
        self.ring.capacity()
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Rx>> {
        let receiver = Receiver::new(self.ring.clone());
        Ok(match self.form {
            Form::Copying => Box::new(CopyingRx(receiver, self.ring)),
            Form::ZeroCopy => Box::new(ZeroCopyRx(receiver, self.ring)),
            Form::Bytes => Box::new(BytesRx(receiver, self.ring)),
            Form::Batch => Box::new(BatchRx(receiver, self.ring)),
        })
    }
}

impl From<Error> for SendError {
    fn from(error: Error) -> SendError {
        match error {
            Error::MessageTooLarge => SendError::TooLarge,
            Error::ReceiverGone => SendError::ReceiverGone,
            other => SendError::Failed(other.into()),
        }
    }
}

struct TypedTx(Sender);

impl Tx for TypedTx {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        Ok(self.0.send(&Borrowed { data: message })?)
    }

    fn try_send(&mut self, message: &[u8]) -> Result<bool, SendError> {
        Ok(self.0.try_send(&Borrowed { data: message })?)
    }

    fn send_batch(&mut self, messages: &[Vec<u8>]) -> Result<(), SendError> {
        // As a user has them: values in a row, which borrow their bytes.
        let mut values = [const { Borrowed { data: &[] } }; MESSAGES];
        for (value, message) in values.iter_mut().zip(messages) {
            value.data = message;
        }
        Ok(self.0.send_batch(&values[..messages.len()])?)
    }
}

struct BytesTx(Sender);

impl Tx for BytesTx {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        Ok(self.0.send_bytes(message)?)
    }

    fn try_send(&mut self, message: &[u8]) -> Result<bool, SendError> {
        Ok(self.0.try_send_bytes(message)?)
    }
}

struct CopyingRx(Receiver, SharedRingBuffer);

impl Rx for CopyingRx {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        sink(&self.0.recv::<Owned>()?.data);
        Ok(())
    }

    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        let message = self.0.try_recv::<Owned>()?;
        Ok(message.map(|message| sink(&message.data)).is_some())
    }

    fn repairs(&self) -> Option<(u64, u64)> {
        Some(repairs(&self.1))
    }
}

struct ZeroCopyRx(Receiver, SharedRingBuffer);

impl Rx for ZeroCopyRx {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        sink(self.0.zero_copy_context().recv::<Borrowed<'_>>()?.data);
        Ok(())
    }

    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        let mut context = self.0.zero_copy_context();
        let message = context.try_recv::<Borrowed<'_>>()?;
        Ok(message.map(|message| sink(message.data)).is_some())
    }

    fn repairs(&self) -> Option<(u64, u64)> {
        Some(repairs(&self.1))
    }
}

struct BytesRx(Receiver, SharedRingBuffer);

impl Rx for BytesRx {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        sink(&self.0.recv_bytes()?);
        Ok(())
    }

    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        let message = self.0.try_recv_bytes()?;
        Ok(message.map(|message| sink(&message)).is_some())
    }

    fn repairs(&self) -> Option<(u64, u64)> {
        Some(repairs(&self.1))
    }
}

struct BatchRx(Receiver, SharedRingBuffer);

impl Rx for BatchRx {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        sink(self.0.zero_copy_context().recv::<Borrowed<'_>>()?.data);
        Ok(())
    }

    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        let mut context = self.0.zero_copy_context();
        let message = context.try_recv::<Borrowed<'_>>()?;
        Ok(message.map(|message| sink(message.data)).is_some())
    }

    fn recv_batch(&mut self, sink: &mut Sink<'_>) -> Result<u64> {
        let mut undecoded = None;
        let count =
            self.0.drain(MESSAGES, |bytes| match bincode::deserialize::<Borrowed<'_>>(bytes) {
                Ok(message) => sink(message.data),
                Err(error) => undecoded = Some(error),
            })?;
        undecoded.map_or(Ok(count as u64), |error| Err(error.into()))
    }

    fn repairs(&self) -> Option<(u64, u64)> {
        Some(repairs(&self.1))
    }
}

fn repairs(ring: &SharedRingBuffer) -> (u64, u64) {
    let stats = ring.stats();
    (stats.recoveries, stats.discarded)
}
