#!/usr/bin/env bash
# A release build carries no fault points and no mutants: neither their names nor the variables that
# arm them.
set -euo pipefail
cd "$(dirname "$0")"/..
target=${CARGO_TARGET_DIR:-target}
# The variables, and a point by its name.
arms=(IPMPSC_FAULT IPMPSC_MUTANT claim-marked)

fail() {
  echo "ci/release-clean.sh: $*" >&2
  exit 1
}

set -x
# First the other way round: with the features they must be there, or this check could not fail.
cargo build -p ipmpsc --lib --features fault,mutant --locked
cargo build -p harness --release --locked
{ set +x; } 2>/dev/null

for name in "${arms[@]}"; do
  grep -q "$name" "$target/debug/libipmpsc.rlib" ||
    fail "$name is not in a build with the features 'fault' and 'mutant'; has it another name?"
  if grep -q "$name" "$target/release/harness"; then
    fail "$name is in the release build of the harness; something turns on 'fault' or 'mutant'"
  fi
done
echo "the release build of the harness names none of ${arms[*]}"
