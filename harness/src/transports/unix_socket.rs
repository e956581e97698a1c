//! Unix domain sockets, one connection a producer.
//!
//! SEQPACKET keeps messages apart by itself and is used for all that fit one kernel buffer; longer
//! ones go over STREAM with a length in front. A message of length zero cannot be told from the end
//! of a SEQPACKET connection, so the shortest is one byte.

use std::{collections::VecDeque, fs::File, os::fd::OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType},
};

use super::{
    Bound, Rx, SendError, Setup, Sink, Transport, Tx,
    framed::{FramedRx, FramedTx},
};

/// Unix domain sockets.
#[derive(Debug)]
pub(super) struct UnixSocket;

/// The longest message sent as one packet; the kernel's default buffer takes three of them.
const PACKET_MAX: u64 = 64 << 10;

/// Messages from one producer in a row while others wait.
const BURST: u32 = 32;

impl Transport for UnixSocket {
    fn name(&self) -> &'static str {
        "unix-socket"
    }

    fn about(&self) -> &'static str {
        "raw bytes, a connection for each producer and poll; SEQPACKET up to 64 KiB, STREAM above"
    }

    fn version(&self) -> &'static str {
        "kernel"
    }

    fn min_len(&self) -> usize {
        1
    }

    fn bind(&self, setup: &Setup) -> Result<Box<dyn Bound>> {
        let path = setup.path("socket");
        let listener = socket(setup)?;
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path)?).context("bind")?;
        rustix::net::listen(&listener, i32::try_from(setup.producers)?)?;
        let endpoint = path.display().to_string();
        Ok(Box::new(Listener { listener, endpoint, setup: setup.clone() }))
    }

    fn connect(&self, endpoint: &str, setup: &Setup) -> Result<Box<dyn Tx>> {
        let socket = socket(setup)?;
        if let Ok(bytes) = usize::try_from(setup.ring_bytes) {
            // The kernel cuts this down to what it allows, so a refusal is no error.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, bytes);
        }
        rustix::net::connect(&socket, &SocketAddrUnix::new(endpoint)?).context("connect")?;
        Ok(if is_packet(setup) {
            Box::new(PacketTx(socket))
        } else {
            Box::new(FramedTx(File::from(socket)))
        })
    }
}

fn is_packet(setup: &Setup) -> bool {
    setup.message_max <= PACKET_MAX
}

fn socket(setup: &Setup) -> Result<OwnedFd> {
    let kind = if is_packet(setup) { SocketType::SEQPACKET } else { SocketType::STREAM };
    Ok(rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

struct Listener {
    listener: OwnedFd,
    endpoint: String,
    setup: Setup,
}

impl Bound for Listener {
    fn endpoints(&self) -> Vec<String> {
        (0..self.setup.producers).map(|_| self.endpoint.clone()).collect()
    }

    fn max_len(&self) -> u64 {
        if is_packet(&self.setup) { PACKET_MAX } else { u64::from(u32::MAX) }
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Rx>> {
        let sockets = (0..self.setup.producers)
            .map(|_| rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC))
            .collect::<Result<Vec<_>, _>>()?;
        let longest = usize::try_from(self.setup.message_max)?;
        Ok(if is_packet(&self.setup) {
            Box::new(PacketRx {
                sockets,
                buffer: vec![0; longest.max(1)],
                ready: VecDeque::new(),
                burst: 0,
            })
        } else {
            let files = sockets.into_iter().map(File::from).collect();
            Box::new(FramedRx::new(files, longest))
        })
    }
}

struct PacketTx(OwnedFd);

impl Tx for PacketTx {
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let sent = rustix::net::send(&self.0, message, SendFlags::NOSIGNAL)
            .map_err(std::io::Error::from)?;
        assert_eq!(sent, message.len(), "SEQPACKET sends whole messages");
        Ok(())
    }
}

struct PacketRx {
    sockets: Vec<OwnedFd>,
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
            return show(&self.buffer, len, sink);
        }
        loop {
            while let Some(&socket) = self.ready.front() {
                let socket = &self.sockets[socket];
                match rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                    Ok((len, _)) => {
                        self.burst += 1;
                        if self.burst.is_multiple_of(BURST) {
                            self.ready.rotate_left(1);
                        }
                        return show(&self.buffer, len, sink);
                    }
                    Err(Errno::AGAIN) => self.ready.pop_front(),
                    Err(error) => return Err(error.into()),
                };
            }
            let mut fds: Vec<_> =
                self.sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
            poll(&mut fds, None)?;
            self.ready.extend((0..fds.len()).filter(|&socket| !fds[socket].revents().is_empty()));
        }
    }
}

fn show(buffer: &[u8], len: usize, sink: &mut Sink<'_>) -> Result<()> {
    if len == 0 {
        bail!("a producer hung up before its last message");
    }
    sink(&buffer[..len]);
    Ok(())
}
