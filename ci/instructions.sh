#!/usr/bin/env bash
# The instructions of a call, for messages of 64 bytes, against ipmpsc/benches/instructions.tsv:
# time is noise on a shared machine, a count is not. A call that takes 5 % more fails.
#
#   bash ci/instructions.sh            compare
#   bash ci/instructions.sh --renew    write the counts down, after a change that is worth it
#
# It needs valgrind, and installs Debian's if it is missing and this is root. The counts are those
# of one compiler: with another, they are printed and not compared.
set -euo pipefail
cd "$(dirname "$0")"/..
baseline=ipmpsc/benches/instructions.tsv
calls=(send send-bytes send-batch recv recv-zero-copy recv-bytes drain)

fail() {
  echo "ci/instructions.sh: $*" >&2
  exit 1
}

command -v valgrind >/dev/null || bash ci/apt.sh valgrind libc6-dbg || fail "no valgrind here"

compiler="$(rustc --version | cut -d' ' -f1,2) $(rustc -vV | sed -n 's/^host: //p')"
# What the calls do not come by takes the compiler's time and no instruction.
settings=(--config 'profile.bench.package."*".opt-level=0')
for name in bincode memmap2 serde serde_bytes serde_core; do
  settings+=(--config "profile.bench.package.$name.opt-level=3")
done
program=$(cargo bench -p ipmpsc --bench instructions --locked --no-run "${settings[@]}" 2>&1 |
  sed -n 's/^  Executable .*(\(.*\))$/\1/p')
[ -x "$program" ] || fail "the program that makes the calls was not built"

# Instructions of the whole program with $2 calls of kind $1.
count() {
  local log
  log=$(valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null \
    "$program" "$1" "$2" 2>&1) || fail "$1: $log"
  sed -n 's/.*I *refs: *//p' <<<"$log" | tr -d ,
}

now=$(mktemp)
trap 'rm -f "$now"' EXIT
echo "# instructions a message of 64 bytes, $compiler" >"$now"
for call in "${calls[@]}"; do
  few=$(count "$call" 3200) many=$(count "$call" 19200)
  printf '%s\t%s\n' "$call" "$(awk "BEGIN { printf \"%.1f\", ($many - $few) / 16000 }")" >>"$now"
done

if [ "${1:-}" = --renew ]; then
  cp "$now" "$baseline"
  cat "$baseline"
  exit
fi
if ! diff -q <(head -n 1 "$baseline") <(head -n 1 "$now") >/dev/null; then
  cat "$now"
  echo "ci/instructions.sh: not compared: $(head -n 1 "$baseline") is another compiler's"
  exit
fi
awk -F'\t' '
  FNR == 1 { next }
  NR == FNR { was[$1] = $2; next }
  { more = 100 * ($2 / was[$1] - 1)
    printf "%-16s %7.1f, was %7.1f: %+.1f %%\n", $1, $2, was[$1], more
    if (more > 5) failed = 1
    if (more < -5) better = 1 }
  END {
    if (better) print "ci/instructions.sh: fewer than written down; keep it so: --renew"
    exit failed }' "$baseline" "$now" || fail "a call takes over 5 % more instructions"
