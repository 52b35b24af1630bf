#!/bin/sh
# Shows what pgfresh does, on this machine, in a few minutes: installs what is missing, builds,
# starts a private PostgreSQL with the healthcare schema and pgfresh on it, and runs an application
# that reads and writes, first directly, then through pgfresh.
#
#   sh packaging/quickstart.sh           shows it, then stays up until Ctrl-C
#   sh packaging/quickstart.sh --once    shows it and ends with status 0
#   sh packaging/quickstart.sh --fleet   the same with a second pgfresh, and a Redis that both share
#
# Everything lives in one temporary directory and on free ports of 127.0.0.1, and is gone at the
# end. Works as root (PostgreSQL then runs as user postgres) or as a user with sudo.
set -eu

once=no
fleet=no
seconds=5
while [ $# -gt 0 ]; do
  case $1 in
    --once) once=yes ;;
    --fleet) fleet=yes ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift ;;
    *) echo "usage: sh packaging/quickstart.sh [--once] [--fleet] [--seconds N]" >&2; exit 2 ;;
  esac
  shift
done

cd "$(dirname "$0")/.."
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

# ── Build ────────────────────────────────────────────────────────────────────────────────────────

say "Packages"
# shellcheck disable=SC2046
sh packaging/install-deps.sh build run $([ "$fleet" = no ] || echo fleet)
echo "all there"

say "Build"
# One build directory for this and the tests; whoever came first has chosen the generator.
generator="-G Ninja"
[ ! -f build/CMakeCache.txt ] || generator=""
mkdir -p build
: >build/quickstart.log
echo "some minutes the first time; the compiler's own words are in build/quickstart.log"
# The build is in the foreground, so that Ctrl-C ends it. `sleep` must not hold our output open.
(
  passed=0
  while sleep 10 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    passed=$((passed + 10))
    echo "  $passed s  $(sed -n 's/^\(\[[^]]*\]\).*/\1/p' build/quickstart.log | tail -n 1)"
  done
) &
ticker=$!
# shellcheck disable=SC2086
{
  cmake -S . -B build $generator -DCMAKE_BUILD_TYPE=Release &&
    cmake --build build -j "$(nproc)" --target pgfresh
} >build/quickstart.log 2>&1 || {
  kill "$ticker" 2>/dev/null || true
  tail -n 40 build/quickstart.log >&2
  exit 1
}
kill "$ticker" 2>/dev/null || true
build/pgfresh --version

# ── A place of our own ───────────────────────────────────────────────────────────────────────────

dir=$(mktemp -d "${TMPDIR:-/tmp}/pgfresh-quickstart.XXXXXX")
proxy=""
second=""
redis=""
pg_bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
if [ "$(id -u)" -eq 0 ]; then
  as_postgres() { runuser -u postgres -- "$@"; }
  chown postgres "$dir"
else
  as_postgres() { "$@"; }
fi
chmod 755 "$dir"

finish() {
  status=$?
  trap - EXIT INT TERM
  for pid in $proxy $second $redis; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  if [ -f "$dir/data/postmaster.pid" ]; then
    (cd / && as_postgres "$pg_bin/pg_ctl" -D "$dir/data" -m fast -w stop >/dev/null 2>&1) || true
  fi
  if [ "$status" -ne 0 ] && [ "$status" -lt 128 ]; then
    for log in "$dir/pgfresh.log" "$dir/second.log" "$dir/redis.log" "$dir/postgres.log"; do
      [ ! -s "$log" ] || { echo "── last lines of $(basename "$log")" >&2; tail -n 20 "$log" >&2; }
    done
  fi
  rm -rf "$dir"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

free_port() {
  /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# ── PostgreSQL with the healthcare schema ────────────────────────────────────────────────────────

say "PostgreSQL with the healthcare schema"
# Settings of the caller, such as PGHOST, are for other servers than this one.
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS PGSSLMODE PGPASSFILE || true
pg_port=$(free_port)
(
  cd /
  as_postgres "$pg_bin/initdb" -D "$dir/data" -U postgres -A trust --encoding=UTF8 \
    --locale=C.UTF-8 --no-sync >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; exit 1; }
  as_postgres "$pg_bin/pg_ctl" -D "$dir/data" -w -l "$dir/postgres.log" -o "-p $pg_port \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories=$dir -c max_connections=100" \
    start >/dev/null
)
direct="postgresql://postgres@127.0.0.1:$pg_port/care"
sql() { "$pg_bin/psql" -X -q -v ON_ERROR_STOP=1 "$@" >>"$dir/sql.log" 2>&1 || {
  tail -n 20 "$dir/sql.log" >&2; exit 1; }; }
sql -d "postgresql://postgres@127.0.0.1:$pg_port/postgres" -c "CREATE DATABASE care"
sql -d "$direct" -f sql/healthcare/schema.sql
sql -d "$direct" -f sql/healthcare/data.sql
sql -d "$direct" -f sql/install.sql
sql -d "$direct" -f sql/healthcare/watch.sql
echo "listens on 127.0.0.1:$pg_port"

# ── pgfresh ──────────────────────────────────────────────────────────────────────────────────────

say "pgfresh on it"
port=$(free_port)
http_port=$(free_port)
# Two shares of a database on the same machine are too near to win by asking Redis: for show, it is
# always asked.
start_pgfresh() { # port, HTTP port, log; further options
  log=$3
  ports="--listen 127.0.0.1:$1 --http 127.0.0.1:$2"
  shift 3
  [ "$fleet" = no ] || set -- "$@" --redis "redis://127.0.0.1:$redis_port" --set redis.ask=always
  # shellcheck disable=SC2086
  build/pgfresh --upstream "$direct" $ports "$@" >>"$log" 2>&1 &
}
if [ "$fleet" = yes ]; then
  redis_port=$(free_port)
  redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$dir" --save "" \
    --maxmemory 64mb --maxmemory-policy allkeys-lru >"$dir/redis.log" 2>&1 &
  redis=$!
fi
start_pgfresh "$port" "$http_port" "$dir/pgfresh.log" --set "listen.unix=$dir"
proxy=$!
through="postgresql://postgres@127.0.0.1:$port/care"
echo "listens on 127.0.0.1:$port"

status=0
/usr/bin/python3 packaging/quickstart_app.py --direct "$direct" --pgfresh "$through" \
  --console "host=$dir port=$port dbname=pgfresh user=$(id -un)" \
  --http "http://127.0.0.1:$http_port" --seconds "$seconds" || status=$?
[ "$status" -eq 0 ] || exit "$status"

if [ "$fleet" = yes ]; then
  say "A second pgfresh, and the Redis they share"
  second_port=$(free_port)
  second_http=$(free_port)
  start_pgfresh "$second_port" "$second_http" "$dir/second.log" --set listen.unix=
  second=$!
  through_second="postgresql://postgres@127.0.0.1:$second_port/care"
  /usr/bin/python3 packaging/quickstart_fleet.py --first "$through" --second "$through_second" \
    --direct "$direct"
  say "The first one is restarted"
  kill "$proxy"
  wait "$proxy" 2>/dev/null || true
  start_pgfresh "$port" "$http_port" "$dir/pgfresh.log" --set "listen.unix=$dir"
  proxy=$!
  /usr/bin/python3 packaging/quickstart_fleet.py --first "$through_second" --second "$through" \
    --direct "$direct" --restarted
fi
[ "$once" = no ] || exit 0

say "Your turn (Ctrl-C ends it)"
trap 'exit 0' INT TERM
cat <<END
  through pgfresh   psql $through
  directly          psql $direct
  console           psql -h $dir -p $port pgfresh -c 'SHOW HELP'
  metrics           http://127.0.0.1:$http_port/metrics
  log               $dir/pgfresh.log
END
[ "$fleet" = no ] || cat <<END
  the second one    psql $through_second
  Redis             redis-cli -p $redis_port
END
wait "$proxy"
