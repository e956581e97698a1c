//! What the crate promises between processes, each promise a test that is named for it.
//!
//! One binary: children are this program again (`children`), and each random test prints the seed
//! that `IPMPSC_TEST_SEED` replays. Tests that kill or stop a process at a named point of the
//! protocol need the feature `fault`, which `scripts/test` turns on.

#![cfg(target_os = "linux")]

#[cfg_attr(not(feature = "fault"), allow(dead_code, reason = "some helpers are for `kills`"))]
mod children;
mod costs;
mod files;
mod images;
#[cfg(feature = "fault")]
mod kills;
mod lifecycle;
mod messages;
mod model;
mod waits;
