#!/bin/sh
# The part of run.sh that only keeps the processor busy, whatever the time it takes, and so goes on
# in the background while other tests wait for servers and clocks; the kernel gives it what those
# leave over.
#
#   setsid sh tests/background.sh FOLDER MODE      FOLDER: for logs, `built…` when run.sh may have
#                                                  what is built, at the end `counts` and `ended`
#                                                  MODE: as of run.sh
set -u
cd "$(dirname "$0")/.." || exit 2
logs=$1
mode=$2
trap ': >"$logs/ended"' EXIT
. tests/checks.sh
chrt --idle --pid 0 $$ 2>/dev/null || renice -n 19 $$ >/dev/null
# Where the kernel divides the processor among sessions first, that counts within this one only.
{ echo 19 >/proc/self/autogroup; } 2>/dev/null || true

if [ "$mode" = full ]; then
  # The unit tests are built with the sanitizers, which see what a Release build of them would.
  build build "sim_tests sim_tests_weak_hash pgfresh_weak_hash"
else
  build build "unit_tests sim_tests"
fi
: >"$logs/built"
# Conversation 1477 meets what is known to differ (src/README.md).
export PGFRESH_SIM_WORLDS=300 PGFRESH_SIM_SCRIPTS=1400
echo "the simulation"
doctest build/tests/sim_tests
if [ "$mode" != full ]; then
  echo "$passed $failed" >"$logs/counts"
  exit
fi
echo "with hashes of four bits, where everything collides"
# The plays expect hits that such hashes lose.
doctest build/tests/sim_tests_weak_hash -tc='random *'
unset PGFRESH_SIM_WORLDS PGFRESH_SIM_SCRIPTS

build build-tsan threaded_tests -DCMAKE_BUILD_TYPE=Sanitize -DPGFRESH_SANITIZE=thread \
  -DPGFRESH_UNITY=ON
: >"$logs/built-tsan"
build build-fuzz "unit_tests sim_tests fuzz_targets" -DCMAKE_BUILD_TYPE=Sanitize -DPGFRESH_FUZZ=ON \
  -DPGFRESH_UNITY=ON -DCMAKE_CXX_COMPILER=clang++
: >"$logs/built-fuzz"
check "clang-tidy" sh tests/check_tidy.sh build-fuzz
ulimit -s 65536 # libpg_query recurses; the daemon's threads have more
(
  passed=0
  failed=0
  for target in build-fuzz/tests/fuzz/fuzz_*; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    name=$(basename "$target")
    mkdir -p "$logs/$name"
    check "$name" "$target" -max_total_time=6 -timeout=60 -max_len=4096 "$logs/$name" \
      "tests/fuzz/corpus/${name#fuzz_}"
  done
  echo "$passed $failed" >"$logs/smoke-counts"
) >"$logs/smoke" 2>&1 &
echo "the simulation under AddressSanitizer and UndefinedBehaviorSanitizer"
# Instrumented code is slow. That the judge finds what is broken on purpose has been seen above: the
# seeds are the same, and so is every step.
export PGFRESH_SIM_WORLDS=40
doctest build-fuzz/tests/sim_tests -tce='the judge finds *'
echo "fuzzing, a smoke run of each target"
wait
cat "$logs/smoke"
must "the smoke run" test -s "$logs/smoke-counts"
read -r ok bad <"$logs/smoke-counts"
passed=$((passed + ok))
failed=$((failed + bad))
echo "$passed $failed" >"$logs/counts"
