#!/usr/bin/env bash
# The main command, made short: it passes and leaves a report, its rows and its environment.
set -euo pipefail
cd "$(dirname "$0")"/..
out=${CARGO_TARGET_DIR:-target}/smoke
rm -rf "$out"

set -x
# --for is the time of the verification; one size and two transports keep the comparison short.
cargo run -p harness --locked -- --producers 4 --for 2s --size 1k --transport ipmpsc,pipe -q \
  --out "$out"
{ set +x; } 2>/dev/null

for file in report.md index.html summary.csv runs.jsonl env.json; do
  if [ ! -s "$out/$file" ]; then
    echo "ci/smoke.sh: $out/$file is missing or empty" >&2
    exit 1
  fi
done
echo "report, page, rows and environment are there, $(wc -l <"$out/runs.jsonl") rows"
