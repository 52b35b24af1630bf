#include "console/command.h"

#include <doctest/doctest.h>

#include "console/courtesy.h"
#include "console/statements.h"

namespace pgfresh::console {
namespace {

Tokens tokens_of(std::string_view text) {
  auto statements = read_statements(text);
  REQUIRE(statements.has_value());
  REQUIRE(statements->size() == 1);
  return statements->front();
}

std::string spelled(std::string_view text) {
  const auto command = parse_command(tokens_of(text));
  return command ? to_text(*command) : "none";
}

TEST_CASE("commands: case, semicolon, comments and white space do not matter") {
  CHECK(spelled("SHOW STATS") == "SHOW STATS");
  CHECK(spelled("  show\n\tstats ; ") == "SHOW STATS");
  CHECK(spelled("/* a /* nested */ one */ Show -- and this\n Clients") == "SHOW CLIENTS");
  CHECK(spelled("flush") == "FLUSH ALL");
  CHECK(spelled("flush all") == "FLUSH ALL");
  CHECK(spelled("shutdown") == "SHUTDOWN");
  CHECK(spelled("shutdown wait") == "SHUTDOWN WAIT");
  CHECK(spelled("set cache OFF") == "SET CACHE OFF");
  CHECK(spelled("kill 12") == "KILL 12");
}

TEST_CASE("commands: what is not one") {
  for (const char* text :
       {"SHOW", "SHOW STATS NOW", "KILL", "KILL x", "KILL 1.5", "KILL -1",
        "KILL 99999999999999999999", "FLUSH TABLE", "FLUSH TABLE a.", "FLUSH TABLE a.b.c.d",
        "\"show\" stats", "SHOW 'stats'", "SET CACHE", "FLUSH EVERYTHING", "RELOAD RELOAD"}) {
    CAPTURE(text);
    CHECK(spelled(text) == "none");
  }
}

TEST_CASE("commands: table names are read as SQL reads them") {
  const auto table = [](std::string_view text) { return parse_command(tokens_of(text))->table; };
  CHECK(table("flush table Doctors").name == "doctors");
  CHECK(table("flush table Doctors").schema.empty());
  CHECK(table("flush table public.\"Doctors\"").name == "Doctors");
  CHECK(table("flush table public.\"Doctors\"").schema == "public");
  const TableName full = table("flush table care.public.\"a\"\"b\"");
  CHECK(full.database == "care");
  CHECK(full.schema == "public");
  CHECK(full.name == "a\"b");
  CHECK(spelled("flush table care.public.\"a\"\"b\"") == "FLUSH TABLE care.public.\"a\"\"b\"");
}

TEST_CASE("commands: every pattern is its own spelling, and help lists what there is") {
  const Table help = help_table();
  CHECK(help.columns() == help_columns());
  bool lists_kill = false;
  for (const Row& row : help.rows()) {
    const auto& pattern = std::get<std::string>(row[0]);
    CHECK_FALSE(std::get<std::string>(row[1]).empty());
    lists_kill = lists_kill || pattern == "KILL <id>";
    CHECK(pattern != "SHOW POOLS");
  }
  CHECK(lists_kill);
  for (const Verb verb : {Verb::kShowHelp, Verb::kShowFeeds, Verb::kReload, Verb::kShutdownWait}) {
    CHECK(parse_command(tokens_of(pattern_of(verb)))->verb == verb);
  }
}

TEST_CASE("tokens: statements, quotes and what is unfinished") {
  CHECK(read_statements("")->empty());
  CHECK(read_statements(" ; ;; -- x")->empty());
  CHECK(read_statements("a;b;c")->size() == 3);
  CHECK(read_statements("select 'a;b'")->size() == 1);
  CHECK(tokens_of("'it''s'")[0].text == "it's");
  for (const char* text : {"'open", "\"open", "/* open", "/* /* */", "'a''"}) {
    CAPTURE(text);
    CHECK_FALSE(read_statements(text).has_value());
  }
}

TEST_CASE("EXPLAIN CACHE takes everything behind it as the statement") {
  const auto explain = [](std::string_view text) {
    return parse_explain(text).value_or(Command{});
  };
  CHECK(explain("explain cache select 1; select ';'  \n").sql == "select 1; select ';'");
  CHECK(explain("/* psql */ EXPLAIN\tCACHE -- x\n select 1").sql == "-- x\n select 1");
  CHECK(explain("explain cache /* pgfresh: off */ select 1").sql == "/* pgfresh: off */ select 1");
  const Command named = explain("EXPLAIN CACHE FOR Care.\"Ann\"\"a\" select $$x$$");
  CHECK(named.database == "care");
  CHECK(named.user == "Ann\"a");
  CHECK(named.sql == "select $$x$$");
  CHECK(explain("explain cache for care select 1").user.empty());
  CHECK(explain("explain cache forty").sql == "forty");
  CHECK(explain("explain cache").sql.empty());
  CHECK(explain("explain cache for care.").sql.empty());
  CHECK_FALSE(parse_explain("explain select 1").has_value());
  CHECK_FALSE(parse_explain("explained cache select 1").has_value());
  CHECK_FALSE(parse_explain("/* open").has_value());
  CHECK_FALSE(parse_explain("").has_value());
}

TEST_CASE("DOCTOR takes a database, SHOW QUERIES all or the first") {
  CHECK(parse_command(tokens_of("DOCTOR"))->database.empty());
  CHECK(parse_command(tokens_of("doctor \"Care\""))->database == "Care");
  CHECK_FALSE(parse_command(tokens_of("doctor a b")).has_value());
  CHECK(parse_command(tokens_of("show queries"))->verb == Verb::kShowQueries);
  CHECK(parse_command(tokens_of("show queries all"))->verb == Verb::kShowQueriesAll);
  CHECK(parse_command(tokens_of("flush query 9223372036854775807"))->id == INT64_MAX);
  CHECK(to_text(*parse_command(tokens_of("flush query 7"))) == "FLUSH QUERY 7");
  CHECK_FALSE(parse_command(tokens_of("flush query x")).has_value());
}

TEST_CASE("advice names the usage, quotes briefly, and stays ASCII") {
  CHECK(advise(tokens_of("kill it")).hint.find("KILL <id>") != std::string::npos);
  CHECK(advise(tokens_of("flush it")).hint.find("FLUSH TABLE <table>") != std::string::npos);
  const Advice advice = advise(tokens_of(std::string(3000, '\xc3')));
  CHECK(advice.message.size() < 120);
  CHECK(advice.message.find('\xc3') == std::string::npos);
}

// ── Courtesies ───────────────────────────────────────────────────────────────────────────────────

CourtesyDesk desk() { return CourtesyDesk({"ada", "pgfresh", "psql", "0.1", 42}); }

// The single value a statement gives, its tag when it has no rows, or its SQLSTATE.
std::string said(CourtesyDesk& at, std::string_view text) {
  const auto answer = at.answer(tokens_of(text));
  if (!answer) return "unknown";
  if (const auto* failure = std::get_if<Failure>(&answer->outcome)) return failure->sqlstate;
  if (const auto* done = std::get_if<Done>(&answer->outcome)) return done->tag;
  const Value& value = std::get<Table>(answer->outcome).rows().at(0).at(0);
  if (const auto* number = std::get_if<int64_t>(&value)) return std::to_string(*number);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "t" : "f";
  return std::get<std::string>(value);
}

TEST_CASE("courtesy: what drivers ask when they connect") {
  CourtesyDesk at = desk();
  CHECK(said(at, "SELECT 1") == "1");
  CHECK(said(at, "select pg_catalog.version()") == "PostgreSQL 15.0 (pgfresh 0.1 console)");
  CHECK(said(at, "select current_schema()") == "public");
  CHECK(said(at, "SHOW TRANSACTION ISOLATION LEVEL") == "read committed");
  CHECK(said(at, "show standard_conforming_strings") == "on");
  CHECK(said(at, "SELECT current_setting('server_version_num')") == "150000");
  CHECK(said(at, "SELECT pg_is_in_recovery()") == "f");
  CHECK(said(at, "select current_user as me") == "ada");
  CHECK(said(at, "SELECT pg_advisory_unlock_all()") == "");
  CHECK(said(at, "SHOW TimeZone") == "UTC");
  CHECK(said(at, "SET extra_float_digits = 3") == "SET");
  CHECK(said(at, "SHOW extra_float_digits") == "3");
  CHECK(said(at, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY") == "SET");
  CHECK(said(at, "SET datestyle TO ISO, DMY") == "SET");
  CHECK(said(at, "SHOW DateStyle") == "iso, dmy");
  CHECK(said(at, "RESET ALL") == "RESET");
  CHECK(said(at, "SHOW DateStyle") == "ISO, MDY");
  CHECK(said(at, "UNLISTEN *") == "UNLISTEN");
  CHECK(said(at, "CLOSE ALL") == "CLOSE CURSOR ALL");
  CHECK(said(at, "DISCARD ALL") == "DISCARD ALL");
  CHECK(said(at, "DEALLOCATE s1") == "DEALLOCATE");
}

TEST_CASE("courtesy: what is refused, and what is not known") {
  CourtesyDesk at = desk();
  CHECK(said(at, "SET client_encoding = 'UTF-8'") == "SET");
  CHECK(said(at, "SET client_encoding = 'LATIN1'") == "0A000");
  CHECK(said(at, "SET server_version = '9'") == "55P02");
  CHECK(said(at, "SET no_such_thing = 1") == "42704");
  CHECK(said(at, "SET application_name = '" + std::string(2000, 'x') + "'") == "22023");
  CHECK(said(at, "SELECT 1 + 1") == "unknown");
  CHECK(said(at, "SELECT now()") == "unknown");
  CHECK(said(at, "SELECT version(") == "unknown");
  CHECK(said(at, "SELECT") == "unknown");
  CHECK(said(at, "SHOW no_such_thing") == "unknown");
  CHECK(said(at, "SAVEPOINT a") == "25P01");
}

TEST_CASE("courtesy: describing runs nothing") {
  CourtesyDesk at = desk();
  CHECK(at.describe(tokens_of("BEGIN"))->empty());
  CHECK(at.block() == 'I');
  CHECK(at.describe(tokens_of("SET application_name = 'x'"))->empty());
  CHECK(said(at, "SHOW application_name") == "psql");
  const auto columns = at.describe(tokens_of("SELECT 1 AS one, true, 'x' \"Text\""));
  CHECK(*columns == Columns{{"one", Type::kInt8}, {"bool", Type::kBool}, {"Text", Type::kText}});
  CHECK_FALSE(at.describe(tokens_of("SELECT foo FROM bar")).has_value());
}

TEST_CASE("statements: too many words, too many statements") {
  const CourtesyDesk at = desk();
  std::string many = "SELECT 1";
  for (int i = 0; i < 200; ++i) many += ", 1";
  CHECK(interpret(many, at).error().sqlstate == "54001");
  std::string list;
  for (int i = 0; i < 65; ++i) list += "SELECT 1;";
  CHECK(interpret(list, at).error().sqlstate == "54000");
}

}  // namespace
}  // namespace pgfresh::console
