//! What is measured and verified, one rival a file, all behind the same few functions.
//!
//! A consumer *binds* (makes the ring, the listener, the pipes) and says under which endpoints each
//! producer finds it; producers *connect*; then the consumer *accepts*. Nothing here reads a clock
//! or a message. Every receive is the transport's own blocking call; who hangs is killed from
//! outside, so that no rival pays for a timeout it would not use.

mod framed;
mod ipc_channel;
mod ipmpsc;
mod ipmpsc_0_5_1;
pub(crate) mod null;
mod pipe;
mod unix_socket;

use std::{fmt, path::PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// One way to move messages from several processes to one.
pub(crate) trait Transport: Sync {
    /// The word on the command line.
    fn name(&self) -> &'static str;
    /// How its messages travel, and what the comparison owes it.
    fn about(&self) -> &'static str;
    /// Its version, or what provides it.
    fn version(&self) -> &'static str;
    /// Why it cannot run on this machine or in this build, if it cannot.
    fn missing(&self) -> Option<String> {
        None
    }
    /// Whether it leads from one process to another at all.
    fn joins_processes(&self) -> bool {
        true
    }
    /// The shortest message it can deliver.
    fn min_len(&self) -> usize {
        0
    }
    /// Whether refusing an oversized message is part of its contract.
    fn has_limit(&self) -> bool {
        false
    }
    /// Bytes of the ring a message takes beside its own, before rounding up to eight; none where
    /// there is no ring, or not one whose layout is known here.
    fn overhead(&self) -> Option<u64> {
        None
    }
    /// The consumer's first half.
    fn bind(&self, setup: &Setup) -> Result<Box<dyn Bound>>;
    /// A producer's whole part.
    fn connect(&self, endpoint: &str, setup: &Setup) -> Result<Box<dyn Tx>>;
}

/// What both ends know of a channel before it exists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The private folder of the run.
    pub(crate) folder: PathBuf,
    /// A name no other channel of the run has.
    pub(crate) channel: String,
    /// Bytes that may wait in the channel, where it can be asked for.
    pub(crate) ring_bytes: u64,
    /// The longest message that will be sent.
    pub(crate) message_max: u64,
    /// How many producers will connect.
    pub(crate) producers: u32,
}

impl Setup {
    /// A file of this channel.
    pub(crate) fn path(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}.{suffix}", self.channel))
    }
}

/// A channel its producers can connect to.
pub(crate) trait Bound {
    /// Where to connect, one a producer.
    fn endpoints(&self) -> Vec<String>;
    /// The longest message the channel takes.
    fn max_len(&self) -> u64;
    /// Bytes that can wait in the channel, where it says so.
    fn capacity(&self) -> u64 {
        0
    }
    /// Takes every producer in; all are connecting.
    fn accept(self: Box<Self>) -> Result<Box<dyn Rx>>;
}

/// A producer's end.
pub(crate) trait Tx {
    /// Sends, waiting for room.
    fn send(&mut self, message: &[u8]) -> Result<(), SendError>;
    /// Sends if there is room at once. Transports without such a call wait instead.
    fn try_send(&mut self, message: &[u8]) -> Result<bool, SendError> {
        self.send(message).map(|()| true)
    }
}

/// Is shown the bytes of one message.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) + 'a;

/// The consumer's end.
pub(crate) trait Rx {
    /// Waits for a message and shows it.
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()>;
    /// Shows a message if there is one. Transports without such a call wait instead.
    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        self.recv(sink).map(|()| true)
    }
    /// What the channel says about itself: repairs after dead producers, and messages discarded.
    fn repairs(&self) -> Option<(u64, u64)> {
        None
    }
}

/// Why a message was not sent.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The channel can never take a message of this length.
    TooLarge,
    /// There is no room, and nobody is left to make any.
    ReceiverGone,
    /// Anything else.
    Failed(anyhow::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::TooLarge => f.write_str("the message is too large for the channel"),
            SendError::ReceiverGone => f.write_str("the channel is full and its consumer gone"),
            SendError::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for SendError {}

impl From<std::io::Error> for SendError {
    fn from(error: std::io::Error) -> SendError {
        SendError::Failed(error.into())
    }
}

/// How typed rows send a message: borrowed, so that a zero-copy receiver can borrow it again.
#[derive(Debug, Serialize, Deserialize)]
struct Borrowed<'a> {
    #[serde(with = "serde_bytes")]
    data: &'a [u8],
}

/// How typed rows receive a message that owns its bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Owned {
    data: ByteBuf,
}

/// All transports, in the order of the tables.
pub(crate) const ALL: [&dyn Transport; 10] = [
    &ipmpsc::COPYING,
    &ipmpsc::ZERO_COPY,
    &ipmpsc::BYTES,
    &ipmpsc_0_5_1::COPYING,
    &ipmpsc_0_5_1::ZERO_COPY,
    &ipc_channel::Typed,
    &ipc_channel::Bytes,
    &pipe::Pipe,
    &unix_socket::UnixSocket,
    &null::Null,
];

/// The transport of this name.
pub(crate) fn find(name: &str) -> Option<&'static dyn Transport> {
    ALL.into_iter().find(|transport| transport.name() == name)
}

/// Whether the promises of this transport are ours.
pub(crate) fn is_ours(name: &str) -> bool {
    matches!(name, "ipmpsc" | "ipmpsc-zero-copy" | "ipmpsc-bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for transport in ALL {
            let found = find(transport.name()).map(Transport::about);
            assert_eq!(found, Some(transport.about()));
        }
        assert!(find("carrier-pigeon").is_none());
    }

    #[test]
    fn every_version_was_found_in_the_lock_file() {
        for transport in ALL {
            assert!(!transport.version().contains("unknown"), "{}", transport.name());
            assert!(!transport.version().is_empty(), "{}", transport.name());
        }
    }
}
