#!/usr/bin/env bash
# The verification with a few seeds that never change, and with one that nobody has tried before.
#
# A seed fixes every length that every producer sends, not who is scheduled when; so a failure is
# kept by the line that it prints, in harness/regressions, and runs first from then on.
#   bash ci/seeds.sh            the fixed seeds and a new one
#   bash ci/seeds.sh 7 8        these seeds
set -euo pipefail
cd "$(dirname "$0")"/..
out=${CARGO_TARGET_DIR:-target}/seeds

seeds=("$@")
if [ ${#seeds[@]} -eq 0 ]; then
  # 1 and 2 are any; 4294967295 fills a word.
  seeds=(1 2 4294967295 "$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')")
fi

cargo build -p harness --locked
verify() {
  cargo run -q -p harness --locked -- verify --seed "$1" --for "$2" -q --out "$out"
}
for seed in "${seeds[@]}"; do
  echo "== seed $seed"
  # --for is short: the maps must be full all the same, and take what time that needs. On a machine
  # that does other things as well it may be more than a run waits for: inconclusive, exit code 3.
  code=0
  verify "$seed" 2s || code=$?
  case $code in
    0) ;;
    3) echo "ci/seeds.sh: again, with more time" && verify "$seed" 60s ;;
    *) exit "$code" ;;
  esac
done
echo "ci/seeds.sh: ${#seeds[@]} seeds passed: ${seeds[*]}"
