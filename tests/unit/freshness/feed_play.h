// The stage for the feed's plays: a feed on a manual loop, and a PostgreSQL whose answers, fences,
// catalog and notifications the test decides.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "catalog_rows.h"
#include "freshness/feed.h"
#include "freshness/stamp.h"
#include "manual_loop.h"
#include "query/catalog.h"
#include "scripted_sql.h"

namespace pgfresh::freshness {

// Its first words, by which it sees that PostgreSQL answers.
constexpr std::string_view kIntroduction = "NOTIFY pgfresh, '2 n'; ";

struct Play {
  sim::ManualTime time;
  sim::ManualLoop loop{time};
  sim::ScriptedSql server{loop};
  Domain domain{"clinic", 16, (uint64_t{1} << 63) + 1};

  // PostgreSQL's state.
  SmallDatabase database;
  std::string fingerprint = "f1";
  std::string configured = "c1";                 // when its configuration was read
  std::optional<std::string> queue_usage = "0";  // of its NOTIFY queue; nullopt: may not be asked
  std::vector<std::vector<std::optional<std::string>>> backends;  // pid, backend_start
  std::optional<std::string> listen_error;
  std::optional<std::string> publish_error;
  uint64_t started = 1;    // when it was
  uint32_t pid_error = 0;  // a pooler has process numbers of its own
  bool hears_itself = true;
  bool fences_held = false;
  bool loads_held = false;
  bool polls_held = false;
  bool publications_held = false;
  bool beats_held = false;           // statements of the publisher
  std::vector<std::string> said;     // by them
  std::vector<std::string> running;  // transactions; "p123": prepared
  bool others = false;               // there are connections that are not the proxy's
  bool looks_held = false;
  uint64_t next_xid = 1000;

  std::vector<uint32_t> touched;
  uint64_t random = 1;
  std::optional<Feed> feed;

  explicit Play(FeedOptions options = {}) {
    server.set_admission(sim::ScriptedSql::Admission::kAccept);
    server.set_responder([this](sim::ScriptedSql::Connection& connection, const std::string& sql) {
      return respond(connection, sql);
    });
    feed.emplace(
        domain, loop, server, options,
        [this] { return random = random * 6364136223846793005U + 1442695040888963407U; },
        [this](uint32_t slot, uint64_t) { touched.push_back(slot); });
    domain.set_settler(&*feed);
  }

  // A feed that is live.
  void start() {
    feed->wanted();
    time.settle();
  }

  void notify(std::string_view payload) {
    server.notify("pgfresh", payload);
    time.settle();
  }

  [[nodiscard]] bool lease() const { return domain.lease_valid(time.now_ns()); }
  [[nodiscard]] uint32_t slot(uint64_t tag) const { return domain.tokens().slot_of(tag); }
  [[nodiscard]] uint64_t token(uint64_t tag) const { return domain.tokens().token(slot(tag)); }
  // The published snapshot is the present schema's.
  [[nodiscard]] bool catalog_current() const {
    const auto catalog = domain.catalog();
    return catalog != nullptr && catalog->schema_token() == token(schema_tag());
  }
  void open(const std::vector<uint32_t>& slots) {
    for (const uint32_t one : slots) domain.tokens().open(one);
  }
  [[nodiscard]] size_t sent(std::string_view containing) const {
    size_t count = 0;
    for (const auto& connection : server.connections()) count += connection->count(containing);
    return count;
  }
  [[nodiscard]] size_t loads() const { return sent(query::Catalog::load_sql()); }
  [[nodiscard]] size_t publications() const { return sent("pg_notify"); }
  // What a client could be told from an entry with these dependencies.
  [[nodiscard]] bool servable(const Stamp& stamp) const {
    return lease() && judge(domain.tokens(), stamp) == Judgement::kFresh;
  }
  [[nodiscard]] Stamp stamp_on(Oid root) const {
    const std::vector<uint32_t> slots = {slot(schema_tag()), slot(any_tag(root))};
    Stamp stamp;
    (void)capture(domain.tokens(), slots, stamp);
    return stamp;
  }

 private:
  // What the publisher's statement notifies.
  void say_all(const sim::ScriptedSql::Connection& connection, const std::string& sql) {
    constexpr std::string_view kHead = "'pgfresh', E'";
    for (size_t at = sql.find(kHead); at != std::string::npos; at = sql.find(kHead, at)) {
      at += kHead.size();
      said.push_back(sql.substr(at, sql.find("')", at) - at));
      server.notify("pgfresh", said.back(), connection.pid());
    }
  }

  std::optional<SqlResult> respond(const sim::ScriptedSql::Connection& connection,
                                   const std::string& sql) {
    if (sql == "SELECT " + std::string(kConfiguredSql)) {
      return fences_held ? std::nullopt : std::optional(sim::sql_value(configured));
    }
    if (sql.starts_with("LISTEN")) {
      return listen_error ? sim::sql_error(*listen_error, "25006") : SqlResult{};
    }
    if (sql.starts_with(kIntroduction)) {
      if (hears_itself) server.notify("pgfresh", "2 n", connection.pid());
      return sim::sql_rows(
          {{"pid", "started"},
           {{std::to_string(connection.pid() + pid_error), std::to_string(started)}}});
    }
    if (sql == "SELECT " + std::string(kServerStartedSql)) {
      return sim::sql_value(std::to_string(started));
    }
    if (sql == "SELECT pg_catalog.pg_notification_queue_usage()") {
      return queue_usage ? sim::sql_value(*queue_usage)
                         : sim::sql_error("permission denied", "42501");
    }
    if (sql == query::Catalog::fingerprint_sql()) {
      if (polls_held) return std::nullopt;
      return sim::sql_value(fingerprint);
    }
    if (sql == query::Catalog::load_sql()) {
      if (loads_held) return std::nullopt;
      return sim::sql_rows(database.rows());
    }
    if (sql.find("synchronous_commit") != std::string::npos) {
      if (beats_held) return std::nullopt;
      if (publish_error) return sim::sql_error(*publish_error);
      say_all(connection, sql);
      return sim::sql_value(configured);
    }
    if (sql.find("pg_notify") != std::string::npos) {
      if (publications_held) return std::nullopt;
      if (publish_error) return sim::sql_error(*publish_error);
      server.notify("pgfresh", "1 " + std::to_string(next_xid++) + " s");
      return SqlResult{};
    }
    if (sql.find("pg_locks") != std::string::npos) {
      if (looks_held) return std::nullopt;
      SqlRows rows{{"kind", "name"}, {}};
      for (const std::string& name : running) {
        const bool prepared = name.starts_with("p");
        rows.rows.push_back({prepared ? "p" : "v", prepared ? name.substr(1) : name});
      }
      if (others) rows.rows.push_back({"o", "1"});
      return sim::sql_rows(rows);
    }
    if (sql.find("pg_stat_activity") != std::string::npos) {
      return sim::sql_rows({{"pid", "backend_start"}, backends});
    }
    if (sql.find("pg_namespace") != std::string::npos) {
      SqlRows rows;
      if (database.installed) rows.rows.push_back({"1"});
      return sim::sql_rows(rows);
    }
    return sim::sql_error("syntax error", "42601");
  }
};

}  // namespace pgfresh::freshness
