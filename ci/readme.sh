#!/usr/bin/env bash
# The examples in README.md compile and run as they are printed.
#
# They are doc tests of a crate made here, and not of ipmpsc: README.md lies outside that package,
# and the codec that it recommends as an alternative is not a dependency of ours.
set -euo pipefail
cd "$(dirname "$0")"/..
root=$PWD
made=${CARGO_TARGET_DIR:-$root/target}/readme
mkdir -p "$made/src"

cat >"$made/Cargo.toml" <<TOML
[package]
name = "readme"
version = "0.0.0"
edition = "2024"
publish = false

[dependencies]
ipmpsc = { path = "$root/ipmpsc" }
postcard = { version = "1", default-features = false, features = ["use-std"] }
serde = { version = "1", features = ["derive"] }
serde_bytes = "0.11"

# Not a member of the workspace around it.
[workspace]
TOML
echo "#![doc = include_str!(\"$root/README.md\")]" >"$made/src/lib.rs"
# The versions of the workspace where both name a crate; cargo drops the rest.
cp Cargo.lock "$made/Cargo.lock"

set -x
CARGO_TARGET_DIR=$made/target cargo test --doc --manifest-path "$made/Cargo.toml"
