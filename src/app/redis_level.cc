#include "app/redis_level.h"

#include <chrono>
#include <utility>

namespace pgfresh::app {

int64_t unix_ms() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
}

RedisLevel::RedisLevel(net::UvLoop& loop, const RedisSetup& setup)
    : loop_(loop),
      connector_(loop, setup.way),
      store_(loop, connector_, setup.store, setup.random64, unix_ms, counters_, *setup.log) {}

console::RedisRow RedisLevel::row(std::string loop, const Counters* sessions) const {
  const cache::RedisClient& client = store_.client();
  const cache::RedisGauges& gauges = client.gauges();
  console::RedisRow row;
  row.loop = std::move(loop);
  row.state = cache::state_name(client.state());
  row.since_ms = (loop_.clock().now_ns() - client.since_ns()) / kNsPerMs;
  row.address = client.peer();
  row.server =
      client.info().version.empty() ? "" : client.info().server + " " + client.info().version;
  row.in_flight = gauges.in_flight;
  row.bytes_in_flight = gauges.bytes_in_flight;
  row.round_trip_ns = gauges.round_trip_ns;
  row.latencies = gauges.latencies.read();
  row.trouble = client.trouble();
  for (size_t i = 0; i < cache::kRedisTroubleCount; ++i) {
    row.errors[i] = gauges.errors[i].load(std::memory_order_relaxed);
  }
  for (size_t i = 0; i < cache::kDecodedCount; ++i) {
    row.broken[i] = store_.broken()[i].load(std::memory_order_relaxed);
  }
  row.counters.add(counters_);
  if (sessions != nullptr) row.counters.add(*sessions);
  return row;
}

}  // namespace pgfresh::app
