# What run.sh and background.sh have in common; to be sourced, with $logs a folder of one's own.
jobs=$(nproc)
passed=0
failed=0

# busy: seconds that the processors of the whole machine have worked; servers that have left their
# parents count as well.
busy() {
  awk -v ticks="$(getconf CLK_TCK)" '$1 == "cpu" { print int(($2 + $3 + $4 + $7 + $8) / ticks) }' /proc/stat
}

# say WHAT: a heading, with the time and the processors' time since the beginning.
began=$(date +%s)
began_busy=$(busy)
say() {
  seconds=$(($(date +%s) - began))
  worked=$(($(busy) - began_busy))
  printf '\n── %s ── %d:%02d, processors %d:%02d\n' "$*" $((seconds / 60)) $((seconds % 60)) \
    $((worked / 60)) $((worked % 60))
}

# check NAME COMMAND…: one test, whose exit status decides.
check() {
  name=$1
  shift
  if "$@" >"$logs/check" 2>&1; then
    passed=$((passed + 1))
    printf 'ok      %s\n' "$name"
  else
    failed=$((failed + 1))
    printf 'FAILED  %s\n' "$name"
    tail -n 60 "$logs/check"
  fi
}

# must NAME COMMAND…: without it nothing else makes sense.
must() {
  name=$1
  shift
  "$@" >"$logs/must" 2>&1 && return 0
  printf 'FAILED  %s\n' "$name"
  tail -n 60 "$logs/must"
  echo "$passed passed, $((failed + 1)) failed"
  exit 1
}

# doctest PROGRAM: adds its test cases.
doctest() {
  "$@" >"$logs/doctest" 2>&1
  status=$?
  line=$(grep '^\[doctest\] test cases:' "$logs/doctest" | tail -n 1)
  ok=$(printf '%s' "$line" | sed -nE 's/.*\| *([0-9]+) passed.*/\1/p')
  bad=$(printf '%s' "$line" | sed -nE 's/.*\| *([0-9]+) failed.*/\1/p')
  passed=$((passed + ${ok:-0}))
  failed=$((failed + ${bad:-0}))
  if [ "$status" -ne 0 ]; then
    [ "${bad:-0}" -gt 0 ] || failed=$((failed + 1))
    tail -n 80 "$logs/doctest"
  fi
  printf '%s: %s\n' "$1" "${line:-no result}"
}

build() { # DIRECTORY TARGETS CMAKE-ARGUMENTS…: configures and builds the targets ("all": everything)
  dir=$1
  wanted=$2
  shift 2
  must "configure $dir" cmake -S . -B "$dir" -G Ninja "$@"
  must "build $dir" cmake --build "$dir" -j "$jobs" --target $wanted
}
