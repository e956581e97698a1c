//! The operating system, as a few functions that every platform provides under one contract.
//!
//! The only file of the crate with a `cfg(target_os)`. A platform is one file beside this one
//! with the items of the list below, some of which it may share with others; nothing else of the
//! crate changes with it. They import nothing of ours.
//!
//! | item | contract |
//! |---|---|
//! | `Signal::new(id, which)` | a thing to sleep on, shared by all that map the ring `id` |
//! | `Signal::wait(word, expected, timeout)` | sleeps while `word` is `expected`, until woken, at most `timeout`; may return early for no reason |
//! | `Signal::wake(word, all)` | wakes one sleeper, or all, in any process |
//! | `create_exclusive(path, mode)` | makes a regular file that was not there, for us to read and write, not inherited by exec |
//! | `open(path)` | opens what is there, not following a link at the end, not blocking |
//! | `open_again(file)` | the same file once more, as a description of its own |
//! | `identity(file)` | two numbers that no other file has meanwhile |
//! | `try_lock(file, byte)` | locks a byte for this description; false: somebody else has it |
//! | `is_locked(file, byte)` | whether another description has the byte locked |
//! | `Life::keep(file, len)` | from a description with a byte locked: keeps the lock as long as it is not dropped and this process lives, no child's life counting |
//! | `Life::sees(offset, value)` | whether the file, by another mapping of its first `len` bytes, has `value` at `offset` |
//! | `ForkPrivate::words()` | eight zeroed words of this process, zero again in a child made by fork |
//! | `allocate(file, len)` | gives the empty file `len` bytes of zeros that are really there: no later fault for want of space |
//! | `anonymous()`, `seal(file)` | a file without a name; no peer can change its size from then on |
//! | `populate(map)` | gives this process all pages of a mapping, or `Unsupported` |
//! | `publish(from, to, replace)` | renames; if not `replace`, fails where `to` exists; if so, also where `to` is in use |
//! | `sweep(path)` | removes what `publish` had to leave beside `path` of a file in use, if it is no longer |
//! | `is_at(file, path)` | whether `path` leads to this very file |
//! | `trusted(file, mode)` | whether only users that `mode` allows can write the file |
//! | `kill_self()`, `stop_self()` | for tests: die at once, stop until told to go on |

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "linux.rs"]
mod platform;

#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod platform;

#[cfg(target_os = "windows")]
#[path = "windows.rs"]
mod platform;

#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
mod unix;

#[cfg(any(target_os = "android", target_os = "macos", all(test, target_os = "linux")))]
mod fork;

#[cfg(any(target_os = "android", target_os = "macos"))]
pub(crate) use fork::ForkPrivate;
use memmap2::MmapRaw;
pub(crate) use platform::*;

/// Whether rings have to work where the system refuses to lock their files.
pub(crate) const MAY_REFUSE_LOCKS: bool = cfg!(target_os = "android");

/// Whether every process that maps a ring can wake its receiver: not from one session to another.
pub(crate) const WAKES_REACH_ALL: bool = cfg!(not(target_os = "windows"));

/// What somebody sleeps for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// A message.
    Receiver,
    /// Space.
    Senders,
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn populate(_map: &MmapRaw) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// A lock that shows this process's life: the descriptor or handle that has it. Linux has another,
/// which a fork does not inherit.
#[cfg(any(target_os = "macos", target_os = "windows"))]
#[derive(Debug)]
pub(crate) struct Life {
    map: MmapRaw,
    _file: std::fs::File,
}

#[cfg(any(target_os = "macos", target_os = "windows"))]
impl Life {
    pub(crate) fn keep(file: std::fs::File, len: usize) -> std::io::Result<Self> {
        let map = memmap2::MmapOptions::new().len(len).map_raw_read_only(&file)?;
        Ok(Self { map, _file: file })
    }

    pub(crate) fn sees(&self, offset: usize, value: u32) -> bool {
        sees(&self.map, offset, value)
    }
}

/// What `Life::sees` is, given its mapping.
fn sees(map: &MmapRaw, offset: usize, value: u32) -> bool {
    assert!(offset + 4 <= map.len(), "an offset inside the mapping");
    // SAFETY: inside the mapping, by the assertion.
    let word = unsafe { map.as_ptr().add(offset) }.cast::<u32>();
    // SAFETY: the address is mapped and readable. Volatile, since another mapping of the same page
    // is being written; the value is only compared.
    unsafe { word.read_volatile() == value }
}
