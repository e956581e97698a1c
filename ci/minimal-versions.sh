#!/usr/bin/env bash
# The crate compiles with the oldest versions of its direct dependencies that Cargo.toml allows.
#
# It needs a nightly compiler, for the resolution only. Not a step of ci/all.sh.
set -euxo pipefail
cd "$(dirname "$0")"/..

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
# A copy, since the resolution rewrites Cargo.lock.
git ls-files -z | xargs -0 cp --parents -t "$made"
cd "$made"
rm Cargo.lock
rustup toolchain install nightly --profile minimal --no-self-update
cargo +nightly update -Z direct-minimal-versions
cargo check -p ipmpsc --all-features
