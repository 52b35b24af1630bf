#!/bin/sh
# Installs what is missing, builds, runs every test, and ends with "N passed, N failed".
# Exit status 0 only when nothing failed. Runs on a bare Debian 12, as root or with sudo.
#
#   sh tests/run.sh          everything
#   sh tests/run.sh quick    without sanitizers, fuzzing, clang-tidy and the long judge runs
set -u
cd "$(dirname "$0")/.." || exit 2
root=$PWD
mode=${1:-full}
skipped=0
logs=$(mktemp -d) || exit 2
background=
trap '[ -z "$background" ] || kill -- "-$background" 2>/dev/null; rm -rf "$logs"' EXIT

. tests/checks.sh

say "packages"
must "install packages" sh packaging/install-deps.sh build test bench

say "build"
# Quick: file by file, so that each is seen to include what it uses. Full: in half of the time.
unity=$([ "$mode" = full ] && echo ON || echo OFF)
build build "pgfresh bench_echo" -DCMAKE_BUILD_TYPE=Release -DPGFRESH_UNITY=$unity
echo "in the background: all that needs no server"
mkdir "$logs/background"
setsid sh tests/background.sh "$logs/background" "$mode" >"$logs/background/log" 2>&1 &
background=$!

say "rules of the house"
check "arrows between folders" sh tests/check_arrows.sh
check "clang-format" sh -c 'clang-format --dry-run --Werror $(git ls-files "*.cc" "*.h")'

say "system tests: real PostgreSQL, real drivers"
if [ ! -d tests/system/node/node_modules/postgres ]; then
  must "npm ci" sh -c 'cd tests/system/node && npm ci --silent --no-audit --no-fund'
fi
export PGFRESH_BIN="$root/build/pgfresh" PGFRESH_ECHO="$root/build/tests/bench_echo"
JUDGE_SECONDS=$([ "$mode" = full ] && echo 30 || echo 8)
JUDGE_TROUBLE_SECONDS=$([ "$mode" = full ] && echo 10 || echo 8)
JUDGE_FLEET_SECONDS=$([ "$mode" = full ] && echo 15 || echo 8)
export JUDGE_SECONDS JUDGE_TROUBLE_SECONDS JUDGE_FLEET_SECONDS

# pytest_run LOG ARGUMENTS…: its counts in ok, bad, left.
pytest_run() {
  log=$1
  shift
  /usr/bin/python3 -m pytest -q -o cache_dir="$logs/cache" "$@" 2>&1 | tee "$log"
  line=$(grep -E '[0-9]+ (passed|failed|errors?).* in [0-9]' "$log" | tail -n 1)
  ok=$(printf '%s' "$line" | sed -nE 's/(.*[^0-9])?([0-9]+) passed.*/\2/p')
  bad=$(printf '%s' "$line" | sed -nE 's/(.*[^0-9])?([0-9]+) failed.*/\2/p')
  broken=$(printf '%s' "$line" | sed -nE 's/(.*[^0-9])?([0-9]+) errors?.*/\2/p')
  left=$(printf '%s' "$line" | sed -nE 's/(.*[^0-9])?([0-9]+) skipped.*/\2/p')
  bad=$((${bad:-0} + ${broken:-0}))
  [ -n "$line" ] || bad=1
}

# system ARGUMENTS…: adds the tests of a pytest run, several files at a time: most of them wait.
system() {
  pytest_run "$logs/pytest" -n 3 --dist loadfile "$@"
  passed=$((passed + ${ok:-0}))
  skipped=$((skipped + ${left:-0}))
  if [ "$bad" -gt 0 ] && [ "$bad" -le 10 ]; then
    # Real servers on a busy machine: a few failures are looked at once more, alone. What fails
    # again has failed; what does not is named here, and deserves a look all the same.
    say "again, the failures alone"
    grep -E '^(FAILED|ERROR)' "$logs/pytest" | sed 's/^/failed once: /'
    pytest_run "$logs/pytest-again" --last-failed --last-failed-no-failures none "$@"
    passed=$((passed + ${ok:-0}))
  fi
  failed=$((failed + bad))
}

system tests/system
if [ "$mode" = full ]; then
  say "system tests of Redis, with Valkey"
  if valkey=$(sh tests/valkey.sh "$logs/valkey"); then
    export PGFRESH_REDIS_SERVER="$valkey"
    system tests/system/test_redis.py tests/system/test_fleet.py -k "not stale_read"
  else
    echo "skipped: $valkey"
    skipped=$((skipped + 1))
  fi
fi

# await NAME: until that much of the background is done, or all of it has ended.
await() {
  until [ -e "$logs/background/$1" ] || [ -e "$logs/background/ended" ]; do
    sleep 1
  done
}

if [ "$mode" = full ]; then
  await built
  say "the judge, with hashes of four bits, where everything collides"
  check "the judge, with hashes of four bits" env PGFRESH_BIN="$root/build/tests/pgfresh_weak_hash" \
    PGFRESH_WEAK_HASH=1 JUDGE_SECONDS=8 /usr/bin/python3 -m pytest -q -p no:cacheprovider \
    tests/system/test_judge.py -k peace
  await built-tsan
  say "threaded parts under ThreadSanitizer"
  TSAN_OPTIONS="suppressions=$root/tests/tsan.supp"
  export TSAN_OPTIONS
  doctest build-tsan/tests/threaded_tests
  await built-fuzz
  say "unit tests, under AddressSanitizer and UndefinedBehaviorSanitizer"
  doctest build-fuzz/tests/unit_tests
else
  await built
  say "unit tests"
  doctest build/tests/unit_tests
fi

say "what went on in the background"
wait "$background"
background=
cat "$logs/background/log"
must "the background" test -s "$logs/background/counts"
read -r ok bad <"$logs/background/counts"
passed=$((passed + ok))
failed=$((failed + bad))

say "result"
[ "$skipped" -eq 0 ] || echo "$skipped skipped; each says why above"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
