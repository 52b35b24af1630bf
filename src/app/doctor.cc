#include "app/doctor.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <utility>

#include "cache/redis_client.h"
#include "cache/redis_trouble.h"

namespace pgfresh::app {
namespace {

using console::Finding;
using console::Severity;

constexpr std::string_view kInstall = "psql -v ON_ERROR_STOP=1 -f sql/install.sql";
// Clocks that differ by less are as good as equal; freshness asks no clock but its own anyway.
constexpr double kClockSecondsMax = 2;

Severity severity_of(std::string_view text) {
  for (const Severity severity : {Severity::kInfo, Severity::kWarning, Severity::kProblem}) {
    if (console::severity_text(severity) == text) return severity;
  }
  return Severity::kOk;
}

std::string quoted_name(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + "\"";
}

// By PostgreSQL's or libpq's words.
std::string remedy_of_connection(const DoctorFacts& facts) {
  const std::string_view error = facts.audit_error;
  const auto says = [error](std::string_view words) {
    return error.find(words) != std::string_view::npos;
  };
  if (says("permission denied for database")) {
    return "GRANT CONNECT ON DATABASE " + quoted_name(facts.database) + " TO " +
           quoted_name(facts.control_user) + ";";
  }
  if (says("too many c") || says("connection slots")) {
    return "raise max_connections, or the CONNECTION LIMIT of the role or database: pgfresh needs "
           "two for each database";
  }
  if (says("certificate") || says("private key")) {
    return "see sslmode, sslrootcert, sslcert and sslkey of upstream.url, and the server's "
           "certificate";
  }
  if (says("does not exist")) return "see the user and database of upstream.url";
  return "see upstream.url and pg_hba.conf: its user must reach this database";
}

bool is_about_a_table(Reason reason) {
  return reason == Reason::kNotWatched || reason == Reason::kRowSecurity ||
         reason == Reason::kUnlogged || reason == Reason::kRelationKind;
}

class Doctor {
 public:
  explicit Doctor(const DoctorFacts& facts) : facts_(facts) {
    for (const auto& asked : facts.asked) asked_.emplace(asked.table, asked.calls);
  }

  std::vector<Finding> run() {
    for (const AuditLine& line : facts_.audit) {
      if (line.kind == "version") installed_ = severity_of(line.severity) == Severity::kOk;
    }
    look_at_feed();
    if (!facts_.audit_error.empty()) {
      add(Severity::kProblem, "control connection", facts_.audit_error,
          remedy_of_connection(facts_));
      return std::move(findings_);
    }
    for (const AuditLine& line : facts_.audit) take(line);
    for (const auto& [schema, tables] : others_) {
      add(Severity::kInfo, "schema " + schema,
          std::to_string(tables) +
              (tables == 1 ? " table that no query has"
                           : " tables that no "
                             "queries have") +
              " asked for lately: not watched",
          "SELECT pgfresh.watch_schema(" + sql_literal(schema) + ");");
    }
    return std::move(findings_);
  }

 private:
  void add(Severity severity, std::string subject, std::string finding, std::string remedy = {}) {
    findings_.push_back(
        {severity, facts_.database, std::move(subject), std::move(finding), std::move(remedy)});
  }

  void look_at_feed();
  void take(const AuditLine& line);
  void take_table(const AuditLine& line, Severity severity);
  void take_clock(const AuditLine& line);

  const DoctorFacts& facts_;
  std::map<std::string, uint64_t, std::less<>> asked_;
  std::map<std::string, uint64_t> others_;  // schema → tables nobody watches or asks for
  bool installed_ = true;
  std::vector<Finding> findings_;
};

void Doctor::look_at_feed() {
  if (!facts_.cache_on) {
    add(Severity::kWarning, "cache", "is switched off: everything goes to PostgreSQL",
        "SET CACHE ON");
  }
  if (!facts_.feed) {
    add(Severity::kInfo, "feed", "no client has used this database yet, so nothing listens",
        "connect to it through pgfresh");
    return;
  }
  const freshness::FeedStatus& feed = *facts_.feed;
  // Then the schema's line says it.
  if (!installed_ || feed.trouble == reason_text(Reason::kNotInstalled)) return;
  if (feed.lease_left_ms <= 0) {
    add(Severity::kProblem, "feed",
        feed.state + (feed.trouble.empty() ? "" : ": " + feed.trouble) + "; no lease, so no hits",
        "SHOW FEEDS; look at pgfresh's log");
    return;
  }
  const int64_t slow_us = facts_.staleness_ms * 1000 / 4;
  const bool slow = feed.fence_us_last > slow_us;
  add(slow ? Severity::kWarning : Severity::kOk, "feed",
      feed.state + ", lease " + std::to_string(feed.lease_left_ms) + " ms, last fence " +
          std::to_string(feed.fence_us_last) + " us" +
          (slow ? ": more than a quarter of freshness.staleness" : ""),
      slow ? "raise freshness.staleness, or look for what slows PostgreSQL or the network" : "");
  if (!feed.refusal.empty()) {
    add(Severity::kWarning, "publishing",
        "PostgreSQL refuses it to pgfresh (" + feed.refusal +
            "): the triggers NOTIFY in the transactions of those who write",
        "see what is said of the control role, and PostgreSQL's log");
  }
}

void Doctor::take(const AuditLine& line) {
  const Severity severity = severity_of(line.severity);
  if (line.kind == "version") {
    const bool other = severity == Severity::kOk && line.finding != kInstallVersion;
    add(other ? Severity::kWarning : severity, line.subject,
        other ? "is version " + line.finding + ", this pgfresh comes with " +
                    std::string(kInstallVersion)
              : (severity == Severity::kOk ? "is version " : "") + line.finding,
        other || severity != Severity::kOk ? std::string(kInstall) : std::string());
  } else if (line.kind == "event_trigger") {
    const bool again = severity != Severity::kOk && line.remedy.empty();
    add(severity, line.subject, line.finding,
        again ? std::string(kInstall) + "  # as a superuser" : line.remedy);
  } else if (line.kind == "prepares") {
    if (facts_.triggers_notify) {
      add(severity, line.subject,
          line.finding +
              "; PostgreSQL refuses it in a transaction that has written a watched table, "
              "because the triggers NOTIFY");
    }
  } else if (line.kind == "clock") {
    take_clock(line);
  } else if (line.root != 0) {
    take_table(line, severity);
  } else {
    add(severity, line.subject, line.finding, line.remedy);
  }
}

void Doctor::take_table(const AuditLine& line, Severity severity) {
  if (!installed_) return;
  const auto asked = asked_.find(line.raw);
  std::string finding = line.finding;
  if (asked != asked_.end() && severity != Severity::kOk) {
    severity = std::max(severity, Severity::kWarning);
    finding += "; " + std::to_string(asked->second) + (asked->second == 1 ? " call" : " calls") +
               " asked for it";
  } else if (line.kind == "unwatched") {
    ++others_[line.schema];
    return;
  } else if (line.kind == "extension") {
    return;
  }
  add(severity, line.subject, std::move(finding), line.remedy);
}

void Doctor::take_clock(const AuditLine& line) {
  const double there = std::strtod(line.finding.c_str(), nullptr);
  const double apart = there - facts_.unix_s;
  const bool far = std::abs(apart) > kClockSecondsMax;
  add(far ? Severity::kInfo : Severity::kOk, "clock",
      far ? "PostgreSQL's is " + std::to_string(std::llround(apart)) +
                " s from ours; freshness does not depend on it, logs are hard to compare"
          : "PostgreSQL's and ours agree");
}

std::string_view redis_remedy(std::string_view trouble) {
  switch (cache::classify(trouble)) {
    case cache::RedisTrouble::kFull:
      return "CONFIG SET maxmemory-policy allkeys-lru  # on that Redis";
    case cache::RedisTrouble::kNotWriting:
      return "see the log of that Redis: it cannot save, or lacks replicas";
    case cache::RedisTrouble::kLogin:
      return "see the user and password of redis.url";
    case cache::RedisTrouble::kForbidden:
      return "grant its user the rights that README.md lists";
    case cache::RedisTrouble::kReplica:
    case cache::RedisTrouble::kCluster:
    case cache::RedisTrouble::kSentinel:
      return "give redis.url a primary that has all keys";
    case cache::RedisTrouble::kLoading:
    case cache::RedisTrouble::kBusy:
    case cache::RedisTrouble::kOther:
      break;
  }
  return "SHOW REDIS; see redis.url and the log of that Redis";
}

}  // namespace

std::vector<Finding> diagnose_redis(const std::vector<console::RedisRow>& connections) {
  if (connections.empty()) return {};
  const std::string ready(cache::state_name(cache::RedisState::kReady));
  const console::RedisRow* worst = &connections.front();  // one that is away, else one in trouble
  size_t away = 0;
  for (const console::RedisRow& each : connections) {
    const bool is_away = each.state != ready;
    away += is_away ? 1 : 0;
    const bool worse = is_away ? worst->state == ready || worst->trouble.empty()
                               : worst->state == ready && worst->trouble.empty();
    if (worse) worst = &each;
  }
  Finding finding{Severity::kOk, "", "redis", "", ""};
  if (away > 0) {
    finding.finding = std::to_string(away) + " of " + std::to_string(connections.size()) +
                      " connections are not in use (" + worst->state +
                      (worst->trouble.empty() ? "" : ": " + worst->trouble) +
                      "): answers come from memory and PostgreSQL";
  } else if (!worst->trouble.empty()) {
    finding.finding = "in use; what it refused last: " + worst->trouble;
  } else {
    finding.finding = worst->server + " at " + worst->address + ", an answer takes " +
                      std::to_string(worst->round_trip_ns / 1000) + " us";
  }
  if (away > 0 || !worst->trouble.empty()) {
    finding.severity = Severity::kWarning;
    finding.remedy = redis_remedy(worst->trouble);
  }
  return {finding};
}

std::vector<Finding> diagnose(const DoctorFacts& facts) { return Doctor(facts).run(); }

std::vector<DoctorFacts::Asked> asked_tables(const QuerySums& sums,
                                             const freshness::Domain& domain) {
  std::map<std::string, uint64_t> calls;
  for (const QuerySum& sum : sums.queries) {
    if (sum.stat.domain != &domain || sum.stat.counts.bypasses == 0) continue;
    for (const query::Cause& cause : sum.stat.causes) {
      if (is_about_a_table(cause.reason)) calls[cause.object] += sum.stat.counts.bypasses;
    }
  }
  std::vector<DoctorFacts::Asked> asked;
  for (const auto& [table, count] : calls) asked.push_back({table, count});
  return asked;
}

}  // namespace pgfresh::app
