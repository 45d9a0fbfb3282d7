# Holds a Postgres server for the process at the other end of standard input: makes it, starts and stops it as it is told; and
# when standard input ends, however that process has ended, kills the server and removes all of it.
#
# Arguments: the directory of the programs, then lines of configuration. Each command is answered by a line, `ok` or `no …`.
trap '' HUP INT TERM
umask 077
bin=$1
shift
server=

start() {
  "$bin/postgres" -D "$home/data" -p "$1" </dev/null >>"$home/log" 2>&1 &
  server=$!
  tries=0
  until grep -q '^ready' "$home/data/postmaster.pid" 2>/dev/null; do
    tries=$((tries + 1))
    if ! kill -0 "$server" 2>/dev/null || [ "$tries" -gt 1200 ]; then
      stop
      return 1
    fi
    sleep 0.05
  done
}

# SIGQUIT is an immediate shutdown: nothing is written any more, and the next start recovers from the log.
stop() {
  [ -n "$server" ] || return 0
  kill -QUIT "$server" 2>/dev/null
  wait "$server" || true
  server=
}

home=$(mktemp -d "${TMPDIR:-/tmp}/vestibule-postgres-XXXXXX") || exit 1
cd "$home" || exit 1
while read -r command argument; do
  case $command in
    make)
      "$bin/initdb" -D data -U postgres -A trust -E UTF8 --locale=C --no-sync </dev/null >log 2>&1 &&
        printf '%s\n' "unix_socket_directories = '$home'" "$@" >>data/postgresql.conf
      ;;
    start) start "$argument" ;;
    stop) stop ;;
  esac
  if [ $? -eq 0 ]; then echo ok; else echo "no $(tail -n 12 log | tr '\n' ' ')"; fi
done
stop
cd /
rm -rf "$home"
