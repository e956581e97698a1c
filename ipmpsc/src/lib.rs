//! Inter-process multiple-producer single-consumer channels over a shared-memory ring buffer.
//!
//! Any number of processes send messages of any size into a ring in one shared file; one process
//! receives them. No daemon, no thread, no system call while both sides are busy. Typed messages
//! go through serde; byte slices go as they are, and can be read where they lie. Any process may
//! be killed at any instruction: the others go on within a tenth of a second, with every message
//! whose `send` had returned, and no other.
//!
//! ```
//! use ipmpsc::{Receiver, Sender, SharedRingBuffer};
//!
//! let (path, ring) = SharedRingBuffer::create_temp(32 * 1024)?;
//! let mut receiver = Receiver::new(ring);
//!
//! // In other processes, any number of them:
//! let sender = Sender::new(SharedRingBuffer::open(&path)?);
//! sender.send(&("temperature", 21.5))?;
//!
//! // Borrowed from the ring, not copied:
//! let mut context = receiver.zero_copy_context();
//! let (name, value): (&str, f64) = context.recv()?;
//! assert_eq!((name, value), ("temperature", 21.5));
//! # Ok::<(), ipmpsc::Error>(())
//! ```
//!
//! # Guarantees
//!
//! - A message whose send has returned `Ok` is never lost while the file exists; one whose sender
//!   dies inside the send arrives whole or not at all.
//! - Messages have one total order; those of one sender arrive in the order sent.
//! - A copying receive delivers once. After a receiver's death its successor begins with the
//!   first message not consumed, so the one in flight may come again.
//! - A process is taken for dead when the kernel says so, never because it is slow or stopped.
//! - One receiver at a time, enforced. A message that cannot be decoded costs that message only.
//! - Whatever bytes a peer leaves in the file, a copying receive answers with an error or a wrong
//!   message: no undefined behaviour, no endless loop, no allocation beyond the ring's size.
//!
//! # Not promised
//!
//! - Secrecy, or progress, against a process that can write the file and means harm: it can read
//!   everything and stall everyone.
//! - What is *borrowed* from the ring ([`ZeroCopyContext`], [`Message`], [`Receiver::drain`])
//!   stays as it is only while every process that maps the file keeps to this crate's protocol.
//!   Where one might not, use the copying receive.
//! - A process that cuts off a ring's file while it is mapped kills the others by SIGBUS.
//!   [`Options::anonymous`] makes rings that cannot be cut off, and so does Windows.
//! - Sends from a signal handler.
//! - A `Vec` of elements without a size, such as `Vec<()>`, may claim any length.
//!
//! # Platforms
//!
//! 32- and 64-bit processes share one ring. What is not as on Linux:
//!
//! - *Android*: give rings a path in the app's own folder, or none. Where the system's policy
//!   refuses file locks, nobody can tell the living from the dead, and whoever has no lock counts
//!   as alive until it leaves: see [`SharedRingBuffer::liveness`]. A maker killed there while it
//!   makes a ring leaves a hidden file beside it, and of two that [`Options::create`] at one path
//!   at the same moment, both succeed and the ring that is replaced may not be marked closed.
//! - *Windows*: files are the user's alone unless [`Options::mode`] says otherwise, and then as
//!   their folder has it. A ring that is replaced while it is in use stays beside the new one under
//!   another name until a later [`Options::create`] finds it unused, and for a moment there is
//!   nothing at its path; one that others have mapped cannot be removed. Between two sessions of
//!   a user, waits end with a nap of up to 95 ms and not with a wake. Folders that are compressed
//!   are refused: their files' space is not really allocated.
//! - *macOS*: 14.4 or later, and no anonymous rings. A child made by fork keeps its parent's place
//!   occupied until it ends or runs another program.

#[cfg(not(loom))]
mod codec;
#[cfg(not(loom))]
mod event;
#[cfg(not(loom))]
mod message;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod receiver;
#[cfg(not(loom))]
mod region;
#[cfg(not(loom))]
mod reservation;
#[cfg(not(loom))]
mod roster;
#[cfg(not(loom))]
mod sender;
#[cfg(not(loom))]
mod sys;

// What loom checks: the algorithm alone.
mod atomic;
mod error;
#[cfg_attr(loom, allow(dead_code, reason = "the files that use the rest are left out"))]
#[cfg(not(feature = "fault"))]
mod fault;
/// For tests alone, and no part of what is promised.
#[cfg(feature = "fault")]
#[doc(hidden)]
pub mod fault;
#[cfg_attr(loom, allow(dead_code, reason = "the files that use the rest are left out"))]
mod layout;
mod mutants;
#[cfg_attr(loom, allow(dead_code, reason = "the files that use the rest are left out"))]
mod ring;

pub use error::{Error, Result};
#[cfg(not(loom))]
pub use event::Spin;
#[cfg(not(loom))]
pub use message::{Message, ZeroCopyContext};
#[cfg(not(loom))]
pub use options::{Liveness, Options, SharedRingBuffer, Stats};
#[cfg(not(loom))]
pub use receiver::Receiver;
#[cfg(not(loom))]
pub use reservation::Reservation;
#[cfg(not(loom))]
pub use sender::Sender;

/// Version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
