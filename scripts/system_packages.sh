#!/usr/bin/env bash
# Install what some tests start: SLURM, PostgreSQL and a browser. It takes root and apt-get.
# It never fails: without these programs their tests are skipped, which one line then says.
set -uo pipefail

programs=(sbatch slurmctld slurmd munged postgres chromium)
packages=(slurm-wlm munge postgresql chromium)
policy=/usr/sbin/policy-rc.d

missing() {
  local program found=()
  for program in "${programs[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null \
      || compgen -G "/usr/lib/postgresql/*/bin/$program" >/dev/null \
      || found+=("$program")
  done
  echo "${found[*]-}"
}

apt() {
  DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -qq -o Acquire::Retries=1 \
    -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=60 "$@" </dev/null >/dev/null 2>&1
}

[ -n "$(missing)" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${packages[*]} by apt-get, for the tests that start them" >&2
  # The daemons that come with the packages would run for nothing: a test starts its own.
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
  fi
  apt update
  for package in "${packages[@]}"; do # one by one, for not every release has each of them
    apt install --yes --no-install-recommends "$package"
  done
fi
left=$(missing)
[ -z "$left" ] || echo "not installed: $left; the tests that start these are skipped" >&2
exit 0
