#!/usr/bin/env bash
# Tests the tests: every deliberate bug of ipmpsc/src/mutants.rs must be caught.
#
# One build has them all (the feature `mutant`), and the variable IPMPSC_MUTANT chooses. First every
# method must pass without a mutant. Then each mutant meets them in turn, the quickest first, until
# one fails:
#   simulation   random schedules of virtual processes over ring.rs (src/ring/sim.rs)
#   loom         all schedules and reorderings of a few short ones (src/ring/tests.rs)
#   model        random calls against a model of the channel (tests/it/model.rs)
#   processes    the rest of the suite: real processes, kills, files, time (tests/it)
#
#   bash ci/mutants.sh                    all mutants, in some minutes
#   bash ci/mutants.sh --all              every method for every mutant: rewrites the kill matrix,
#                                         ipmpsc/tests/mutants.md; an hour
#   bash ci/mutants.sh peek-relaxed ...   these mutants
#   bash ci/mutants.sh --check            only that code, list and kill matrix name the same ones
set -euo pipefail
cd "$(dirname "$0")"/..
target=${CARGO_TARGET_DIR:-target}
features=ipmpsc/fault,ipmpsc/mutant
matrix=ipmpsc/tests/mutants.md
methods=(simulation loom model processes)
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}" RUST_BACKTRACE=0
# A mutant can make a test wait for ever, which is as good as a failure.
limit_s=240

fail() {
  echo "ci/mutants.sh: $*" >&2
  exit 1
}

# The mutants and what is wrong with them, as the table in mutants.rs says, a line each.
table() {
  sed -n 's/^\/\/! | `\([a-z-]*\)` | \(.*\) |$/\1 \2/p' ipmpsc/src/mutants.rs
}

# The names that the source uses, each of which must be in the table, and the other way round.
check_table() {
  diff <(table | cut -d' ' -f1 | sort) \
    <(grep -rhoE 'mutant!\("[a-z-]+"' ipmpsc/src | cut -d'"' -f2 | sort -u) ||
    fail "the table in ipmpsc/src/mutants.rs and the uses of mutant! differ"
  diff <(table | sort) <(sed -n 's/^| `\([a-z-]*\)` | \([^|]*\) |.*/\1 \2/p' "$matrix" | sort) ||
    fail "$matrix does not have the mutants of ipmpsc/src/mutants.rs: write it with --all"
  ! grep '| | | | |$' "$matrix" || fail "$matrix has a mutant that nothing catches"
}

# Prints the path of the test binary that cargo builds with the arguments given.
built() {
  cargo test -p ipmpsc --locked --no-run "$@" 2>&1 |
    sed -n 's/^  Executable .*(\(.*\))$/\1/p' | tail -n 1
}

build() {
  unit=$(built --lib --features "$features")
  # Without the fault points: loom has its own.
  loom=$(RUSTFLAGS="${RUSTFLAGS:-} --cfg loom" built --lib --profile cheap \
    --features ipmpsc/mutant --target-dir "$target/loom")
  cargo nextest run -p ipmpsc --features "$features" --test it --locked --no-run
  if [ ! -x "$unit" ] || [ ! -x "$loom" ]; then
    fail "the unit tests were not built"
  fi
}

# The tests of tests/it that filter $1 selects; a failure that a second try does not confirm is
# the machine's and not the mutant's.
integration() {
  cargo nextest run -p ipmpsc --features "$features" --test it --locked --profile mutants \
    --retries 1 --fail-fast --hide-progress-bar -E "$1"
}

# Runs method $1 with the chosen mutant.
run() {
  case "$1" in
    simulation) timeout "$limit_s" "$unit" ring::sim ;;
    loom) timeout "$limit_s" "$loom" ;;
    model) timeout "$limit_s" bash -c "$(declare -f integration); features=$features; \
      integration 'test(/^model::/)'" ;;
    processes) timeout "$limit_s" bash -c "$(declare -f integration); features=$features; \
      integration 'not test(/^model::/)'" ;;
  esac
}

# The first test that failed in log $1, if the log names one.
culprit() {
  awk '
    /^ *(TRY [0-9]+ )?(FAIL|TMT|TIMEOUT|ABORT|SIG[A-Z]+) .* ipmpsc::it / { found = $NF }
    /^thread .* panicked at / { found = substr($2, 2, length($2) - 2) }
    found { sub(/.*::/, "", found); print found; exit }' "$1"
}

if [ "${1:-}" = --all ]; then
  all=yes
  shift
else
  all=no
fi
chosen=("$@")
check_table
[ "${1:-}" != --check ] || exit 0
set -x
build
{ set +x; } 2>/dev/null

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for method in "${methods[@]}"; do
  run "$method" >"$scratch/log" 2>&1 ||
    fail "$method fails without any mutant: $(culprit "$scratch/log") $(tail -n 3 "$scratch/log")"
  echo "without a mutant, $method passes"
done

survivors=()
rows=()
count=0
while read -r name what; do
  [ ${#chosen[@]} -eq 0 ] || [[ " ${chosen[*]} " == *" $name "* ]] || continue
  count=$((count + 1))
  row="| \`$name\` | $what |"
  caught=""
  for method in "${methods[@]}"; do
    if [ $all = no ] && [ -n "$caught" ]; then
      break
    fi
    if IPMPSC_MUTANT=$name run "$method" >"$scratch/log" 2>&1 </dev/null; then
      row+=" |"
    else
      by=$(culprit "$scratch/log")
      caught+=" $method (${by:-it hung})"
      if [ "$method" = processes ]; then row+=" ${by:-hangs} |"; else row+=" yes |"; fi
    fi
  done
  rows+=("$row")
  printf '%-28s%s\n' "$name" "${caught:- SURVIVES}"
  [ -n "$caught" ] || survivors+=("$name")
done < <(table)

if [ $all = yes ] && [ ${#chosen[@]} -eq 0 ]; then
  {
    echo '# The kill matrix: which method catches which deliberate bug'
    echo
    echo 'Written by `bash ci/mutants.sh --all`. The bugs are in `ipmpsc/src/mutants.rs`; for real'
    echo 'processes, the first test that fails is named.'
    echo
    echo '| mutant | what is wrong | simulation | loom | model | real processes |'
    echo '|---|---|---|---|---|---|'
    printf '%s\n' "${rows[@]}"
  } >"$matrix"
fi
[ ${#survivors[@]} -eq 0 ] || fail "these survive: ${survivors[*]}"
echo "ci/mutants.sh: $count mutants, all caught"
