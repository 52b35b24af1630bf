// Which keys a statement depends on. The claims are checked against PostgreSQL itself, by changing
// rows that are not claimed, in tests/system/test_rowkey_oracle.py.

#include "query/row_keys.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "catalog_fixture.h"
#include "query/shape.h"

namespace pgfresh::query::test {
namespace {

const char* const kNames[] = {"users", "doctors", "appointments", "places"};

// users.id{a,$1} for keys, users for the whole table.
std::string told(const Dependency& dependency) {
  const Oid oid = dependency.relation;
  std::string out = oid >= 1001 && oid <= 1004 ? kNames[oid - 1001] : std::to_string(oid);
  if (!dependency.row_aware()) return out;
  out += "." + dependency.column_name + "{";
  for (const std::string& each : dependency.values.literals) out += each + ",";
  for (const KeyParameter& each : dependency.values.parameters) {
    out += "$" + std::to_string(each.number) + (each.array ? "[]" : "");
    out += (each.inferred != 0 ? ":" + std::to_string(each.inferred) : "") + ",";
  }
  if (out.back() == ',') out.pop_back();
  return out + "}";
}

std::string depends(std::string_view sql, const Catalog& catalog,
                    const std::vector<std::string>& path = kPath) {
  const Verdict verdict = resolve(*analyze(sql, 16384), catalog, path);
  std::vector<std::string> all;
  for (const Dependency& each : verdict.dependencies) all.push_back(told(each));
  std::sort(all.begin(), all.end());
  std::string out;
  for (const std::string& each : all) out += (out.empty() ? "" : " ") + each;
  return out;
}

struct Case {
  std::string_view sql;
  std::string_view wanted;
};

void check(const std::vector<Case>& cases) {
  const auto catalog = CatalogFixture().build();
  for (const Case& each : cases) {
    CAPTURE(each.sql);
    CHECK(depends(each.sql, *catalog) == each.wanted);
  }
}

TEST_CASE("one table: the conditions that count") {
  check({
      {"select * from users where email = 'x'", "users.email{x}"},
      {"select * from users where 'x' = email", "users.email{x}"},
      {"select count(*) from users where email = 'x' and full_name like 'a%' order by 1 limit 3",
       "users.email{x}"},
      {"select * from users where (full_name = 'y' and (email = 'x'))", "users.email{x}"},
      {"select * from users u where u.email = 'x'", "users.email{x}"},
      {"select * from users where users.email = 'x'", "users.email{x}"},
      {"select * from users where public.users.email = 'x'", "users.email{x}"},
      {"select * from only users where email = 'x'", "users.email{x}"},
      {"select * from users where email in ('y', 'x', 'y')", "users.email{x,y}"},
      {"select * from users where email = any ('{x,\"y z\"}')", "users.email{x,y z}"},
      {"select * from users where email = any (array['x', 'y'])", "users.email{x,y}"},
      {"select * from users where id = any (array['A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11']::uuid[])",
       "users.id{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"},
      {"select * from users where id = "
       "any (array['A0EEBC999C0B4EF8BB6D6BB9BD380A11'::uuid]::uuid[])",
       "users.id{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"},
      {"select * from users where id = any (array['A0EEBC999C0B4EF8BB6D6BB9BD380A11'::uuid])",
       "users.id{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"},
      {"select * from users where id = 'A0EEBC999C0B4EF8BB6D6BB9BD380A11'",
       "users.id{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"},
      {"select * from places where id = 42", "places.id{42}"},
      {"select * from places where id = -9999999999", "places.id{-9999999999}"},
      {"select * from places where id = '-42'", "places.id{-42}"},
      {"select * from places where id = '0'", "places.id{0}"},
      {"select * from places where id = 9999999999", "places.id{9999999999}"},
      {"select * from places where id = '0042'", "places.id{42}"},
      {"select * from places where id = 42::bigint", "places.id{42}"},
      {"select * from places where id = ' +42 '::int", "places.id{42}"},
      {"select * from places where id operator(pg_catalog.=) 42", "places.id{42}"},
      {"select * from users where is_active = true", "users.is_active{t}"},
      {"select * from users where is_active = 'no'", "users.is_active{f}"},
      {"select * from users where email = 'x'::text", "users.email{x}"},
      {"select * from users where email = 'x'::varchar", "users.email{x}"},
      // The most selective of several.
      {"select * from users where is_active = true and email = 'x'", "users.email{x}"},
      {"select * from doctors where specialization = 'x' and user_id = $1",
       "doctors.user_id{$1:2950}"},
      {"select * from doctors where specialization in ('x', 'y') and user_id = $1",
       "doctors.user_id{$1:2950}"},
      {"select * from doctors where specialization = 'x' and id in ($1, $2)",
       "doctors.id{$1:2950,$2:2950}"},
  });
}

TEST_CASE("one table: what does not count") {
  check({
      {"select * from users", "users"},
      {"select * from users where email = 'x' or email = 'y'", "users"},
      {"select * from users where not email = 'x'", "users"},
      {"select * from users where email <> 'x'", "users"},
      {"select * from users where email = null", "users"},
      {"select * from users where email in ('x', null)", "users"},
      {"select * from users where email is not distinct from 'x'", "users"},
      {"select * from users where full_name = 'x'", "users"},
      {"select * from users where lower(email) = 'x'", "users"},
      {"select * from users where email = lower('x')", "users"},
      {"select * from users where email collate \"C\" = 'x'", "users"},
      {"select * from users where email::text = 'x'", "users"},
      {"select * from users where email = 'x'::varchar(3)", "users"},
      {"select * from users where email = 'x'::bpchar", "users"},
      {"select * from users where email like 'x'", "users"},
      {"select * from users where email = all ('{x}')", "users"},
      {"select * from users where email = any ('{x,NULL}')", "users"},
      {"select * from users where email between 'x' and 'x'", "users"},
      {"select * from users where (email, role) = ('x', 'y')", "users"},
      {"select * from users where email operator(public.=) 'x'", "users"},
      {"select * from users where email not in ('x')", "users"},
      {"select * from users where case when email = 'x' then true end", "users"},
      {"select * from users where is_active = 'tr'", "users"},
      {"select * from users where id = 'nonsense'", "users"},
      // The parser does not tell zero and negative numbers apart.
      {"select * from places where id = -42", "places"},
      {"select * from places where id = 0", "places"},
      {"select * from places where id in (1, -2)", "places"},
      {"select * from places where id = 1.0", "places"},
      {"select * from places where id = 42::numeric", "places"},
      {"select * from places where id = '42'::numeric", "places"},
      {"select * from places where id in (42, 1.5)", "places"},
      {"select * from places where id = 9223372036854775808", "places"},
      {"select * from places where id = n", "places"},
      {"select * from places where places = '(1)'", "places"},
      {"select role from users group by role having role = 'x'", "users"},
      {"select * from users limit 3", "users"},
      {"select * from users as users (a, email) where email = 'x'", "users"},
      {"select email = 'x' from users", "users"},
      {"select count(*) filter (where email = 'x') from users", "users"},
      // Parameters in an array whose type is its own.
      {"select * from users where id = any (array[$1, $2])", "users"},
      {"select * from users where id = any ($1::text[]::uuid[])", "users"},
      {"select * from users where email = any (array['x'::bpchar]::text[])", "users"},
  });
}

TEST_CASE("parameters: the type PostgreSQL gives them, where that is certain") {
  check({
      {"select * from users where id = $1", "users.id{$1:2950}"},
      {"select * from users where email = $1", "users.email{$1:25}"},
      {"select * from places where id = $1", "places.id{$1:20}"},
      {"select * from places where id = $1::int4", "places.id{$1:23}"},
      {"select * from users where id = $1::uuid", "users.id{$1:2950}"},
      {"select * from users where email = $1::varchar", "users.email{$1:1043}"},
      {"select * from users where email = $1::varchar(3)", "users"},
      {"select * from users where email = $1::bpchar", "users"},
      {"select * from users where id = any ($1)", "users.id{$1[]:2951}"},
      {"select * from users where id = any ($1::uuid[])", "users.id{$1[]:2951}"},
      {"select * from users where email = any ($1)", "users.email{$1[]:1009}"},
      {"select * from users where id = any ($1::uuid)", "users"},
      {"select * from users where id = $1::uuid[]", "users"},
      {"select * from users where id = any (array[$1, $2]::uuid[])", "users.id{$1:2950,$2:2950}"},
      {"select * from users where id in ($1, $2, 'A0EEBC999C0B4EF8BB6D6BB9BD380A11')",
       "users.id{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,$1:2950,$2:2950}"},
      // Used twice: the first use may have decided otherwise.
      {"select $1::text from users where id = $1", "users.id{$1}"},
      {"select * from users where email = $1 and role = $1", "users.email{$1}"},
      {"select * from users where id = $1::uuid and ($1::uuid is null or true)",
       "users.id{$1:2950}"},
      {"select * from users where id = $1::uuid and ($1::text is null or true)", "users.id{$1}"},
      {"select * from users where id = $1::uuid and ($1 is null or true)", "users.id{$1}"},
  });
}

TEST_CASE("inner joins: conditions count for both sides, through equalities too") {
  check({
      {"select * from doctors d join users u on u.id = d.user_id where d.id = $1",
       "doctors.id{$1:2950} users"},
      {"select * from doctors d join users u on u.id = d.user_id where u.id = $1",
       "doctors.user_id{$1:2950} users.id{$1:2950}"},
      {"select * from doctors d, users u where u.id = d.user_id and u.id = $1",
       "doctors.user_id{$1:2950} users.id{$1:2950}"},
      {"select * from doctors d join users u on u.id = d.user_id and u.id = $1",
       "doctors.user_id{$1:2950} users.id{$1:2950}"},
      {"select * from appointments a join doctors d on d.id = a.doctor_id "
       "join users u on u.id = a.patient_id where a.doctor_id = $1 and a.patient_id = $2",
       "appointments.patient_id{$2:2950} doctors.id{$1:2950} users.id{$2:2950}"},
      {"select * from doctors natural join users where id = $1",
       "doctors.id{$1:2950} users.id{$1:2950}"},
      {"select * from doctors join users using (id) where id = $1",
       "doctors.id{$1:2950} users.id{$1:2950}"},
      {"select * from doctors d join users u using (id) where d.id = $1",
       "doctors.id{$1:2950} users.id{$1:2950}"},
      {"select * from doctors d cross join users u where d.id = $1", "doctors.id{$1:2950} users"},
      // The same table twice.
      {"select * from users a join users b on a.email = b.full_name where a.email = 'x'",
       "users users.email{x}"},
      {"select * from users a join users b on a.email = b.email where a.email = 'x'",
       "users.email{x} users.email{x}"},
      // Equal by another type.
      {"select * from users u join places p on p.id::text = u.email where p.id = 4",
       "places.id{4} users"},
      // An alias of a join hides its tables; its columns are not looked at.
      {"select * from (doctors d join users u using (id)) j where j.id = $1", "doctors users"},
      {"select * from (doctors d join users u on u.id = $1) j", "doctors users.id{$1:2950}"},
      {"select * from (doctors d join users u on true) as j (a, b) where a = $1", "doctors users"},
  });
}

TEST_CASE("outer joins: the nullable side, and what WHERE says") {
  check({
      // WHERE counts for either side.
      {"select * from doctors d left join users u on u.id = d.user_id where d.id = $1",
       "doctors.id{$1:2950} users"},
      {"select * from doctors d left join appointments a on a.doctor_id = d.id where d.id = $1",
       "appointments.doctor_id{$1:2950} doctors.id{$1:2950}"},
      {"select * from doctors d left join appointments a on a.doctor_id = d.id "
       "where a.doctor_id = $1",
       "appointments.doctor_id{$1:2950} doctors.id{$1:2950}"},
      // ON counts for the nullable side alone.
      {"select * from doctors d left join users u on u.id = d.user_id and u.id = $1",
       "doctors users.id{$1:2950}"},
      {"select * from doctors d left join users u on u.id = d.user_id and d.id = $1",
       "doctors users"},
      {"select * from doctors d left join appointments a on a.doctor_id = d.id and d.id = $1",
       "appointments.doctor_id{$1:2950} doctors"},
      {"select * from appointments a right join doctors d on a.doctor_id = d.id and d.id = $1",
       "appointments.doctor_id{$1:2950} doctors"},
      {"select * from appointments a right join doctors d on a.doctor_id = d.id where d.id = $1",
       "appointments.doctor_id{$1:2950} doctors.id{$1:2950}"},
      // Unless WHERE makes it an inner one.
      {"select * from doctors d left join users u on u.id = d.user_id and d.id = $1 "
       "where u.email = 'x'",
       "doctors.id{$1:2950} users.email{x}"},
      // FULL: neither side, unless WHERE speaks of one.
      {"select * from doctors d full join users u on u.id = d.user_id and u.id = $1",
       "doctors users"},
      {"select * from doctors d full join users u on u.id = d.user_id where u.id = $1",
       "doctors.user_id{$1:2950} users.id{$1:2950}"},
      {"select * from doctors d full join users u on u.id = d.user_id and d.id = $2 "
       "where u.id = $1",
       "doctors.id{$2:2950} users.id{$1:2950}"},
      {"select * from doctors full join users using (id) where id = $1", "doctors users"},
      // A merged column is that of the preserved side.
      {"select * from doctors left join users using (id) where id = $1",
       "doctors.id{$1:2950} users.id{$1:2950}"},
      {"select * from doctors right join users using (id) where id = $1",
       "doctors.id{$1:2950} users.id{$1:2950}"},
      // Chains.
      {"select * from users u left join doctors d on d.user_id = u.id "
       "left join appointments a on a.doctor_id = d.id where u.id = $1",
       "appointments doctors.user_id{$1:2950} users.id{$1:2950}"},
      {"select * from users u left join (doctors d join appointments a on a.doctor_id = d.id "
       "and d.id = $1) on d.user_id = u.id",
       "appointments.doctor_id{$1:2950} doctors.id{$1:2950} users"},
      {"select * from users u left join doctors d on d.user_id = u.id where d.id is null",
       "doctors users"},
  });
}

TEST_CASE("each level by itself") {
  check({
      {"select * from (select * from users where email = 'x') s", "users.email{x}"},
      {"select * from (select * from users) s where email = 'x'", "users"},
      {"with w as (select * from users where email = 'x') select * from w", "users.email{x}"},
      {"with users as (select 1 as email) select * from users, doctors where email = 'x'",
       "doctors"},
      {"select * from users where email = 'x' union select * from users where email = 'y'",
       "users.email{x} users.email{y}"},
      {"select * from doctors where exists (select 1 from users u where u.id = doctors.user_id)",
       "doctors users"},
      {"select * from doctors where id = $1 and exists "
       "(select 1 from users u where u.id = doctors.user_id and email = 'x')",
       "doctors.id{$1:2950} users.email{x}"},
      {"select * from doctors d where d.id = $1 and exists "
       "(select 1 from users u where u.id = d.id)",
       "doctors.id{$1:2950} users"},
      {"select (select email from users where id = $1), d.* from doctors d where d.id = $2",
       "doctors.id{$2:2950} users.id{$1:2950}"},
      // The name is found outside.
      {"select * from users where email = 'x' and exists (select 1 from doctors where email = 'y')",
       "doctors users.email{x}"},
      {"select * from doctors d, lateral (select * from users where id = d.user_id) l "
       "where d.id = $1",
       "doctors.id{$1:2950} users"},
      {"with recursive t as (select id, user_id from doctors where id = $1 union all "
       "select d.id, d.user_id from doctors d join t on t.user_id = d.id) select * from t",
       "doctors doctors.id{$1:2950}"},
      {"values ((select email from users where id = $1))", "users.id{$1:2950}"},
      {"select * from doctors join generate_series(1, 2) g on g = 1 where id = $1",
       "doctors.id{$1:2950}"},
  });
}

TEST_CASE("an operator = of another schema, when it takes a key type") {
  CatalogFixture fixture;
  fixture.row({"e", "other"});
  const auto catalog = fixture.build();
  const std::string_view sql = "select * from public.users where email = 'x'";
  CHECK(depends(sql, *catalog) == "users.email{x}");
  CHECK(depends(sql, *catalog, {"pg_catalog", "public", "other"}) == "users");
  CHECK(depends("select * from public.users where email operator(pg_catalog.=) 'x'", *catalog,
                {"pg_catalog", "public", "other"}) == "users.email{x}");
  CHECK(depends("select * from public.users join public.doctors using (id) where public.users.id "
                "operator(pg_catalog.=) $1",
                *catalog, {"pg_catalog", "public", "other"}) == "doctors users.id{$1:2950}");
}

TEST_CASE("what the triggers tell decides") {
  CatalogFixture fixture;
  fixture.table(2001, "plain", {{"id", 23}, {"name", 25}});
  fixture.table(2002, "renamed", {{"id", 23}, {"name", 25}});
  fixture.keys(2002, "{old_name}", "{2}");
  fixture.table(2003, "moved", {{"id", 23}, {"name", 25}});
  fixture.keys(2003, "{name}", "{1}");
  fixture.table(2004, "garbled", {{"id", 23}});
  fixture.keys(2004, "{id,", "{1}");
  fixture.table(2005, "uneven", {{"id", 23}, {"name", 25}});
  fixture.keys(2005, "{id,name}", "{1}");
  fixture.table(2006, "typed", {{"id", 1700}});
  fixture.keys(2006, "{id}", "{1}");
  // A tree whose members do not all tell the same.
  fixture.table(2010, "tree", {{"id", 23}, {"name", 25}});
  fixture.keys(2010, "{id,name}", "{1,2}");
  fixture.table(2011, "leaf", {{"name", 25}, {"id", 23}});
  fixture.keys(2011, "{id,name}", "{1,2}");
  fixture.table(2012, "other_leaf", {{"id", 23}, {"name", 25}});
  fixture.keys(2012, "{id}", "{1}");
  fixture.inherits(2010, 2011);
  fixture.inherits(2010, 2012);
  const auto catalog = fixture.build();
  for (const std::string_view table : {"plain", "renamed", "moved", "garbled", "uneven", "typed"}) {
    CAPTURE(table);
    const std::string sql = "select * from " + std::string(table) + " where id = 1";
    CHECK(depends(sql, *catalog).find('{') == std::string::npos);
  }
  CHECK(depends("select * from tree where id = 1", *catalog) == "2010.id{1}");
  CHECK(depends("select * from leaf where id = 1", *catalog) == "2011.id{1}");
  CHECK(depends("select * from tree where name = 'x'", *catalog) == "2010");
  CHECK(depends("select * from leaf where name = 'x'", *catalog) == "2011");
  const Verdict leaf = judge("select * from leaf where id = 1", *catalog);
  REQUIRE(leaf.dependencies.size() == 1);
  CHECK(leaf.dependencies[0].root == 2010);
  CHECK(leaf.dependencies[0].column == 1);
}

TEST_CASE("a collation that is not deterministic makes a text no key") {
  CatalogFixture fixture;
  fixture.row({"r", "2001", "public", "folded", "r", "p", "false", "true", "false",
               R"([[1, 25, "a", false], [2, 25, "b", true]])"});
  fixture.keys(2001, "{a,b}", "{1,2}");
  const auto catalog = fixture.build();
  CHECK(depends("select * from folded where a = 'x'", *catalog) == "2001");
  CHECK(depends("select * from folded where b = 'x'", *catalog) == "2001.b{x}");
  CHECK(depends("select * from folded where a = b and a = 'x'", *catalog) == "2001");
}

TEST_CASE("why a table is read as a whole") {
  CatalogFixture fixture;
  fixture.table(2001, "plain", {{"id", 23}});
  fixture.row({"e", "other"});
  const auto catalog = fixture.build();
  const auto why = [&](std::string_view sql, const std::vector<std::string>& path = kPath) {
    const Verdict verdict = resolve(*analyze(sql, 16384), *catalog, path);
    REQUIRE_FALSE(verdict.dependencies.empty());
    return verdict.dependencies.front().why_any;
  };
  CHECK(why("select * from users where email = 'x'") == AnyReason::kNone);
  CHECK(why("select * from users") == AnyReason::kNoCondition);
  CHECK(why("select * from plain where id = 1") == AnyReason::kNoKeyColumns);
  CHECK(why("select * from users where email = 'x'", {"pg_catalog", "public", "other"}) ==
        AnyReason::kForeignEquality);
  std::string many = "select * from places where id in (100";
  for (int i = 1; i < 64; ++i) many += "," + std::to_string(i);
  CHECK(why(many + ")") == AnyReason::kNone);
  CHECK(why(many + ",64)") == AnyReason::kTooManyValues);
  for (int reason = 0; reason <= static_cast<int>(AnyReason::kTooManyValues); ++reason) {
    CHECK_FALSE(any_reason_text(static_cast<AnyReason>(reason)).empty());
  }
}

TEST_CASE("what is kept of a text is bounded") {
  const auto catalog = CatalogFixture().build();
  std::string list = "select * from places where id in (1";
  for (int i = 0; i < 5000; ++i) list += ",1";
  const auto longest = analyze(list + ")", 16384);
  REQUIRE(longest->shape != nullptr);
  REQUIRE(longest->shape->levels.size() == 1);
  CHECK(operands_of(longest->shape->levels.front()) == 1);
  CHECK(resolve(*longest, *catalog, kPath).dependencies.front().why_any ==
        AnyReason::kTooManyValues);
  std::string many = "select 1 from places where id = 1";
  for (int i = 0; i < 400; ++i) many += " union all select 1 from places where id = 1";
  const auto levels = analyze(many, 32768);
  REQUIRE(levels->shape != nullptr);
  CHECK(levels->shape->levels.size() == kStatementOperandsMax / 2);
  const Verdict verdict = resolve(*levels, *catalog, kPath);
  CHECK(verdict.dependencies.size() == 401);
  CHECK_FALSE(verdict.dependencies.back().row_aware());
}

TEST_CASE("a level with very many tables or conditions is read as a whole, quickly") {
  const auto catalog = CatalogFixture().build();
  std::string sql = "select 1 from users u0";
  for (int i = 1; i < 65; ++i) sql += ", users u" + std::to_string(i);
  sql += " where u0.email = 'x'";
  const Verdict verdict = judge(sql, *catalog);
  CHECK(verdict.dependencies.size() == 65);
  CHECK(std::none_of(verdict.dependencies.begin(), verdict.dependencies.end(),
                     [](const Dependency& each) { return each.row_aware(); }));
  CHECK(verdict.roots() == std::vector<Oid>{1001});
}

}  // namespace
}  // namespace pgfresh::query::test
