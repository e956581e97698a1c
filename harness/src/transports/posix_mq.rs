//! A POSIX message queue that all producers share.
//!
//! The kernel keeps it in a namespace of its own, where no run folder holds it. So a file in the
//! run folder names it, and whoever removes that file or folder removes the queue as well. It holds
//! few messages and short ones, unless the machine's owner has raised the limits.

use std::{
    fs::{self, File},
    path::Path,
    sync::LazyLock,
};

use anyhow::{Context, Result};

use super::{Bound, Rx, SendError, Setup, Sink, Transport, Tx};
use crate::sys::{self, queue::Queue};

/// `mq_open` and its like.
#[derive(Debug)]
pub(super) struct PosixMq;

/// What the files that name queues end in.
const SUFFIX: &str = ".mq";
/// What kernels allow unless told otherwise.
const DEFAULT: Limits = Limits { messages: 10, message_bytes: 8192 };

/// What the kernel allows.
#[derive(Clone, Copy, Debug)]
struct Limits {
    messages: u64,
    message_bytes: u64,
}

fn limits() -> Limits {
    static LIMITS: LazyLock<Limits> = LazyLock::new(|| Limits {
        messages: sys::setting("fs/mqueue/msg_max").unwrap_or(DEFAULT.messages),
        message_bytes: sys::setting("fs/mqueue/msgsize_max").unwrap_or(DEFAULT.message_bytes),
    });
    *LIMITS
}

impl Transport for PosixMq {
    fn name(&self) -> &'static str {
        "posix-mq"
    }

    fn about(&self) -> &'static str {
        "raw bytes, one message queue for all producers, as many messages as the kernel allows \
         (fs.mqueue.msg_max, 10 by default)"
    }

    fn version(&self) -> &'static str {
        "kernel"
    }

    fn missing(&self) -> Option<String> {
        static REFUSAL: LazyLock<Option<String>> = LazyLock::new(|| {
            let name = format!("/ipmpsc-harness-{}-probe", std::process::id());
            let made = Queue::create(&name, 1, 16);
            // It is not there if it could not be made.
            let _ = Queue::unlink(&name);
            made.err().map(|error| format!("the kernel refuses a message queue: {error}"))
        });
        REFUSAL.clone()
    }

    fn has_limit(&self) -> bool {
        true
    }

    fn longest(&self) -> Option<u64> {
        Some(limits().message_bytes)
    }

    fn bind(&self, setup: &Setup) -> Result<Box<dyn Bound>> {
        let path = setup.path(&SUFFIX[1..]);
        File::create(&path).context("the file that names the queue")?;
        let name = queue_name(&path).context("a run folder has a name")?;
        let len = setup.message_max.clamp(1, limits().message_bytes);
        let messages = (setup.ring_bytes / len).clamp(1, limits().messages);
        let queue = Queue::create(&name, messages, len).context("mq_open")?;
        Ok(Box::new(Named { queue, name, len, producers: setup.producers }))
    }

    fn connect(&self, endpoint: &str, setup: &Setup) -> Result<Box<dyn Tx>> {
        let max_len = setup.message_max.clamp(1, limits().message_bytes);
        let queue = Queue::open(endpoint).context("mq_open")?;
        Ok(Box::new(QueueTx { queue, max_len: usize::try_from(max_len)? }))
    }
}

/// The name of the queue that this file stands for.
fn queue_name(file: &Path) -> Option<String> {
    let folder = file.parent()?.file_name()?.to_str()?;
    Some(format!("/{folder}.{}", file.file_name()?.to_str()?))
}

/// Removes the queues whose files are in this folder: of one channel, or of all.
pub(super) fn unlink_all(folder: &Path, channel: Option<&str>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let rest = name.strip_prefix(channel.unwrap_or_default()).unwrap_or_default();
        let is_wanted = channel.is_none() || rest.starts_with(['.', '-']);
        if is_wanted && name.ends_with(SUFFIX) {
            // One that is gone already is as good.
            let _ = queue_name(&entry.path()).map(|name| Queue::unlink(&name));
        }
    }
}

struct Named {
    queue: Queue,
    name: String,
    len: u64,
    producers: u32,
}

impl Bound for Named {
    fn endpoints(&self) -> Vec<String> {
        (0..self.producers).map(|_| self.name.clone()).collect()
    }

    fn max_len(&self) -> u64 {
        self.len
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Rx>> {
        let buffer = vec![0; usize::try_from(self.len)?];
        Ok(Box::new(QueueRx { queue: self.queue, buffer }))
    }
}

struct QueueTx {
    queue: Queue,
    max_len: usize,
}

impl QueueTx {
    fn check(&self, message: &[u8]) -> Result<(), SendError> {
        if message.len() > self.max_len { Err(SendError::TooLarge) } else { Ok(()) }
    }
}

impl Tx for QueueTx {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.check(message)?;
        Ok(self.queue.send(message)?)
    }

    fn try_send(&mut self, message: &[u8]) -> Result<bool, SendError> {
        self.check(message)?;
        Ok(self.queue.try_send(message)?)
    }
}

struct QueueRx {
    queue: Queue,
    buffer: Vec<u8>,
}

impl Rx for QueueRx {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        let len = self.queue.receive(&mut self.buffer)?;
        sink(&self.buffer[..len]);
        Ok(())
    }

    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        let received = self.queue.try_receive(&mut self.buffer)?;
        Ok(received.map(|len| sink(&self.buffer[..len])).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_goes_with_the_file_that_names_it_and_no_other_does() {
        if PosixMq.missing().is_some() {
            return;
        }
        let folder = tempfile::tempdir().expect("a test needs a temporary folder");
        let bind = |channel: &str| {
            let setup = Setup {
                folder: folder.path().into(),
                channel: channel.into(),
                ring_bytes: 4096,
                message_max: 64,
                producers: 1,
            };
            let bound = PosixMq.bind(&setup).expect("queues can be made here");
            bound.endpoints()[0].clone()
        };
        let (one, back, ten) = (bind("c1"), bind("c1-back"), bind("c10"));
        unlink_all(folder.path(), Some("c1"));
        assert!(Queue::open(&one).is_err() && Queue::open(&back).is_err());
        assert!(Queue::open(&ten).is_ok());
        unlink_all(folder.path(), None);
        assert!(Queue::open(&ten).is_err());
    }
}
