#include "app/console_reports.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "app/catalog_wait.h"
#include "app/daemon.h"
#include "app/doctor.h"
#include "app/explain.h"
#include "proxy/key.h"

namespace pgfresh::app {
namespace {

using console::Failure;

std::string list_of(const std::vector<const freshness::Domain*>& domains) {
  std::string names;
  for (const freshness::Domain* domain : domains) {
    names += (names.empty() ? "" : ", ") + domain->database();
  }
  return names.empty() ? "none" : names;
}

// The one that is named, else the only one, else the only one where pgfresh is installed, as far as
// that is known; null: none.
const freshness::Domain* choose_database(const std::vector<const freshness::Domain*>& known,
                                         const std::string& name) {
  std::vector<const freshness::Domain*> fitting = known;
  std::erase_if(fitting, [&name](const freshness::Domain* domain) {
    return !name.empty() && domain->database() != name;
  });
  if (fitting.size() > 1) {
    std::erase_if(fitting, [](const freshness::Domain* domain) {
      const auto catalog = domain->catalog();
      return catalog != nullptr && !catalog->installed();
    });
  }
  return fitting.size() == 1 ? fitting.front() : nullptr;
}

double unix_seconds() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(since).count();
}

std::string part_of(const proxy::Scope& scope, std::string_view name) {
  for (const proxy::ScopePart& part : proxy::parts_of(scope)) {
    if (part.name == name) return part.value;
  }
  return {};
}

// ── EXPLAIN CACHE ────────────────────────────────────────────────────────────────────────────────

// One EXPLAIN on its way. Each step ends by handing over to the next one, on the loop it belongs
// to.
class Explaining : public std::enable_shared_from_this<Explaining> {
 public:
  Explaining(Daemon& daemon, Loop& home, const console::Command& command, ReportDone done)
      : daemon_(daemon), home_(home), command_(command), done_(std::move(done)) {}

  // Control loop.
  void begin() {
    const std::vector<const freshness::Domain*> known = daemon_.domains().all();
    facts_.domain = choose_database(known, command_.database);
    if (facts_.domain == nullptr && command_.database.empty()) {
      return done_(Failure{"42601", "which database is meant is not clear: name one",
                           "EXPLAIN CACHE FOR database SELECT ...; known are: " + list_of(known)});
    }
    if (facts_.domain == nullptr) {
      return done_(Failure{"3D000", "no client has used database \"" + command_.database + "\" yet",
                           "known are: " + list_of(known)});
    }
    facts_.server = daemon_.server_name();
    facts_.settings = daemon_.options().session;
    facts_.catalog = facts_.domain->catalog();
    const bool unread =
        facts_.catalog == nullptr && facts_.domain->trouble() != Reason::kNotInstalled;
    const auto retry = [self = shared_from_this()] { self->begin(); };
    if (unread && wait_.again(daemon_.control(), retry)) return;
    daemon_.gather_sessions(
        [self = shared_from_this()](const std::vector<proxy::SessionInfo>& infos) {
          self->choose_settings(infos);
        });
  }

 private:
  // Control loop. A live session's settings, the one that was active last; else those a session
  // had; else what such a session would begin with.
  void choose_settings(const std::vector<proxy::SessionInfo>& infos) {
    const proxy::SessionInfo* chosen = nullptr;
    for (const proxy::SessionInfo& info : infos) {
      if (info.scope == nullptr || info.database != facts_.domain->database()) continue;
      if (!command_.user.empty() && info.user != command_.user) continue;
      if (chosen == nullptr || info.active_ns > chosen->active_ns) chosen = &info;
    }
    if (chosen != nullptr) {
      facts_.assumed = "those of session " + std::to_string(chosen->id) + " of " + chosen->user;
      return take_scope(chosen->scope);
    }
    if (const auto ended = scopes(); !ended.empty()) {
      facts_.assumed =
          "those of a session of " + part_of(*ended.front(), "session_user") + " that has ended";
      return take_scope(ended.front());
    }
    daemon_.visits().ask(
        facts_.domain->database(), defaults_sql(command_.user, proxy::keyed_settings()),
        [self = shared_from_this()](const SqlResult& result) { self->take_defaults(result); });
  }

  // The remembered ones of this database and, if one is named, this user.
  [[nodiscard]] std::vector<proxy::ScopeRef> scopes() const {
    std::vector<proxy::ScopeRef> fitting = daemon_.scopes().all();
    std::erase_if(fitting, [this](const proxy::ScopeRef& scope) {
      return part_of(*scope, "database") != facts_.domain->database() ||
             (!command_.user.empty() && part_of(*scope, "session_user") != command_.user);
    });
    return fitting;
  }

  void take_scope(const proxy::ScopeRef& scope) {
    scope_ = scope;
    facts_.scope = proxy::parts_of(*scope);
    facts_.max_age_ms = scope->max_age_ms;
    search_path_ = scope->search_path;
    at_home();
  }

  void take_defaults(const SqlResult& result) {
    if (!result.error.empty()) {
      return done_(
          Failure{"08006", "the settings of a session could not be read: " + result.error, ""});
    }
    std::string user;
    std::string schemas;
    for (const auto& row : result.rows.rows) {
      if (row.size() != 2 || !row[0]) continue;
      const std::string value = row[1].value_or("");
      if (*row[0] == "@user") {
        user = value;
      } else if (*row[0] == "@schemas") {
        schemas = value;
      } else if (!value.empty()) {
        facts_.scope.push_back({*row[0], value});
      }
    }
    if (user.empty()) {
      return done_(Failure{"42704", "role \"" + command_.user + "\" does not exist", ""});
    }
    for (size_t at = 0; at <= schemas.size();) {
      const size_t end = std::min(schemas.find('\x1f', at), schemas.size());
      search_path_.push_back(schemas.substr(at, end - at));
      at = end + 1;
    }
    std::replace(schemas.begin(), schemas.end(), '\x1f', ' ');
    facts_.scope.insert(facts_.scope.begin(),
                        {{"session_user", user}, {"current_user", user}, {"schemas", schemas}});
    facts_.assumed = "those that a new session of " + user + " begins with";
    at_home();
  }

  void at_home() {
    home_.post([self = shared_from_this()] { self->analyze(); });
  }

  // A worker's loop: libpg_query recurses, and the worker's stack is made for it.
  void analyze() {
    facts_.statement = query::analyze(command_.sql, facts_.settings.text_bytes_max);
    if (facts_.catalog != nullptr) {
      facts_.verdict = query::resolve(*facts_.statement, *facts_.catalog, search_path_);
    }
    daemon_.gather_queries([self = shared_from_this()](const QuerySums& sums) {
      const QuerySum* sum = sums.find(self->facts_.statement->query_id, self->facts_.domain);
      if (sum != nullptr) self->facts_.sum = *sum;
      self->look_for_entry();
    });
  }

  // Control loop.
  void look_for_entry() {
    std::vector<proxy::ScopeRef> candidates = scopes();
    if (scope_ != nullptr) candidates.insert(candidates.begin(), scope_);
    for (const proxy::ScopeRef& scope : candidates) {
      if (scope == scope_ && facts_.entry != nullptr) continue;
      std::string key = proxy::key_prefix(*scope, facts_.statement->canonical);
      proxy::append_plain_execution(key);
      const cache::EntryRef entry = daemon_.store().peek({key, hash128(key)});
      if (entry == nullptr) continue;
      ++facts_.entry_scopes;
      if (facts_.entry == nullptr) facts_.entry = entry;
    }
    if (!facts_.verdict || facts_.verdict->dependencies.empty()) return finish();
    daemon_.visits().ask(
        facts_.domain->database(), std::string(audit_sql()),
        [self = shared_from_this()](const SqlResult& result) { self->take_audit(result); });
  }

  void take_audit(const SqlResult& result) {
    facts_.audit_error = result.error;
    if (result.error.empty()) {
      auto lines = read_audit(result.rows);
      if (lines) facts_.audit = std::move(*lines);
    }
    finish();
  }

  void finish() {
    facts_.now_ns = daemon_.control().clock().now_ns();
    facts_.unix_offset_ns = daemon_.unix_offset_ns();
    facts_.second_level = daemon_.redis() != nullptr;
    done_(console::explain_table(explain(facts_)));
  }

  Daemon& daemon_;
  Loop& home_;
  const console::Command command_;
  const ReportDone done_;
  ExplainFacts facts_;
  proxy::ScopeRef scope_;  // null: the defaults are assumed
  CatalogWait wait_;
  std::vector<std::string> search_path_;
};

// ── DOCTOR ───────────────────────────────────────────────────────────────────────────────────────

// One DOCTOR on its way, on the control loop: databases are visited side by side.
class Examination : public std::enable_shared_from_this<Examination> {
 public:
  Examination(Daemon& daemon, ReportDone done) : daemon_(daemon), done_(std::move(done)) {}

  void begin(const std::string& database, const QuerySums& sums) {
    const std::vector<freshness::FeedStatus> feeds = daemon_.domains().status();
    for (const freshness::Domain* domain : daemon_.domains().all()) {
      if (!database.empty() && domain->database() != database) continue;
      DoctorFacts& facts = add(domain->database());
      facts.asked = asked_tables(sums, *domain);
      for (const freshness::FeedStatus& feed : feeds) {
        if (feed.database == domain->database()) facts.feed = feed;
      }
    }
    if (facts_.empty() && !database.empty()) add(database);
    missing_ = facts_.size();
    if (missing_ == 0) return finish();
    for (size_t i = 0; i < facts_.size(); ++i) {
      daemon_.visits().ask(facts_[i].database, std::string(audit_sql()),
                           [self = shared_from_this(), i](const SqlResult& result) {
                             self->take(self->facts_[i], result);
                           });
    }
  }

 private:
  DoctorFacts& add(std::string database) {
    DoctorFacts& facts = facts_.emplace_back();
    facts.database = std::move(database);
    facts.control_user = daemon_.control_user();
    facts.staleness_ms = daemon_.options().feed.staleness_ms;
    facts.cache_on = daemon_.cache_mode() == proxy::CacheMode::kOn;
    facts.triggers_notify = daemon_.options().feed.publish == freshness::Publish::kTrigger;
    return facts;
  }

  void take(DoctorFacts& facts, const SqlResult& result) {
    facts.unix_s = unix_seconds();
    facts.audit_error = result.error;
    if (result.error.empty()) {
      auto lines = read_audit(result.rows);
      if (lines) {
        facts.audit = std::move(*lines);
      } else {
        facts.audit_error = "the answer is not understood";
      }
    }
    if (--missing_ == 0) finish();
  }

  void finish() {
    daemon_.gather_redis(
        [self = shared_from_this()](const std::vector<console::RedisRow>& connections) {
          std::vector<console::Finding> findings = diagnose_redis(connections);
          for (const DoctorFacts& facts : self->facts_) {
            for (console::Finding& each : diagnose(facts)) findings.push_back(std::move(each));
          }
          self->done_(console::doctor_table(std::move(findings)));
        });
  }

  Daemon& daemon_;
  const ReportDone done_;
  std::vector<DoctorFacts> facts_;
  size_t missing_ = 0;
};

}  // namespace

void explain_cache(Daemon& daemon, Loop& home, const console::Command& command, ReportDone done) {
  auto explaining = std::make_shared<Explaining>(daemon, home, command, std::move(done));
  daemon.control().post([explaining] { explaining->begin(); });
}

void run_doctor(Daemon& daemon, const console::Command& command, ReportDone done) {
  auto examination = std::make_shared<Examination>(daemon, std::move(done));
  daemon.gather_queries([examination, database = command.database](const QuerySums& sums) {
    examination->begin(database, sums);
  });
}

}  // namespace pgfresh::app
