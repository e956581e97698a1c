#!/usr/bin/env bash
# The real ring.rs in a deterministic simulation: random schedules of virtual processes that run,
# die, stop, are woken too early or are taken for dead, one access of shared memory a step. A
# schedule that breaks a promise is shrunk and printed.
#
# The test suite runs 3,000 schedules a test; this runs 200,000, or IPMPSC_SIM_CASES.
# Not shown: reorderings (ci/loom.sh), real processes and locks (scripts/test).
set -euxo pipefail
cd "$(dirname "$0")"/..

export IPMPSC_SIM_CASES="${IPMPSC_SIM_CASES:-200000}"
cargo test -p ipmpsc --lib --locked -- --nocapture ring::sim
