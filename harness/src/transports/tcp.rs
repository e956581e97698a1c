//! TCP over the loopback interface, one connection a producer: what works unchanged when the other
//! process moves to another machine.
//!
//! `framed` says how messages lie in it. Its buffers are the kernel's, which sizes them by itself
//! as long as nobody sets them.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context, Result};

use super::{
    Bound, Rx, Setup, Transport, Tx,
    framed::{FramedRx, FramedTx},
};
use crate::sys;

/// TCP on 127.0.0.1.
#[derive(Debug)]
pub(super) struct Tcp;

impl Transport for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn about(&self) -> &'static str {
        "raw bytes, a loopback connection with TCP_NODELAY for each producer and poll, a length in \
         front of each message"
    }

    fn version(&self) -> &'static str {
        "kernel"
    }

    fn bind(&self, setup: &Setup) -> Result<Box<dyn Bound>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind")?;
        let endpoint = listener.local_addr()?.to_string();
        Ok(Box::new(Listener { listener, endpoint, setup: setup.clone() }))
    }

    fn connect(&self, endpoint: &str, _: &Setup) -> Result<Box<dyn Tx>> {
        let stream = TcpStream::connect(endpoint).context("connect")?;
        stream.set_nodelay(true)?;
        Ok(Box::new(FramedTx(sys::stream(stream))))
    }
}

struct Listener {
    listener: TcpListener,
    endpoint: String,
    setup: Setup,
}

impl Bound for Listener {
    fn endpoints(&self) -> Vec<String> {
        (0..self.setup.producers).map(|_| self.endpoint.clone()).collect()
    }

    fn max_len(&self) -> u64 {
        u64::from(u32::MAX)
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Rx>> {
        let streams = (0..self.setup.producers)
            .map(|_| Ok(sys::stream(self.listener.accept()?.0)))
            .collect::<Result<_>>()?;
        Ok(Box::new(FramedRx::new(streams, usize::try_from(self.setup.message_max)?)))
    }
}
