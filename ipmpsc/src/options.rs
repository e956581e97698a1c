//! The handle of a ring, and the options to make or open one.

use crate::error::{Error, Result};
use crate::layout::{Geometry, MAX_SENDERS};
use crate::region::{self, Region};
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A ring in shared memory, to construct a [`Receiver`](crate::Receiver) or
/// [`Sender`](crate::Sender) from.
///
/// A clone is the same mapping: clone a handle rather than open its path again.
///
/// # Examples
///
/// ```
/// use ipmpsc::{Receiver, Sender, SharedRingBuffer};
///
/// let (path, ring) = SharedRingBuffer::create_temp(1024)?;
/// let receiver = Receiver::new(ring);
/// // In another process:
/// let sender = Sender::new(SharedRingBuffer::open(&path)?);
/// sender.send(&"hello")?;
/// assert_eq!(receiver.recv::<String>()?, "hello");
/// # Ok::<(), ipmpsc::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SharedRingBuffer {
    pub(crate) region: Arc<Region>,
}

impl SharedRingBuffer {
    /// Creates a ring at `path` that takes messages of up to `size_in_bytes` bytes once
    /// serialized.
    ///
    /// A regular file that is there already is replaced. If it was a ring, those attached to it
    /// get [`Error::Closed`]; they never see the new ring's bytes. [`Options::create_new`]
    /// refuses instead.
    ///
    /// # Errors
    ///
    /// As [`Options::create`].
    ///
    /// # Examples
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("ring");
    /// let ring = ipmpsc::SharedRingBuffer::create(path.to_str().unwrap(), 32 * 1024)?;
    /// assert!(ring.max_message_len() >= 32 * 1024);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(path: &str, size_in_bytes: u32) -> Result<Self> {
        Options::new().capacity(size_in_bytes.into()).create(path)
    }

    /// Creates a ring in the folder for temporary files and returns its path too.
    ///
    /// The file is removed when the last handle in this process is dropped; if the process is
    /// killed it stays. [`Options::anonymous`] leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As [`Options::create_new`]; [`Error::InvalidOptions`] if the folder's path is not UTF-8.
    ///
    /// # Examples
    ///
    /// ```
    /// let (path, ring) = ipmpsc::SharedRingBuffer::create_temp(1)?;
    /// drop(ring);
    /// assert!(!std::path::Path::new(&path).exists());
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn create_temp(size_in_bytes: u32) -> Result<(String, Self)> {
        let options = Options { capacity: size_in_bytes.into(), ..Options::new() };
        let geometry = options.geometry()?;
        loop {
            let path = std::env::temp_dir().join(format!("ipmpsc-{:016x}", region::random()));
            let name = path.to_str().ok_or(Error::InvalidOptions("TMPDIR is not UTF-8"))?;
            let name = name.to_owned();
            match Region::create(&path, geometry, options.mode, false) {
                Ok(mut region) => {
                    region.make_temporary(path);
                    return Ok((name, Self { region: Arc::new(region) }));
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens the ring at `path`.
    ///
    /// # Errors
    ///
    /// As [`Options::open`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ipmpsc::{Error, SharedRingBuffer};
    ///
    /// let missing = SharedRingBuffer::open("/nonexistent/ring").unwrap_err();
    /// assert!(matches!(missing, Error::Io(e) if e.kind() == std::io::ErrorKind::NotFound));
    /// ```
    pub fn open(path: &str) -> Result<Self> {
        Options::new().open(path)
    }

    /// Options to create or open a ring with.
    ///
    /// # Examples
    ///
    /// ```
    /// let ring = ipmpsc::SharedRingBuffer::options().capacity(1 << 20).anonymous()?;
    /// assert_eq!(ring.stats().used, 0);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn options() -> Options {
        Options::new()
    }

    /// The ring in an open file, such as an inherited one from [`try_clone_file`].
    ///
    /// Who may write the file is not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::NotARing`], [`Error::NotReady`], [`Error::VersionMismatch`],
    /// [`Error::IncompatibleRingBuffer`], [`Error::WrongSize`], [`Error::Corrupt`] if the header
    /// makes no sense, [`Error::Io`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ipmpsc::SharedRingBuffer;
    ///
    /// let ring = SharedRingBuffer::options().anonymous()?;
    /// let same = SharedRingBuffer::from_file(ring.try_clone_file()?)?;
    /// assert_eq!(same.capacity(), ring.capacity());
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    ///
    /// [`try_clone_file`]: Self::try_clone_file
    pub fn from_file(file: File) -> Result<Self> {
        Ok(Self { region: Arc::new(Region::from_file(file, None)?) })
    }

    /// A descriptor of the ring's file, for a child process to inherit.
    ///
    /// Like all of Rust's it is closed by `exec`: hand it on as standard input, say, or clear
    /// the flag.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    ///
    /// # Examples
    ///
    /// ```
    /// let ring = ipmpsc::SharedRingBuffer::options().anonymous()?;
    /// let stdin = std::process::Stdio::from(ring.try_clone_file()?);
    /// # drop(stdin);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn try_clone_file(&self) -> Result<File> {
        Ok(self.region.roster.file().try_clone()?)
    }

    /// Bytes of the ring. A message takes its serialized size and 8 bytes, rounded up to 8.
    ///
    /// # Examples
    ///
    /// ```
    /// let ring = ipmpsc::SharedRingBuffer::options().capacity(1000).anonymous()?;
    /// assert_eq!(ring.capacity(), 1016);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn capacity(&self) -> u64 {
        self.region.view().capacity()
    }

    /// Gives this process all pages of the ring now, each of which would otherwise cost a page
    /// fault when a message first gets there: for large rings, and for messages that must not be
    /// slower in the first lap than later.
    ///
    /// Each process that wants this calls it for itself, after a fork as well.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], of kind `Unsupported` on Linux before 5.14 and on other systems: the ring is
    /// as good as before.
    ///
    /// # Examples
    ///
    /// ```
    /// let ring = ipmpsc::SharedRingBuffer::options().capacity(32 << 20).anonymous()?;
    /// if let Err(error) = ring.populate() {
    ///     eprintln!("the first messages will be slow: {error}");
    /// }
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn populate(&self) -> Result<()> {
        self.region.populate()
    }

    /// The largest message in bytes, once serialized; at least the size that was asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// let ring = ipmpsc::SharedRingBuffer::options().capacity(1).anonymous()?;
    /// assert_eq!(ring.max_message_len(), 16);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn max_message_len(&self) -> u64 {
        self.region.view().geometry().max_message_bytes()
    }

    /// How many processes can be attached as senders at a time.
    ///
    /// # Examples
    ///
    /// ```
    /// let ring = ipmpsc::SharedRingBuffer::options().max_senders(8).anonymous()?;
    /// assert_eq!(ring.max_senders(), 8);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn max_senders(&self) -> u32 {
        self.region.view().geometry().slot_count - 1
    }

    /// Whether the death of a process that is attached would be noticed.
    ///
    /// Ask after opening, and after the first send or receive, which is when a process attaches.
    /// [`Liveness::Unknown`] comes up on Android, whose policy may refuse locks: the ring works,
    /// but what the kill of a process without a lock leaves behind stays there. A message that it
    /// was sending blocks those behind it, a receiver keeps its role, a place among
    /// [`max_senders`](Self::max_senders) stays taken: use timeouts, and
    /// [`Options::create`] the ring anew. Elsewhere, sending and receiving are then refused
    /// with [`Error::LivenessUnavailable`].
    ///
    /// # Examples
    ///
    /// ```
    /// use ipmpsc::{Liveness, SharedRingBuffer};
    ///
    /// let ring = SharedRingBuffer::options().anonymous()?;
    /// assert_eq!(ring.liveness(), Liveness::Known);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn liveness(&self) -> Liveness {
        let known = self.region.roster.sees_deaths(self.region.view());
        if known { Liveness::Known } else { Liveness::Unknown }
    }

    /// What goes on in the ring. Disturbs nobody and needs nobody to be attached.
    ///
    /// # Examples
    ///
    /// ```
    /// use ipmpsc::{Sender, SharedRingBuffer};
    ///
    /// let ring = SharedRingBuffer::options().anonymous()?;
    /// let sender = Sender::new(ring.clone());
    /// sender.send(&7_u32)?;
    /// let stats = ring.stats();
    /// assert_eq!((stats.sent, stats.received, stats.senders), (1, 0, 1));
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn stats(&self) -> Stats {
        let view = self.region.view();
        let header = view.header();
        let (producers, consumer) = (&header.producers, &header.consumer);
        // Relaxed: each number stands for itself, and traffic goes on meanwhile.
        let head = consumer.head.load(Relaxed);
        let tail = producers.tail.load(Relaxed);
        let discarded = consumer.discarded.load(Relaxed);
        let lap = tail - tail % view.capacity();
        let used = self.region.ring.in_use(tail, head, lap).min(view.capacity());
        Stats {
            capacity: view.capacity(),
            used,
            high_water: producers.high_water.load(Relaxed).min(view.capacity()).max(used),
            sent: producers.claimed.load(Relaxed).saturating_sub(discarded),
            received: consumer.received.load(Relaxed),
            senders: self.region.roster.sum_living(view, |slot| &slot.senders),
            blocked_senders: self.region.roster.sum_living(view, |slot| &slot.blocked),
            recoveries: producers
                .takeovers
                .load(Relaxed)
                .saturating_add(consumer.reclaimed.load(Relaxed)),
            discarded,
            closed: self.region.ring.is_closed(),
            receiver_alive: self.region.roster.receiver_lives(view),
        }
    }
}

/// Whether deaths are noticed, by [`SharedRingBuffer::liveness`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The system tells this process who of those attached lives, and of this one the others.
    Known,
    /// The system refuses locks on the ring's file, to this process or to another that is
    /// attached. Whoever has no lock counts as alive until it leaves.
    Unknown,
}

/// A ring's counters, by [`SharedRingBuffer::stats`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of the ring.
    pub capacity: u64,
    /// Bytes taken by messages that are being sent or not yet received.
    pub used: u64,
    /// The most bytes seen in use: exact once the ring was full, otherwise at most an eighth of
    /// the capacity too small.
    pub high_water: u64,
    /// Messages sent or being sent, without discarded ones; for each sender that died while it
    /// sent, this may be off by one.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Living sender handles that are attached.
    pub senders: u32,
    /// Senders that sleep because there is no space.
    pub blocked_senders: u32,
    /// Claims and records taken from dead processes.
    pub recoveries: u64,
    /// Records given up by their senders or taken from dead ones, once the receiver has passed
    /// them; a batch counts once.
    pub discarded: u64,
    /// Another ring has taken this one's path.
    pub closed: bool,
    /// A receiver is attached and lives.
    pub receiver_alive: bool,
}

/// How a ring is made or opened.
///
/// # Examples
///
/// ```
/// use ipmpsc::Options;
///
/// let folder = tempfile::tempdir()?;
/// let ring = Options::new()
///     .capacity(16 << 20)
///     .mode(0o660)
///     .max_senders(64)
///     .create_new(folder.path().join("frames"))?;
/// # drop(ring);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    capacity: u64,
    mode: u32,
    max_senders: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults: 1 MiB, mode 0600, 255 senders.
    pub fn new() -> Self {
        Self { capacity: 1 << 20, mode: 0o600, max_senders: 255 }
    }

    /// The serialized size in bytes of the largest message that the ring must take; all that
    /// waits to be received shares the same space. Messages themselves end at 4 GiB.
    ///
    /// To write one message while another is read takes room for three, as none is broken in two
    /// at the ring's end; some dozens are better.
    pub fn capacity(&mut self, bytes: u64) -> &mut Self {
        self.capacity = bytes;
        self
    }

    /// Permission bits of the file, whatever the umask. When opening: who else may be able to
    /// write it. Without a write bit for group or others, it must also be this user's own.
    ///
    /// Windows has no such bits: without one for group or others the file is this user's alone,
    /// with one its folder decides.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// How many processes can send at a time, 1 to 4094; 16 bytes of the file each. Threads and
    /// clones of one handle count as one.
    pub fn max_senders(&mut self, count: u32) -> &mut Self {
        self.max_senders = count;
        self
    }

    fn geometry(&self) -> Result<Geometry> {
        if !(1..=MAX_SENDERS).contains(&self.max_senders) {
            return Err(Error::InvalidOptions("max_senders must be 1 to 4094"));
        }
        Geometry::for_message(self.capacity, self.max_senders)
            .ok_or(Error::InvalidOptions("capacity is too large for this process to map"))
    }

    fn create_at(&self, path: &Path, replace: bool) -> Result<SharedRingBuffer> {
        let region = Region::create(path, self.geometry()?, self.mode, replace)?;
        Ok(SharedRingBuffer { region: Arc::new(region) })
    }

    /// Creates a ring at a path where nothing is.
    ///
    /// The path shows the ring once it is complete, never before. Its space is really allocated.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] of kind `AlreadyExists`, `StorageFull`, `PermissionDenied`, ...;
    /// [`Error::InvalidOptions`]; [`Error::LivenessUnavailable`] where files cannot be locked.
    ///
    /// # Examples
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("ring");
    /// let ring = ipmpsc::Options::new().create_new(&path)?;
    /// assert!(ipmpsc::Options::new().create_new(&path).is_err());
    /// # drop(ring);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_new(&self, path: impl AsRef<Path>) -> Result<SharedRingBuffer> {
        self.create_at(path.as_ref(), false)
    }

    /// Creates a ring at a path, replacing a regular file that is there.
    ///
    /// Those attached to a replaced ring get [`Error::Closed`].
    ///
    /// # Errors
    ///
    /// As [`create_new`](Self::create_new), and [`Error::NotARing`] if something else than a
    /// regular file is there.
    ///
    /// # Examples
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("ring");
    /// let old = ipmpsc::Options::new().create(&path)?;
    /// let new = ipmpsc::Options::new().create(&path)?;
    /// assert!(old.stats().closed && !new.stats().closed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(&self, path: impl AsRef<Path>) -> Result<SharedRingBuffer> {
        self.create_at(path.as_ref(), true)
    }

    /// Opens the ring at a path, or creates it. Of many that do so at once, one creates.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create_new`](Self::create_new).
    ///
    /// # Examples
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("ring");
    /// let first = ipmpsc::Options::new().capacity(100).open_or_create(&path)?;
    /// let second = ipmpsc::Options::new().open_or_create(&path)?;
    /// assert_eq!(second.capacity(), first.capacity());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<SharedRingBuffer> {
        let path = path.as_ref();
        loop {
            // Each turn somebody has made or removed the ring since the last look.
            match self.open(path) {
                Err(Error::Io(error)) if error.kind() == ErrorKind::NotFound => {}
                opened => return opened,
            }
            match self.create_new(path) {
                Err(Error::Io(error)) if error.kind() == ErrorKind::AlreadyExists => {}
                created => return created,
            }
        }
    }

    /// Opens the ring at a path. Capacity and `max_senders` are the ring's own.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] of kind `NotFound`, or `PermissionDenied` if it cannot be read and written
    /// - [`Error::Untrusted`] if users beyond [`mode`](Self::mode) can write it
    /// - [`Error::NotARing`] for any other file, folder, link, ...
    /// - [`Error::VersionMismatch`], [`Error::IncompatibleRingBuffer`]
    /// - [`Error::WrongSize`] if the file has been cut off or grown
    /// - [`Error::Corrupt`] if the header makes no sense
    /// - [`Error::NotReady`] if it is a ring that is still being made
    ///
    /// # Examples
    ///
    /// ```
    /// use ipmpsc::{Error, Options};
    ///
    /// let file = tempfile::NamedTempFile::new()?;
    /// assert!(matches!(Options::new().open(file.path()), Err(Error::NotARing)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn open(&self, path: impl AsRef<Path>) -> Result<SharedRingBuffer> {
        let region = Region::open(path.as_ref(), self.mode)?;
        Ok(SharedRingBuffer { region: Arc::new(region) })
    }

    /// Creates a ring without a path, which is gone with the last process that maps it.
    ///
    /// A child inherits it by fork, or by [`SharedRingBuffer::try_clone_file`] and
    /// [`SharedRingBuffer::from_file`]. Nobody can cut its file off.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also where the system has no such files; [`Error::InvalidOptions`].
    ///
    /// # Examples
    ///
    /// ```
    /// let ring = ipmpsc::Options::new().capacity(64 << 10).anonymous()?;
    /// assert!(ring.max_message_len() >= 64 << 10);
    /// # Ok::<(), ipmpsc::Error>(())
    /// ```
    pub fn anonymous(&self) -> Result<SharedRingBuffer> {
        Ok(SharedRingBuffer { region: Arc::new(Region::anonymous(self.geometry()?)?) })
    }
}
