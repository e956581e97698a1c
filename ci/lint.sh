#!/usr/bin/env bash
# Formatting, clippy without a warning, and the rules of the layout that a grep can see.
set -euo pipefail
cd "$(dirname "$0")"/..

fail() {
  echo "ci/lint.sh: $*" >&2
  exit 1
}

cargo fmt --version || fail "rustfmt is missing; add it with: rustup component add rustfmt"
cargo clippy --version || fail "clippy is missing; add it with: rustup component add clippy"

set -x
cargo fmt --all --check

# `-D warnings` stands here and not in the source, so that a newer compiler's new lint cannot break
# the build of a user. The fault points and the mutants are code of their own, so both forms are
# looked at.
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy --workspace --all-targets --locked --features harness/fault,harness/mutant -- \
  -D warnings
{ set +x; } 2>/dev/null

# A platform is chosen in one file; everywhere else a `cfg(target_os)` is a leak.
leaks=$(grep -rn 'cfg(.*target_os' ipmpsc/src | grep -v '^ipmpsc/src/sys/mod\.rs:' || true)
[ -z "$leaks" ] || fail "cfg(target_os) outside ipmpsc/src/sys/mod.rs:
$leaks"

# In the harness it may also stand in front of a module that not every platform has, or of its
# stand-in, and in a test.
leaks=$(find harness/src -name '*.rs' ! -path 'harness/src/sys/*' -print0 | xargs -0 awk '
  FNR == 1 { platform = 0; in_tests = 0 }
  /^#\[cfg\((all\()?test/ { in_tests = 1 }
  in_tests { next }
  /cfg!?\(.*(target_os|target_arch|unix|windows)/ { platform = FILENAME ":" FNR; next }
  platform && /^[[:space:]]*#\[(path|macro_use)/ { next }
  platform && !/^(pub(\([a-z]*\))? )?(mod|use) / { print platform }
  { platform = 0 }')
[ -z "$leaks" ] || fail "a platform is chosen outside harness/src/sys, and not for a module:
$leaks"

# What a system tells in files of its own is asked for there too.
leaks=$(grep -rnE '"(/proc|/sys/|proc/|sys/)' --include='*.rs' harness/src |
  grep -v '^harness/src/sys/' || true)
[ -z "$leaks" ] || fail "a file of /proc or /sys is named outside harness/src/sys:
$leaks"

# The codec is an unmaintained crate (RUSTSEC-2025-0141). Named in one file, it can be replaced in
# one file. Comments may speak of it.
named=$(grep -rn 'bincode' --include='*.rs' ipmpsc/src |
  grep -v '^[^:]*:[0-9]*:[[:space:]]*//' | cut -d: -f1 | sort -u || true)
case "$named" in
  "" | ipmpsc/src/codec.rs) ;;
  *) fail "bincode is named outside ipmpsc/src/codec.rs:
$named" ;;
esac

# A file over 400 code lines (no blank lines, no comments, no test module, no line that is a mutant
# and otherwise nothing) is two files.
long=$(find ipmpsc/src -name '*.rs' -print0 | xargs -0 awk '
  FNR == 1 { for_tests = in_tests = 0 }
  for_tests && /^mod .*\{$/ { in_tests = 1 }
  { for_tests = /^#\[cfg\((all\()?test/ }
  in_tests { in_tests = !/^\}/; next }
  /^[[:space:]]*($|\/\/)/ { next }
  /^[[:space:]]*(let [a-z_]+ = )?mutant!\(.*\);$/ { next }
  { lines[FILENAME]++ }
  END { for (file in lines) if (lines[file] > 400) print file ": " lines[file] " code lines" }')
[ -z "$long" ] || fail "more than 400 code lines in one file:
$long"

# rustfmt leaves long comments and strings alone. A table in a comment cannot be broken.
wide=$(grep -rnE '^.{101,}' --include='*.rs' --include='*.sh' \
  ipmpsc harness ci | grep -vE '^[^:]*:[0-9]*:[[:space:]]*//[!/] \|' || true)
[ -z "$wide" ] || fail "lines over 100 columns:
$wide"

# Every deliberate bug has its row in the kill matrix.
bash ci/mutants.sh --check

echo "layout rules hold: platform cfg in one file, codec in one file, no file over 400 code lines"
