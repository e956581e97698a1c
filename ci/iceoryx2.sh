#!/usr/bin/env bash
# iceoryx2 is compiled in by a feature only, so this is where it is compiled: the same questions to
# every transport, with it among them. Needs cargo-nextest, which scripts/test installs.
set -euxo pipefail
cd "$(dirname "$0")"/..
cargo nextest run -p harness --features iceoryx2 --locked -E 'kind(bin) or test(conformance)'
