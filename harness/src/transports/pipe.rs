//! Named pipes: one a producer, as a shared one keeps messages apart up to PIPE_BUF only.
//!
//! `framed` says how messages lie in them. Where the kernel allows, they are as large as the ring.

use std::{
    fs::{File, OpenOptions},
    path::PathBuf,
};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};

use super::{
    Bound, Rx, Setup, Transport, Tx,
    framed::{FramedRx, FramedTx},
};
use crate::sys;

/// Named pipes with a length in front of each message.
#[derive(Debug)]
pub(super) struct Pipe;

impl Transport for Pipe {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn about(&self) -> &'static str {
        "raw bytes, a named pipe for each producer and poll, a length in front of each message"
    }

    fn version(&self) -> &'static str {
        "kernel"
    }

    fn bind(&self, setup: &Setup) -> Result<Box<dyn Bound>> {
        let mut pipes = Pipes { paths: Vec::new(), files: Vec::new(), setup: setup.clone() };
        for producer in 0..setup.producers {
            let path = setup.path(&format!("pipe-{producer}"));
            sys::make_fifo(&path).context("mkfifo")?;
            // Non-blocking only for the open itself, which would wait for a writer.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::open(&path, flags, Mode::empty())?;
            rustix::fs::fcntl_setfl(&file, OFlags::RDONLY)?;
            // A smaller pipe still works, so a refusal (the user's quota of pipe memory) is no
            // error.
            let _ = sys::resize_pipe(&file, setup.ring_bytes);
            pipes.paths.push(path);
            pipes.files.push(File::from(file));
        }
        Ok(Box::new(pipes))
    }

    fn connect(&self, endpoint: &str, _: &Setup) -> Result<Box<dyn Tx>> {
        Ok(Box::new(FramedTx(OpenOptions::new().write(true).open(endpoint)?)))
    }
}

struct Pipes {
    paths: Vec<PathBuf>,
    /// Held until the producers have come, so that none of them has to wait.
    files: Vec<File>,
    setup: Setup,
}

impl Bound for Pipes {
    fn endpoints(&self) -> Vec<String> {
        self.paths.iter().map(|path| path.display().to_string()).collect()
    }

    fn max_len(&self) -> u64 {
        u64::from(u32::MAX)
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Rx>> {
        // Opened once more, as this time it waits for a writer: without one, a read is at an end.
        let files = self.paths.iter().map(File::open).collect::<Result<_, _>>().context("open")?;
        let longest = usize::try_from(self.setup.message_max)?;
        Ok(Box::new(FramedRx::new(files, longest)))
    }
}
