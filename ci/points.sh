#!/usr/bin/env bash
# Every named point of the protocol as a place to die and as one to stop at, for whoever sends,
# receives, attaches or recovers, with the ring empty, nearly full, at the wrap and with its largest
# message. A point that nobody comes by fails as well.
set -euo pipefail
cd "$(dirname "$0")"/..
out=${CARGO_TARGET_DIR:-target}/points
rm -rf "$out"

set -x
# With the planted bugs as well, none of which is chosen: ci/replay.sh needs the same build.
cargo run -p harness --features fault,mutant --locked -- torture --sweep points -q --out "$out"
