#!/usr/bin/env bash
# What is published is what its rows say: every report, the index over them and the README's table
# are made again in memory and compared byte for byte. A run that is older than ipmpsc's sources is
# named, and no failure: measuring again takes a quiet machine, not a CI job.
set -euxo pipefail
cd "$(dirname "$0")"/..
cargo run -p harness --locked -- report --check
