#!/usr/bin/env bash
# Installs those of the Debian packages given that are missing, for the scripts here, of which two
# may want some at once. Needs root, unless nothing is missing.
set -euo pipefail
dpkg -s "$@" >/dev/null 2>&1 && exit
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "ci/apt.sh: missing, and only root can install it on Debian: $*" >&2
  exit 1
fi

exec 9>/var/lock/ipmpsc-apt
flock 9
export DEBIAN_FRONTEND=noninteractive
options=(-q -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300)
apt-get "${options[@]}" update
apt-get "${options[@]}" install -y --no-install-recommends "$@" || {
  echo "ci/apt.sh: apt-get could not install $*" >&2
  exit 1
}
