//! Faults of the system around a channel, written once for two crates like those in `both`, and for
//! Linux: waits that are woken for nothing, signals, a wall clock that steps, a kernel without
//! futexes, files that are removed, cut off or not what they seem, and what limits refuse.

/// A scenario of this file, in the words of `alone!`.
macro_rules! around {
    ($($what:tt)*) => {
        alone!(@on "linux", around, $($what)*)
    };
}

/// The scenarios over the crate named `$channel`, with the helpers that `both` has for it.
macro_rules! scenarios {
    ($name:ident, $channel:ident) => {
        pub(super) mod $name {
            use std::{
                fs::{self, File},
                os::unix::fs::symlink,
                path::Path,
                process::Command,
                sync::mpsc,
                thread,
                time::{Duration, Instant},
            };

            use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
            use $channel::{Receiver, Sender, SharedRingBuffer};

            use crate::{
                nemesis::{
                    Broken,
                    both::$name::{CHURN, LONG, SHORT, Verdict, at, both, passes},
                    is,
                },
                sys::{self, SharedWords},
            };

            /// Long enough for a thousand signals.
            const STORM: Duration = Duration::from_millis(100);

            /// Fills the ring, and gives what was sent to it.
            fn fill(tx: &Sender) -> Result<u64, Broken> {
                let mut sent = 0;
                while tx.send_timeout(&[sent; 100].as_slice(), SHORT)? {
                    sent += 1;
                }
                Ok(sent)
            }

            /// Receives what `fill` sent.
            fn empty(rx: &Receiver, sent: u64) -> Verdict {
                for number in 0..sent {
                    let got = rx.recv_timeout::<Vec<u64>>(LONG)?;
                    is(got == Some(vec![number; 100]), "what was sent before")?;
                }
                Ok(())
            }

            /// A receive and a send that have nothing to end them but their time.
            fn both_wait_in_vain(tx: &Sender, rx: &Receiver) -> Verdict {
                let since = Instant::now();
                is(rx.recv_timeout::<u64>(STORM)?.is_none(), "a message of nobody")?;
                is(since.elapsed() >= STORM, "a receive gave up before its time")?;
                let sent = fill(tx)?;
                let since = Instant::now();
                is(!tx.send_timeout(&[0_u64; 100].as_slice(), STORM)?, "room in a full ring")?;
                is(since.elapsed() >= STORM, "a send gave up before its time")?;
                empty(rx, sent)
            }

            pub(in crate::nemesis) fn woken_for_nothing(folder: &Path) -> Verdict {
                /// The words that either crate waits on are among so many first ones.
                const WORDS: usize = 512;
                let (tx, rx) = both(folder)?;
                passes(&tx, &rx)?;
                let words = SharedWords::open(Path::new(&at(folder)))?;
                let (end, ended) = mpsc::channel::<()>();
                let storm = thread::spawn(move || {
                    let mut woken = 0;
                    while ended.try_recv() == Err(mpsc::TryRecvError::Empty) {
                        woken += sys::wakes::wake_all(&words, WORDS)?;
                    }
                    Ok::<_, std::io::Error>(woken)
                });
                both_wait_in_vain(&tx, &rx)?;
                passes(&tx, &rx)?;
                drop(end);
                match storm.join() {
                    Ok(Ok(0)) => Err(Broken::NotHere("nobody slept where it was woken".into())),
                    Ok(woken) => Ok(woken.map(|_| ())?),
                    Err(_) => Err(Broken::NotHere("the wakes ended early".into())),
                }
            }

            pub(in crate::nemesis) fn no_futex(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                passes(&tx, &rx)?;
                if let Err(error) = sys::refusal::refuse(libc::SYS_futex) {
                    return Err(Broken::NotHere(format!("{error:#}")));
                }
                passes(&tx, &rx)?;
                let before = sys::usage();
                both_wait_in_vain(&tx, &rx)?;
                let busy = Duration::from_nanos(sys::usage().since(before).cpu_ns);
                is(busy < STORM, "it keeps the processor busy instead of sleeping")?;
                passes(&tx, &rx)
            }

            #[cfg(not(feature = "fault"))]
            pub(in crate::nemesis) fn clock_steps(_: &Path) -> Verdict {
                Err(Broken::NotHere("needs a harness built with --features fault".into()))
            }

            /// The ends of these waits are reckoned an hour from now, or an hour ago, by whoever
            /// reckons them by the wall clock: as if it had been set back, or forward, just then.
            #[cfg(feature = "fault")]
            pub(in crate::nemesis) fn clock_steps(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                passes(&tx, &rx)?;
                for ahead_s in [3600, 0, -3600] {
                    sys::clock::set_ahead(ahead_s);
                    let sent = fill_in_time(&tx)?;
                    let since = Instant::now();
                    is(!tx.send_timeout(&[0_u64; 100].as_slice(), STORM)?, "room in a full ring")?;
                    is(since.elapsed() >= STORM, "the clock ended a send before its time")?;
                    empty(&rx, sent)?;
                }
                Ok(())
            }

            /// `fill`, whose last send waits in vain and must come back for that.
            #[cfg(feature = "fault")]
            fn fill_in_time(tx: &Sender) -> Result<u64, Broken> {
                let (done, filled) = mpsc::channel();
                let tx = tx.clone();
                // If the ring has been filled and this thread hangs, it ends with the process.
                thread::spawn(move || done.send(fill(&tx)));
                let late = |_| Broken::Blocks("a send waits for the clock".into());
                filled.recv_timeout(10 * LONG).map_err(late)?
            }

            fn lower(resource: Resource, current: u64) -> Verdict {
                let limit = Rlimit { current: Some(current), ..getrlimit(resource) };
                Ok(setrlimit(resource, limit).map_err(std::io::Error::from)?)
            }

            pub(in crate::nemesis) fn signal_storm(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                sys::signals::storm(Duration::from_micros(100))?;
                let since = Instant::now();
                is(rx.recv_timeout::<u64>(STORM)?.is_none(), "a message of nobody")?;
                is(since.elapsed() >= STORM, "a signal shortened a wait")?;
                for _ in 0..CHURN {
                    passes(&tx, &rx)?;
                }
                let other = Sender::new(SharedRingBuffer::open(&at(folder))?);
                passes(&other, &rx)
            }

            pub(in crate::nemesis) fn unlinked(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                fs::remove_file(at(folder))?;
                passes(&tx, &rx)?;
                is(SharedRingBuffer::open(&at(folder)).is_err(), "opened what is not there")
            }

            pub(in crate::nemesis) fn replaced(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                fs::remove_file(at(folder))?;
                let (other_tx, other_rx) = both(folder)?;
                tx.send(&1_u64)?;
                is(other_rx.recv_timeout::<u64>(SHORT)?.is_none(), "another ring's message")?;
                is(rx.recv_timeout::<u64>(LONG)? == Some(1), "the old ring's message")?;
                passes(&other_tx, &other_rx)
            }

            pub(in crate::nemesis) fn odd_paths(folder: &Path) -> Verdict {
                let precious = folder.join("precious");
                fs::write(&precious, "precious")?;
                symlink(&precious, folder.join("link"))?;
                symlink("nowhere", folder.join("dangling"))?;
                fs::create_dir(folder.join("folder"))?;
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    folder.join("fifo"),
                    rustix::fs::FileType::Fifo,
                    0o600.into(),
                    0,
                )
                .map_err(std::io::Error::from)?;
                for name in ["link", "dangling", "folder", "fifo"] {
                    let path = folder.join(name).display().to_string();
                    is(SharedRingBuffer::open(&path).is_err(), name)?;
                    let _ = SharedRingBuffer::create(&path, 64);
                }
                is(fs::read(&precious)? == b"precious", "create wrote through a symlink")
            }

            pub(in crate::nemesis) fn truncated(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                File::options().write(true).open(at(folder))?.set_len(0)?;
                let _ = tx.send_timeout(&1_u64, SHORT);
                let _ = rx.recv_timeout::<u64>(SHORT);
                Ok(())
            }

            // The caller has mounted a file system of 64 KiB at the folder of the next two.

            pub(in crate::nemesis) fn no_space(folder: &Path) -> Verdict {
                let made = SharedRingBuffer::create(&at(folder), 1 << 20);
                is(made.is_err(), "a ring larger than its file system")
            }

            pub(in crate::nemesis) fn space_runs_out(folder: &Path) -> Verdict {
                let rx = Receiver::new(SharedRingBuffer::create(&at(folder), 16 << 10)?);
                let tx = Sender::new(SharedRingBuffer::open(&at(folder))?);
                // Whatever fits of it.
                let _ = fs::write(folder.join("hog"), vec![1; 1 << 20]);
                for _ in 0..4 {
                    tx.send(&vec![7_u8; 4_000])?;
                    let got = rx.recv_timeout::<Vec<u8>>(LONG)?;
                    is(got == Some(vec![7; 4_000]), "what was sent")?;
                }
                Ok(())
            }

            pub(in crate::nemesis) fn file_limit(folder: &Path) -> Verdict {
                lower(Resource::Fsize, 4096)?;
                let made = SharedRingBuffer::create(&at(folder), 1 << 20);
                is(made.is_err(), "a ring beyond RLIMIT_FSIZE")
            }

            pub(in crate::nemesis) fn descriptor_limit(folder: &Path) -> Verdict {
                let (tx, rx) = both(folder)?;
                // Each side attaches by its first message, which takes a descriptor for a moment.
                passes(&tx, &rx)?;
                lower(Resource::Nofile, 0)?;
                is(SharedRingBuffer::open(&at(folder)).is_err(), "opened without descriptors")?;
                let path = folder.join("other").display().to_string();
                is(SharedRingBuffer::create(&path, 64).is_err(), "created without descriptors")?;
                is(!Path::new(&path).exists(), "a file is left behind")?;
                passes(&tx, &rx)
            }

            /// The caller has mounted a file system of 64 KiB at the folder.
            pub(in crate::nemesis) fn read_only(folder: &Path) -> Verdict {
                let rx = Receiver::new(SharedRingBuffer::create(&at(folder), 16 << 10)?);
                let tx = Sender::new(SharedRingBuffer::open(&at(folder))?);
                passes(&tx, &rx)?;
                drop((tx, rx));
                let mounted = Command::new("mount").args(["-o", "remount,ro"]).arg(folder).status();
                if !mounted.is_ok_and(|mounted| mounted.success()) {
                    return Err(Broken::NotHere("it cannot be mounted again".into()));
                }
                let opened = SharedRingBuffer::open(&at(folder));
                is(opened.is_err(), "opened where nothing can be written")?;
                let made = SharedRingBuffer::create(&at(folder), 64);
                is(made.is_err(), "made where nothing can be written")
            }
        }
    };
}

scenarios!(ours, ipmpsc);
scenarios!(old, ipmpsc_0_5_1);
