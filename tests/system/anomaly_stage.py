"""The stage of the plays of anomalies (test_anomalies.py, test_anomalies_writers.py): a real
PostgreSQL, a relay (relay.py) before it that holds the one message on which an anomaly hangs, and
pgfresh. The counters say that the window was really hit.

Most plays have a bound of 8 s, so that what is seen at once is seen because of the protocol, and
not because a lease ran out; those about the lease have their own.
"""
import contextlib

import pytest

from pgfresh_proc import Pgfresh, wait_until
from pgwire import bind, describe, execute, parse, query, rows, sync
from play import Play
from relay import ANSWER, Relay

LONG_S = 8  # a start among other connections waits half of it
NAME = "SELECT name FROM item WHERE id = {}"


@pytest.fixture(scope="module")
def upstream(server):
    with Relay(server.port) as relay:
        yield relay


@pytest.fixture(scope="module")
def publish():
    """Who tells of what comes through pgfresh: as by default."""
    return None


def settings_of(staleness, publish):
    chosen = {} if publish is None else {"freshness.publish": publish}
    return {"freshness.staleness": staleness, **chosen}


@pytest.fixture(scope="module")
def proxy(server, upstream, publish):
    with Pgfresh(url_of(upstream), settings_of(f"{LONG_S}s", publish)) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_held(upstream):
    yield
    upstream.speak()
    assert upstream.rules == []


def url_of(relay, database="postgres"):
    return f"postgresql://postgres@127.0.0.1:{relay.port}/{database}"


@contextlib.contextmanager
def proxies(server, database, default_publish):
    """A factory of proxies, each behind a relay of its own; gives the stage and the relay."""
    with contextlib.ExitStack() as stack:
        def make(staleness, publish=default_publish):
            relay = stack.enter_context(Relay(server.port))
            running = stack.enter_context(
                Pgfresh(url_of(relay, database), settings_of(staleness, publish)))
            stage = Play(server, database, running)
            stack.callback(stage.send_home)
            stage.hot(stage.app(), "SELECT name FROM part WHERE id = 1", seconds=15)
            return stage, relay

        yield make


@pytest.fixture
def another(server, database, publish):
    """The factory of further proxies in front of the play's database."""
    with proxies(server, database, publish) as make:
        yield make


@pytest.fixture
def alone(server, publish):
    """The factory for a database that has no other proxy: one that is given up on a busy machine
    takes the catalog of all others with it for a while."""
    database = server.create_database("alone", template="stage")
    with proxies(server, database, publish) as make:
        yield make
    server.psql(f"DROP DATABASE {database} WITH (FORCE)")


# -- what the plays are made of -------------------------------------------------------------------


def ask_simple(sql):
    return query(sql)


def ask_extended(sql):
    return parse(sql) + bind() + describe() + execute() + sync()


def say(wire, data):
    wire.send(data)
    return rows(wire.until_ready())


def awake(play):
    """A raw session whose settings are known: its next SELECT is looked up."""
    wire = play.wire()

    def warm():
        before = play.metrics().hits
        wire.query("SELECT name FROM part WHERE id = 1")
        return play.metrics().hits > before

    wait_until(warm, "the session gets hits", 5)
    return wire


def events(play):
    return play.metrics().value("pgfresh_feed_events_total", database=play.database)


def open_slots(play):
    return play.metrics().value("pgfresh_feed_open_slots", database=play.database)


@contextlib.contextmanager
def an_event(play):
    """Something is written within; afterwards the feed has heard of it."""
    before = events(play)
    yield
    wait_until(lambda: events(play) > before, "the event has come")


@contextlib.contextmanager
def deaf(relay, of="feed"):
    """What PostgreSQL says to pgfresh's feed stays on the way."""
    assert relay.silence(of, (ANSWER,)), f"there is no {of}"
    try:
        yield
    finally:
        relay.speak(of)


def rename(number, name="new"):
    return f"UPDATE item SET name = '{name}' WHERE id = {number}"
