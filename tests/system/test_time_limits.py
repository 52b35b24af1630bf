"""Cancel requests and PostgreSQL's own time limits, where pgfresh has something of its own to do
between a client's message and PostgreSQL: they end what they would end without it."""
import threading
import time

import pytest

from pgfresh_proc import Pgfresh
from pgwire import bind, execute, parse, query, sync
from play import Play
from relay import ANSWER, Relay

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
        wire.query("UPDATE item SET name = name WHERE id = 1")
    wire.query("SET DateStyle = 'German'")  # the next SELECT is preceded by a probe
    sql = "SELECT count(*) FROM part, pg_sleep(3)"
    before = play.metrics().value("pgfresh_settings_probes_total")
    with relay.hold(ANSWER, "1", of="client", nth=1) as answer:
        wire.send(*([query(sql)] if protocol == "simple"
                    else [parse(sql), bind(), execute(), sync()]))
        answer.wait()
        cancel = threading.Thread(target=wire.cancel)
        cancel.start()
        time.sleep(0.1)
        answer.release()
    got = wire.until_ready()
    cancel.join()
    assert play.metrics().value("pgfresh_settings_probes_total") == before + 1
    assert [m.sqlstate for m in got if m.type == "E"] == ["57014"]
    assert got[-1].text == ("E" if place == "block" else "I")
