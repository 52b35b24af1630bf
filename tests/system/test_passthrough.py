"""What PostgreSQL can do, it can do through pgfresh: SQL and drivers. The protocol byte by byte is
in test_wire.py, volume in test_bulk.py, logging in in test_login.py."""
import asyncio
import difflib
import os
import re
import subprocess
import threading
import time

import asyncpg
import psycopg
import psycopg2
import pytest
import sqlalchemy
from psycopg2 import extensions

from pgfresh_proc import wait_until
from pgserver import bin_directory
from play import one

HERE = os.path.dirname(__file__)
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PG")}


def psql(url, *arguments, text=None):
    done = subprocess.run(["psql", "-X", "-d", url, *arguments], input=text, timeout=60, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT)
    return re.sub(r"psql:\S+:(\d+):", r"line \1:", re.sub(r"PID \d+", "PID", done.stdout))


def reset(play):
    play.sql("DELETE FROM plain WHERE id >= 900; DELETE FROM item WHERE id BETWEEN 900 AND 999; "
             "TRUNCATE journal RESTART IDENTITY")


@pytest.mark.parametrize("turn", ["cold", "hot"])
def test_psql_prints_the_same(play, turn):
    """A long script of everything, twice, so that its reads may come from memory."""
    script = os.path.join(HERE, "passthrough.sql")
    reset(play)
    straight = psql(play.server.url(database=play.database), "-f", script)
    reset(play)
    through = psql(play.url(), "-f", script)
    difference = difflib.unified_diff(straight.splitlines(), through.splitlines(), "direct",
                                      "through pgfresh", lineterm="", n=4)
    assert straight == through, "\n".join(difference)


def test_psql_reports_its_own_notifications(play):
    text = "LISTEN news;\nNOTIFY news, 'hello';\n"
    assert 'notification "news" with payload "hello"' in psql(play.url(), text=text)


def test_the_process_number_is_postgresqls(play):
    """Clients tell by it whose notification it is, and name themselves to pg_cancel_backend()."""
    ours, other = play.app(), play.app()
    assert ours.info.backend_pid == one(ours, "SELECT pg_backend_pid()")
    heard = []
    ours.add_notify_handler(lambda n: heard.append((n.payload, n.pid)))
    ours.execute("LISTEN news")
    ours.execute("NOTIFY news, 'ours'")
    other.execute("NOTIFY news, 'of another'")
    wait_until(lambda: ours.execute("SELECT 1") and len(heard) == 2, "two notifications")
    assert heard == [("ours", ours.info.backend_pid), ("of another", other.info.backend_pid)]


def test_notices_come_in_order_and_ours_do_not(play):
    app = play.app()
    seen = []
    app.add_notice_handler(lambda notice: seen.append((notice.sqlstate, notice.message_primary)))
    app.execute("DO $$ BEGIN RAISE NOTICE 'one'; UPDATE item SET name = 'n' WHERE id = 1; "
                "RAISE NOTICE 'two'; END $$")
    app.execute("SET client_min_messages = debug5")
    app.execute("UPDATE item SET name = 'n' WHERE id = 1")
    assert [text for state, text in seen if state == "00000"][:2] == ["one", "two"]
    assert "PF001" not in [state for state, _ in seen]


def test_direct_session_sees_nothing_of_us(play):
    direct = play.direct()
    seen = []
    direct.add_notice_handler(seen.append)
    direct.execute("UPDATE item SET name = 'n' WHERE id = 1")
    assert seen == []


@pytest.mark.parametrize("reset_by", ["RESET ALL", "DISCARD ALL"])
def test_inband_setting_survives_reset(play, reset_by):
    app = play.app()
    before = one(app, "SHOW pgfresh.inband")
    app.execute(reset_by)
    assert one(app, "SHOW pgfresh.inband") == before == "on"


def test_parameter_status_reaches_the_client(play):
    app = play.app()
    app.execute("SET TimeZone = 'Asia/Tokyo'")
    app.execute("SET application_name = 'changed'")
    assert app.info.parameter_status("TimeZone") == "Asia/Tokyo"
    assert app.info.parameter_status("application_name") == "changed"


def test_startup_parameters_are_forwarded(play):
    app = play.app(options="-c search_path=other -c DateStyle=German", application_name="my app",
                   client_encoding="latin1")
    assert one(app, "SELECT name FROM item WHERE id = 1") == "other 1"
    assert one(app, "SHOW DateStyle") == "German, DMY"
    assert one(app, "SHOW client_encoding") == "LATIN1"
    assert one(app, "SELECT application_name FROM pg_stat_activity "
                    "WHERE pid = pg_backend_pid()") == "my app"


# -- psycopg2 -----------------------------------------------------------------------------------


@pytest.fixture
def psycopg2_app(play):
    return play.keep(psycopg2.connect(play.url(), connect_timeout=10))


def test_psycopg2_server_side_cursor(psycopg2_app):
    with psycopg2_app.cursor("named") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT id FROM item WHERE id <= 50 ORDER BY id")
        assert [row[0] for row in cursor] == list(range(1, 51))


def test_psycopg2_large_object(psycopg2_app):
    """libpq's large object calls are FunctionCall messages."""
    large = psycopg2_app.lobject(0, "wb")
    large.write(b"0123456789" * 5000)
    large.close()
    again = psycopg2_app.lobject(large.oid, "rb")
    again.seek(49995)
    assert again.read() == b"56789"
    again.unlink()
    psycopg2_app.commit()


def test_psycopg2_copy_both_ways(psycopg2_app, tmp_path):
    path = tmp_path / "rows"
    with psycopg2_app.cursor() as cursor, open(path, "w+", encoding="utf-8") as file:
        cursor.execute("CREATE TEMP TABLE t (a int, b text)")
        file.write("".join(f"{n}\tline {n}\n" for n in range(5000)))
        file.seek(0)
        cursor.copy_expert("COPY t FROM stdin", file)
        cursor.execute("SELECT count(*), sum(a) FROM t")
        assert cursor.fetchone() == (5000, 5000 * 4999 // 2)
        with open(tmp_path / "out", "w+", encoding="utf-8") as out:
            cursor.copy_expert("COPY t TO stdout", out)
        assert (tmp_path / "out").read_text() == path.read_text()


def test_psycopg2_notifications(play, psycopg2_app):
    psycopg2_app.set_isolation_level(extensions.ISOLATION_LEVEL_AUTOCOMMIT)
    with psycopg2_app.cursor() as cursor:
        cursor.execute("LISTEN news")
    play.direct().execute("NOTIFY news, 'from elsewhere'")

    def polled():
        psycopg2_app.poll()
        return psycopg2_app.notifies

    assert wait_until(polled, "the notification")[0].payload == "from elsewhere"


def test_psycopg2_transaction_status(psycopg2_app):
    with psycopg2_app.cursor() as cursor:
        assert psycopg2_app.status == extensions.STATUS_READY
        cursor.execute("SELECT name FROM item WHERE id = 1")
        assert psycopg2_app.info.transaction_status == extensions.TRANSACTION_STATUS_INTRANS
        with pytest.raises(psycopg2.errors.DivisionByZero):
            cursor.execute("SELECT 1 / 0")
        assert psycopg2_app.info.transaction_status == extensions.TRANSACTION_STATUS_INERROR
        with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
            cursor.execute("SELECT name FROM item WHERE id = 1")
        psycopg2_app.rollback()
        assert psycopg2_app.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE


# -- psycopg 3 ----------------------------------------------------------------------------------


def test_psycopg_pipeline_keeps_order(play):
    app = play.app()
    with app.pipeline() as pipeline:
        first = app.execute("SELECT name FROM item WHERE id = %s", (1,))
        app.execute("UPDATE item SET name = 'changed' WHERE id = %s", (50,))
        second = app.execute("SELECT name FROM item WHERE id = %s", (50,))
        pipeline.sync()
        third = app.execute("SELECT count(*) FROM item WHERE id = %s", (50,))
        assert second.fetchone() == ("changed",)
    assert first.rowcount == 1
    assert third.fetchone() == (1,)


def test_psycopg_copy_and_binary(play):
    app = play.app()
    app.execute("CREATE TEMP TABLE t (a int, b text)")
    with app.cursor() as cursor:
        with cursor.copy("COPY t FROM stdin (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for n in range(1000):
                copy.write_row((n, f"é{n}"))
        with cursor.copy("COPY t TO stdout (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            assert list(copy.rows()) == [(n, f"é{n}") for n in range(1000)]
        with pytest.raises(psycopg.errors.BadCopyFileFormat):
            with cursor.copy("COPY t FROM stdin") as copy:
                copy.write("too\tmany\tcolumns\n")
    assert one(app, "SELECT count(*) FROM t") == 1000


def test_psycopg_row_by_row(play):
    app = play.app()
    rows = app.cursor().stream("SELECT id FROM many ORDER BY id LIMIT %s", (3000,))
    assert [row[0] for row in rows] == list(range(1, 3001))


def test_own_query_is_cancelled(play):
    app = play.app()
    timer = threading.Timer(0.3, app.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled):
        app.execute("SELECT pg_sleep(30)")
    assert time.monotonic() - started < 10
    assert one(app, "SELECT 1") == 1


def test_late_cancel_hits_nobody(play):
    app, other = play.app(), play.app()
    app.cancel()
    app.close()
    assert one(other, "SELECT 'alive' FROM pg_sleep(0.3)") == "alive"


# -- asyncpg ------------------------------------------------------------------------------------


def with_asyncpg(play, body):
    async def go():
        connection = await asyncpg.connect(play.url(), timeout=10)
        try:
            await asyncio.wait_for(body(connection), 40)
        finally:
            await connection.close(timeout=10)

    asyncio.run(go())


def test_asyncpg_cursor_with_row_limits(play):
    async def body(connection):
        async with connection.transaction():
            cursor = await connection.cursor("SELECT id FROM item WHERE id <= $1 ORDER BY id", 30)
            assert [row[0] for row in await cursor.fetch(10)] == list(range(1, 11))
            await cursor.forward(5)
            assert [row[0] for row in await cursor.fetch(100)] == list(range(16, 31))
            assert await cursor.fetch(10) == []

    with_asyncpg(play, body)


def test_asyncpg_types_and_errors(play):
    async def body(connection):
        row = await connection.fetchrow("SELECT * FROM kinds WHERE id = $1", 1)
        assert (row["i8"], row["ia"], row["b"]) == (9000000000, [1, None, 3], True)
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("INSERT INTO item (id, name) VALUES ($1, 'x')", 1)
        statement = await connection.prepare("SELECT name FROM item WHERE id = $1")
        assert [await statement.fetchval(n) for n in (2, 3)] == ["item 2", "item 3"]
        await connection.executemany("INSERT INTO plain VALUES ($1, $2)",
                                     [(n, "many") for n in range(2000, 2500)])
        assert await connection.fetchval("SELECT count(*) FROM plain WHERE name = 'many'") == 500

    with_asyncpg(play, body)


def test_asyncpg_copy_listen_and_timeout(play):
    async def body(connection):
        heard = asyncio.Queue()
        await connection.add_listener("news", lambda *arguments: heard.put_nowait(arguments[-1]))
        await connection.copy_records_to_table("plain", records=[(3000 + n, "c") for n in range(99)])
        await connection.execute("SELECT pg_notify('news', 'it is in')")
        assert await asyncio.wait_for(heard.get(), 5) == "it is in"
        with pytest.raises(asyncio.TimeoutError):  # sends a cancel request
            await connection.fetch("SELECT pg_sleep(20)", timeout=0.3)
        assert await connection.fetchval("SELECT count(*) FROM plain WHERE name = 'c'") == 99

    with_asyncpg(play, body)


# -- SQLAlchemy ---------------------------------------------------------------------------------


def test_sqlalchemy_session_and_stream(play):
    engine = sqlalchemy.create_engine(play.url(scheme="postgresql+psycopg2"), pool_pre_ping=True)
    try:
        with engine.connect() as connection:
            with pytest.raises(sqlalchemy.exc.IntegrityError):
                connection.execute(sqlalchemy.text("INSERT INTO item (id, name) VALUES (1, 'x')"))
        with engine.connect().execution_options(stream_results=True) as connection:
            rows = connection.execute(sqlalchemy.text("SELECT id FROM many ORDER BY id LIMIT 5000"))
            assert sum(1 for _ in rows) == 5000
        inspector = sqlalchemy.inspect(engine)
        assert [column["name"] for column in inspector.get_columns("part")] == ["id", "item_id",
                                                                                "name"]
        with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
            assert connection.execute(sqlalchemy.text("SHOW transaction_isolation")).scalar() \
                == "serializable"
    finally:
        engine.dispose()


# -- replication --------------------------------------------------------------------------------


def test_replication_connection(play):
    url = play.url() + "?replication=database"
    through = psql(url, "-At", "-c", "IDENTIFY_SYSTEM").split("|")
    straight = psql(play.server.url(database=play.database) + "?replication=database", "-At", "-c",
                    "IDENTIFY_SYSTEM").split("|")
    assert (through[0], through[3]) == (straight[0], straight[3])


def test_base_backup(play, tmp_path):
    done = subprocess.run([f"{bin_directory()}/pg_basebackup", "-d", play.proxy.url(), "-X", "fetch",
                           "-c", "fast", "-D", str(tmp_path / "backup")], timeout=50, text=True,
                          capture_output=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "backup" / "PG_VERSION").exists()


def test_logical_decoding_stream(play, tmp_path):
    out = tmp_path / "changes"
    base = [f"{bin_directory()}/pg_recvlogical", "-d", play.url(), "-S", "test_slot"]
    subprocess.run(base + ["--create-slot", "-P", "test_decoding"], timeout=20, check=True,
                   env=ENVIRONMENT)
    stream = subprocess.Popen(base + ["--start", "-F", "1", "-f", str(out)], env=ENVIRONMENT)
    try:
        play.direct().execute("INSERT INTO plain VALUES (4000, 'decoded')")
        wait_until(lambda: out.exists() and "decoded" in out.read_text(), "the change")
    finally:
        stream.terminate()
        stream.wait(20)
        wait_until(lambda: play.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "0",
                   "the slot is free")
        play.sql("SELECT pg_drop_replication_slot('test_slot')")


# -- PostgreSQL goes away -----------------------------------------------------------------------


def test_server_restart_is_told_clearly(own_play, own_server):
    play = own_play(postgres=own_server)
    app = play.app()
    own_server.stop()
    with pytest.raises(psycopg.OperationalError):
        app.execute("SELECT name FROM item WHERE id = 1")
    with pytest.raises(psycopg.OperationalError) as refused:
        play.app()
    assert "server" in str(refused.value).lower() or "connect" in str(refused.value).lower()
    assert play.proxy.get("/healthz")[0] == 200
    own_server.start()
    assert one(wait_until(lambda: _try(play.app), "a new connection"), "SELECT 1") == 1


def _try(connect):
    try:
        return connect()
    except psycopg.Error:
        return None
