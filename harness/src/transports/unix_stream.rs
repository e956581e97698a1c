//! Unix domain sockets that carry bytes, one connection a producer.
//!
//! `framed` says how messages lie in them. How to listen and to connect is the same for sockets
//! that keep messages apart.

use std::{fs::File, os::fd::OwnedFd};

use anyhow::{Context, Result};
use rustix::{
    io::FdFlags,
    net::{AddressFamily, SocketAddrUnix, SocketType},
};

use super::{
    Bound, Rx, Setup, Transport, Tx,
    framed::{FramedRx, FramedTx},
};

/// `SOCK_STREAM`.
#[derive(Debug)]
pub(super) struct UnixStream;

impl Transport for UnixStream {
    fn name(&self) -> &'static str {
        "unix-stream"
    }

    fn about(&self) -> &'static str {
        "raw bytes, a STREAM connection for each producer and poll, a length in front of each \
         message"
    }

    fn version(&self) -> &'static str {
        "kernel"
    }

    fn bind(&self, setup: &Setup) -> Result<Box<dyn Bound>> {
        Ok(Box::new(listen(setup, SocketType::STREAM)?))
    }

    fn connect(&self, endpoint: &str, setup: &Setup) -> Result<Box<dyn Tx>> {
        Ok(Box::new(FramedTx(File::from(connect(endpoint, setup, SocketType::STREAM)?))))
    }
}

/// Listens for every producer.
pub(super) fn listen(setup: &Setup, kind: SocketType) -> Result<Listener> {
    let path = setup.path("socket");
    let socket = socket(kind)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?).context("bind")?;
    rustix::net::listen(&socket, i32::try_from(setup.producers)?)?;
    Ok(Listener { socket, endpoint: path.display().to_string(), setup: setup.clone() })
}

/// A producer's end, with a buffer like the ring.
pub(super) fn connect(endpoint: &str, setup: &Setup, kind: SocketType) -> Result<OwnedFd> {
    let socket = socket(kind)?;
    if let Ok(bytes) = usize::try_from(setup.ring_bytes) {
        // The kernel cuts this down to what it allows, so a refusal is no error.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, bytes);
    }
    rustix::net::connect(&socket, &SocketAddrUnix::new(endpoint)?).context("connect")?;
    Ok(socket)
}

fn socket(kind: SocketType) -> Result<OwnedFd> {
    closed_on_exec(rustix::net::socket(AddressFamily::UNIX, kind, None)?)
}

/// Marks a socket. macOS has no call that does it at once, and no worker starts a process
/// meanwhile.
fn closed_on_exec(socket: OwnedFd) -> Result<OwnedFd> {
    rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket)
}

/// A socket that producers connect to.
pub(super) struct Listener {
    socket: OwnedFd,
    endpoint: String,
    setup: Setup,
}

impl Listener {
    pub(super) fn endpoints(&self) -> Vec<String> {
        (0..self.setup.producers).map(|_| self.endpoint.clone()).collect()
    }

    /// Takes every producer in.
    pub(super) fn accept(&self) -> Result<Vec<OwnedFd>> {
        (0..self.setup.producers)
            .map(|_| closed_on_exec(rustix::net::accept(&self.socket)?))
            .collect()
    }
}

impl Bound for Listener {
    fn endpoints(&self) -> Vec<String> {
        self.endpoints()
    }

    fn max_len(&self) -> u64 {
        u64::from(u32::MAX)
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Rx>> {
        let files = Listener::accept(&self)?.into_iter().map(File::from).collect();
        Ok(Box::new(FramedRx::new(files, usize::try_from(self.setup.message_max)?)))
    }
}
