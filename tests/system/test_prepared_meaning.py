"""PostgreSQL keeps what the names in a prepared statement meant when it was parsed, the types of its
parameters, and what functions gave when it was planned, whatever DDL has made of them since. What an
old one answers must not be told to those who ask anew, nor the other way round; DDL that changes no
meaning ends nothing."""
import asyncio
import time

import asyncpg
import pytest

import pgwire
from pgfresh_proc import wait_until

ROWS = "CREATE TABLE {t} (id int PRIMARY KEY, v {type}); INSERT INTO {t} VALUES {rows}"
ONE = ROWS.format(t="m1", type="int", rows="(1, 1)")
MANY = ("CREATE TABLE m1 (id int PRIMARY KEY, v int);"
        "INSERT INTO m1 SELECT n, n FROM generate_series(1, 9) n;")
TIMES = "(1, '2024-01-01 10:00'), (2, '2024-01-01 05:00')"
PAIR = "CREATE TABLE pair (a int, b int);"
SWAPPED = "ALTER TABLE pair RENAME a TO x; ALTER TABLE pair RENAME b TO a"

# What is there first (m1 is watched), the statement, its parameters, and the DDL.
CASES = {
    "timestamp": (ROWS.format(t="m1", type="timestamp", rows=TIMES),
                  "SELECT id FROM m1 WHERE v = $1", [b"2024-01-01 10:00:00+05"],
                  "ALTER TABLE m1 ALTER v TYPE timestamptz USING v AT TIME ZONE 'UTC'"),
    "text": (ROWS.format(t="m1", type="text", rows="(1, 'a '), (2, 'a')"),
             "SELECT id FROM m1 WHERE v = $1", [b"a "], "ALTER TABLE m1 ALTER v TYPE char(5)"),
    "label": ("CREATE TYPE mood AS ENUM ('sad', 'ok');" +
              ROWS.format(t="m1", type="mood", rows="(1, 'sad'), (2, 'ok')"),
              "SELECT id FROM m1 WHERE v = 'sad'", [],
              "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';"
              "ALTER TYPE mood RENAME VALUE 'ok' TO 'sad'"),
    "function": (ONE + ";CREATE FUNCTION tenfold(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS "
                 "'SELECT $1 * 10'",
                 "SELECT tenfold(v) FROM m1 WHERE id = 1", [],
                 "CREATE FUNCTION tenfold(int) RETURNS bigint LANGUAGE sql IMMUTABLE AS "
                 "'SELECT $1 * 1000::bigint'"),
    "table": ("CREATE SCHEMA front;" + ONE, "SELECT v FROM m1 WHERE id = 1", [],
              ROWS.format(t="front.m1", type="int", rows="(1, 77)") +
              "; SELECT pgfresh.watch('front.m1')"),
    "composite type": (ONE + ";CREATE TYPE ca AS (a int, b int); CREATE TYPE cb AS (b int, a int)",
                       "SELECT ('(1,2)'::ca).a FROM m1", [],
                       "ALTER TYPE ca RENAME TO cx; ALTER TYPE cb RENAME TO ca"),
    "row type": (ONE + ";" + PAIR, "SELECT ('(1,2)'::pair).a FROM m1", [], SWAPPED),
    "column of rows": (PAIR + ROWS.format(t="m1", type="pair[]", rows="(1, ARRAY['(1,2)'::pair])"),
                       "SELECT (v[1]).a FROM m1", [], SWAPPED),
    "function that gives a row": (
        ONE + ";" + PAIR + "CREATE FUNCTION tenfold(int) RETURNS pair LANGUAGE sql IMMUTABLE AS "
        "'SELECT ROW($1, 2)::pair'", "SELECT (tenfold(v)).a FROM m1", [], SWAPPED),
    "dictionary": (ONE + ";CREATE TEXT SEARCH CONFIGURATION words (COPY = pg_catalog.english)",
                   "SELECT to_tsvector('words', 'the cats') FROM m1", [],
                   "ALTER TEXT SEARCH CONFIGURATION words ALTER MAPPING FOR asciiword WITH simple"),
}
CLEAN = ("DROP SCHEMA IF EXISTS front CASCADE; DROP TABLE IF EXISTS m1 CASCADE;"
         "DROP FUNCTION IF EXISTS tenfold(int), tenfold(bigint); DROP TABLE IF EXISTS pair;"
         "DROP TYPE IF EXISTS mood, ca, cb, cx; DROP TEXT SEARCH CONFIGURATION IF EXISTS words;")


def ask(wire, *before, parameters=(), name="s1"):
    wire.send(*before, pgwire.bind(name, parameters), pgwire.execute(), pgwire.sync())
    return pgwire.rows(wire.until_ready())


def verdict(wire):
    return pgwire.rows(wire.query("SHOW pgfresh.last"))[0][:2]


def hit_of(wire, *before, wanted, name="s1", parameters=()):
    """Asks until the answer is a hit; each answer is the wanted one."""
    def hit():
        assert ask(wire, *before, parameters=parameters, name=name) == wanted
        return verdict(wire)[0] == b"hit"
    wait_until(hit, f"a hit with {wanted}", 5)


def be_sure():
    """Time for a fence: DDL just behind a Parse may have been in front of it, for all pgfresh knows,
    and the statement is parsed anew."""
    time.sleep(1.2)


@pytest.mark.parametrize("first", ["old", "new"])
@pytest.mark.parametrize("by", ["through pgfresh", "directly"])
@pytest.mark.parametrize("case", CASES)
def test_ddl_that_changes_what_is_meant(play, case, by, first):
    before, sql, parameters, ddl = CASES[case]
    play.sql(CLEAN)
    play.sql(before)
    play.sql("SELECT pgfresh.watch('m1')")
    path = {"search_path": "front, public"}
    old, direct = play.wire(**path), play.wire(direct=True, **path)
    kept = ask(direct, pgwire.parse(sql, "s1"), parameters=parameters)
    assert ask(old, pgwire.parse(sql, "s1"), parameters=parameters) == kept
    hit_of(old, wanted=kept, parameters=parameters)
    be_sure()
    (play.wire(**path) if by == "through pgfresh" else play.wire(direct=True, **path)).query(ddl)
    wanted = ask(play.wire(direct=True, **path), pgwire.parse(sql), parameters=parameters, name="")
    assert wanted != kept  # or the case tells nothing
    for _ in range(3):
        if first == "old":
            assert ask(old, parameters=parameters) == ask(direct, parameters=parameters)
        fresh = play.wire(**path)
        hit_of(fresh, pgwire.parse(sql), wanted=wanted, parameters=parameters, name="")
        assert ask(old, parameters=parameters) == ask(direct, parameters=parameters)
    assert verdict(old) == [b"bypass", b"statement_outdated"]


@pytest.mark.parametrize("prepared", [True, False])
def test_plans_are_not_older_than_what_is_told(play, prepared):
    """A function that a function calls is replaced: an old session's plans go on with what it gave,
    at PostgreSQL, and nobody else may hear of that."""
    body = "RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
    play.sql("DROP FUNCTION IF EXISTS outer_(), middle_(), inner_();" + CLEAN + MANY)
    play.sql("SELECT pgfresh.watch('m1')")
    for name, says in (("inner_", "1"), ("middle_", "inner_()"), ("outer_", "middle_()")):
        play.sql(f"CREATE FUNCTION {name}() {body} 'BEGIN RETURN {says}; END'")
    be_sure()
    sql = "SELECT outer_() FROM m1 WHERE id = {}"
    old, direct = play.wire(), play.wire(direct=True)

    def asked(wire, n):
        if prepared:
            return ask(wire, parameters=[str(n).encode()])
        return pgwire.rows(wire.query(sql.format(n)))

    for wire in (old, direct):
        wire.send(pgwire.parse(sql.format("$1"), "s1"), pgwire.sync())
        wire.until_ready()
        for n in range(1, 8):  # PostgreSQL plans it once for all then
            assert asked(wire, n) == [[b"1"]]
    be_sure()
    play.sql(f"CREATE OR REPLACE FUNCTION inner_() {body} 'BEGIN RETURN 2; END'")
    assert asked(direct, 8) == [[b"1"]]  # or the case tells nothing
    time.sleep(0.3)
    for n in range(7, 10):
        assert asked(old, n) == [[b"2"]]
        fresh = play.wire()
        assert ask(fresh, pgwire.parse(sql.format("$1")), parameters=[str(n).encode()],
                   name="") == [[b"2"]]
        assert pgwire.rows(fresh.query(sql.format(n))) == [[b"2"]]


def test_plans_are_not_older_than_memberships(own_play):
    """PostgreSQL keeps the policies that a statement's first use found."""
    play = own_play({"freshness.catalog_poll": "200ms"})
    play.sql("CREATE ROLE meaning_ann LOGIN; CREATE ROLE meaning_bert;"
             "GRANT meaning_bert TO meaning_ann;" + MANY.replace("m1", "secret"))
    play.sql("GRANT SELECT ON secret TO meaning_ann; ALTER TABLE secret ENABLE ROW LEVEL SECURITY;"
             "CREATE POLICY p ON secret TO meaning_bert USING (true); SELECT pgfresh.watch('secret')")
    sql = "SELECT v FROM secret WHERE id = $1"
    play.hot(play.app("meaning_ann"), "SELECT v FROM secret WHERE id = 1")
    be_sure()
    old, direct = play.wire("meaning_ann"), play.wire("meaning_ann", direct=True)
    for wire in (old, direct):
        wire.send(pgwire.parse(sql, "s1"), pgwire.sync())
        wire.until_ready()
        for n in range(1, 8):
            assert ask(wire, parameters=[str(n).encode()]) == [[str(n).encode()]]
    be_sure()
    play.sql("REVOKE meaning_bert FROM meaning_ann")
    time.sleep(1)  # for the poll
    assert ask(direct, parameters=[b"8"]) == [[b"8"]]  # or the case tells nothing
    for n in range(7, 10):
        ask(old, parameters=[str(n).encode()])
        fresh = play.wire("meaning_ann")
        assert not ask(fresh, pgwire.parse(sql), parameters=[str(n).encode()], name="")


def test_ddl_that_does_not(play):
    """A new table, index, partition, function body, privilege: old statements are answered on."""
    play.sql("CREATE TABLE calm (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);"
             "CREATE TABLE calm1 PARTITION OF calm FOR VALUES FROM (0) TO (10);"
             "INSERT INTO calm VALUES (1, 5); SELECT pgfresh.watch('calm');"
             "CREATE FUNCTION calming(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'")
    wire = play.wire()
    sql = "SELECT calming(v) FROM calm WHERE id = $1"
    assert ask(wire, pgwire.parse(sql, "s1"), parameters=[b"1"]) == [[b"5"]]
    be_sure()
    for ddl in ("CREATE TABLE calm2 PARTITION OF calm FOR VALUES FROM (10) TO (20)",
                "CREATE INDEX ON calm (v)", "CREATE TABLE another (id int PRIMARY KEY, v int)",
                "CREATE ROLE calm_reader; GRANT SELECT ON calm TO calm_reader",
                "CREATE SCHEMA calm_tenant; CREATE TABLE calm_tenant.visit (id int PRIMARY KEY)",
                "CREATE TABLE calm_tenant.calm (id int PRIMARY KEY)",
                "CREATE TYPE calm_tenant.kind AS ENUM ('a'); CREATE DOMAIN calm_tenant.d AS int",
                "CREATE FUNCTION calm_tenant.f(int) RETURNS int LANGUAGE sql AS 'SELECT $1'",
                "DROP FUNCTION calm_tenant.f(int)", "CREATE EXTENSION pg_trgm",
                "CREATE TEMPORARY TABLE calm_temporary (id int)", "ANALYZE calm",
                "SELECT pgfresh.watch('another')", "COMMENT ON TABLE calm IS 'calm'",
                "CREATE OR REPLACE FUNCTION calming(int) RETURNS int LANGUAGE sql IMMUTABLE AS "
                "'SELECT $1 + 0'"):
        play.sql(ddl)

        def hit():
            assert ask(wire, parameters=[b"1"]) == [[b"5"]]
            return verdict(wire)[0] == b"hit"

        wait_until(hit, f"a hit behind {ddl}", 5)
    play.sql("REASSIGN OWNED BY calm_reader TO postgres; DROP OWNED BY calm_reader; DROP ROLE calm_reader;"
             "DROP SCHEMA calm_tenant CASCADE; DROP EXTENSION pg_trgm")


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("early", [True, False])
def test_types_that_were_shown_are_kept(own_play, watched, early):
    """Of parameters: a driver that was told int4 sends four bytes, whatever the column has become."""
    play = own_play()
    play.sql("CREATE TABLE grown (id int PRIMARY KEY, v int); INSERT INTO grown VALUES (1, 5);" +
             ("SELECT pgfresh.watch('grown')" if watched else ""))
    sql = "SELECT v FROM grown WHERE id = $1"

    async def grow():
        if not early:
            for _ in range(5):  # so that it is known, and what it looks like
                other = await asyncpg.connect(play.url())
                await other.fetchval(sql, 1)
                await asyncio.sleep(0.3)
                await other.close()
        connection = await asyncpg.connect(play.url())
        assert await connection.fetchval(sql, 1) == 5
        await asyncio.sleep(2 if early else 0.1)
        play.sql("ALTER TABLE grown ALTER id TYPE bigint")
        await asyncio.sleep(0.2)
        for _ in range(3):
            assert await connection.fetchval(sql, 1) == 5
        await connection.close()

    asyncio.run(grow())


BIG = b"x" * 300_000  # is not held
USES = {
    "Bind, Execute": ([], [pgwire.bind("s1", result_formats=[1]), pgwire.execute(), pgwire.sync()]),
    "Bind, Flush, Execute": ([], [pgwire.bind("s1", result_formats=[1]), pgwire.flush(),
                                  pgwire.execute(), pgwire.sync()]),
    "another Bind behind it": ([], [pgwire.bind("s1", result_formats=[1]),
                                    pgwire.bind("s1", result_formats=[1]), pgwire.execute(),
                                    pgwire.sync()]),
    "a named portal": ([], [pgwire.bind("s1", portal="p", result_formats=[1]), pgwire.execute("p"),
                            pgwire.sync()]),
    "Describe": ([], [pgwire.describe("S", "s1"), pgwire.sync()]),
    "a long parameter": ([BIG], [pgwire.bind("s1", [BIG], result_formats=[1]), pgwire.execute(),
                                 pgwire.sync()]),
}


@pytest.mark.parametrize("use", USES)
def test_columns_that_were_shown_are_kept(play, use):
    """However a statement that was described from memory is used first: no value is told as one of
    the type its column had."""
    parameters, messages = USES[use]
    play.sql("DROP TABLE IF EXISTS shown; CREATE TABLE shown (id int PRIMARY KEY, v int);"
             "INSERT INTO shown VALUES (1, 5); SELECT pgfresh.watch('shown')")
    sql = "SELECT v FROM shown WHERE id = 1" + (" AND $1::text <> ''" if parameters else "")
    warm = play.wire()

    def count():
        return play.metrics().value("pgfresh_description_hits_total")

    def known(before):
        warm.send(pgwire.parse(sql), pgwire.describe("S", ""), pgwire.sync())
        warm.until_ready()
        return count() > before

    told = []
    for wire in (play.wire(direct=True), play.wire()):
        play.sql("ALTER TABLE shown ALTER v TYPE int")
        before = count()
        wait_until(lambda before=before: known(before), "its description in memory", 5)
        wire.send(pgwire.parse(sql, "s1"), pgwire.describe("S", "s1"), pgwire.sync())
        wire.until_ready()
        play.sql("ALTER TABLE shown ALTER v TYPE real")
        time.sleep(0.1)
        try:
            wire.send(*messages)
            got = wire.until_ready()
        except ConnectionError:
            got = []
        told.append([[m.fields.get(each) for each in "SVCMR"] for m in got if m.type == "E"] or
                    pgwire.types(got))
    assert told[0] == [["ERROR", "ERROR", "0A000", "cached plan must not change result type",
                        "RevalidateCachedQuery"]]
    # One too long to be looked at whole ends the session.
    assert told[1] == ("" if use == "a long parameter" else told[0])


def test_a_parse_that_waits_has_the_meaning_behind_the_lock(play):
    """And when the DDL it waited for is taken back, its answers are still not everybody's."""
    play.sql(CLEAN + CASES["timestamp"][0])
    play.sql("SELECT pgfresh.watch('m1')")
    _, sql, parameters, _ = CASES["timestamp"]
    play.hot(play.app(), "SELECT id FROM m1 WHERE id = 1")
    old, admin = play.wire(), play.wire(direct=True)
    old.query("SELECT id FROM m1 WHERE id = 1")
    be_sure()
    admin.query("BEGIN; ALTER TABLE m1 ALTER v TYPE timestamptz USING v AT TIME ZONE 'UTC'")
    old.send(pgwire.parse(sql, "s1"), pgwire.sync())
    time.sleep(2.5)  # fences complete meanwhile
    admin.query("COMMIT")
    old.until_ready()
    admin.query("ALTER TABLE m1 ALTER v TYPE timestamp USING v AT TIME ZONE 'UTC'")
    time.sleep(1)
    wanted = ask(play.wire(direct=True), pgwire.parse(sql), parameters=parameters, name="")
    for _ in range(3):
        ask(old, parameters=parameters)
        assert ask(play.wire(), pgwire.parse(sql), parameters=parameters, name="") == wanted


@pytest.mark.parametrize("declared", ["v meaning_conf.a%TYPE", "v meaning_whole",
                                      'v "meaning_whole"'])
def test_variables_keep_their_types(play, declared):
    """For a session's life, with PL/pgSQL: such a function's results are nobody else's, nor are
    those of functions that call it."""
    play.sql("DROP FUNCTION IF EXISTS half_(int), halves_(int); DROP TABLE IF EXISTS meaning_conf;"
             "DROP DOMAIN IF EXISTS meaning_whole, meaning_was;" + CLEAN + MANY +
             "CREATE TABLE meaning_conf (a int); CREATE DOMAIN meaning_whole AS int")
    play.sql("SELECT pgfresh.watch('m1')")
    play.sql("CREATE FUNCTION half_(x int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS "
             f"'DECLARE {declared}; BEGIN v := x / 2.0; RETURN v::text; END'")
    play.sql("CREATE FUNCTION halves_(x int) RETURNS text LANGUAGE sql IMMUTABLE AS "
             "'SELECT half_($1) || half_($1)'")
    sql = "SELECT half_(5), halves_(5) FROM m1 WHERE id = 1"
    old = play.wire()
    assert pgwire.rows(old.query(sql)) == [[b"3", b"33"]]
    be_sure()
    play.sql("ALTER TABLE meaning_conf ALTER a TYPE numeric(9, 1);"
             "ALTER DOMAIN meaning_whole RENAME TO meaning_was;"
             "CREATE DOMAIN meaning_whole AS numeric(9, 1)")
    time.sleep(0.5)
    for _ in range(3):
        assert pgwire.rows(old.query(sql)) == [[b"3", b"33"]]
        assert pgwire.rows(play.wire().query(sql)) == [[b"2.5", b"2.52.5"]]


def test_a_description_is_no_query(play):
    """What pgfresh asks in front of one executes nothing: the isolation may still be chosen. (Not
    where PostgreSQL itself has to analyse the statement anew, as it must after much DDL.)"""
    play.hot(play.app(), "SELECT name FROM part WHERE id = 1")
    chosen = []
    for _ in range(3):
        wire = play.wire()
        ask(wire, pgwire.parse("SELECT name AS n FROM part WHERE id = 1", "s1"))
        be_sure()  # or it is parsed anew, which is no query either, but takes a snapshot
        play.sql("CREATE TABLE meaning_brief (id int); DROP TABLE meaning_brief")
        time.sleep(0.6)
        wire.query("BEGIN")
        wire.send(pgwire.describe("S", "s1"), pgwire.sync())
        wire.until_ready()
        chosen.append(pgwire.types(wire.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")))
    assert "CZ" in chosen


def test_columns_that_come_and_go(play):
    """A statement whose client knows what it looks like is answered on behind ADD COLUMN and the
    like; one that looks otherwise now is refused, as PostgreSQL refuses it."""
    play.sql(CLEAN + MANY)
    play.sql("SELECT pgfresh.watch('m1')")
    play.hot(play.app(), "SELECT v FROM m1 WHERE id = 1")
    old, direct = play.wire(), play.wire(direct=True)
    statements = {"few": "SELECT v FROM m1 WHERE id = $1", "all": "SELECT * FROM m1 WHERE id = $1"}
    for wire in (old, direct):
        for name, sql in statements.items():
            wire.send(pgwire.parse(sql, name), pgwire.describe("S", name), pgwire.sync())
            wire.until_ready()
            assert ask(wire, parameters=[b"5"], name=name)[0][-1] == b"5"
    be_sure()
    for ddl in ("ADD COLUMN more int DEFAULT 3", "ALTER more TYPE text", "DROP COLUMN more"):
        play.sql(f"ALTER TABLE m1 {ddl}")
        time.sleep(0.5)  # for its news
        hit_of(old, wanted=[[b"5"]], name="few", parameters=[b"5"])
        told = []
        for wire in (direct, old):
            wire.send(pgwire.bind("all", [b"5"]), pgwire.execute(), pgwire.sync())
            told.append([(m.type, m.fields.get("M") if m.type == "E" else m.row if m.type == "D"
                          else None) for m in wire.until_ready()])
        assert told[0] == told[1]


def in_one(*texts):
    """One segment of unnamed statements."""
    return [m for sql in texts for m in (pgwire.parse(sql), pgwire.bind(), pgwire.execute())] + [
        pgwire.sync()]


def answered_from_memory(play):
    """Two sessions that know s1, one through pgfresh, where PostgreSQL was not told of it."""
    play.sql(CLEAN + MANY + "DROP TABLE IF EXISTS kept; CREATE TABLE kept (id int);")
    play.sql("SELECT pgfresh.watch('m1')")
    sql = "SELECT v FROM m1 WHERE id = 5"
    play.hot(play.app(), sql)
    through, direct = play.wire(), play.wire(direct=True)
    for wire in (through, direct):
        assert ask(wire, pgwire.parse(sql, "s1")) == [[b"5"]]
    assert verdict(through)[0] == b"hit"
    return through, direct


OTHERS = {
    "its name in a block": [[pgwire.query("BEGIN")], [pgwire.query("INSERT INTO kept VALUES (1)")],
                            [pgwire.query("DEALLOCATE s1")], [pgwire.query("COMMIT")]],
    "another's name in a block": [[pgwire.query("BEGIN")],
                                  [pgwire.query("INSERT INTO kept VALUES (1)")],
                                  in_one("DEALLOCATE s2"), [pgwire.query("COMMIT")]],
    "all names in a block": [[pgwire.query("BEGIN")], [pgwire.query("INSERT INTO kept VALUES (1)")],
                             [pgwire.query("DEALLOCATE ALL")], [pgwire.query("COMMIT")]],
    "SQL's EXECUTE in a block": [[pgwire.query("BEGIN")],
                                 [pgwire.query("INSERT INTO kept VALUES (1)")],
                                 [pgwire.query("EXECUTE s2")], [pgwire.query("COMMIT")]],
    "a pipeline with SET": [in_one("INSERT INTO kept VALUES (1)", "SET application_name = 'x'")],
    "a pipeline with its name": [in_one("INSERT INTO kept VALUES (1)", "DEALLOCATE s1")],
    "a pipeline with plans": [in_one("INSERT INTO kept VALUES (1)", "DISCARD PLANS")]}


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("ddl", ["DROP TABLE m1", "ALTER TABLE m1 RENAME v TO w"])
def test_a_statement_that_no_longer_parses_fails_nobody_else(play, ddl, others):
    """It was answered from memory alone, and others make pgfresh tell PostgreSQL of it."""
    through, direct = answered_from_memory(play)
    for wire in (through, direct):
        assert ask(wire, pgwire.parse("SELECT 7", "s2"), name="s2") == [[b"7"]]
    play.sql(ddl)
    time.sleep(0.5)  # for its news
    told = []
    for wire in (direct, through):
        told.append([])
        for step in OTHERS[others]:
            wire.send(*step)
            told[-1].append([(m.type, m.body) for m in wire.until_ready() if m.type in "CEDZ"])
        # What became of the statement is the same, too.
        wire.send(pgwire.bind("s1"), pgwire.execute(), pgwire.sync())
        told[-1].append([m.sqlstate for m in wire.until_ready() if m.type == "E"])
    assert told[0] == told[1]
    assert play.direct().execute("SELECT count(*) FROM kept").fetchone() == (2,)


@pytest.mark.parametrize("deallocated", [False, "parsed only"])
def test_a_statement_that_still_parses_can_be_executed_by_name(play, deallocated):
    through, direct = answered_from_memory(play)
    if deallocated:
        through.send(pgwire.parse("DEALLOCATE s1", "d"), pgwire.sync())
        through.until_ready()
    play.sql("ALTER TABLE m1 ADD COLUMN more int")
    time.sleep(0.5)  # for its news
    for wire in (direct, through):
        wire.query("BEGIN")
        wire.query("INSERT INTO kept VALUES (1)")  # PostgreSQL has the block
        assert pgwire.rows(wire.query("EXECUTE s1")) == [[b"5"]]
        wire.query("COMMIT")


def test_prepared_right_behind_ddl(play):
    """Before its news has come: the statement is no outdated one for good."""
    for n in range(1, 13):
        play.sql(f"DROP TABLE IF EXISTS soon{n - 1}; CREATE TABLE soon{n} (id int PRIMARY KEY);"
                 f"INSERT INTO soon{n} VALUES ({n})")
        play.sql(f"SELECT pgfresh.watch('soon{n}')")
        wire = play.wire()
        ask(wire, pgwire.parse(f"SELECT id FROM soon{n}", "s1"))
        hit_of(wire, wanted=[[str(n).encode()]])


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
