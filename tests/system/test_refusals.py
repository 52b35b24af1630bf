"""What must not come from memory, with the reason that is counted; and whose answers must never
be anyone else's: roles, settings, privileges, definitions."""
import datetime
import time

import psycopg
import pytest

from pgfresh_proc import wait_until
from play import STALENESS_S, last, one

NAME = "SELECT name FROM item WHERE id = 1"

REFUSED = [
    ("multi_statement", f"{NAME}; SELECT 1"),
    ("locking_clause", f"{NAME} FOR UPDATE"),
    ("locking_clause", f"{NAME} FOR KEY SHARE"),
    ("locking_clause", f"SELECT * FROM ({NAME} FOR SHARE) s"),
    ("modifying_cte", "WITH d AS (DELETE FROM item WHERE id = -1 RETURNING id) SELECT * FROM d"),
    ("tablesample", "SELECT count(*) FROM item TABLESAMPLE BERNOULLI (50)"),
    ("system_column", "SELECT ctid FROM item WHERE id = 1"),
    ("system_column", "SELECT id FROM item WHERE xmin::text = '1'"),
    ("no_table", "SELECT 1"),
    ("system_table", "SELECT relname FROM pg_class WHERE relname = 'item'"),
    ("system_table", "SELECT name FROM item WHERE EXISTS (SELECT FROM pg_roles)"),
    ("not_watched", "SELECT name FROM plain WHERE id = 1"),
    ("not_watched", "SELECT i.name FROM item i JOIN plain p USING (id) WHERE id = 1"),
    ("volatile_function", "SELECT random() FROM item WHERE id = 1"),
    ("volatile_function", "SELECT name FROM item ORDER BY random() LIMIT 1"),
    ("volatile_function", "SELECT clock_timestamp() FROM item WHERE id = 1"),
    ("volatile_function", "SELECT nextval('journal_id_seq') FROM item WHERE id = 1"),
    ("time_function", "SELECT now() FROM item WHERE id = 1"),
    ("time_function", "SELECT name FROM item WHERE made < current_timestamp AND id = 1"),
    ("time_function", "SELECT name FROM item WHERE made::date < current_date AND id = 1"),
    ("time_function", "SELECT age(made) FROM item WHERE id = 1"),
    # a dot calls a function, of whatever stands in front of it
    ("time_function", "SELECT (made).age FROM item WHERE id = 1"),
    ("time_function", "SELECT g.age FROM item, unnest(ARRAY[made]) g WHERE item.id = 1"),
    ("volatile_function", "SELECT ('journal_id_seq'::text).nextval FROM item WHERE id = 1"),
    ("volatile_function",
     "SELECT unnest.nextval FROM item, unnest('{journal_id_seq}'::text[]) WHERE item.id = 1"),
    ("session_function", "SELECT ('TimeZone'::text).current_setting FROM item WHERE id = 1"),
    ("time_literal", "SELECT ('to' || lower('DAY')).date FROM item WHERE id = 1"),
    ("unsafe_type", "SELECT ('item'::text).regclass FROM item WHERE id = 1"),
    ("session_function", "SELECT pg_backend_pid() FROM item WHERE id = 1"),
    ("session_function", "SELECT current_setting('application_name') FROM item WHERE id = 1"),
    ("time_literal", "SELECT name FROM item WHERE made < 'now' AND id = 1"),
    ("time_literal", "SELECT name FROM item WHERE made::date < 'tomorrow'::date AND id = 1"),
    ("time_literal", "SELECT name FROM item WHERE made < timestamptz 'today' AND id = 1"),
    ("hint", f"/* pgfresh: off */ {NAME}"),
    ("text_too_long", NAME + " AND name <> '" + "x" * 20_000 + "'"),
]
# Refused, by whatever reason seems best.
REFUSED_SOMEHOW = [
    "SELECT rename_item(1, name) FROM item WHERE id = 1",
    "SELECT set_config('DateStyle', 'ISO', false) FROM item WHERE id = 1",
    "SELECT pg_advisory_xact_lock(1) FROM item WHERE id = 1",
    "SELECT has_table_privilege('item', 'SELECT') FROM item WHERE id = 1",
    "SELECT to_regclass('item') FROM item WHERE id = 1",
    "SELECT pg_table_size('item') FROM item WHERE id = 1",
    "SELECT pg_get_viewdef('item_name'::regclass) FROM item WHERE id = 1",
    "SELECT query_to_xml('SELECT 1', true, true, '') FROM item WHERE id = 1",
    "SELECT txid_current() FROM item WHERE id = 1",
    "SELECT last_value FROM journal_id_seq",
    "SELECT pg_backend_pid() FROM item WHERE id = 1",
    "SELECT inet_client_port() FROM item WHERE id = 1",
    "SELECT i FROM item i, pg_ls_dir('.') LIMIT 1",
    "SELECT tableoid FROM item WHERE id = 1",
    "SELECT name FROM public.item WHERE made BETWEEN 'yesterday' AND 'now'",
]


@pytest.mark.parametrize("reason, sql", REFUSED)
def test_refused_with_its_reason(play, reason, sql):
    app = play.app()
    play.hot(app, NAME)
    with play.expect(hits=0, fills_total=0, reason=reason):
        for _ in range(3):
            app.execute(sql)
    assert (last(app)["verdict"], last(app)["reason"]) == ("bypass", reason)


@pytest.mark.parametrize("sql", REFUSED_SOMEHOW)
def test_refused_somehow(play, sql):
    app = play.app()
    play.hot(app, NAME)
    with play.expect(hits=0, fills_total=0):
        for _ in range(3):
            app.execute(sql)
    assert last(app)["verdict"] == "bypass"


def test_time_word_as_a_parameter(play):
    app = play.app()
    play.hot(app, NAME)
    sql = "SELECT name FROM item WHERE made < %s AND id = 1"
    with play.expect(hits=0, fills_total=0):
        for _ in range(3):
            app.execute(sql, ("now",))
    play.hot(app, sql, (datetime.datetime(2030, 1, 1),))


@pytest.mark.parametrize("kind, sql", [
    ("unlogged", "CREATE UNLOGGED TABLE odd AS SELECT 1 AS id"),
    ("relation_kind", "CREATE MATERIALIZED VIEW odd AS SELECT 1 AS id")])
def test_odd_relations(play, kind, sql):
    play.sql(sql)
    app = play.app()
    play.hot(app, NAME)
    wait_until(lambda: app.execute("SELECT id FROM odd") and last(app)["reason"] == kind,
               f"reason {kind}")
    with play.expect(hits=0):
        for _ in range(3):
            app.execute("SELECT id FROM odd")
    play.sql("DROP MATERIALIZED VIEW odd" if "VIEW" in sql else "DROP TABLE odd")


def test_user_functions(play):
    """IMMUTABLE is believed; STABLE is not, for it may read tables nobody watches."""
    app = play.app()
    play.hot(app, "SELECT greeting() FROM item WHERE id = 1")
    play.sql("CREATE FUNCTION peek() RETURNS bigint LANGUAGE sql STABLE AS "
             "$$ SELECT count(*) FROM plain $$")
    play.hot(app, NAME)
    with play.expect(hits=0):
        for _ in range(3):
            app.execute("SELECT peek() FROM item WHERE id = 1")
    play.sql("DROP FUNCTION peek()")


def test_session_switch(play):
    app = play.app()
    play.hot(app, NAME)
    app.execute("SET pgfresh.cache = off")
    with play.expect(hits=0):
        app.execute(NAME)
    app.execute("SET pgfresh.cache = on")
    play.hot(app, NAME)


# -- temporary tables ---------------------------------------------------------------------------


def test_temporary_table_shadows_a_cached_one(play):
    app = play.app()
    play.hot(app, NAME)
    app.execute("CREATE TEMP TABLE item (id int, name text)")
    app.execute("INSERT INTO item VALUES (1, 'mine')")
    with play.expect(hits=0):
        for _ in range(3):
            assert one(app, NAME) == "mine"
    app.execute("DROP TABLE item")
    assert one(app, NAME) == "item 1"
    app.execute("DISCARD ALL")
    play.hot(app, NAME)


def test_temporary_table_made_by_a_function(play):
    app = play.app()
    play.hot(app, NAME)
    app.execute("DO $$ BEGIN CREATE TEMP TABLE item AS SELECT 1 AS id, 'hidden'::text AS name; END $$")
    assert [one(app, NAME) for _ in range(3)] == ["hidden"] * 3


# Bodies of triggers after which `item` is no longer what it was to the session.
BEHIND_A_WRITE = {
    "a temporary table": "CREATE TEMP TABLE item AS SELECT 1 AS id, 'hidden'::text AS name;",
    "a temporary view": "CREATE OR REPLACE TEMP VIEW item AS SELECT 1 AS id, 'hidden'::text AS name;",
    "a temporary table, put together":
        "EXECUTE 'CREATE ' || 'TEMP TABLE item AS SELECT 1 AS id, ''hidden''::text AS name';",
    "a setting": "PERFORM set_config('search_path', 'hiding', false);",
    "a setting, put together": "EXECUTE 'SET ' || TG_ARGV[0] || ' = hiding';",
    "a setting by format()": "EXECUTE format('SET %I = hiding', TG_ARGV[0]);",
}


@pytest.mark.parametrize("body", BEHIND_A_WRITE.values(), ids=list(BEHIND_A_WRITE))
def test_what_a_trigger_does_to_the_session(own_play, body):
    play = own_play()
    play.sql(f"""
CREATE SCHEMA hiding CREATE TABLE item (id int, name text);
INSERT INTO hiding.item VALUES (1, 'hidden');
CREATE TABLE door (id int); SELECT pgfresh.watch(t) FROM unnest('{{door,hiding.item}}'::regclass[]) t;
CREATE FUNCTION behind() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$;
CREATE TRIGGER behind AFTER INSERT ON door EXECUTE FUNCTION behind('search_path')""")
    app = play.app()
    play.hot(app, NAME, seconds=15)
    app.execute("INSERT INTO door VALUES (1)")
    assert [one(app, NAME) for _ in range(3)] == ["hidden"] * 3


# -- identity -----------------------------------------------------------------------------------


def test_roles_never_share(play):
    sql = "SELECT name FROM item WHERE id = 2"
    play.hot(play.app("anna"), sql)
    bert = play.app("bert")
    play.hot(bert, NAME)  # his session is known by now
    with play.expect(hits=0, misses=1):
        bert.execute(sql)


def test_role_without_privilege_gets_nothing(play):
    sql = "SELECT name FROM item WHERE id = 3"
    play.hot(play.app("anna"), sql)
    carla = play.app("carla")
    for _ in range(3):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            carla.execute(sql)


def test_set_role_is_part_of_the_key(play):
    app = play.app()
    sql = "SELECT name FROM item WHERE id = 4"
    play.hot(app, sql)
    app.execute("SET ROLE carla")
    for _ in range(3):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(sql)
    app.execute("RESET ROLE")
    play.hot(app, sql)
    app.execute("BEGIN")
    app.execute("SET LOCAL ROLE carla")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(sql)
    app.execute("ROLLBACK")
    assert one(app, sql) == "item 4"


SWITCHES = {
    "search_path": ("other", NAME, "item 1", "other 1"),
    "DateStyle": ("German", "SELECT d::text FROM kinds WHERE id = 1", "2026-03-04", "04.03.2026"),
    "TimeZone": ("Asia/Kolkata", "SELECT tz::text FROM kinds WHERE id = 1",
                 None, "2026-03-04 08:36:07+05:30"),
    "IntervalStyle": ("iso_8601", "SELECT iv::text FROM kinds WHERE id = 1", None, "P1Y2DT3H4M"),
    "bytea_output": ("escape", "SELECT y::text FROM kinds WHERE id = 1", "\\x00ff10",
                     "\\000\\377\\020"),
    "extra_float_digits": ("0", "SELECT (f8 * 3)::text FROM kinds WHERE id = 1",
                           "0.30000000000000004", "0.3"),
}


def set_directly(app, name, value):
    app.execute(f"SET {name} = '{value}'")


def set_by_function(app, name, value):
    app.execute(f"SELECT set_config('{name}', '{value}', false)")


def set_by_parameters(app, name, value):
    app.execute("SELECT set_config(%s, %s, false)", (name, value))


def set_in_do(app, name, value):
    app.execute(f"DO $$ BEGIN PERFORM set_config('{name}', '{value}', false); END $$")


def set_in_many(app, name, value):
    app.execute(f"SELECT 1; SET {name} = '{value}'; SELECT 2")


def set_in_committed_block(app, name, value):
    app.execute("BEGIN")
    app.execute(f"SET {name} = '{value}'")
    app.execute("COMMIT")


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("how", [set_directly, set_by_function, set_by_parameters, set_in_do,
                                 set_in_many, set_in_committed_block])
def test_settings_are_part_of_the_key(play, name, how):
    value, sql, plainly, changed = SWITCHES[name]
    app = play.app()
    before = play.hot(app, sql)[0][0]
    assert plainly in (None, before)
    how(app, name, value)
    assert [one(app, sql) for _ in range(4)] == [changed] * 4
    app.execute(f"RESET {name}")
    assert [one(app, sql) for _ in range(4)] == [before] * 4
    how(app, name, value)
    app.execute("DISCARD ALL")
    assert [one(app, sql) for _ in range(4)] == [before] * 4


def test_rolled_back_setting_is_back(play):
    app = play.app()
    sql = "SELECT d::text FROM kinds WHERE id = 1"
    play.hot(app, sql)
    app.execute("BEGIN")
    app.execute("SET DateStyle = 'German'")
    assert one(app, sql) == "04.03.2026"
    app.execute("ROLLBACK")
    assert one(app, sql) == "2026-03-04"
    app.execute("BEGIN")
    app.execute("SAVEPOINT a")
    app.execute("SET DateStyle = 'German'")
    app.execute("ROLLBACK TO a")
    assert one(app, sql) == "2026-03-04"
    app.execute("SET LOCAL DateStyle = 'German'")
    assert one(app, sql) == "04.03.2026"
    app.execute("COMMIT")
    assert one(app, sql) == "2026-03-04"


def test_setting_at_login_is_part_of_the_key(play):
    sql = "SELECT d::text FROM kinds WHERE id = 1"
    play.hot(play.app(), sql)
    german = play.app(options="-c DateStyle=German")
    assert [one(german, sql) for _ in range(4)] == ["04.03.2026"] * 4


# -- privileges and definitions -----------------------------------------------------------------


@pytest.fixture
def own_table(play):
    """A watched table of this test alone."""
    play.sql("CREATE TABLE mine (id int PRIMARY KEY, name text); INSERT INTO mine VALUES (1, 'one'); "
             "GRANT SELECT ON mine TO anna; SELECT pgfresh.watch('mine')")
    play.hot(play.app(), "SELECT name FROM mine")  # that the news is known
    yield "mine"
    play.sql("DROP TABLE IF EXISTS mine")


def through_pgfresh(play, sql):
    play.app().execute(sql)


def around_pgfresh(play, sql):
    play.sql(sql)
    time.sleep(STALENESS_S)


BOTH_WAYS = pytest.mark.parametrize("change", [through_pgfresh, around_pgfresh])


@BOTH_WAYS
def test_revoke_is_seen(play, own_table, change):
    anna = play.app("anna")
    play.hot(anna, "SELECT name FROM mine")
    change(play, "REVOKE SELECT ON mine FROM anna")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        anna.execute("SELECT name FROM mine")


@BOTH_WAYS
@pytest.mark.parametrize("ddl, expected", [
    ("ALTER TABLE mine ADD COLUMN more int DEFAULT 7", (1, "one", 7)),
    ("ALTER TABLE mine DROP COLUMN name", (1,)),
    ("ALTER TABLE mine ALTER COLUMN id TYPE text USING 'id ' || id", ("id 1", "one")),
    ("ALTER TABLE mine RENAME TO gone; CREATE TABLE mine AS SELECT 2 AS id; DROP TABLE gone", (2,)),
])
def test_new_shape_is_seen(play, own_table, change, ddl, expected):
    app = play.app()
    play.hot(app, "SELECT * FROM mine")
    change(play, ddl)
    assert app.execute("SELECT * FROM mine").fetchone() == expected


@BOTH_WAYS
def test_dropped_table_is_seen(play, own_table, change):
    app = play.app()
    play.hot(app, "SELECT * FROM mine")
    change(play, "DROP TABLE mine")
    with pytest.raises(psycopg.errors.UndefinedTable):
        app.execute("SELECT * FROM mine")


@BOTH_WAYS
def test_new_function_body_is_seen(play, change):
    app = play.app()
    sql = "SELECT greeting() FROM item WHERE id = 1"
    assert play.hot(app, sql) == [("hello",)]
    change(play, "CREATE OR REPLACE FUNCTION greeting() RETURNS text LANGUAGE sql IMMUTABLE "
                 "AS $$ SELECT 'good day'::text $$")
    assert one(app, sql) == "good day"
    play.sql("CREATE OR REPLACE FUNCTION greeting() RETURNS text LANGUAGE sql IMMUTABLE "
             "AS $$ SELECT 'hello'::text $$")


@BOTH_WAYS
def test_new_policy_is_seen(play, own_table, change):
    anna = play.app("anna")
    play.hot(anna, "SELECT name FROM mine")
    change(play, "ALTER TABLE mine ENABLE ROW LEVEL SECURITY")
    assert anna.execute("SELECT name FROM mine").fetchall() == []


def test_uncommitted_ddl_is_private(play, own_table):
    owner, other = play.app(), play.app()
    play.hot(other, "SELECT * FROM mine")
    owner.execute("BEGIN")
    owner.execute("CREATE TABLE unrelated (id int)")
    owner.execute("ALTER FUNCTION greeting() COST 200")
    assert other.execute("SELECT * FROM mine").fetchall() == [(1, "one")]
    owner.execute("ROLLBACK")
    play.hot(other, "SELECT * FROM mine")


def test_prepared_statement_after_a_change_of_shape(play, own_table):
    """PostgreSQL's own error comes through: cached plan must not change result type."""
    app = play.app(prepare_threshold=0)
    sql = "SELECT * FROM mine WHERE id = %s"
    play.hot(app, sql, (1,))
    app.execute("ALTER TABLE mine ADD COLUMN more int")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        app.execute(sql, (1,))


# (what is there, the question, what changes the answer by a command that only event triggers tell)
UNSEEN = {
    "a dictionary": (
        "CREATE TEXT SEARCH DICTIONARY plain (TEMPLATE = simple);"
        "CREATE TEXT SEARCH CONFIGURATION own (COPY = simple);"
        "ALTER TEXT SEARCH CONFIGURATION own ALTER MAPPING FOR asciiword WITH plain",
        "SELECT to_tsvector('own', 'the ' || name)::text FROM item WHERE id = 1",
        "ALTER TEXT SEARCH DICTIONARY plain (StopWords = english)"),
    "a configuration": (
        "CREATE TEXT SEARCH CONFIGURATION own (COPY = simple)",
        "SELECT to_tsvector('own', 'the ' || name)::text FROM item WHERE id = 1",
        "ALTER TEXT SEARCH CONFIGURATION own ALTER MAPPING FOR asciiword WITH english_stem"),
    "a configuration's name": (
        "CREATE TEXT SEARCH CONFIGURATION own (COPY = simple);"
        "CREATE TEXT SEARCH CONFIGURATION other (COPY = english)",
        "SELECT to_tsvector('own', 'the ' || name)::text FROM item WHERE id = 1",
        "ALTER TEXT SEARCH CONFIGURATION own RENAME TO old;"
        "ALTER TEXT SEARCH CONFIGURATION other RENAME TO own"),
    "a collation": (
        "CREATE COLLATION own (locale = 'C')",
        "SELECT string_agg(n, '' ORDER BY n COLLATE own) FROM (SELECT unnest('{a,B}'::text[]) AS n "
        "FROM item WHERE id = 1) AS x",
        "DROP COLLATION own; CREATE COLLATION own (provider = icu, locale = 'und')"),
    "an aggregate": (
        "CREATE AGGREGATE own (int) (sfunc = int4pl, stype = int, initcond = '0')",
        "SELECT own(id) FROM item WHERE id IN (2, 3)",
        "CREATE OR REPLACE AGGREGATE own (int) (sfunc = int4mul, stype = int, initcond = '1')"),
}


@pytest.mark.parametrize("before, sql, change", UNSEEN.values(), ids=list(UNSEEN))
def test_ddl_that_the_poll_alone_can_see(own_play, before, sql, change):
    """Without event triggers, and by somebody who goes around pgfresh."""
    play = own_play({"freshness.catalog_poll": "200ms"})
    play.sql(f"DROP EVENT TRIGGER pgfresh_ddl_start; DROP EVENT TRIGGER pgfresh_ddl_end; "
             f"DROP EVENT TRIGGER pgfresh_drop; {before}")
    app = play.app()
    old = play.hot(app, sql, seconds=15)
    time.sleep(0.5)
    play.sql(change)
    new = play.direct().execute(sql).fetchall()
    assert new != old
    wait_until(lambda: app.execute(sql).fetchall() == new, "the change is seen", 5)


# Functions by which a policy learns who asks, in places that are easily overlooked.
WHO_ASKS = {
    "behind a dot": "CREATE FUNCTION tenant() RETURNS text LANGUAGE sql STABLE AS "
                    "$$ SELECT ('app.tenant'::text).current_setting $$",
    "a default argument": "CREATE FUNCTION tenant(t text DEFAULT current_setting('app.tenant')) "
                          "RETURNS text LANGUAGE sql STABLE AS $$ SELECT t $$",
    "a default argument, put together":
        "CREATE FUNCTION tenant(t text DEFAULT current_setting('app.'::text || 'tenant')) "
        "RETURNS text LANGUAGE sql STABLE AS $$ SELECT t $$",
}


@pytest.mark.parametrize("function", WHO_ASKS.values(), ids=list(WHO_ASKS))
def test_policy_that_asks_in_disguise(own_play, function):
    play = own_play()
    play.sql(f"""
CREATE TABLE kept (id int PRIMARY KEY, tenant text, body text); GRANT SELECT ON kept TO anna;
INSERT INTO kept VALUES (1, 'a', 'of a'), (2, 'b', 'of b'); {function};
ALTER TABLE kept ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON kept USING (tenant = tenant());
SELECT pgfresh.watch('kept')""")
    apps = {tenant: play.app("anna") for tenant in "ab"}
    for tenant, app in apps.items():
        app.execute(f"SET app.tenant = '{tenant}'")
        play.hot(app, NAME, seconds=15)
    for _ in range(3):
        for tenant, app in apps.items():
            assert app.execute("SELECT body FROM kept").fetchall() == [(f"of {tenant}",)]


@pytest.mark.parametrize("held", ["SELECT FROM part WHERE id = 1 FOR UPDATE",
                                  "UPDATE part SET id = id WHERE id = 1",
                                  "SELECT pg_advisory_xact_lock(7)",
                                  "LOCK TABLE part IN SHARE MODE"])
def test_no_hit_behind_a_lock(play, held):
    """Who had it has committed, and what pgfresh knows of that may be older than the lock."""
    app = play.app(autocommit=False)
    other = play.app()
    play.hot(other, NAME)
    with play.expect(hits=1):
        app.execute(NAME)
    app.execute(held)
    with play.expect(hits=0, bypasses=1, reason="wrote"):
        app.execute(NAME)
    app.rollback()
    with play.expect(hits=1):
        app.execute(NAME)
    app.rollback()
