#include "app/domains.h"

#include <doctest/doctest.h>

#include "cache/memory_store.h"
#include "manual_loop.h"
#include "scripted_sql.h"
#include "unit/cache/redis_peer.h"

namespace pgfresh::app {
namespace {

constexpr int kDatabases = 256;

TEST_CASE("databases beyond those that one process caches pass through, and one line says so") {
  sim::ManualTime time;
  sim::ManualLoop loop(time);
  sim::ScriptedSql server(loop);
  cache::MemoryStore store(1 << 20, 1);
  Domains domains(loop, server, store, 4, {}, [] { return uint64_t{7}; });
  cache::NotedLog log;
  for (int i = 0; i < kDatabases; ++i) {
    CHECK(domains.get("shop" + std::to_string(i)) != nullptr);
  }
  domains.look(log);
  CHECK(log.text.find("too_many") == std::string::npos);
  CHECK(domains.get("another") == nullptr);
  CHECK(domains.get("shop7") != nullptr);
  domains.look(log);
  CHECK(log.text.find("too_many_databases not_cached=another max=256\n") != std::string::npos);
  log.text.clear();
  CHECK(domains.get("another") == nullptr);
  domains.look(log);
  CHECK(log.text.find("too_many") == std::string::npos);
  domains.close();
}

}  // namespace
}  // namespace pgfresh::app
