#!/usr/bin/env bash
# The public interface breaks nothing that the last release of this minor version had.
#
# It needs cargo-semver-checks, which it builds once (some minutes), and a released version of the
# same minor: before 0.6.0 is out there is nothing to compare with, and that is said.
# Read only: it has not been run against a release.
set -euo pipefail
cd "$(dirname "$0")"/..

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
minor=${version%.*}
released=$(cargo info --registry crates-io ipmpsc | sed -n 's/^version: \([0-9.]*\).*/\1/p')
if [[ "$released" != "$minor".* ]]; then
  echo "ci/semver.sh: NOT RUN: $minor has no release yet, the last one is ${released:-unknown}"
  exit 0
fi
cargo semver-checks --version >/dev/null 2>&1 || cargo install cargo-semver-checks --locked
set -x
cargo semver-checks -p ipmpsc --baseline-version "$released"
