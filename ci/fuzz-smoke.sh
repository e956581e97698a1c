#!/usr/bin/env bash
# Coverage-guided fuzzing of open, of every receive and send over arbitrary images, and of copying
# receives while a peer writes nonsense: a minute, with AddressSanitizer, from the committed corpus.
#
# It needs a nightly compiler; where that is missing it says so, and only the corpus is run, by the
# stable test `what_the_fuzzer_has_found_is_survived`. It installs cargo-fuzz if that is missing.
#   bash ci/fuzz-smoke.sh        20 s for each target
#   bash ci/fuzz-smoke.sh 600    as many seconds
# What it finds stays in its scratch folder, and a crash in ipmpsc/fuzz/artifacts.
# Not shown: anything that takes two real processes, or a waiting call (all calls here are try_).
set -euo pipefail
cd "$(dirname "$0")"/..
seconds=${1:-20}
targets=(open_image use_image race_image)

set -x
cargo test -p ipmpsc --test it --locked -- --nocapture what_the_fuzzer_has_found_is_survived
{ set +x; } 2>/dev/null

if ! cargo +nightly --version >/dev/null 2>&1; then
  echo "ci/fuzz-smoke.sh: SKIPPED the fuzzing: a nightly compiler is missing (rustup toolchain" \
    "install nightly); only the corpus was run"
  exit 0
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
  echo "ci/fuzz-smoke.sh: building cargo-fuzz, which is missing, once: a minute" >&2
  cargo install cargo-fuzz --locked
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"
cd ipmpsc
for target in "${targets[@]}"; do
  mkdir "$scratch/$target"
  # The first folder takes what is new; the committed ones stay as they are.
  if ! cargo +nightly fuzz run "$target" "$scratch/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=1200 -timeout=10 -print_final_stats=1 \
    >"$scratch/log" 2>&1; then
    tail -n 40 "$scratch/log"
    echo "ci/fuzz-smoke.sh: $target has found something" >&2
    exit 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/log")
  new=$(find "$scratch/$target" -type f | wc -l)
  echo "$target: $runs executions in $seconds s, $new new inputs, no crash"
done
