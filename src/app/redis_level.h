// One loop's share of the second level: the way to Redis, the store, and what people may ask of it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/counters.h"
#include "cache/redis_store.h"
#include "console/tables.h"
#include "net/connector.h"
#include "net/uv_loop.h"
#include "pgfresh/log.h"

namespace pgfresh::app {

// The same for all loops; made once.
struct RedisSetup {
  std::shared_ptr<const net::Upstream> way;  // null: there is no Redis
  cache::RedisStoreOptions store;
  std::function<uint64_t()> random64;
  Log* log = nullptr;
};

// The time of day in milliseconds since 1970.
[[nodiscard]] int64_t unix_ms();

class RedisLevel {
 public:
  // REQUIRES: setup.way is not null; the loop outlives this.
  RedisLevel(net::UvLoop& loop, const RedisSetup& setup);

  // The loop's thread, but for what says otherwise.
  void start() { store_.start(); }
  void stop() { store_.stop(); }
  void set_options(const cache::RedisStoreOptions& options) {
    store_.set_options(options.client, options.codec.keys);
  }
  // For the connections that are made from now on, as its certificates are now.
  void set_way(std::shared_ptr<const net::Upstream> way) {
    connector_.set_upstream(std::move(way));
  }
  [[nodiscard]] cache::RedisStore& store() { return store_; }
  // `loop`: its name, for people. `sessions`: the counters of the worker whose sessions ask here.
  [[nodiscard]] console::RedisRow row(std::string loop, const Counters* sessions) const;
  [[nodiscard]] const Counters& counters() const { return counters_; }  // any thread

 private:
  net::UvLoop& loop_;
  net::UpstreamConnector connector_;
  Counters counters_;
  cache::RedisStore store_;
};

}  // namespace pgfresh::app
