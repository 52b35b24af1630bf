"""Volume: what is bigger than memory should be passes through in pieces, and a client that does not
read stops the reading from PostgreSQL."""
import os
import subprocess
import threading
import time

import pytest

from pgfresh_proc import wait_until
from pgwire import bind, execute, parse, query, rows, sync

MB = 1 << 20
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
GIGABYTE = "SELECT repeat('x', 100000) FROM generate_series(1, 10800)"
ROOM = 64 * MB  # what pgfresh may grow by, whatever the volume


class Growth:
    """The most that pgfresh's resident memory rises by while the block runs."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.most = 0
        self._over = threading.Event()

    def __enter__(self):
        self.before = self.proxy.rss_bytes()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        while not self._over.wait(0.02):
            self.most = max(self.most, self.proxy.rss_bytes() - self.before)

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


def swallow(wire):
    """Reads to ReadyForQuery without keeping anything; bytes read."""
    total, tail = 0, b""
    while not tail.endswith(b"Z\0\0\0\5I"):
        chunk = wire.socket.recv(4 * MB)
        assert chunk, "the connection was closed"
        total += len(chunk)
        tail = (tail + chunk)[-6:]
    return total


def test_gigabyte_result_in_bounded_memory(play):
    wire = play.wire()
    with Growth(play.proxy) as growth:
        wire.send(query(GIGABYTE))
        assert swallow(wire) > 1.07e9
    assert growth.most < ROOM


def test_slow_client_stops_the_reading(play):
    """PostgreSQL waits for the client that does not read, and pgfresh does not fill up."""
    wire = play.wire()
    with Growth(play.proxy) as growth:
        wire.send(parse(GIGABYTE), bind(), execute(), sync())
        wait_until(lambda: play.sql("SELECT count(*) FROM pg_stat_activity WHERE "
                                    "wait_event = 'ClientWrite'") == "1", "PostgreSQL waits")
        time.sleep(1.5)
        assert growth.most < ROOM
        other = play.wire()
        assert rows(other.query("SELECT 1")) == [[b"1"]]  # nobody else is stopped
        swallow(wire)
    assert growth.most < ROOM


def test_freshness_is_kept_beside_a_huge_result(play):
    """Anomaly 18: one gigabyte on its way does not delay the feed."""
    app, wire = play.app(), play.wire()
    wire.send(query(GIGABYTE))
    reader = threading.Thread(target=swallow, args=(wire,), daemon=True)
    reader.start()
    hits = 0
    while reader.is_alive():
        before = play.metrics().hits
        for _ in range(20):
            app.execute("SELECT name FROM item WHERE id = 1").fetchall()
        hits += play.metrics().hits - before
    reader.join(30)
    assert hits > 0, "the feed lost its lease beside a huge result"


def test_copy_of_200_megabytes_in_and_out(play, tmp_path):
    path = tmp_path / "rows"
    line = "x" * 199 + "\n"
    with open(path, "w", encoding="ascii") as file:
        for _ in range(100):
            file.write(line * 10486)
    play.sql("CREATE UNLOGGED TABLE bulk (line text)")
    with Growth(play.proxy) as growth:
        for command in (rf"\copy bulk FROM '{path}'", rf"\copy bulk TO '{path}.out'"):
            subprocess.run(["psql", "-X", "-q", "-d", play.url(), "-c", command], check=True,
                           timeout=50, env=ENVIRONMENT)
    assert os.path.getsize(f"{path}.out") == os.path.getsize(path) > 200 * MB
    assert growth.most < ROOM
    play.sql("DROP TABLE bulk")


def test_single_row_of_100_megabytes(play):
    wire = play.wire()
    with Growth(play.proxy) as growth:
        wire.send(query(f"SELECT repeat('x', {100 * MB})"))
        assert swallow(wire) > 100 * MB
    assert growth.most < ROOM


@pytest.mark.parametrize("size", [15_000, 70_000, 300_000, 40 * MB])
def test_long_query_and_long_parameter(play, size):
    """Around every limit: what pgfresh looks at, what it holds, what it only passes on."""
    wire = play.wire()
    with Growth(play.proxy) as growth:
        assert rows(wire.query(f"SELECT length('{'y' * size}')")) == [[b"%d" % size]]
        wire.send(parse("SELECT length($1::text)"), bind(parameters=["z" * size]), execute(), sync())
        assert rows(wire.until_ready()) == [[b"%d" % size]]
        assert rows(wire.query("SELECT name FROM item WHERE id = 2")) == [[b"item 2"]]
    assert growth.most < ROOM


def test_long_flat_expression_does_not_hurt(play):
    """The parser library overflows its stack on these; pgfresh must not."""
    wire = play.wire()
    for terms in (2000, 20_000):
        answer = wire.query("SELECT name FROM item WHERE id = 1 AND (" + " OR ".join(
            f"id={n}" for n in range(terms)) + ")")
        assert answer[-1].type == "Z"
    for depth in (500, 2000, 7000):
        answer = wire.query("SELECT name FROM item WHERE id = " + "(" * depth + "1" + ")" * depth)
        assert answer[-1].type == "Z"
    assert rows(wire.query("SELECT 1")) == [[b"1"]]


def test_many_connections(own_play):
    """Idle clients, each with its session; the newest and the oldest are served."""
    play = own_play()
    wires = [play.wire() for _ in range(150)]
    for wire in (wires[0], wires[-1]):
        assert rows(wire.query("SELECT name FROM item WHERE id = 1")) == [[b"item 1"]]
