"""The protocol byte by byte. Each conversation is held with PostgreSQL and then three times with
pgfresh, so that its reads are cold first and hot at the end: every message must be the same."""
import socket
import struct
import time

import pytest

from pgfresh_proc import wait_until
from pgwire import (GSSENC_REQUEST, PROTOCOL_3_0, SSL_REQUEST, Wire, bind, close, copy_data,
                    copy_done, copy_fail, describe, execute, flush, function_call, message, packet,
                    parse, query, rows, startup, sync, terminate, types)

NAME = "SELECT name FROM item WHERE id = 1"
BY_ID = "SELECT id, name, price FROM item WHERE id = $1"
RENAME = "UPDATE item SET name = name WHERE id = 3"
LIST = "SELECT id FROM item WHERE id <= 9 ORDER BY id"
INT8_ABS, INT4_ABS = 1230, 1251


def asked(sql, *parameters, **options):
    """Parse, Bind, Describe, Execute of the unnamed statement."""
    return parse(sql) + bind(parameters=parameters, **options) + describe() + execute()


# name → steps. A step is sent in one write; then the answers are read up to as many ReadyForQuery
# as it has Query, Sync and FunctionCall messages, or as the second element of a pair says.
CONVERSATIONS = {
    "simple": [query(NAME), query(NAME + ";"), query(NAME + " AND true")],
    "empty": [query(""), query(" ; "), query("-- nothing"), parse("") + bind() + describe()
              + execute() + sync()],
    "several statements": [query(f"{NAME}; {NAME}; SELECT 1"), query(f"{NAME}; SELECT 1/0; {NAME}"),
                           query(f"{RENAME}; {NAME}")],
    "unnamed": [asked(BY_ID, "1") + sync(), asked(BY_ID, "2") + sync(),
                asked(BY_ID, None) + sync()],
    "binary": [asked(BY_ID, struct.pack("!i", 1), formats=[1], result_formats=[1]) + sync(),
               asked(BY_ID, "1", result_formats=[0, 0, 1]) + sync(),
               asked(BY_ID, "1", result_formats=[1, 0]) + sync()],
    "without Describe": [parse(NAME) + bind() + execute() + sync()],
    "named": [parse(BY_ID, "s") + sync(), bind("s", ["1"]) + execute() + sync(),
              describe("S", "s") + sync(), bind("s", ["2"]) + describe() + execute() + sync(),
              close("S", "s") + sync(), bind("s", ["1"]) + execute() + sync()],
    "named twice": [parse(NAME, "s") + sync(), parse(NAME, "s") + sync(),
                    close("S", "s") + parse(LIST, "s") + bind("s") + execute() + sync()],
    "named and described in one segment": [
        parse(BY_ID + " AND id < 4", "s") + describe("S", "s") + bind("s", ["1"]) + execute()
        + sync(), bind("s", ["2"]) + execute() + sync()],
    "two kinds of Describe": [
        parse(BY_ID + " AND id < 5", "s") + describe("S", "s")
        + bind("s", ["1"], result_formats=[1]) + describe() + execute() + sync(),
        parse(BY_ID + " AND id < 5") + describe("S") + sync()],
    "two statements described": [
        parse(BY_ID + " AND id < 6", "s") + describe("S", "s") + parse(NAME + " AND id < 6", "t")
        + describe("S", "t") + bind("t") + execute() + sync(),
        parse(BY_ID + " AND id < 6") + describe("S") + sync()],
    "declared type": [parse("SELECT name FROM item WHERE id = $1", oids=[20]) + describe("S")
                      + bind(parameters=["1"]) + execute() + sync()],
    "bad value": [asked(BY_ID, "one") + sync(), asked(BY_ID, "1", "2") + sync(),
                  asked(BY_ID, b"\0\0\1", formats=[1]) + sync(), query(NAME)],
    "unnamed dies by Query": [parse(NAME) + sync(), query(NAME), bind() + execute() + sync()],
    "unnamed lives on": [parse(NAME) + sync(), bind() + execute() + sync(),
                         bind() + execute() + sync()],
    "portal dies at Sync": [parse(NAME) + bind() + sync(), execute() + sync()],
    "portal runs once": [parse(NAME) + bind() + execute() + execute() + sync()],
    "row limit": [parse(LIST) + bind() + execute(max_rows=3) + execute(max_rows=3)
                  + execute(max_rows=4) + execute() + sync(),
                  parse(LIST) + bind() + execute(max_rows=9) + execute(max_rows=9) + sync(),
                  parse(NAME) + bind() + execute(max_rows=5) + sync()],
    "two portals": [query("BEGIN"), parse(LIST, "s") + bind("s", portal="a") + bind("s", portal="b")
                    + execute("a", 2) + execute("b", 3) + sync(), execute("a", 3) + sync(),
                    close("P", "a") + execute("b") + sync(), execute("a") + sync(),
                    query("ROLLBACK")],
    "close of the unknown": [close("S", "none") + close("P", "none") + sync()],
    "describe of the unknown": [describe("S", "none") + sync(), describe("P", "none") + sync()],
    "several Syncs": [asked(BY_ID, "1") + sync() + asked(BY_ID, "2") + sync() + sync()
                      + asked(NAME) + sync()],
    "queries in one write": [query(NAME) + query(LIST) + query("SELECT 1/0") + query(NAME)],
    "error ends its segment": [asked(NAME) + asked("SELECT 1/0") + asked(NAME) + sync()
                               + asked(NAME) + sync(),
                               parse("nonsense") + bind() + execute() + asked(NAME) + sync(),
                               parse("SELECT * FROM missing") + describe("S") + sync()],
    "write, then read": [asked(RENAME) + asked(NAME) + sync() + asked(NAME) + sync()],
    "read, write, read": [asked(NAME) + asked(RENAME) + asked(NAME) + sync()],
    "write and error": [asked(RENAME) + asked("SELECT 1/0") + sync() + asked(NAME) + sync()],
    "block": [query("BEGIN"), query(NAME), asked(BY_ID, "1") + sync(), query("COMMIT")],
    "block in one write": [query("BEGIN") + query(NAME) + query("COMMIT") + query(NAME)],
    "extended block": [asked("BEGIN") + sync(), asked(BY_ID, "1") + sync(), asked("COMMIT") + sync()],
    "pipelined block": [asked("BEGIN") + asked(BY_ID, "1") + asked("COMMIT") + sync()],
    "failed block": [query("BEGIN"), query("SELECT 1/0"), query(NAME), asked(NAME) + sync(),
                     query("COMMIT")],
    "failed empty block": [query("BEGIN"), asked("nonsense") + sync(), query(NAME),
                           query("ROLLBACK")],
    "block commands out of place": [query("COMMIT"), query("ROLLBACK"), query("BEGIN"),
                                    query("BEGIN"), query("SAVEPOINT a"), query(NAME),
                                    query("ROLLBACK TO a"), query("COMMIT"), query("SAVEPOINT a")],
    "begin inside a Query": [query(f"{NAME}; BEGIN; {NAME}"), query(NAME), query("END")],
    "serializable": [query("BEGIN ISOLATION LEVEL SERIALIZABLE"), query(NAME), query("COMMIT")],
    "chain": [query("BEGIN"), query("COMMIT AND CHAIN"), query(NAME), query("ROLLBACK")],
    "copy": [query("COPY other.item (id, name) FROM stdin") + copy_data(b"100\tx\n") + copy_done(),
             query("COPY plain FROM stdin") + copy_fail("enough"),
             query("COPY (SELECT 1 UNION ALL SELECT 2) TO stdout"), query(NAME)],
    "extended copy": [(parse("COPY plain FROM stdin") + bind() + execute() + copy_data(b"x\n")
                       + copy_done() + sync(), 1), query(NAME)],
    "function call": [function_call(INT4_ABS, [struct.pack("!i", -5)], [1], 1),
                      function_call(INT8_ABS, ["-5"], [0], 0), function_call(1, []), query(NAME)],
    "prepared by SQL": [query("PREPARE q AS " + NAME), bind("q") + describe() + execute() + sync(),
                        query("EXECUTE q"), query("DEALLOCATE q"), bind("q") + execute() + sync()],
    "name taken by SQL": [query("PREPARE s AS " + LIST),
                          parse(NAME, "s") + describe("S", "s") + sync(),
                          bind("s") + execute() + sync(), query("DEALLOCATE ALL"),
                          parse(NAME, "s") + describe("S", "s") + sync()],
    "deallocate": [parse(NAME, "s") + sync(), query("DEALLOCATE s"), bind("s") + execute() + sync(),
                   parse(NAME, "s") + sync(), query("DEALLOCATE ALL"),
                   bind("s") + execute() + sync()],
    "discard": [parse(NAME, "s") + sync(), query("DISCARD ALL"), bind("s") + execute() + sync()],
    "settings": [query("SET DateStyle = 'German'"), query("SELECT d FROM kinds"),
                 query("RESET DateStyle"), query("SELECT d FROM kinds"),
                 query("SET search_path = other"), query(NAME), asked(NAME) + sync()],
    "notices": [query("DO $$ BEGIN RAISE NOTICE 'x'; END $$"), query(NAME)],
    "no rows": [query("SELECT name FROM item WHERE id = -1"), asked(BY_ID, "-1") + sync()],
    "no columns": [query("SELECT FROM item WHERE id <= 3"), asked("SELECT FROM item") + sync()],
    "names in a pipeline": [
        parse("SELECT 1", "s") + sync(),
        execute("none") + close("S", "s") + parse("SELECT 2", "s") + sync() + close("S", "s")
        + parse("SELECT $1::int", "s") + describe("S", "s") + sync(),
        bind("s", ["3"]) + execute() + sync(), bind("s", ["x"]) + execute() + sync(),
        execute("none") + parse("SELECT 4", "t") + sync() + parse("SELECT 5", "t") + sync(),
        parse("SELECT 6", "t") + sync(), bind("t") + execute() + sync(),
        parse("SELECT $1::int") + sync(),
        execute("none") + parse("SELECT 7") + sync() + execute("none") + close("P", "p") + sync(),
        bind(parameters=["8"]) + execute() + sync(),
        parse("nonsense", "t") + sync(), parse(NAME, "t") + sync(), bind("t") + execute() + sync()],
    "Bind that is refused": [
        parse(NAME) + bind() + execute() + bind(formats=(0, 0, 0)) + sync(),
        parse(NAME, "b") + bind("b") + execute() + bind("b", formats=(0, 0)) + sync(),
        bind("b", ["1"]) + sync(), bind("b", formats=(0, 0)) + sync(), close("S", "b") + sync(),
        bind("b", formats=(0, 0)) + sync()],
    "isolation behind a query": [
        query("BEGIN"), query(NAME), query("BEGIN ISOLATION LEVEL REPEATABLE READ"),
        query("ROLLBACK"), query("BEGIN"), query(NAME),
        query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), query("ROLLBACK"), query("BEGIN"),
        query(NAME), asked("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE") + sync(),
        query("ROLLBACK"), query("BEGIN"), query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
        query(NAME), query("COMMIT"), query("BEGIN"), query(NAME), query("SELECT 1; SELECT 2"),
        query("COMMIT")],
    "not UTF-8": [query(b"SELECT '\xff'"), asked("SELECT $1::text", b"\xff") + sync(), query(NAME)],
}


def ready_count(data):
    """How many ReadyForQuery the messages in `data` will cause."""
    count, at = 0, 0
    while at < len(data):
        count += data[at:at + 1] in b"QSF"
        at += 1 + struct.unpack_from("!I", data, at + 1)[0]
    return count


def hold(wire, steps):
    """The (type, body) of every message that came, step by step."""
    heard = []
    for step in steps:
        data, count = step if isinstance(step, tuple) else (step, ready_count(step))
        wire.send(data)
        heard.append([(m.type, m.body) for _ in range(count) for m in wire.until_ready()])
    return heard


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation(play, name):
    steps = CONVERSATIONS[name]
    straight = hold(play.wire(direct=True), steps)
    play.sql("DELETE FROM other.item WHERE id = 100")
    for turn in ("cold", "warm", "hot"):
        through = hold(play.wire(), steps)
        play.sql("DELETE FROM other.item WHERE id = 100")
        assert through == straight, turn
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["simple", "unnamed", "several Syncs", "error ends its segment",
                                  "block", "copy"])
def test_conversation_in_single_bytes(play, name):
    """The same, each message cut into single bytes."""
    steps = [step for step in CONVERSATIONS[name] if isinstance(step, bytes)]
    straight = hold(play.wire(direct=True), steps)
    play.sql("DELETE FROM other.item WHERE id = 100")
    wire = play.wire()
    for step, expected in zip(steps, straight):
        wire.send_slowly(step)
        got = [(m.type, m.body) for _ in range(ready_count(step)) for m in wire.until_ready()]
        assert got == expected
    play.sql("DELETE FROM other.item WHERE id = 100")


# -- Flush --------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", ["cold", "hot"])
def test_flush_brings_the_answer_without_sync(play, turn):
    wire = play.wire()
    if turn == "hot":
        play.hot(play.app(), NAME)
    wire.send(parse(NAME, "s"), flush())
    assert wire.receive().type == "1"
    wire.send(bind("s"), describe(), flush())
    assert [wire.receive().type for _ in "2T"] == ["2", "T"]
    wire.send(execute(), flush())
    assert [wire.receive().type for _ in "DC"] == ["D", "C"]
    assert wire.silent()
    wire.send(sync())
    assert wire.receive().type == "Z"


def test_parse_error_surfaces_at_parse(play):
    wire = play.wire()
    wire.send(parse("SELECT * FROM missing"), flush())
    error = wire.receive()
    assert (error.type, error.sqlstate) == ("E", "42P01")
    wire.send(bind(), execute(), flush())
    assert wire.silent()
    wire.send(sync())
    assert wire.receive().type == "Z"


def test_answers_do_not_wait_for_a_later_segment(play):
    wire = play.wire()
    wire.send(query(NAME), query("SELECT pg_sleep(1)"))
    assert types(wire.until_ready(timeout=0.7)) == "TDCZ"
    assert types(wire.until_ready()) == "TDCZ"


# -- cancel -------------------------------------------------------------------------------------


def test_cancel_by_key(play):
    wire = play.wire()
    wire.send(query("SELECT pg_sleep(30)"))
    time.sleep(0.2)
    wire.cancel()
    assert [m.sqlstate for m in wire.until_ready() if m.type == "E"] == ["57014"]


@pytest.mark.parametrize("change", [(0, 1), (1, 0), (77, -77)])
def test_wrong_key_cancels_nobody(play, change):
    wire, other = play.wire(), play.wire()
    other.send(query("SELECT pg_sleep(0.7)"))
    wire.send(query("SELECT pg_sleep(0.7)"))
    time.sleep(0.2)
    pid, secret = wire.key
    wire.cancel(((pid + change[0]) & 0xffffffff, (secret + change[1]) & 0xffffffff))
    assert "E" not in types(wire.until_ready())
    assert "E" not in types(other.until_ready())


def test_cancel_of_an_idle_session_hits_no_later_query(play):
    wire = play.wire()
    wire.cancel()
    time.sleep(0.1)
    assert "E" not in types(wire.query("SELECT pg_sleep(0.3)"))


# -- the startup phase --------------------------------------------------------------------------


def knock(play):
    return play.keep(Wire(port=play.proxy.port))


@pytest.mark.parametrize("code", [SSL_REQUEST, GSSENC_REQUEST])
def test_encryption_is_declined_and_login_goes_on(play, code):
    wire = knock(play)
    assert wire.ask_encryption(code) == b"N"
    wire.login("postgres", play.database)
    assert rows(wire.query("SELECT 1")) == [[b"1"]]


def test_both_encryptions_asked_for(play):
    wire = knock(play)
    assert wire.ask_encryption(GSSENC_REQUEST) == b"N"
    assert wire.ask_encryption(SSL_REQUEST) == b"N"
    wire.login("postgres", play.database)


def test_bytes_behind_an_ssl_request_end_the_connection(play):
    """They could have been put there by somebody in the middle."""
    wire = knock(play)
    wire.send(packet(SSL_REQUEST), startup({"user": "postgres", "database": play.database}))
    assert "Z" not in types([m for m in _rest(wire) if m.type == "Z"])


def _rest(wire):
    try:
        first = wire.read(1)
        assert first in b"NE"
        return wire.until_closed()
    except ConnectionError:
        return []


@pytest.mark.parametrize("version", [PROTOCOL_3_0 + 2, PROTOCOL_3_0 + 9999])
@pytest.mark.parametrize("options", [{}, {"_pq_.unheard_of": "1", "_pq_.other": "x"}])
def test_newer_minor_version_is_negotiated(play, version, options):
    def first_words(port):
        wire = play.keep(Wire(port=port))
        wire.login("postgres", play.database, parameters=options, version=version)
        assert rows(wire.query("SELECT 1")) == [[b"1"]]
        return [(m.type, m.body) for m in wire.login_messages if m.type in "vR"]

    assert first_words(play.proxy.port) == first_words(play.server.port)


def test_unknown_protocol_option_is_refused_kindly(play):
    wire = knock(play)
    wire.login("postgres", play.database, parameters={"_pq_.unheard_of": "1"})
    assert any(m.type == "v" and b"_pq_.unheard_of" in m.body for m in wire.login_messages)


def test_same_parameters_are_reported_at_login(play):
    """All but the process id and secret, which are pgfresh's own."""
    straight = play.wire(direct=True, application_name="me", DateStyle="German")
    through = play.wire(application_name="me", DateStyle="German")
    assert through.parameters == straight.parameters
    assert types(through.login_messages) == types(straight.login_messages)


BROKEN_BEFORE_LOGIN = {
    "http": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "zeros": bytes(64),
    "huge length": b"\x7f\xff\xff\xff\x00\x03\x00\x00",
    "tiny length": b"\x00\x00\x00\x04",
    "version 2": packet(2 << 16, bytes(200)),
    "no user": startup({"database": "x"}),
    "no end": packet(PROTOCOL_3_0, b"user\0postgres"),
    "odd pairs": packet(PROTOCOL_3_0, b"user\0postgres\0database\0\0"),
    "cancel too short": packet(80877102, b"\0\0"),
}
BROKEN_AFTER_LOGIN = {
    "unknown type": message("?", b"abc"),
    "length below 4": b"Q\x00\x00\x00\x03",
    "negative length": b"Q\xff\xff\xff\xff",
    "endless query": b"Q\x7f\xff\xff\xff",
    "query without end": message("Q", b"SELECT 1"),
    "bind cut short": parse("SELECT $1::int") + message("B", b"\0\0\0\1\0\0\0\1\0\0") + sync(),
    "bind beyond its end": parse("SELECT 1") + message("B", b"\0\0\0\0\xff\xff") + sync(),
    "parse without end": message("P", b"abc") + sync(),
    "describe of nothing": message("D", b"") + sync(),
    "describe of a thing": message("D", b"Xa\0") + sync(),
    "http": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN_BEFORE_LOGIN)
def test_broken_startup_is_refused_and_others_live_on(play, name):
    other, wire = play.wire(), knock(play)
    wire.send(BROKEN_BEFORE_LOGIN[name])
    for got in wire.until_closed():
        assert got.type == "E" and got.sqlstate in ("08P01", "0A000", "28000"), got.fields
    assert rows(other.query("SELECT 1")) == [[b"1"]]


@pytest.mark.parametrize("name", BROKEN_AFTER_LOGIN)
def test_broken_message_is_an_error_and_others_live_on(play, name):
    """08P01, by whomever; PostgreSQL itself goes on after a few of them, then so may we."""
    other, wire = play.wire(), play.wire()
    wire.send(BROKEN_AFTER_LOGIN[name])
    got = wire.until("EZ")
    while got[-1].type != "E":
        got += wire.until("EZ")
    assert got[-1].sqlstate in ("08P01", "42601", "22P03"), got[-1].fields
    assert rows(other.query("SELECT 1")) == [[b"1"]]


def test_client_that_vanishes_leaves_nothing_behind(play):
    wire = play.wire()
    before = play.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    gone = play.wire()
    gone.send(query("SELECT 1"))
    gone.abort()
    wait_until(lambda: play.sql("SELECT count(*) FROM pg_stat_activity "
                                "WHERE backend_type = 'client backend'") <= before,
               "its server connection is closed")
    assert rows(wire.query("SELECT 1")) == [[b"1"]]


# -- half-closed ----------------------------------------------------------------------------------


HALF = {"a query": ((query("SELECT 1 FROM pg_sleep(0.2)"),), "TDCZ"),
        "a hit": ((query("SELECT name FROM part WHERE id = 1"),), "TDCZ"),
        "a pipeline": ((parse("SELECT 1 FROM pg_sleep(0.2)"), bind(), execute(), sync(),
                        query("SELECT 2")), "12DCZTDCZ"),
        "a block": ((query("BEGIN"), query("UPDATE item SET name = name WHERE id = 1"),
                     query("SELECT pg_sleep(0.1)")), "CZCZTDCZ"),
        "a flush": ((parse("SELECT 1"), bind(), execute(), flush()), "12DC"),
        "no sync": ((query("SELECT 1"), parse("SELECT 2"), bind(), execute()), "TDCZ"),
        "half a message": ((query("SELECT 1"), query("SELECT 2")[:-3]), "TDCZ"),
        "too soon": ((query("COPY plain FROM STDIN"),), "GEE"),
        "nothing": ((), "")}


@pytest.mark.parametrize("said", HALF)
def test_half_closed_client(play, said):
    """PostgreSQL answers what came before the end, and so does pgfresh."""
    messages, answers = HALF[said]
    for direct in (True, False):
        wire = play.wire(direct=direct)
        wire.query("SELECT name FROM part WHERE id = 1")
        wire.send(*messages)
        wire.socket.shutdown(socket.SHUT_WR)
        assert types(wire.until_closed()) == answers, direct
    wait_until(lambda: play.sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'"
                                f" AND datname = '{play.database}'") == "0", "all have gone")


@pytest.mark.parametrize("said", [
    "a query", "a hit", "a pipeline", "a block", "too soon", "nothing"])
def test_terminate_behind_a_query(play, said):
    """What came before it is carried out and answered; what comes behind it is not read."""
    messages, answers = HALF[said]
    for direct in (True, False):
        wire = play.wire(direct=direct)
        wire.query("SELECT name FROM part WHERE id = 1")
        wire.send(*messages, terminate(), query("SELECT 3"))
        assert types(wire.until_closed()) == answers, direct


@pytest.mark.parametrize("goodbye", [True, False])
@pytest.mark.parametrize("table", ["item", "plain"])
def test_sent_and_gone(play, table, goodbye):
    """PQsendQuery and PQfinish, or a crash: PostgreSQL finishes it, though nobody hears of it."""
    write = (f"INSERT INTO {table}(id, name) SELECT {{}}, '{{}}' FROM pg_sleep(0.1);"
             f"SELECT pg_sleep(0.1); UPDATE {table} SET name = name WHERE name LIKE 'gone%';"
             "SELECT pg_sleep(0.1)")
    for direct in (True, False):
        row = 70_000_000 + 2 * goodbye + direct
        name = f"gone {table} {goodbye} {direct}"
        wire = play.wire(direct=direct)
        wire.send(query(write.format(row, name)), terminate() if goodbye else b"")
        wire.socket.close()
        wait_until(lambda: play.sql(f"SELECT count(*) FROM {table} WHERE name = '{name}'") == "1",
                   f"its row, direct: {direct}")
    wait_until(lambda: play.sql("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                                f" AND query LIKE '%gone {table}%' AND pid <> pg_backend_pid()")
               == "0", "all have gone")


@pytest.mark.parametrize("how", ["rst", "fin", "goodbye, then rst"])
def test_client_that_goes_is_missed_by_a_busy_postgres(play, how):
    """client_connection_check_interval: PostgreSQL ends what nobody waits for any more."""
    for direct in (True, False):
        wire = play.wire(direct=direct)
        wire.query("SET client_connection_check_interval = '100ms'")
        mark = f"missed {how} {direct}"
        running = (f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{mark}%' "
                   "AND state = 'active' AND pid <> pg_backend_pid()")
        wire.send(query("UPDATE item SET name = name FROM pg_sleep(30) AS slept "
                        f"WHERE id = 1 /* {mark} */"))
        wait_until(lambda: play.sql(running) == "1", "it runs")
        if how == "fin":
            wire.socket.shutdown(socket.SHUT_WR)
        else:
            if how != "rst":
                wire.send(terminate())
            wire.reset()
        wait_until(lambda: play.sql(running) == "0", f"it has been ended, direct: {direct}")
