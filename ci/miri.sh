#!/usr/bin/env bash
# Miri over the ring's core on a piece of heap, with real threads, under many schedules: undefined
# behaviour and data races between copies.
#
# Not what weak memory lets a load see, which is loom's to find: Miri of 2026-05-19 panics in its
# own emulation of that ("cannot have empty store buffer when previous write was atomic") with
# about half of the seeds. MIRIFLAGS=-Zmiri-many-seeds=0..16 tries it all the same.
#
# Miri knows no shared mappings of files, no locks of files and no other processes, so nothing of
# the crate but the core (src/ring/threads.rs) and what needs no system can run. Where the nightly
# compiler has no Miri, this says so and ends with 77, for "not run".
set -euo pipefail
cd "$(dirname "$0")"/..

if ! cargo +nightly miri --version >/dev/null 2>&1; then
  echo "ci/miri.sh: NOT RUN: no Miri (rustup toolchain install nightly --component miri)"
  exit 77
fi
echo "ci/miri.sh: skipped, since Miri cannot run it: everything outside src/ring/threads.rs," \
  "src/event.rs and their like: files, locks, processes, the simulation's stacks"

set -x
export MIRIFLAGS="${MIRIFLAGS:--Zmiri-many-seeds=0..16 -Zmiri-disable-weak-memory-emulation}"
cargo +nightly miri test -p ipmpsc --lib --locked \
  --target-dir "${CARGO_TARGET_DIR:-target}/miri" -- ring::threads event::
