//! The channel of the standard library between threads of one process: what a user gives up by
//! having processes.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};

use anyhow::{Result, bail};

use super::{Floor, Rx, SendError, Setup, Sink, Threads, Transport, Tx};

/// `std::sync::mpsc::sync_channel`.
#[derive(Debug)]
pub(super) struct MpscThreads;

impl Transport for MpscThreads {
    fn name(&self) -> &'static str {
        "mpsc-threads"
    }

    fn about(&self) -> &'static str {
        "no processes: std::sync::mpsc::sync_channel between threads, a Vec<u8> for each message, \
         as many as the ring would hold"
    }

    fn version(&self) -> &'static str {
        "std"
    }

    fn floor(&self) -> Option<Floor> {
        Some(Floor::Threads(threads))
    }
}

/// Every producer's end and the consumer's.
fn threads(setup: &Setup) -> Threads {
    let bound = (setup.ring_bytes / setup.message_max.max(1)).max(1);
    let bound = usize::try_from(bound).expect("args keeps rings below the memory");
    let (sender, receiver) = sync_channel(bound);
    let end = |_| Box::new(VecTx(sender.clone())) as Box<dyn Tx + Send>;
    ((0..setup.producers).map(end).collect(), Box::new(VecRx(receiver)))
}

struct VecTx(SyncSender<Vec<u8>>);

impl Tx for VecTx {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.0.send(message.to_vec()).map_err(|error| SendError::Failed(error.into()))
    }

    fn try_send(&mut self, message: &[u8]) -> Result<bool, SendError> {
        match self.0.try_send(message.to_vec()) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(error) => Err(SendError::Failed(error.into())),
        }
    }
}

struct VecRx(Receiver<Vec<u8>>);

impl Rx for VecRx {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        sink(&self.0.recv()?);
        Ok(())
    }

    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        match self.0.try_recv() {
            Ok(message) => sink(&message),
            Err(TryRecvError::Empty) => return Ok(false),
            Err(TryRecvError::Disconnected) => bail!("every producer hung up"),
        }
        Ok(true)
    }
}
