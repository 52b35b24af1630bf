#include "console/tables.h"

#include <doctest/doctest.h>

#include <cmath>

namespace pgfresh::console {
namespace {

const Value& at(const Table& table, size_t row, std::string_view column) {
  for (size_t i = 0; i < table.columns().size(); ++i) {
    if (table.columns()[i].name == column) return table.rows().at(row).at(i);
  }
  FAIL("no column " << column);
  return table.rows().at(0).at(0);
}
std::string text(const Value& value) { return std::get<std::string>(value); }
int64_t number(const Value& value) { return std::get<int64_t>(value); }

TEST_CASE("tables: every table has the columns that its command announces") {
  CHECK(version_table("0.1").columns() == columns_of(Verb::kShowVersion));
  CHECK(stats_table({}).columns() == columns_of(Verb::kShowStats));
  CHECK(cache_table(CacheState::kOn, {}, {}).columns() == columns_of(Verb::kShowCache));
  CHECK(tables_table({}).columns() == columns_of(Verb::kShowTables));
  CHECK(clients_table({}).columns() == columns_of(Verb::kShowClients));
  CHECK(servers_table({}).columns() == columns_of(Verb::kShowServers));
  CHECK(feeds_table({}, freshness::Publish::kProxy).columns() == columns_of(Verb::kShowFeeds));
  CHECK(config_table({}).columns() == columns_of(Verb::kShowConfig));
  CHECK(columns_of(Verb::kReload).empty());
}

TEST_CASE("tables: addresses") {
  CHECK(split_address("10.0.0.7:51234").host == "10.0.0.7");
  CHECK(split_address("10.0.0.7:51234").port == 51234);
  CHECK(split_address("[::1]:6543").host == "::1");
  CHECK(split_address("unix").host == "unix");
  CHECK(split_address("unix").port == 0);
  CHECK(split_address("a:b").host == "a:b");
  CHECK(split_address("a:99999").port == 0);
}

TEST_CASE("tables: clients and servers") {
  ClientRow client;
  client.id = 7;
  client.user = "ada";
  client.peer = "10.0.0.7:51234";
  client.connected_unix_s = 1'700'000'000;
  client.server_id = 3;
  const Table clients = clients_table({client});
  CHECK(number(at(clients, 0, "id")) == 7);
  CHECK(text(at(clients, 0, "type")) == "C");
  CHECK(text(at(clients, 0, "addr")) == "10.0.0.7");
  CHECK(text(at(clients, 0, "connect_time")) == "2023-11-14 22:13:20 UTC");
  CHECK(std::holds_alternative<std::monostate>(at(clients, 0, "request_time")));
  CHECK(number(at(clients, 0, "link")) == 3);

  ServerRow server;
  server.remote_pid = 4711;
  server.encrypted = true;
  const Table servers = servers_table({server});
  CHECK(number(at(servers, 0, "remote_pid")) == 4711);
  CHECK(text(at(servers, 0, "tls")) == "TLS");
  CHECK(std::holds_alternative<std::monostate>(at(servers, 0, "link")));
}

TEST_CASE("tables: counters are summed over workers") {
  Counters one;
  Counters two;
  one.add(Counter::kHitsL1, 3);
  two.add(Counter::kHitsL1, 4);
  two.add(Counter::kMisses);
  two.add_bypass(Reason::kView);
  two.add(Counter::kSavedNs, 5'000'000);
  CounterTotals totals;
  totals.add(one);
  totals.add(two);
  CHECK(hit_percent(totals) == doctest::Approx(87.5));
  CHECK(hit_percent({}) == 0);

  const Table stats = stats_table({{"care", totals}});
  CHECK(text(at(stats, 0, "database")) == "care");
  CHECK(number(at(stats, 0, "total_hits")) == 7);
  CHECK(number(at(stats, 0, "total_bypasses")) == 1);
  CHECK(number(at(stats, 0, "saved_ms")) == 5);

  cache::StoreStats store;
  store.entries = 12;
  store.bytes_max = UINT64_MAX;
  const Table cache = cache_table(CacheState::kOff, store, totals);
  const auto item = [&cache](std::string_view name) -> int64_t {
    for (const Row& row : cache.rows()) {
      if (text(row[0]) == name) return number(row[1]);
    }
    return -1;
  };
  CHECK(item("on") == 0);
  CHECK(item("entries") == 12);
  CHECK(item("bytes_max") == INT64_MAX);
  CHECK(item("hits_total:l1") == 7);
  CHECK(item("hits_total:l2") == 0);
  CHECK(item("hits_total") == -1);
  CHECK(item("bypass:view") == 1);
  CHECK(item("bypass:locking_clause") == -1);
}

TEST_CASE("tables: why a relation is not cached") {
  query::Relation relation;
  CHECK(why_not_cached(relation) == Reason::kNotWatched);
  relation.watched = true;
  CHECK(why_not_cached(relation) == Reason::kNone);
  relation.row_security = true;
  CHECK(why_not_cached(relation) == Reason::kRowSecurity);
  relation.foreign_member = true;
  CHECK(why_not_cached(relation) == Reason::kRelationKind);
  relation.persistence = 'u';
  CHECK(why_not_cached(relation) == Reason::kUnlogged);
  relation.kind = 'v';
  CHECK(why_not_cached(relation) == Reason::kView);
  relation.kind = 'm';
  CHECK(why_not_cached(relation) == Reason::kRelationKind);
}

TEST_CASE("tables: feeds and configuration") {
  freshness::FeedStatus feed;
  feed.database = "care";
  feed.state = "live";
  feed.lease_left_ms = -5;
  const Table feeds = feeds_table({feed}, freshness::Publish::kProxy);
  CHECK(number(at(feeds, 0, "lease_left_ms")) == 0);
  CHECK(text(at(feeds, 0, "publish")) == "proxy, idle");
  feed.refusal = "permission denied";
  const Table refused = feeds_table({feed}, freshness::Publish::kProxy);
  CHECK(text(at(refused, 0, "publish")) == "trigger");
  CHECK(std::get<bool>(at(feeds, 0, "event_triggers")) == false);
  const Table config = config_table({{"cache.ttl", "5min", "5min", true}});
  CHECK(text(at(config, 0, "default")) == "5min");
}

TEST_CASE("table: floats as PostgreSQL writes them, and formats") {
  Table table({{"f", Type::kFloat8}}, "SELECT ");
  for (const double value :
       std::initializer_list<double>{0.5, 100.0, 1.0 / 3, std::nan(""), -HUGE_VAL})
    table.add({value});
  CHECK(table.tag(5) == "SELECT 5");
  const std::vector<std::string> wanted{"0.5", "100", "0.3333333333333333", "NaN", "-Infinity"};
  for (size_t i = 0; i < wanted.size(); ++i) {
    std::string out;
    write_row(out, table.rows()[i], {});
    CHECK(out.substr(11) == wanted[i]);
  }
  std::string out;
  write_row(out, table.rows()[0], {Format::kBinary});
  CHECK(out.substr(11) == std::string("\x3f\xe0\0\0\0\0\0\0", 8));

  CHECK(read_formats("", 2)->at(1) == Format::kText);
  CHECK(read_formats(std::string_view("\0\1", 2), 2)->at(1) == Format::kBinary);
  CHECK_FALSE(read_formats(std::string_view("\0\1\0\1\0\1", 6), 2).has_value());
  CHECK_FALSE(read_formats(std::string_view("\0\2", 2), 1).has_value());
}

}  // namespace
}  // namespace pgfresh::console
