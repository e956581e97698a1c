#!/usr/bin/env bash
# iceoryx2 is compiled in by a feature only, so this is where it is compiled: the same questions to
# every transport, with it among them. And as this build is without the features of scripts/test:
# what a build without points says. Needs cargo-nextest, which scripts/test installs.
set -euxo pipefail
cd "$(dirname "$0")"/..
cargo nextest run -p harness --features iceoryx2 --test it --locked \
  -E 'test(conformance) or test(a_build_without_points)'
