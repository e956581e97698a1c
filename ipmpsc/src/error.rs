//! Every error of the public API.

use std::io;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with a ring. Each method's documentation lists what it returns.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A [`ZeroCopyContext`](crate::ZeroCopyContext) has received its one message.
    #[error("a zero-copy context receives one message only; make another context")]
    AlreadyReceived,
    /// Never returned: messages of no bytes are sent like any other.
    #[deprecated(note = "messages of no bytes can be sent")]
    #[error("message of zero size")]
    ZeroSizedMessage,
    /// The message can never fit: see
    /// [`max_message_len`](crate::SharedRingBuffer::max_message_len).
    #[error("message is larger than the ring can ever hold")]
    MessageTooLarge,
    /// All slots of the ring are taken by living processes: see
    /// [`max_senders`](crate::Options::max_senders).
    #[error("too many processes are attached to the ring")]
    TooManySenders,
    /// The ring was made by a processor of the other byte order.
    #[error("the ring was made by a machine of the other byte order")]
    IncompatibleRingBuffer,
    /// The ring was made by another version of the format.
    #[error("the ring has format version {found}, this crate reads {expected}")]
    VersionMismatch {
        /// Version in the file.
        found: u32,
        /// Version that this crate reads and writes.
        expected: u32,
    },
    /// The file is something else: no ring, or not even a regular file.
    #[error("not a ring of ipmpsc")]
    NotARing,
    /// The ring is still being made by its creator.
    #[error("the ring is still being made; try again")]
    NotReady,
    /// The file's size does not agree with its header: cut off, or grown.
    #[error("the ring's file has {actual} bytes, its header says {expected}")]
    WrongSize {
        /// Size that the header asks for, in bytes.
        expected: u64,
        /// Size of the file, in bytes.
        actual: u64,
    },
    /// The file belongs to another user, or more users may write it than
    /// [`Options::mode`](crate::Options::mode) allows.
    #[error("the ring's file can be written by users that the mode asked for does not allow")]
    Untrusted,
    /// The options contradict themselves or go beyond a limit.
    #[error("invalid option: {0}")]
    InvalidOptions(&'static str),
    /// The ring's bytes make no sense at this offset of its file: a peer has written where it
    /// must not. Make a new ring.
    #[error("the ring is corrupt at byte {offset} of its file")]
    Corrupt {
        /// Where the nonsense stands, in bytes from the file's beginning.
        offset: u64,
    },
    /// Another ring has been created at this ring's path. Open it anew.
    #[error("the ring has been replaced by another one at its path")]
    Closed,
    /// Another receiver of this ring lives, or another thread is receiving through this one.
    #[error("the ring has another receiver")]
    ReceiverExists,
    /// The ring is full, and the receiver that was attached has died or left. Nothing was sent.
    #[error("the ring is full and its receiver is gone")]
    ReceiverGone,
    /// All senders have gone and the ring is empty; only with
    /// [`set_disconnect`](crate::Receiver::set_disconnect).
    #[error("all senders are gone and the ring is empty")]
    Disconnected,
    /// A `Serialize` implementation sent on the ring that its own value is being written to, and
    /// there was no space: waiting would never end.
    #[error("a value being serialized into the ring waits for space in the same ring")]
    WouldDeadlock,
    /// A `Serialize` implementation wrote another number of bytes than when it was measured.
    #[error("a value changed its serialized size while it was being sent")]
    SizeChanged,
    /// The receiver took this process for dead and skipped the message. It can only happen when
    /// the lock that shows its life was taken from it, by closing a descriptor from outside.
    #[error("the message was skipped because its sender was taken for dead")]
    Evicted,
    /// The system does not let this process show that it lives: no file locks here. Not on
    /// Android: see [`liveness`](crate::SharedRingBuffer::liveness).
    #[error("the file system offers no lock that shows whether a process lives")]
    LivenessUnavailable(#[source] io::Error),
    /// The operating system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The value's own `Serialize` failed. Nothing was sent.
    #[error("message could not be serialized")]
    Encode(#[source] Cause),
    /// The message is not a value of the type asked for. It is consumed.
    #[error("message could not be deserialized")]
    Decode(#[source] Cause),
}
