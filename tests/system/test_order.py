"""The order of things: messages held, skipped, cut in parts or run ahead of their answers, and
settings, shapes and blocks that change between Parse and Execute. Each test is the smallest
conversation in which one rule of the book-keeping in src/proxy decides the outcome."""
import contextlib
import struct
import threading
import time

import pytest

from pgfresh_proc import wait_until
from pgwire import (CANCEL_REQUEST, Wire, bind, copy_data, copy_done, describe, execute, flush,
                    function_call, packet, parse, query, rows, startup, sync, types)
from test_cache import turn_hot

NAME = "SELECT name FROM item WHERE id = 1"
LONG = 70_000  # bytes: more than is looked at whole


def ask(wire, *messages):
    wire.send(*messages)
    return wire.until_ready()


def awake(play):
    """A raw connection whose settings pgfresh knows."""
    wire = play.wire()
    turn_hot(play, wire, query(NAME))
    return wire


def warm(play, *texts):
    """The answers and descriptions of these texts are in memory."""
    wire = awake(play)
    for sql in texts:
        turn_hot(play, wire, query(sql))
        turn_hot(play, wire, parse(sql) + describe("S") + bind() + execute() + sync())


def shown(messages):
    """What the client saw; of an error the SQLSTATE alone."""
    return [(m.type, m.sqlstate if m.type == "E" else m.body) for m in messages]


def widen(play, sql, column):
    """Adds a column to table part; the rows of `sql` once they are in memory with it."""
    wire = play.wire()
    width = len(rows(wire.query(sql))[0])
    play.sql(f"ALTER TABLE part ADD COLUMN {column} int DEFAULT 5")

    def wider():
        found = rows(turn_hot(play, wire, query(sql)))
        return found if len(found[0]) > width else None

    return wait_until(wider, "a hit with the column")


def drop(play, table):
    """Drops the table; returns when pgfresh has heard of it."""
    wire = play.wire()
    play.sql(f"DROP TABLE {table}")
    wait_until(lambda: types(wire.query(f"SELECT * FROM {table} WHERE id = 1")) == "EZ", "gone")


def same_as_direct(play, talk):
    """Holds talk(wire), which yields lists of messages, directly and through pgfresh; what came."""
    straight = [shown(messages) for messages in talk(play.wire(direct=True))]
    through = [shown(messages) for messages in talk(awake(play))]
    assert through == straight
    return through


def errors(conversation):
    return [what for messages in conversation for kind, what in messages if kind == "E"]


# -- login and cancel ---------------------------------------------------------------------------


def test_query_sent_with_the_startup_packet_is_answered_after_login(play):
    wire = play.keep(Wire(port=play.proxy.port))
    wire.send(startup({"user": "postgres", "database": play.database}), query(NAME))
    assert types(wire.until_ready()).startswith("R")
    assert types(wire.until_ready()) == "TDCZ"


def test_bytes_behind_a_cancel_request_harm_nobody(play):
    busy = play.wire()
    for turn in range(60):
        busy.send(query("SELECT pg_sleep(0.05)"))
        with contextlib.closing(Wire(port=play.proxy.port)) as other:
            other.send(packet(CANCEL_REQUEST, struct.pack("!II", *busy.key)))
            time.sleep(0.0001 * (turn % 12))
            with contextlib.suppress(OSError):
                other.send(query("SELECT 1"))
                other.send(query("SELECT 2"))
            busy.until_ready()
    assert rows(play.wire().query(NAME)) == [[b"item 1"]]


# -- what is held -------------------------------------------------------------------------------


def test_each_description_belongs_to_its_own_bind(play):
    one, three = ("SELECT id FROM item WHERE id = 11", "SELECT id, name, 1 FROM item WHERE id = 11")

    def talk(wire):
        yield ask(wire, parse(one, "a"), parse(three, "b"), bind("a"), describe(), bind("b"),
                  execute(), sync())

    same_as_direct(play, talk)
    expected = play.wire(direct=True).query(three)
    other = awake(play)
    for _ in range(3):
        assert other.query(three) == expected


def test_each_description_belongs_to_its_own_statement(play):
    one, two = ("SELECT id FROM item WHERE id = 12", "SELECT id, name FROM item WHERE id = 12")
    warm(play, one, two)

    def talk(wire):
        yield ask(wire, parse(one, "a"), parse(two, "b"), describe("S", "a"), sync())
        yield ask(wire, parse(one, "c"), describe("S", "c"), parse(two, "d"), describe("S", "d"),
                  sync())

    same_as_direct(play, talk)


def test_long_bind_executes_the_statement_parsed_last(play):
    sql = "SELECT id FROM item WHERE name = $1"
    asked = parse(sql) + bind(parameters=["nobody"]) + execute() + sync()
    wire = awake(play)
    turn_hot(play, wire, asked)
    ask(wire, parse("INSERT INTO plain VALUES (7001, $1)"), describe("S"), sync())
    with play.expect(hits=1):
        ask(wire, asked)
    heard = ask(wire, bind(parameters=["y" * LONG]), execute(), sync())
    assert [m.text for m in heard if m.type == "C"] == ["SELECT 0"]
    assert play.sql("SELECT count(*) FROM plain WHERE id = 7001") == "0"


def test_forty_thousand_executions_before_one_sync(play):
    count = 40_000
    wire = play.wire()
    wire.query("CREATE TEMP TABLE pile (n int)")
    ask(wire, parse("INSERT INTO pile VALUES ($1)", "s", [23]), sync())
    data = (bind("s", ["1"]) + execute()) * count + sync()
    sender = threading.Thread(target=wire.send, args=(data,), daemon=True)
    sender.start()
    assert types(wire.until_ready()) == "2C" * count + "Z"
    sender.join(5)
    assert rows(wire.query("SELECT count(*) FROM pile")) == [[b"%d" % count]]


# -- errors and what they skip ------------------------------------------------------------------


def test_parse_that_was_skipped_defines_nothing(play):
    one, two = ("SELECT id FROM item WHERE id = 13", "SELECT id, name FROM item WHERE id = 13")
    warm(play, one, two)

    def talk(wire):
        wire.send(parse("nonsense"), flush())
        yield wire.until("E")
        yield ask(wire, parse(one, "s"), sync())
        yield ask(wire, parse(two, "s"), bind("s"), execute(), sync())
        yield ask(wire, bind("s"), execute(), sync())

    assert errors(same_as_direct(play, talk)) == ["42601"]


def test_statement_accepted_here_outlives_a_failed_block(play):
    warm(play, NAME)

    def talk(wire):
        yield ask(wire, parse(NAME, "s"), bind("s"), execute(), sync())
        yield wire.query("BEGIN")
        yield wire.query("SELECT 1/0")
        yield ask(wire, bind("s"), execute(), sync())
        yield wire.query("ROLLBACK")
        yield ask(wire, bind("s"), execute(), sync())

    assert errors(same_as_direct(play, talk)) == ["22012", "25P02"]


def test_unnamed_statement_outlives_a_begin_by_another_name(play):
    warm(play, NAME)
    by_id = "SELECT name FROM item WHERE id = $1"
    turn_hot(play, awake(play), parse(by_id) + describe("S") + bind("", ["14"]) + execute() + sync())

    def talk(wire):
        yield ask(wire, parse(by_id), describe("S"), sync())
        yield ask(wire, parse("BEGIN", "b"), bind("b"), execute(), sync())
        yield ask(wire, bind("", ["15"]), execute(), sync())  # not in memory
        yield wire.query("ROLLBACK")

    assert errors(same_as_direct(play, talk)) == []


COPY_BEGIN = parse("COPY refusing FROM stdin") + bind() + execute()
FAILED_COPIES = {
    "sync at once": [COPY_BEGIN + sync()],
    "data and sync at once": [COPY_BEGIN + copy_data(b"1\n") + copy_done() + sync()],
    "sync after the error": [COPY_BEGIN + flush(), sync()],
    "data and sync after the error": [COPY_BEGIN + flush(), copy_data(b"1\n") + copy_done()
                                      + sync()],
}


@pytest.mark.parametrize("name", FAILED_COPIES)
def test_copy_that_fails_before_its_data_upsets_nothing(play, name):
    play.sql("DROP TABLE IF EXISTS refusing; CREATE TABLE refusing (n int);"
             "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
             "$$ BEGIN RAISE EXCEPTION 'no'; END $$;"
             "CREATE TRIGGER refuse BEFORE INSERT ON refusing EXECUTE FUNCTION refuse()")
    number = play.item("old")
    sql = f"SELECT name FROM item WHERE id = {number}"

    def talk(wire):
        for step in FAILED_COPIES[name]:
            wire.send(step)
            yield wire.until("E" if step.endswith(flush()) else "Z")
        yield wire.query("SELECT 1")

    straight = [shown(messages) for messages in talk(play.wire(direct=True))]
    wire = awake(play)
    assert [shown(messages) for messages in talk(wire)] == straight
    turn_hot(play, wire, query(sql))
    wire.query(f"UPDATE item SET name = 'new' WHERE id = {number}")
    assert rows(turn_hot(play, play.wire(), query(sql))) == [[b"new"]]
    assert rows(turn_hot(play, wire, query(sql))) == [[b"new"]]


# -- what changes between Parse and Execute -----------------------------------------------------


def test_constants_are_read_under_the_settings_of_parse(play):
    month = "SELECT id FROM item WHERE id = extract(month FROM date '02/03/2004')::int"
    dmy = "SET datestyle = 'ISO, DMY'"

    def talk(wire):
        yield ask(wire, parse(month, "d"), describe("S", "d"), sync())
        yield [m for m in wire.query(dmy) if m.type != "S"]
        yield wire.query(NAME)
        yield ask(wire, bind("d"), describe(), execute(), sync())

    assert errors(same_as_direct(play, talk)) == []
    other = awake(play)
    other.query(dmy)
    other.query(NAME)
    for _ in range(3):
        assert rows(other.query(month)) == [[b"3"]]


@pytest.mark.parametrize("block", ["in no block", "in a block"])
def test_statement_of_another_shape_by_now_is_refused(play, block):
    sql = "SELECT * FROM part WHERE id = 1"
    warm(play, sql)
    wire = awake(play)
    with play.expect(hits=1):
        ask(wire, parse(sql, "s"), bind("s"), describe(), execute(), sync())
    after = widen(play, sql, block.replace(" ", "_"))
    turn_hot(play, wire, query(NAME))
    status = "I"
    if block == "in a block":
        wire.query("BEGIN")
        status = "E"
    heard = ask(wire, bind("s"), execute(), sync())
    assert shown(heard) == [("E", "0A000"), ("Z", status.encode())]
    if block == "in a block":
        assert shown(wire.query(NAME))[0] == ("E", "25P02")
        wire.query("ROLLBACK")
    assert errors([shown(ask(wire, bind("s"), execute(), sync()))]) == ["0A000"]
    assert rows(wire.query(NAME)) == [[b"item 1"]]
    assert rows(ask(wire, parse(sql, "t"), bind("t"), execute(), sync())) == after


@pytest.mark.parametrize("way", ["behind a write", "twice in a write"])
def test_statement_of_another_shape_is_refused_in_a_pipeline(play, way):
    """Where it cannot be held, because something before it is still unanswered."""
    sql = f"SELECT * FROM part WHERE id = {len(way)}"
    warm(play, sql)
    straight, wire = play.wire(direct=True), awake(play)
    for one in (straight, wire):
        ask(one, parse(sql, "s"), describe("S", "s"), sync())
        ask(one, parse("UPDATE item SET name = name WHERE id = 2", "w"), sync())
    widen(play, sql, way.replace(" ", "_"))
    turn_hot(play, wire, query(NAME))
    run = bind("s") + execute()
    data = (bind("w") + execute() + run if way == "behind a write" else run) + sync()
    heard = []
    for one in (straight, wire):
        one.send(data, data)
        heard.append([shown(one.until_ready()), shown(one.until_ready())])
    assert heard[1] == heard[0]
    assert errors(heard[0]) == ["0A000"] * 2


def test_statement_of_a_table_that_is_gone_fails_each_time_alike(play):
    play.sql("CREATE TABLE passing (id int PRIMARY KEY, name text NOT NULL);"
             "INSERT INTO passing VALUES (1, 'here'); SELECT pgfresh.watch('passing')")
    sql = "SELECT * FROM passing WHERE id = 1"
    warm(play, sql)
    straight, wire = play.wire(direct=True), awake(play)
    for one in (straight, wire):
        ask(one, parse(sql, "s"), describe("S", "s"), sync())
    drop(play, "passing")
    run = bind("s") + execute() + sync()
    for one in (straight, wire):
        one.send(parse(NAME, "other") + run, run)
        assert shown(one.until_ready()) == [("1", b""), ("E", "42P01"), ("Z", b"I")]
        assert shown(one.until_ready()) == [("E", "42P01"), ("Z", b"I")]
        assert rows(ask(one, bind("other"), execute(), sync())) == [[b"item 1"]]
    play.sql("CREATE TABLE passing (id int PRIMARY KEY, name text NOT NULL);"
             "INSERT INTO passing VALUES (1, 'back')")
    assert rows(ask(straight, run)) == rows(ask(wire, run)) == [[b"1", b"back"]]


def test_statements_lost_with_their_table_leave_a_block_alone(play):
    """SET makes pgfresh tell PostgreSQL of the statements it has accepted alone."""
    play.sql("CREATE TABLE leaving (id int PRIMARY KEY); SELECT pgfresh.watch('leaving')")
    sql = "SELECT * FROM leaving WHERE id = 1"
    warm(play, sql)
    wire = awake(play)
    ask(wire, parse(sql, "s"), describe("S", "s"), sync())
    drop(play, "leaving")
    turn_hot(play, wire, query(NAME))
    heard = [wire.query(sql) for sql in ("BEGIN", "SET LOCAL work_mem = '5MB'", NAME, "COMMIT")]
    assert types(sum(heard, [])) == "CZCZTDCZCZ"


@pytest.mark.parametrize("sql", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_unnamed_statement_outlives_what_forgets_the_named(play, sql):
    warm(play, NAME)

    def talk(wire):
        yield ask(wire, parse(NAME), describe("S"), sync())
        yield ask(wire, parse(sql, "x"), bind("x"), execute(), sync())
        yield ask(wire, bind(), execute(), sync())

    assert errors(same_as_direct(play, talk)) == []


FORGETTING = {"by name": query("DEALLOCATE s"), "all": query("DEALLOCATE ALL"),
              "discard": query("DISCARD ALL"),
              "extended": parse("DEALLOCATE s") + bind() + execute() + sync(),
              "several": query("SELECT 1; DEALLOCATE s")}


@pytest.mark.parametrize("how", FORGETTING)
def test_statement_accepted_here_can_be_deallocated(play, how):
    warm(play, NAME)

    def talk(wire):
        yield ask(wire, parse(NAME, "s"), sync())
        yield ask(wire, FORGETTING[how])
        yield ask(wire, bind("s"), execute(), sync())
        yield ask(wire, parse(NAME, "s"), bind("s"), execute(), sync())

    assert errors(same_as_direct(play, talk)) == ["26000"]


# -- blocks and writes --------------------------------------------------------------------------


def test_snapshot_begun_with_flush_is_seen_by_its_session_alone(play):
    number = play.item("old")
    sql = f"SELECT name FROM item WHERE id = {number}"
    wire = awake(play)

    def read():
        wire.send(parse(sql), bind(), describe(), execute(), flush())
        return rows(wire.until("C"))

    wire.send(parse("BEGIN ISOLATION LEVEL REPEATABLE READ"), bind(), execute(), flush())
    wire.until("C")
    assert read() == [[b"old"]]
    play.sql(f"UPDATE item SET name = 'new' WHERE id = {number}")
    time.sleep(0.5)  # the feed has told
    assert read() == [[b"old"]]
    assert rows(turn_hot(play, play.wire(), query(sql))) == [[b"new"]]
    assert read() == [[b"old"]]
    assert ask(wire, sync())[-1].text == "T"


@pytest.mark.parametrize("how", ["set", "at login"])
def test_repeatable_read_by_default_gets_no_hits(play, how):
    warm(play, NAME)
    if how == "set":
        wire = awake(play)
        wire.query("SET default_transaction_isolation = 'repeatable read'")
    else:
        wire = play.wire(default_transaction_isolation="repeatable read")
    with play.expect(hits=0, reason="transaction"):
        for _ in range(3):
            wire.query(NAME)
            ask(wire, parse(NAME), bind(), describe(), execute(), sync())


@pytest.mark.parametrize("first", ["SET LOCAL work_mem = '1MB'", "SAVEPOINT a"])
@pytest.mark.parametrize("put_off", [False, True])
@pytest.mark.parametrize("change", ["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                                    "SET LOCAL transaction_isolation = 'serializable'",
                                    "SET TRANSACTION DEFERRABLE"])
def test_no_other_isolation_behind_a_query(play, first, put_off, change):
    """PostgreSQL has not seen the query, which was answered from memory; it refuses as if it had."""
    warm(play, NAME)
    told = []
    for direct in (True, False):
        wire = awake(play) if not direct else play.wire(direct=True)
        wire.query("BEGIN")
        with play.expect(hits=0 if direct else 1):
            for sql in (NAME, first) if put_off else (first, NAME):  # is BEGIN still to be sent?
                wire.query(sql)
        told.append([(m.type, m.type == "E" and m.text) for m in wire.query(change)])
    assert told[0][0][0] == "E"
    assert told[0] == told[1]


@pytest.mark.parametrize("first", ["SET LOCAL search_path = other, public",
                                   "SELECT set_config('search_path', 'other, public', true)",
                                   "SET LOCAL DateStyle = 'German'", "SET LOCAL work_mem = '2MB'"])
def test_block_that_begins_with_its_settings(play, first):
    """A tenant's schema, say: it has only read, and is answered from memory the second time."""
    sql = f"SELECT name, made::date FROM item WHERE id = {9 + len(first)}"
    blocks = []
    for wire in (play.wire(direct=True), awake(play), awake(play)):
        hits = play.metrics().hits
        answers = [wire.query(text) for text in ("BEGIN", first, sql, "COMMIT")]
        blocks.append(shown([m for answer in answers for m in answer]))
    assert blocks[0] == blocks[1] == blocks[2]
    assert play.metrics().hits == hits + 1


def test_notice_longer_than_64_kb_opens_what_was_written(play):
    number = play.item("old")
    sql = f"SELECT name FROM item WHERE id = {number}"
    reader, writer = play.wire(), play.wire()
    turn_hot(play, reader, query(sql))
    writer.query("BEGIN")
    heard = writer.query("DO $$ BEGIN EXECUTE 'UPDATE item SET name = ''new'' WHERE id = "
                         f"{number} --{'x' * LONG}'; END $$")
    assert types(heard) == "CZ"
    with play.expect(hits=0, reason="write_pending"):
        assert rows(reader.query(sql)) == [[b"old"]]
    writer.query("COMMIT")
    assert rows(reader.query(sql)) == [[b"new"]]


SILENCING = {
    "set": query("SET pgfresh.inband = ''"),
    "quoted": query("SET \"pgfresh\".\"inband\" = ''"),
    "parameter": parse("SELECT set_config($1, '', false)") + bind(parameters=["pgfresh.inband"])
                 + execute() + sync(),
}


@pytest.mark.parametrize("how", SILENCING)
def test_writes_are_seen_with_notices_switched_off(play, how):
    number = play.item("old")
    sql = f"SELECT name FROM item WHERE id = {number}"
    wire, other = awake(play), awake(play)
    ask(wire, SILENCING[how])
    for turn in range(100):
        wire.query(sql)
        other.query(sql)
        wire.query(f"UPDATE item SET name = '{turn}' WHERE id = {number}")
        assert rows(other.query(sql)) == rows(wire.query(sql)) == [[b"%d" % turn]]


def test_setting_in_front_of_which_a_statement_no_longer_parses(play):
    """PostgreSQL is told of a statement that was accepted here before the settings change; that it
    no longer parses is no fault of the SET."""
    sql = "SELECT id FROM fleeting WHERE id = 1"
    play.sql("CREATE TABLE fleeting (id int PRIMARY KEY); SELECT pgfresh.watch('fleeting')")
    warm(play, sql)
    wire = awake(play)
    assert types(ask(wire, parse(sql, "p") + describe("S", "p") + sync())) == "1tTZ"
    play.sql("DROP TABLE fleeting")
    asked = parse("SET DateStyle = 'German'") + bind() + execute() + sync()
    assert types(ask(wire, asked)) == "12CSZ"
    assert types(ask(wire, bind("p") + execute() + sync())) == "EZ"


# -- what a session holds -------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_statements_defined_here_are_seen(play, protocol):
    """A hit's statement was never parsed at PostgreSQL; who asks there must find it all the same."""
    sql = "SELECT name FROM item WHERE id = 75"
    wire = play.wire()
    play.hot(play.app(), sql)
    wire.query(sql)
    wire.send(parse(sql, "mine"), bind("mine"), execute(), sync())
    wire.until_ready()
    assert rows(wire.query("SHOW pgfresh.last"))[0][0] == b"hit"
    asked = "SELECT name, statement FROM pg_prepared_statements"
    if protocol == "simple":
        got = wire.query(asked)
    else:
        wire.send(parse(asked), bind(), execute(), sync())
        got = wire.until_ready()
    assert rows(got) == [[b"mine", sql.encode()]]


@pytest.mark.parametrize("unseen", [function_call(1317, [b"abc"]), query(f"{NAME}{' ' * LONG}"),
                                    parse(f"{NAME}{' ' * LONG}") + sync()],
                         ids=["function call", "long query", "long parse"])
def test_a_name_is_taken_behind_what_is_not_looked_into(play, unseen):
    wire = awake(play)
    ask(wire, parse(NAME, "mine"), sync())
    ask(wire, unseen)
    for sql in (NAME, "BEGIN"):
        got = ask(wire, parse(sql, "mine"), sync())
        assert [m.sqlstate for m in got if m.type == "E"] == ["42P05"]
    assert types(ask(wire, bind("mine"), execute(), sync())) == "2DCZ"


def test_the_unnamed_statement_outlives_a_function_call(play):
    """… and what pgfresh says to PostgreSQL behind it."""
    wire = awake(play)
    wire.query("UPDATE item SET name = name WHERE id = 1")
    ask(wire, parse(NAME), sync())
    ask(wire, function_call(1317, [b"abc"]))
    wire.send(parse("BEGIN", "begin"), bind("begin"), execute(), sync())
    wire.until_ready()
    assert types(ask(wire, bind(), execute(), sync())) == "2DCZ"


def test_a_function_call_behind_a_skipped_parse(play):
    """What was skipped is undone: the unnamed statement is the one before it."""
    wire = awake(play)
    play.hot(play.app(), NAME)
    ask(wire, parse("SELECT 'other' FROM part WHERE id = 2"), sync())
    assert rows(ask(wire, bind(), execute(), sync())) == [[b"other"]]
    wire.send(parse("SELECT nothing FROM nowhere", "bad"), parse(NAME), sync(),
              function_call(1317, [b"abc"]))
    assert types(wire.until_ready()) == "EZ"
    assert types(wire.until_ready()) == "VZ"
    assert rows(ask(wire, bind(), execute(), sync())) == [[b"other"]]


@pytest.mark.parametrize("then", ["describe", "execute", "pipelined"])
@pytest.mark.parametrize("where", ["segment", "block"])
def test_portal_asked_about_behind_its_execute(play, where, then):
    """The entry was filled by somebody who had not asked for a description: the portal of a hit is
    made at PostgreSQL, and stands there at its end."""
    sql = f"SELECT name FROM item WHERE id = {71 if where == 'segment' else 72}"
    wire = play.wire()
    run = (parse(sql), bind(), execute())

    def asked():
        wire.send(*run, sync())
        wire.until_ready()
        return rows(wire.query("SHOW pgfresh.last"))[0][0] == b"hit"

    wait_until(asked, "a hit")
    more, answers = {"describe": ((describe("P"),), "T"),
                     "execute": ((execute(), execute()), "CC"),
                     "pipelined": ((parse("SELECT 7 FROM plain WHERE id = 1", "p"), bind("p", (), "p"),
                                    execute("p"), describe("P"), execute()), "12DCTC")}[then]
    before = play.metrics().hits
    if where == "segment":
        wire.send(*run, *more, sync())
        got = wire.until_ready()
        assert types(got) == "12DC" + answers + "Z"
    else:
        wire.query("BEGIN")
        wire.send(*run, sync())
        assert types(wire.until_ready()) == "12DCZ"
        wire.send(*more, sync())
        got = wire.until_ready()
        assert types(got) == answers + "Z"
        assert wire.query("SELECT 1")[-1].text == "T"
    assert play.metrics().hits > before
    if then != "describe":
        assert [m.text for m in got if m.type == "C"][-1] == "SELECT 0"
