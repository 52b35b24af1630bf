#include "app/console_flush.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "app/catalog_wait.h"
#include "app/daemon.h"

namespace pgfresh::app {
namespace {

using console::Done;
using console::Failure;

// As if somebody had written the whole table: its slots are open until the event, sent by a
// connection of its own, has come back on the feed. Then everything read before is dead, here and
// in all proxies that listen, answers that were just being fetched among it.
void flush_tree(Daemon& daemon, freshness::Domain& domain, query::Oid root,
                std::function<void(const std::string& error)> done) {
  freshness::TokenTable& tokens = domain.tokens();
  const std::vector<uint32_t> slots{tokens.slot_of(freshness::any_tag(root)),
                                    tokens.slot_of(freshness::whole_tag(root))};
  for (const uint32_t slot : slots) tokens.open(slot);
  daemon.store().remove_if([&](const cache::Entry& entry) {
    const auto stamp = entry.stamp();
    return entry.table == &tokens && std::any_of(stamp.begin(), stamp.end(), [&](const auto& pair) {
             return std::find(slots.begin(), slots.end(), pair.slot) != slots.end();
           });
  });
  const std::string sql =
      "SELECT pg_catalog.pg_notify('pgfresh', pg_catalog.concat('1 ', "
      "pg_catalog.pg_current_xact_id(), ' w ', '" +
      std::to_string(root) + "'))";
  daemon.visits().ask(domain.database(), sql,
                      [&daemon, &domain, slots, done = std::move(done)](const SqlResult& result) {
                        if (!result.error.empty()) daemon.domains().forget(domain.database());
                        domain.settler().ended({.slots = slots});
                        done(result.error);
                      });
}

// One FLUSH TABLE on its way.
class TableFlush : public std::enable_shared_from_this<TableFlush> {
 public:
  TableFlush(Daemon& daemon, console::TableName table, ReportDone done)
      : daemon_(daemon), table_(std::move(table)), done_(std::move(done)) {}

  void begin() {
    const std::string unread = database_unread();
    const auto retry = [self = shared_from_this()] { self->begin(); };
    if (!unread.empty() && wait_.again(daemon_.control(), retry)) return;
    const auto trees = trees_named();
    if (!trees.empty()) return flush(trees);
    if (!unread.empty()) {
      return done_(Failure{
          "55000", "the catalog of database \"" + unread + "\" has changed and is being read",
          "try again; SHOW FEEDS tells how far it is"});
    }
    done_(Failure{"42P01", "no such table is known: " + table_.name, "SHOW TABLES"});
  }

 private:
  struct Tree {
    freshness::Domain* domain;
    query::Oid root;
  };

  [[nodiscard]] bool is_meant(const std::string& database) const {
    return table_.database.empty() || database == table_.database;
  }

  // One whose catalog is on its way, or will be when an event has come back; empty: none.
  [[nodiscard]] std::string database_unread() const {
    for (const freshness::FeedStatus& feed : daemon_.domains().status()) {
      if (!is_meant(feed.database) || (feed.state != "starting" && feed.state != "live")) continue;
      const freshness::Domain& domain = *daemon_.domains().get(feed.database);
      const freshness::TokenTable& tokens = domain.tokens();
      const bool changes = tokens.is_open(tokens.slot_of(freshness::schema_tag()));
      if (changes || !domain.catalog()) return feed.database;
    }
    return {};
  }

  [[nodiscard]] std::vector<Tree> trees_named() const {
    std::vector<Tree> trees;
    for (const freshness::Domain* known : daemon_.domains().all()) {
      const auto catalog = known->catalog();
      if (!is_meant(known->database()) || !catalog) continue;
      for (const auto& [oid, relation] : catalog->relations()) {
        if (relation.name != table_.name) continue;
        if (!table_.schema.empty() && relation.schema != table_.schema) continue;
        trees.push_back({daemon_.domains().get(known->database()), relation.root});
      }
    }
    return trees;
  }

  void flush(const std::vector<Tree>& trees) {
    missing_ = trees.size();
    for (const Tree& tree : trees) {
      flush_tree(daemon_, *tree.domain, tree.root,
                 [self = shared_from_this()](const std::string& error) { self->flushed(error); });
    }
  }

  void flushed(const std::string& error) {
    if (!error.empty()) error_ = error;
    if (--missing_ != 0) return;
    if (error_.empty()) return done_(Done{"FLUSH"});
    done_(Done{"FLUSH", "the event could not be sent (" + error_ +
                            "): everything of the database is forgotten"});
  }

  Daemon& daemon_;
  const console::TableName table_;
  const ReportDone done_;
  CatalogWait wait_;
  size_t missing_ = 0;
  std::string error_;
};

}  // namespace

// The schema event ends every answer of the database, also those that are just being fetched, in
// this proxy and in all that listen; until it has come back there are no hits.
void flush_all(Daemon& daemon, const ReportDone& done) {
  for (const freshness::Domain* known : daemon.domains().all()) {
    freshness::Domain* domain = daemon.domains().get(known->database());
    const uint32_t slot = domain->tokens().slot_of(freshness::schema_tag());
    domain->tokens().open(slot);
    domain->settler().ddl_ended({.slots = {slot}});
  }
  daemon.store().clear();
  if (daemon.redis() != nullptr) daemon.redis()->store().flush_all();
  done(Done{"FLUSH"});
}

// What has come from Redis into memory while it was being looked through goes at the end. Other
// proxies keep what they have in memory: nothing is outdated, and nobody is told.
void flush_query(Daemon& daemon, uint64_t id, const ReportDone& done) {
  const auto forget = [&daemon, id] {
    return daemon.store().remove_if(
        [id](const cache::Entry& entry) { return entry.query_id == id; });
  };
  const auto end = [&daemon, id, done](size_t found) {
    if (found > 0) return done(Done{"FLUSH"});
    daemon.gather_queries([id, done](const QuerySums& sums) {
      if (sums.find(id, nullptr) != nullptr) return done(Done{"FLUSH"});
      done(Failure{"42704", "no query has the id " + std::to_string(id), "SHOW QUERIES"});
    });
  };
  const size_t here = forget();
  if (daemon.redis() == nullptr) return end(here);
  daemon.redis()->store().flush_query(id, [forget, here, end, done](bool whole, size_t there) {
    const size_t late = forget();
    if (whole) return end(here + there + late);
    done(Done{"FLUSH",
              "Redis could not be looked through: what it still has may be given out until it "
              "expires"});
  });
}

void flush_table(Daemon& daemon, const console::TableName& table, const ReportDone& done) {
  std::make_shared<TableFlush>(daemon, table, done)->begin();
}

}  // namespace pgfresh::app
