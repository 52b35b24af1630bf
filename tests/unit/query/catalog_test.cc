#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "catalog_fixture.h"
#include "query/reviewed.h"

namespace pgfresh::query::test {
namespace {

TEST_CASE("a snapshot knows what it was read as") {
  const auto catalog = CatalogFixture().build();
  CHECK(catalog->generation() == 7);
  CHECK(catalog->schema_token() == 42);
  CHECK(catalog->installed());
  CHECK(catalog->event_triggers());
  CHECK_FALSE(catalog->writes_may_change_session());
}

TEST_CASE("versions that are not ours, and event triggers that are missing") {
  const auto with_meta = [](std::string version, std::string triggers) {
    SqlRows rows;
    rows.rows.push_back(
        {"m", std::move(version), std::move(triggers), "false", {}, {}, {}, {}, {}, {}});
    auto built = Catalog::build(rows, 1, 1);
    REQUIRE(built.has_value());
    return *built;
  };
  CHECK(with_meta("1.4.2", "2")->installed());
  CHECK_FALSE(with_meta("10.0", "2")->installed());
  CHECK_FALSE(with_meta("2.0", "2")->installed());
  CHECK_FALSE(with_meta("", "2")->installed());
  CHECK_FALSE(with_meta("1.0", "1")->event_triggers());
}

TEST_CASE("rows that are not understood end the build") {
  const auto error_with = [](std::vector<std::optional<std::string>> row) {
    SqlRows rows = CatalogFixture().rows();
    rows.rows.push_back(std::move(row));
    const auto built = Catalog::build(rows, 1, 1);
    return built ? std::string() : built.error();
  };
  using Row = std::vector<std::optional<std::string>>;
  CHECK_FALSE(error_with(Row{}).empty());
  CHECK_FALSE(error_with(Row(9)).empty());
  CHECK_FALSE(error_with(Row(10)).empty());
  const auto padded = [](Row row) {
    row.resize(10);
    return row;
  };
  CHECK_FALSE(error_with(padded({"z"})).empty());
  CHECK_FALSE(
      error_with(padded({"r", "x", "public", "t", "r", "p", "false", "true", "false"})).empty());
  CHECK_FALSE(error_with(padded({"r", "1001", "public", "t", "r", "p", "false", "true", "false"}))
                  .empty());  // oid twice
  CHECK_FALSE(
      error_with(padded({"r", "5", "public", "t", "r", "p", "false", "true", "false", "[[1]]"}))
          .empty());
  CHECK_FALSE(error_with(padded({"f", "public", "ui", "[\"a\"]"})).empty());
  CHECK_FALSE(error_with(padded({"f", "public", "ui---", "[1]"})).empty());
  CHECK_FALSE(error_with(padded({"f", "public", "ui---", "[\"a\"]"})).empty());
  CHECK_FALSE(error_with(padded({"f", "public", "ui---", "not json"})).empty());
  CHECK_FALSE(error_with(padded({"i", "1", "-2"})).empty());
  CHECK_FALSE(error_with(padded({"v", "4711", "false"})).empty());
  CHECK_FALSE(error_with(padded({"y", "99999999999", "a", "b", "b", "b--"})).empty());
  CHECK(Catalog::build(SqlRows(), 1, 1).error().find("'m'") != std::string::npos);
}

TEST_CASE("trees: the whole must be watched, and one bad member counts for all") {
  CatalogFixture fixture;
  CatalogFixture::Table unwatched;
  unwatched.watched = "false";
  CatalogFixture::Table foreign;
  foreign.kind = 'f';
  CatalogFixture::Table secured;
  secured.row_security = "true";
  fixture.table(2000, "a", {{"id", CatalogFixture::kInt8}});
  fixture.table(2001, "a1", {{"id", CatalogFixture::kInt8}});
  fixture.table(2002, "a2", {{"id", CatalogFixture::kInt8}}, unwatched);
  fixture.inherits(2000, 2001);
  fixture.inherits(2001, 2002);
  fixture.table(2010, "b", {{"id", CatalogFixture::kInt8}});
  fixture.table(2011, "b1", {{"id", CatalogFixture::kInt8}}, foreign);
  fixture.inherits(2010, 2011);
  fixture.table(2020, "c", {{"id", CatalogFixture::kInt8}});
  fixture.table(2021, "c1", {{"id", CatalogFixture::kInt8}}, secured);
  fixture.inherits(2020, 2021);
  // A child with two parents ties both trees together.
  fixture.table(2031, "d1", {{"id", CatalogFixture::kInt8}});
  fixture.table(2032, "d2", {{"id", CatalogFixture::kInt8}});
  fixture.table(2030, "d", {{"id", CatalogFixture::kInt8}});
  fixture.inherits(2031, 2030);
  fixture.inherits(2032, 2030);
  // A member the snapshot does not know.
  fixture.table(2040, "e", {{"id", CatalogFixture::kInt8}});
  fixture.inherits(2040, 2041);
  const auto catalog = fixture.build();
  for (const Oid oid : {2000U, 2001U, 2002U}) {
    CHECK(catalog->root_of(oid) == 2000);
    CHECK_FALSE(catalog->relation(oid)->watched);
  }
  CHECK(catalog->relation(2010)->foreign_member);
  // The policies of the table that is named count, and not those of its children.
  CHECK_FALSE(catalog->relation(2020)->row_security);
  CHECK(catalog->relation(2020)->watched);
  CHECK(catalog->root_of(2030) == 2031);
  CHECK(catalog->root_of(2031) == 2031);
  CHECK(catalog->root_of(2032) == 2031);
  CHECK_FALSE(catalog->relation(2040)->watched);
  CHECK(catalog->root_of(1021) == 1020);
  CHECK(catalog->root_of(1001) == 1001);
  CHECK(catalog->root_of(424242) == 0);
}

TEST_CASE("types") {
  CatalogFixture fixture;
  fixture.table(3000, "pair", {{"a", CatalogFixture::kText}, {"b", CatalogFixture::kDate}},
                {.kind = 'c'});
  fixture.type(91000, "public", "pair", 'c', "us-", 0, 3000);
  fixture.table(3001, "bad_pair", {{"a", CatalogFixture::kRegclass}}, {.kind = 'c'});
  fixture.type(91001, "public", "bad_pair", 'c', "us-", 0, 3001);
  fixture.type(91002, "public", "_pair", 'b', "us-", 91000, 0);
  fixture.type(91003, "public", "odd_range", 'r', "us-", 0, 0);
  fixture.type(91004, "public", "loop", 'd', "us-", 91004, 0);
  fixture.type(91005, "public", "ext_stable", 'b', "es-", 0, 0);
  fixture.type(91006, "public", "text", 'b', "ui-", 0, 0);
  const auto catalog = fixture.build();
  const auto type = [&](std::string_view schema, std::string_view name) {
    const Catalog::Type* found = catalog->find_type(kPath, schema, name);
    REQUIRE(found != nullptr);
    return *found;
  };
  CHECK(type("", "uuid").safe);
  CHECK_FALSE(type("", "uuid").date_time);
  CHECK(type("", "date").date_time);
  CHECK(type("", "_date").date_time);
  CHECK(type("", "daterange").date_time);
  CHECK(type("", "day").date_time);
  CHECK(type("", "day").safe);
  CHECK_FALSE(type("", "timetz").safe);
  CHECK_FALSE(type("", "regclass").safe);
  CHECK_FALSE(type("", "record").safe);
  CHECK(type("", "geography").safe);
  CHECK(type("", "mood").safe);
  CHECK(type("", "positive").safe);
  CHECK_FALSE(type("", "fresh_date").safe);
  CHECK_FALSE(type("", "odd_base").safe);
  CHECK(type("public", "pair").safe);
  CHECK(type("public", "pair").date_time);
  CHECK(type("public", "_pair").safe);
  CHECK_FALSE(type("public", "bad_pair").safe);
  CHECK_FALSE(type("public", "odd_range").safe);
  CHECK_FALSE(type("public", "loop").safe);
  CHECK_FALSE(type("public", "ext_stable").safe);
  CHECK(type("", "text").oid == CatalogFixture::kText);
  CHECK_FALSE(type("public", "text").safe);
  CHECK(catalog->find_type(kPath, "", "nothing") == nullptr);
  CHECK(catalog->type(424242) == nullptr);
}

TEST_CASE("functions and operators by name: the worst overload in the path counts") {
  CatalogFixture fixture;
  fixture.functions("other", "uv---", {"lower"});
  const auto catalog = fixture.build();
  const auto safety = [&](const std::vector<std::string>& path, std::string_view name) {
    return catalog->function_safety(path, "", name);
  };
  CHECK(safety(kPath, "lower").safety == Safety::kSafe);
  CHECK(safety({"other", "pg_catalog"}, "lower").safety == Safety::kEffects);
  CHECK(catalog->function_safety({"other"}, "pg_catalog", "lower").safety == Safety::kSafe);
  CHECK_FALSE(safety(kPath, "nothing").found);
  CHECK(safety(kPath, "max").takes_row);
  CHECK(safety(kPath, "max").text_result);
  CHECK_FALSE(safety(kPath, "date_trunc").text_result);
  CHECK(catalog->operator_safety(kPath, "", "+").safety == Safety::kSafe);
  CHECK(catalog->operator_safety(kPath, "", "<<<").safety == Safety::kEffects);
}

TEST_CASE("relations by name") {
  const auto catalog = CatalogFixture().build();
  CHECK(catalog->find_relation("public", "users")->oid == 1001);
  CHECK(catalog->find_relation("other", "users")->oid == 1016);
  const std::vector<std::string> other_first = {"other", "public"};
  CHECK(catalog->find_relation(other_first, "users")->oid == 1016);
  CHECK(catalog->find_relation(kPath, "pg_class")->schema == "pg_catalog");
  CHECK(catalog->find_relation(kPath, "Users") == nullptr);
  CHECK(catalog->find_relation("", "users") == nullptr);
  CHECK(catalog->relation(1001)->attributes.size() == 8);
}

TEST_CASE("reviewed lists") {
  using enum Origin;
  using enum Volatility;
  CHECK(classify_function(kBuiltin, kImmutable, "anything") == Safety::kSafe);
  CHECK(classify_function(kBuiltin, kStable, "concat") == Safety::kSafe);
  CHECK(classify_function(kUser, kStable, "concat") == Safety::kUnsafe);
  CHECK(classify_function(kUser, kVolatile, "random") == Safety::kEffects);
  CHECK(classify_function(kExtension, kStable, "concat") == Safety::kUnsafe);
  CHECK(classify_function(kExtension, kImmutable, "st_3dextent") == Safety::kUnsafe);
  CHECK(classify_function(kExtension, kImmutable, "st_extent") == Safety::kSafe);
  CHECK(classify_function(kExtension, kImmutable, "normalize_address") == Safety::kUnsafe);
  CHECK(classify_function(kExtension, kImmutable, "isn_weak") == Safety::kEffects);
  CHECK(always_projects("get_proj4_from_srid"));
  CHECK(classify_function(kBuiltin, kStable, "now") == Safety::kTime);
  CHECK(classify_function(kBuiltin, kStable, "pg_table_is_visible") == Safety::kSession);
  CHECK(classify_function(kBuiltin, kStable, "table_to_xml") == Safety::kUnsafe);
  CHECK(classify_function(kBuiltin, kVolatile, "nextval") == Safety::kWrites);
  CHECK(classify_function(kBuiltin, kVolatile, "set_config") == Safety::kEffects);
  CHECK(classify_function(kBuiltin, kVolatile, "ts_rewrite") == Safety::kEffects);
  CHECK(classify_function(kBuiltin, kVolatile, "pg_stat_get_xact_numscans") == Safety::kVolatile);
  CHECK(classify_function(kExtension, kVolatile, "uuid_generate_v4") == Safety::kVolatile);
  CHECK(classify_function(kExtension, kImmutable, "populate_record") == Safety::kEffects);
  CHECK(classify_operator(kBuiltin, kStable, "+") == Safety::kSafe);
  CHECK(classify_operator(kUser, kStable, "+") == Safety::kUnsafe);
  CHECK(classify_operator(kBuiltin, kStable, "???") == Safety::kUnsafe);
  CHECK(classify_operator(kExtension, kStable, "%") == Safety::kSafe);
  CHECK(reads_clock("age", 1));
  CHECK_FALSE(reads_clock("age", 2));
}

}  // namespace
}  // namespace pgfresh::query::test
