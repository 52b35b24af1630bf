#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "catalog_fixture.h"

namespace pgfresh::query::test {
namespace {

TEST_CASE("what a text means changes with the relations it names, and with casts") {
  const auto meaning = [](std::string_view sql, const CatalogFixture& fixture,
                          const std::vector<std::string>& path = kPath) {
    return resolve(*analyze(sql, 16'384), *fixture.build(), path).meaning;
  };
  const std::string_view sql = "select x.id from users u, (select * from here) x where u.id = $1";
  CatalogFixture before;
  before.table(7001, "here", {{"id", CatalogFixture::kInt8}});
  CHECK(meaning(sql, before) != 0);
  CHECK(meaning("select 1 +", before) == 0);

  CatalogFixture same;
  same.table(7001, "here", {{"id", CatalogFixture::kInt8}});
  same.table(7002, "elsewhere", {{"id", CatalogFixture::kInt8}});
  CHECK(meaning(sql, same) == meaning(sql, before));
  CHECK(meaning("table elsewhere", same) != meaning("table elsewhere", before));

  CatalogFixture altered;
  altered.table(7001, "here", {{"id", CatalogFixture::kInt4}});
  CHECK(meaning(sql, altered) != meaning(sql, before));
  CatalogFixture made_anew;
  made_anew.table(7003, "here", {{"id", CatalogFixture::kInt8}});
  CHECK(meaning(sql, made_anew) != meaning(sql, before));
  CatalogFixture declared_cast;
  declared_cast.table(7001, "here", {{"id", CatalogFixture::kInt8}});
  declared_cast.meant("another");
  CHECK(meaning(sql, declared_cast) != meaning(sql, before));

  CatalogFixture shadowed;
  shadowed.table(7001, "here", {{"id", CatalogFixture::kInt8}});
  CatalogFixture::Table front;
  front.schema = "front";
  shadowed.table(7004, "here", {{"id", CatalogFixture::kInt8}}, front);
  CHECK(meaning(sql, shadowed) == meaning(sql, before));
  CHECK(meaning(sql, shadowed, {"pg_catalog", "front", "public"}) != meaning(sql, before));
}

TEST_CASE("what a text means changes with the functions, operators and types its words name") {
  struct World {
    std::string labels = "sad ok";
    std::string function = "f1";
    std::string other = "g1";
    std::string mood = "mood";
    Oid row_column = CatalogFixture::kInt8;
  };
  const auto meaning = [](std::string_view sql, const World& world) {
    CatalogFixture fixture;
    fixture.type(20001, "public", world.mood, 'e', "ui-", 0, 0, world.labels);
    fixture.type(20002, "public", "_mood", 'b', "ui-", 20001, 0);
    fixture.type(20003, "tenant", "users", 'c', "ui-", 0, 7010);
    fixture.table(7010, "users", {{"id", world.row_column}}, {.schema = "tenant"});
    fixture.table(7001, "here", {{"id", CatalogFixture::kInt8}, {"m", 20002}});
    fixture.named("tenfold", world.function, "20 20001");
    fixture.named("other", world.other, "20");
    fixture.named("@@@", world.other, "20");
    fixture.named("~~", world.other, "20");
    return resolve(*analyze(sql, 16'384), *fixture.build(), kPath).meaning;
  };
  World labelled;
  labelled.labels = "sad blue";
  World replaced;
  replaced.function = "f2";
  World overloaded;
  overloaded.other = "g2";
  World renamed;
  renamed.mood = "temper";
  World tenant;
  tenant.row_column = CatalogFixture::kInt4;
  const auto changes = [&](std::string_view sql, const World& world) {
    REQUIRE(meaning(sql, World()) == meaning(sql, World()));
    return meaning(sql, world) != meaning(sql, World());
  };
  CHECK(changes("select id from here", labelled));  // by the elements of m
  CHECK_FALSE(changes("select id from users", labelled));
  CHECK(changes("select 'sad'::mood from users", labelled));
  CHECK(changes("select \"mood\" 'sad' from users", labelled));
  CHECK(changes("select TenFold(id) from users", labelled));  // by what it takes
  CHECK(changes("select TenFold(id) from users", replaced));
  CHECK_FALSE(changes("select id from users", replaced));
  CHECK_FALSE(changes("select 'tenfold' from users -- tenfold", replaced));
  CHECK(changes("select id @@@ 1 from users", overloaded));
  CHECK_FALSE(changes("select id @@ 1 from users", overloaded));
  CHECK(changes("select email like 'a%' from users", overloaded));  // it is ~~
  CHECK_FALSE(changes("select email = 'a%' from users", overloaded));
  CHECK(changes("select 'sad'::mood from users", renamed));
  CHECK_FALSE(changes("select id from users", tenant));  // another schema's table
  CHECK(changes("select (x::tenant.users).id from here", tenant));
}

TEST_CASE("what an application reads all day is cacheable") {
  const auto catalog = CatalogFixture().build();
  for (const std::string_view sql : {
           "SELECT * FROM doctors WHERE id = $1",
           "select d.id, u.full_name from doctors d join users u on u.id = d.user_id "
           "where d.specialization = 'x' order by d.rating desc nulls last limit 20 offset 40",
           "select count(*), sum(rating), avg(rating) filter (where rating > 1) from doctors "
           "group by specialization having count(*) > 1",
           "select distinct on (email) u.* from users u order by email",
           "select string_agg(email, ',' order by email) from users",
           "select row_number() over (partition by role order by created_at) from users",
           "select row_number() over w from users window w as (order by id)",
           "select case role when 'a' then 1 else 2 end, coalesce(email, ''), nullif(role, 'x'), "
           "greatest(1, 2) from users",
           "select array[1, 2], row(1, id), '{1}'::text[] from users",
           "select id from users where id in ($1, $2) and email like 'a%' and role = any($3) "
           "and rating between 1 and 2 and role is not null and is_active is not true",
           "select id from users where role is distinct from 'x' or email ilike 'y' "
           "or email similar to 'z'",
           "select * from users u, lateral (select * from doctors d where d.user_id = u.id) x",
           "select * from users natural join doctors",
           "select * from users left join doctors using (id)",
           "select id from users union all select id from doctors order by 1",
           "select id from users where exists (select 1 from doctors where user_id = users.id)",
           "select (select count(*) from doctors), id from users",
           "select id from users where (created_at, id) < ($1, $2)",
           "with a as (select * from users), b as (select * from a) select * from b",
           "with recursive t(n) as (select 1 union all select n + 1 from t where n < 5) "
           "select * from t, users",
           "select role, count(*) from users group by grouping sets ((role), ())",
           "select role, grouping(role), count(*) from users group by rollup (role)",
           "values (1), ((select count(*) from users))",
           "table users",
           "select data -> 'a' ->> 'b', data #>> '{a,b}' from appointments",
           "select * from generate_series(1, 10) as g left join users on true",
           "select e from appointments, jsonb_array_elements(data) e",
           "select email collate \"C\" from users",
           "select created_at at time zone 'utc' from users",
           "select extract(year from created_at), to_char(created_at, 'YYYY') from users",
           "select created_at + interval '1 day', date '2020-01-01', time '12:00' from users",
           "select date_trunc('day', created_at), count(*) from users group by 1",
           "select json_agg(u), to_jsonb(u), row_to_json(u) from users u",
           "select st_distance(geo, st_setsrid(st_makepoint($1, $2), 4326)::geography) from places "
           "where st_dwithin(geo, $3, 100) order by geo <-> $3",
           "select st_asgeojson(geo), mood, n from places",
           "select 5 % 2, email || created_at from users",
           "select my_immutable(1) from users",
           "select age(created_at, updated_at) from users",
           "select (email).lower, (created_at).date from users",
           "select g.x, (g).x, (row(1, 2)).f1 from users, my_immutable(1) as g (x)",
           "select users, u.role from users, users u",
           "select public.users.email from public.users",
           "select email, -1, +1.5, true, null, $1, b'01', x'1F' from users",
           "select * from only users",
           "select id from users order by id fetch first 5 rows with ties",
           "select (array_agg(id order by id))[1] from users",
           "select current.id from users current",
           "select email from users where email = current_user or role = session_user",
           "select session_user, user, current_role, current_catalog, current_schema from users",
           "select * from my_immutable(1) as (a int, b text), users",
           "select * from rows from (my_immutable(1) as (a int)) with ordinality, users",
           "select xmlelement(name a, xmlattributes(email as e), created_at), xmlforest(id, email "
           "as x), "
           "xmlserialize(content xmlelement(name a) as text) from users",
       }) {
    CAPTURE(sql);
    const Verdict verdict = judge(sql, *catalog);
    CHECK_MESSAGE(verdict.cacheable(), labels(verdict));
    CHECK(verdict.effect == Effect::kPureRead);
    CHECK_FALSE(verdict.roots().empty());
    CHECK(verdict.catalog_generation == 7);
  }
}

TEST_CASE("what is not cacheable, why, and what it may do") {
  struct Case {
    std::string_view sql;
    Reason reason;
    Effect effect;
  };
  using enum Reason;
  constexpr Effect kRead = Effect::kPureRead;
  constexpr Effect kRows = Effect::kWritesRows;
  constexpr Effect kAnything = Effect::kChangesSession;
  const auto catalog = CatalogFixture().build();
  const std::vector<Case> cases = {
      {"select 1", kNoTable, kRead},
      {"select * from generate_series(1, 2)", kNoTable, kRead},
      {"select * from users for update", kLocking, kRows},
      {"select * from users u for key share of u nowait", kLocking, kRows},
      {"select id into t from users", kModifyingCte, kAnything},
      {"with a as (delete from users returning id) select * from a", kModifyingCte, kRows},
      {"with a as (insert into users values (my_volatile()) returning id) select * from a",
       kModifyingCte, kAnything},
      {"select * from users tablesample system (10)", kTablesample, kRead},
      {"select ctid from users", kSystemColumn, kRead},
      {"select u.xmin from users u", kSystemColumn, kRead},
      {"select id from users order by tableoid", kSystemColumn, kRead},
      {"select (u).ctid from users u", kSystemColumn, kRead},
      {"select * from nowhere", kUnknownTable, kAnything},
      {"select * from nowhere.users", kUnknownTable, kAnything},
      {"select * from elsewhere", kUnknownTable, kAnything},
      {"select * from db.public.users", kSyntax, kAnything},
      {"select * from pg_class", kSystemTable, kRead},
      {"select * from pg_catalog.pg_class, users", kSystemTable, kRead},
      {"select * from information_schema.tables", kSystemTable, kRead},
      {"select * from pg_temp.users", kUnlogged, kRead},
      {"select * from pg_temp_3.users", kUnlogged, kRead},
      {"select * from unlogged", kUnlogged, kRead},
      {"select * from subscribed", kRelationKind, kRead},
      {"select * from remote", kRelationKind, kRead},
      {"select * from unwatched", kNotWatched, kRead},
      {"select * from secured", kRowSecurity, kRead},
      {"select * from writing_view", kVolatileFunction, kAnything},
      {"select * from view_of_view", kVolatileFunction, kAnything},
      {"select * from with_regclass", kUnsafeType, kRead},
      {"select * from with_timetz", kUnsafeType, kRead},
      {"select * from with_odd", kUnsafeType, kRead},
      {"select 'users'::regclass from users", kUnsafeType, kRead},
      {"select '12:00'::timetz from users", kUnsafeType, kRead},
      {"select x::no_such_type from users", kUnsafeType, kRead},
      {"select $1::fresh_date from users", kUnsafeType, kRows},
      {"select now() from users", kTimeFunction, kRead},
      {"select pg_catalog.now() from users", kTimeFunction, kRead},
      {"select current_date from users", kTimeFunction, kRead},
      {"select current_timestamp(3), localtime from users", kTimeFunction, kRead},
      {"select * from current_date, users", kTimeFunction, kRead},
      {"select age(created_at) from users", kTimeFunction, kRead},
      {"select system_user from users", kSessionFunction, kRead},
      {"select current_setting('a.b') from users", kSessionFunction, kRead},
      {"select has_table_privilege('users', 'select') from users", kSessionFunction, kRead},
      {"select pg_typeof(id) from users", kSessionFunction, kRead},
      {"select random() from users", kVolatileFunction, kRead},
      {"select pg_sleep(1)", kVolatileFunction, kRead},
      {"select nextval('s')", kVolatileFunction, kRows},
      {"select set_config('a.b', 'c', true) from users", kVolatileFunction, kAnything},
      {"select query_to_xml('select 1', true, true, '') from users", kVolatileFunction, kAnything},
      {"select my_volatile() from users", kVolatileFunction, kAnything},
      {"select my_liar() from users", kVolatileFunction, kAnything},
      {"select ext_volatile() from users", kVolatileFunction, kAnything},
      {"select dblink_exec('x') from users", kVolatileFunction, kAnything},
      {"select * from crosstab('x') , users", kVolatileFunction, kAnything},
      {"select my_stable() from users", kUnsafeFunction, kRows},
      {"select ext_stable(1) from users", kUnsafeFunction, kRows},
      {"select date_in('n') from users", kUnsafeFunction, kRows},
      {"select * from my_stable(), users", kTableFunction, kRows},
      {"select * from users where id = (select my_volatile())", kVolatileFunction, kAnything},
      {"select count(*) filter (where my_stable()) from users", kUnsafeFunction, kRows},
      {"select count(*) over (order by my_stable()) from users", kUnsafeFunction, kRows},
      {"select id from users order by random()", kVolatileFunction, kRead},
      {"select id from users limit my_stable()", kUnsafeFunction, kRows},
      {"select 1 from users group by my_stable()", kUnsafeFunction, kRows},
      {"select 1 from users join doctors on my_stable()", kUnsafeFunction, kRows},
      {"select string_agg(email, ',' order by random()) from users", kVolatileFunction, kRead},
      {"select nothing_like_it(id) from users", kUnknownFunction, kAnything},
      {"select other.my_immutable(1) from users", kUnknownFunction, kAnything},
      {"select id <<< 1 from users", kUnsafeOperator, kAnything},
      {"select id operator(public.<<<) 1 from users", kUnsafeOperator, kAnything},
      {"select id ??? 1 from users", kUnsafeOperator, kAnything},
      {"select x #= y from users", kUnsafeOperator, kRows},
      {"select id from users order by id using <<<", kUnsafeOperator, kAnything},
      {"select u.row_writer from users u", kVolatileFunction, kAnything},
      {"select (u).row_writer from users u", kVolatileFunction, kAnything},
      {"select u.pg_typeof from users u", kSessionFunction, kRead},
      // A dot calls a function of whatever stands in front of it.
      {"select (email).my_volatile from users", kVolatileFunction, kAnything},
      {"select ('s'::text).nextval from users", kVolatileFunction, kRows},
      {"select (created_at).age from users", kTimeFunction, kRead},
      {"select (coalesce(email, '')).current_setting from users", kSessionFunction, kRead},
      {"select (email).my_stable from users", kUnsafeFunction, kRows},
      {"select (email || 'day').date from users", kTimeLiteral, kRead},
      {"select ((array['a'])[1]).date from users", kTimeLiteral, kRead},
      {"select (email).regclass from users", kUnsafeType, kRead},
      {"select g.nextval from users, my_immutable(1) g", kVolatileFunction, kRows},
      {"select g.age from users, my_immutable(1) as g (x)", kTimeFunction, kRead},
      {"select my_immutable.my_stable from users, my_immutable(1)", kUnsafeFunction, kRows},
      {"select g.date from users, my_immutable(1) g", kTimeLiteral, kRead},
      {"select * from xmltable('/a' passing x columns b int), users", kSyntax, kAnything},
      {"select * from my_immutable(1) as (a int, b regclass), users", kUnsafeType, kRead},
      {"select * from my_immutable(1) as (a int, b date), users", kTimeLiteral, kRead},
      {"select * from rows from (my_immutable(1) as (a date)), users", kTimeLiteral, kRead},
      {"select a::date from my_immutable(1) as (a text), users", kTimeLiteral, kRead},
      {"with recursive t as (select 1) search depth first by a set b select * from t, users",
       kSyntax, kAnything},
      {"select 'now'::text from users", kTimeLiteral, kRead},
      {"select * from users where created_at > 'today'", kTimeLiteral, kRead},
      {"select * from users where created_at > timestamptz 'Yesterday 12:00'", kTimeLiteral, kRead},
      {"select E'n\\u006fw'::date from users", kTimeLiteral, kRead},
      {"select '[now,]'::daterange from users", kTimeLiteral, kRead},
      {"select 1 from users; select 2", kMultiStatement, kRead},
      {"insert into users values (1)", kNotSelect, kRows},
      {"insert into users values (my_volatile())", kNotSelect, kAnything},
      {"insert into users select my_stable() from doctors", kNotSelect, kRows},
      {"update users set email = set_config('a', 'b', false)", kNotSelect, kAnything},
      {"delete from users where id in (select nothing_like_it())", kNotSelect, kAnything},
      {"insert into users values (1) on conflict (id) do update set email = excluded.email "
       "where users.id = 1 returning *",
       kNotSelect, kRows},
      {"merge into users using doctors on users.id = doctors.id when matched then delete "
       "when not matched then insert values (1)",
       kNotSelect, kRows},
      {"update users set (email, role) = (select 'a', 'b')", kNotSelect, kRows},
      {"truncate users", kNotSelect, kRows},
      {"copy users from stdin", kNotSelect, kRows},
      {"explain select * from users", kNotSelect, kRead},
      {"explain select my_volatile()", kNotSelect, kAnything},
      {"explain analyze select 1", kNotSelect, kAnything},
      {"begin", kNotSelect, kRead},
      {"commit", kNotSelect, kRows},
      {"rollback", kNotSelect, kRead},
      {"show all", kNotSelect, kRead},
      {"set a.b = 1", kNotSelect, kAnything},
      {"create table t (a int)", kNotSelect, kAnything},
      {"prepare a as select 1", kNotSelect, kRead},
      {"execute a", kNotSelect, kAnything},
      {"deallocate all", kNotSelect, kRead},
      {"discard all", kNotSelect, kAnything},
      {"declare c cursor for select * from users", kNotSelect, kRows},
      {"declare c cursor for select my_volatile()", kNotSelect, kAnything},
      {"select 1; set a.b = 1", kMultiStatement, kAnything},
      {"select my_volatile(); select 1", kMultiStatement, kAnything},
      {"selec", kUnparsable, kAnything},
      {"", kNotSelect, kRead},
  };
  for (const Case& each : cases) {
    CAPTURE(each.sql);
    const Verdict verdict = judge(each.sql, *catalog);
    CHECK_MESSAGE(has_reason(verdict, each.reason), labels(verdict));
    CHECK(verdict.effect == each.effect);
    CHECK_FALSE(verdict.cacheable());
  }
}

TEST_CASE("all reasons are told, each once") {
  const auto catalog = CatalogFixture().build();
  const Verdict verdict =
      judge("select now(), now(), random() from unwatched, users for update", *catalog);
  CHECK(verdict.reasons == std::vector{Reason::kLocking, Reason::kNotWatched, Reason::kTimeFunction,
                                       Reason::kVolatileFunction});
  CHECK(verdict.reason() == Reason::kLocking);
}

TEST_CASE("which tables a statement reads: CTEs are seen where they are in scope") {
  struct Case {
    std::string_view sql;
    std::vector<Oid> roots;
  };
  const auto catalog = CatalogFixture().build();
  const std::vector<Case> cases = {
      {"select * from users u join doctors d on true, users v", {1001, 1002}},
      {"with users as (select * from doctors) select * from users", {1002}},
      {"with users as (select * from users) select * from users", {1001}},
      {"with a as (select * from b), b as (select 1) select * from a, users", {1001}},
      {"with recursive users as (select * from users) select 1 from doctors", {1002}},
      {"select * from (with users as (select 1) select * from users) a, users", {1001}},
      {"select * from (with users as (select 1) select * from users) a, doctors", {1002}},
      {"with users as (select * from doctors) select * from public.users", {1001, 1002}},
      {"with users as (select 1) select (select count(*) from users) from doctors", {1002}},
      {"(with users as (select 1) select 1 from users) union select id from users", {1001}},
      {"with users as (select 1) select 1 from users union select id from users, doctors", {1002}},
      {"with a as (with users as (select 1) select * from users) select * from a, users", {1001}},
      {"select * from other.users", {1016}},
      {"select * from audit_logs", {1020}},
      {"select * from audit_logs_1", {1020}},
      {"select 1 from users order by (select count(*) from doctors)", {1001, 1002}},
      {"select * from users limit (select count(*) from doctors)", {1001, 1002}},
      {"select * from (users join doctors on exists (select 1 from appointments)) j",
       {1001, 1002, 1003}},
  };
  for (const Case& each : cases) {
    CAPTURE(each.sql);
    const Verdict verdict = judge(each.sql, *catalog);
    std::vector<Oid> roots = verdict.roots();
    std::sort(roots.begin(), roots.end());
    CHECK(roots == each.roots);
  }
  CHECK(has_reason(
      judge("with a as (select * from b), b as (select 1) select * from a, users", *catalog),
      Reason::kUnknownTable));
}

TEST_CASE("the search_path decides") {
  const auto catalog = CatalogFixture().build();
  const auto statement = analyze("select * from users", 16384);
  CHECK(resolve(*statement, *catalog, {"pg_catalog", "other"}).roots() == std::vector<Oid>{1016});
  CHECK(resolve(*statement, *catalog, {"other", "public"}).roots() == std::vector<Oid>{1016});
  CHECK(resolve(*statement, *catalog, {"pg_catalog"}).reason() == Reason::kUnknownTable);
}

TEST_CASE("casts to a date or time: the input must not be a string the query makes") {
  const auto catalog = CatalogFixture().build();
  for (const std::string_view sql : {
           "select created_at::date from users",
           "select u.created_at::date, cast(u.updated_at as timestamp) from users u",
           "select $1::date from users",
           "select '2020-01-01'::date, date '2020-01-01', null::date from users",
           "select date(created_at), date($1) from users",
           "select date_trunc('day', created_at)::date d from users group by 1",
           "select (created_at + interval '1 day')::time from users",
           "select (created_at at time zone 'utc')::date from users",
           "select max(created_at)::date from users",
           "select coalesce(created_at, updated_at, $1)::date from users",
           "select created_at::timestamp::date from users",
           "select id from users where created_at::date = $1::date order by created_at::date",
           "select birthday::timestamp from doctors",
           "select day::day from appointments",
           "select email::text, rating::text from users, doctors",
       }) {
    CAPTURE(sql);
    const Verdict verdict = judge(sql, *catalog);
    CHECK_MESSAGE(verdict.cacheable(), labels(verdict));
  }
  for (const std::string_view sql : {
           "select birthday::date from users",
           "select birthday::date from users, doctors",
           "select d.birthday::date from doctors d, users",
           "select ('n' || 'ow')::date from users",
           "select date(birthday), id from users",
           "select date('n' || 'ow') from users",
           "select lower('NoW' || '')::date from users",
           "select substring(email from 1)::timestamptz from users",
           "select email::text::date from users",
           "select created_at::text::date from users",
           "select max(email)::date from users",
           "select coalesce(email, 'x')::date from users",
           "select coalesce(created_at, lower('n'))::date from users",
           "select (select email from users)::date from users",
           "select array_agg(email)::date[] from users",
           "select (data ->> 'day')::date from appointments",
           "select x.created_at::date from (select email as created_at from users) x",
           "select x.lower::date from (select lower(created_at::text) from users) x, users",
           "select x.case::date from (select case when true then email end from users) x",
           "select x.email::date from (select (select email from users)) x",
           "select x.\"?column?\"::date from (select 'n' || 'ow') x, users",
           "select created_at::date from (select created_at::text from users) x",
           "select x.created_at::date from (select email from users) x(created_at)",
           "with x(created_at) as (select email from users) select created_at::date from x",
           "with x as (select email as created_at from users) select created_at::date from x",
           "select u.created_at::date from users u(a, created_at)",
           "select column1::date from (values ('n' || 'ow')) v, users",
           "select f.created_at::date from my_immutable(1) f, users u",
           "select row(email)::users from users",
           "select birthday::day from users",
           "select string_agg(email, '')::date from users",
           "select unnest(array[email])::date from users",
           "select my_missing::date from users",
       }) {
    CAPTURE(sql);
    const Verdict verdict = judge(sql, *catalog);
    CHECK_FALSE(verdict.cacheable());
    CHECK(verdict.effect == Effect::kPureRead);
  }
}

TEST_CASE("a user's min is not PostgreSQL's min") {
  CatalogFixture fixture;
  fixture.functions("public", "ui-t-", {"max"});
  const auto catalog = fixture.build();
  CHECK_FALSE(judge("select max(created_at)::date from users", *catalog).cacheable());
  CHECK(judge("select max(created_at) from users", *catalog).cacheable());
  CHECK(judge("select pg_catalog.max(created_at)::date from users", *catalog).cacheable());
  CatalogFixture with_citext;
  with_citext.functions("public", "ei-t-", {"max"});
  CHECK(judge("select max(created_at)::date from users", *with_citext.build()).cacheable());
}

TEST_CASE("a column is not the function of the same name") {
  CatalogFixture fixture;
  fixture.functions("public", "uv--r", {"email", "role", "untaken"});
  fixture.functions("public", "uv---", {"rating"});
  const auto catalog = fixture.build();
  CHECK(judge("select u.email, users.role from users u, users", *catalog).cacheable());
  CHECK(judge("select d.rating from doctors d", *catalog).cacheable());
  CHECK_FALSE(judge("select u.untaken from users u", *catalog).cacheable());
  CHECK_FALSE(judge("select d.email from doctors d", *catalog).cacheable());
  CHECK_FALSE(judge("select x.email from (select id from users) x", *catalog).cacheable());
  CHECK_FALSE(judge("select u.email from users u(email)", *catalog).cacheable());
  CHECK_FALSE(judge("select (u).email from users u", *catalog).cacheable());
}

TEST_CASE("one bad overload spoils the name, one bad operator what implies it") {
  CatalogFixture fixture;
  fixture.functions("public", "us---", {"lower"});
  fixture.operators("public", "uv---", {"="});
  fixture.operators("other", "uv---", {"<"});
  const auto catalog = fixture.build();
  CHECK(judge("select lower(email) from users", *catalog).reason() == Reason::kUnsafeFunction);
  CHECK(judge("select pg_catalog.lower(email) from users", *catalog).cacheable());
  for (const std::string_view sql :
       {"select 1 from users where id = 1", "select 1 from users where id in (1, 2)",
        "select 1 from users where id in (select id from doctors)",
        "select 1 from users join doctors using (id)", "select 1 from users natural join doctors",
        "select case id when 1 then 2 end from users", "select nullif(id, 1) from users",
        "select 1 from users where id is distinct from 1",
        "select 1 from users where id = any (select id from doctors)"}) {
    CAPTURE(sql);
    CHECK(has_reason(judge(sql, *catalog), Reason::kUnsafeOperator));
  }
  CHECK(judge("select 1 from users where id < 1 and id between 1 and 2", *catalog).cacheable());
}

TEST_CASE("a database whose triggers may change the session") {
  CatalogFixture fixture;
  fixture.writes_may_change_session();
  const auto catalog = fixture.build();
  const auto effect = [&](std::string_view sql) { return judge(sql, *catalog).effect; };
  CHECK(effect("select * from users") == Effect::kPureRead);
  CHECK(effect("select * from users for update") == Effect::kWritesRows);
  CHECK(effect("update users set role = 'x'") == Effect::kChangesSession);
  CHECK(effect("with a as (delete from users) select 1") == Effect::kChangesSession);
  CHECK(effect("copy users from stdin") == Effect::kChangesSession);
  CHECK(effect("commit") == Effect::kChangesSession);
  CHECK(effect("rollback") == Effect::kPureRead);
  CHECK(effect("select my_stable() from users") == Effect::kChangesSession);
  CHECK(effect("select * from plain_view") == Effect::kPureRead);
}

TEST_CASE("parameters") {
  const auto catalog = CatalogFixture().build();
  CHECK(judge("select * from users where created_at > $1", *catalog).time_parameters);
  CHECK_FALSE(
      judge("select * from users where created_at > '2020-01-01'", *catalog).time_parameters);
}

TEST_CASE("each reason names its objects") {
  const auto catalog = CatalogFixture().build();
  const auto causes = [&](std::string_view sql) {
    return resolve(*analyze(sql, 16384), *catalog, {"pg_catalog", "public"}).causes;
  };
  CHECK(causes("select * from users").empty());
  CHECK(causes("select now(), random() from users, nowhere") ==
        std::vector<Cause>{{Reason::kUnknownTable, "nowhere"},
                           {Reason::kTimeFunction, "now"},
                           {Reason::kVolatileFunction, "random"}});
  CHECK(causes("select 1") == std::vector<Cause>{{Reason::kNoTable, ""}});
  const auto broken = causes("select from where");
  REQUIRE(broken.size() == 1);
  CHECK(broken[0] == Cause{Reason::kUnparsable, "syntax error at or near \"where\""});
  CHECK(causes("insert into users values (1)") == std::vector<Cause>{{Reason::kNotSelect, ""}});
}

}  // namespace
}  // namespace pgfresh::query::test
