#!/bin/sh
# The part of run.sh that only keeps the processor busy, whatever the time it takes, and so goes on
# in the background while other tests wait for servers and clocks; the kernel gives it what those
# leave over.
#
#   setsid sh tests/background.sh FOLDER      FOLDER: for logs, and at the end `counts`
set -u
cd "$(dirname "$0")/.." || exit 2
logs=$1
. tests/checks.sh
chrt --idle --pid 0 $$ 2>/dev/null || renice -n 19 $$ >/dev/null

build build-tsan unit_tests -DCMAKE_BUILD_TYPE=Sanitize -DPGFRESH_SANITIZE=thread
build build-asan "unit_tests sim_tests" -DCMAKE_BUILD_TYPE=Sanitize \
  -DPGFRESH_SANITIZE=address,undefined
build build-fuzz fuzz_targets -DPGFRESH_FUZZ=ON -DCMAKE_BUILD_TYPE=Sanitize \
  -DCMAKE_CXX_COMPILER=clang++
echo "the simulation under AddressSanitizer and UndefinedBehaviorSanitizer"
doctest build-asan/tests/sim_tests # 60 worlds: instrumented code is slow
echo "fuzzing, a smoke run of each target"
ulimit -s 65536 # libpg_query recurses; the daemon's threads have more
for target in build-fuzz/tests/fuzz/fuzz_*; do
  [ -x "$target" ] && [ -f "$target" ] || continue
  name=$(basename "$target")
  mkdir -p "$logs/$name"
  check "$name" "$target" -max_total_time=8 -timeout=60 -max_len=4096 "$logs/$name" \
    "tests/fuzz/corpus/${name#fuzz_}"
done
check "clang-tidy" sh tests/check_tidy.sh build
echo "$passed $failed" >"$logs/counts"
