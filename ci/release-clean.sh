#!/usr/bin/env bash
# A release build carries no fault points: neither their names nor the variable that arms them.
set -euo pipefail
cd "$(dirname "$0")"/..
target=${CARGO_TARGET_DIR:-target}
arms=IPMPSC_FAULT

fail() {
  echo "ci/release-clean.sh: $*" >&2
  exit 1
}

set -x
# First the other way round: with the feature the name must be there, or this check could not fail.
cargo build -p ipmpsc --lib --features fault --locked
cargo build -p harness --release --locked
{ set +x; } 2>/dev/null

grep -q "$arms" "$target/debug/libipmpsc.rlib" ||
  fail "$arms is not in a build with the feature 'fault'; has the variable another name?"
if grep -q "$arms" "$target/release/harness"; then
  fail "$arms is in the release build of the harness; something turns on the feature 'fault'"
fi
echo "the release build of the harness does not name $arms"
