# Holds a PgBouncer for the process at the other end of standard input; when that ends, kills it and removes all of it.
#
# Arguments: the program, then lines of configuration. Says `ok` once it listens, or `no …`.
trap '' HUP INT TERM
umask 077
program=$1
shift
home=$(mktemp -d "${TMPDIR:-/tmp}/vestibule-pooler-XXXXXX") || exit 1
cd "$home" || exit 1
printf '%s\n' "$@" >pgbouncer.ini
"$program" pgbouncer.ini </dev/null >log 2>&1 &
pooler=$!
tries=0
until grep -qs 'process up' log; do
  tries=$((tries + 1))
  if ! kill -0 "$pooler" 2>/dev/null || [ "$tries" -gt 200 ]; then break; fi
  sleep 0.05
done
if grep -qs 'process up' log; then echo ok; else echo "no $(tail -n 4 log | tr '\n' ' ')"; fi
while read -r _; do :; done
# The shell would tell of the kill.
exec 2>/dev/null
kill -KILL "$pooler" 2>/dev/null
wait "$pooler"
cd /
rm -rf "$home"
