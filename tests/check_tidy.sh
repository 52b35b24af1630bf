#!/bin/sh
# clang-tidy over the sources, with the flags of build directory $1. Exit status 1 on a finding.
# Quicker with a build of PGFRESH_UNITY: whatever a file includes is examined with it, every time.
set -u
cd "$(dirname "$0")/.." || exit 2
sed -n 's/.*"file": "\(.*\)".*/\1/p' "$1/compile_commands.json" |
  grep -e "^$(pwd -P)/src/" -e "/CMakeFiles/pgfresh[^/]*/Unity/" | grep -v /tests/ |
  xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p "$1" --checks=-bugprone-suspicious-include \
    --extra-arg=-Wno-unknown-warning-option
