//! iceoryx2's publish-subscribe, set to lose nothing: a publisher for each producer, one
//! subscriber.
//!
//! It has no blocking receive without a second service for events, which costs a system call a
//! message. So the consumer polls, first spinning and then yielding, as its own examples do; that
//! is the fastest form and one that never sleeps. Its publishers wait for room in the same manner.
//!
//! Its files are in the run folder, but its shared memory is where the OS puts it, under names that
//! begin with `prefix`.

use std::path::Path;

use super::Transport;
#[cfg(feature = "iceoryx2")]
use super::{Bound, Setup, Tx};

/// `iceoryx2`, if it was built in.
#[derive(Debug)]
pub(super) struct Iceoryx2;

impl Transport for Iceoryx2 {
    fn name(&self) -> &'static str {
        "iceoryx2"
    }

    fn about(&self) -> &'static str {
        "raw bytes, loaned, filled and published, received as a borrow of shared memory by a \
         consumer that polls: it spins, then yields, and never sleeps"
    }

    fn version(&self) -> &'static str {
        env!("HARNESS_ICEORYX2")
    }

    fn missing(&self) -> Option<String> {
        let command = "cargo run -p harness --features iceoryx2";
        (!cfg!(feature = "iceoryx2"))
            .then(|| format!("built without the feature iceoryx2; {command}"))
    }

    fn has_limit(&self) -> bool {
        true
    }

    #[cfg(feature = "iceoryx2")]
    fn bind(&self, setup: &Setup) -> anyhow::Result<Box<dyn Bound>> {
        channel::bind(setup)
    }

    #[cfg(feature = "iceoryx2")]
    fn connect(&self, endpoint: &str, setup: &Setup) -> anyhow::Result<Box<dyn Tx>> {
        channel::connect(&Setup { channel: endpoint.into(), ..setup.clone() })
    }
}

/// What the names of the shared memory of a run begin with.
fn prefix(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    format!("iox2-{}.", name.to_string_lossy())
}

/// Removes what this channel, or all of the run with this folder, have in shared memory.
pub(super) fn remove_all(folder: &Path, channel: Option<&str>) {
    let prefix = prefix(folder);
    for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(&prefix) else {
            continue;
        };
        let rest = channel.map_or(Some("."), |channel| rest.strip_prefix(channel));
        if rest.is_some_and(|rest| rest.starts_with(['.', '-'])) {
            // One that is gone already is as good.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(feature = "iceoryx2")]
mod channel {
    use std::{hint::spin_loop, thread};

    use anyhow::{Context, Result, anyhow};
    use iceoryx2::{
        node::Node,
        port::{LoanError, publisher::Publisher, subscriber::Subscriber},
        prelude::{
            BackpressureStrategy, Config, FileName, LogLevel, NodeBuilder, Path, SemanticString,
            SignalHandlingMode, ipc, set_log_level,
        },
        service::port_factory::{PortFactory as _, publish_subscribe::PortFactory},
    };

    use crate::transports::{Bound, Rx, SendError, Setup, Sink, Tx};

    /// Looks at an empty queue between two yields.
    const LOOKS: u32 = 64;
    /// Messages that wait in a queue at most; each takes as much memory as the longest.
    const QUEUE_MAX: u64 = 4096;

    type Service = PortFactory<ipc::Service, [u8], ()>;

    /// The node of this process and the service of this channel, which only the consumer creates.
    fn service(setup: &Setup, creates: bool) -> Result<(Node<ipc::Service>, Service)> {
        set_log_level(LogLevel::Error);
        let mut config = Config::default();
        let root = setup.path("iox2").display().to_string();
        config.global.set_root_path(&Path::new(root.as_bytes()).map_err(wrong)?);
        let prefix = format!("{}{}.", super::prefix(&setup.folder), setup.channel);
        config.global.prefix = FileName::new(prefix.as_bytes()).map_err(wrong)?;
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .map_err(wrong)?;
        let builder =
            node.service_builder(&"channel".try_into().map_err(wrong)?).publish_subscribe::<[u8]>();
        let service = if creates {
            let producers = usize::try_from(setup.producers)?;
            builder
                .enable_safe_overflow(false)
                .history_size(0)
                .max_publishers(producers)
                .max_subscribers(1)
                .max_nodes(producers + 1)
                .subscriber_max_borrowed_samples(1)
                .subscriber_max_buffer_size(queue_len(setup)?)
                .create()
                .map_err(wrong)?
        } else {
            builder.open().map_err(wrong)?
        };
        Ok((node, service))
    }

    /// As many messages as the ring would hold.
    fn queue_len(setup: &Setup) -> Result<usize> {
        let count = setup.ring_bytes / setup.message_max.max(1);
        Ok(usize::try_from(count.clamp(1, QUEUE_MAX))?)
    }

    fn wrong(error: impl std::fmt::Debug) -> anyhow::Error {
        anyhow!("{error:?}")
    }

    pub(super) fn bind(setup: &Setup) -> Result<Box<dyn Bound>> {
        let (node, service) = service(setup, true).context("create the service")?;
        let subscriber = service.subscriber_builder().create().map_err(wrong)?;
        let rx = PollingRx { subscriber, _node: node };
        Ok(Box::new(Subscribed { setup: setup.clone(), service, rx }))
    }

    pub(super) fn connect(setup: &Setup) -> Result<Box<dyn Tx>> {
        let (node, service) = service(setup, false).context("open the service")?;
        let publisher = service
            .publisher_builder()
            .initial_max_slice_len(usize::try_from(setup.message_max.max(1))?)
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(wrong)?;
        Ok(Box::new(LoanTx { publisher, _node: node }))
    }

    struct Subscribed {
        setup: Setup,
        service: Service,
        rx: PollingRx,
    }

    impl Bound for Subscribed {
        fn endpoints(&self) -> Vec<String> {
            (0..self.setup.producers).map(|_| self.setup.channel.clone()).collect()
        }

        fn max_len(&self) -> u64 {
            self.setup.message_max.max(1)
        }

        fn accept(self: Box<Self>) -> Result<Box<dyn Rx>> {
            // A publisher whose queue is full drops what its subscriber has not yet looked for.
            let producers = usize::try_from(self.setup.producers)?;
            while self.service.dynamic_config().number_of_publishers() < producers {
                thread::yield_now();
            }
            // To look is to connect.
            self.rx.subscriber.has_samples().map_err(wrong)?;
            Ok(Box::new(self.rx))
        }
    }

    struct LoanTx {
        publisher: Publisher<ipc::Service, [u8], ()>,
        /// Held, so that others see that this process lives.
        _node: Node<ipc::Service>,
    }

    impl Tx for LoanTx {
        fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
            let sample = match self.publisher.loan_slice_uninit(message.len()) {
                Ok(sample) => sample,
                Err(LoanError::ExceedsMaxLoanSize) => return Err(SendError::TooLarge),
                Err(error) => return Err(SendError::Failed(error.into())),
            };
            let sent = sample.write_from_slice(message).send();
            match sent.map_err(|error| SendError::Failed(error.into()))? {
                1 => Ok(()),
                count => Err(SendError::Failed(anyhow!("delivered to {count} subscribers"))),
            }
        }
    }

    struct PollingRx {
        subscriber: Subscriber<ipc::Service, [u8], ()>,
        /// Held, so that others see that this process lives.
        _node: Node<ipc::Service>,
    }

    impl Rx for PollingRx {
        fn recv(&mut self, sink: &mut Sink<'_>) -> Result<()> {
            loop {
                for _ in 0..LOOKS {
                    if self.try_recv(sink)? {
                        return Ok(());
                    }
                    spin_loop();
                }
                thread::yield_now();
            }
        }

        fn try_recv(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
            let sample = self.subscriber.receive().map_err(wrong)?;
            Ok(sample.map(|sample| sink(sample.payload())).is_some())
        }
    }
}
