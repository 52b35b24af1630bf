"""PostgreSQL reads the constants of a prepared statement under the settings in force when it parses
it, and when it has to analyse it anew. What it answers then must not be told to those whose settings
are others, whatever became of the settings since."""
import pytest

import pgwire

READ = "SELECT id FROM visit WHERE day = '01/02/2024'"  # 1 where the month comes first, else 2
MONTH_FIRST, DAY_FIRST = [[b"1"]], [[b"2"]]
SETUP = """
CREATE TABLE visit (id int PRIMARY KEY, day date);
INSERT INTO visit VALUES (1, '2024-01-02'), (2, '2024-02-01');
SELECT pgfresh.watch('visit');
CREATE FUNCTION day_first() RETURNS void LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('DateStyle', 'ISO, DMY', false); END $$;
"""
THERE = "SELECT set_config('DateStyle', 'ISO, DMY', false)"
BACK = "SELECT set_config('DateStyle', 'ISO, MDY', false)"


@pytest.fixture(scope="module", autouse=True)
def visits(server, database):
    server.psql(SETUP, database=database)


def execute(wire, *before):
    wire.send(*before, pgwire.bind("s1"), pgwire.describe(), pgwire.execute(), pgwire.sync())
    return pgwire.rows(wire.until_ready())


def prepared_in_memory(play):
    """A session whose prepared statement PostgreSQL has not been told of."""
    play.hot(play.app(), READ)
    wire = play.wire()
    before = play.metrics().hits
    assert execute(wire, pgwire.parse(READ, "s1")) == MONTH_FIRST
    assert play.metrics().hits == before + 1
    return wire


def told_anew(play, wire):
    """What the session is told when the entry has gone, and what another is told then."""
    play.app().execute("UPDATE visit SET id = id WHERE id = 1")
    other = play.wire()
    return [execute(wire), *(pgwire.rows(other.query(READ)) for _ in range(3))]


@pytest.mark.parametrize("there, back", [
    ([THERE], [BACK]),
    (["SELECT day_first()"], ["SET DateStyle = 'ISO, MDY'"]),
    (["BEGIN", "SELECT txid_current()", "SET LOCAL DateStyle = 'ISO, DMY'"], ["COMMIT"]),
    (["BEGIN", THERE.replace("false", "true")], ["COMMIT"]),
    (["SET DateStyle = 'ISO, DMY'"], ["SET DateStyle = 'ISO, MDY'"])],
    ids=["set_config", "function", "SET LOCAL", "set_config in a block", "SET"])
def test_used_under_other_settings(play, there, back):
    wire = prepared_in_memory(play)
    for text in there:
        wire.query(text)
    execute(wire)
    for text in back:
        wire.query(text)
    assert told_anew(play, wire) == [MONTH_FIRST] * 4
    play.hot(play.app(), READ)


def test_analysed_anew_under_other_settings(play):
    """As ANALYZE, by anybody, makes PostgreSQL do with the next execution."""
    wire = play.wire()
    assert execute(wire, pgwire.parse(READ, "s1")) == MONTH_FIRST
    wire.query("SET DateStyle = 'ISO, DMY'")
    assert execute(wire) == MONTH_FIRST
    play.sql("ANALYZE visit")
    assert execute(wire) == DAY_FIRST
    wire.query("SET DateStyle = 'ISO, MDY'")
    assert told_anew(play, wire) == [MONTH_FIRST] * 4


@pytest.mark.parametrize("change", [THERE, "SELECT day_first()", "SET DateStyle = 'ISO, DMY'",
                                    f"BEGIN; {THERE}; COMMIT"])
def test_a_statement_answered_from_memory_keeps_its_meaning(play, change):
    wire, direct = prepared_in_memory(play), play.wire(direct=True)
    execute(direct, pgwire.parse(READ, "s1"))
    for one in (wire, direct):
        one.query(change)
    assert execute(wire) == execute(direct) == MONTH_FIRST


def test_it_is_answered_from_memory_again(play):
    """Also where it was executed at PostgreSQL in between, and has a row of its own there."""
    wire = prepared_in_memory(play)
    for _ in range(3):
        wire.query("SELECT day_first()")
        execute(wire)
        wire.query("SET DateStyle = 'ISO, MDY'")
        assert execute(wire) == MONTH_FIRST
    before = play.metrics().hits
    assert execute(wire) == MONTH_FIRST
    assert play.metrics().hits == before + 1
    names = pgwire.rows(wire.query("SELECT name, statement FROM pg_prepared_statements"))
    assert names == [[b"s1", READ.encode()]]
