//! What is measured and verified, one rival a file, all behind the same few functions.
//!
//! A consumer *binds* (makes the ring, the listener, the pipes) and says under which endpoints each
//! producer finds it; producers *connect*; then the consumer *accepts*. Nothing here reads a clock
//! or a message. Every receive is the transport's own blocking call; who hangs is killed from
//! outside, so that no rival pays for a timeout it would not use.

#[cfg(not(target_os = "linux"))]
mod absent;
mod cache_line;
#[cfg(test)]
mod conformance;
mod framed;
mod iceoryx2;
#[cfg(not(target_os = "android"))]
mod ipc_channel;
mod ipmpsc;
mod ipmpsc_0_5_1;
mod memcpy;
mod mpsc_threads;
mod null;
#[cfg(unix)]
mod pipe;
pub(crate) mod planted;
#[cfg(target_os = "linux")]
mod posix_mq;
mod tcp;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod unix_seqpacket;
#[cfg(unix)]
mod unix_stream;

// What a system has not is a module of the same name, which says why.
#[cfg(target_os = "android")]
use absent::ipc_channel;
#[cfg(not(target_os = "linux"))]
use absent::posix_mq;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use absent::unix_seqpacket;
#[cfg(not(unix))]
use absent::{pipe, unix_stream};

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

pub(crate) use cache_line::Word;

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
    /// What it is a floor by, if it is one and so leads from no process to another.
    fn floor(&self) -> Option<Floor> {
        None
    }
    /// Whether it stands under the line, with what no channel between processes can be faster than.
    fn is_floor(&self) -> bool {
        self.floor().is_some()
    }
    /// Whether it leads from one process to another at all.
    fn joins_processes(&self) -> bool {
        !self.is_floor()
    }
    /// Whether it has a speed with so many producers.
    fn has_throughput(&self, producers: u32) -> bool {
        match self.floor() {
            None | Some(Floor::Threads(_)) => true,
            Some(Floor::Turns(_)) => producers == 1,
            Some(Floor::Word) => false,
        }
    }
    /// Whether there is a way there and back through it, and a time that one message takes: not
    /// where messages wait for others to go with.
    fn has_round_trip(&self) -> bool {
        !matches!(self.floor(), Some(Floor::Turns(_))) && self.batch() == 1
    }
    /// How many messages one call sends at most, a power of two: `Tx::send_batch` and
    /// `Rx::recv_batch` are measured where it is more than one.
    fn batch(&self) -> usize {
        1
    }
    /// The longest message it can carry, whatever the ring; none where the ring or nothing limits.
    fn longest(&self) -> Option<u64> {
        None
    }
    /// The shortest message it can deliver.
    fn min_len(&self) -> usize {
        0
    }
    /// Whether refusing an oversized message is part of its contract.
    fn has_limit(&self) -> bool {
        false
    }
    /// Whether all its messages share one ring of the bytes that were asked for.
    fn has_ring(&self) -> bool {
        false
    }
    /// Bytes of the ring a message takes beside its own, before rounding up to eight; none where
    /// there is no ring, or not one whose layout is known here.
    fn overhead(&self) -> Option<u64> {
        None
    }
    /// The consumer's first half.
    fn bind(&self, _: &Setup) -> Result<Box<dyn Bound>> {
        bail!("{} joins no processes", self.name())
    }
    /// A producer's whole part.
    fn connect(&self, _: &str, _: &Setup) -> Result<Box<dyn Tx>> {
        bail!("{} joins no processes", self.name())
    }
}

/// A floor under the table, by how one worker measures it alone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Floor {
    /// One thread that sends and receives by turns.
    Turns(fn(&Setup) -> Box<dyn Through>),
    /// A thread for each producer and one for the consumer.
    Threads(fn(&Setup) -> Threads),
    /// Two threads and a word that goes to and fro.
    Word,
}

/// Both ends of what one thread uses.
pub(crate) trait Through {
    /// Takes a message and shows it.
    fn pass(&mut self, message: &[u8], sink: &mut Sink<'_>) -> Result<()>;
}

/// Every producer's end and the consumer's, a thread each.
pub(crate) type Threads = (Vec<Box<dyn Tx + Send>>, Box<dyn Rx + Send>);

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
    /// Sends all of at most `Transport::batch` messages, waiting for room.
    fn send_batch(&mut self, messages: &[Vec<u8>]) -> Result<(), SendError> {
        messages.iter().try_for_each(|message| self.send(message))
    }
}

/// Is shown the bytes of one message.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) + 'a;

/// The consumer's end.
pub(crate) trait Rx {
    /// Waits for a message and shows it.
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()>;
    /// Shows a message if there is one. Floors, which nobody asks, wait instead.
    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        self.recv(sink).map(|()| true)
    }
    /// Waits for a message and shows all that are there; says how many.
    fn recv_batch(&mut self, sink: &mut Sink<'_>) -> Result<u64> {
        self.recv(sink).map(|()| 1)
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
pub(crate) const ALL: [&dyn Transport; 18] = [
    &ipmpsc::COPYING,
    &ipmpsc::ZERO_COPY,
    &ipmpsc::BYTES,
    &ipmpsc::BATCH,
    &ipmpsc_0_5_1::COPYING,
    &ipmpsc_0_5_1::ZERO_COPY,
    &ipc_channel::Typed,
    &ipc_channel::Bytes,
    &pipe::Pipe,
    &unix_seqpacket::UnixSeqpacket,
    &unix_stream::UnixStream,
    &tcp::Tcp,
    &posix_mq::PosixMq,
    &iceoryx2::Iceoryx2,
    &null::Null,
    &mpsc_threads::MpscThreads,
    &memcpy::Memcpy,
    &cache_line::CacheLine,
];

/// The transport of this name.
pub(crate) fn find(name: &str) -> Option<&'static dyn Transport> {
    ALL.into_iter().find(|transport| transport.name() == name)
}

/// Removes what this channel of the run with this folder, or any of its channels, has left in other
/// places.
pub(crate) fn remove_outside(folder: &Path, channel: Option<&str>) {
    posix_mq::unlink_all(folder, channel);
    iceoryx2::remove_all(folder, channel);
}

/// Whether the promises of this transport are ours.
pub(crate) fn is_ours(name: &str) -> bool {
    matches!(name, "ipmpsc" | "ipmpsc-zero-copy" | "ipmpsc-bytes" | "ipmpsc-batch")
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
