"""What a client may cost, and what it may never be given."""
import contextlib
import re
import socket
import struct
import threading
import time

import pytest

from pgfresh_proc import Pgfresh, wait_until
from play import one
from pgwire import (SSL_REQUEST, Wire, bind, describe, execute, message, parse, query, rows, startup,
                    sync, types)

MB = 1 << 20


def hit(wire, sql):
    """Asks until the answer comes from memory; its rows."""
    def asked():
        got = wire.query(sql)
        return (rows(got),) if rows(wire.query("SHOW pgfresh.last"))[0][0] == b"hit" else None
    return wait_until(asked, "a hit")[0]


def guard_by_tenant(play):
    """A table whose policy reads a setting, which is followed therefore."""
    play.sql("CREATE TABLE note (id int PRIMARY KEY, tenant text); INSERT INTO note VALUES (1, 'a');"
             "ALTER TABLE note ENABLE ROW LEVEL SECURITY;"
             "CREATE POLICY by_tenant ON note USING (tenant = current_setting('app.tenant', true));"
             "GRANT ALL ON note TO anna; SELECT pgfresh.watch('note')")


def test_settings_of_a_deferred_block(own_play):
    """SET LOCAL in a block that PostgreSQL has not been told of is kept here; not for ever."""
    play = own_play()
    guard_by_tenant(play)
    wire = play.wire("anna")
    hit(wire, "SELECT id FROM note")
    wire.query("BEGIN")
    before = play.proxy.rss_bytes()
    setting = query(f"SET LOCAL app.tenant = '{'v' * 8000}'")
    for _ in range(100):
        wire.send(setting * 100)
        assert all(types(wire.until_ready()) == "CZ" for _ in range(100))
    assert play.proxy.rss_bytes() - before < 20 * MB  # 80 MB have been sent
    wire.query("SET LOCAL app.tenant = 'a'")
    assert rows(wire.query("SELECT id FROM note")) == [[b"1"]]
    assert rows(wire.query("SELECT current_setting('app.tenant')")) == [[b"a"]]
    wire.query("ROLLBACK")
    assert rows(wire.query("SELECT id FROM note")) == []


class Eager(Wire):
    """Asks together with the last it has to say for the login."""

    def send(self, *messages):
        last = any(b"c=biws" in each for each in messages)
        super().send(*messages, *([query("SELECT 5")] if last else []))


def test_a_query_behind_the_last_password_message(play, password):
    for server in (play.server, play.proxy):
        wire = play.keep(Eager(port=server.port)).login("u_scram", play.database, password)
        assert rows(wire.until_ready()) == [[b"5"]]


def serve(listener, answer):
    """A PostgreSQL that takes anybody in and answers each Query with answer(text)."""
    def need(conn, count):
        got = b""
        while len(got) < count:
            more = conn.recv(count - len(got))
            if not more:
                raise EOFError
            got += more
        return got

    def talk(conn):
        with contextlib.suppress(OSError, EOFError), conn:
            while True:
                body = need(conn, struct.unpack("!I", need(conn, 4))[0] - 4)
                if struct.unpack("!I", body[:4])[0] != SSL_REQUEST:
                    break
                conn.sendall(b"N")
            conn.sendall(message("R", bytes(4)) + message("K", bytes(7) + b"\1")
                         + message("Z", b"I"))
            while True:
                kind = need(conn, 1)
                body = need(conn, struct.unpack("!I", need(conn, 4))[0] - 4)
                if kind == b"Q":
                    conn.sendall(answer(body))

    with contextlib.suppress(OSError):
        while True:
            threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()


@pytest.mark.parametrize("end", ["kill", "int"])
def test_no_last_words_in_the_middle_of_a_row(end):
    """They would be taken for the rest of it: a row that nobody has written."""
    columns = message("T", b"\0\1name\0" + bytes(6) + struct.pack("!IhiH", 25, -1, -1, 0))
    row = message("D", b"\0\1" + struct.pack("!I", 1000) + b"A" * 1000)
    nothing = message("C", b"SELECT 0\0") + message("Z", b"I")
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener, lambda sql: columns + row[:-40]
                                         if b"name" in sql else nothing), daemon=True).start()
    url = f"postgresql://postgres@127.0.0.1:{listener.getsockname()[1]}/postgres?sslmode=disable"
    with listener, Pgfresh(url, {"console.users": "boss:pw"}) as proxy, \
            Wire(port=proxy.port) as wire:
        wire.login("postgres", "postgres")
        wire.send(query("SELECT name FROM whatever"))
        assert types(wire.until("T")) == "T"
        if end == "kill":
            with Wire(port=proxy.port).login("boss", "pgfresh", "pw") as boss:
                number = next(row[0] for row in rows(boss.query("SHOW CLIENTS"))
                              if row[2] == b"postgres")
                boss.query(f"KILL {number.decode()}")
        else:
            proxy.signal(2)
        assert rows(wire.until_closed()) == []


def test_a_message_that_was_not_sent_whole_is_not_completed(play):
    """Bytes of pgfresh's own behind it would be its end, and PostgreSQL would carry it out."""
    play.sql("CREATE TABLE victim AS SELECT n FROM generate_series(1, 10) n")
    wire = play.wire()
    whole = query(f"DELETE FROM victim /*{'x' * 100_000}*/;")
    wire.send(whole[:-2])
    time.sleep(0.3)
    wire.abort()
    time.sleep(0.5)
    assert play.sql("SELECT count(*) FROM victim").strip() == "10"
    play.sql("DROP TABLE victim")


def test_a_long_message_behind_the_startup_packet(play):
    """Where no password is asked for, nobody has to wait for the end of the login."""
    wire = play.keep(Wire(port=play.proxy.port))
    sql = f"SELECT length('{'x' * 200_000}')"
    wire.send(startup({"user": "postgres", "database": play.database}), query(sql))
    assert types(wire.until_ready())[-2:] == "KZ"
    assert rows(wire.until_ready()) == [[b"200000"]]
    assert rows(wire.query("SELECT 5")) == [[b"5"]]


def test_hits_that_nobody_reads(own_play):
    """One read of the socket may ask for thousands of answers. Who does not take them holds no more
    than a few in memory, whatever becomes of them in the cache."""
    play = own_play({"workers": 1})
    play.sql("CREATE TABLE big (id int PRIMARY KEY, b text);"
             "INSERT INTO big SELECT n, repeat(md5(n::text), 12000) FROM generate_series(1, 50) n;"
             "SELECT pgfresh.watch('big')")
    app = play.wire()
    texts = [f"SELECT b FROM big WHERE id = {n}" for n in range(1, 51)]

    def fill():
        for text in texts:
            hit(app, text)

    fill()
    before = play.proxy.rss_bytes()
    for _ in range(6):
        fill()
        lazy = play.wire()
        hit(lazy, "SELECT name FROM item WHERE id = 1")
        lazy.send(b"".join(query(text) for text in texts))
        time.sleep(0.3)
        play.sql("UPDATE big SET b = b || 'x'")
    assert play.proxy.rss_bytes() - before < 40 * MB  # 19 MB are cached
    play.send_home()


def test_a_read_full_of_hits_is_answered(own_play):
    play = own_play({"workers": 1})
    play.sql("CREATE TABLE big (id int PRIMARY KEY, b text);"
             "INSERT INTO big SELECT n, repeat(md5(n::text), 12000) FROM generate_series(1, 10) n;"
             "SELECT pgfresh.watch('big')")
    wire = play.wire()
    hit(wire, "SELECT length(b), b FROM big WHERE id = 3")
    wire.send(query("SELECT length(b), b FROM big WHERE id = 3") * 40)
    time.sleep(0.5)
    for _ in range(40):
        assert [row[0] for row in rows(wire.until_ready())] == [b"384000"]
    assert rows(wire.query("SELECT 1")) == [[b"1"]]


def test_sql_over_a_replication_connection(play):
    """It is acknowledged through this proxy as any other."""
    app = play.app()
    sql = "SELECT name FROM item WHERE id = 63"
    play.hot(app, sql)
    wire = play.wire(replication="database")
    for number in range(300):
        assert "C" in types(wire.query(f"UPDATE item SET name = 'v{number}' WHERE id = 63"))
        assert one(app, sql) == f"v{number}"
    assert rows(wire.query(sql)) == [[b"v299"]]
    assert types(wire.query("BEGIN; SELECT 1; COMMIT")) == "CTDCCZ"


def test_a_longer_name_of_the_same_database(own_play, server):
    """PostgreSQL cuts names to 63 bytes."""
    play = own_play()
    name = "d" * 63
    server.create_database(name, template="stage")
    try:
        reader = play.keep(Wire(port=play.proxy.port)).login("postgres", name)
        writer = play.keep(Wire(port=play.proxy.port)).login("postgres", name + "xyz")
        sql = "SELECT name FROM item WHERE id = 61"
        hit(reader, sql)
        hit(writer, sql)
        for number in range(100):
            writer.query(f"UPDATE item SET name = 'v{number}' WHERE id = 61")
            assert rows(reader.query(sql)) == [[f"v{number}".encode()]]
    finally:
        play.send_home()
        play.proxy.stop()
        server.psql(f"DROP DATABASE {name} WITH (FORCE)")


def test_replication_that_is_none(play):
    """PostgreSQL reads f, FALSE and n as no: an ordinary session, whose writes are seen at once."""
    app = play.app()
    sql = "SELECT name FROM item WHERE id = 61"
    play.hot(app, sql)
    for spelled in ("f", "FALSE", "n", "of"):
        writer = play.wire(replication=spelled)
        for number in range(30):
            writer.query(f"UPDATE item SET name = '{spelled} {number}' WHERE id = 61")
            assert one(app, sql) == f"{spelled} {number}"


def test_idle_time_begins_when_the_answer_has_come(own_play):
    play = own_play({"limits.idle_time": "4s"})
    wire = play.wire()
    wire.query("SELECT pg_sleep(5)")
    time.sleep(1.5)
    assert rows(wire.query("SELECT 1")) == [[b"1"]]


def test_a_full_queue_does_not_stop_the_clock(tmp_path):
    """A PostgreSQL that stands still accepts nobody: connect_timeout ends the attempt."""
    held = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/.s.PGSQL.5432")
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                held.append(socket.socket(socket.AF_UNIX))
                held[-1].setblocking(False)
                held[-1].connect(f"{tmp_path}/.s.PGSQL.5432")
        url = f"host={tmp_path} user=postgres dbname=postgres connect_timeout=1"
        with Pgfresh(url) as proxy, Wire(port=proxy.port) as wire:
            wire.send(startup({"user": "postgres", "database": "postgres"}))
            assert [m.sqlstate for m in wire.until_closed(timeout=6)] == ["08006"]
    for one_held in held:
        one_held.close()


def test_formats_that_do_not_fit(play):
    """PostgreSQL refuses two formats for one column, be the answer at hand or not."""
    sql = "SELECT name FROM item WHERE id = 62"
    wire = play.wire()
    hit(wire, sql)
    wire.send(parse(sql), bind(result_formats=(0, 0)), execute(), sync())
    assert [m.sqlstate for m in wire.until_ready() if m.type == "E"] == ["08P01"]
    for formats in ((), (0,)):
        wire.send(parse(sql), bind(result_formats=formats), execute(), sync())
        assert rows(wire.until_ready()) == [[b"item 62"]]
    sql = "SELECT id, name FROM item WHERE id = 62"
    hit(wire, sql)
    wire.send(parse(sql), bind(result_formats=(0, 0)), execute(), sync())
    assert rows(wire.until_ready()) == [[b"62", b"item 62"]]
    assert rows(wire.query("SHOW pgfresh.last"))[0][0] == b"hit"


def test_settings_that_are_remembered(own_play):
    """Each identity has a scope, and some have a kilobyte of claims. There is a bound for all."""
    play = own_play()
    guard_by_tenant(play)
    wire = play.wire("anna")
    hit(wire, "SELECT id FROM note")
    before = play.proxy.rss_bytes()
    for turn in range(200):
        wire.send(*[query("BEGIN") + query(f"SET LOCAL app.tenant = '{turn} {n} {'v' * 7900}'")
                    + query("ROLLBACK") for n in range(50)])
        assert all(types(wire.until_ready()) == "CZ" for _ in range(150))
    assert play.proxy.rss_bytes() - before < 150 * MB  # 80 MB have been sent
    wire.query("BEGIN")
    wire.query("SET LOCAL app.tenant = 'a'")
    assert hit(wire, "SELECT id FROM note") == [[b"1"]]


def test_memory_follows_the_bound_whatever_the_sizes(own_play):
    """Answers of one size leave room in which those of another fit."""
    play = own_play({"cache.bytes": "64MB", "cache.entry_bytes": "16MB"})
    apps = [play.app() for _ in range(4)]
    play.hot(apps[0], "SELECT name FROM item WHERE id = 1")

    def resident():
        with open(f"/proc/{play.proxy.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) >> 10

    def read(app, size, count):
        for number in range(count):
            app.execute(f"SELECT repeat('x', {size}), {number + count * apps.index(app)} FROM item "
                        "WHERE id = 1")

    begun = resident()
    for size, count in ((100_000, 300), (3_000_000, 12), (12_000_000, 4)):
        readers = [threading.Thread(target=read, args=(app, size, count)) for app in apps]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert play.metrics().value("pgfresh_cache_bytes") > 32 << 20
    assert resident() < begun + 64 + 32, "MB: the bound, and what is under way"
