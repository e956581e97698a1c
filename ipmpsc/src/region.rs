//! A file becomes a checked, allocated, initialised mapping.
//!
//! A ring appears at its path whole or not at all: it is made under a temporary name beside it,
//! whose maker holds a lock on it, and renamed when it is done. A temporary file that nobody
//! has locked was left by a maker that died, and the next one removes it.

use crate::error::{Error, Result};
use crate::fault::{is_led, told};
use crate::layout::{Geometry, Identity, NAPS, Owner, SLOTS_OFFSET, View};
use crate::ring::Ring;
use crate::roster::{self, Role, Roster};
use crate::sys::{self, Signal, Which};
use memmap2::{MmapOptions, MmapRaw};
use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

/// The byte of a file being made that its maker has locked.
const MAKING: u32 = 0;
/// How long to wait for another maker of the same ring, who needs milliseconds.
const OTHER_MAKER: Duration = Duration::from_secs(10);

/// A mapped ring and this process's place in it.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) ring: Ring,
    pub(crate) roster: Roster,
    receiver_signal: Signal,
    space_signal: Signal,
    /// The file to remove on drop.
    temporary: Option<PathBuf>,
    /// What `ring` points into, until the drop.
    map: Option<MmapRaw>,
}

impl Region {
    /// Makes a ring at `path`; what was there is replaced, or an error.
    pub(crate) fn create(
        path: &Path,
        geometry: Geometry,
        mode: u32,
        replace: bool,
    ) -> Result<Self> {
        // The draft keeps other makers out, so what is there when it is published is what is there
        // now.
        let draft = Draft::new(path, mode)?;
        let before = match path.symlink_metadata() {
            Ok(_) if !replace => return Err(io::Error::from(ErrorKind::AlreadyExists).into()),
            Ok(there) if !there.is_file() => return Err(Error::NotARing),
            // A file that is no ring, or that we may not open, has nobody to be told.
            Ok(_) => Self::open(path, u32::MAX).ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let file = draft.file.try_clone()?;
        let region = Self::make(file, Some(path.to_owned()), geometry)?;
        sys::publish(&draft.path, path, replace)?;
        if let Some(before) = before {
            before.ring.close();
            before.ring.rouse();
            before.wake_receiver();
            before.wake_all_senders();
        }
        if replace {
            sys::sweep(path);
        }
        Ok(region)
    }

    /// Opens the ring at `path`, written by nobody but those whom `mode` allows.
    pub(crate) fn open(path: &Path, mode: u32) -> Result<Self> {
        let file = sys::open(path).map_err(|error| {
            let there = path.symlink_metadata();
            if there.is_ok_and(|there| !there.is_file()) { Error::NotARing } else { error.into() }
        })?;
        if file.metadata()?.is_file() && !sys::trusted(&file, mode)? {
            return Err(Error::Untrusted);
        }
        Self::from_file(file, Some(path.to_owned()))
    }

    /// Makes a ring without a name.
    pub(crate) fn anonymous(geometry: Geometry) -> Result<Self> {
        let file = sys::anonymous()?;
        let region = Self::make(file.try_clone()?, None, geometry)?;
        sys::seal(&file)?;
        Ok(region)
    }

    /// Maps an open file that must be a ring.
    pub(crate) fn from_file(file: File, path: Option<PathBuf>) -> Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(Error::NotARing);
        }
        // Not beyond the file's end: where that is asked for, Windows refuses.
        let len = metadata.len().min(SLOTS_OFFSET as u64) as usize;
        let first = MmapOptions::new().len(len).map_raw(&file)?;
        let identity = first.as_mut_ptr().cast::<Identity>();
        // SAFETY: the first page of a file that is not empty: mapped, aligned, readable; what
        // lies behind a shorter file's end reads as 0. An Identity is all atomics.
        let geometry = Geometry::read(unsafe { &*identity }, metadata.len())?;
        drop(first);
        Self::map(file, path, geometry, None)
    }

    fn make(file: File, path: Option<PathBuf>, geometry: Geometry) -> Result<Self> {
        let total = geometry.total().ok_or(Error::InvalidOptions("capacity is too large"))?;
        sys::allocate(&file, total)?;
        Self::map(file, path, geometry, Some([random(), random()]))
    }

    /// Maps a ring's file, which is a ring from then on if it is given an id.
    fn map(
        file: File,
        path: Option<PathBuf>,
        geometry: Geometry,
        new_id: Option<[u64; 2]>,
    ) -> Result<Self> {
        // `total` fits this process: `make` and `Geometry::read` have checked it.
        let total = geometry.total().ok_or(Error::NotARing)? as usize;
        let map = MmapOptions::new().len(total).map_raw(&file)?;
        let base = NonNull::new(map.as_mut_ptr()).ok_or(Error::NotARing)?;
        // SAFETY: a shared, page-aligned mapping of `total` bytes that the Region keeps as long
        // as the View, and to which nobody has a `&mut`. A peer can still cut the file off under
        // it: that is a SIGBUS, as the crate's front page says, and not an access elsewhere.
        let view = unsafe { View::new(base, geometry) };
        let identity = &view.header().identity;
        if let Some(id) = new_id {
            geometry.write(identity, id);
        }
        // Relaxed: written before the ring was published.
        let id = identity.id.each_ref().map(|word| word.load(Relaxed));
        Ok(Self {
            ring: Ring::new(view),
            roster: Roster::new(file, path)?,
            receiver_signal: Signal::new(id, Which::Receiver)?,
            space_signal: Signal::new(id, Which::Senders)?,
            temporary: None,
            map: Some(map),
        })
    }

    /// Lets this process, not its children, remove the file at `path` with the last handle.
    pub(crate) fn make_temporary(&mut self, path: PathBuf) {
        self.temporary = Some(path);
        self.roster.set_creator();
    }

    /// Gives this process all pages of the mapping.
    pub(crate) fn populate(&self) -> Result<()> {
        let map = self.map.as_ref().expect("there until the drop");
        Ok(sys::populate(map)?)
    }

    #[inline]
    pub(crate) fn view(&self) -> &View {
        self.ring.view()
    }

    /// This process's signature, taking a slot if it has none.
    #[inline]
    pub(crate) fn me(&self, role: Role) -> Result<Owner> {
        self.roster.me(self.view(), role)
    }

    /// Whether the owner of this word is certainly dead.
    pub(crate) fn is_dead(&self, word: u64) -> bool {
        self.roster.is_dead(self.view(), word)
    }

    #[cold]
    pub(crate) fn wake_receiver(&self) {
        told("wakes the receiver");
        self.receiver_signal.wake(&self.view().header().receiver_wait.0, false);
    }

    #[cold]
    pub(crate) fn wake_sender(&self) {
        told("wakes a sender");
        self.space_signal.wake(&self.view().header().space_wait.0, false);
    }

    /// Makes every sender that sleeps, or is about to, look again.
    pub(crate) fn wake_all_senders(&self) {
        self.ring.disturb_senders();
        told("wakes all senders");
        self.space_signal.wake(&self.view().header().space_wait.0, true);
    }

    /// Sleeps while the receiver's word is `armed`, as `Ring::arm_receiver` left it.
    pub(crate) fn sleep_as_receiver(&self, armed: u32, nap: Duration) {
        let word = &self.view().header().receiver_wait.0;
        let what = if armed == NAPS { "receiver naps" } else { "receiver sleeps" };
        // As the kernel does, and nobody else moves meanwhile.
        if is_led() && word.load(Relaxed) == armed && told(what) {
            return;
        }
        self.receiver_signal.wait(word, armed, nap);
    }

    /// Sleeps while the senders' word is `armed`, as `Ring::arm_sender` left it.
    pub(crate) fn sleep_as_sender(&self, armed: u32, nap: Duration) {
        let word = &self.view().header().space_wait.0;
        if is_led() && word.load(Relaxed) == armed && told("sender sleeps") {
            return;
        }
        self.space_signal.wait(word, armed, nap);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let temporary = self.temporary.take().filter(|_| self.roster.is_creator());
        self.roster.detach(self.ring.view());
        // The ring is not looked at any more. Windows removes no file that is mapped.
        drop(self.map.take());
        if let Some(path) = temporary {
            // Gone already is as good; there is nobody to tell of anything else.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A file under a temporary name, locked by its maker and removed with it.
#[derive(Debug)]
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    /// The draft of the ring at `path`.
    fn new(path: &Path, mode: u32) -> Result<Self> {
        let name = path.file_name().ok_or(Error::InvalidOptions("path has no file name"))?;
        let mut draft_name = OsString::from(".");
        draft_name.push(name);
        draft_name.push(".ipmpsc-new");
        match Self::locked(path.with_file_name(&draft_name), mode) {
            Err(error) if roster::works_without(&error) => {
                // A name for each maker: nobody could tell a dead one's draft from a living one's.
                draft_name.push(format!("-{:016x}", random()));
                let path = path.with_file_name(draft_name);
                Ok(Self { file: sys::create_exclusive(&path, mode)?, path })
            }
            made => made,
        }
    }

    /// The draft at this path, once another maker's is done.
    fn locked(draft_path: PathBuf, mode: u32) -> Result<Self> {
        let give_up = Instant::now() + OTHER_MAKER;
        loop {
            match sys::create_exclusive(&draft_path, mode) {
                Ok(file) => match lock(&file, &draft_path) {
                    Ok(true) => return Ok(Self { path: draft_path, file }),
                    // Between its making and its locking, another has locked and removed it.
                    Ok(false) => {}
                    Err(error) => {
                        // Without locks it stays if we leave it; the error says the rest.
                        drop(Self { path: draft_path, file });
                        return Err(error);
                    }
                },
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    remove_orphan(&draft_path)?;
                }
                Err(error) => return Err(error.into()),
            }
            if Instant::now() > give_up {
                return Err(io::Error::from(ErrorKind::TimedOut).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Once published, the name may be another maker's draft's. If this cannot be told or
        // done, the next maker finds the draft unlocked and removes it.
        if sys::is_at(&self.file, &self.path).unwrap_or(false) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Locks a draft; false if somebody else has, or if it is not at its path any more.
fn lock(file: &File, path: &Path) -> Result<bool> {
    let locked = sys::try_lock(file, MAKING).map_err(Error::LivenessUnavailable)?;
    Ok(locked && sys::is_at(file, path)?)
}

/// Removes the draft at `path` if its maker is dead. While we hold its lock nobody else removes
/// it, so the name is still this file's.
fn remove_orphan(path: &Path) -> Result<()> {
    match sys::open(path) {
        Ok(file) if lock(&file, path)? => Ok(std::fs::remove_file(path)?),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A number that is hard to meet twice; not a secret.
pub(crate) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    // A child made by fork has its parent's keys, but not its number.
    hasher.write_u32(std::process::id());
    if let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        hasher.write_u128(now.as_nanos());
    }
    hasher.finish()
}
