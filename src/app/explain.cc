#include "app/explain.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "console/values.h"
#include "freshness/stamp.h"

namespace pgfresh::app {
namespace {

using console::ExplainRow;

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerS = 1'000'000'000;

// The highest n of a $n in a canonical text; strings and quoted names are passed over. 0: none.
int parameters_of(const query::Statement& statement) {
  int highest = 0;
  char quote = 0;
  const std::string& text = statement.canonical;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '\'' || c == '"') {
      quote = c;
    } else if (c == '$') {
      int number = 0;
      while (at + 1 < text.size() && text[at + 1] >= '0' && text[at + 1] <= '9' &&
             number < 10'000) {
        number = number * 10 + (text[++at] - '0');
      }
      highest = std::max(highest, number);
    }
  }
  return highest;
}

std::string ms_text(int64_t ns) { return std::to_string(ns / kNsPerMs) + " ms"; }
std::string us_text(int64_t ns) { return std::to_string(ns / 1000) + " us"; }

class Explanation {
 public:
  explicit Explanation(const ExplainFacts& facts)
      : facts_(facts), parameters_(parameters_of(*facts.statement)) {}

  std::vector<ExplainRow> run() {
    add_verdict();
    add_present();
    add_key();
    add_tables();
    add_dependencies();
    add_lifetime();
    add_entry();
    add_history();
    add_second_level();
    return std::move(rows_);
  }

 private:
  void add(std::string item, std::string value, std::string detail = {}) {
    rows_.push_back({std::move(item), std::move(value), std::move(detail)});
  }
  void add_verdict();
  void add_present();
  void add_key();
  void add_tables();
  void add_table(const query::Relation& root);
  void add_dependencies();
  void add_lifetime();
  void add_entry();
  void add_history();
  void add_second_level();

  [[nodiscard]] std::string name_of(query::Oid oid) const;
  [[nodiscard]] std::string open_text(uint64_t tag) const;
  [[nodiscard]] std::string time(int64_t loop_ns) const {
    const auto text = console::time_text((loop_ns + facts_.unix_offset_ns) / kNsPerS);
    return std::get<std::string>(text);
  }

  const ExplainFacts& facts_;
  const int parameters_;
  std::vector<ExplainRow> rows_;
};

void Explanation::add_verdict() {
  const std::vector<query::Cause> causes =
      facts_.verdict ? facts_.verdict->causes : query::causes_of(*facts_.statement);
  if (!facts_.verdict && causes.empty()) {
    add("cacheable", "unknown", "the catalog of the database has not been read");
  } else {
    const bool yes = causes.empty();
    add("cacheable", yes ? "yes" : "no",
        yes ? "nothing in the statement stands against it" : "every reason stands below");
  }
  for (const query::Cause& cause : causes) {
    add("reason", std::string(reason_label(cause.reason)),
        (cause.object.empty() ? "" : cause.object + ": ") + std::string(reason_text(cause.reason)));
  }
}

// What stands against hits now, whatever the statement.
void Explanation::add_present() {
  const auto against = [this](Reason reason) {
    add("now", std::string(reason_label(reason)), std::string(reason_text(reason)));
  };
  if (facts_.settings.cache_mode != proxy::CacheMode::kOn) return against(Reason::kOff);
  if (!facts_.domain->lease_valid(facts_.now_ns)) {
    const Reason trouble = facts_.domain->trouble();
    return against(trouble == Reason::kNone ? Reason::kNoLease : trouble);
  }
  if (facts_.catalog == nullptr) return against(Reason::kNoCatalog);
  add("now", "ready", "the cache is on, and the feed of the database is healthy");
}

void Explanation::add_key() {
  add("key.server", facts_.server);
  add("key.database", facts_.domain->database(), "settings assumed: " + facts_.assumed);
  for (const proxy::ScopePart& part : facts_.scope) {
    if (part.name != "database") add("key." + part.name, part.value);
  }
  add("key.text", facts_.statement->canonical);
  if (parameters_ > 0) {
    add("key.parameters", "$1" + (parameters_ > 1 ? " to $" + std::to_string(parameters_) : ""),
        "types, formats and values: each combination has an entry of its own");
  }
  add("key.formats", "text", "assumed; answers with binary columns have entries of their own");
}

std::string Explanation::name_of(query::Oid oid) const {
  const query::Relation* relation = facts_.catalog->relation(oid);
  if (relation == nullptr) return "oid " + std::to_string(oid);
  return relation->schema + "." + relation->name;
}

// The trees it reads, as PostgreSQL shows them now.
void Explanation::add_tables() {
  if (!facts_.verdict) return;
  if (!facts_.audit_error.empty()) {
    add("tables", "unknown", "PostgreSQL was not to be asked: " + facts_.audit_error);
  }
  for (const query::Oid root : facts_.verdict->roots()) {
    if (const query::Relation* relation = facts_.catalog->relation(root)) add_table(*relation);
  }
}

void Explanation::add_table(const query::Relation& root) {
  const std::string name = root.schema + "." + root.name;
  bool told = false;
  for (const AuditLine& line : facts_.audit) {
    if (line.root != root.oid) continue;
    add("table", name, line.finding + (line.remedy.empty() ? "" : "; remedy: " + line.remedy));
    told = true;
  }
  if (!told) add("table", name, root.watched ? "watched" : "not watched");
}

std::string Explanation::open_text(uint64_t tag) const {
  const freshness::TokenTable& tokens = facts_.domain->tokens();
  return tokens.is_open(tokens.slot_of(tag)) ? "; being written through this proxy now" : "";
}

// An occurrence of a table depends on keys of it, or on all of it; then it says why.
void Explanation::add_dependencies() {
  if (!facts_.verdict) return;
  std::set<std::string> told;
  const auto depends = [&](const std::string& tag, const std::string& why) {
    if (told.insert(tag).second) add("depends_on", tag, why);
  };
  for (const query::Dependency& each : facts_.verdict->dependencies) {
    const std::string name = name_of(each.root);
    if (!each.row_aware()) {
      depends("any(" + name + ")", "every change of the table ends the answer: " +
                                       std::string(query::any_reason_text(each.why_any)) +
                                       open_text(freshness::any_tag(each.root)));
      continue;
    }
    const std::string column = "key(" + name + "." + each.column_name + " = ";
    const std::string why = "a row that has or had this value";
    for (const std::string& value : each.values.literals) {
      depends(column + value + ")",
              why + open_text(freshness::key_tag(each.root, each.column, value)));
    }
    for (const query::KeyParameter& parameter : each.values.parameters) {
      depends(
          column + (parameter.array ? "each of $" : "$") + std::to_string(parameter.number) + ")",
          why);
    }
    depends("whole(" + name + ")", "a change of rows that are not known, such as TRUNCATE" +
                                       open_text(freshness::whole_tag(each.root)));
  }
  depends("schema(" + facts_.domain->database() + ")",
          "DDL, privileges and policies end every answer" + open_text(freshness::schema_tag()));
}

void Explanation::add_lifetime() {
  const auto hint = facts_.statement->hint_ttl_ms;
  add("ttl", std::to_string(hint.value_or(facts_.settings.ttl_ms)) + " ms",
      hint ? "the hint in the statement" : "cache.ttl");
  if (facts_.max_age_ms > 0) {
    add("max_age", std::to_string(facts_.max_age_ms) + " ms", "pgfresh.max_age of the session");
  }
}

void Explanation::add_entry() {
  if (parameters_ > 0) {
    add("entry", "per value", "each combination of parameters has its own; the sums are below");
    return;
  }
  if (facts_.entry == nullptr) {
    add("entry", "none", "under the identities and settings known here");
    return;
  }
  const cache::Entry& entry = *facts_.entry;
  std::string state = "stale";
  switch (freshness::judge(facts_.domain->tokens(), entry.stamp())) {
    case freshness::Judgement::kFresh:
      state = facts_.now_ns < entry.expires_ns ? "fresh" : "expired";
      break;
    case freshness::Judgement::kOpen:
      state = "open";
      break;
    case freshness::Judgement::kStale:
      break;
  }
  add("entry", state,
      facts_.entry_scopes > 1
          ? "one of " + std::to_string(facts_.entry_scopes) + ", for as many identities or settings"
          : "");
  add("entry.bytes", std::to_string(entry.body().size()));
  add("entry.age", ms_text(facts_.now_ns - entry.stored_ns));
  add("entry.expires_in", ms_text(entry.expires_ns - facts_.now_ns));
  add("entry.hits", std::to_string(entry.hits.load(std::memory_order_relaxed)));
  add("entry.upstream", ms_text(entry.upstream_ns), "what PostgreSQL took to make it");
}

// Of all texts that differ from this one in constants alone.
void Explanation::add_history() {
  add("query.id", std::to_string(facts_.statement->query_id),
      "as SHOW QUERIES and SHOW pgfresh.last have it; constants do not count");
  if (!facts_.sum) {
    add("query.calls", "0", "nobody has asked lately");
    return;
  }
  const proxy::QueryStat& stat = facts_.sum->stat;
  add("query.calls", std::to_string(stat.counts.calls()));
  add("query.hits", std::to_string(stat.counts.hits_l1 + stat.counts.hits_l2),
      stat.counts.hits_l2 != 0
          ? std::to_string(stat.counts.hits_l2) + " of them from the second level"
          : "");
  add("query.misses", std::to_string(stat.counts.misses));
  add("query.bypasses", std::to_string(stat.counts.bypasses),
      stat.reason_last == Reason::kNone
          ? ""
          : "the last one: " + std::string(reason_label(stat.reason_last)));
  if (stat.hit_ns != 0) add("query.last_hit", time(stat.hit_ns));
  const uint64_t ended = facts_.sum->writes.freed + stat.counts.stale;
  add("query.invalidations", std::to_string(ended));
  if (facts_.sum->writes.freed > 0) {
    add("query.last_invalidation", time(facts_.sum->writes.last_ns),
        "by " + facts_.sum->writes_table);
  }
}

// What the second level's cost model makes of the query (proxy/remote_cost.h).
void Explanation::add_second_level() {
  if (!facts_.second_level || !facts_.sum) return;
  const proxy::RemoteCost& cost = facts_.sum->stat.remote;
  const bool always = facts_.settings.remote_ask == proxy::RemoteAsk::kAlways;
  const std::string times = "a look-up takes " + us_text(cost.lookup_ns()) + ", PostgreSQL " +
                            us_text(cost.upstream_ns()) + "; " +
                            std::to_string(std::lround(cost.hit_share() * 100)) +
                            " % of the last look-ups were hits";
  const std::string why = cost.asked() == 0 ? "nothing has been measured yet" : times;
  if (always) {
    add("second_level", "asked", "redis.ask = always; " + why);
  } else if (cost.pays(0)) {
    add("second_level", "asked", why);
  } else {
    add("second_level", "tried now and then", "it does not pay: " + why);
  }
  add("second_level.lookups", std::to_string(cost.asked()),
      cost.skipped() != 0 ? std::to_string(cost.skipped()) + " left out" : "");
}

}  // namespace

std::vector<console::ExplainRow> explain(const ExplainFacts& facts) {
  return Explanation(facts).run();
}

}  // namespace pgfresh::app
