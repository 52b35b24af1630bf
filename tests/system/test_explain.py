"""pgfresh explains itself: SHOW pgfresh.last, SHOW QUERIES, EXPLAIN CACHE, FLUSH. Each single reason
is in test_reasons.py."""
import asyncio
import subprocess

import asyncpg
import psycopg
import pytest

from pgfresh_proc import wait_until
from pgwire import Wire, bind, describe, execute, parse, query, sync
from play import last, one
from test_console import ADMIN, ENVIRONMENT, Console

ITEM = "SELECT name FROM item WHERE id = 1"


@pytest.fixture(scope="module")
def module_console(server, tmp_path_factory):
    """One pgfresh with a console and one database for all tests here that do not break things."""
    from pgfresh_proc import Pgfresh
    from play import Play
    name = server.create_database("explained", template="stage")
    folder = tmp_path_factory.mktemp("socket")
    with Pgfresh(server.url(), {"console.users": ":".join(ADMIN), "listen.unix": folder}) as proxy:
        play = Play(server, name, proxy)
        play.hot(play.app(), ITEM, seconds=15)
        yield Console(play, folder)
        play.send_home()
    server.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def console(module_console):
    yield module_console
    module_console.play.send_home()


def explain(console, sql, user=""):
    """item → list of (value, detail)."""
    who = f"{console.play.database}{'.' + user if user else ''}"
    found = {}
    for row in console.table(f"EXPLAIN CACHE FOR {who} {sql}"):
        found.setdefault(row["item"], []).append((row["value"], row["detail"] or ""))
    return found


def queries(console, command="SHOW QUERIES ALL"):
    """query text → row, of this database."""
    return {row["query"]: row for row in console.table(command)
            if row["database"] == console.play.database}


# -- SHOW pgfresh.last --------------------------------------------------------------------------


def test_last_names_the_object(console):
    app = console.play.app()
    app.execute("SELECT now(), name FROM item WHERE id = 1")
    assert last(app)["verdict"] == "bypass"
    assert (last(app)["reason"], last(app)["detail"]) == ("time_function", "now")
    app.execute("SELECT * FROM plain")
    assert (last(app)["reason"], last(app)["detail"]) == ("not_watched", "public.plain")
    console.play.hot(app, ITEM)
    assert last(app)["verdict"] == "hit"
    assert last(app)["reason"] is None and last(app)["detail"] is None


def test_last_in_both_protocols(console):
    app = console.play.app()
    console.play.hot(app, ITEM)
    simple = last(app)
    extended = app.execute("SHOW pgfresh.last", binary=True)
    names = [column.name for column in extended.description]
    assert dict(zip(names, extended.fetchone()))["query_id"] == simple["query_id"]

    async def with_asyncpg():
        connection = await asyncpg.connect(console.play.url())
        try:
            row = await connection.fetchrow("SHOW pgfresh.last")
            assert row["verdict"] in ("none", "bypass", "hit", "miss")
            await connection.fetch("SELECT name FROM plain WHERE id = 1")
            row = (await connection.fetch("SHOW pgfresh.last"))[0]
            assert (row["reason"], row["detail"]) == ("not_watched", "public.plain")
        finally:
            await connection.close()

    asyncio.run(with_asyncpg())


def test_last_after_an_error_and_in_blocks(console):
    app = console.play.app()
    with pytest.raises(psycopg.errors.UndefinedTable):
        app.execute("SELECT * FROM nowhere_at_all")
    assert last(app)["reason"] == "unknown_table"
    assert last(app)["detail"] == "nowhere_at_all"
    app.execute("BEGIN")
    assert one(app, ITEM)
    assert last(app)["verdict"] in ("hit", "miss")
    app.execute("UPDATE item SET price = price WHERE id = 1")
    app.execute(ITEM)
    assert last(app)["verdict"] == "bypass"
    with pytest.raises(psycopg.errors.DivisionByZero):
        app.execute("SELECT 1 / 0")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        app.execute("SHOW pgfresh.last")
    app.execute("ROLLBACK")
    assert last(app)["verdict"] in ("bypass", "none")


# -- SHOW QUERIES -------------------------------------------------------------------------------


def test_queries_count_what_became_of_each(console):
    app = console.play.app()
    sql = "SELECT price FROM item WHERE id = {} AND name <> 'counted'"
    text = "select price from item where id = ? and name <> ?"
    for number in range(1, 5):
        for _ in range(3):
            app.execute(sql.format(number))
    row = wait_until(lambda: queries(console).get(text), "the query is listed")
    assert row["calls"] == 12
    assert row["hits"] + row["misses"] + row["bypasses"] == 12
    assert row["hits"] >= 4 and row["misses"] >= 4
    assert row["mean_upstream_ms"] > 0 and row["upstream_ms"] > 0 and row["saved_ms"] > 0
    assert row["hit_bytes"] > 0 and row["answer_bytes"] > 0
    assert row["why_not"] is None and row["reason"] is None
    assert str(row["id"]) == last_id(app, sql.format(9))
    # One prepared with a parameter is the same query.
    app.execute("SELECT price FROM item WHERE id = %s AND name <> 'counted'", (7,))
    assert queries(console)[text]["calls"] == 14


def last_id(app, sql):
    app.execute(sql)
    return last(app)["query_id"]


def test_queries_say_why_not(console):
    app = console.play.app()
    app.execute("SELECT now(), random(), p.name FROM plain p, item WHERE p.id = 3")
    app.execute("SELECT now(), random(), p.name FROM plain p, item WHERE p.id = 4")
    row = queries(console)["select now(),random(),p.name from plain p,item where p.id = ?"]
    assert row["calls"] == row["bypasses"] == 2
    assert row["reason"] == "not_watched"
    for word in ("not_watched: public.plain", "time_function: now", "volatile_function: random"):
        assert word in row["why_not"]
    assert row["mean_upstream_ms"] > 0  # what is not cached is timed too


def test_queries_count_invalidations_and_name_the_table(console):
    app = console.play.app()
    sql = "SELECT name, 'ended' FROM item WHERE id = 60"
    text = "select name,? from item where id = ?"
    for round_ in range(3):
        console.play.hot(app, sql)
        console.play.sql(f"UPDATE item SET name = 'round {round_}' WHERE id = 60")
        wait_until(lambda: one(app, sql) == f"round {round_}", "the new name")
    row = wait_until(lambda: (r := queries(console)[text])["invalidations"] >= 3 and r, "counted")
    assert row["invalidated_by"] == "public.item"
    table = [r for r in console.table("SHOW TABLES")
             if r["database"] == console.play.database and r["table"] == "item"
             and r["schema"] == "public"][0]
    assert table["writes"] >= 3 and table["answers_ended"] >= 3 and table["last_write"]


def test_queries_shows_a_hundred_and_all_of_them(console):
    app = console.play.app()
    for number in range(120):
        app.execute(f"SELECT id AS c{number} FROM item WHERE id = 1")
    assert len(console.table("SHOW QUERIES")) <= 101
    assert len(console.table("SHOW QUERIES ALL")) > 120


def test_flush_query_frees_that_query_alone(console):
    app = console.play.app()
    flushed, kept = "SELECT name FROM item WHERE id = 61", "SELECT price FROM item WHERE id = 61"
    console.play.hot(app, flushed)
    console.play.hot(app, kept)
    app.execute(flushed)
    number = last(app)["query_id"]
    console.connect().execute(f"FLUSH QUERY {number}")
    with console.play.expect(hits=0, misses=1):
        app.execute(flushed)
    with console.play.expect(hits=1):
        app.execute(kept)


def test_flush_of_a_query_that_nobody_knows(console):
    with pytest.raises(psycopg.Error, match="no query has the id 12345"):
        console.connect().execute("FLUSH QUERY 12345")
    app = console.play.app()
    app.execute("SELECT now(), 'asked, and not cached'")
    console.connect().execute(f"FLUSH QUERY {last(app)['query_id']}")


def test_flush_of_a_table_that_has_just_been_made(console):
    """The catalog is being read again."""
    console.play.app().execute("CREATE TABLE just_made (id int)")
    console.connect().execute("FLUSH TABLE just_made")
    with pytest.raises(psycopg.Error, match="no such table is known: never_made"):
        console.connect().execute("FLUSH TABLE never_made")


# -- EXPLAIN CACHE ------------------------------------------------------------------------------


def test_the_database_where_pgfresh_is_installed_is_meant(console):
    """The upstream URL names another one, which has no schema pgfresh."""
    assert {row["database"] for row in console.table("SHOW FEEDS")} >= {"postgres"}
    rows = {row["item"]: row["value"] for row in console.table(f"EXPLAIN CACHE {ITEM}")}
    assert rows["key.database"] == console.play.database


def test_explain_of_what_is_cached(console):
    app = console.play.app(options="-c timezone=Asia/Tokyo")
    sql = "SELECT name FROM item WHERE id = 62"
    console.play.hot(app, sql)
    app.execute(sql)
    said = explain(console, sql)
    assert said["cacheable"][0][0] == "yes" and "reason" not in said
    assert said["now"][0][0] == "ready"
    assert said["key.database"][0][0] == console.play.database
    assert "session" in said["key.database"][0][1]
    assert said["key.session_user"][0][0] == said["key.current_user"][0][0] == "postgres"
    assert said["key.TimeZone"][0][0] == "Asia/Tokyo"
    assert said["key.text"][0][0] == "select name from item where id = 62"
    assert str(console.play.server.port) in said["key.server"][0][0]
    assert said["table"][0][0] == "public.item"
    assert "ENABLE ALWAYS" in said["table"][0][1]
    assert any("public.item" in value for value, _ in said["depends_on"])
    assert any("schema(" in value for value, _ in said["depends_on"])
    assert said["ttl"][0] == ("300000 ms", "cache.ttl")
    assert said["entry"][0][0] == "fresh"
    assert int(said["entry.hits"][0][0]) >= 1 and int(said["entry.bytes"][0][0]) > 0
    assert int(said["query.hits"][0][0]) >= 1 and said["query.last_hit"]
    console.play.sql("UPDATE item SET name = 'x' WHERE id = 62")
    wait_until(lambda: explain(console, sql)["entry"][0][0] in ("none", "stale"), "it is gone")
    said = explain(console, sql)
    assert said["query.last_invalidation"][0][1] == "by public.item"


def test_explain_gives_all_reasons(console):
    said = explain(console, "SELECT now(), random() FROM plain, item_gone")
    assert {value for value, _ in said["reason"]} == {"not_watched", "unknown_table",
                                                      "time_function", "volatile_function"}
    assert ("public.plain" in [value for value, _ in said["table"]])


def test_explain_with_parameters_and_hints(console):
    said = explain(console, "SELECT name FROM item WHERE id = $1 AND name <> '$2' /* pgfresh: ttl=30s */")
    assert said["cacheable"][0][0] == "yes"
    assert said["key.parameters"][0][0] == "$1"
    assert said["entry"][0][0] == "per value"
    assert said["ttl"][0][0] == "30000 ms" and "hint" in said["ttl"][0][1]


def test_explain_takes_the_settings_of_whom_it_is_told(console):
    bert = console.play.app("bert", options="-c search_path=other,public")
    console.play.hot(bert, "SELECT name FROM item WHERE id = 63")
    said = explain(console, "SELECT name FROM item WHERE id = 63", "bert")
    assert said["key.session_user"][0][0] == "bert"
    assert [value for value, _ in said["table"]] == ["other.item"]
    assert said["entry"][0][0] == "fresh"
    # Nobody of that name has been here: what the catalog says.
    console.play.sql("ALTER ROLE carla SET search_path = other; ALTER ROLE carla SET timezone = 'Asia/Tokyo'; "
                     "GRANT USAGE ON SCHEMA other TO carla")
    said = explain(console, "SELECT name FROM item WHERE id = 63", "carla")
    assert "begins with" in said["key.database"][0][1]
    assert said["key.session_user"][0][0] == "carla"
    assert said["key.TimeZone"][0][0] == "Asia/Tokyo"
    assert [value for value, _ in said["table"]] == ["other.item"]
    with pytest.raises(psycopg.errors.UndefinedObject):
        explain(console, "SELECT 1", "nobody_at_all")


def test_explain_says_the_state_of_a_table(console):
    console.play.sql("CREATE TABLE halved (id int PRIMARY KEY); SELECT pgfresh.watch('halved'); "
                     "ALTER TABLE halved DISABLE TRIGGER pgfresh_update")

    def state():
        said = explain(console, "SELECT * FROM halved")
        return dict(said.get("reason", [])).get("not_watched") and said["table"][0][1]

    detail = wait_until(state, "it is not watched any more")
    assert "disabled" in detail and "pgfresh_update" in detail and "ALTER TABLE" in detail


def test_explain_while_a_write_is_under_way(console):
    app, writer = console.play.app(), console.play.app()
    console.play.hot(app, "SELECT name FROM part WHERE id = 9")
    writer.execute("BEGIN")
    writer.execute("UPDATE part SET name = 'under way' WHERE id = 9")
    said = explain(console, "SELECT name FROM part WHERE id = 9")
    assert said["entry"][0][0] == "open"
    assert any("being written" in detail for _, detail in said["depends_on"])
    writer.execute("ROLLBACK")


def test_explain_needs_a_database(console):
    admin = console.connect()
    with pytest.raises(psycopg.Error) as refused:
        admin.execute("EXPLAIN CACHE FOR nowhere SELECT 1")
    assert refused.value.sqlstate == "3D000"
    with pytest.raises(psycopg.Error) as refused:
        admin.execute("EXPLAIN CACHE")
    assert refused.value.sqlstate == "42601"
    other = console.play.server.create_database("as_well", template="stage")
    with psycopg.connect(console.proxy.url(database=other), autocommit=True) as guest:
        console.play.hot(guest, ITEM)
        with pytest.raises(psycopg.Error) as refused:
            admin.execute("EXPLAIN CACHE SELECT 1")  # pgfresh is installed in two
    assert "FOR" in str(refused.value) and console.play.database in str(refused.value)
    console.play.server.psql(f"DROP DATABASE {other} WITH (FORCE)")


def test_explain_over_psql_and_the_extended_protocol(console):
    said = console.psql(f"EXPLAIN CACHE FOR {console.play.database} SELECT now() FROM item -- why?")
    assert said.returncode == 0 and "time_function" in said.stdout, said.stderr
    script = f"EXPLAIN CACHE FOR {console.play.database} SELECT $$a;b$$ FROM item;\nSHOW VERSION;\n"
    said = subprocess.run(["psql", "-X", "-A", "-d", console.url()], input=script, timeout=20,
                          capture_output=True, text=True, env=ENVIRONMENT)
    assert "cacheable|yes" in said.stdout and "pgfresh" in said.stdout, said
    with Wire(port=console.proxy.port) as wire:
        wire.login(ADMIN[0], "pgfresh", ADMIN[1])
        sql = f"EXPLAIN CACHE FOR {console.play.database} SELECT now() FROM item"
        wire.send(parse(sql), bind(), describe(), execute(), sync())
        answer = wire.until_ready()
        assert "T" in [m.type for m in answer] and "D" in [m.type for m in answer]


def test_explain_in_any_depth_of_sql(console):
    """The worst texts for libpg_query's recursion end nothing."""
    for sql in ("SELECT " + "(" * 8000 + "1" + ")" * 8000 + " FROM item",
                "SELECT " + "+".join(["1"] * 8000) + " FROM item",
                "SELECT " + "-" * 9 + "1 FROM item"):
        explain(console, sql)
    assert console.proxy.running()


def test_explain_when_the_cache_is_off(console):
    admin = console.connect()
    admin.execute("SET CACHE off")
    try:
        assert explain(console, ITEM)["now"][0][0] == "off"
    finally:
        admin.execute("SET CACHE on")


# -- the rest of the console --------------------------------------------------------------------


def test_flush_table_reaches_every_answer_that_read_it(console):
    app = console.play.app()
    texts = [f"SELECT name FROM item WHERE id = {n}" for n in range(1, 40)]
    texts += ["SELECT count(*) FROM item",
              "SELECT p.name FROM part p LEFT JOIN item i ON i.id = p.item_id WHERE p.id = 1"]
    for text in texts:
        console.play.hot(app, text)
    console.connect().execute("FLUSH TABLE public.item")
    with console.play.expect(hits=0):
        for text in texts:
            app.execute(text)


def test_flush_table_ends_what_is_just_being_fetched(console):
    slow, other = console.play.wire(), console.play.app()
    console.play.hot(other, ITEM)
    slow.send(query("SELECT count(*) FROM many a, many b WHERE a.id < 300"))
    wait_until(lambda: any("many a" in row[0] for row in console.play.direct().execute(
        "SELECT query FROM pg_stat_activity WHERE state = 'active'").fetchall()), "it runs")
    console.connect().execute("FLUSH TABLE many")
    slow.until_ready()
    with console.play.expect(hits=0):
        other.execute("SELECT count(*) FROM many a, many b WHERE a.id < 300")


def test_clients_shows_the_console_too(console):
    admin = console.connect(application_name="looking")
    row = [r for r in console.table("SHOW CLIENTS") if r["application_name"] == "looking"][0]
    assert row["database"] == "pgfresh" and row["user"] == ADMIN[0]
    console.connect().execute(f"KILL {row['id']}")
    with pytest.raises(psycopg.OperationalError):
        for _ in range(3):
            admin.execute("SHOW VERSION")


def test_reload_names_what_needs_a_restart(server):
    from pgfresh_proc import Pgfresh
    from pgserver import free_port
    from test_console import config_text
    port, http_port = free_port(), free_port()
    users = "console:\n  users:\n    - name: admin\n      password: a secret\n"
    text = config_text(server, port, http_port, users)
    with Pgfresh(config=text, port=port, http_port=http_port) as proxy:
        with psycopg.connect(proxy.url(ADMIN[0], "pgfresh", ADMIN[1]), autocommit=True) as admin:
            notices = []
            admin.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
            admin.execute("RELOAD")
            assert not notices
            proxy.write_config(text + "workers: 7\n")
            admin.execute("RELOAD")
            assert len(notices) == 1 and "workers" in notices[0] and "restart" in notices[0]
            wait_until(lambda: "reload_needs_restart" in proxy.log_text(), "the log says it too")
