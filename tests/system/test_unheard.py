"""Commits that pgfresh does not hear of when they happen: the client has gone meanwhile, or does not
read, or the connection to PostgreSQL has gone; or PostgreSQL goes on behind them in the same message.
What a session carried reaches everybody all the same (freshness.md, rules 14 and 15)."""
import contextlib
import time

import pytest

from pgfresh_proc import Pgfresh, wait_until
from pgwire import bind, execute, parse, query, sync
from play import STALENESS_S, Play, one
from relay import ANSWER, Relay
from test_publish import NAME, PROXY, make_carry, second_proxy

UPDATE = "UPDATE item SET name = 'new' WHERE id = {}"


@pytest.fixture
def play(own_play):
    return own_play(PROXY)


def wire_that_carries(play):
    """A raw session whose next write carries."""
    wire, scratch = play.wire(), play.item("scratch")

    def carried():
        before = play.metrics().value("pgfresh_carried_total")
        wire.query(f"UPDATE item SET name = 'x' WHERE id = {scratch}")
        return play.metrics().value("pgfresh_carried_total") > before

    wait_until(carried, "a session that carries")
    return wire


def sessions_of_feed(play):
    return play.metrics().value("pgfresh_feed_sessions_total", database=play.database)


@contextlib.contextmanager
def locked(play, row):
    """Whoever writes the row waits."""
    keeper = play.direct()
    keeper.execute("BEGIN")
    keeper.execute(f"SELECT FROM item WHERE id = {row} FOR UPDATE")
    yield
    keeper.execute("COMMIT")


def somebody_waits(play):
    return play.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                    f"AND datname = '{play.database}'").strip() == "1"


def committed(play, row, name="new"):
    return wait_until(lambda: play.sql(NAME.format(row)).strip() == name and time.monotonic(),
                      "a commit", 5)


def all_see(readers, row, since, name="new"):
    """Within the staleness, and from then on."""
    time.sleep(max(0.0, since + STALENESS_S - time.monotonic()))
    for reader in readers * 2:
        assert one(reader, NAME.format(row)) == name


def hot_everywhere(play, other, row):
    """A reader at each proxy, with the row's answer in memory."""
    near, far = play.app(), other.app()
    play.hot(near, NAME.format(row), seconds=15)
    other.hot(far, NAME.format(row), seconds=15)
    return [near, far]


def play_unheard(play, other, goes, cut=lambda: None):
    """A write waits for a lock when its session `goes`; it is carried out later, and then the
    connection is `cut`. Returns how often the feed began anew."""
    row = play.item("old")
    near, far = hot_everywhere(play, other, row)
    time.sleep(1.5 * STALENESS_S)  # what runs from now on was not noted at the start
    wire = wire_that_carries(play)
    before = sessions_of_feed(play)
    with locked(play, row):
        wire.send(query(UPDATE.format(row)))
        wait_until(lambda: somebody_waits(play), "a write that waits")
        goes(wire)
        time.sleep(2.5 * STALENESS_S)
        play.hot(near, NAME.format(row), seconds=15)
        other.hot(far, NAME.format(row), seconds=15)
    since = committed(play, row)
    cut()
    all_see([near, far], row, since)
    return sessions_of_feed(play) - before


@pytest.mark.parametrize("word", ["Terminate", "none"])
def test_a_client_that_leaves_in_a_write(play, word):
    """PostgreSQL finishes it, and pgfresh hears it out: nothing else is forgotten."""
    with second_proxy(play) as other:
        assert play_unheard(
            play, other, lambda wire: wire.abort() if word == "none" else wire.close()) == 0


@contextlib.contextmanager
def behind_a_relay(server, database):
    """A play whose proxy is behind the relay, and a second proxy that is not."""
    with Relay(server.port) as relay:
        url = f"postgresql://postgres@127.0.0.1:{relay.port}/postgres"
        with Pgfresh(url, PROXY) as running:
            play = Play(server, database, running)
            with second_proxy(play) as other:
                yield play, other, relay
            play.send_home()


def test_a_connection_that_is_lost_with_a_commit(server, database):
    """What PostgreSQL says of it does not arrive any more: whoever may have old answers forgets."""
    with behind_a_relay(server, database) as (play, other, relay):
        links = []

        def goes(_):
            links.append(relay.of_kind("client")[-1])
            links[0].speaking[ANSWER].clear()

        assert play_unheard(play, other, goes, lambda: links[0].cut("rst")) == 1


def test_a_word_that_is_late(server, database):
    """PostgreSQL has committed, and on that connection alone nothing arrives: everybody forgets,
    once, and nobody else's feed begins anew."""
    with behind_a_relay(server, database) as (play, other, relay):
        row = play.item("old")
        readers = hot_everywhere(play, other, row)
        wire = wire_that_carries(play)
        link = relay.of_kind("client")[-1]
        feeds = sessions_of_feed(play)
        link.speaking[ANSWER].clear()
        wire.send(query(UPDATE.format(row)))
        all_see(readers, row, committed(play, row))
        time.sleep(STALENESS_S)
        assert play.metrics().value("pgfresh_feed_commits_late_total", database=play.database) == 1
        assert sessions_of_feed(play) == feeds
        link.speaking[ANSWER].set()
        wire.until_ready(10)
        play.hot(readers[0], NAME.format(row), seconds=15)


SLOW = "SELECT 1 FROM pg_sleep(4)"
BEHIND = {
    "a query": lambda row: [query(UPDATE.format(row)), query(SLOW)],
    "a segment": lambda row: [parse(UPDATE.format(row)), bind(), execute(), sync(),
                              parse(SLOW), bind(), execute(), sync()],
    "in the text of COMMIT": lambda _: [query(f"COMMIT; {SLOW}")],
    "in the segment of COMMIT": lambda _: [parse("COMMIT"), bind(), execute(),
                                           parse(SLOW), bind(), execute(), sync()]}


@pytest.mark.parametrize("what", BEHIND)
def test_a_word_that_is_late_while_the_next_transaction_runs(server, database, what):
    """What runs there is not what was committed. (PostgreSQL itself keeps what it says of COMMIT
    back until the text, or the segment, has ended.)"""
    with behind_a_relay(server, database) as (play, other, relay):
        row = play.item("old")
        readers = hot_everywhere(play, other, row)
        wire = wire_that_carries(play)
        link = relay.of_kind("client")[-1]
        if "COMMIT" in what:
            wire.query("BEGIN")
            wire.query(UPDATE.format(row))
        else:
            link.speaking[ANSWER].clear()
        wire.send(*BEHIND[what](row))
        all_see(readers, row, committed(play, row))
        link.speaking[ANSWER].set()
        wire.until_ready(10)


PROCEDURE = """
CREATE PROCEDURE slowly(number int) LANGUAGE plpgsql AS $$
BEGIN
  UPDATE item SET name = 'new' WHERE id = number;
  COMMIT;
  PERFORM pg_sleep(4);
END $$;
"""


@pytest.mark.parametrize("text", [
    "BEGIN; UPDATE item SET name = 'new' WHERE id = {}; COMMIT; SELECT pg_sleep(4)",
    "CALL slowly({})",
])
def test_more_behind_a_commit_in_one_message(play, text):
    play.sql(PROCEDURE)
    with second_proxy(play) as other:
        row = play.item("old")
        wire, readers = wire_that_carries(play), hot_everywhere(play, other, row)
        wire.send(query(text.format(row)))
        all_see(readers, row, committed(play, row))
        wire.until_ready(10)


def test_a_chain_of_blocks(play):
    with second_proxy(play) as other:
        row = play.item("old")
        writer = play.app()
        make_carry(play, writer)
        readers = hot_everywhere(play, other, row)
        writer.execute("BEGIN")
        for name in ("new", "newer"):
            writer.execute(f"UPDATE item SET name = '{name}' WHERE id = {row}")
            writer.execute("COMMIT AND CHAIN")
            all_see(readers, row, time.monotonic(), name)
        writer.execute("ROLLBACK")


def test_a_client_that_does_not_read(play):
    """Its COMMIT lies behind several MB. (Whether that is more than the kernel keeps for it, so that
    the reading would have stopped, is the machine's affair.)"""
    with second_proxy(play) as other:
        row = play.item("old")
        wire, readers = wire_that_carries(play), hot_everywhere(play, other, row)
        wire.query("BEGIN")
        wire.send(query("SELECT repeat('x', 1000000) FROM generate_series(1, 6)")
                  + query(UPDATE.format(row)) + query("COMMIT"))
        all_see(readers, row, committed(play, row))
        for _ in range(3):
            wire.until_ready(10)


def test_a_write_behind_prepare_transaction(play):
    """Both in one message: what is committed is not kept until the prepared one is."""
    with second_proxy(play) as other:
        row, later = play.item("old"), play.item("old")
        wire, readers = wire_that_carries(play), hot_everywhere(play, other, row)
        wire.query(f"BEGIN; {UPDATE.format(later)}; PREPARE TRANSACTION 'unheard'; "
                   f"{UPDATE.format(row)}")
        all_see(readers, row, time.monotonic())
        all_see(readers, later, time.monotonic(), "old")
        play.sql("COMMIT PREPARED 'unheard'")
        all_see(readers, later, time.monotonic())
