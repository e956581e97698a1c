//! ipc-channel, typed and as raw bytes.
//!
//! All producers share one channel: the consumer opens a one-shot server for each, through which
//! the producer sends a return channel and gets a clone of the one real sender back.

use anyhow::Result;
use ipc_channel::{
    TryRecvError,
    ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender},
};
use serde::{Deserialize, Serialize};

use super::{Bound, Owned, Rx, SendError, Setup, Sink, Transport, Tx};

/// ipc-channel has no limit of its own: it fragments.
const NO_LIMIT: u64 = 1 << 30;

const VERSION: &str = env!("HARNESS_IPC_CHANNEL");

/// `IpcSender` of a struct of bytes.
#[derive(Debug)]
pub(super) struct Typed;

impl Transport for Typed {
    fn name(&self) -> &'static str {
        "ipc-channel"
    }

    fn about(&self) -> &'static str {
        "typed: a struct of bytes, received as an owned copy; its send takes the struct by value, \
         so every message pays for one allocation"
    }

    fn version(&self) -> &'static str {
        VERSION
    }

    fn bind(&self, setup: &Setup) -> Result<Box<dyn Bound>> {
        let (sender, receiver) = ipc::channel::<Owned>()?;
        bind(sender, setup.producers, move || Box::new(TypedRx(receiver)))
    }

    fn connect(&self, endpoint: &str, _: &Setup) -> Result<Box<dyn Tx>> {
        Ok(Box::new(TypedTx(connect(endpoint)?)))
    }
}

/// `ipc::bytes_channel`.
#[derive(Debug)]
pub(super) struct Bytes;

impl Transport for Bytes {
    fn name(&self) -> &'static str {
        "ipc-channel-bytes"
    }

    fn about(&self) -> &'static str {
        "raw bytes, received as an owned copy"
    }

    fn version(&self) -> &'static str {
        VERSION
    }

    fn bind(&self, setup: &Setup) -> Result<Box<dyn Bound>> {
        let (sender, receiver) = ipc::bytes_channel()?;
        bind(sender, setup.producers, move || Box::new(BytesRx(receiver)))
    }

    fn connect(&self, endpoint: &str, _: &Setup) -> Result<Box<dyn Tx>> {
        Ok(Box::new(BytesTx(connect(endpoint)?)))
    }
}

/// What a producer sends to its one-shot server: where it wants the real sender sent.
type Return<S> = IpcSender<S>;

struct Servers<S, F> {
    sender: S,
    servers: Vec<(IpcOneShotServer<Return<S>>, String)>,
    receiver: F,
}

fn bind<S, F>(sender: S, producers: u32, receiver: F) -> Result<Box<dyn Bound>>
where
    S: Clone + Serialize + for<'de> Deserialize<'de> + 'static,
    F: FnOnce() -> Box<dyn Rx> + 'static,
{
    let servers = (0..producers).map(|_| IpcOneShotServer::new()).collect::<Result<_, _>>()?;
    Ok(Box::new(Servers { sender, servers, receiver }))
}

fn connect<S>(endpoint: &str) -> Result<S>
where
    S: Serialize + for<'de> Deserialize<'de>,
{
    let (back, real): (Return<S>, IpcReceiver<S>) = ipc::channel()?;
    IpcSender::connect(endpoint.to_owned())?.send(back)?;
    Ok(real.recv()?)
}

impl<S, F> Bound for Servers<S, F>
where
    S: Clone + Serialize + for<'de> Deserialize<'de>,
    F: FnOnce() -> Box<dyn Rx>,
{
    fn endpoints(&self) -> Vec<String> {
        self.servers.iter().map(|(_, endpoint)| endpoint.clone()).collect()
    }

    fn max_len(&self) -> u64 {
        NO_LIMIT
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Rx>> {
        for (server, _) in self.servers {
            let (_, back) = server.accept()?;
            back.send(self.sender.clone())?;
        }
        Ok((self.receiver)())
    }
}

struct TypedTx(IpcSender<Owned>);

impl Tx for TypedTx {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let owned = Owned { data: message.to_vec().into() };
        self.0.send(owned).map_err(|error| SendError::Failed(error.into()))
    }
}

struct TypedRx(IpcReceiver<Owned>);

impl Rx for TypedRx {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        sink(&self.0.recv()?.data);
        Ok(())
    }

    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        Ok(if_any(self.0.try_recv())?.map(|message| sink(&message.data)).is_some())
    }
}

struct BytesTx(IpcBytesSender);

impl Tx for BytesTx {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        Ok(self.0.send(message)?)
    }
}

struct BytesRx(IpcBytesReceiver);

impl Rx for BytesRx {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        sink(&self.0.recv()?);
        Ok(())
    }

    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        Ok(if_any(self.0.try_recv())?.map(|message| sink(&message)).is_some())
    }
}

fn if_any<T>(received: Result<T, TryRecvError>) -> Result<Option<T>> {
    match received {
        Ok(message) => Ok(Some(message)),
        Err(TryRecvError::Empty) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
