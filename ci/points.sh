#!/usr/bin/env bash
# Every named point of the protocol as a place to die and as one to stop at, for whoever sends,
# receives, attaches or recovers, with the ring empty, nearly full, at the wrap and with its largest
# message. A point that nobody comes by fails as well.
set -euo pipefail
cd "$(dirname "$0")"/..
target=${CARGO_TARGET_DIR:-target}
out=$target/points
rm -rf "$out"

set -x
# As scripts/test has built it: with the planted bugs, none of which is chosen.
cargo build --workspace --bins --test it --features harness/fault,harness/mutant --locked
"$target/debug/harness" torture --sweep points -q --out "$out"
