#!/usr/bin/env bash
# What failed once does not fail again: each kept plan of harness/plans passes so many times
# with one history, and fails with the planted bug that it names. Then every planted bug that the
# harness can notice.
set -euo pipefail
cd "$(dirname "$0")"/..
target=${CARGO_TARGET_DIR:-target}
harness=$target/debug/harness
times=20
unset IPMPSC_MUTANT

fail() {
  echo "ci/replay.sh: $*" >&2
  exit 1
}

set -x
# As scripts/test has built it.
cargo build --workspace --bins --test it --features harness/fault,harness/mutant --locked
{ set +x; } 2>/dev/null

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
count=0
for plan in harness/plans/*.toml; do
  mutant=$(sed -n 's/^mutant = "\([a-z-]*\)"$/\1/p' "$plan")
  [ -n "$mutant" ] || fail "$plan does not say with which planted bug it must fail"
  # A second history is no failure of the ring, but of the plan: its exit code is 3.
  "$harness" replay "$plan" --times "$times" 2>"$scratch/log" ||
    fail "$plan, exit code $?: $(cat "$scratch/log")"
  ! grep 'never stood' "$scratch/log" || fail "$plan has a fault that does not come about"
  code=0
  IPMPSC_MUTANT=$mutant "$harness" replay "$plan" --times 1 2>"$scratch/log" || code=$?
  [ "$code" = 1 ] || fail "$plan with $mutant, exit code $code: $(cat "$scratch/log")"
  echo "$plan: passes $times times, fails with $mutant"
  count=$((count + 1))
done
echo "$count kept plans"

set -x
"$harness" selftest
