//! No channel at all: each message is shown where it was made.
//!
//! Its speed is what the harness itself costs a message (the stamp, the calls through the interface
//! and the comparison of every byte), and so the floor under every other row.

use anyhow::Result;

use super::{Floor, Setup, Sink, Through, Transport};

/// The harness's own cost.
#[derive(Debug)]
pub(super) struct Null;

impl Transport for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn about(&self) -> &'static str {
        "no channel: the harness's own cost, one thread that checks each message where it was made"
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    fn floor(&self) -> Option<Floor> {
        Some(Floor::Turns(|_: &Setup| Box::new(Straight)))
    }
}

struct Straight;

impl Through for Straight {
    fn pass(&mut self, message: &[u8], sink: &mut Sink<'_>) -> Result<()> {
        sink(message);
        Ok(())
    }
}
