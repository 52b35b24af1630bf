#include "app/doctor.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace pgfresh::app {
namespace {

using console::Finding;
using console::Severity;

DoctorFacts well() {
  DoctorFacts facts;
  facts.database = "care";
  facts.staleness_ms = 1000;
  facts.unix_s = 1000;
  freshness::FeedStatus feed;
  feed.state = "live";
  feed.lease_left_ms = 900;
  feed.fence_us_last = 50;
  facts.feed = feed;
  facts.audit = {{"version", "ok", "", "schema pgfresh", "", std::string(kInstallVersion), "", 0},
                 {"clock", "ok", "", "clock", "", "1000.5", "", 0}};
  return facts;
}

Finding only(const DoctorFacts& facts, std::string_view subject) {
  const std::vector<Finding> findings = diagnose(facts);
  const auto is_it = [&](const Finding& each) { return each.subject == subject; };
  CHECK(std::count_if(findings.begin(), findings.end(), is_it) == 1);
  const auto found = std::find_if(findings.begin(), findings.end(), is_it);
  return found == findings.end() ? Finding{} : *found;
}

TEST_CASE("doctor: nothing is wrong") {
  for (const Finding& each : diagnose(well())) {
    CHECK(each.severity == Severity::kOk);
    CHECK(each.database == "care");
    CHECK(each.remedy.empty());
  }
}

TEST_CASE("doctor: Redis") {
  CHECK(diagnose_redis({}).empty());
  console::RedisRow well;
  well.state = "ready";
  well.server = "redis 7.0.15";
  well.address = "127.0.0.1:6379";
  well.round_trip_ns = 123'456;
  const auto of = [](const std::vector<console::RedisRow>& rows) {
    const std::vector<Finding> findings = diagnose_redis(rows);
    REQUIRE(findings.size() == 1);
    return findings.front();
  };
  CHECK(of({well, well}).severity == Severity::kOk);
  CHECK(of({well, well}).finding == "redis 7.0.15 at 127.0.0.1:6379, an answer takes 123 us");
  CHECK(of({well, well}).remedy.empty());
  console::RedisRow full = well;
  full.trouble = "OOM command not allowed when used memory > 'maxmemory'.";
  CHECK(of({well, full}).severity == Severity::kWarning);
  CHECK(of({well, full}).finding.find("OOM command") != std::string::npos);
  CHECK(of({well, full}).remedy.find("maxmemory-policy") != std::string::npos);
  console::RedisRow away = well;
  away.state = "waiting";
  away.trouble = "connection refused";
  for (const std::vector<console::RedisRow>& rows :
       {std::vector{well, full, away}, std::vector{away, full, well}}) {
    CHECK(of(rows).severity == Severity::kWarning);
    CHECK(of(rows).finding ==
          "1 of 3 connections are not in use (waiting: connection refused): answers come from "
          "memory and PostgreSQL");
  }
}

TEST_CASE("doctor: the feed") {
  DoctorFacts facts = well();
  facts.feed->fence_us_last = 300'000;
  CHECK(only(facts, "feed").severity == Severity::kWarning);
  facts.feed->refusal = "permission denied for function pg_notify";
  CHECK(only(facts, "publishing").severity == Severity::kWarning);
  CHECK(only(facts, "publishing").finding.find("permission denied") != std::string::npos);
  facts.feed->refusal.clear();
  facts.feed->lease_left_ms = -5;
  facts.feed->state = "lost";
  facts.feed->trouble = "connection refused";
  CHECK(only(facts, "feed").severity == Severity::kProblem);
  CHECK(only(facts, "feed").finding.find("connection refused") != std::string::npos);
  facts.feed.reset();
  CHECK(only(facts, "feed").severity == Severity::kInfo);
  facts.cache_on = false;
  CHECK(only(facts, "cache").remedy == "SET CACHE ON");
}

TEST_CASE("doctor: a database without pgfresh has nothing the matter") {
  DoctorFacts facts = well();
  facts.feed->lease_left_ms = -5;
  facts.feed->trouble = std::string(reason_text(Reason::kNotInstalled));
  facts.audit[0] = {"version", "info", "", "schema pgfresh", "", "is not installed", "", 0};
  facts.audit.push_back({"unwatched", "info", "s", "s.t", "s.t", "is not watched", "SELECT 1", 7});
  for (const Finding& each : diagnose(facts)) CHECK(each.severity <= Severity::kInfo);
  CHECK(only(facts, "schema pgfresh").remedy.find("install.sql") != std::string::npos);
  CHECK(diagnose(facts).size() == 2);  // and the clock
}

TEST_CASE("doctor: a database that cannot be asked is a finding") {
  DoctorFacts facts = well();
  facts.audit.clear();
  facts.audit_error = "no pg_hba.conf entry";
  CHECK(only(facts, "control connection").severity == Severity::kProblem);
  CHECK(only(facts, "control connection").finding == "no pg_hba.conf entry");
}

TEST_CASE("doctor: version and clock are compared with ours") {
  DoctorFacts facts = well();
  facts.audit[0].finding = "0.9";
  facts.audit[1].finding = "900";
  CHECK(only(facts, "schema pgfresh").severity == Severity::kWarning);
  CHECK(only(facts, "schema pgfresh").remedy.find("install.sql") != std::string::npos);
  CHECK(only(facts, "clock").severity == Severity::kInfo);
  CHECK(only(facts, "clock").finding.find("-100 s") != std::string::npos);
}

TEST_CASE("doctor: what was asked for is a warning, the rest one line a schema") {
  DoctorFacts facts = well();
  for (const char* name : {"a", "b", "c"}) {
    facts.audit.push_back({"unwatched", "info", "s", std::string("s.") + name,
                           std::string("s.") + name, "is not watched", "SELECT 1", 7});
  }
  facts.audit.push_back({"extension", "info", "s", "s.ref", "s.ref", "is not watched", "", 8});
  facts.asked = {{"s.b", 12}};
  CHECK(only(facts, "s.b").severity == Severity::kWarning);
  CHECK(only(facts, "s.b").finding == "is not watched; 12 calls asked for it");
  CHECK(only(facts, "schema s").finding.starts_with("2 tables"));
  CHECK(only(facts, "schema s").remedy == "SELECT pgfresh.watch_schema('s');");
  const auto findings = diagnose(facts);
  CHECK(std::none_of(findings.begin(), findings.end(),
                     [](const Finding& each) { return each.subject == "s.ref"; }));
  facts.asked = {{"s.ref", 1}};
  CHECK(only(facts, "s.ref").severity == Severity::kWarning);
}

TEST_CASE("the audit's rows are read or refused; names are quoted") {
  SqlRows rows;
  rows.rows = {{"covered", "ok", "s", "s.t", "s.t", "fine", std::nullopt, "4294967295"}};
  const auto lines = read_audit(rows);
  REQUIRE(lines.has_value());
  CHECK((*lines)[0].root == 4294967295);
  CHECK((*lines)[0].remedy.empty());
  rows.rows.push_back({"x"});
  CHECK_FALSE(read_audit(rows).has_value());
  CHECK(sql_literal("a'b") == "'a''b'");
  CHECK(sql_literal("a\\'b") == " E'a\\\\''b'");
  CHECK(defaults_sql("o'ne", {"TimeZone"}).find("'o''ne'") != std::string::npos);
}

}  // namespace
}  // namespace pgfresh::app
