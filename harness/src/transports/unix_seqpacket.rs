//! Unix domain sockets that keep messages apart by themselves, one connection a producer.
//!
//! A packet lies in the sender's kernel buffer whole, so its size is limited by what the kernel
//! allows that buffer. One of length zero cannot be told from the end of the connection, so the
//! shortest is one byte.

use std::{collections::VecDeque, os::fd::OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, SendFlags, SocketType},
};

use super::{
    Bound, Rx, SendError, Setup, Sink, Transport, Tx,
    unix_stream::{Listener, connect, listen},
};
use crate::sys;

/// `SOCK_SEQPACKET`.
#[derive(Debug)]
pub(super) struct UnixSeqpacket;

/// Messages from one producer in a row while others wait.
const BURST: u32 = 32;
/// What the kernel takes of the buffer beside a packet.
const PACKET_EXTRA: u64 = 32;
/// The buffer that kernels allow unless told otherwise.
const BUFFER_MAX: u64 = 212_992;

impl Transport for UnixSeqpacket {
    fn name(&self) -> &'static str {
        "unix-seqpacket"
    }

    fn about(&self) -> &'static str {
        "raw bytes, a SEQPACKET connection for each producer and poll"
    }

    fn version(&self) -> &'static str {
        "kernel"
    }

    fn min_len(&self) -> usize {
        1
    }

    fn has_limit(&self) -> bool {
        true
    }

    fn longest(&self) -> Option<u64> {
        Some(packet_max(buffer_max()))
    }

    fn bind(&self, setup: &Setup) -> Result<Box<dyn Bound>> {
        let listener = listen(setup, SocketType::SEQPACKET)?;
        Ok(Box::new(Packets { listener, max_len: packet_max(setup.ring_bytes) }))
    }

    fn connect(&self, endpoint: &str, setup: &Setup) -> Result<Box<dyn Tx>> {
        let max_len = usize::try_from(packet_max(setup.ring_bytes))?;
        Ok(Box::new(PacketTx { socket: connect(endpoint, setup, SocketType::SEQPACKET)?, max_len }))
    }
}

/// The largest buffer a sender may ask for.
fn buffer_max() -> u64 {
    sys::setting("net/core/wmem_max").unwrap_or(BUFFER_MAX)
}

/// The longest packet where so many bytes are asked for: the kernel doubles them.
fn packet_max(buffer: u64) -> u64 {
    2 * buffer.min(buffer_max()) - PACKET_EXTRA
}

struct Packets {
    listener: Listener,
    max_len: u64,
}

impl Bound for Packets {
    fn endpoints(&self) -> Vec<String> {
        self.listener.endpoints()
    }

    fn max_len(&self) -> u64 {
        self.max_len
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Rx>> {
        let buffer = vec![0; usize::try_from(self.max_len)?];
        let sockets = self.listener.accept()?;
        let open = vec![true; sockets.len()];
        Ok(Box::new(PacketRx { sockets, open, buffer, ready: VecDeque::new(), burst: 0 }))
    }
}

struct PacketTx {
    socket: OwnedFd,
    max_len: usize,
}

impl PacketTx {
    /// Whether it was sent; only with `DONTWAIT` it may not be.
    fn send_with(&self, message: &[u8], flags: SendFlags) -> Result<bool, SendError> {
        if message.len() > self.max_len {
            // The kernel's own limit is a little above, as it rounds.
            return Err(SendError::TooLarge);
        }
        match rustix::net::send(&self.socket, message, SendFlags::NOSIGNAL | flags) {
            Ok(sent) => {
                assert_eq!(sent, message.len(), "SEQPACKET sends whole messages");
                Ok(true)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::MSGSIZE) => Err(SendError::TooLarge),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }
}

impl Tx for PacketTx {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_with(message, SendFlags::empty()).map(drop)
    }

    fn try_send(&mut self, message: &[u8]) -> Result<bool, SendError> {
        self.send_with(message, SendFlags::DONTWAIT)
    }
}

struct PacketRx {
    sockets: Vec<OwnedFd>,
    /// Whether the producer at a socket has not hung up.
    open: Vec<bool>,
    buffer: Vec<u8>,
    /// Sockets that may hold another message; the first is read.
    ready: VecDeque<usize>,
    /// Messages read from it in a row.
    burst: u32,
}

impl Rx for PacketRx {
    fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        if let [socket] = &self.sockets[..] {
            let (len, _) = rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::empty())?;
            if len == 0 {
                bail!("the producer hung up before its last message");
            }
            sink(&self.buffer[..len]);
            return Ok(());
        }
        while !self.show_ready(sink)? {
            self.poll(None)?;
        }
        Ok(())
    }

    fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        if self.show_ready(sink)? {
            return Ok(true);
        }
        self.poll(Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        self.show_ready(sink)
    }
}

impl PacketRx {
    /// Shows a message of a socket that was ready, if one still is.
    fn show_ready(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        while let Some(&number) = self.ready.front() {
            let socket = &self.sockets[number];
            match rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    // Left out from here on; the others are served as before.
                    self.open[number] = false;
                    self.ready.pop_front()
                }
                Ok((len, _)) => {
                    self.burst += 1;
                    if self.burst.is_multiple_of(BURST) {
                        self.ready.rotate_left(1);
                    }
                    sink(&self.buffer[..len]);
                    return Ok(true);
                }
                Err(Errno::AGAIN) => self.ready.pop_front(),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(false)
    }

    /// Waits for a socket to have a message.
    fn poll(&mut self, timeout: Option<&Timespec>) -> Result<()> {
        let open: Vec<_> = (0..self.sockets.len()).filter(|&socket| self.open[socket]).collect();
        if open.is_empty() {
            bail!("every producer hung up before its last message");
        }
        let fd = |&socket: &usize| PollFd::new(&self.sockets[socket], PollFlags::IN);
        let mut fds: Vec<_> = open.iter().map(fd).collect();
        poll(&mut fds, timeout).context("poll")?;
        let ready = open.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        self.ready.extend(ready.map(|(socket, _)| *socket));
        Ok(())
    }
}
