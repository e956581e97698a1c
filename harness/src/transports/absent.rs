//! Transports that a system has not, in modules named as where it has them, and why they cannot
//! run there.
#![allow(dead_code, reason = "each system lacks some of them")]

/// A transport that cannot run here.
macro_rules! absent {
    ($type:ident, $name:literal, $about:literal, $why:literal) => {
        #[derive(Debug)]
        pub(in crate::transports) struct $type;

        impl $crate::transports::Transport for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn about(&self) -> &'static str {
                $about
            }

            fn version(&self) -> &'static str {
                "none"
            }

            fn missing(&self) -> Option<String> {
                Some($why.into())
            }
        }
    };
}

pub(super) mod pipe {
    absent!(Pipe, "pipe", "raw bytes, a named pipe", "written for Unix's named pipes");
}

pub(super) mod unix_seqpacket {
    absent!(
        UnixSeqpacket,
        "unix-seqpacket",
        "raw bytes, a SEQPACKET connection",
        "this system has no such sockets"
    );
}

pub(super) mod unix_stream {
    absent!(
        UnixStream,
        "unix-stream",
        "raw bytes, a STREAM connection",
        "the standard library has no such sockets on this system"
    );
}

pub(super) mod posix_mq {
    absent!(
        PosixMq,
        "posix-mq",
        "raw bytes, a message queue",
        "this system has no POSIX message queues"
    );

    /// There is nothing to remove.
    pub(in crate::transports) fn unlink_all(_: &std::path::Path, _: Option<&str>) {}
}

pub(super) mod ipc_channel {
    absent!(Typed, "ipc-channel", "typed", "n/a: an in-process stand-in on this system");
    absent!(Bytes, "ipc-channel-bytes", "raw bytes", "n/a: an in-process stand-in on this system");
}
