#include "app/metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cinttypes>
#include <cstdio>
#include <string_view>

#include "app/version.h"
#include "base/counters.h"
#include "pgfresh/reason.h"

namespace pgfresh::app {
namespace {

constexpr double kUsPerSecondF = 1e6;
constexpr double kMsPerSecondF = 1e3;
constexpr double kNsPerSecondF = 1e9;

struct CounterRow {
  Counter counter;
  std::string_view name;
  std::string_view labels;
  std::string_view help;
};

// Of the one table, what has a label: the tier of a hit.
constexpr std::string_view labels_of(Counter counter) {
  if (counter == Counter::kHitsL1) return "{tier=\"l1\"}";
  return counter == Counter::kHitsL2 ? "{tier=\"l2\"}" : "";
}

constexpr std::array kCounterRows = {
#define PGFRESH_COUNTER_ROW(name, metric, help) \
  CounterRow{Counter::name, metric, labels_of(Counter::name), help},
    PGFRESH_COUNTERS(PGFRESH_COUNTER_ROW)
#undef PGFRESH_COUNTER_ROW
};

struct GaugeRow {
  std::string_view name;
  std::string_view type;
  std::string_view help;
  double (*value)(const MetricsInput& input);
};

constexpr std::array kStoreRows = {
    GaugeRow{"clients", "gauge", "client connections",
             [](const MetricsInput& in) { return static_cast<double>(in.clients); }},
    GaugeRow{"cache_entries", "gauge", "answers in memory",
             [](const MetricsInput& in) { return static_cast<double>(in.store.entries); }},
    GaugeRow{"cache_bytes", "gauge", "bytes of the answers in memory",
             [](const MetricsInput& in) { return static_cast<double>(in.store.bytes); }},
    GaugeRow{"cache_bytes_max", "gauge", "cache.bytes",
             [](const MetricsInput& in) { return static_cast<double>(in.store.bytes_max); }},
    GaugeRow{"cache_insertions_total", "counter", "answers put into memory",
             [](const MetricsInput& in) { return static_cast<double>(in.store.insertions); }},
    GaugeRow{"cache_evictions_total", "counter", "answers removed to make room",
             [](const MetricsInput& in) { return static_cast<double>(in.store.evictions); }},
    GaugeRow{"cache_removals_total", "counter", "answers removed because outdated or flushed",
             [](const MetricsInput& in) { return static_cast<double>(in.store.removals); }},
};

struct FeedRow {
  std::string_view name;
  std::string_view type;
  std::string_view help;
  double (*value)(const freshness::FeedStatus& feed);
};

using Feed = freshness::FeedStatus;

constexpr std::array kFeedRows = {
    FeedRow{"feed_live", "gauge", "1: the invalidation feed is live",
            [](const Feed& f) { return f.state == "live" ? 1.0 : 0.0; }},
    FeedRow{"feed_lease_seconds", "gauge", "what is left of the lease; negative: expired",
            [](const Feed& f) { return static_cast<double>(f.lease_left_ms) / kMsPerSecondF; }},
    FeedRow{"feed_sessions_total", "counter", "feed sessions begun",
            [](const Feed& f) { return static_cast<double>(f.sessions); }},
    FeedRow{"feed_events_total", "counter", "events applied",
            [](const Feed& f) { return static_cast<double>(f.events); }},
    FeedRow{"feed_garbled_total", "counter", "notifications that could not be read",
            [](const Feed& f) { return static_cast<double>(f.garbled); }},
    FeedRow{"feed_fences_total", "counter", "fences completed",
            [](const Feed& f) { return static_cast<double>(f.fences); }},
    FeedRow{"feed_fence_seconds", "gauge", "round trip of the last fence",
            [](const Feed& f) { return static_cast<double>(f.fence_us_last) / kUsPerSecondF; }},
    FeedRow{"feed_unsettled", "gauge", "transactions waiting to be settled",
            [](const Feed& f) { return static_cast<double>(f.unsettled); }},
    FeedRow{"feed_open_slots", "gauge", "slots that are being written through this proxy",
            [](const Feed& f) { return static_cast<double>(f.open_slots); }},
    FeedRow{"catalog_loads_total", "counter", "times the catalog was read",
            [](const Feed& f) { return static_cast<double>(f.catalog_loads); }},
    FeedRow{
        "catalog_load_seconds", "gauge", "duration of the last reading",
        [](const Feed& f) { return static_cast<double>(f.catalog_load_us_last) / kUsPerSecondF; }},
    FeedRow{"relations_watched", "gauge", "tables with complete triggers",
            [](const Feed& f) { return static_cast<double>(f.relations_watched); }},
    FeedRow{"event_triggers", "gauge", "1: event triggers tell of DDL",
            [](const Feed& f) { return f.event_triggers ? 1.0 : 0.0; }},
    FeedRow{"feed_vouching", "gauge", "1: other proxies are told that this one publishes",
            [](const Feed& f) { return f.vouching ? 1.0 : 0.0; }},
    FeedRow{"feed_queued_events", "gauge", "events to be published",
            [](const Feed& f) { return static_cast<double>(f.queued); }},
    FeedRow{"feed_published_total", "counter", "events published for sessions that carry them",
            [](const Feed& f) { return static_cast<double>(f.published); }},
    FeedRow{"feed_publications_total", "counter", "statements that published, or only beat",
            [](const Feed& f) { return static_cast<double>(f.publications); }},
    FeedRow{"feed_publishers", "gauge", "other proxies that publish, and are followed",
            [](const Feed& f) { return static_cast<double>(f.publishers); }},
    FeedRow{"feed_publishers_lost_total", "counter", "publishers given up because they fell silent",
            [](const Feed& f) { return static_cast<double>(f.publishers_lost); }},
    FeedRow{"feed_commits_late_total", "counter",
            "commits of sessions here that were not heard of in time, so that all was forgotten",
            [](const Feed& f) { return static_cast<double>(f.commits_late); }},
    FeedRow{"feed_joins_total", "counter", "times this proxy took over the tokens of another",
            [](const Feed& f) { return static_cast<double>(f.joins); }},
    FeedRow{"feed_joins_refused_total", "counter", "times nobody answered when it asked for them",
            [](const Feed& f) { return static_cast<double>(f.joins_refused); }},
    FeedRow{"feed_maps_given_total", "counter", "times this proxy gave its tokens to another",
            [](const Feed& f) { return static_cast<double>(f.maps_given); }},
    FeedRow{"feed_transactions_noted", "gauge", "transactions that may end without an event",
            [](const Feed& f) { return static_cast<double>(f.transactions_noted); }},
    FeedRow{"notify_queue_usage", "gauge",
            "how full PostgreSQL's NOTIFY queue is, 0 to 1; -1: not known",
            [](const Feed& f) { return f.notify_queue; }},
};

std::string number_text(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.15g", value);
  return text.data();
}

// The format's escapes for label values: backslash, quote, line feed.
std::string label_text(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text;
}

class Page {
 public:
  void head(std::string_view name, std::string_view type, std::string_view help) {
    append({"# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n"});
  }
  void sample(std::string_view name, std::string_view labels, std::string_view value) {
    append({name, labels, " ", value, "\n"});
  }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  void append(std::initializer_list<std::string_view> pieces) {
    for (const std::string_view piece : pieces) text_ += piece;
  }

  std::string text_;
};

std::string full_name(std::string_view name) { return "pgfresh_" + std::string(name); }

void add_counters(Page& page, const console::CounterTotals& totals) {
  std::string last;
  for (const CounterRow& row : kCounterRows) {
    const std::string name = full_name(row.name);
    // Those that differ in labels alone stand behind one another.
    if (std::exchange(last, name) != name) page.head(name, "counter", row.help);
    page.sample(name, row.labels, std::to_string(totals.get(row.counter)));
  }
  const std::string name = full_name("bypasses_total");
  page.head(name, "counter", "SELECTs that were not looked up, and why");
  for (size_t i = 1; i < totals.bypasses.size(); ++i) {  // 0: nothing stands against the cache
    const std::string label(reason_label(static_cast<Reason>(i)));
    page.sample(name, "{reason=\"" + label + "\"}", std::to_string(totals.bypasses[i]));
  }
}

void add_feeds(Page& page, const std::vector<freshness::FeedStatus>& feeds) {
  for (const FeedRow& row : kFeedRows) {
    if (feeds.empty()) return;
    const std::string name = full_name(row.name);
    page.head(name, row.type, row.help);
    for (const freshness::FeedStatus& feed : feeds) {
      page.sample(name, "{database=\"" + label_text(feed.database) + "\"}",
                  number_text(row.value(feed)));
    }
  }
}

// All loops' together: classes times loops would be more than anybody looks at.
void add_redis_latencies(Page& page, const std::vector<console::RedisRow>& rows) {
  constexpr int kFirstPower = 4;  // 16 µs
  HistogramSums sums;
  for (const console::RedisRow& row : rows) sums.add(row.latencies);
  page.head("pgfresh_redis_latency_seconds", "histogram", "from a command to its answer");
  for (int power = kFirstPower; power < HistogramSums::kOctaves; ++power) {
    const double bound = static_cast<double>(uint64_t{1} << power) / kUsPerSecondF;
    page.sample("pgfresh_redis_latency_seconds_bucket", "{le=\"" + number_text(bound) + "\"}",
                std::to_string(sums.count_within(power)));
  }
  const std::string count = std::to_string(sums.count());
  page.sample("pgfresh_redis_latency_seconds_bucket", "{le=\"+Inf\"}", count);
  page.sample("pgfresh_redis_latency_seconds_sum", "",
              number_text(static_cast<double>(sums.sum_ns()) / kNsPerSecondF));
  page.sample("pgfresh_redis_latency_seconds_count", "", count);
}

// States are a gauge each, so that an alert can count the connections that are ready.
void add_redis(Page& page, const std::vector<console::RedisRow>& rows) {
  if (rows.empty()) return;
  const auto label = [](const console::RedisRow& row) {
    return "{loop=\"" + label_text(row.loop) + "\"";
  };
  page.head("pgfresh_redis_ready", "gauge", "1: this loop's connection to Redis is in use");
  for (const console::RedisRow& row : rows) {
    page.sample("pgfresh_redis_ready", label(row) + "}", row.state == "ready" ? "1" : "0");
  }
  page.head("pgfresh_redis_in_flight", "gauge", "commands under way");
  for (const console::RedisRow& row : rows) {
    page.sample("pgfresh_redis_in_flight", label(row) + "}", std::to_string(row.in_flight));
  }
  page.head("pgfresh_redis_round_trip_seconds", "gauge", "smoothed round trip of a command");
  for (const console::RedisRow& row : rows) {
    page.sample("pgfresh_redis_round_trip_seconds", label(row) + "}",
                number_text(static_cast<double>(row.round_trip_ns) / kNsPerSecondF));
  }
  add_redis_latencies(page, rows);
  page.head("pgfresh_redis_errors_total", "counter", "errors that Redis answered, by kind");
  for (size_t i = 0; i < cache::kRedisTroubleCount; ++i) {
    uint64_t sum = 0;
    for (const console::RedisRow& row : rows) sum += row.errors[i];
    page.sample(
        "pgfresh_redis_errors_total",
        "{kind=\"" + std::string(cache::trouble_name(static_cast<cache::RedisTrouble>(i))) + "\"}",
        std::to_string(sum));
  }
  page.head("pgfresh_redis_entries_unreadable_total", "counter",
            "entries in Redis that could not be read, by why");
  for (size_t i = 1; i < cache::kDecodedCount; ++i) {  // 0: it could
    uint64_t sum = 0;
    for (const console::RedisRow& row : rows) sum += row.broken[i];
    page.sample(
        "pgfresh_redis_entries_unreadable_total",
        "{why=\"" + std::string(cache::decoded_name(static_cast<cache::Decoded>(i))) + "\"}",
        std::to_string(sum));
  }
}

double resident_bytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  uint64_t total = 0;
  uint64_t resident = 0;
  const int found = std::fscanf(file, "%" SCNu64 " %" SCNu64, &total, &resident);
  std::fclose(file);
  return found == 2 ? static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE))
                    : 0;
}

// The names that Prometheus's own client libraries use.
void add_process(Page& page) {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / kUsPerSecondF;
  };
  page.head("process_cpu_seconds_total", "counter", "processor time used");
  page.sample("process_cpu_seconds_total", "",
              number_text(seconds(usage.ru_utime) + seconds(usage.ru_stime)));
  page.head("process_resident_memory_bytes", "gauge", "memory in use");
  page.sample("process_resident_memory_bytes", "", number_text(resident_bytes()));
}

}  // namespace

std::string render_metrics(const MetricsInput& input) {
  Page page;
  page.head("pgfresh_info", "gauge", "the version");
  page.sample("pgfresh_info", "{version=\"" + std::string(kVersion) + "\"}", "1");
  add_counters(page, input.totals);
  for (const GaugeRow& row : kStoreRows) {
    const std::string name = full_name(row.name);
    page.head(name, row.type, row.help);
    page.sample(name, "", number_text(row.value(input)));
  }
  if (input.servers) {
    page.head("pgfresh_servers", "gauge", "connections to PostgreSQL");
    page.sample("pgfresh_servers", "", std::to_string(*input.servers));
  }
  add_feeds(page, input.feeds);
  add_redis(page, input.redis);
  add_process(page);
  return page.take();
}

}  // namespace pgfresh::app
