"""Each reason of include/pgfresh/reason.h, as people meet it: in EXPLAIN CACHE when the statement
or the moment stands against the cache, in SHOW pgfresh.last when the session does. A reason that is
added there without a case here fails test_every_reason_has_a_case.
"""
import contextlib
import pathlib
import re

import pytest

from pgfresh_proc import Pgfresh, wait_until
from pgwire import bind, execute, parse, query, sync
from play import Play, last
from relay import ANSWER, Relay
from test_console import ADMIN, Console
from test_explain import console, explain, module_console  # noqa: F401

REASONS_H = pathlib.Path(__file__).parent.parent.parent / "include" / "pgfresh" / "reason.h"
ITEM = "SELECT name FROM item WHERE id = 1"
VIEWS = 70  # nested deeper than they are looked into
TABLES = 65  # more than a stamp holds

WORLD = """
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far_away (id int) SERVER nowhere;
CREATE MATERIALIZED VIEW stored AS SELECT 1 AS id;
CREATE UNLOGGED TABLE unlogged_one (id int);
CREATE TABLE by_the_clock (id int PRIMARY KEY, until timestamptz);
ALTER TABLE by_the_clock ENABLE ROW LEVEL SECURITY;
CREATE POLICY in_time ON by_the_clock USING (until > now());
SELECT pgfresh.watch('by_the_clock');
CREATE FUNCTION peek() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM plain';
CREATE FUNCTION peeks() RETURNS SETOF plain LANGUAGE sql STABLE AS 'SELECT * FROM plain';
CREATE FUNCTION near(int, int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT $1 = $2';
CREATE OPERATOR ~~~ (LEFTARG = int, RIGHTARG = int, FUNCTION = near);
CREATE FUNCTION loud(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN RAISE NOTICE ''loud''; RETURN $1; END';
CREATE VIEW deep_0 AS SELECT id FROM item;
""" + "".join(f"CREATE VIEW deep_{n} AS SELECT id FROM deep_{n - 1};\n" for n in range(1, VIEWS)) \
    + "".join(f"CREATE TABLE one_of_{n} (id int PRIMARY KEY);\n"
              f"SELECT pgfresh.watch('one_of_{n}');\n" for n in range(TABLES))

# What EXPLAIN CACHE says of a statement: reason → (statement, how the reason's detail begins).
OF_STATEMENTS = {
    "not_select": ("UPDATE item SET name = 'x'", ""),
    "multi_statement": ("SELECT 1 FROM item; SELECT 2 FROM item", ""),
    "unparsable": ("SELECT FROM WHERE", 'syntax error at or near "WHERE": '),
    "text_too_long": ("SELECT '" + "x" * 17000 + "' FROM item", ""),
    "locking_clause": ("SELECT * FROM item FOR UPDATE", ""),
    "modifying_cte": ("WITH x AS (DELETE FROM item RETURNING 1) SELECT * FROM x", ""),
    "tablesample": ("SELECT * FROM item TABLESAMPLE system (1)", ""),
    "system_column": ("SELECT ctid FROM item", ""),
    "no_table": ("SELECT 1", ""),
    "unknown_table": ("SELECT * FROM nowhere", "nowhere: "),
    "system_table": ("SELECT * FROM pg_class", "pg_catalog.pg_class: "),
    "view": (f"SELECT * FROM deep_{VIEWS - 1}", "public.deep_"),
    "relation_kind": ("SELECT * FROM far_away", "public.far_away: "),
    "unlogged": ("SELECT * FROM unlogged_one", "public.unlogged_one: "),
    "not_watched": ("SELECT * FROM plain", "public.plain: "),
    "row_security": ("SELECT * FROM by_the_clock", "public.by_the_clock: "),
    "table_function": ("SELECT * FROM item, peeks()", "peeks: "),
    "volatile_function": ("SELECT random() FROM item", "random: "),
    "time_function": ("SELECT now() FROM item", "now: "),
    "session_function": ("SELECT current_setting('a') FROM item", "current_setting: "),
    "unsafe_function": ("SELECT peek() FROM item", "peek: "),
    "unknown_function": ("SELECT nosuch(1) FROM item", "nosuch: "),
    "unsafe_operator": ("SELECT 1 FROM item WHERE id ~~~ 1", "~~~: "),
    "unsafe_type": ("SELECT '12:00'::timetz FROM item", "timetz: "),
    "time_literal": ("SELECT 'today'::date FROM item", ""),
    "syntax_not_reviewed": ("SELECT x FROM item, XMLTABLE('/a' PASSING '<a/>' COLUMNS x text)", ""),
    "hint": ("/* pgfresh: off */ SELECT * FROM item", ""),
    "busy": ("SELECT 1 FROM " + ", ".join(f"one_of_{n}" for n in range(TABLES)), "more tables"),
}


@pytest.fixture(scope="module")
def world(module_console):  # noqa: F811
    """The module's console, and things that are seldom cacheable."""
    module_console.play.sql(WORLD)
    newest = f"SELECT 1 FROM one_of_{TABLES - 1}"
    wait_until(lambda: explain(module_console, newest)["cacheable"][0][0] == "yes",
               "the catalog has been read")
    return module_console


@pytest.mark.parametrize("reason", OF_STATEMENTS)
def test_of_a_statement(world, reason):
    sql, begins = OF_STATEMENTS[reason]
    said = explain(world, sql)
    assert said["cacheable"][0][0] == "no"
    found = dict(said["reason"])
    assert reason in found, found
    assert found[reason].startswith(begins) and len(found[reason]) > len(begins)
    assert found[reason].endswith(texts()[reason])


# What EXPLAIN CACHE says of the moment, and SHOW pgfresh.last of the statement.


def off(console, app):  # noqa: F811
    admin = console.connect()
    admin.execute("SET CACHE off")
    try:
        app.execute(ITEM)
        return explain(console, ITEM), last(app)
    finally:
        admin.execute("SET CACHE on")


def not_installed(console, _):  # noqa: F811
    with contextlib.closing(Play(console.play.server, "postgres", console.proxy).app()) as app:
        def known():
            app.execute("SELECT 1 FROM pg_class LIMIT 1")
            return last(app)["reason"] == "not_installed"

        wait_until(known, "it is known that nothing is installed")
        rows = console.table(f"EXPLAIN CACHE FOR postgres {ITEM}")
        return {row["item"]: [(row["value"], row["detail"])] for row in rows}, last(app)


def no_lease(console, app):  # noqa: F811
    with contextlib.ExitStack() as held:
        held.enter_context(held_back(console, "feed"))
        wait_until(lambda: app.execute(ITEM) and last(app)["verdict"] == "bypass", "no hits", 5)
        return explain(console, ITEM), last(app)


def no_catalog(console, app):  # noqa: F811
    with console.relay.hold(ANSWER, "D", of="catalog") as row:
        console.play.sql("CREATE TABLE IF NOT EXISTS passing_by (id int); DROP TABLE passing_by")
        row.wait()
        app.execute(ITEM)
        found = last(app)
        said = explain(console, ITEM)
        row.release()
    return said, found


@contextlib.contextmanager
def held_back(console, whom):  # noqa: F811
    assert console.relay.silence(whom, (ANSWER,))
    try:
        yield
    finally:
        console.relay.speak(whom)


OF_THE_MOMENT = {"off": off, "not_installed": not_installed, "no_lease": no_lease,
                 "no_catalog": no_catalog}


@pytest.fixture(scope="module")
def relayed(server, tmp_path_factory):
    """A console whose pgfresh is behind a relay."""
    name = server.create_database("reasoned", template="stage")
    folder = tmp_path_factory.mktemp("socket")
    with Relay(server.port) as relay, \
            Pgfresh(f"postgresql://postgres@127.0.0.1:{relay.port}/postgres",
                    {"console.users": ":".join(ADMIN), "listen.unix": folder}) as proxy:
        stage = Console(Play(server, name, proxy), folder)
        stage.relay = relay
        yield stage
        stage.play.send_home()
    server.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("reason", OF_THE_MOMENT)
def test_of_the_moment(relayed, reason):
    app = relayed.play.app()
    relayed.play.hot(app, ITEM, seconds=15)
    said, found = OF_THE_MOMENT[reason](relayed, app)
    assert said["now"][0] == (reason, texts()[reason])
    assert (found["verdict"], found["reason"]) == ("bypass", reason)


# What SHOW pgfresh.last says of the session's own doings. Each gives the session to be asked.


def session_opaque(play, app):
    app.execute("CREATE TEMP TABLE mine (id int)")
    app.execute(ITEM)


def session_unknown(play, _):
    play.sql("REVOKE EXECUTE ON FUNCTION pg_my_temp_schema() FROM PUBLIC")
    app = play.app("anna")  # whose settings PostgreSQL will not tell
    wait_until(lambda: app.execute(ITEM) and last(app)["reason"] != "no_catalog", "a new catalog")
    found = last(app)
    play.sql("GRANT EXECUTE ON FUNCTION pg_my_temp_schema() TO PUBLIC")
    return found


def transaction(play, app):
    app.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
    app.execute(ITEM)


def pipelined(play, app):
    wire = play.wire()
    wire.query(ITEM)
    wire.send(query("SELECT pg_sleep(0.1)"), query(ITEM))
    wire.until_ready(), wire.until_ready()
    return wire


def wrote(play, app):
    app.execute("BEGIN")
    app.execute("UPDATE part SET name = 'x' WHERE id = 1")
    app.execute("SELECT name FROM item WHERE id = 77 AND name <> 'wrote'")


def write_pending(play, app):
    writer = play.app()
    writer.execute("BEGIN")
    writer.execute("UPDATE item SET name = 'pending' WHERE id = 1")
    app.execute(ITEM)
    found = last(app)
    writer.execute("ROLLBACK")
    return found


def row_limit(play, app):
    wire = play.wire()
    wire.query(ITEM)
    wire.query("BEGIN")
    wire.send(parse("SELECT name FROM item WHERE id < 9"), bind(), execute(max_rows=2), sync())
    wire.until_ready()
    return wire


def statement_outdated(play, app):
    wire = play.wire()
    wire.query(ITEM)
    wire.send(parse("SELECT name FROM item WHERE id = 2", "s"), sync())
    wire.until_ready()
    wire.query("SET search_path = other, public")
    wire.query("SELECT name FROM item WHERE id = 3")
    wire.send(bind("s"), execute(), sync())
    wire.until_ready()
    return wire


def too_large(play, app):
    app.execute("SELECT repeat('x', 1000000) || name FROM item WHERE id < 20")


def not_quiet(play, app):
    app.execute("SELECT loud(id) FROM item WHERE id = 1")


OF_THE_SESSION = {"session_opaque": session_opaque, "session_unknown": session_unknown,
                  "transaction": transaction, "pipelined": pipelined, "wrote": wrote,
                  "write_pending": write_pending, "row_limit": row_limit,
                  "statement_outdated": statement_outdated, "too_large": too_large,
                  "not_quiet": not_quiet}


@pytest.mark.parametrize("reason", OF_THE_SESSION)
def test_of_the_session(world, reason):
    play = world.play
    app = play.app()
    play.hot(app, ITEM)
    found = OF_THE_SESSION[reason](play, app) or last(app)
    if not isinstance(found, dict):  # a raw session
        told = found.query("SHOW pgfresh.last")
        names = [name for name, _, _ in next(m for m in told if m.type == "T").columns]
        row = next(m for m in told if m.type == "D").row
        found = {n: v and v.decode() for n, v in zip(names, row)}
    assert found["reason"] == reason, found
    assert found["verdict"] in ("bypass", "miss")


# -- the table is whole -------------------------------------------------------------------------

NOT_BY_SQL = {
    "none": "says that nothing stands against the cache: then no reason is shown",
    "too_many_databases": "it would take 256 of them; tests/unit/app/domains_test.cc",
}


def texts():
    """label → its line for people, of all reasons there are."""
    source = REASONS_H.read_text(encoding="utf-8")
    return dict(re.findall(r'X\(k\w+, "(\w+)",\s*"([^"]+)"\)', source))


def test_every_reason_has_a_case():
    tables = (OF_STATEMENTS, OF_THE_MOMENT, OF_THE_SESSION, NOT_BY_SQL)
    cases = [reason for table in tables for reason in table]
    assert len(cases) == len(set(cases))
    assert len(texts()) == REASONS_H.read_text(encoding="utf-8").count("  X(k")
    assert set(cases) == set(texts())
