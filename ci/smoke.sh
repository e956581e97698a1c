#!/usr/bin/env bash
# The main command, made short: it exits with 0 and leaves a report, its rows and its environment.
set -euo pipefail
cd "$(dirname "$0")"/..
out=${CARGO_TARGET_DIR:-target}/smoke
rm -rf "$out"

set -x
cargo run -p harness --locked -- --producers 4 --for 2s -q --out "$out"
{ set +x; } 2>/dev/null

for file in report.md runs.jsonl env.json; do
  if [ ! -s "$out/latest/$file" ]; then
    echo "ci/smoke.sh: $out/latest/$file is missing or empty" >&2
    exit 1
  fi
done
echo "report.md, runs.jsonl and env.json are there, $(wc -l <"$out/latest/runs.jsonl") rows"
