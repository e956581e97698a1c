//! No channel at all: one thread writes each message into a buffer and reads it there.
//!
//! Its speed is what the harness itself costs a message, and so the floor under every other row.

use super::{Floor, Setup, Transport, memcpy::cyclic};

/// The harness's own cost.
#[derive(Debug)]
pub(super) struct Null;

impl Transport for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn about(&self) -> &'static str {
        "no channel: the harness's own cost, one thread that copies into a buffer and reads it"
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    fn floor(&self) -> Option<Floor> {
        // Every message over the last one.
        Some(Floor::Turns(|setup: &Setup| cyclic(setup.message_max, setup.message_max)))
    }
}
