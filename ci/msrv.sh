#!/usr/bin/env bash
# The oldest compiler that Cargo.toml promises (rust-version) still compiles all of it.
#
# Not a step of ci/all.sh: it downloads a second toolchain, about 100 MB, with rustup.
set -euxo pipefail
cd "$(dirname "$0")"/..

oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
rustup toolchain install "$oldest" --profile minimal --no-self-update

# Another compiler's results would evict those of the usual one, so they get their own folder.
cargo "+$oldest" check --workspace --all-targets --locked \
  --target-dir "${CARGO_TARGET_DIR:-target}/msrv"
