//! What the crate promises between processes, each promise a test that is named for it.
//!
//! One binary: children are this program again (`children`), and each random test prints the seed
//! that `IPMPSC_TEST_SEED` replays. Tests that kill or stop a process at a named point of the
//! protocol need the feature `fault`, which `scripts/test` turns on. `IPMPSC_TEST_PEER` names
//! another build of this program, of 32 bits say, to be the children.

#![cfg(any(target_os = "linux", target_os = "windows"))]

#[cfg_attr(not(feature = "fault"), allow(dead_code, reason = "some helpers are for `kills`"))]
mod children;
mod files;
#[cfg(feature = "fault")]
mod kills;
mod lifecycle;
mod messages;
mod model;
#[cfg_attr(not(feature = "fault"), allow(dead_code, reason = "some helpers are for `kills`"))]
mod os;
mod waits;

// A process that forbids itself all system calls needs seccomp; what memory it has of its own is
// read from /proc.
#[cfg(target_os = "linux")]
mod costs;
// The ways to end that Unix has, and namespaces.
#[cfg(target_os = "linux")]
mod ends;
// Windows has no fork, and no descriptor that another part of a program closes by its number.
#[cfg(target_os = "linux")]
mod forks;
// Hostile images are opened from memory, as files of a name would cost the fuzzer its speed.
#[cfg(target_os = "linux")]
mod images;
// Links, FIFOs, modes, mounts and limits as Unix has them.
#[cfg(target_os = "linux")]
mod refusals;
// Android goes on where it is refused locks, and a seccomp filter of Linux refuses them as it does.
#[cfg(all(target_os = "linux", feature = "fault"))]
mod unlocked;
// No system call of Windows is interrupted.
#[cfg(target_os = "linux")]
mod signals;
// Access lists, handles, and files that cannot be replaced while they are mapped.
#[cfg(windows)]
mod windows;
