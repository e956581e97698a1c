#!/usr/bin/env bash
# The protocol as a model, searched whole: every state that two or three processes can reach, with
# every order of their steps and deaths between any two. Prints how many states there were.
#
# Not shown: that ring.rs does what the model does (ci/sim.sh and ci/loom.sh run the real one), and
# reorderings (ci/loom.sh). The test suite has the small searches; this adds the large ones, with
# some gigabytes and minutes.
set -euxo pipefail
cd "$(dirname "$0")"/..

export IPMPSC_MODEL_LARGE=1
cargo test -p ipmpsc --test protocol --release --locked -- --nocapture --test-threads=1
