//! The release before the one under test: a mutex, a condition variable and one copy in and out.
//!
//! It wedges when a producer is killed, so it is compared without faults only.

use anyhow::{Context, Result};
use ipmpsc_0_5_1::{Error, Receiver, Sender, SharedRingBuffer};

use super::{Borrowed, Bound, Owned, Rx, SendError, Setup, Sink, Transport, Tx};

pub(super) const COPYING: Ipmpsc051 = Ipmpsc051 { zero_copy: false };
pub(super) const ZERO_COPY: Ipmpsc051 = Ipmpsc051 { zero_copy: true };

/// `ipmpsc` 0.5.1 from the registry.
#[derive(Debug)]
pub(super) struct Ipmpsc051 {
    zero_copy: bool,
}

/// Bytes serde adds to a struct of one byte string.
const TYPED_EXTRA: u64 = 8;

impl Transport for Ipmpsc051 {
    fn name(&self) -> &'static str {
        if self.zero_copy { "ipmpsc-0.5.1-zero-copy" } else { "ipmpsc-0.5.1" }
    }

    fn about(&self) -> &'static str {
        if self.zero_copy {
            "typed: a struct of bytes, received as a borrow of the ring"
        } else {
            "typed: a struct of bytes, received as an owned copy"
        }
    }

    fn version(&self) -> &'static str {
        ipmpsc_0_5_1::VERSION
    }

    fn has_limit(&self) -> bool {
        true
    }

    fn has_ring(&self) -> bool {
        true
    }

    fn bind(&self, setup: &Setup) -> Result<Box<dyn Bound>> {
        let endpoint = setup.path("ring-0.5.1").display().to_string();
        let ring_bytes = u32::try_from(setup.ring_bytes).context("0.5.1 has 32-bit sizes")?;
        let ring = SharedRingBuffer::create(&endpoint, ring_bytes)?;
        Ok(Box::new(Ring {
            ring,
            endpoint,
            zero_copy: self.zero_copy,
            producers: setup.producers,
            ring_bytes: setup.ring_bytes,
        }))
    }

    fn connect(&self, endpoint: &str, _: &Setup) -> Result<Box<dyn Tx>> {
        Ok(Box::new(TypedTx(Sender::new(SharedRingBuffer::open(endpoint)?))))
    }
}

struct Ring {
    ring: SharedRingBuffer,
    endpoint: String,
    zero_copy: bool,
    producers: u32,
    ring_bytes: u64,
}

impl Bound for Ring {
    fn endpoints(&self) -> Vec<String> {
        (0..self.producers).map(|_| self.endpoint.clone()).collect()
    }

    fn max_len(&self) -> u64 {
        self.ring_bytes - TYPED_EXTRA
    }

    fn capacity(&self) -> u64 {
        self.ring_bytes
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Rx>> {
        let receiver = Receiver::new(self.ring);
        Ok(if self.zero_copy {
            Box::new(ZeroCopyRx(receiver))
        } else {
            Box::new(CopyingRx(receiver))
        })
    }
}

impl From<Error> for SendError {
    fn from(error: Error) -> SendError {
        match error {
            Error::MessageTooLarge => SendError::TooLarge,
            other => SendError::Failed(other.into()),
        }
    }
}

struct TypedTx(Sender);

impl Tx for TypedTx {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        Ok(self.0.send(&Borrowed { data: message })?)
    }
}

struct CopyingRx(Receiver);

impl Rx for CopyingRx {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        sink(&self.0.recv::<Owned>()?.data);
        Ok(())
    }

    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        let message = self.0.try_recv::<Owned>()?;
        Ok(message.map(|message| sink(&message.data)).is_some())
    }
}

struct ZeroCopyRx(Receiver);

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
}
