#!/usr/bin/env bash
# A build without the features that are for tests carries no fault points and no mutants: neither
# their names nor the variables that arm them. Which features are on does not depend on the profile,
# so it is the main command's build that is looked at, which every run of ci/all.sh has at hand.
#
#   bash ci/release-clean.sh            what `cargo run -p harness` builds
#   bash ci/release-clean.sh release    what `cargo build --release` does, in some minutes
set -euo pipefail
cd "$(dirname "$0")"/..
target=${CARGO_TARGET_DIR:-target}
profile=${1:-dev}
# The variables, and a point by its name.
arms=(IPMPSC_FAULT IPMPSC_MUTANT claim-marked)

fail() {
  echo "ci/release-clean.sh: $*" >&2
  exit 1
}

set -x
# First the other way round: with the features they must be there, or this check could not fail.
# As scripts/test has built it.
cargo build --workspace --bins --test it --features harness/fault,harness/mutant --locked
{ set +x; } 2>/dev/null
for name in "${arms[@]}"; do
  grep -q "$name" "$target/debug/harness" ||
    fail "$name is not in a build with the features 'fault' and 'mutant'; has it another name?"
done

set -x
cargo build -p harness --profile "$profile" --locked
{ set +x; } 2>/dev/null
for name in "${arms[@]}"; do
  if grep -q "$name" "$target/${profile/#dev/debug}/harness"; then
    fail "$name is in the harness without features; something turns on 'fault' or 'mutant'"
  fi
done
echo "the harness without features, profile $profile, names none of ${arms[*]}"
