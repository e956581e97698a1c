#!/usr/bin/env bash
# The tests under a sanitizer each, where the machine has one; each that is missing is named.
#
#   AddressSanitizer  unit tests and tests/it, but the simulation, whose stacks it takes for one
#   ThreadSanitizer   the ring's core under real threads over one piece of heap (ring::threads)
#   Valgrind memcheck the same
#
# What these cannot show: they see one process and one mapping. A race between two processes, or
# through two mappings of one file, is invisible to all of them.
set -euo pipefail
cd "$(dirname "$0")"/..
target=${CARGO_TARGET_DIR:-target}
host=x86_64-unknown-linux-gnu
ran=0

skip() {
  echo "ci/san.sh: SKIPPED $*"
}

# Prints the unit test binary that cargo $1 builds with the rest of the arguments.
built() {
  local cargo=$1
  shift
  $cargo test -p ipmpsc --locked --lib --no-run "$@" 2>&1 |
    sed -n 's/^  Executable .*(\(.*\))$/\1/p'
}

if cargo +nightly --version >/dev/null 2>&1 && [ "$(uname -m)" = x86_64 ]; then
  # These measure memory, limit it or count system calls, and a sanitizer has its own of each.
  skip "under AddressSanitizer: ring::sim, tests of costs and of limits, the search for leaks"
  # Tests forget guards and leave by exit on purpose, so leaks are not looked for.
  set -x
  ASAN_OPTIONS=detect_leaks=0 RUSTFLAGS="-Zsanitizer=address" \
    cargo +nightly test -p ipmpsc --locked --target "$host" --target-dir "$target/asan" \
    --lib --test it -- --skip ring::sim --skip costs:: --skip running_out_of --skip limit \
    --skip an_open_ring_holds --test-threads=2
  { set +x; } 2>/dev/null
  ran=$((ran + 1))
else
  skip "AddressSanitizer: it needs the nightly compiler (rustup toolchain install nightly), x86_64"
fi

# A compiler with its standard library's source and a linker with the same LLVM's runtime: Debian's
# rustc-web and clang-22. Rustup's nightly would report std's own reference counts.
if command -v clang-22 >/dev/null && [ -d /usr/lib/rustlib/src/rust/library ]; then
  flags="-Zsanitizer=thread -Zexternal-clangrt -Clinker=clang-22 -Clink-arg=-fsanitize=thread"
  set -x
  RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" \
    /usr/bin/cargo test -p ipmpsc -Zbuild-std=std,panic_unwind,test --target "$host" \
    --target-dir "$target/tsan" --lib -- ring::threads
  { set +x; } 2>/dev/null
  ran=$((ran + 1))
else
  skip "ThreadSanitizer: it needs Debian's rustc-web, rust-src-web, clang-22, libclang-rt-22-dev"
fi

if command -v valgrind >/dev/null; then
  binary=$(built cargo)
  set -x
  valgrind -q --error-exitcode=9 --leak-check=no "$binary" ring::threads
  { set +x; } 2>/dev/null
  ran=$((ran + 1))
else
  skip "Valgrind: it is not installed"
fi
echo "ci/san.sh: $ran of 3 ran"
