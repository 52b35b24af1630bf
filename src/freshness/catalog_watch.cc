// Order of urgency: a publication lets other proxies and our own clients see a DDL; a look at
// lost backends closes slots, one at transactions gives the lease back; then the catalog itself;
// then the poll.
//
// A reading is two statements, the fingerprint first: a change between the two makes the next poll
// look once too often, where the other order would make it look once too rarely.
#include "freshness/catalog_watch.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/text.h"
#include "query/catalog.h"

namespace pgfresh::freshness {
namespace {

constexpr int64_t kStatementPatienceNs = 30 * kNsPerSecond;
constexpr int64_t kLookMsMin = 20;
constexpr int64_t kLookMsMax = 1000;
constexpr int64_t kLoadPauseNsMax = 5 * kNsPerSecond;

// pg_current_xact_id() gives this very transaction an xid, as rule 1 wants it in the payload.
constexpr std::string_view kPublishSql =
    "SELECT pg_catalog.pg_notify('pgfresh', '1 ' || pg_catalog.pg_current_xact_id()::text || ' s')";
constexpr std::string_view kInstalledSql =
    "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'pgfresh'";

std::string look_sql(const std::vector<uint32_t>& pids) {
  std::string sql = "SELECT pid, backend_start FROM pg_catalog.pg_stat_activity WHERE pid IN (0";
  for (const uint32_t pid : pids) sql += "," + std::to_string(pid);
  return sql + ")";
}

// Locks before prepared transactions: one that is being prepared is seen as one or the other.
// Processes are left out only if they are known to be of another database, or nobody's.
std::string transactions_sql(const std::vector<uint32_t>& own,
                             const std::vector<uint32_t>& looked_for) {
  std::string pids;
  for (const uint32_t pid : own) pids += "," + std::to_string(pid);
  const std::string not_ours = "NOT IN (pg_catalog.pg_backend_pid()" + pids + ")";
  std::string sql;
  for (const uint32_t pid : looked_for) sql += (sql.empty() ? "" : ",") + std::to_string(pid);
  if (!sql.empty()) {
    sql =
        "SELECT 'w', pg_catalog.concat(l.pid, ' ', l.virtualtransaction) FROM "
        "pg_catalog.pg_locks l WHERE l.locktype = 'virtualxid' AND l.granted AND l.pid IN (" +
        sql + ") UNION ALL ";
  }
  return sql +
         "SELECT 'v', l.virtualtransaction FROM pg_catalog.pg_locks l WHERE l.locktype = "
         "'virtualxid' AND l.granted AND l.pid " +
         not_ours +
         " AND l.pid NOT IN (SELECT a.pid FROM pg_catalog.pg_stat_activity a WHERE a.usesysid IS "
         "NULL OR a.datname IS DISTINCT FROM pg_catalog.current_database()) "
         "UNION ALL SELECT 'p', p.transaction::text FROM pg_catalog.pg_prepared_xact() p WHERE "
         "p.dbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = "
         "pg_catalog.current_database()) "
         "UNION ALL (SELECT 'o', a.pid::text FROM pg_catalog.pg_stat_activity a WHERE a.usesysid "
         "IS NOT NULL AND a.datname = pg_catalog.current_database() AND a.pid " +
         not_ours + " LIMIT 1)";
}

uint32_t number_in_front(const std::string& text) {
  uint32_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

Running read_transactions(const SqlRows& rows) {
  Running running;
  for (const auto& row : rows.rows) {
    if (row.size() < 2 || !row[0].has_value() || !row[1].has_value()) continue;
    const std::string& value = *row[1];
    if (*row[0] == "v") {
      running.transactions.push_back(value);
    } else if (*row[0] == "o") {
      running.others = true;
    } else if (*row[0] == "w") {
      running.looked_for.emplace(number_in_front(value), value);
    } else {
      const uint32_t xid = number_in_front(value);
      running.prepared.push_back(xid);
      running.transactions.push_back(prepared_name(xid));
    }
  }
  return running;
}

std::vector<Settlement::Seen> read_backends(const SqlRows& rows) {
  std::vector<Settlement::Seen> seen;
  for (const auto& row : rows.rows) {
    if (row.empty() || !row[0].has_value()) continue;
    Settlement::Seen one;
    one.pid = number_in_front(*row[0]);
    if (row.size() > 1) one.started = row[1].value_or("");
    seen.push_back(std::move(one));
  }
  return seen;
}

// Empty when there is no such row, which no fingerprint is.
std::string single_value(const SqlRows& rows) {
  if (rows.rows.empty() || rows.rows[0].empty()) return {};
  return rows.rows[0][0].value_or("");
}

}  // namespace

CatalogWatch::CatalogWatch(const std::string& database, Loop& loop, SqlClientFactory& factory,
                           const std::function<uint64_t()>& random64, Settlement& settlement,
                           Owner& owner)
    : loop_(loop),
      settlement_(settlement),
      owner_(owner),
      line_(database, loop, factory, random64, *this),
      wake_(loop, [this] { pump(); }) {}

void CatalogWatch::tick() {
  line_.drop_if_silent(kStatementPatienceNs);
  pump();
}

void CatalogWatch::request_load() {
  if (std::exchange(load_wanted_, true)) return;
  // Not now: events that came in the same packet shall be applied before the token is noted.
  const int64_t due_ns = std::max(loop_.clock().now_ns(), load_not_before_ns_);
  if (!wake_.is_set() || wake_.due_ns() > due_ns) wake_.set(due_ns);
}

void CatalogWatch::publish(SlotBatch& slots) {
  to_publish_.take(slots);
  publish_wanted_ = true;
  pump();
}

void CatalogWatch::look_for_backends() {
  look_delay_ms_ = kLookMsMin;
  look_due_ns_ = loop_.clock().now_ns();
  pump();
}

void CatalogWatch::on_line_ready(Line& /*line*/) {
  line_.query("SELECT " + std::string(kServerStartedSql), [this](const SqlResult& result) {
    uint64_t server = 0;
    if (!read_number(single_value(result.rows), uint64_t{1}, UINT64_MAX, server)) {
      line_.drop(result.error.empty() ? "not a PostgreSQL" : std::string_view(result.error));
      return;
    }
    server_ = server;
    owner_.on_watch_ready();
    pump();
  });
}

void CatalogWatch::on_line_notification(Line& /*line*/, std::string_view /*channel*/,
                                        std::string_view /*payload*/, uint32_t /*sender*/) {}

void CatalogWatch::on_line_lost(Line& /*line*/, std::string_view why) {
  server_ = 0;
  void_statement();
  owner_.on_watch_lost(why);
}

void CatalogWatch::stop() {
  server_ = 0;
  void_statement();
  line_.stop();
  wake_.cancel();
  load_wanted_ = false;
  poll_wanted_ = false;
  transactions_wanted_ = false;
  queue_wanted_ = false;
}

// Whether a publication under way was committed is unknown: it is made again. A reading under way
// is void; the owner knows whether it still wants one.
void CatalogWatch::void_statement() {
  if (publishing_under_way_) {
    publishing_under_way_ = false;
    to_publish_.take(publishing_);
    publish_wanted_ = true;
  }
  if (loading_) {
    loading_ = false;
    load_wanted_ = true;
  }
}

void CatalogWatch::pump() {
  const int64_t now_ns = loop_.clock().now_ns();
  if (line_.idle() && server_ != 0) {
    if (publish_wanted_) {
      send_publication();
    } else if (settlement_.backends_waited_for() && now_ns >= look_due_ns_) {
      send_look();
    } else if (transactions_wanted_) {
      send_transactions();
    } else if (load_wanted_ && now_ns >= load_not_before_ns_) {
      send_load();
    } else if (poll_wanted_) {
      send_poll();
    } else if (queue_wanted_) {
      send_queue_look();
    }
  }
  wake_when_due();
}

// For what only time holds back; everything else is pumped by what it waits for.
void CatalogWatch::wake_when_due() {
  if (!line_.idle()) return;
  int64_t due_ns = INT64_MAX;
  if (settlement_.backends_waited_for()) due_ns = std::min(due_ns, look_due_ns_);
  if (load_wanted_) due_ns = std::min(due_ns, load_not_before_ns_);
  if (due_ns == INT64_MAX || (wake_.is_set() && wake_.due_ns() <= due_ns)) return;
  wake_.set(due_ns);
}

void CatalogWatch::send_publication() {
  publish_wanted_ = false;
  publishing_under_way_ = true;
  publishing_.take(to_publish_);
  line_.query(kPublishSql, [this](const SqlResult& result) {
    publishing_under_way_ = false;
    SlotBatch slots;
    slots.take(publishing_);
    if (result.error.empty()) {
      line_.confirm();
      owner_.on_published(slots);
    } else {
      owner_.on_publish_failed(result.error, slots);
    }
    pump();
  });
}

void CatalogWatch::send_look() {
  line_.query(look_sql(settlement_.begin_look()), [this](const SqlResult& result) {
    if (result.error.empty()) {
      settlement_.look_completed(read_backends(result.rows));
      owner_.on_backends_looked_for();
    }
    look_due_ns_ = loop_.clock().now_ns() + look_delay_ms_ * kNsPerMs;
    look_delay_ms_ = std::min(look_delay_ms_ * 2, kLookMsMax);
    pump();
  });
}

void CatalogWatch::send_transactions() {
  transactions_wanted_ = false;
  settlement_.begin_prepared_look();
  const int64_t begun_ns = loop_.clock().now_ns();
  const auto looked_for = owner_.backends_to_look_for(begun_ns);
  line_.query(transactions_sql(owner_.own_backends(), looked_for),
              [this, begun_ns](const SqlResult& result) {
                if (result.error.empty()) {
                  line_.confirm();
                  owner_.on_transactions(begun_ns, read_transactions(result.rows));
                }
                pump();
              });
}

CatalogWatch::Reading CatalogWatch::begin_reading() const {
  return {loop_.clock().now_ns(), owner_.schema_token(), owner_.schema_events(), {}};
}

void CatalogWatch::send_load() {
  load_wanted_ = false;
  loading_ = true;
  line_.query(query::Catalog::fingerprint_sql(),
              [this, reading = begin_reading()](const SqlResult& result) mutable {
                if (result.error.empty()) {
                  reading.fingerprint = single_value(result.rows);
                  send_load_second_half(reading);
                  return;
                }
                load_ended(reading);
                owner_.on_catalog_failed(result.error);
                pump();
              });
}

void CatalogWatch::send_load_second_half(const Reading& reading) {
  line_.query(query::Catalog::load_sql(), [this, reading](const SqlResult& result) {
    load_ended(reading);
    if (result.error.empty()) {
      line_.confirm();
      take_fingerprint(reading);
      owner_.on_catalog_read(result.rows, reading.token);
    } else {
      owner_.on_catalog_failed(result.error);
    }
    pump();
  });
}

void CatalogWatch::load_ended(const Reading& reading) {
  const int64_t now_ns = loop_.clock().now_ns();
  loading_ = false;
  ++loads_;
  load_ns_last_ = now_ns - reading.begun_ns;
  load_not_before_ns_ = now_ns + std::min(load_ns_last_, kLoadPauseNsMax);
}

void CatalogWatch::send_poll() {
  poll_wanted_ = false;
  if (installed_ == Installed::kNo) {
    line_.query(kInstalledSql, [this](const SqlResult& result) {
      if (result.error.empty() && !result.rows.rows.empty()) request_load();
      pump();
    });
    return;
  }
  line_.query(query::Catalog::fingerprint_sql(),
              [this, reading = begin_reading()](const SqlResult& result) mutable {
                if (result.error.empty()) {
                  reading.fingerprint = single_value(result.rows);
                  take_fingerprint(reading);
                }
                pump();
              });
}

// From a queue of gigabytes much is to be given back, a file for each 256 KB: that takes seconds.
void CatalogWatch::send_queue_look() {
  queue_wanted_ = false;
  line_.query("SELECT pg_catalog.pg_notification_queue_usage()", [this](const SqlResult& result) {
    double usage = -1;
    const bool told =
        result.error.empty() && read_number(single_value(result.rows), 0.0, 1.0, usage);
    owner_.on_notify_queue(told ? usage : -1);
    pump();
  });
}

void CatalogWatch::take_fingerprint(const Reading& reading) {
  looked_ns_ = reading.begun_ns;
  if (reading.fingerprint == fingerprint_) return;
  const bool first = std::exchange(fingerprint_, reading.fingerprint).empty();
  // With the first one, too: what changed before it, nobody would tell a session that is there.
  owner_.on_settings_changed();
  if (!first) owner_.on_fingerprint_changed(reading.schema_events);
}

}  // namespace pgfresh::freshness
