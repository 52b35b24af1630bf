#include "app/metrics.h"

#include <doctest/doctest.h>

#include <set>
#include <sstream>

#include "pgfresh/reason.h"

namespace pgfresh::app {

TEST_CASE("the metrics page: every counter, every reason, every feed, each name declared once") {
  MetricsInput input;
  Counters counters;
  counters.add(Counter::kHitsL1, 7);
  counters.add(Counter::kHitsL2, 2);
  counters.add(Counter::kMisses, 3);
  counters.add_bypass(Reason::kView);
  input.totals.add(counters);
  input.store.entries = 12;
  input.clients = 5;
  freshness::FeedStatus feed;
  feed.database = "odd\"name\\";
  feed.state = "live";
  feed.lease_left_ms = 750;
  input.feeds.push_back(feed);
  console::RedisRow redis;
  redis.loop = "worker 0";
  redis.state = "ready";
  redis.round_trip_ns = 250'000;
  redis.latencies.add(HistogramSums::class_of(250'000), 10);
  redis.latencies.add(HistogramSums::class_of(20'000'000), 1);
  redis.latencies.add_ns(22'500'000);
  redis.errors[static_cast<size_t>(cache::RedisTrouble::kReplica)] = 3;
  redis.broken[static_cast<size_t>(cache::Decoded::kTampered)] = 4;
  input.redis = {redis, redis};
  const std::string page = render_metrics(input);
  const auto has = [&](const std::string& line) {
    return page.find("\n" + line + "\n") != std::string::npos;
  };
  CHECK(has("pgfresh_hits_total{tier=\"l1\"} 7"));
  CHECK(has("pgfresh_hits_total{tier=\"l2\"} 2"));
  CHECK(has("pgfresh_misses_total 3"));
  CHECK(has("pgfresh_bypasses_total{reason=\"view\"} 1"));
  CHECK(has("pgfresh_bypasses_total{reason=\"busy\"} 0"));
  CHECK(page.find("reason=\"none\"") == std::string::npos);
  CHECK(has("pgfresh_cache_entries 12"));
  CHECK(has("pgfresh_clients 5"));
  CHECK(has("pgfresh_feed_live{database=\"odd\\\"name\\\\\"} 1"));
  CHECK(has("pgfresh_feed_lease_seconds{database=\"odd\\\"name\\\\\"} 0.75"));
  CHECK(has("pgfresh_redis_ready{loop=\"worker 0\"} 1"));
  CHECK(has("pgfresh_redis_round_trip_seconds{loop=\"worker 0\"} 0.00025"));
  CHECK(has("pgfresh_redis_latency_seconds_bucket{le=\"0.000128\"} 0"));
  CHECK(has("pgfresh_redis_latency_seconds_bucket{le=\"0.000256\"} 20"));
  CHECK(has("pgfresh_redis_latency_seconds_bucket{le=\"0.032768\"} 22"));
  CHECK(has("pgfresh_redis_latency_seconds_bucket{le=\"+Inf\"} 22"));
  CHECK(has("pgfresh_redis_latency_seconds_sum 0.045"));
  CHECK(has("pgfresh_redis_latency_seconds_count 22"));
  CHECK(has("pgfresh_redis_errors_total{kind=\"replica\"} 6"));
  CHECK(has("pgfresh_redis_entries_unreadable_total{why=\"tampered\"} 8"));
  CHECK(page.find("pgfresh_servers ") == std::string::npos);

  std::set<std::string> declared;
  std::istringstream lines(page);
  std::string line;
  while (std::getline(lines, line)) {
    REQUIRE_FALSE(line.empty());
    if (line.starts_with("# HELP ")) continue;
    if (line.starts_with("# TYPE ")) {
      const std::string name = line.substr(7, line.find(' ', 7) - 7);
      CHECK_MESSAGE(declared.insert(name).second, name);
      CHECK(
          (line.ends_with(" counter") || line.ends_with(" gauge") || line.ends_with(" histogram")));
      if (line.ends_with(" histogram")) {
        for (const char* part : {"_bucket", "_sum", "_count"}) declared.insert(name + part);
      }
      // The convention: a counter's name ends in _total, and only a counter's.
      CHECK_MESSAGE(line.ends_with(" counter") == name.ends_with("_total"), name);
      continue;
    }
    const std::string name = line.substr(0, line.find_first_of("{ "));
    CHECK_MESSAGE(declared.contains(name), name);
  }
}

}  // namespace pgfresh::app
