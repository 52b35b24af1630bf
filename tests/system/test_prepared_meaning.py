"""PostgreSQL keeps what the names in a prepared statement meant when it was parsed, and the types of
its parameters, whatever DDL has made of them since. What an old one answers must not be told to those
who ask anew, nor the other way round; DDL that changes no meaning ends nothing."""
import pytest

import pgwire
from pgfresh_proc import wait_until

ROWS = "CREATE TABLE {t} (id int PRIMARY KEY, v {type}); INSERT INTO {t} VALUES {rows}"
TIMES = "(1, '2024-01-01 10:00'), (2, '2024-01-01 05:00')"

# What is there first, the statement, its parameters, and the DDL.
CASES = {
    "timestamp": (ROWS.format(t="m1", type="timestamp", rows=TIMES),
                  "SELECT id FROM m1 WHERE v = $1", [b"2024-01-01 10:00:00+05"],
                  "ALTER TABLE m1 ALTER v TYPE timestamptz USING v AT TIME ZONE 'UTC'"),
    "text": (ROWS.format(t="m2", type="text", rows="(1, 'a '), (2, 'a')"),
             "SELECT id FROM m2 WHERE v = $1", [b"a "], "ALTER TABLE m2 ALTER v TYPE char(5)"),
    "label": ("CREATE TYPE mood AS ENUM ('sad', 'ok');" +
              ROWS.format(t="m3", type="mood", rows="(1, 'sad'), (2, 'ok')"),
              "SELECT id FROM m3 WHERE v = 'sad'", [],
              "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';"
              "ALTER TYPE mood RENAME VALUE 'ok' TO 'sad'"),
    "function": (ROWS.format(t="m4", type="int", rows="(1, 1)") +
                 ";CREATE FUNCTION tenfold(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS "
                 "'SELECT $1 * 10'",
                 "SELECT tenfold(v) FROM m4 WHERE id = 1", [],
                 "CREATE FUNCTION tenfold(int) RETURNS bigint LANGUAGE sql IMMUTABLE AS "
                 "'SELECT $1 * 1000::bigint'"),
    "table": ("CREATE SCHEMA front;" + ROWS.format(t="m5", type="int", rows="(1, 1)"),
              "SELECT v FROM m5 WHERE id = 1", [],
              ROWS.format(t="front.m5", type="int", rows="(1, 77)") +
              "; SELECT pgfresh.watch('front.m5')"),
}


def ask(wire, *before, parameters=(), name="s1"):
    wire.send(*before, pgwire.bind(name, parameters), pgwire.execute(), pgwire.sync())
    return pgwire.rows(wire.until_ready())


def verdict(wire):
    return pgwire.rows(wire.query("SHOW pgfresh.last"))[0][:2]


@pytest.mark.parametrize("by", ["through pgfresh", "directly"])
@pytest.mark.parametrize("case", CASES)
def test_ddl_that_changes_what_is_meant(play, case, by):
    before, sql, parameters, ddl = CASES[case]
    play.sql("DROP SCHEMA IF EXISTS front CASCADE; DROP TYPE IF EXISTS mood CASCADE;"
             "DROP FUNCTION IF EXISTS tenfold(int), tenfold(bigint);"
             "DROP TABLE IF EXISTS m1, m2, m3, m4, m5")
    play.sql(before)
    play.sql(f"SELECT pgfresh.watch('m{list(CASES).index(case) + 1}')")
    path = {"search_path": "front, public"}
    old, direct = play.wire(**path), play.wire(direct=True, **path)
    kept = ask(direct, pgwire.parse(sql, "s1"), parameters=parameters)
    assert ask(old, pgwire.parse(sql, "s1"), parameters=parameters) == kept

    def hit():
        assert ask(old, parameters=parameters) == kept
        return verdict(old)[0] == b"hit"

    wait_until(hit, "a hit before the DDL", 5)
    (play.wire(**path) if by == "through pgfresh" else play.wire(direct=True, **path)).query(ddl)
    wanted = ask(play.wire(direct=True, **path), pgwire.parse(sql), parameters=parameters, name="")
    assert wanted != kept  # or the case tells nothing
    for _ in range(3):
        assert ask(old, parameters=parameters) == ask(direct, parameters=parameters)
        fresh = play.wire(**path)

        def fresh_hit(fresh=fresh):
            assert ask(fresh, pgwire.parse(sql), parameters=parameters, name="") == wanted
            return verdict(fresh)[0] == b"hit"

        wait_until(fresh_hit, "a hit behind the DDL", 5)
    assert ask(old, parameters=parameters) == ask(direct, parameters=parameters)
    assert verdict(old) == [b"bypass", b"statement_outdated"]


def test_ddl_that_does_not(play):
    """A new table, index, partition, function body, privilege: old statements are answered on."""
    play.sql("CREATE TABLE calm (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);"
             "CREATE TABLE calm1 PARTITION OF calm FOR VALUES FROM (0) TO (10);"
             "INSERT INTO calm VALUES (1, 5); SELECT pgfresh.watch('calm');"
             "CREATE FUNCTION calming(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'")
    wire = play.wire()
    sql = "SELECT calming(v) FROM calm WHERE id = $1"
    assert ask(wire, pgwire.parse(sql, "s1"), parameters=[b"1"]) == [[b"5"]]
    for ddl in ("CREATE TABLE calm2 PARTITION OF calm FOR VALUES FROM (10) TO (20)",
                "CREATE INDEX ON calm (v)", "CREATE TABLE another (id int PRIMARY KEY, v int)",
                "CREATE ROLE calm_reader; GRANT SELECT ON calm TO calm_reader",
                "CREATE SCHEMA calm_tenant; CREATE TABLE calm_tenant.visit (id int PRIMARY KEY)",
                "CREATE TEMPORARY TABLE calm_temporary (id int)", "ANALYZE calm",
                "SELECT pgfresh.watch('another')", "COMMENT ON TABLE calm IS 'calm'",
                "CREATE OR REPLACE FUNCTION calming(int) RETURNS int LANGUAGE sql IMMUTABLE AS "
                "'SELECT $1 + 0'"):
        play.sql(ddl)

        def hit():
            assert ask(wire, parameters=[b"1"]) == [[b"5"]]
            return verdict(wire)[0] == b"hit"

        wait_until(hit, f"a hit behind {ddl}", 5)
    play.sql("REASSIGN OWNED BY calm_reader TO postgres; DROP OWNED BY calm_reader; DROP ROLE calm_reader")


@pytest.mark.parametrize("there, back", [("SET DateStyle = 'ISO, DMY'", "SET DateStyle = 'ISO, MDY'"),
                                         ("BEGIN; SET LOCAL DateStyle = 'ISO, DMY'", "COMMIT")])
@pytest.mark.parametrize("watched", [True, False])
def test_parsed_anew_it_keeps_its_shape(play, there, back, watched):
    """A statement that was used under other settings is parsed anew behind them, but not into one
    that answers with other columns."""
    play.sql("DROP TABLE IF EXISTS shaped; CREATE TABLE shaped (id int PRIMARY KEY, v int);"
             "INSERT INTO shaped VALUES (1, 5)" + ("; SELECT pgfresh.watch('shaped')" if watched else ""))
    sql = "SELECT v FROM shaped WHERE id = 1"
    told = []
    for wire in (play.wire(direct=True), play.wire()):
        play.sql("ALTER TABLE shaped ALTER v TYPE int")
        wire.send(pgwire.parse(sql, "s1"), pgwire.describe("S", "s1"), pgwire.sync())
        wire.until_ready()
        ask(wire)
        wire.query(there)
        ask(wire)
        wire.query(back)
        play.sql("ALTER TABLE shaped ALTER v TYPE real")
        wire.send(pgwire.bind("s1"), pgwire.execute(), pgwire.sync())
        told.append(pgwire.types(wire.until_ready()))
    assert told == ["EZ", "EZ"]


def test_prepared_before_the_catalog_is_known(own_play):
    """Such a statement is not left out for good."""
    play = own_play({"freshness.idle_timeout": "1s"})
    wire = play.wire()  # the feed begins with it
    sql = "SELECT name FROM item WHERE id = $1"
    assert ask(wire, pgwire.parse(sql, "s1"), parameters=[b"1"]) == [[b"item 1"]]

    def hit():
        assert ask(wire, parameters=[b"1"]) == [[b"item 1"]]
        return verdict(wire)[0] == b"hit"

    wait_until(hit, "a hit", 8)
