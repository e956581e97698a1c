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
# With the planted bugs, none of which is chosen, and the tests: ci/replay.sh has the same build.
cargo build -p harness --bins --test it --features fault,mutant --locked
"$target/debug/harness" torture --sweep points -q --out "$out"
