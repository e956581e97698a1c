#!/usr/bin/env bash
# The catalogue of faults, row by row: brought about on every transport that can take it, by the
# crate's own tests, at every named point of the protocol and under load. Prints the catalogue with
# a verdict for each row, or why it cannot be brought about; a row with neither is a failure.
#
# Not shown: that a row looks for all that can go wrong. 0.5.1 must fail where it is known to, or
# the run is inconclusive, which fails as well.
#   bash ci/matrix.sh           into target/matrix
#   bash ci/matrix.sh FOLDER    the report, the rows and faults.csv into FOLDER/all
set -euo pipefail
cd "$(dirname "$0")"/..
out=${1:-${CARGO_TARGET_DIR:-target}/matrix}
rm -rf "${out:?}"/{faults,points,create,load,all}
harness=(cargo run -q -p harness --features fault --locked --)

set -x
"${harness[@]}" torture --matrix -q --out "$out/faults"
"${harness[@]}" torture --sweep points -q --out "$out/points"
# A ring being made has no named points.
"${harness[@]}" torture --sweep instructions --only create -q --out "$out/create"
"${harness[@]}" torture --kills 500 -q --out "$out/load"
{ set +x; } 2>/dev/null

mkdir -p "$out/all"
cat "$out"/{faults,points,create,load}/runs.jsonl >"$out/all/runs.jsonl"
cp "$out/faults/env.json" "$out/all"
"${harness[@]}" report "$out/all"
"${harness[@]}" torture --list --out "$out/all" | tee "$out/all/catalogue.txt"
# What cannot be brought about here: not at all, or on another system.
elsewhere='^[A-Z][0-9]* *\(n/a\|windows\|wine\) '
if grep -v "$elsewhere" "$out/all/catalogue.txt" | grep '; -$'; then
  echo "ci/matrix.sh: the rows above have no verdict" >&2
  exit 1
fi
rows=$(grep -vc "$elsewhere" "$out/all/catalogue.txt")
no=$(grep -c "$elsewhere" "$out/all/catalogue.txt")
echo "ci/matrix.sh: $rows rows have verdicts, $no cannot have one here, for the reason given"
