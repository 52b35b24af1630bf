#!/bin/sh
# Holds the arrow rule of src/README.md: a folder of src/ includes only itself and the folders that
# stand before it. libuv, OpenSSL's TLS and libpq are net's, pg_query.h is query's.
# Prints each offence as file:line; exit status 1 when there is one.
set -u
cd "$(dirname "$0")/.." || exit 2

allowed() { # folder → the folders it may include
  case $1 in
    base) echo "base" ;;
    wire) echo "base wire" ;;
    query) echo "base wire query" ;;
    freshness) echo "base wire query freshness" ;;
    cache) echo "base wire query freshness cache" ;;
    proxy) echo "base wire query freshness cache proxy" ;;
    console) echo "base wire query freshness cache console" ;;
    net) echo "base wire net" ;;
    app) echo "base wire query freshness cache proxy console net app" ;;
  esac
}

offences=$(
  for folder in base wire query freshness cache proxy console net app; do
    may=" $(allowed "$folder") pgfresh "
    grep -nE '^#include "[a-z_]+/' src/"$folder"/*.h src/"$folder"/*.cc 2>/dev/null |
      while IFS= read -r line; do
        target=$(printf '%s\n' "$line" | sed -E 's/.*#include "([a-z_]+)\/.*/\1/')
        case $may in *" $target "*) ;; *) printf '%s\n' "$line" ;; esac
      done
  done
  grep -nE '#include "[a-z]+/' include/pgfresh/*.h | grep -v '#include "pgfresh/'
  grep -nE '#include <(uv|libpq-fe|openssl/ssl)\.h>' $(find src -name '*.h' -o -name '*.cc' | grep -v '^src/net/')
  grep -nE '#include <pg_query' $(find src -name '*.h' -o -name '*.cc' | grep -v '^src/query/')
  grep -nE '(system_clock|steady_clock)::now|clock_gettime|gettimeofday' \
    $(find src/wire src/query src/freshness src/cache src/proxy src/console -name '*.h' -o -name '*.cc' | grep -E 'src/(wire|query|freshness|cache|proxy|console)')
)
if [ -n "$offences" ]; then
  printf '%s\n' "$offences"
  exit 1
fi
