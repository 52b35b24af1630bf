// Each table's columns and the function that fills it stand together; Table::add() checks that they
// agree.
#include "console/tables.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <tuple>

#include "console/reports.h"
#include "console/values.h"

namespace pgfresh::console {
namespace {

using enum Type;

std::string tls_text(bool encrypted) { return encrypted ? "TLS" : ""; }

std::string kind_text(char kind) {
  switch (kind) {
    case 'r':
      return "table";
    case 'p':
      return "partitioned table";
    case 'v':
      return "view";
    case 'm':
      return "materialized view";
    case 'f':
      return "foreign table";
    case 'S':
      return "sequence";
    case 'c':
      return "composite type";
    default:
      return std::string(1, kind);
  }
}

// Indexes, TOAST tables, sequences and row types are nothing a person would want cached.
bool is_shown(const query::Relation& relation) {
  constexpr std::string_view kShown = "rpvmf";
  if (kShown.find(relation.kind) == std::string_view::npos) return false;
  return !relation.schema.starts_with("pg_") && relation.schema != "information_schema" &&
         relation.schema != "pgfresh";
}

Columns stats_columns() {
  return {
      {"database", kText},          {"total_xact_count", kInt8},   {"total_query_count", kInt8},
      {"total_received", kInt8},    {"total_sent", kInt8},         {"total_server_received", kInt8},
      {"total_server_sent", kInt8}, {"total_hits", kInt8},         {"total_misses", kInt8},
      {"total_bypasses", kInt8},    {"hit_percent", kFloat8},      {"total_fills", kInt8},
      {"total_stale_found", kInt8}, {"total_local_blocks", kInt8}, {"total_hit_bytes", kInt8},
      {"saved_ms", kInt8}};
}

Columns cache_columns() { return {{"item", kText}, {"value", kInt8}, {"meaning", kText}}; }

Columns tables_columns() {
  return {{"database", kText},  {"schema", kText},       {"table", kText},
          {"root", kText},      {"kind", kText},         {"watched", kBool},
          {"cacheable", kBool}, {"reason", kText},       {"why_not", kText},
          {"writes", kInt8},    {"rows_unknown", kInt8}, {"answers_ended", kInt8},
          {"last_write", kText}};
}

// A view has no triggers: it counts as what it reads, and only a statement's verdict says how.
void leave_open(Row& row) {
  constexpr size_t kCacheable = 6;
  row[kCacheable] = std::monostate();
  row[kCacheable + 1] = std::string();
  row[kCacheable + 2] = std::string("counts as what it reads: EXPLAIN CACHE SELECT * FROM it");
}

// What is known of the writes to a tree stands in the row of its root.
void append_writes(Row& row, const CatalogOf& of, const query::Relation& relation) {
  const freshness::WriteLog::Table* writes = of.writes == nullptr || relation.root != relation.oid
                                                 ? nullptr
                                                 : of.writes->table(relation.oid);
  if (writes == nullptr) {
    row.insert(row.end(), 4, std::monostate());
    return;
  }
  constexpr int64_t kNsPerS = 1'000'000'000;
  row.insert(row.end(), {number(writes->events), number(writes->whole), number(writes->freed),
                         time_text((writes->last_ns + of.unix_offset_ns) / kNsPerS)});
}

Columns clients_columns() {
  return {{"id", kInt8},           {"type", kText},         {"user", kText},
          {"database", kText},     {"state", kText},        {"addr", kText},
          {"port", kInt8},         {"local_addr", kText},   {"local_port", kInt8},
          {"connect_time", kText}, {"request_time", kText}, {"link", kInt8},
          {"remote_pid", kInt8},   {"tls", kText},          {"application_name", kText},
          {"queries", kInt8},      {"hits", kInt8}};
}

Columns servers_columns() {
  return {{"id", kInt8},           {"type", kText},         {"user", kText},
          {"database", kText},     {"state", kText},        {"addr", kText},
          {"port", kInt8},         {"local_addr", kText},   {"local_port", kInt8},
          {"connect_time", kText}, {"request_time", kText}, {"link", kInt8},
          {"remote_pid", kInt8},   {"tls", kText}};
}

Columns feeds_columns() {
  return {{"database", kText},
          {"state", kText},
          {"trouble", kText},
          {"lease_left_ms", kInt8},
          {"fence_us", kInt8},
          {"sessions", kInt8},
          {"events", kInt8},
          {"garbled", kInt8},
          {"fences", kInt8},
          {"unsettled", kInt8},
          {"open_slots", kInt8},
          {"catalog_loads", kInt8},
          {"catalog_generation", kInt8},
          {"catalog_load_us", kInt8},
          {"relations_watched", kInt8},
          {"event_triggers", kBool},
          {"publish", kText},
          {"queued", kInt8},
          {"published", kInt8},
          {"beat_age_ms", kInt8},
          {"publishers", kInt8},
          {"publisher_age_ms", kInt8},
          {"publishers_lost", kInt8},
          {"commits_late", kInt8},
          {"transactions_noted", kInt8},
          {"lineage", kText},
          {"joins", kInt8},
          {"joins_refused", kInt8},
          {"maps_given", kInt8},
          {"notify_queue", kFloat8}};
}

Columns redis_columns() {
  return {{"loop", kText},
          {"state", kText},
          {"state_ms", kInt8},
          {"address", kText},
          {"server", kText},
          {"in_flight", kInt8},
          {"bytes_in_flight", kInt8},
          {"round_trip_us", kInt8},
          {"p50_us", kInt8},
          {"p99_us", kInt8},
          {"p999_us", kInt8},
          {"lookups", kInt8},
          {"found", kInt8},
          {"stored", kInt8},
          {"freed", kInt8},
          {"requests", kInt8},
          {"timeouts", kInt8},
          {"not_asked", kInt8},
          {"errors", kInt8},
          {"broken_entries", kInt8},
          {"trips", kInt8},
          {"connects", kInt8},
          {"breaks", kInt8},
          {"sent_bytes", kInt8},
          {"received_bytes", kInt8},
          {"trouble", kText}};
}

Columns config_columns() {
  return {{"key", kText}, {"value", kText}, {"default", kText}, {"changeable", kBool}};
}

}  // namespace

Columns columns_of(Verb verb) {
  switch (verb) {
    case Verb::kShowHelp:
      return help_columns();
    case Verb::kShowVersion:
      return {{"version", kText}};
    case Verb::kShowStats:
      return stats_columns();
    case Verb::kShowCache:
      return cache_columns();
    case Verb::kShowTables:
      return tables_columns();
    case Verb::kShowClients:
      return clients_columns();
    case Verb::kShowServers:
      return servers_columns();
    case Verb::kShowFeeds:
      return feeds_columns();
    case Verb::kShowRedis:
      return redis_columns();
    case Verb::kShowConfig:
      return config_columns();
    case Verb::kShowQueries:
    case Verb::kShowQueriesAll:
      return queries_columns();
    case Verb::kExplainCache:
      return explain_columns();
    case Verb::kDoctor:
      return doctor_columns();
    case Verb::kSetCacheOn:
    case Verb::kSetCacheOff:
    case Verb::kFlushAll:
    case Verb::kFlushTable:
    case Verb::kReload:
    case Verb::kKill:
    case Verb::kShutdownWait:
    case Verb::kShutdown:
    case Verb::kFlushQuery:
    case Verb::kShowPools:
    case Verb::kShowRules:
    case Verb::kPause:
    case Verb::kResume:
    case Verb::kReconnect:
    case Verb::kSetCacheObserve:
      break;
  }
  return {};
}

void CounterTotals::add(const Counters& worker) {
  for (size_t i = 0; i < counters.size(); ++i) counters[i] += worker.get(static_cast<Counter>(i));
  for (size_t i = 0; i < bypasses.size(); ++i) {
    bypasses[i] += worker.bypasses(static_cast<Reason>(i));
  }
}

uint64_t CounterTotals::bypasses_sum() const {
  uint64_t sum = 0;
  for (const uint64_t value : bypasses) sum += value;
  return sum;
}

double hit_percent(const CounterTotals& totals) {
  const uint64_t hits = totals.get(Counter::kHitsL1) + totals.get(Counter::kHitsL2);
  const uint64_t looked_up = hits + totals.get(Counter::kMisses);
  if (looked_up == 0) return 0;
  // Two decimals: what a person reads.
  const uint64_t hundredths = hits * 10'000 / looked_up;
  return static_cast<double>(hundredths) / 100;
}

Address split_address(std::string_view peer) {
  const size_t colon = peer.rfind(':');
  if (colon == std::string_view::npos) return {std::string(peer), 0};
  const std::string_view digits = peer.substr(colon + 1);
  uint16_t port = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (read.ec != std::errc() || read.ptr != digits.data() + digits.size()) {
    return {std::string(peer), 0};
  }
  std::string_view host = peer.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return {std::string(host), port};
}

Table version_table(std::string_view version) {
  Table table(columns_of(Verb::kShowVersion), "SHOW");
  table.add({"pgfresh " + std::string(version)});
  return table;
}

Table stats_table(const std::vector<StatsRow>& rows) {
  Table table(stats_columns(), "SHOW");
  for (const StatsRow& row : rows) {
    const CounterTotals& totals = row.totals;
    const auto count = [&totals](Counter counter) { return number(totals.get(counter)); };
    table.add({row.database, count(Counter::kTransactions), count(Counter::kQueries),
               count(Counter::kBytesFromClients), count(Counter::kBytesToClients),
               count(Counter::kBytesFromServers), count(Counter::kBytesToServers),
               number(totals.get(Counter::kHitsL1) + totals.get(Counter::kHitsL2)),
               count(Counter::kMisses), number(totals.bypasses_sum()), hit_percent(totals),
               count(Counter::kFills), count(Counter::kStaleFound), count(Counter::kLocalBlocks),
               count(Counter::kHitBytes), number(totals.get(Counter::kSavedNs) / 1'000'000)});
  }
  return table;
}

namespace {

// Behind the name of the two counters that share one.
std::string tier_of(Counter counter) {
  if (counter == Counter::kHitsL1) return ":l1";
  return counter == Counter::kHitsL2 ? ":l2" : "";
}

}  // namespace

Table cache_table(CacheState state, const cache::StoreStats& store, const CounterTotals& totals) {
  Table table(cache_columns(), "SHOW");
  const auto add = [&table](std::string item, uint64_t value, std::string_view meaning) {
    table.add({std::move(item), number(value), std::string(meaning)});
  };
  add("on", state == CacheState::kOn ? 1 : 0, "1: SELECTs may be answered from the cache");
  add("entries", store.entries, "answers in memory");
  add("bytes", store.bytes, "memory they take");
  add("bytes_max", store.bytes_max, "memory they may take");
  add("insertions", store.insertions, "answers stored");
  add("evictions", store.evictions, "answers removed to make room");
  add("removals", store.removals, "answers removed because a write, time or FLUSH ended them");
#define PGFRESH_CONSOLE_COUNTER(name, metric, help) \
  add(metric + tier_of(Counter::name), totals.get(Counter::name), help);
  PGFRESH_COUNTERS(PGFRESH_CONSOLE_COUNTER)
#undef PGFRESH_CONSOLE_COUNTER
  for (int i = 0; i < kReasonCount; ++i) {
    const auto reason = static_cast<Reason>(i);
    const uint64_t count = totals.bypasses[static_cast<size_t>(i)];
    if (count == 0) continue;
    add("bypass:" + std::string(reason_label(reason)), count, reason_text(reason));
  }
  return table;
}

Reason why_not_cached(const query::Relation& relation) {
  if (relation.kind == 'v') return Reason::kView;
  if (relation.kind != 'r' && relation.kind != 'p') return Reason::kRelationKind;
  if (relation.persistence != 'p') return Reason::kUnlogged;
  if (relation.foreign_member) return Reason::kRelationKind;
  if (relation.row_security && !relation.policies_proven) return Reason::kRowSecurity;
  if (!relation.watched) return Reason::kNotWatched;
  return Reason::kNone;
}

Table tables_table(const std::vector<CatalogOf>& catalogs) {
  Table table(tables_columns(), "SHOW");
  for (const CatalogOf& each : catalogs) {
    if (each.catalog == nullptr) continue;
    std::vector<const query::Relation*> shown;
    for (const auto& [oid, relation] : each.catalog->relations()) {
      if (is_shown(relation)) shown.push_back(&relation);
    }
    std::sort(shown.begin(), shown.end(), [](const auto* a, const auto* b) {
      return std::tie(a->schema, a->name) < std::tie(b->schema, b->name);
    });
    for (const query::Relation* relation : shown) {
      const query::Relation* root = each.catalog->relation(relation->root);
      const Reason reason = why_not_cached(*relation);
      const bool cacheable = reason == Reason::kNone;
      Row row{each.database,
              relation->schema,
              relation->name,
              root == nullptr ? std::string() : root->schema + "." + root->name,
              kind_text(relation->kind),
              relation->watched,
              cacheable,
              cacheable ? std::string() : std::string(reason_label(reason)),
              cacheable ? std::string() : std::string(reason_text(reason))};
      if (relation->kind == 'v') leave_open(row);
      append_writes(row, each, *relation);
      table.add(std::move(row));
    }
  }
  return table;
}

Table clients_table(const std::vector<ClientRow>& rows) {
  Table table(clients_columns(), "SHOW");
  for (const ClientRow& row : rows) {
    Address peer = split_address(row.peer);
    Address local = split_address(row.local);
    table.add({number(row.id), std::string("C"), row.user, row.database, row.state,
               std::move(peer.host), peer.port, std::move(local.host), local.port,
               time_text(row.connected_unix_s), time_text(row.requested_unix_s),
               number_or_null(row.server_id), number_or_null(row.remote_pid),
               tls_text(row.encrypted), row.application_name, number(row.queries),
               number(row.hits)});
  }
  return table;
}

Table servers_table(const std::vector<ServerRow>& rows) {
  Table table(servers_columns(), "SHOW");
  for (const ServerRow& row : rows) {
    Address peer = split_address(row.peer);
    Address local = split_address(row.local);
    table.add({number(row.id), std::string("S"), row.user, row.database, row.state,
               std::move(peer.host), peer.port, std::move(local.host), local.port,
               time_text(row.connected_unix_s), time_text(row.requested_unix_s),
               number_or_null(row.client_id), number_or_null(row.remote_pid),
               tls_text(row.encrypted)});
  }
  return table;
}

namespace {

// A base is random: its name says only who shares it.
std::string lineage_text(uint64_t base) {
  if (base == 0) return {};
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(base >> shift) & 15];
  return text;
}

// Who tells of what is written through here; "proxy, idle": it will, when somebody writes.
std::string publish_text(const freshness::FeedStatus& feed, freshness::Publish wanted) {
  if (feed.vouching) return "proxy";
  const bool may = wanted == freshness::Publish::kProxy && feed.refusal.empty();
  return may && feed.state == "live" ? "proxy, idle" : "trigger";
}

}  // namespace

Table feeds_table(const std::vector<freshness::FeedStatus>& feeds, freshness::Publish wanted) {
  Table table(feeds_columns(), "SHOW");
  for (const freshness::FeedStatus& feed : feeds) {
    table.add({feed.database,
               feed.state,
               feed.trouble,
               std::max<int64_t>(feed.lease_left_ms, 0),
               feed.fence_us_last,
               number(feed.sessions),
               number(feed.events),
               number(feed.garbled),
               number(feed.fences),
               feed.unsettled,
               feed.open_slots,
               number(feed.catalog_loads),
               number(feed.catalog_generation),
               feed.catalog_load_us_last,
               number(feed.relations_watched),
               feed.event_triggers,
               publish_text(feed, wanted),
               number(feed.queued),
               number(feed.published),
               feed.beat_age_ms,
               number(feed.publishers),
               feed.publisher_age_ms,
               number(feed.publishers_lost),
               number(feed.commits_late),
               number(feed.transactions_noted),
               lineage_text(feed.lineage),
               number(feed.joins),
               number(feed.joins_refused),
               number(feed.maps_given),
               feed.notify_queue});
  }
  return table;
}

Table redis_table(const std::vector<RedisRow>& rows) {
  constexpr int64_t kNsPerUs = 1000;
  Table table(redis_columns(), "SHOW");
  for (const RedisRow& row : rows) {
    const auto count = [&row](Counter counter) { return number(row.counters.get(counter)); };
    table.add({row.loop,
               row.state,
               row.since_ms,
               row.address,
               row.server,
               number(row.in_flight),
               number(row.bytes_in_flight),
               row.round_trip_ns / kNsPerUs,
               number(row.latencies.permille_us(500)),
               number(row.latencies.permille_us(990)),
               number(row.latencies.permille_us(999)),
               count(Counter::kRemoteAsked),
               count(Counter::kRemoteFound),
               count(Counter::kRedisStored),
               count(Counter::kRedisFreed),
               count(Counter::kRedisRequests),
               count(Counter::kRedisTimeouts),
               count(Counter::kRedisNotAsked),
               number(std::accumulate(row.errors.begin(), row.errors.end(), uint64_t{0})),
               count(Counter::kRedisBroken),
               count(Counter::kRedisTrips),
               count(Counter::kRedisConnects),
               count(Counter::kRedisBreaks),
               count(Counter::kRedisBytesSent),
               count(Counter::kRedisBytesReceived),
               row.trouble});
  }
  return table;
}

Table config_table(const std::vector<ConfigRow>& rows) {
  Table table(config_columns(), "SHOW");
  for (const ConfigRow& row : rows) {
    table.add({row.key, row.value, row.default_value, row.changeable});
  }
  return table;
}

}  // namespace pgfresh::console
