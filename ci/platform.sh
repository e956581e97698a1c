#!/usr/bin/env bash
# The crate on another platform: every test but the protocol's model, which is the same sums there,
# where its programs can run here; clippy where other code is compiled than ci/lint.sh sees. The
# harness there: verify, everything in short, torture.
#
#   ci/platform.sh TARGET [arguments for nextest]
#   ci/platform.sh mixed                            32- and 64-bit processes on one ring
#   ci/platform.sh harness-TARGET
#   ci/platform.sh harness-mixed                    i686 and musl producers, an x86_64 consumer
#
# Where the harness cannot run, clippy is all there is.
#
# Run ci/foreign-std.sh TARGET first. Windows runs under wine, which is no Windows: it says whether
# the calls are right, nothing about speed, NTFS, sessions or access rights. aarch64 runs under
# qemu on a processor that reorders less than a real one. Android, Windows' other ABI and the macOS
# of Intel are checked and not linked, that of Apple's own processors is linked and not run.
set -euo pipefail
cd "$(dirname "$0")"/..
target=$1
shift

if ! cargo nextest --version >/dev/null 2>&1; then
  echo "ci/platform.sh: building cargo-nextest, which is missing, once: some minutes" >&2
  cargo install cargo-nextest --locked
fi

# What runs on this machine's own platform is what scripts/test and the main command have built.
at_home=(env -u RUSTC -u RUSTDOC -u CARGO "PATH=$PATH"
  "CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}" cargo)
# Debian's compiler, which has these targets' std, and its clippy.
export PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc CARGO=/usr/bin/cargo
folder=${CARGO_TARGET_DIR:-$PWD/target}/platform
export CARGO_TARGET_DIR=$folder
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# Debian's wine has no preloader, which keeps the addresses that Windows programs count on. Without
# it the kernel puts the heap at random, once in some thousand starts onto Windows' shared page, and
# wine gives up with c0000018, to whoever starts the process error 1359. So nothing is random here.
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER="setarch -R wine"
export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
export WINEPREFIX=${WINEPREFIX:-$folder/wine} WINEDEBUG=-all

# What was built with an earlier std cannot be used with this one.
start_clean_with_another_std() {
  local std
  std=$(cd "/usr/lib/rustlib/$1/lib" && echo libstd-*.rmeta)
  if [ "$(cat "$folder/std-of-$1" 2>/dev/null)" != "$std" ]; then
    rm -rf "${folder:?}/$1"
    mkdir -p "$folder"
    echo "$std" >"$folder/std-of-$1"
  fi
}

# The children of a program under qemu are started by the kernel, which must know their format.
let_the_kernel_use_qemu() {
  export IPMPSC_TEST_QEMU=1
  local known=/proc/sys/fs/binfmt_misc
  mountpoint -q $known || mount -t binfmt_misc none $known || {
    echo "ci/platform.sh: mounting $known was refused; qemu's programs need it" >&2
    return 1
  }
  [ -e $known/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf >$known/register
}

# A server that stays, started before the tests with no pipe of theirs: whichever program starts
# wine's services leaves them its own, and nextest would wait for these to end.
start_wine() {
  local system=$WINEPREFIX/drive_c/windows/system32
  if [ ! -e "$system/bcryptprimitives.dll" ]; then
    mkdir -p "$WINEPREFIX"
    wineboot -i </dev/null >/dev/null 2>&1
    wineserver -w
    # wine 8.0 lacks this library, of which Rust's std wants one function: random bytes.
    cat >"$folder/random.c" <<'C'
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID to, ULONG len);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE to, SIZE_T len) {
  while (len) {
    ULONG some = len > 1 << 28 ? 1 << 28 : (ULONG)len;
    if (!SystemFunction036(to, some)) return FALSE;
    to += some;
    len -= some;
  }
  return TRUE;
}
BOOL WINAPI DllMain(HINSTANCE library, DWORD reason, LPVOID reserved) { return TRUE; }
C
    x86_64-w64-mingw32-gcc -shared -O2 -o "$system/bcryptprimitives.dll" "$folder/random.c" \
      -ladvapi32
  fi
  trap 'wineserver -k || true' EXIT
  wineserver -p </dev/null >/dev/null 2>&1
  timeout 120 setarch -R wine cmd /c exit </dev/null >/dev/null 2>&1
}

# Some dev-dependencies compile a little C, and these targets have no C compiler here. What is only
# checked, or does not call that C, gets objects and archives with nothing in them.
without_a_c_compiler() {
  local compiler=$folder/no-c name=${1//-/_}
  mkdir -p "$folder"
  cat >"$compiler" <<'SH'
#!/usr/bin/env bash
for argument in "$@"; do
  case "$argument" in
    *.o | *.a | *.lib)
      made=${argument#-Fo}
      made=${made#-out:}
      [ -e "$made" ] || printf '!<arch>\n' >"$made"
      ;;
  esac
done
SH
  chmod +x "$compiler"
  export "CC_$name=$compiler" "AR_$name=$compiler"
}

lint() {
  start_clean_with_another_std "$1"
  # Clippy 1.96 asks for a `const` that is there, where a target's thread locals are made otherwise.
  cargo-clippy clippy -p ipmpsc --target "$1" --all-targets --locked --features fault \
    -- -D warnings -A clippy::missing_const_for_thread_local
}

# A type check does not notice a function that no library has. zig, a wheel of 100 MB, carries the
# list of Apple's; what the crate looks up at run time is looked up in that list here.
link_for_apple() {
  local zig=$folder/zig/bin/python list name
  [ -x "$zig" ] || python3 -m venv "$folder/zig"
  "$zig" -m pip install -q ziglang==0.17.1
  # zig has no libiconv, which std names and uses nothing of.
  cat >"$folder/zigcc" <<SH
#!/usr/bin/env bash
kept=()
for argument in "\$@"; do [ "\$argument" = -liconv ] || kept+=("\$argument"); done
exec "$zig" -m ziglang cc -target aarch64-macos "\${kept[@]}"
SH
  chmod +x "$folder/zigcc"
  export CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER=$folder/zigcc
  cargo build -p ipmpsc --target "$1" --examples --profile cheap --locked
  list=$(find "$folder/zig" -name libSystem.tbd)
  for name in $(grep -o 'c"os_[a-z_]*' ipmpsc/src/sys/macos.rs | cut -c3-); do
    grep -qE "\b_$name\b" "$list" || {
      echo "ci/platform.sh: macOS has no $name" >&2
      return 1
    }
  done
}

# Finds the tests that start processes in the list of `cargo nextest list`.
tests_in() {
  python3 -c 'import json, sys
suites = json.load(sys.stdin)["rust-suites"]
print(suites["ipmpsc::it"]["binary-path"])'
}

# The harness's program for a target, which this builds.
harness_of() {
  start_clean_with_another_std "$1"
  cargo build -q -p harness --target "$1" --profile cheap --locked || return
  local program=$folder/$1/cheap/harness
  [ ! -e "$program.exe" ] || program=$program.exe
  echo "$program"
}

# Runs a program, which passes if no promise was broken. Exit code 3 is that of a machine too noisy,
# or too slow to come by everything in its time, and passes as long as nothing has failed.
must_hold() {
  local said=$folder/said code=0
  echo "+ $*"
  "$@" --out "$folder/results" 2>&1 | tee "$said" || code=$?
  case $code in
    0) ;;
    3)
      tail -n 1 "$said" | grep -q ' 0 failed,' || return 3
      echo "ci/platform.sh: inconclusive, and nothing failed: passed"
      ;;
    *) return "$code" ;;
  esac
}

# Every form of a run of the harness, and a torture of so many faults, by way of the words given.
put_to_use() {
  local faults=$1
  shift
  must_hold "$@" verify
  must_hold "$@" --profile quick
  must_hold "$@" torture --kills "$faults"
}

lint_harness() {
  start_clean_with_another_std "$1"
  cargo-clippy clippy -p harness --target "$1" --locked \
    -- -D warnings -A clippy::missing_const_for_thread_local
}

suite=(-p ipmpsc --features fault --cargo-profile cheap --locked --profile foreign)
run=(cargo nextest run "${suite[@]}")
case "$target" in
  harness-mixed)
    "${at_home[@]}" build -p harness --locked
    large=${folder%/platform}/debug/harness
    small=$(harness_of i686-unknown-linux-gnu)
    static=$(harness_of x86_64-unknown-linux-musl)
    builds=(--producer-bin "$small" --producer-bin "$static" --producer-bin "$large")
    must_hold "$large" verify "${builds[@]}"
    must_hold "$large" torture --kills 300 "${builds[@]}"
    # And the other way round: who is 32 bits wide makes the ring.
    must_hold "$small" torture --kills 150 --producer-bin "$large"
    exit
    ;;
  harness-*-android | harness-*-msvc | harness-*-apple-*)
    without_a_c_compiler "${target#harness-}"
    lint_harness "${target#harness-}"
    exit
    ;;
  harness-*)
    target=${target#harness-}
    program=$(harness_of "$target")
    case "$target" in
      # A wine that has no pipe of ours, and kills enough for 300 of producers.
      *-windows-*)
        lint_harness "$target"
        start_wine
        put_to_use 600 setarch -R wine "$program"
        ;;
      # Workers by way of the runner, as a system without qemu's formats would need it.
      aarch64-*)
        export HARNESS_RUNNER=qemu-aarch64-static
        put_to_use 60 qemu-aarch64-static "$program"
        ;;
      *) put_to_use 300 "$program" ;;
    esac
    exit
    ;;
  mixed)
    # The parent of each test is of one kind, its children of the other.
    small=i686-unknown-linux-gnu
    start_clean_with_another_std $small
    # The same words as in scripts/test, so that nothing is built again.
    large=(--workspace --features "harness/fault,harness/mutant" --locked)
    small_tests=$(cargo nextest list "${suite[@]}" --target $small --message-format json | tests_in)
    large_tests=$("${at_home[@]}" nextest list "${large[@]}" --message-format json | tests_in)
    set -x
    IPMPSC_TEST_PEER=$small_tests "${at_home[@]}" nextest run "${large[@]}" --profile foreign \
      -E 'package(ipmpsc)' "$@"
    IPMPSC_TEST_PEER=$large_tests "${run[@]}" --target $small "$@"
    exit
    ;;
  aarch64-apple-*)
    without_a_c_compiler "$target"
    lint "$target"
    link_for_apple "$target"
    exit
    ;;
  *-android* | *-msvc | x86_64-apple-*)
    without_a_c_compiler "$target"
    lint "$target"
    exit
    ;;
  *-windows-*)
    lint "$target"
    start_wine
    ;;
  aarch64-*) let_the_kernel_use_qemu ;;
esac
start_clean_with_another_std "$target"
set -x
"${run[@]}" --target "$target" "$@"
cargo test --doc -q -p ipmpsc --profile cheap --target "$target" --locked
