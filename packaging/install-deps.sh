#!/bin/sh
# Installs the Debian 12 packages that pgfresh needs, and of these only the ones that are missing.
#
#   sh packaging/install-deps.sh build          to compile pgfresh and its unit tests
#   sh packaging/install-deps.sh run            to try it: PostgreSQL with PostGIS, psycopg2
#   sh packaging/install-deps.sh run fleet      to try several with a Redis
#   sh packaging/install-deps.sh build test     to run tests/run.sh (implies run)
#   sh packaging/install-deps.sh build bench    to run tests/bench (implies run)
#
# Says nothing when nothing is missing. Needs root or sudo only when something is. PostgreSQL,
# PgBouncer and others start their own servers when Debian installs them; nothing here uses those.
set -eu

build="g++ cmake ninja-build pkg-config ccache libuv1-dev libssl-dev libpq-dev libspdlog-dev
  libfmt-dev libyaml-cpp-dev libexpected-dev libxxhash-dev libpg-query-dev libsimdjson-dev
  libprotobuf-c-dev libcivetweb-dev libzstd-dev libhiredis-dev doctest-dev"
run="postgresql-15 postgresql-client-15 postgresql-15-postgis-3 postgresql-15-postgis-3-scripts
  python3 python3-psycopg2 util-linux"
test="git faketime clang clang-format clang-tidy libclang-rt-dev openssl procps python3-pytest
  python3-pytest-xdist python3-psycopg python3-asyncpg python3-sqlalchemy python3-fastapi
  python3-uvicorn python3-httpx libpostgresql-jdbc-java redis-server"
bench="pgbouncer pgpool2 procps python3-psycopg"

wanted=""
[ $# -gt 0 ] || set -- build
for group in "$@"; do
  case $group in
    build) wanted="$wanted $build" ;;
    run) wanted="$wanted $run" ;;
    fleet) wanted="$wanted $run redis-server" ;;
    test)
      wanted="$wanted $run $test"
      # Any Node.js and any JDK will do.
      command -v node >/dev/null 2>&1 || wanted="$wanted nodejs npm"
      command -v npm >/dev/null 2>&1 || wanted="$wanted npm"
      command -v javac >/dev/null 2>&1 || wanted="$wanted default-jdk-headless"
      ;;
    bench) wanted="$wanted $run $bench" ;;
    *)
      echo "install-deps.sh: unknown argument '$group'; known are build, run, fleet, test, bench" >&2
      exit 2
      ;;
  esac
done

missing=""
for package in $wanted; do
  case " $missing " in *" $package "*) continue ;; esac
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
  as_root="env"
elif command -v sudo >/dev/null 2>&1; then
  as_root="sudo env"
else
  echo "install-deps.sh: these packages are missing, and there is neither root nor sudo:$missing" >&2
  exit 1
fi

echo "installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { $as_root DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >"$log" 2>&1; }
# The package lists may be missing or old: look again before giving up.
# shellcheck disable=SC2086
if ! apt install --no-install-recommends $missing; then
  if ! apt update || ! apt install --no-install-recommends $missing; then
    tail -n 20 "$log" >&2
    exit 1
  fi
fi
