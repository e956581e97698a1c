#!/usr/bin/env bash
# Every check, in order, with the wall time of each; the first failure ends the run.
#
# It needs Rust (stable, with rustfmt and clippy) and a network for the crates, nothing else. The
# cheap steps come first, so that a missing comma does not cost the time of a full test run. The
# last one, `platforms`, installs compilers and emulators on Debian 12, as root, and elsewhere says
# that it ran nothing.
#   bash ci/all.sh              all of it
#   bash ci/all.sh lint doc     these steps only
set -euo pipefail
cd "$(dirname "$0")"/..

# A panic in a child process of a test reaches the log as text alone, so it has to carry its trace.
export RUST_BACKTRACE="${RUST_BACKTRACE:-1}"

steps=("$@")
if [ ${#steps[@]} -eq 0 ]; then
  steps=(lint workflows doc readme test loom compat release-clean instructions smoke points replay
    seeds iceoryx2 report page platforms)
fi

# What other platforms need is built from what the steps before leave of the processors. How that
# goes is the last step's to say, which waits for it and does what is left.
installing=""
if [[ " ${steps[*]} " == *" platforms "* ]]; then
  nice -n 19 bash ci/platforms.sh install >/dev/null 2>&1 &
  installing=$!
fi

summary=()

# Prints one line a step, also for those that a failure kept from running.
print_summary() {
  echo
  echo "== summary"
  printf '%s\n' "${summary[@]}"
  echo "total ${SECONDS} s"
}

failed=""
for name in "${steps[@]}"; do
  if [ -n "$failed" ]; then
    summary+=("$(printf '%-14s not run' "$name")")
    continue
  fi
  case "$name" in
    # The one check that is a person's command too; the profile makes failures readable in a log.
    test) command=(bash scripts/test --profile ci) ;;
    # On a slow machine it names what is left rather than make the whole run last 40 minutes.
    platforms)
      left=${PLATFORMS_LIMIT_S:-$((2100 - SECONDS))}
      command=(env "PLATFORMS_LIMIT_S=$left" bash ci/platforms.sh)
      ;;
    *) command=(bash "ci/$name.sh") ;;
  esac
  echo
  echo "== $name: ${command[*]}"
  began=$SECONDS
  if "${command[@]}"; then
    verdict=passed
  else
    verdict=FAILED
    failed=$name
  fi
  took=$((SECONDS - began))
  echo "== $name: $verdict in $took s"
  summary+=("$(printf '%-14s %s in %d s' "$name" "$verdict" "$took")")
done

# Not broken off when a step failed, as it may be amid an installation.
[ -z "$installing" ] || wait "$installing" || true
print_summary
if [ -n "$failed" ]; then
  echo "ci/all.sh: step '$failed' failed; run it alone with: bash ci/all.sh $failed" >&2
  exit 1
fi
echo "ci/all.sh: ${#steps[@]} steps passed"
