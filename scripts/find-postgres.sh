#!/usr/bin/env bash
# Sees to it that the tests find the programs of Postgres, from which they make servers of their own. Installs Debian's package where they are missing and
# it may. A server that VESTIBULE_TEST_DATABASE_URL names is no substitute: some tests stop theirs.
set -euo pipefail

here() {
  [ -n "${VESTIBULE_POSTGRES_BIN:-}" ] && return
  command -v initdb >/dev/null && command -v postgres >/dev/null && return
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}

here && exit
sudo=()
if [ "$(id -u)" -ne 0 ]; then sudo=(sudo -n); fi
if ! command -v apt-get >/dev/null || ! "${sudo[@]}" true 2>/dev/null; then
  echo 'The tests need Postgres 13 or later: install it, or name the directory with its programs in VESTIBULE_POSTGRES_BIN.' >&2
  exit 1
fi
# The package would make a cluster and start it as a service; nobody here asked for one.
defaults=/etc/postgresql-common/createcluster.conf
if [ ! -e "$defaults" ]; then
  "${sudo[@]}" mkdir -p "$(dirname "$defaults")"
  echo 'create_main_cluster = false' | "${sudo[@]}" tee "$defaults" >/dev/null
fi
"${sudo[@]}" apt-get update --quiet=2
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends \
  -o Dpkg::Options::=--force-confold postgresql
here
