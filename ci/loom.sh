#!/usr/bin/env bash
# The ring's algorithm under loom, which runs each test with every interleaving of its threads and
# every value that the memory model lets a load return, up to a bound on preemptions.
#
# LOOM_MAX_PREEMPTIONS bounds how often a thread is taken off the processor against its will. The
# cost grows exponentially with it, and nearly all known bugs of this kind need one or two; 2 keeps
# the step short. With 3, for a person who changed an ordering, three of the tests still end; the
# one whose threads wait for a dying sender by yielding runs out of branches, since loom also
# explores schedules in which two of them yield to each other for ever and the third never runs:
#   LOOM_MAX_PREEMPTIONS=3 bash ci/loom.sh
set -euxo pipefail
cd "$(dirname "$0")"/..

export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}"

# --cfg loom swaps std's atomics for loom's (ipmpsc/src/atomic.rs). It reaches every dependency, so
# the results get a folder of their own: in the usual one they would evict all that is built there.
# --lib: the loom tests live inside src.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
RUSTFLAGS="${RUSTFLAGS:-} --cfg loom" \
  cargo test -p ipmpsc --lib --profile cheap --locked \
  --target-dir "${CARGO_TARGET_DIR:-target}/loom" |
  tee "$log"

# Tests that lost their cfg would leave this step green and empty.
if grep -q '^running 0 tests' "$log"; then
  echo "ci/loom.sh: no loom test was found" >&2
  exit 1
fi
