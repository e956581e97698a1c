#!/usr/bin/env bash
# The crate's unit tests and examples on Android, where that can be had.
#
#   ci/android.sh check      type check of both ABIs, with rustup's std: no NDK needed
#   ci/android.sh host       bionic's static library on this machine's own kernel
#   ci/android.sh cross      the same by the containers of `cross`, aarch64 under qemu
#   ci/android.sh emulator   on the emulator that adb finds, or else on one that it starts
#
# It needs rustup; `host` and `emulator` need ANDROID_NDK_HOME, `cross` needs Docker, `emulator`
# needs adb and, where none runs, ANDROID_HOME. tests/it is for Linux and Windows, so what runs is
# the unit tests. Only `check` is something that Debian can do too (ci/platform.sh); the rest is for
# a hosted runner, and has been read and not run.
set -euo pipefail
cd "$(dirname "$0")"/..
how=${1:?check, host, cross or emulator}
# The oldest system that the crate is for.
api=21

fail() {
  echo "ci/android.sh: $*" >&2
  exit 1
}

# Lets cargo build for target $1 with the NDK's compiler.
use_ndk() {
  local bin=${ANDROID_NDK_HOME:?set it to the NDK, which has the compiler}
  bin=$bin/toolchains/llvm/prebuilt/linux-x86_64/bin
  local upper=${1^^} clang=$bin/$1$api-clang
  [ -x "$clang" ] || fail "$clang is missing; another NDK may have it"
  export "CARGO_TARGET_${upper//-/_}_LINKER=$clang" "CC_${1//-/_}=$clang"
  export "AR_${1//-/_}=$bin/llvm-ar"
  rustup target add "$1"
}

# Starts an emulator if none runs, from the SDK that a hosted runner has.
start_emulator() {
  [ "$(adb get-state 2>/dev/null)" != device ] || return 0
  local tools=${ANDROID_HOME:?set it to the SDK, which has the emulator}/cmdline-tools/latest/bin
  local image="system-images;android-30;default;x86_64"
  yes | "$tools/sdkmanager" "$image" emulator platform-tools >/dev/null
  echo no | "$tools/avdmanager" create avd --force -n ipmpsc -k "$image"
  "$ANDROID_HOME/emulator/emulator" -avd ipmpsc -no-window -no-audio -no-boot-anim &
  emulator=$!
  trap 'kill "$emulator"' EXIT
  # shellcheck disable=SC2016 # the loop is the device's
  timeout 600 adb wait-for-device shell \
    'while [ "$(getprop sys.boot_completed)" != 1 ]; do sleep 1; done'
}

# Builds the unit tests for target $1 and prints where they are.
unit_tests() {
  cargo test -p ipmpsc --lib --no-run --locked --target "$1" --message-format json |
    python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("profile", {}).get("test") and message.get("executable"):
        print(message["executable"])'
}

case "$how" in
  check)
    for target in aarch64-linux-android x86_64-linux-android; do
      rustup target add "$target"
      # Without the tests, whose dependencies want a C compiler.
      cargo check -p ipmpsc --locked --features fault --target "$target"
    done
    ;;
  host)
    target=x86_64-linux-android
    use_ndk "$target"
    export RUSTFLAGS="-C target-feature=+crt-static"
    program=$(unit_tests "$target")
    # The folder that Android's programs have and Linux has not stands in the variable.
    TMPDIR=/tmp "$program"
    ;;
  cross)
    command -v cross >/dev/null || cargo install cross --locked
    for target in aarch64-linux-android x86_64-linux-android; do
      cross test -p ipmpsc --lib --locked --target "$target"
    done
    ;;
  emulator)
    target=x86_64-linux-android
    [ -w /dev/kvm ] || fail "/dev/kvm cannot be written, without which the emulator takes hours"
    use_ndk "$target"
    program=$(unit_tests "$target")
    start_emulator
    there=/data/local/tmp
    adb push "$program" "$there/tests"
    # adb's own exit status has not always been the program's, so the program's end is a line.
    log=$(adb shell "cd $there && chmod 755 tests && TMPDIR=$there ./tests; echo ended-with-\$?" |
      tr -d '\r')
    printf '%s\n' "$log"
    grep -q '^ended-with-0$' <<<"$log" || fail "the tests failed on the emulator"
    # Tests that lost their cfg would pass as well.
    ! grep -q '^running 0 tests' <<<"$log" || fail "no test was found"
    ;;
  *) fail "unknown: $how; check, host, cross or emulator" ;;
esac
