#!/bin/sh
# The part of run.sh that only keeps the processor busy, and so goes on in the background while
# other tests wait for servers and clocks; the kernel gives it what those leave over.
#
#   setsid sh tests/slow_builds.sh FOLDER      FOLDER: for logs, and at the end `counts`
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
check "clang-tidy" sh tests/check_tidy.sh build
echo "$passed $failed" >"$logs/counts"
