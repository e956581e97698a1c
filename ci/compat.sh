#!/usr/bin/env bash
# The published tests and examples of ipmpsc 0.5.1 compile against this crate and pass.
#
# The published source comes from cargo, which downloads it because the harness compares with it;
# none of it is in this repository. It is taken as it is, with two changes. Its property test drops
# the cases that fail (`prop_assume!`), and here they fail the test (`prop_assert!`). And its `fork`
# forks a process that has threads: where another thread was being started or ended at that moment,
# the child hangs for ever in a lock of Rust's std, once it starts a thread or exits by std. So the
# child is ended with its parent by the kernel instead of a thread, and exits by `_exit`.
set -euo pipefail
cd "$(dirname "$0")"/..
root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
made=$target/compat

fail() {
  echo "ci/compat.sh: $*" >&2
  exit 1
}

# Prints the folder of the published package.
published_source() {
  local manifest
  manifest=$(cargo metadata --format-version 1 --locked |
    grep -o '"manifest_path":"[^"]*/ipmpsc-0\.5\.1/Cargo\.toml"' | head -n 1 | cut -d'"' -f4)
  [ -n "$manifest" ] || return 1
  dirname "$manifest"
}

# Writes the crate that the published source is compiled in: its edition, its dev-dependencies.
make_crate() {
  local published=$1
  rm -rf "$made/src" "$made/tests" "$made/examples"
  mkdir -p "$made/src" "$made/tests" "$made/examples"

  cat >"$made/Cargo.toml" <<TOML
[package]
name = "compat"
version = "0.0.0"
edition = "2018"
publish = false

[dependencies]
ipmpsc = { path = "$root/ipmpsc" }

[dev-dependencies]
anyhow = "1"
clap = "2"
errno = "0.2"
libc = "0.2"
proptest = "0.9"
serde = { version = "1", features = ["derive"] }
serde_bytes = "0.11"

# Not a member of the workspace around it.
[workspace]
TOML
  # The versions of the workspace where both name a crate; cargo drops the rest.
  cp Cargo.lock "$made/Cargo.lock"
  : >"$made/src/lib.rs"
  cp "$published/examples/ipmpsc-send.rs" "$published/examples/ipmpsc-receive.rs" "$made/examples"

  {
    # What the published tests find through `use super::*` at the top of the published lib.rs.
    echo 'pub use ipmpsc::*;'
    echo 'use serde::{Deserialize, Serialize};'
    echo 'use std::{sync::Arc, time::Duration};'
    echo 'mod os {'
    awk '/^pub mod test \{/, /^\}/' "$published/src/posix.rs" |
      sed 's/process::exit(\([01]\));*$/unsafe { libc::_exit(\1) };/; s/^ *process,$//' |
      awk '
        watcher { watcher = !/^ *\}\);/; next }
        { print }
        /drop\(alive_tx\);/ {
          print "unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };"
          watcher = 1
        }'
    echo '}'
    awk '/^#\[cfg\(test\)\]/ { found = 1 } found' "$published/src/lib.rs" |
      sed 's/prop_assume/prop_assert/'
  } >"$made/tests/published.rs"

  # The import and the one use. Anything else means that the published text is not what we think.
  [ "$(grep -c 'prop_assert' "$made/tests/published.rs")" -eq 2 ] ||
    fail "the published property test is not the one that this script knows"
  # Both ways out of the child; the third was the thread's.
  [ "$(grep -c '_exit(' "$made/tests/published.rs")" -eq 2 ] ||
    fail "the published fork is not the one that this script knows"
}

# Waits until file $1 has $2 lines; the bound is for a receiver that never gets there.
await_lines() {
  local tries=0
  until [ "$(wc -l <"$1")" -ge "$2" ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || return 1
    sleep 0.05
  done
}

receiver=""
scratch=$(mktemp -d)
clean_up() {
  [ -z "$receiver" ] || kill "$receiver" 2>/dev/null || true
  rm -rf "$scratch"
}
trap clean_up EXIT

# Sends three lines with example $1 to example $2, started with the arguments that follow.
exchange() {
  local send=$1 receive=$2
  shift 2
  local ring=$scratch/ring printed=$scratch/printed

  # Emptied here: the receiver's shell may be slow to do it, and what the last one printed would be
  # taken for its word that it is ready.
  : >"$printed"
  "$receive" "$@" "$ring" >>"$printed" &
  receiver=$!
  await_lines "$printed" 1 || fail "$receive $* never said that it is ready"
  printf 'one\nsome "quoted" text\nno newline at the end' | "$send" "$ring" >/dev/null
  await_lines "$printed" 4 || fail "$receive $* printed only: $(cat "$printed")"
  kill "$receiver"
  wait "$receiver" 2>/dev/null || true
  receiver=""

  diff - <(tail -n +2 "$printed") <<'TXT' || fail "$receive $* printed something else than 0.5.1's"
received "one\n"
received "some \"quoted\" text\n"
received "no newline at the end"
TXT
  echo "ok: $send -> $receive $*"
}

cargo fetch --locked
source_dir=$(published_source) ||
  fail "ipmpsc 0.5.1 is not among the packages of this workspace; the harness should depend on it"
make_crate "$source_dir"

set -x
cd "$made"
export CARGO_TARGET_DIR=$made/target
cargo test --test published
# The examples deny warnings themselves, which is why they are compiled without a cap on lints.
cargo build --examples
# The same words as in scripts/test, which has built them.
(cd "$root" && CARGO_TARGET_DIR=$target \
  cargo build --workspace --features harness/fault,harness/mutant --examples --locked)
{ set +x; } 2>/dev/null

theirs=$made/target/debug/examples
ours=$target/debug/examples
exchange "$theirs/ipmpsc-send" "$theirs/ipmpsc-receive"
exchange "$theirs/ipmpsc-send" "$theirs/ipmpsc-receive" --zero-copy
# Our own examples keep the names, the command lines and the output.
exchange "$ours/ipmpsc-send" "$ours/ipmpsc-receive"
exchange "$ours/ipmpsc-send" "$ours/ipmpsc-receive" --zero-copy
