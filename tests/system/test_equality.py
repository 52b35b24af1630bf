"""Two-way equality. Every statement is run direct, cold and hot through pgfresh, by the simple and
the extended protocol, in text and in binary: the bytes must be the same, descriptions and command
tags too. And what pgfresh has answered from memory is run direct twice more, 1.1 s apart, in
sessions that have nothing in common but what is in the key, and once on a server that lives half a
year later: an answer that differs must not have been cached.

The statements come from the catalog (statements.py) and from what applications ask
(questions.py). EQUALITY_SEED chooses, EQUALITY_STATEMENTS says how many of the generated ones are
run (0: all of them, several minutes).
"""
import glob
import os
import random
import time

import psycopg
import pytest

import conftest
import questions
import statements
from pgserver import PrivatePostgres
from pgwire import Wire, bind, describe, execute, parse, query, sync

SEED = int(os.environ.get("EQUALITY_SEED", random.randrange(1 << 30)))
COUNT = int(os.environ.get("EQUALITY_STATEMENTS", "900"))
BATCH = 25

# What is not in the key, changed; so it must change nothing.
UNLIKE = ["SET application_name = 'somebody else'", "SET work_mem = '1MB'",
          "SET enable_seqscan = off", "SET enable_hashagg = off", "SET enable_sort = off",
          "SET statement_timeout = '50s'", "SET client_min_messages = error",
          "SET random_page_cost = 1", "SET lock_timeout = '40s'", "SET jit = on"]
# What is in the key: (setting, value).
SETTINGS = [("DateStyle", "German"), ("DateStyle", "SQL, DMY"), ("IntervalStyle", "iso_8601"),
            ("TimeZone", "Asia/Kolkata"), ("TimeZone", "America/New_York"),
            ("bytea_output", "escape"), ("extra_float_digits", "-3"), ("xmlbinary", "hex"),
            ("xmloption", "document"), ("default_text_search_config", "german"),
            ("lc_monetary", "C.UTF-8"), ("search_path", "other, public"),
            ("array_nulls", "off"), ("transform_null_equals", "on"),
            ("pg_trgm.similarity_threshold", "0.9")]

FORMATS = [("simple", None), ("text", ()), ("binary", (1,))]


def kept(messages):
    """What must be equal: everything but news about the session."""
    return [(m.type, m.body) for m in messages if m.type not in "SN"]


class Runner:
    """Runs statements in batches: what is sent in one write is answered in one read or two."""

    def __init__(self, wire):
        self.wire = wire

    def ask(self, sql, result_formats, parameters=()):
        if result_formats is None:
            self.wire.send(query(sql))
        else:
            self.wire.send(parse(sql), bind("", parameters, result_formats=result_formats),
                           describe(), execute(), sync())
        return kept(self.wire.until_ready(30))

    def fates(self):
        """Verdict and reason of the statement before."""
        row = [m for m in self.wire.query("SHOW pgfresh.last") if m.type == "D"][0].row
        return row[0].decode(), (row[1] or b"").decode()


def failed(messages):
    return any(kind == "E" for kind, _ in messages)


@pytest.fixture(scope="module")
def database(server):
    """A database of its own: a superuser's, with every extension, and the healthcare schema."""
    name = "equality"
    server.create_database(name, template="stage")
    yield name
    server.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def asked(server, database):
    """All statements, generated and given."""
    print(f"EQUALITY_SEED={SEED} EQUALITY_STATEMENTS={COUNT}")
    chance = random.Random(SEED)
    with psycopg.connect(server.url(database=database), autocommit=True) as connection:
        made = statements.make(connection, chance)
        questions.install(server, database, connection)
    return made[:COUNT] if COUNT else made, questions.QUESTIONS


@pytest.fixture
def runners(play):
    """(direct, through pgfresh); statements that take long are errors."""
    direct = Runner(play.wire(direct=True, statement_timeout="3s"))
    through = Runner(play.wire(statement_timeout="3s"))
    return direct, through


def compare(direct, through, sql, parameters=()):
    """None, or the reason why not; AssertionError when the answers differ. Only what comes from
    memory must be equal: what PostgreSQL answers may well depend on who asks."""
    verdict = None
    for name, formats in FORMATS:
        if formats is None and parameters:
            continue
        expected = direct.ask(sql, formats, parameters)
        if failed(expected) and formats is None:
            return "error"
        through.ask(sql, formats, parameters)
        hot = through.ask(sql, formats, parameters)
        fate, reason = through.fates()
        if fate != "hit":
            assert verdict is None or failed(expected), f"{name}: {reason}, yet {verdict}: {sql}"
            return reason
        verdict = "hit"
        assert hot == expected, f"{name} differs: {sql}"
    return verdict


def check_lasting(play, cached):
    """Twice direct, 1.1 s apart, in sessions as different as can be."""
    one = Runner(play.wire(direct=True))
    first = [one.ask(sql, None) for sql in cached]
    time.sleep(1.1)
    other = Runner(play.keep(Wire(host=play.server.socket_dir, port=play.server.port)
                             .login("postgres", play.database, "", {"application_name": "b"})))
    for setting in UNLIKE:
        other.ask(setting, None)
    second = [other.ask(sql, None) for sql in cached]
    differing = [sql for sql, a, b in zip(cached, first, second) if a != b]
    assert not differing, f"cached, and yet not the same a second later: {differing[:10]}"


def check_another_day(play, cached):
    """The same `sample` on a server whose clock is 200 days ahead, on the other side of a change to
    or from daylight saving time."""
    here = Runner(play.wire(direct=True))
    library = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")[0]
    later = {"LD_PRELOAD": library, "FAKETIME": "+200d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with PrivatePostgres(environment=later) as server:
        conftest.set_the_stage(server, template=play.database)
        with psycopg.connect(server.url(database=play.database), autocommit=True) as connection:
            statements.install(connection)
            assert "days" in str(connection.execute("SELECT now() - %s::timestamptz",
                                                    (time.strftime("%F %T%z"),)).fetchone()[0])
        there = Runner(Wire(port=server.port).login("postgres", play.database))

        def rows(runner, sql):  # not the descriptions, which tell oids
            return [body for kind, body in runner.ask(sql, None) if kind in "DC"]

        differing = [sql for sql in cached if rows(here, sql) != rows(there, sql)
                     and "hashenum" not in sql]  # of the value's oid
        there.wire.close()
    assert not differing, f"cached, and yet not the same another day: {differing[:10]}"


@pytest.mark.seconds(90 + COUNT // 4 if COUNT else 3000)
@pytest.mark.slow
def test_generated(play, asked, runners):
    generated, _ = asked
    reasons, cached, wrong = {}, [], []
    for sql in generated:
        try:
            reason = compare(*runners, sql)
        except AssertionError as why:
            wrong.append(str(why))
            continue
        reasons[reason] = reasons.get(reason, 0) + 1
        if reason == "hit":
            cached.append(sql)
    print(reasons)
    assert not wrong, f"{len(wrong)}: {wrong[:10]}"
    assert len(cached) > len(generated) // 2, reasons
    check_lasting(play, cached)
    check_another_day(play, cached)


@pytest.mark.seconds(120)
def test_questions(play, asked, runners):
    """What applications ask is cached, and right."""
    _, given = asked
    wrong = {}
    for sql in given:
        reason = compare(*runners, sql)
        if reason != "hit":
            wrong[sql] = reason
    assert not wrong
    check_lasting(play, given)


@pytest.mark.seconds(120)
def test_questions_with_parameters(asked, runners):
    _, _ = asked
    for sql, parameters in questions.WITH_PARAMETERS:
        assert compare(*runners, sql, parameters) == "hit", sql


@pytest.mark.seconds(180)
@pytest.mark.slow
def test_settings(play, asked, runners):
    """Under every keyed setting in turn, what comes from memory is what the setting makes of it."""
    generated, given = asked
    direct, through = runners
    chosen = [sql for sql in generated[:300] if compare(direct, through, sql) == "hit"][:60] + given
    hits = 0
    for name, value in SETTINGS:
        for runner in runners:
            runner.ask(f"SET {name} = '{value}'", None)
        for sql in chosen:
            expected = direct.ask(sql, None)
            if failed(expected):
                continue
            assert through.ask(sql, None) == expected, f"{name} = {value}: {sql}"
            assert through.ask(sql, None) == expected, f"{name} = {value}, again: {sql}"
        hits += through.fates()[0] == "hit"
        for runner in runners:
            runner.ask(f"RESET {name}", None)
    assert hits > len(SETTINGS) // 2


@pytest.mark.parametrize("sql", [
    "SELECT ST_AsText(ST_Transform(geo::geometry, 3857)) FROM pharmacy_locations ORDER BY id LIMIT 1",
    "SELECT id FROM pharmacy_locations ORDER BY geo <-> 'POINT(77 12)'::geography, id LIMIT 1",
    "SELECT id, get_proj4_from_srid(4326) FROM pharmacy_locations ORDER BY id LIMIT 1",
    "SELECT (geo::geometry).st_asgeojson FROM pharmacy_locations ORDER BY id LIMIT 1",
    "SELECT p.st_asgeojson FROM pharmacy_locations p ORDER BY id LIMIT 1"])
def test_table_of_projections(play, asked, sql):
    """PostGIS reads spatial_ref_sys: what it projects or measures depends on that table."""
    app = play.app()
    before = play.hot(app, sql)
    with play.expect(hits=0):
        app.execute("UPDATE spatial_ref_sys SET auth_name = auth_name WHERE srid = 4326")
        assert app.execute(sql).fetchall() == before
    play.hot(app, sql)
