#!/usr/bin/env bash
# What a fail-over of the database loses: nothing, and this shows it.
#
# Makes two Postgres servers on loopback, a primary and its synchronous standby, and lets the service work on both
# (`database.url` names two hosts). Under a load of sign-ups and confirmations the primary is killed with `kill -9` and the standby
# promoted. Then every acknowledged step is looked for on the new primary. Prints the counts and the time without service; ends badly
# if a step is lost. Takes half a minute after the build. Needs the programs of Postgres 13 or later; everything it makes is in a
# temporary directory and goes with it.
#
# `scripts/failover.sh control` does the same with a standby that is not synchronous and is cut off two seconds before the kill: steps
# must be lost then, or the audit proves nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${VESTIBULE_POSTGRES_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)}
[ -x "$bin/postgres" ] || bin=$(dirname "$(command -v postgres)")

# Postgres does not run as root.
ordinary() {
  if [ "$(id -u)" -ne 0 ]; then "$@"; else setpriv --reuid=postgres --regid=postgres --init-groups "$@"; fi
}

sql() { ordinary "$bin/psql" --host 127.0.0.1 --port "$1" --username postgres --no-psqlrc --tuples-only --no-align --command "$2"; }

# The fault itself, which the load asks for when it is under way.
if [ "${1:-}" = fail ]; then
  home=$2 mode=$3 second=$4
  if [ "$mode" = control ]; then
    sql "$second" "ALTER SYSTEM SET primary_conninfo = ''" >/dev/null
    sql "$second" 'SELECT pg_reload_conf()' >/dev/null
    sleep 2
  fi
  kill -KILL "$(head -n 1 "$home/primary/postmaster.pid")"
  # As long as it may take somebody to notice.
  sleep 3
  ordinary "$bin/pg_ctl" promote --pgdata "$home/standby" --silent --wait
  exit
fi
mode=${1:-synchronous}

# Nobody listens on it, and the system gives it to no client.
free_port() {
  local port
  for port in $(shuf -i 20000-32000 -n 50); do
    if ! (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  return 1
}

home=$(ordinary mktemp -d "${TMPDIR:-/tmp}/vestibule-failover-XXXXXX")
end() {
  for server in primary standby; do
    ordinary "$bin/pg_ctl" stop --pgdata "$home/$server" --mode immediate --silent 2>/dev/null || true
  done
  rm -rf "$home"
}
trap end EXIT
first=$(free_port)
second=$(free_port)

start() {
  ordinary "$bin/pg_ctl" start --pgdata "$home/$1" --options "-p $2 -k $home" --log "$home/$1.log" --silent --wait
}

echo 'a primary and its synchronous standby'
ordinary "$bin/initdb" --pgdata "$home/primary" --username postgres --auth trust --encoding UTF8 --locale C >/dev/null
ordinary tee --append "$home/primary/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
max_connections = 100
CONF
start primary "$first"
sql "$first" 'CREATE DATABASE vestibule' >/dev/null
ordinary "$bin/pg_basebackup" --host 127.0.0.1 --port "$first" --username postgres --pgdata "$home/standby" \
  --checkpoint fast --wal-method stream --write-recovery-conf
ordinary sed --in-place "s/^primary_conninfo = '/&application_name=standby /" "$home/standby/postgresql.auto.conf"
start standby "$second"
expected=async
if [ "$mode" != control ]; then
  sql "$first" "ALTER SYSTEM SET synchronous_standby_names = 'standby'" >/dev/null
  sql "$first" 'SELECT pg_reload_conf()' >/dev/null
  expected=sync
fi
for _ in $(seq 100); do
  state=$(sql "$first" 'SELECT sync_state FROM pg_stat_replication')
  [ "$state" = "$expected" ] && break
  sleep 0.1
done
[ "$state" = "$expected" ] || { echo "the standby is not $expected: '$state'" >&2; exit 1; }

export VESTIBULE_FAILOVER_URL="postgres://postgres@127.0.0.1:$first,127.0.0.1:$second/vestibule"
export VESTIBULE_FAILOVER_FAULT="$PWD/scripts/failover.sh fail $home $mode $second"
outcome=0
cargo test --workspace --all-features --quiet --test story -- --ignored --nocapture failover || outcome=$?
[ "$mode" = control ] || exit "$outcome"
[ "$outcome" -ne 0 ] || { echo 'nothing was lost: the control proves nothing' >&2; exit 1; }
echo 'the control has lost steps, as it should'
