//! No channel at all: one process writes each message into a buffer and reads it there.
//!
//! Its speed is what the harness itself costs a message, and so the floor under every other row.

use std::{cell::RefCell, rc::Rc};

use anyhow::{Result, bail};

use super::{Bound, Rx, SendError, Setup, Sink, Transport, Tx};

/// The harness's own cost.
#[derive(Debug)]
pub(super) struct Null;

/// The name of this transport, which runs in one process.
pub(crate) const NAME: &str = "null";

impl Transport for Null {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "no channel: the harness's own cost, one process that copies into a buffer and reads it"
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    fn joins_processes(&self) -> bool {
        false
    }

    fn bind(&self, _: &Setup) -> Result<Box<dyn Bound>> {
        bail!("null joins no processes")
    }

    fn connect(&self, _: &str, _: &Setup) -> Result<Box<dyn Tx>> {
        bail!("null joins no processes")
    }
}

/// Both ends of a buffer, for one process.
pub(crate) fn pair() -> (Box<dyn Tx>, Box<dyn Rx>) {
    let buffer = Rc::new(RefCell::new(Vec::new()));
    (Box::new(End(Rc::clone(&buffer))), Box::new(End(buffer)))
}

struct End(Rc<RefCell<Vec<u8>>>);

impl Tx for End {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let mut buffer = self.0.borrow_mut();
        buffer.clear();
        buffer.extend_from_slice(message);
        Ok(())
    }
}

impl Rx for End {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        sink(&self.0.borrow());
        Ok(())
    }
}
