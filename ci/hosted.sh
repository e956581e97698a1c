#!/usr/bin/env bash
# The crate on a system other than Linux, as its own: clippy, every test that it has there but the
# model of the protocol, which is the same sums everywhere, and the examples of its docs. For the
# Windows and macOS of a hosted runner, or of a person; not yet seen to run there.
#
# tests/it is for Linux and Windows; on macOS the unit tests and the doc tests are what there is.
set -euo pipefail
cd "$(dirname "$0")"/..
rustup component add clippy
if ! cargo nextest --version >/dev/null 2>&1; then
  cargo install cargo-nextest --locked
fi

set -x
cargo clippy -p ipmpsc --all-targets --locked --features fault -- -D warnings
cargo nextest run -p ipmpsc --locked --features fault --profile foreign
cargo test --doc -p ipmpsc --locked
