#!/usr/bin/env bash
# The tests under a sanitizer each, where the machine has one; each that is missing is named.
#
#   AddressSanitizer  unit tests and tests/it, but the simulation, whose stacks it takes for one
#   ThreadSanitizer   the ring's core under real threads over one piece of heap (ring::threads)
#   Valgrind memcheck the same
#
# What these cannot show: they see one process and one mapping. A race between two processes, or
# through two mappings of one file, is invisible to all of them.
#   bash ci/san.sh             all three
#   bash ci/san.sh address     of address, thread and valgrind, those named
# Ends with 77 if none of them could run.
set -euo pipefail
cd "$(dirname "$0")"/..
target=${CARGO_TARGET_DIR:-target}
host=x86_64-unknown-linux-gnu
wanted=("${@:-address thread valgrind}")
ran=()
skipped=()

skip() {
  echo "ci/san.sh: SKIPPED $*"
  skipped+=("${1%%:*}")
}

is_wanted() {
  [[ " ${wanted[*]} " == *" $1 "* ]]
}

# Prints the unit test binary that cargo $1 builds with the rest of the arguments.
built() {
  local cargo=$1
  shift
  $cargo test -p ipmpsc --locked --lib --no-run "$@" 2>&1 |
    sed -n 's/^  Executable .*(\(.*\))$/\1/p'
}

address() {
  if ! cargo +nightly --version >/dev/null 2>&1 || [ "$(uname -m)" != x86_64 ]; then
    skip "AddressSanitizer: it needs x86_64 and nightly (rustup toolchain install nightly)"
    return
  fi
  if ! cargo nextest --version >/dev/null 2>&1; then
    skip "AddressSanitizer: it needs cargo-nextest, which scripts/test installs"
    return
  fi
  # These measure memory, limit it or count system calls, and a sanitizer has its own of each.
  echo "ci/san.sh: not under AddressSanitizer: ring::sim, tests of costs and of limits, leaks"
  # Tests forget guards and leave by exit on purpose, so leaks are not looked for. Each test has a
  # process of its own, as some count their process's handles.
  local limits="ring::sim|costs::|running_out_of|no_memory|limit|an_open_ring_holds"
  set -x
  ASAN_OPTIONS=detect_leaks=0 RUSTFLAGS="-Zsanitizer=address" \
    cargo +nightly nextest run -p ipmpsc --locked --target "$host" --target-dir "$target/asan" \
    --profile foreign --lib --test it --test-threads 2 --status-level fail \
    -E "not test(/$limits/)"
  { set +x; } 2>/dev/null
  ran+=(AddressSanitizer)
}

# A compiler with its standard library's source and a linker with the same LLVM's runtime: Debian's
# rustc-web and clang-22. Rustup's nightly would report std's own reference counts.
thread() {
  if ! bash ci/apt.sh rustc-web rust-web-src cargo-web clang-22 libclang-rt-22-dev; then
    skip "ThreadSanitizer: it needs the packages of Debian 12 that are named above"
    return
  fi
  echo "ci/san.sh: ThreadSanitizer sees the threads of one process: not other processes, not two" \
    "mappings of one page, and no fence, so that what a fence orders may look like a race"
  local flags="-Zsanitizer=thread -Zexternal-clangrt -Clinker=clang-22 -Clink-arg=-fsanitize=thread"
  set -x
  RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" \
    /usr/bin/cargo test -p ipmpsc -Zbuild-std=std,panic_unwind,test --target "$host" \
    --target-dir "$target/tsan" --lib -- ring::threads
  { set +x; } 2>/dev/null
  ran+=(ThreadSanitizer)
}

memcheck() {
  if ! command -v valgrind >/dev/null && ! bash ci/apt.sh valgrind libc6-dbg; then
    skip "Valgrind: it is not installed"
    return
  fi
  local binary
  binary=$(built cargo)
  set -x
  valgrind -q --error-exitcode=9 --leak-check=no "$binary" ring::threads
  { set +x; } 2>/dev/null
  ran+=(Valgrind)
}

if is_wanted address; then address; fi
if is_wanted thread; then thread; fi
if is_wanted valgrind; then memcheck; fi
echo "ci/san.sh: ran: ${ran[*]:-none}; not run: ${skipped[*]:-none}"
if [ ${#ran[@]} -eq 0 ]; then
  exit 77
fi
