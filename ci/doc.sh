#!/usr/bin/env bash
# The documentation builds, without a broken link or another rustdoc warning.
set -euxo pipefail
cd "$(dirname "$0")"/..

# Only our own crates: warnings of dependencies are not ours to mend.
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --locked
