"""Cancel requests and PostgreSQL's own time limits, where pgfresh has something of its own to do
between a client's message and PostgreSQL: they end what they would end without it."""
import threading
import time

import pytest

from pgfresh_proc import Pgfresh, wait_until
from pgwire import bind, execute, parse, query, rows, sync, types
from play import Play
from relay import ANSWER, REQUEST, Relay

NAME = "SELECT name FROM part WHERE id = 1"


@pytest.fixture
def behind_relay(server, database):
    with Relay(server.port) as relay, Pgfresh(
            f"postgresql://postgres@127.0.0.1:{relay.port}/postgres") as proxy:
        play = Play(server, database, proxy)
        play.hot(play.app(), NAME, seconds=15)
        yield play, relay
        play.send_home()


@pytest.mark.parametrize("place", ["outside", "block"])
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_cancel_request_that_meets_a_probe(behind_relay, place, protocol):
    """It is for the client's statement, and for that it is kept."""
    play, relay = behind_relay
    wire = play.wire()
    wire.query(NAME)
    if place == "block":
        wire.query("BEGIN")
    wire.query("SET DateStyle = 'German'")  # the next SELECT is preceded by a probe
    sql = "SELECT count(*) FROM part, pg_sleep(3)"
    before = play.metrics().value("pgfresh_settings_probes_total")
    with relay.hold(ANSWER, "1", of="client", nth=1) as answer:
        wire.send(*([query(sql)] if protocol == "simple"
                    else [parse(sql), bind(), execute(), sync()]))
        answer.wait()
        cancel = threading.Thread(target=wire.cancel)
        cancel.start()
        time.sleep(0.3)
        answer.release()
    got = wire.until_ready()
    cancel.join()
    assert play.metrics().value("pgfresh_settings_probes_total") == before + 1
    assert [m.sqlstate for m in got if m.type == "E"] == ["57014"]
    assert got[-1].text == ("E" if place == "block" else "I")


@pytest.mark.parametrize("place, protocol", [("outside", "simple"), ("block", "extended")])
def test_cancel_request_that_meets_a_probe_behind_a_lock(play, place, protocol):
    """The probe waits as long as somebody holds the lock; the client does not."""
    wire, holder = play.wire(), play.direct(autocommit=False)
    if place == "block":
        wire.query("BEGIN")
        wire.query("SET LOCAL DateStyle = 'German'")
    before = play.metrics().value("pgfresh_settings_probes_total")
    holder.execute("LOCK TABLE pg_type IN ACCESS EXCLUSIVE MODE")
    wire.send(*([query(NAME)] if protocol == "simple"
                else [parse(NAME), bind(), execute(), sync()]))
    waits = f"SELECT 1 FROM pg_locks WHERE NOT granted AND pid = {wire.key[0]}"
    wait_until(lambda: holder.execute(waits).fetchone(), "a probe that waits", 5)
    assert play.metrics().value("pgfresh_settings_probes_total") == before + 1
    release = threading.Timer(6, holder.rollback)
    release.start()
    cancel = threading.Thread(target=wire.cancel)
    cancel.start()
    got = wire.until_ready()
    in_time = release.is_alive()
    release.cancel(), release.join(), holder.rollback()
    cancel.join()
    assert in_time
    assert [m.sqlstate for m in got if m.type == "E"] == ["57014"]
    assert [m.type for m in got].count("Z") == 1
    assert got[-1].text == ("E" if place == "block" else "I")
    assert wire.query("ROLLBACK")[-1].text == "I"
    assert rows(wire.query(NAME)) == [[b"part 1"]]


def test_a_cancel_request_that_is_late(behind_relay):
    """Ours for the probe is on its way when that has ended by itself, and the client's statement,
    too. The client's own request is answered behind it, and nothing that is asked then is ended."""
    play, relay = behind_relay
    wire, holder = play.wire(), play.direct(autocommit=False)
    wire.query(NAME)
    wire.query("SET DateStyle = 'German'")
    holder.execute("LOCK TABLE pg_type IN ACCESS EXCLUSIVE MODE")
    wire.send(query(NAME))
    waits = f"SELECT 1 FROM pg_locks WHERE NOT granted AND pid = {wire.key[0]}"
    wait_until(lambda: holder.execute(waits).fetchone(), "a probe that waits", 5)
    cancel = threading.Thread(target=wire.cancel)
    with relay.hold(REQUEST, "cancel", of="cancel") as ours:
        cancel.start()
        ours.wait()
        holder.rollback()
        assert rows(wire.until_ready()) == [[b"part 1"]]
        assert cancel.is_alive()
    cancel.join(5)
    assert not cancel.is_alive()
    assert rows(wire.query("SELECT 7 FROM pg_sleep(0.2)")) == [[b"7"]]


def test_statement_timeout_of_one_who_waits(own_play):
    """Waiting for another's fetch is the statement's time, too."""
    play = own_play({"cache.single_flight_wait": "3s"})
    sql = "SELECT sum(a.id + b.id) FROM many a, many b WHERE a.id < 3000"
    leader, waiter = play.wire(), play.wire()
    play.hot(play.app(), NAME, seconds=15)
    for wire in (leader, waiter):
        wire.query(NAME)
    waiter.query("SET statement_timeout = '200ms'")
    waiter.query(NAME)
    joined = play.metrics().value("pgfresh_flights_joined_total")
    leader.send(query(sql))
    time.sleep(0.1)
    began = time.monotonic()
    got = waiter.query(sql)
    assert [m.sqlstate for m in got if m.type == "E"] == ["57014"]
    assert time.monotonic() - began < 1
    assert play.metrics().value("pgfresh_flights_joined_total") == joined + 1
    # Nobody waits for its end, which takes the longer the busier the machine is.
    play.direct().execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = %s",
                          (sql,))
    assert [m.sqlstate for m in leader.until_ready() if m.type == "E"] == ["57014"]


LONG = {
    "a parameter": [parse("SELECT set_config('statement_timeout', $1, false)") +
                    bind(parameters=[b"60s"]) + execute() + sync()],
    "a form of its own": [query("SET statement_timeout = '60 s'")],
    "among others": [query("SET statement_timeout = '60s'; SELECT 1")],
    "what it was": [query("SET statement_timeout = '20ms'"), query("RESET statement_timeout")]}


@pytest.mark.parametrize("long", LONG)
def test_statement_timeout_that_is_long_however_it_is_said(play, long):
    """Who has one waits for another's fetch as others do."""
    leader, waiter = play.wire(), play.wire(statement_timeout="60s")
    holder = play.direct(autocommit=False)
    leader.query(NAME)
    for said in LONG[long]:
        waiter.send(said)
        waiter.until_ready()
    waiter.query(NAME)
    joined = play.metrics().value("pgfresh_flights_joined_total")
    holder.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
    sql = f"SELECT count(*) FROM item WHERE name <> '{long}'"
    leader.send(query(sql))
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'item'::regclass"
    wait_until(lambda: holder.execute(waits).fetchone() == (1,), "the leader", 5)
    waiter.send(query(sql))
    wait_until(lambda: play.metrics().value("pgfresh_flights_joined_total") > joined, "the other")
    time.sleep(0.05)
    alone = holder.execute(waits).fetchone() == (1,)
    holder.rollback()
    assert rows(leader.until_ready()) == rows(waiter.until_ready())
    assert alone
    assert rows(waiter.query("SHOW pgfresh.last"))[0][0] == b"hit"


def test_a_block_that_stays_open_is_ended(play):
    """Its BEGIN was answered by pgfresh, but PostgreSQL hears of it."""
    wire = play.wire()
    wire.query("SET idle_in_transaction_session_timeout = '300ms'")
    wait_until(lambda: wire.query(NAME) and rows(wire.query("SHOW pgfresh.last"))[0][0] == b"hit",
               "a hit")
    wire.query("BEGIN")
    wire.query(NAME)
    assert rows(wire.query("SHOW pgfresh.last"))[0][0] == b"hit"
    got = wire.until_closed()
    assert [m.sqlstate for m in got if m.type == "E"] == ["25P03"]


IN_USE = {"outside a block": ["SET idle_session_timeout = '600ms'"],
          "in a block": ["BEGIN", "SET LOCAL idle_in_transaction_session_timeout = '600ms'",
                         "SELECT pg_current_xact_id()"],
          "by set_config()": ["SELECT set_config('idle_session_timeout', '600', false)"]}


@pytest.mark.parametrize("place", IN_USE)
def test_a_session_answered_from_memory_is_not_idle(play, place):
    """PostgreSQL, which ends idle sessions, must see that it is in use."""
    wire = play.wire()
    for sql in IN_USE[place]:
        wire.query(sql)
    hits = play.metrics().hits
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert types(wire.query(NAME))[:3] == "TDC"
        time.sleep(0.01)
    assert play.metrics().hits > hits + 20


def test_a_block_that_stays_open_goes_on(play):
    """Begun at PostgreSQL meanwhile, it is the same block to the client."""
    wire = play.wire()
    number = play.item("old")
    wait_until(lambda: wire.query(NAME) and rows(wire.query("SHOW pgfresh.last"))[0][0] == b"hit",
               "a hit")
    wire.query("BEGIN")
    wire.query(NAME)
    state = ("SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND pid = "
             f"{wire.key[0]}")
    wait_until(lambda: play.sql(state), "PostgreSQL knows of the block", 5)
    wire.query(NAME)
    assert rows(wire.query("SHOW pgfresh.last"))[0][0] == b"hit"
    assert wire.query(f"UPDATE item SET name = 'new' WHERE id = {number}")[-1].text == "T"
    assert wire.query("ROLLBACK")[-1].text == "I"
    assert play.sql(f"SELECT name FROM item WHERE id = {number}") == "old"
