"""Every limit has a clear error, and nobody else is touched."""
import time

import psycopg
import pytest

from pgfresh_proc import Pgfresh, wait_until
from pgserver import free_port
from pgwire import ProtocolError, Wire, query, rows, startup
from play import one


def admitted(play):
    """A newcomer's connection, or None when there was no room."""
    wire = Wire(port=play.proxy.port)
    try:
        return play.keep(wire.login("postgres", play.database))
    except ProtocolError as refused:
        assert refused.message.sqlstate == "53300"
        wire.abort()
        return None


def test_clients(own_play):
    play = own_play({"limits.clients": 3})
    wires = [play.wire() for _ in range(3)]
    for _ in range(5):
        assert admitted(play) is None
    wires.pop().close()
    newcomer = wait_until(lambda: admitted(play), "a place is free")
    assert rows(newcomer.query("SELECT 1")) == [[b"1"]]
    assert rows(wires[0].query("SELECT 1")) == [[b"1"]]


def test_who_is_refused_takes_no_place(own_play):
    """Even if he does not hang up."""
    play = own_play({"limits.clients": 3})
    wires = [play.wire() for _ in range(3)]
    for _ in range(5):
        with pytest.raises(ProtocolError):
            play.wire()
    wires.pop().close()
    wait_until(lambda: admitted(play), "a place is free", seconds=2)


def test_login_time(own_play):
    play = own_play({"limits.login_time": "1s"})
    silent = play.keep(Wire(port=play.proxy.port))
    halfway = play.keep(Wire(port=play.proxy.port))
    halfway.send(startup({"user": "u_scram", "database": play.database}))
    started = time.monotonic()
    for wire in (silent, halfway):
        wire.until_closed(timeout=8)
    assert 0.5 < time.monotonic() - started < 6
    assert one(play.app(), "SELECT 1") == 1


def test_idle_time_spares_the_busy(own_play):
    play = own_play({"limits.idle_time": "1s"})
    idle, busy = play.wire(), play.wire()
    assert rows(busy.query("SELECT 1 FROM pg_sleep(2.5)")) == [[b"1"]]
    left = idle.until_closed(timeout=8)
    assert [m.sqlstate for m in left if m.type == "E"] in ([], ["57P05"], ["57P01"])
    with pytest.raises(OSError):
        for _ in range(3):
            idle.query("SELECT 1")


def test_message_length(own_play):
    play = own_play({"limits.message_bytes": "64KB"})
    wire = play.wire()
    assert rows(wire.query(f"SELECT length('{'x' * 60_000}')")) == [[b"60000"]]
    wire.send(query(f"SELECT length('{'x' * 70_000}')"))
    left = wire.until_closed()
    (refused,) = [m for m in left if m.type == "E"]
    assert refused.sqlstate == "08P01"
    assert b"limits.message_bytes" in refused.body
    assert one(play.app(), "SELECT 1") == 1


def test_upstream_that_is_not_there():
    """A clear error at login, and pgfresh lives on."""
    with Pgfresh(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres") as proxy:
        with pytest.raises(ProtocolError) as refused, Wire(port=proxy.port) as wire:
            wire.login("postgres", "postgres")
        assert refused.value.message.sqlstate in ("08006", "08001", "57P03")
        assert proxy.get("/healthz")[0] == 200
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(proxy.url(), connect_timeout=5)
