"""One row for each construct: cached, and fresh after a write to each table that it reads; or
refused, with the reason. What must not be cached whatever it is written in: test_refusals.py.
"""
import time

import psycopg
import pytest

from pgfresh_proc import wait_until
from play import STALENESS_S, last

STAGE = """
CREATE TYPE mood AS ENUM ('low', 'fine');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE odd (id int PRIMARY KEY, m mood, p pair, d positive, r int4range, mr int4multirange,
  at timestamptz, span interval, day date, tags text[], doc jsonb, note text, open_at time);
INSERT INTO odd VALUES (1, 'low', '(1,x)', 1, '[1,5)', '{[1,5)}', '2026-01-01 12:00+00', '1 day',
  '2026-01-01', '{a,b}', '{"n": 1, "list": [1, 2]}', 'the fat cat', '08:00');
CREATE TABLE parent (id int PRIMARY KEY, n int NOT NULL);
CREATE TABLE child (extra text) INHERITS (parent);
INSERT INTO parent VALUES (1, 1); INSERT INTO child VALUES (2, 2, 'x');
SELECT pgfresh.watch(t) FROM unnest(ARRAY['odd', 'parent']::regclass[]) t;
CREATE VIEW item_part AS SELECT i.id, i.name AS item, p.name AS part FROM item i
  LEFT JOIN part p ON p.item_id = i.id;
CREATE VIEW of_view AS SELECT v.item, v.part, o.note FROM item_part v, odd o;
CREATE VIEW barred WITH (security_barrier) AS SELECT id, price FROM item WHERE id < 50;
CREATE VIEW checked AS SELECT id, name FROM part WHERE id < 500 WITH CHECK OPTION;
CREATE RECURSIVE VIEW counted (n) AS
  SELECT min(price)::int FROM item UNION ALL SELECT n + 1 FROM counted WHERE n < 20;
CREATE VIEW of_tree AS SELECT count(*) AS rows, sum(n) AS sum FROM parent;
CREATE VIEW of_leaf AS SELECT what FROM happening_1 WHERE id = 1;
CREATE VIEW star AS SELECT * FROM odd;
CREATE VIEW timed AS SELECT name FROM item WHERE made < now();
CREATE VIEW today AS SELECT name, current_date AS day FROM item;
CREATE VIEW mine AS SELECT secret FROM guarded;
CREATE VIEW by_bert AS SELECT secret FROM guarded; ALTER VIEW by_bert OWNER TO bert;
CREATE VIEW by_caller WITH (security_invoker) AS SELECT secret FROM guarded;
CREATE VIEW unwatched AS SELECT name FROM plain;
CREATE VIEW upon_unwatched AS SELECT u.name FROM unwatched u, item;
CREATE VIEW catalogued AS SELECT relname FROM pg_class;
CREATE VIEW columned AS SELECT column_name FROM information_schema.columns;
CREATE VIEW mixed AS SELECT name, random() AS r FROM item;
CREATE VIEW who AS SELECT name, current_user AS me FROM item;
CREATE VIEW where_from AS SELECT name, inet_client_port() FROM item;
CREATE VIEW locking AS SELECT name FROM item FOR SHARE;
CREATE VIEW sampled AS SELECT name FROM item TABLESAMPLE BERNOULLI (50);
CREATE VIEW rowed AS SELECT name, xmin FROM item;
CREATE VIEW dated AS SELECT (doc ->> 'day')::date AS day FROM odd;
CREATE VIEW opened AS SELECT open_at AT TIME ZONE 'Europe/Berlin' AS at FROM odd;
CREATE VIEW constant AS SELECT 1 AS one;
CREATE UNLOGGED TABLE quick (id int);
CREATE VIEW quickly AS SELECT id FROM quick;
CREATE MATERIALIZED VIEW matter AS SELECT 1 AS id;
CREATE VIEW mattering AS SELECT id FROM matter;
CREATE FUNCTION peeking() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT count(*) FROM plain $$;
CREATE FUNCTION since(at timestamptz DEFAULT now()) RETURNS text LANGUAGE sql IMMUTABLE AS
  $$ SELECT extract(epoch FROM $1)::text $$;
CREATE FUNCTION plain_default(a int DEFAULT 2 + 1, b text DEFAULT 'x') RETURNS text LANGUAGE sql
  IMMUTABLE AS $$ SELECT b || a $$;
CREATE FUNCTION zoned(at timetz) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1::text $$;
CREATE FUNCTION zone() RETURNS timetz LANGUAGE sql IMMUTABLE AS $$ SELECT '08:00+00'::timetz $$;
CREATE FUNCTION zones(OUT z timetz, OUT n int) LANGUAGE sql IMMUTABLE AS
  $$ SELECT '08:00+00'::timetz, 1 $$;
CREATE FUNCTION zone_list() RETURNS timetz[] LANGUAGE sql IMMUTABLE AS
  $$ SELECT ARRAY['08:00+00'::timetz] $$;
CREATE TYPE zone_pair AS (n int, z timetz);
CREATE FUNCTION zone_row() RETURNS zone_pair LANGUAGE sql IMMUTABLE AS
  $$ SELECT ROW(1, '08:00+00'::timetz)::zone_pair $$;
CREATE VIEW peeked AS SELECT peeking() FROM item;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO anna;
"""

ITEM = "UPDATE item SET name = name || '!', price = price + 1 WHERE id <= 3"
PART = "UPDATE part SET name = name || '!' WHERE id <= 5"
LEAF = "UPDATE happening_1 SET what = what || '!' WHERE id = 1"
TREE = "UPDATE happening SET what = what || '!' WHERE id = 1"
PARENT = "UPDATE parent SET n = n + 1 WHERE id = 1"
CHILD = "UPDATE child SET n = n + 1"
ODD = """UPDATE odd SET m = CASE m WHEN 'low' THEN 'fine'::mood ELSE 'low' END, p.a = (p).a + 1,
  d = d + 1, r = int4range(lower(r), upper(r) + 1), mr = mr + int4multirange(int4range(10, d + 20)),
  at = at + interval '1 month', span = span + interval '1 h', day = day + 1,
  tags = tags || d::text, doc = jsonb_set(doc, '{n}', to_jsonb(d)), note = note || ' fat dog' || d,
  open_at = open_at + interval '1 min'"""

CACHED = [
    # views
    ("SELECT name FROM item_name WHERE id = 1", [ITEM]),
    ("SELECT * FROM item_part WHERE id = 1 ORDER BY part", [ITEM, PART]),
    ("SELECT * FROM of_view ORDER BY item, part LIMIT 3", [ITEM, PART, ODD]),
    ("SELECT sum(price) FROM barred", [ITEM]),
    ("SELECT * FROM checked ORDER BY id LIMIT 5", [PART, "UPDATE checked SET name = 'by view' || id "
                                                  "|| clock_timestamp() WHERE id = 1"]),
    ("SELECT min(n) FROM counted", ["UPDATE item SET price = price + 1 WHERE price = "
                                    "(SELECT min(price) FROM item)"]),
    ("SELECT * FROM of_tree", [PARENT, CHILD]),
    ("SELECT what FROM of_leaf", [LEAF, TREE]),
    ("SELECT * FROM star", [ODD]),
    ("SELECT s, i.name FROM star s, item i WHERE i.id = 1", [ODD, ITEM]),
    ("WITH item_part AS (SELECT name FROM part WHERE id = 1) SELECT * FROM item_part", [PART]),
    ("SELECT * FROM who WHERE name LIKE 'item 1%' ORDER BY name LIMIT 3", [ITEM]),
    ("SELECT current_user, session_user, current_schema, current_database(), name FROM item WHERE id = 1", [ITEM]),
    # trees and their members
    ("SELECT what FROM happening WHERE id = 1", [LEAF, TREE]),
    ("SELECT what FROM happening_1 WHERE id = 1", [LEAF, TREE]),
    ("SELECT * FROM parent ORDER BY id", [PARENT, CHILD]),
    ("SELECT * FROM ONLY parent ORDER BY id", [PARENT]),
    ("SELECT * FROM child", [CHILD, "UPDATE parent SET n = n + 1 WHERE id = 2"]),
    # WITH, set operations, subqueries
    ("WITH a AS (SELECT * FROM item WHERE id < 3), b AS (SELECT a.name, p.name AS part FROM a JOIN "
     "part p ON p.item_id = a.id) SELECT * FROM b ORDER BY 1, 2", [ITEM, PART]),
    ("WITH RECURSIVE t(id, depth) AS (SELECT id, 0 FROM item WHERE name LIKE 'item 1!%' OR id = 1 "
     "UNION ALL SELECT p.id, depth + 1 FROM part p JOIN t ON p.item_id = t.id WHERE depth < 2) "
     "SELECT count(*), (SELECT name FROM item WHERE id = 1) FROM t", [ITEM]),
    ("WITH x AS MATERIALIZED (SELECT sum(price) AS m FROM item) SELECT m FROM x, part LIMIT 1", [ITEM]),
    ("SELECT name FROM item WHERE id = 1 UNION ALL SELECT name FROM part WHERE id = 1", [ITEM, PART]),
    ("SELECT name FROM item WHERE id = 1 INTERSECT SELECT name FROM item EXCEPT SELECT name FROM part",
     [ITEM]),
    ("SELECT (SELECT name FROM part WHERE id = 1), name FROM item WHERE id = 1", [ITEM, PART]),
    ("SELECT name FROM item i WHERE id < 4 AND EXISTS (SELECT FROM part p WHERE p.item_id = i.id) "
     "ORDER BY id", [ITEM]),
    ("SELECT i.name, l.name FROM item i, LATERAL (SELECT name FROM part p WHERE p.item_id = i.id "
     "ORDER BY id LIMIT 1) l WHERE i.id = 1", [ITEM, PART]),
    ("SELECT name FROM item NATURAL JOIN (SELECT id FROM part) p WHERE id = 2", [ITEM]),
    ("SELECT i.name, p.name FROM item i FULL JOIN part p USING (id) WHERE id = 1", [ITEM, PART]),
    ("VALUES ((SELECT name FROM item WHERE id = 1)), ('x')", [ITEM]),
    ("TABLE odd", [ODD]),
    # aggregates and windows
    ("SELECT count(*) FILTER (WHERE name LIKE '%!%'), sum(price) FROM item", [ITEM]),
    ("SELECT percentile_cont(0.1) WITHIN GROUP (ORDER BY price) FROM item WHERE id <= 3", [ITEM]),
    ("SELECT id % 2, sum(price), grouping(id % 2) FROM item GROUP BY ROLLUP (id % 2) ORDER BY 1", [ITEM]),
    ("SELECT DISTINCT ON (item_id) item_id, name FROM part ORDER BY item_id, id LIMIT 2", [PART]),
    ("SELECT id, sum(price) OVER w, rank() OVER (ORDER BY price) FROM item WHERE id <= 3 WINDOW w AS "
     "(ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) ORDER BY id", [ITEM]),
    ("SELECT string_agg(name, ',' ORDER BY id), array_agg(price ORDER BY id), bool_or(price > 3) "
     "FROM item WHERE id <= 3", [ITEM]),
    # documents, arrays, rows
    ("SELECT json_agg(row_to_json(i) ORDER BY id) FROM item i WHERE id <= 2", [ITEM]),
    ("SELECT jsonb_build_object('name', name, 'made', made), to_jsonb(i) FROM item i WHERE id = 1", [ITEM]),
    ("SELECT doc -> 'n', doc #>> '{n}', doc @> '{\"n\": 1}', e FROM odd, "
     "jsonb_array_elements(doc -> 'list') e ORDER BY 4", [ODD]),
    ("SELECT jsonb_path_query(doc, '$.n') FROM odd", [ODD]),
    ("SELECT x.n, x.list, note FROM odd, jsonb_to_record(doc) AS x(n int, list int[])", [ODD]),
    ("SELECT xmlelement(name item, xmlattributes(id AS no), name), xmlforest(price) FROM item WHERE id = 1", [ITEM]),
    ("SELECT tags, tags[1:2], array_length(tags, 1), 'a' = ANY (tags), unnest(tags) FROM odd", [ODD]),
    ("SELECT ROW(id, name), (id, price) FROM item WHERE id = 1", [ITEM]),
    # types
    ("SELECT m, m::text, m > 'low', d, p, (p).a, (p).b, r, upper(r), r @> 3, mr FROM odd", [ODD]),
    ("SELECT at, at::date, at + span, at - '2026-01-01', extract(epoch FROM at), to_char(at, 'TMMonth'), "
     "date_trunc('day', at), at AT TIME ZONE 'Asia/Kolkata', age(at, '2020-01-01') FROM odd", [ODD]),
    ("SELECT day + 1, day - date '2026-01-01', open_at, open_at + span, to_char(span, 'HH24') FROM odd", [ODD]),
    ("SELECT (CASE WHEN d > 0 THEN at END)::date, coalesce(at, '2026-01-01')::time FROM odd", [ODD]),
    ("SELECT x.moment::date FROM (SELECT at AS moment FROM odd) x", [ODD]),
    ("SELECT * FROM kinds ORDER BY id", ["UPDATE kinds SET i8 = i8 + 1 WHERE id = 1"]),
    # text search, patterns, the rest
    ("SELECT ts_rank(to_tsvector('english', note), plainto_tsquery('english', 'cats')), "
     "to_tsvector(note) @@ to_tsquery('fat'), to_tsvector('english', note) FROM odd", [ODD]),
    ("SELECT name ILIKE 'ITEM%', name ~ '!+', name SIMILAR TO '%!', regexp_replace(name, '!', '') "
     "FROM item WHERE id = 1", [ITEM]),
    ("SELECT name FROM item WHERE id = ANY (ARRAY[1, 2]) AND id IN (1, 2) ORDER BY name COLLATE \"C\" "
     "DESC NULLS LAST FETCH FIRST 2 ROWS WITH TIES", [ITEM]),
    ("SELECT nullif(name, ''), greatest(price, 1), least(price, 2), name IS DISTINCT FROM 'x', "
     "price BETWEEN SYMMETRIC 5 AND 1 FROM item WHERE id = 1", [ITEM]),
    ("SELECT greeting(), name FROM item WHERE id = 1", [ITEM]),
    ("SELECT plain_default(), name FROM item WHERE id = 1", [ITEM]),
    ("SELECT md5(name), encode(sha256(name::bytea), 'hex'), hashtext(name) FROM item WHERE id = 1", [ITEM]),
    ("SELECT name, n FROM item, generate_series(1, 2) WITH ORDINALITY g(n, o) WHERE id = 1", [ITEM]),
]

REFUSED = [
    ("time_function", "SELECT * FROM timed"),
    ("time_function", "SELECT * FROM today"),
    ("not_watched", "SELECT * FROM unwatched"),
    ("not_watched", "SELECT * FROM upon_unwatched"),
    ("system_table", "SELECT * FROM catalogued LIMIT 1"),
    ("system_table", "SELECT * FROM columned LIMIT 1"),
    ("system_table", "SELECT table_name FROM information_schema.tables LIMIT 1"),
    ("volatile_function", "SELECT * FROM mixed LIMIT 1"),
    ("session_function", "SELECT * FROM where_from LIMIT 1"),
    ("locking_clause", "SELECT * FROM locking LIMIT 1"),
    ("tablesample", "SELECT count(*) FROM sampled"),
    ("system_column", "SELECT * FROM rowed LIMIT 1"),
    ("time_literal", "SELECT * FROM dated"),
    ("unsafe_type", "SELECT * FROM opened"),
    ("no_table", "SELECT * FROM constant"),
    ("unlogged", "SELECT * FROM quickly"),
    ("relation_kind", "SELECT * FROM mattering"),
    ("unsafe_function", "SELECT * FROM peeked LIMIT 1"),
    ("time_function", "SELECT open_at AT TIME ZONE 'Europe/Berlin' FROM odd"),
    ("time_literal", "SELECT (doc ->> 'day')::date FROM odd"),
    ("time_literal", "SELECT x.d::date FROM (SELECT note AS d FROM odd WHERE id = 9) x"),
    ("volatile_function", "SELECT since(), name FROM item WHERE id = 1"),
    ("unsafe_function", "SELECT zoned(open_at) FROM odd"),
    # a time that is compared with a timetz takes the offset of today's date
    ("unsafe_function", "SELECT open_at = zone() FROM odd"),
    ("table_function", "SELECT open_at = z FROM odd, zones()"),
    ("unsafe_function", "SELECT open_at = ANY (zone_list()) FROM odd"),
    ("unsafe_function", "SELECT open_at = (zone_row()).z FROM odd"),
    ("time_literal", "SELECT x.d FROM odd, jsonb_to_record(doc) AS x(d date)"),
    ("unsafe_function", "SELECT jsonb_populate_record(o, doc) FROM odd o"),
    ("volatile_function", "SELECT gen_random_uuid(), name FROM item WHERE id = 1"),
]


@pytest.fixture(scope="module")
def database(server):
    name = "cacheable"
    server.create_database(name, template="stage")
    server.psql(STAGE, database=name)
    yield name
    server.psql(f"DROP DATABASE {name} WITH (FORCE)")


def rows(connection, sql):
    return connection.execute(sql).fetchall()


@pytest.mark.parametrize("sql, writes", CACHED)
def test_cached_and_fresh(play, sql, writes):
    app, direct, writer = play.app(), play.direct(), play.app()
    for write in writes:
        before = play.hot(app, sql)
        assert before == rows(direct, sql)
        writer.execute(write)
        after = rows(app, sql)
        assert after == rows(direct, sql)
        assert after != before, f"the write changes nothing: {write}"
    before = play.hot(app, sql)
    direct.execute(writes[0])
    wait_until(lambda: rows(app, sql) != before, "the direct write is seen", STALENESS_S)
    assert rows(app, sql) == rows(direct, sql)


@pytest.mark.parametrize("reason, sql", REFUSED)
def test_refused_with_its_reason(play, reason, sql):
    app = play.app()
    play.hot(app, "SELECT name FROM item WHERE id = 1")
    with play.expect(hits=0, fills_total=0):
        for _ in range(3):
            app.execute(sql)
    assert (last(app)["verdict"], last(app)["reason"]) == ("bypass", reason)


# -- views change ---------------------------------------------------------------------------------


@pytest.fixture
def own_view(play):
    play.sql("CREATE VIEW own AS SELECT id, name FROM item WHERE id = 1; GRANT SELECT ON own TO anna")
    play.hot(play.app(), "SELECT * FROM own")
    yield
    play.sql("DROP VIEW IF EXISTS own")


@pytest.mark.parametrize("ddl, expected", [
    ("CREATE OR REPLACE VIEW own AS SELECT id, 'new'::text AS name FROM item WHERE id = 2",
     [(2, "new")]),
    ("ALTER VIEW own RENAME COLUMN name TO title; CREATE OR REPLACE VIEW own AS SELECT id, "
     "'title'::text AS title FROM item WHERE id = 1", [(1, "title")])])
@pytest.mark.parametrize("around", [False, True])
def test_new_definition_is_seen(play, own_view, ddl, expected, around):
    app = play.app()
    play.hot(app, "SELECT * FROM own")
    if around:
        play.sql(ddl)
        time.sleep(STALENESS_S)
    else:
        play.app().execute(ddl)
    assert rows(app, "SELECT * FROM own") == expected
    assert play.hot(app, "SELECT * FROM own") == expected


def test_definition_becomes_uncacheable(play, own_view):
    app = play.app()
    play.hot(app, "SELECT * FROM own")
    play.app().execute("CREATE OR REPLACE VIEW own AS SELECT id, clock_timestamp()::text AS name "
                       "FROM item WHERE id = 1")
    first, second = rows(app, "SELECT * FROM own"), rows(app, "SELECT * FROM own")
    assert first != second


def test_rights_on_a_view_are_its_own(play, own_view):
    """Anna may read the view; then she may not, though she may read what it reads."""
    anna = play.app("anna")
    play.hot(anna, "SELECT * FROM own")
    play.app().execute("REVOKE SELECT ON own FROM anna")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        anna.execute("SELECT * FROM own")


def test_rights_of_the_views_owner(play):
    """What is read beneath a view is read with the owner's rights, which may go as well."""
    play.sql("CREATE VIEW annas AS SELECT name FROM item WHERE id = 1; ALTER VIEW annas OWNER TO anna;"
             "GRANT SELECT ON annas TO bert")
    bert = play.app("bert")
    play.hot(bert, "SELECT name FROM annas")
    play.sql("REVOKE SELECT ON item FROM anna")
    time.sleep(STALENESS_S)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bert.execute("SELECT name FROM annas")
    play.sql("GRANT ALL ON item TO anna; DROP VIEW annas")


def test_users_of_one_view_see_their_own(play):
    sql = "SELECT me FROM who WHERE name = 'item 50'"
    assert play.hot(play.app("anna"), sql) == [("anna",)]
    assert play.hot(play.app("postgres"), sql) == [("postgres",)]
    app = play.app("postgres")
    app.execute("SET ROLE anna")
    assert rows(app, sql) == [("anna",)]
    app.execute("RESET ROLE")
    assert rows(app, sql) == [("postgres",)]


@pytest.mark.parametrize("view", ["mine", "by_bert", "by_caller"])
def test_row_security_beneath_a_view(play, view):
    """Whose policies count beneath a view is not asked here, cached or not: everybody sees what a
    direct connection shows, before and after the policies change."""
    play.sql(f"GRANT SELECT ON {view} TO anna, bert")

    def check():
        for user in ("anna", "bert", "postgres", "anna"):
            app, direct = play.app(user), play.direct(user)
            expected = sorted(rows(direct, f"SELECT secret FROM {view}"))
            for _ in range(3):
                assert sorted(rows(app, f"SELECT secret FROM {view}")) == expected, user

    check()
    admin = play.app()
    for change in ("CREATE POLICY more ON guarded TO bert USING (true)",
                   "ALTER TABLE guarded FORCE ROW LEVEL SECURITY",
                   "ALTER TABLE guarded DISABLE ROW LEVEL SECURITY",
                   "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY",
                   "INSERT INTO guarded VALUES (7, 'anna', 'new')", "DROP POLICY more ON guarded",
                   "DELETE FROM guarded WHERE id = 7",
                   f"ALTER VIEW {view} OWNER TO anna; GRANT SELECT ON {view} TO bert",
                   f"ALTER VIEW {view} OWNER TO postgres; GRANT SELECT ON {view} TO anna, bert"):
        admin.execute(change)
        check()


def test_a_table_beneath_is_no_longer_watched(play, own_view):
    app = play.app()
    play.hot(app, "SELECT * FROM own")
    play.app().execute("SELECT pgfresh.unwatch('item')")
    wait_until(lambda: rows(app, "SELECT * FROM own") and last(app)["reason"] == "not_watched",
               "a refusal")
    play.app().execute("SELECT pgfresh.watch('item')")
    play.hot(app, "SELECT * FROM own")
