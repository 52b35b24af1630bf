// Row-level security: which policies an answer may depend on, because what they read is in the key.
#include "query/policy.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "catalog_fixture.h"

namespace pgfresh::query::test {
namespace {

// The fixture with policies on two tables, and whatever a test adds.
class Guarded : public CatalogFixture {
 public:
  Guarded() {
    Table secured;
    secured.row_security = "true";
    table(3000, "notes", {{"id", kInt8}, {"owner", kText}, {"tenant", kUuid}, {"day", kDate}},
          secured);
    table(3001, "membership", {{"tenant", kUuid}, {"member", kText}});
    table(3002, "circle", {{"id", kInt8}, {"owner", kText}}, secured);
    functions("pg_catalog", "bs---", {"pg_has_role", "current_database", "set_config"});
    type(19, "pg_catalog", "name", 'b', "b--", 0, 0);
  }
  void policy(const std::string& condition) {
    row({"p", "3000", "SELECT FROM public.notes WHERE " + condition});
  }
  // `how`: s or b, then d or -.
  void sql_function(const std::string& name, const std::string& body, const std::string& how,
                    const std::string& settings) {
    functions("public", "us-t-", {name});
    row({"q", "public", name, body, how, settings});
  }
  [[nodiscard]] Verdict read() const { return judge("select * from notes", *build()); }
  [[nodiscard]] std::vector<Oid> roots() const {
    std::vector<Oid> roots = read().roots();
    std::sort(roots.begin(), roots.end());
    return roots;
  }
};

std::string verdict_on(const std::string& condition) {
  Guarded fixture;
  fixture.policy(condition);
  return labels(fixture.read());
}

TEST_CASE("policies whose inputs are in the key") {
  CHECK(verdict_on("(owner = CURRENT_USER)").empty());
  CHECK(verdict_on("(owner = SESSION_USER)").empty());
  CHECK(verdict_on("(owner = current_setting('app.user'::text, true))").empty());
  CHECK(verdict_on("(tenant = (current_setting('App.Tenant'::text))::uuid)").empty());
  CHECK(verdict_on("pg_has_role(CURRENT_USER, 'anna'::name, 'MEMBER'::text)").empty());
  CHECK(verdict_on("true").empty());
  CHECK(verdict_on("(owner = current_setting('role'::text))").empty());
}

TEST_CASE("policies that are refused, with every reason") {
  CHECK(verdict_on("(day < CURRENT_DATE)") == "row_security time_function ");
  CHECK(verdict_on("(random() < 0.5)") == "row_security volatile_function ");
  CHECK(verdict_on("(owner = current_setting(owner))") == "row_security session_function ");
  CHECK(verdict_on("(owner = current_setting('statement_timeout'::text))") ==
        "row_security session_function ");
  CHECK(verdict_on("(owner = current_setting('pgfresh.cache'::text))") ==
        "row_security session_function ");
  CHECK(verdict_on("(day = (current_setting('app.day'::text))::date)") ==
        "row_security time_literal ");
  CHECK(verdict_on("(id = my_stable())") == "row_security unknown_function ");
  CHECK(verdict_on("public.my_stable()") == "row_security unsafe_function ");
  CHECK(verdict_on("has_table_privilege('users', 'select')") == "row_security session_function ");
  CHECK(verdict_on("(((") == "row_security unparsable syntax_not_reviewed ");
  CHECK(verdict_on("EXISTS (SELECT 1 FROM public.unwatched)") == "row_security not_watched ");
  CHECK(verdict_on("set_config('app.x', '1', true) = '1'").starts_with("row_security "));
}

TEST_CASE("all policies of a table count") {
  Guarded fixture;
  fixture.policy("(owner = CURRENT_USER)");
  CHECK(fixture.read().cacheable());
  fixture.policy("(random() < 0.5)");
  CHECK(has_reason(fixture.read(), Reason::kRowSecurity));
}

TEST_CASE("a table without policies shows nothing, or all to its owner") {
  CHECK(Guarded().read().cacheable());
}

TEST_CASE("what a policy reads is depended on, and its own policies count") {
  Guarded fixture;
  fixture.policy(
      "(EXISTS ( SELECT 1 FROM public.membership m JOIN public.circle c ON (c.owner = m.member) "
      "WHERE (m.tenant = notes.tenant)))");
  CHECK(fixture.roots() == std::vector<Oid>{3000, 3001, 3002});
  fixture.row({"p", "3002", "SELECT FROM public.circle WHERE (random() < 0.5)"});
  CHECK(labels(fixture.read()) == "row_security volatile_function ");
}

TEST_CASE("policies that read one another do not go on for ever") {
  Guarded fixture;
  fixture.policy("(EXISTS ( SELECT 1 FROM public.circle))");
  fixture.row(
      {"p", "3002", "SELECT FROM public.circle WHERE (EXISTS ( SELECT 1 FROM public.notes))"});
  CHECK(fixture.roots() == std::vector<Oid>{3000, 3002});
}

TEST_CASE("functions in SQL are what their bodies are") {
  const auto verdict_of = [](const std::string& body, const std::string& how,
                             const std::string& settings) {
    Guarded fixture;
    fixture.sql_function("uid", body, how, settings);
    fixture.policy("(owner = public.uid())");
    return labels(fixture.read());
  };
  const std::string reads = "SELECT current_setting('app.user', true)";
  CHECK(verdict_of(reads, "s-", "\\N").empty());
  CHECK(verdict_of(reads, "sd", R"(["search_path=\"\""])").empty());
  CHECK(verdict_of(reads, "sd", R"(["search_path=pg_catalog, pg_temp"])").empty());
  CHECK(verdict_of("RETURN current_setting('app.user'::text, true)", "b-", "\\N").empty());
  CHECK(
      verdict_of("BEGIN ATOMIC\n SELECT current_setting('app.user'::text, true);\nEND", "b-", "\\N")
          .empty());
  CHECK(verdict_of("SELECT nullif(current_setting('app.claims', true), '')::jsonb ->> 'sub'", "s-",
                   "\\N")
            .empty());
  // Its owner's rights and "$user" decide what its names mean.
  CHECK(verdict_of(reads, "sd", "\\N") == "row_security unsafe_function ");
  CHECK(verdict_of(reads, "sd", R"(["search_path=\"$user\", public"])") ==
        "row_security unsafe_function ");
  CHECK(verdict_of(reads, "s-", R"(["app.user=fixed"])") == "row_security unsafe_function ");
  CHECK(verdict_of("SELECT now()::text", "s-", "\\N") == "row_security time_function ");
  CHECK(verdict_of("SELECT $1::date::text", "s-", "\\N") == "row_security time_literal ");
  CHECK(verdict_of("\\N", "s-", "\\N") == "row_security unsafe_function ");
  CHECK(verdict_of(reads + "; SELECT 1", "s-", "\\N") == "row_security unsafe_function ");
  CHECK(verdict_of("UPDATE users SET role = '' RETURNING role", "s-", "\\N") ==
        "row_security unsafe_function ");
}

TEST_CASE("tables that functions read, found by the path the function runs under") {
  Guarded fixture;
  fixture.sql_function("is_member", "SELECT EXISTS (SELECT FROM membership WHERE member = $1)",
                       "sd", R"(["search_path=public"])");
  fixture.policy("public.is_member(owner)");
  CHECK(fixture.roots() == std::vector<Oid>{3000, 3001});
  CHECK(fixture.read().cacheable());

  Guarded twice;  // two schemas of the path have it: the owner's rights decide
  twice.sql_function("is_user", "SELECT EXISTS (SELECT FROM users)", "sd",
                     R"(["search_path=other, public"])");
  twice.policy("public.is_user()");
  CHECK(has_reason(twice.read(), Reason::kUnknownTable));
}

TEST_CASE("functions that call functions; every overload counts") {
  Guarded fixture;
  fixture.sql_function("uid", "SELECT current_setting('app.user', true)", "s-", "\\N");
  fixture.sql_function("is_me", "SELECT $1 = uid()", "s-", "\\N");
  fixture.policy("public.is_me(owner)");
  CHECK(labels(fixture.read()).empty());
  CHECK(fixture.build()->policies().settings() == std::vector<std::string>{"app.user"});
  fixture.row({"q", "public", "uid", "\\N", "s-"});  // another overload, in another language
  CHECK(has_reason(fixture.read(), Reason::kUnsafeFunction));
}

TEST_CASE("the settings that sessions must know") {
  Guarded fixture;
  fixture.policy("(owner = current_setting('app.user'::text))");
  fixture.policy("(owner = current_setting('role'::text))");
  fixture.row({"g", "hnsw.ef_search"});
  fixture.row({"g", "pgfresh.cache"});
  fixture.row({"g", "work_mem"});
  fixture.row({"g", "bad'name.x"});
  fixture.row({"x", "postgis"});
  const auto catalog = fixture.build();
  const PolicyBook& book = catalog->policies();
  CHECK(book.settings() == std::vector<std::string>{"app.user", "hnsw.ef_search", "role"});
  CHECK(book.settings_signature() != 0);
  CHECK(book.setting_matters("postgis.backend"));
  CHECK_FALSE(book.setting_matters("app.request_id"));
  CHECK(Guarded().build()->policies().settings_signature() == 0);
}

TEST_CASE("more settings than sessions can know: the policies beyond are refused") {
  Guarded fixture;
  for (int i = 100; i < 170; ++i) {
    fixture.policy("(owner = current_setting('app.n" + std::to_string(i) + "'::text))");
  }
  CHECK(fixture.build()->policies().settings().size() == PolicyBook::kSettingsMax);
  CHECK(has_reason(fixture.read(), Reason::kSessionFunction));
}

}  // namespace
}  // namespace pgfresh::query::test
