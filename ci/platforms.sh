#!/usr/bin/env bash
# The crate and the harness on every platform that this machine can run, check or link, a verdict a
# line.
#
#   bash ci/platforms.sh                all of them
#   bash ci/platforms.sh TARGET...      these only; `mixed` is 32- and 64-bit processes on one ring,
#                                       `harness-TARGET` the harness there
#   bash ci/platforms.sh install ...    only what they need
#
# It needs Debian 12, x86_64 and root, installs all else by ci/foreign-std.sh, and fails where that
# fails. On another machine it runs nothing and says so: there, a target that rustup can add and
# whose programs run is tested by scripts/test. What nothing here can run stands in the last lines,
# and so does what was not begun within PLATFORMS_LIMIT_S seconds, if that is set.
set -euo pipefail
cd "$(dirname "$0")"/..
logs=${CARGO_TARGET_DIR:-$PWD/target}/platforms
mkdir -p "$logs"

only_install=""
if [ "${1:-}" = install ]; then
  only_install=yes
  shift
fi
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  targets=(i686-unknown-linux-gnu mixed x86_64-unknown-linux-musl x86_64-pc-windows-gnu
    aarch64-unknown-linux-gnu x86_64-linux-android aarch64-linux-android
    x86_64-pc-windows-msvc aarch64-apple-darwin x86_64-apple-darwin
    harness-i686-unknown-linux-gnu harness-x86_64-unknown-linux-musl harness-mixed
    harness-x86_64-pc-windows-gnu harness-aarch64-unknown-linux-gnu
    harness-aarch64-linux-android harness-x86_64-pc-windows-msvc harness-aarch64-apple-darwin)
fi

why=""
[ "$(id -u)" = 0 ] || why="not root"
[ "$(uname -m)" = x86_64 ] || why="not x86_64"
grep -q '^VERSION_ID="12"' /etc/os-release 2>/dev/null && grep -q '^ID=debian' /etc/os-release ||
  why="not Debian 12"
if [ -n "$why" ]; then
  printf "%-34s NOT RUN: $why, so ci/foreign-std.sh cannot install it\n" "${targets[@]}"
  exit 0
fi

# What the end of ci/platform.sh means for a target.
meaning() {
  case "$1" in
    *-windows-gnu) echo "passed under wine, which is no Windows" ;;
    *aarch64-unknown-*) echo "passed under qemu, which shows no weak ordering" ;;
    *-android | *-msvc | x86_64-apple-* | harness-*-apple-*)
      echo "checked by compiler and clippy, NOT RUN: no system for it here"
      ;;
    aarch64-apple-*) echo "linked, NOT RUN: no system for it here" ;;
    *) echo "passed" ;;
  esac
}

verdicts=()
failed=0
note() {
  local line
  line=$(printf '%-34s %s' "$1" "$2")
  echo "$line"
  verdicts+=("$line")
}

# All at once, so that cargo builds for one target beside another.
needs=()
for target in "${targets[@]}"; do
  case "$target" in
    mixed) needs+=(i686-unknown-linux-gnu) ;;
    harness-mixed) needs+=(i686-unknown-linux-gnu x86_64-unknown-linux-musl) ;;
    *) needs+=("${target#harness-}") ;;
  esac
done
mapfile -t needs < <(printf '%s\n' "${needs[@]}" | sort -u)
if ! bash ci/foreign-std.sh "${needs[@]}" >"$logs/install.log" 2>&1; then
  tail -n 40 "$logs/install.log"
  printf '%-34s NOT RUN: what it needs was not installed\n' "${targets[@]}"
  exit 1
fi
echo "installed what they need in $SECONDS s"
[ -z "$only_install" ] || exit 0

for target in "${targets[@]}"; do
  began=$SECONDS
  if [ "$began" -ge "${PLATFORMS_LIMIT_S:-$((began + 1))}" ]; then
    note "$target" "NOT RUN: the time is up after $began s; alone: bash ci/platforms.sh $target"
    continue
  fi
  log=$logs/$target.log
  if bash ci/platform.sh "$target" >"$log" 2>&1; then
    tests=$(sed -n 's/.*\] *\([0-9]* tests\) run: .*/\1/p' "$log" | paste -sd, | sed 's/,/ and /')
    # What each run of the harness came to, and which of them did not come by everything.
    runs=$(sed -n 's/^harness: \(.*\)/\1/p' "$log" | paste -sd';' | sed 's/;/; /g')
    unclear=$(grep -c '^ci/platform.sh: inconclusive' "$log" || true)
    [ "$unclear" = 0 ] || runs="$runs; $unclear of these inconclusive"
    note "$target" "$(meaning "$target")${tests:+; $tests}${runs:+; $runs} ($((SECONDS - began)) s)"
  else
    tail -n 100 "$log"
    note "$target" "FAILED in $((SECONDS - began)) s; alone: bash ci/platform.sh $target"
    failed=1
  fi
done

echo
echo "== platforms"
printf '%s\n' "${verdicts[@]}"
echo "never run here: Windows itself, Android, macOS, ARM itself: see .github/workflows"
exit $failed
