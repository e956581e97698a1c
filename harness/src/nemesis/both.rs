//! Faults that one process can bring about by itself, written once and made for two crates: this
//! one and 0.5.1, whose public API it keeps. Each gets a folder of its own and a process of its
//! own, so that a crash or a hang is its verdict and nobody else's.

/// Values whose serialization does what it should not, for either crate.
pub(super) mod values {
    use std::cell::Cell;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Panics while it is serialized.
    #[derive(Debug)]
    pub(in crate::nemesis) struct Panics;

    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("a Serialize that panics, on purpose")
        }
    }

    /// Panics while it is received.
    #[derive(Debug)]
    pub(in crate::nemesis) struct PanicsLater;

    impl<'de> Deserialize<'de> for PanicsLater {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<PanicsLater, D::Error> {
            panic!("a Deserialize that panics, on purpose")
        }
    }

    /// So long when it is asked for the first time, short from the second on: stale bytes would
    /// follow.
    #[derive(Debug)]
    pub(in crate::nemesis) struct Lies(Cell<usize>);

    impl Lies {
        pub(in crate::nemesis) fn of(len: usize) -> Lies {
            Lies(Cell::new(len))
        }
    }

    impl Serialize for Lies {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(std::iter::repeat_n(7_u8, self.0.replace(1)))
        }
    }

    /// Calls back while it is serialized.
    pub(in crate::nemesis) struct Calls<F: Fn()>(pub(in crate::nemesis) F);

    impl<F: Fn()> Serialize for Calls<F> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (self.0)();
            serializer.serialize_u64(7)
        }
    }
}

/// The scenarios over the crate named `$channel`.
macro_rules! scenarios {
    ($name:ident, $channel:ident) => {
        pub(super) mod $name {
            use std::{
                fs::{self, File},
                io::{Seek, SeekFrom, Write},
                panic::{AssertUnwindSafe, catch_unwind},
                path::Path,
                time::Duration,
            };

            use $channel::{Error, Receiver, Sender, SharedRingBuffer};

            use crate::nemesis::{
                Broken,
                both::values::{Calls, Lies, Panics, PanicsLater},
                is,
            };

            const RING: u32 = 64 << 10;
            pub(in crate::nemesis) const LONG: Duration = Duration::from_millis(500);
            pub(in crate::nemesis) const SHORT: Duration = Duration::from_millis(10);
            /// Senders, more than there are slots for.
            pub(in crate::nemesis) const CHURN: u64 = 300;

            pub(in crate::nemesis) type Verdict = Result<(), Broken>;

            impl From<Error> for Broken {
                fn from(error: Error) -> Broken {
                    Broken::Dies(format!("an error where none is due: {error}"))
                }
            }

            pub(in crate::nemesis) fn at(folder: &Path) -> String {
                folder.join("ring").display().to_string()
            }

            fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> Verdict {
                file.seek(SeekFrom::Start(offset))?;
                Ok(file.write_all(bytes)?)
            }

            fn ring(folder: &Path) -> Result<SharedRingBuffer, Error> {
                SharedRingBuffer::create(&at(folder), RING)
            }

            pub(in crate::nemesis) fn both(folder: &Path) -> Result<(Sender, Receiver), Error> {
                let ring = ring(folder)?;
                Ok((Sender::new(SharedRingBuffer::open(&at(folder))?), Receiver::new(ring)))
            }

            /// A message still goes through.
            pub(in crate::nemesis) fn passes(tx: &Sender, rx: &Receiver) -> Verdict {
                if !tx.send_timeout(&41_u64, LONG)? {
                    return Err(Broken::Blocks("the next send".into()));
                }
                match rx.recv_timeout::<u64>(LONG)? {
                    Some(41) => Ok(()),
                    Some(other) => Err(Broken::Corrupts(format!("41 became {other}"))),
                    None => Err(Broken::Blocks("the next receive".into())),
                }
            }

            pub(in crate::nemesis) fn undecodable(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                tx.send(&u64::MAX)?;
                is(rx.recv_timeout::<String>(LONG).is_err(), "8 bytes of 0xff were a string")?;
                tx.send(&41_u64)?;
                match rx.recv_timeout::<u64>(LONG)? {
                    Some(41) => Ok(()),
                    Some(_) => Err(Broken::Blocks("the bad message is never consumed".into())),
                    None => Err(Broken::Loses("the message after the bad one".into())),
                }
            }

            pub(in crate::nemesis) fn hostile_length(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                tx.send(&(1_u64 << 40))?;
                is(rx.recv_timeout::<Vec<u8>>(LONG).is_err(), "a terabyte was received")?;
                passes(&tx, &rx)
            }

            pub(in crate::nemesis) fn second_receiver(folder: &Path) -> Verdict {
                let (tx, first) = both(folder)?;
                tx.send(&1_u64)?;
                tx.send(&2_u64)?;
                first.recv_timeout::<u64>(LONG)?;
                let second = Receiver::new(SharedRingBuffer::open(&at(folder))?);
                match second.recv_timeout::<u64>(SHORT) {
                    Err(_) => Ok(()),
                    Ok(got) => Err(Broken::Corrupts(format!("two receivers; it got {got:?}"))),
                }
            }

            pub(in crate::nemesis) fn create_over_live(folder: &Path) -> Verdict {
                let path = at(folder);
                let rx = Receiver::new(SharedRingBuffer::create(&path, 1 << 20)?);
                let tx = Sender::new(SharedRingBuffer::open(&path)?);
                tx.send(&vec![7_u8; 500_000])?;
                let _second = SharedRingBuffer::create(&path, 64)?;
                // Nobody would look for another message there, but what was sent is given.
                let sent = tx.send_timeout(&vec![8_u8; 500_000], SHORT);
                is(sent.is_err(), "a ring that has been replaced takes messages")?;
                let got = rx.recv_timeout::<Vec<u8>>(LONG);
                is(got.is_ok_and(|got| got == Some(vec![7; 500_000])), "what was sent is gone")
            }

            pub(in crate::nemesis) fn not_a_ring(folder: &Path) -> Verdict {
                let mut bytes = vec![0; 100_000];
                for first in [[0; 4], [1, 0, 0, 0], *b"ipmp", [0xff; 4]] {
                    bytes[..4].copy_from_slice(&first);
                    fs::write(at(folder), &bytes)?;
                    if SharedRingBuffer::open(&at(folder)).is_ok() {
                        return Err(Broken::Corrupts(format!("opened a file of {first:02x?}..")));
                    }
                }
                // A ring but for its version: an older one, a newer one, the other byte order.
                for version in [0_u32, 2, 1_u32.swap_bytes()] {
                    drop(ring(folder)?);
                    let file = File::options().write(true).open(at(folder))?;
                    write_at(&file, &version.to_le_bytes(), 8)?;
                    let opened = SharedRingBuffer::open(&at(folder));
                    is(opened.is_err(), &format!("opened a ring of version {version}"))?;
                }
                Ok(())
            }

            pub(in crate::nemesis) fn longest_timeout(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                is(tx.send_timeout(&1_u64, Duration::MAX)?, "a send that may take for ever")?;
                is(rx.recv_timeout::<u64>(Duration::MAX)? == Some(1), "the message")?;
                let later = std::thread::spawn(move || {
                    // By then the receive below waits; if not, it finds the message.
                    std::thread::sleep(SHORT);
                    tx.send(&2_u64)
                });
                is(rx.recv_timeout::<u64>(Duration::MAX)? == Some(2), "the later message")?;
                is(later.join().is_ok_and(|sent| sent.is_ok()), "the later send")
            }

            pub(in crate::nemesis) fn empty_message(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                tx.send(&())?;
                is(rx.recv_timeout::<()>(LONG)? == Some(()), "a message of no bytes")
            }

            pub(in crate::nemesis) fn too_large(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                let refused = tx.send_timeout(&vec![0_u8; 2 * RING as usize], LONG).is_err();
                is(refused, "twice the ring was taken")?;
                passes(&tx, &rx)
            }

            pub(in crate::nemesis) fn panicking_value(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                is(catch_unwind(AssertUnwindSafe(|| tx.send(&Panics))).is_err(), "no panic")?;
                passes(&tx, &rx)
            }

            pub(in crate::nemesis) fn reentrant_value(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                let inner = tx.clone();
                // What the inner send says is its own affair; the outer one must come back.
                let value = Calls(|| drop(inner.send_timeout(&1_u64, SHORT)));
                let _ = tx.send_timeout(&value, LONG);
                while rx.recv_timeout::<u64>(SHORT)?.is_some() {}
                passes(&tx, &rx)
            }

            pub(in crate::nemesis) fn panicking_receive(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                tx.send(&1_u64)?;
                let received = || rx.recv_timeout::<PanicsLater>(LONG).is_ok();
                is(catch_unwind(AssertUnwindSafe(received)).is_err(), "no panic")?;
                // Whether it counts as received is the crate's to say; the ring goes on.
                rx.recv_timeout::<u64>(SHORT)?;
                passes(&tx, &rx)
            }

            pub(in crate::nemesis) fn lying_value(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                // The second is too long to be serialized anywhere but in the ring.
                for len in [32, 4_000] {
                    if tx.send_timeout(&Lies::of(len), LONG).is_ok() {
                        let got = rx.recv_timeout::<(u64, [u8; 32])>(LONG);
                        let what = format!("{len} bytes announced, 1 written, received as {got:?}");
                        return Err(Broken::Corrupts(what));
                    }
                    passes(&tx, &rx)?;
                }
                Ok(())
            }

            /// More senders than a ring has slots come, send and leave, one after the other and
            /// all at once.
            pub(in crate::nemesis) fn churn(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                for round in 0..CHURN {
                    let other = Sender::new(SharedRingBuffer::open(&at(folder))?);
                    is(other.send_timeout(&round, LONG)?, "no room in an empty ring")?;
                    is(rx.recv_timeout::<u64>(LONG)? == Some(round), "what was just sent")?;
                }
                let mut all = Vec::new();
                for number in 0..CHURN {
                    let other = Sender::new(SharedRingBuffer::open(&at(folder))?);
                    // One too many is refused, in so many words and without harm.
                    if other.send_timeout(&number, LONG).is_ok_and(|sent| sent) {
                        is(rx.recv_timeout::<u64>(LONG)? == Some(number), "a late one's")?;
                    }
                    all.push(other);
                }
                drop(all);
                let next = Sender::new(SharedRingBuffer::open(&at(folder))?);
                passes(&next, &rx)?;
                passes(&tx, &rx)
            }

            pub(in crate::nemesis) fn received_twice(folder: &Path) -> Verdict {
                let (tx, mut rx) = both(folder)?;
                tx.send(&1_u64)?;
                tx.send(&2_u64)?;
                let mut context = rx.zero_copy_context();
                context.recv::<u64>()?;
                match context.recv::<u64>() {
                    Err(_) => Ok(()),
                    Ok(got) => Err(Broken::Corrupts(format!("{got} came again from a context"))),
                }
            }

            pub(in crate::nemesis) fn forgotten_context(folder: &Path) -> Verdict {
                let (tx, mut rx) = both(folder)?;
                tx.send(&1_u64)?;
                let mut context = rx.zero_copy_context();
                context.recv::<u64>()?;
                std::mem::forget(context);
                // Not consumed, so it comes again; nothing is lost and nothing hangs.
                is(rx.recv_timeout::<u64>(LONG)? == Some(1), "the forgotten message")?;
                passes(&tx, &rx)
            }

            pub(in crate::nemesis) fn opened_twice(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                drop(Sender::new(SharedRingBuffer::open(&at(folder))?));
                passes(&tx, &rx)
            }

            pub(in crate::nemesis) fn grown(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                File::options().write(true).open(at(folder))?.set_len(1 << 24)?;
                passes(&tx, &rx)
            }

            pub(in crate::nemesis) fn flipped_header(folder: &Path) -> Verdict {
                for word in 0..128 {
                    for value in [0, 1, u64::MAX, 1 << 63, 0x1234_5678_9abc_def1] {
                        let path = folder.join(format!("ring-{word}"));
                        let path = path.display().to_string();
                        let rx = Receiver::new(SharedRingBuffer::create(&path, RING)?);
                        let tx = Sender::new(SharedRingBuffer::open(&path)?);
                        tx.send(&1_u64)?;
                        let file = File::options().write(true).open(&path)?;
                        write_at(&file, &u64::to_le_bytes(value), 8 * word)?;
                        // Any answer will do, if one comes.
                        let _ = SharedRingBuffer::open(&path);
                        let _ = tx.send_timeout(&2_u64, Duration::from_millis(2));
                        let _ = rx.recv_timeout::<u64>(Duration::from_millis(2));
                        drop((tx, rx));
                        fs::remove_file(&path)?;
                    }
                    std::io::stdout().flush()?;
                }
                Ok(())
            }
        }
    };
}

scenarios!(ours, ipmpsc);
scenarios!(old, ipmpsc_0_5_1);
