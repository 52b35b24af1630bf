"""The console over psql and drivers, its users, its commands; the HTTP pages; --check."""
import asyncio
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import time

import asyncpg
import psycopg
import pytest

from pgfresh_proc import Pgfresh, binary, wait_until
from pgserver import free_port
from pgwire import ProtocolError, Wire, query, rows
from play import last, one

NAME = "SELECT name FROM item WHERE id = 1"
ADMIN, VIEWER = ("admin", "a secret"), ("viewer", "another")
SHOWS = ["HELP", "VERSION", "STATS", "CACHE", "TABLES", "CLIENTS", "SERVERS", "FEEDS", "CONFIG"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PG")}


class Console:
    """A play whose pgfresh has console users and a unix socket."""

    def __init__(self, play, folder):
        self.play = play
        self.proxy = play.proxy
        self.folder = folder

    def url(self, who=ADMIN):
        return self.proxy.url(who[0], "pgfresh", who[1])

    def connect(self, who=ADMIN, **options):
        return self.play.keep(psycopg.connect(self.url(who), autocommit=True, connect_timeout=10,
                                              **options))

    def table(self, command, who=ADMIN):
        """The rows of a SHOW as dicts."""
        cursor = self.connect(who).execute(command)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]

    def psql(self, *commands, url=None):
        arguments = [part for command in commands for part in ("-c", command)]
        return subprocess.run(["psql", "-X", "-A", "-d", url or self.url(), *arguments], timeout=20,
                              capture_output=True, text=True, env=ENVIRONMENT)


@pytest.fixture
def console(own_play, tmp_path):
    users = {"console.users": ":".join(ADMIN), "console.viewers": ":".join(VIEWER),
             "listen.unix": str(tmp_path)}
    return Console(own_play(users), tmp_path)


# -- who may -------------------------------------------------------------------------------------


def test_password_by_scram(console):
    with Wire(port=console.proxy.port) as wire:
        wire.login(ADMIN[0], "pgfresh", ADMIN[1])
        assert any(m.type == "R" and b"SCRAM-SHA-256" in m.body for m in wire.login_messages)


@pytest.mark.parametrize("user, secret", [("admin", "wrong"), ("nobody", "x"), ("postgres", "")])
def test_others_are_refused(console, user, secret):
    with pytest.raises(ProtocolError) as refused, Wire(port=console.proxy.port) as wire:
        wire.login(user, "pgfresh", secret)
    assert refused.value.message.sqlstate == "28P01"


def test_nobody_without_users(play):
    with pytest.raises(ProtocolError) as refused, Wire(port=play.proxy.port) as wire:
        wire.login("postgres", "pgfresh", "guess")
    assert refused.value.message.sqlstate in ("28P01", "28000")


def test_unix_socket_trusts_its_own_user(console):
    done = console.psql("SHOW VERSION",
                        url=f"host={console.folder} port={console.proxy.port} dbname=pgfresh "
                            "user=whoever")
    assert done.returncode == 0 and "pgfresh 0." in done.stdout, done.stderr


def test_viewer_may_look_only(console):
    assert console.table("SHOW STATS", VIEWER)
    viewer = console.connect(VIEWER)
    for command in ("FLUSH", "SET CACHE off", "SHUTDOWN", "KILL 1", "RELOAD"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            viewer.execute(command)


# -- SHOW ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", SHOWS)
def test_show_by_psql_and_both_protocols(console, what):
    console.play.hot(console.play.app(), NAME)
    done = console.psql(f"SHOW {what}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\(\d+ rows?\)", done.stdout)
    app = console.connect()
    simple = app.execute(f"SHOW {what}")
    names = [column.name for column in simple.description]
    for options in ({"prepare": True}, {"binary": True}):
        cursor = app.execute(f"show {what.lower()};", **options)
        assert [column.name for column in cursor.description] == names
        assert cursor.fetchall() is not None

    async def with_asyncpg():
        connection = await asyncpg.connect(console.url(), timeout=10)
        try:
            answer = await connection.fetch(f"SHOW {what}")
            if answer:
                assert list(answer[0].keys()) == names
        finally:
            await connection.close(timeout=5)

    asyncio.run(with_asyncpg())


def test_stats_count_what_happened(console):
    app = console.play.app()
    console.play.hot(app, NAME)
    before = {row["database"]: row for row in console.table("SHOW STATS")}
    for _ in range(10):
        app.execute(NAME)
    after = {row["database"]: row for row in console.table("SHOW STATS")}
    rise = sum(int(row["total_hits"]) for row in after.values()) \
        - sum(int(row["total_hits"]) for row in before.values())
    assert rise == 10


def test_tables_say_why_not(console):
    console.play.hot(console.play.app(), NAME)
    tables = {(row["schema"], row["table"]): row for row in console.table("SHOW TABLES")
              if row["database"] == console.play.database}
    assert tables["public", "item"]["cacheable"] is True
    assert tables["public", "plain"]["reason"] == "not_watched"
    assert tables["public", "guarded"]["cacheable"] is True  # its policy asks for the role alone
    assert tables["public", "item_name"]["cacheable"] is None
    assert tables["public", "happening_1"]["root"] == "public.happening"


def test_feed_is_live(console):
    console.play.hot(console.play.app(), NAME)
    feed = [row for row in console.table("SHOW FEEDS")
            if row["database"] == console.play.database][0]
    assert feed["state"] == "live"
    assert 0 < int(feed["lease_left_ms"]) <= 1000
    assert feed["event_triggers"] is True


def test_clients_and_servers(console):
    app = console.play.app(application_name="to be seen")
    app.execute(NAME)
    client = [row for row in console.table("SHOW CLIENTS")
              if row["application_name"] == "to be seen"]
    assert len(client) == 1 and client[0]["database"] == console.play.database
    assert any(row["database"] == console.play.database for row in console.table("SHOW SERVERS"))


def test_config_shows_what_is_in_force_and_no_secrets(console):
    config = {row["key"]: row for row in console.table("SHOW CONFIG")}
    assert config["cache.mode"]["value"] == "on"
    assert ADMIN[1] not in json.dumps(config, default=str)


def test_driver_courtesies(console):
    """What drivers and people send on their own must not confuse the console."""
    with Wire(port=console.proxy.port) as wire:
        wire.login(ADMIN[0], "pgfresh", ADMIN[1])
        for sql in ("BEGIN", "SET client_encoding = 'UTF8'", "SELECT 1", "SHOW STATS", "COMMIT", ""):
            assert wire.query(sql)[-1].type == "Z"
            assert not [m for m in wire.query(sql) if m.type == "E"], sql
        answer = wire.query("SELECT * FROM pg_class")
        assert [m.type for m in answer] == ["E", "Z"]
        assert rows(wire.query("SELECT 1")) == [[b"1"]]


# -- what acts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["FLUSH", "FLUSH ALL", "FLUSH TABLE item",
                                     "FLUSH TABLE public.item"])
def test_flush(console, command):
    app = console.play.app()
    console.play.hot(app, NAME)
    console.connect().execute(command)
    with console.play.expect(hits=0):
        app.execute(NAME)
    console.play.hot(app, NAME)


def test_flush_of_another_table_keeps_this_one(console):
    app = console.play.app()
    console.play.hot(app, NAME)
    console.connect().execute("FLUSH TABLE part")
    with console.play.expect(hits=1):
        app.execute(NAME)


def test_cache_off_and_on(console):
    app, admin = console.play.app(), console.connect()
    console.play.hot(app, NAME)
    admin.execute("SET CACHE off")
    with console.play.expect(hits=0, reason="off"):
        assert one(app, NAME) == "item 1"
    assert last(app)["reason"] == "off"
    console.play.app().execute("UPDATE item SET name = 'while off' WHERE id = 1")
    admin.execute("SET CACHE on")
    assert one(app, NAME) == "while off"
    console.play.hot(app, NAME)


def test_kill(console):
    app = console.play.app(application_name="victim")
    other = console.play.app()
    number = [row["id"] for row in console.table("SHOW CLIENTS")
              if row["application_name"] == "victim"][0]
    console.connect().execute(f"KILL {number}")
    with pytest.raises(psycopg.OperationalError):
        for _ in range(3):
            app.execute("SELECT 1")
    assert one(other, "SELECT 1") == 1
    with pytest.raises(psycopg.Error):
        console.connect().execute("KILL 999999999")


def test_kill_ends_the_query_in_postgresql(console):
    asking = console.play.wire(application_name="sleeper")
    asking.send(query("SELECT pg_sleep(60)"))
    sleeping = ("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sleeper' "
                "AND state = 'active' AND wait_event = 'PgSleep'")
    wait_until(lambda: console.play.sql(sleeping) == "1", "it sleeps")
    (number,) = [row["id"] for row in console.table("SHOW CLIENTS")
                 if row["application_name"] == "sleeper"]
    console.connect().execute(f"KILL {number}")
    wait_until(lambda: console.play.sql(sleeping) == "0", "it has been woken", 5)
    assert [m.sqlstate for m in asking.until_closed() if m.type == "E"] == ["57P01"]


def test_unknown_commands_are_explained(console):
    admin = console.connect()
    with pytest.raises(psycopg.Error) as refused:
        admin.execute("SHOW NONSENSE")
    assert refused.value.sqlstate in ("42601", "42704")
    for later in ("SHOW POOLS", "PAUSE"):
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            admin.execute(later)


@pytest.mark.parametrize("command", ["SHUTDOWN", "SHUTDOWN WAIT"])
def test_shutdown(console, command):
    console.play.app().execute(NAME)
    console.connect().execute(command)
    wait_until(lambda: not console.proxy.running(), "it has stopped")
    assert console.proxy.process.returncode == 0


def test_term_finishes_the_transaction_under_way(own_play):
    play = own_play()
    app = play.app()
    app.execute("BEGIN")
    app.execute("UPDATE item SET name = 'finished' WHERE id = 1")
    idle = play.wire()
    play.proxy.signal(signal.SIGTERM)
    idle.until_closed(timeout=5)
    app.execute("UPDATE item SET name = name || ' well' WHERE id = 1")
    app.execute("COMMIT")
    wait_until(lambda: not play.proxy.running(), "it has stopped")
    assert play.proxy.process.returncode == 0
    assert play.sql(NAME) == "finished well"


def test_term_does_not_wait_for_a_client_that_does_not_read(own_play):
    play = own_play()
    play.app().execute(NAME)
    idle = play.wire()
    idle.query("SELECT 1")
    begun = time.monotonic()
    play.proxy.signal(signal.SIGTERM)
    wait_until(lambda: not play.proxy.running(), "it has stopped", 8)
    assert time.monotonic() - begun < 3
    idle.until_closed(timeout=5)  # the farewell is there to be read


def test_ready_means_that_postgres_takes_connections(own_server, own_play):
    play = own_play(postgres=own_server)
    play.app().execute(NAME)
    status, page = play.proxy.get("/readyz")
    assert status == 200 and json.loads(page)["postgres"] is True
    own_server.stop()
    wait_until(lambda: play.proxy.get("/readyz")[0] == 503, "it is not ready")
    state = json.loads(play.proxy.get("/readyz")[1])
    assert state["postgres"] is False
    assert all(each["lease_left_ms"] >= 0 for each in state["databases"])
    assert play.proxy.get("/healthz")[0] == 200
    own_server.start()
    wait_until(lambda: play.proxy.get("/readyz")[0] == 200, "it is ready again")


def test_hup_opens_the_log_file_anew(own_play, tmp_path):
    log = tmp_path / "pgfresh.log"
    play = own_play({"log.file": str(log), "listen.unix": "none"})
    log.rename(tmp_path / "pgfresh.log.1")
    play.proxy.signal(signal.SIGHUP)
    wait_until(lambda: log.exists() and "reloaded" in log.read_text(), "a line in the new file")
    assert "no_unix_socket" not in (tmp_path / "pgfresh.log.1").read_text()  # nobody asked for one


def test_a_broken_file_keeps_no_log_from_being_opened_anew(server, tmp_path):
    log, port, http_port = tmp_path / "pgfresh.log", free_port(), free_port()
    text = config_text(server, port, http_port, f"log.file: {log}\n")
    with Pgfresh(config=text, port=port, http_port=http_port) as proxy:
        log.rename(tmp_path / "pgfresh.log.1")
        proxy.write_config(text + "cache.ttl: nonsense\n")
        proxy.signal(signal.SIGHUP)
        wait_until(lambda: log.exists() and "reload_refused" in log.read_text(), "the new file")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_end_nothing(own_play, number):
    play = own_play()
    play.proxy.signal(number)
    wait_until(lambda: "signal_ignored" in play.proxy.log_text(), "a line that says so")
    assert one(play.app(), NAME) == "item 1"


def test_silent_connections_hold_up_no_page(own_play):
    play = own_play()
    silent = [socket.create_connection(("127.0.0.1", play.proxy.http_port)) for _ in range(8)]
    begun = time.monotonic()
    assert play.proxy.get("/readyz")[0] == 200
    assert time.monotonic() - begun < 1.5
    for each in silent:
        each.close()


def test_too_few_descriptors_are_told(server):
    command = ["prlimit", "--nofile=300:300", binary(), "--upstream", server.url(), "--listen",
               f"127.0.0.1:{free_port()}", "--http", "none", "--set", "listen.unix=none"]
    for more, told in (([], True), (["--set", "limits.clients=50"], False)):
        process = subprocess.Popen(command + more, stderr=subprocess.PIPE, text=True)
        lines = ""
        while "listening" not in lines:
            lines += process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        lines += process.communicate(timeout=20)[1]
        assert ("too_few_descriptors" in lines) == told, lines


def test_clients_that_cannot_be_accepted_are_told(own_play):
    play = own_play()
    pid = play.proxy.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, limits[1]))
    waiting = socket.create_connection(("127.0.0.1", play.proxy.port))
    wait_until(lambda: "accept_paused" in play.proxy.log_text(), "it is told")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    with waiting:
        waiting.sendall(struct.pack("!II", 8, 80877103))  # SSLRequest
        assert waiting.recv(1) == b"N"


@pytest.mark.parametrize("option, value, word", [
    ("listen.unix", "/nowhere/at/all", "is not a directory"),
    ("listen.unix", "/" + "long" * 30, "too long"),
    ("listen.tcp", '":6543"', "*:6543")])
def test_check_tells_what_cannot_be_listened_on(server, tmp_path, option, value, word):
    path = tmp_path / "pgfresh.yml"
    path.write_text(f"upstream.url: {server.url()}\n{option}: {value}\n")
    done = subprocess.run([binary(), "--check", "-c", str(path)], capture_output=True, text=True,
                          timeout=20)
    assert done.returncode == 1
    assert option in done.stderr and word in done.stderr


def test_int_stops_now(own_play):
    play = own_play()
    app = play.app()
    app.execute("BEGIN")
    app.execute("UPDATE item SET name = 'lost' WHERE id = 1")
    play.proxy.signal(signal.SIGINT)
    wait_until(lambda: not play.proxy.running(), "it has stopped", 5)
    assert play.sql(NAME) == "item 1"


# -- configuration ------------------------------------------------------------------------------


def config_text(server, port, http_port, more=""):
    return (f"upstream:\n  url: {server.url()}\nlisten:\n  tcp: 127.0.0.1:{port}\n"
            f"  http: 127.0.0.1:{http_port}\n  unix: none\n{more}")


@pytest.mark.parametrize("by", ["HUP", "RELOAD"])
def test_reload(server, database, by):
    port, http_port = free_port(), free_port()
    users = "console:\n  users:\n    - name: admin\n      password: a secret\n"
    text = config_text(server, port, http_port, users)
    with Pgfresh(config=text, port=port, http_port=http_port) as proxy:

        def reload():
            if by == "HUP":
                proxy.signal(signal.SIGHUP)
                return
            with psycopg.connect(proxy.url(ADMIN[0], "pgfresh", ADMIN[1]), autocommit=True) as admin:
                admin.execute("RELOAD")

        def in_force(key):
            with psycopg.connect(proxy.url(ADMIN[0], "pgfresh", ADMIN[1]), autocommit=True) as admin:
                return {row[0]: row[1] for row in admin.execute("SHOW CONFIG")}[key]

        assert in_force("cache.ttl") == "5min"
        proxy.write_config(text + "cache:\n  ttl: 7min\n")
        reload()
        wait_until(lambda: in_force("cache.ttl") == "7min", "the new value")
        proxy.write_config(text + "cache:\n  ttl: nonsense\n")
        try:
            reload()
        except psycopg.Error as error:
            assert "cache.ttl" in str(error)
        wait_until(lambda: "cache.ttl" in proxy.log_text(), "the complaint in the log")
        assert in_force("cache.ttl") == "7min"  # an error keeps the old settings
        with psycopg.connect(proxy.url(ADMIN[0], "pgfresh", ADMIN[1]), autocommit=True) as admin:
            admin.execute("SET CACHE off")
        for ttl, mode, wanted in (("8min", "on", "off"), ("9min", "off", "off"), ("10min", "on", "on")):
            proxy.write_config(text + f"cache:\n  ttl: {ttl}\n  mode: {mode}\n")
            reload()
            wait_until(lambda ttl=ttl: in_force("cache.ttl") == ttl, "the new value")
            assert in_force("cache.mode") == wanted  # off by hand, until the file says otherwise
        proxy.write_config(text + "log:\n  level: error\n")
        reload()
        wait_until(lambda: in_force("log.level") == "error", "the new level")
        assert proxy.log_text().count(" reloaded") == 4  # this one is not told


def check(tmp_path, text):
    path = tmp_path / "pgfresh.yml"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run([binary(), "--check", "-c", str(path)], capture_output=True, text=True,
                          timeout=10)
    return done.returncode, done.stdout + done.stderr, str(path)


def test_check_of_a_good_file(server, tmp_path):
    status, said, path = check(tmp_path, config_text(server, 6543, 9643))
    assert (status, said) == (0, f"{path}: ok\n")


def test_passwords_that_all_may_read(server, tmp_path):
    port, http_port = free_port(), free_port()
    text = config_text(server, port, http_port, "console.users: ['admin:SECRET']\n")
    status, said, path = check(tmp_path, text)
    assert status == 0 and said.count(path) == 2 and "chmod o= it" in said and "SECRET" not in said
    os.chmod(path, 0o640)
    done = subprocess.run([binary(), "--check", "-c", path], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stderr) == (0, "")
    with Pgfresh(config=text, port=port, http_port=http_port) as proxy:
        starting = r"starting version=\S+ file=\S+ upstream=\S+"
        wait_until(lambda: re.search(starting, proxy.log_text()), "the first line of the log")
        assert "SECRET" not in proxy.log_text()


@pytest.mark.parametrize("text, line, says", [
    ("cache:\n  ttl: soon\n", 2, "cache.ttl"),
    ("cache:\n  ttl: 5min\n  speed: fast\n", 3, "cache.speed"),
    ("colour: blue\n", 1, "colour"),
    ("limits:\n  clients: -1\n", 2, "limits.clients"),
    ("cache:\n  mode: maybe\n", 2, "on or off"),
    ("cache: [1, 2\n", 2, "YAML"),
    ("log:\n  level: info\n  level: warn\n", 3, "twice"),
])
def test_check_of_a_bad_file(tmp_path, text, line, says):
    head = "upstream:\n  url: postgresql://u@127.0.0.1:5432/x\n"
    status, said, path = check(tmp_path, text + head)
    assert status == 1
    assert said.startswith(f"{path}:{line}:") or f" {path}:{line}:" in said, said
    assert says in said
    assert len(said.strip().splitlines()) == 1


def test_check_tells_all_errors_and_no_password(tmp_path):
    status, said, path = check(
        tmp_path, "workers: -1\nupstream:\n  url: postgresql://u:SECRET@SECRET@h/x\n"
        f"log:\n  file: {tmp_path}\n")
    assert status == 1 and "SECRET" not in said
    assert [line.split(": ")[1:3] for line in said.strip().splitlines()] == [
        [f"{path}:1", "workers"], [f"{path}:3", "upstream.url"], [f"{path}:5", "log.file"]]
    started = subprocess.run([binary(), "-c", path], capture_output=True, text=True, timeout=10)
    assert (started.returncode, started.stdout + started.stderr) == (1, said)


def test_check_of_nothing(tmp_path):
    assert check(tmp_path, "")[0] == 1  # no upstream
    missing = subprocess.run([binary(), "--check", "-c", str(tmp_path / "missing")], timeout=10,
                             capture_output=True, text=True)
    assert missing.returncode == 1 and "missing" in missing.stdout + missing.stderr


@pytest.mark.parametrize("file", ["pgfresh.yml", "pgfresh-minimal.yml"])
def test_check_of_the_sample_files(file):
    path = os.path.join(os.path.dirname(__file__), "..", "..", "conf", file)
    done = subprocess.run([binary(), "--check", "-c", path, "--upstream",
                           "postgresql://pgfresh@127.0.0.1/postgres"],
                          capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, done.stdout + done.stderr


def test_version_help_and_misuse():
    def run(*arguments):
        return subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=10)

    said = run("--version")
    assert (said.returncode, said.stdout[:8]) == (0, "pgfresh ")
    assert "--upstream" in run("--help").stdout
    for wrong in (["--nonsense"], [], ["--set", "x"], ["--upstream"]):
        assert run(*wrong).returncode != 0


# -- HTTP ---------------------------------------------------------------------------------------


def test_metrics_page(play):
    play.hot(play.app(), NAME)
    metrics = play.metrics()
    for name in ("hits_total", "misses_total", "bypasses_total", "cache_bytes", "cache_entries",
                 "cache_evictions_total", "feed_events_total", "feed_lease_seconds",
                 "feed_open_slots", "clients"):
        assert metrics.has(f"pgfresh_{name}"), name
    assert metrics.value("pgfresh_hits_total", tier="l1") >= 1
    status, text = play.proxy.get("/metrics")
    assert status == 200
    declared = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)", text, re.MULTILINE):
        declared |= {name + part for part in ("_bucket", "_sum", "_count")} if kind == "histogram" \
            else {name}
    assert {name for name, _, _ in metrics.samples} <= declared


def test_other_pages(play):
    assert play.proxy.get("/healthz")[0] == 200
    assert play.proxy.get("/readyz")[0] == 200
    assert play.proxy.get("/")[0] == 200
    assert play.proxy.get("/nothing")[0] == 404


def test_log_in_json(own_play):
    play = own_play({"log.format": "json"})
    play.app().execute("SELECT 1")
    lines = [line for line in play.proxy.log_text().splitlines() if line.strip()]
    assert lines
    for line in lines:
        json.loads(line)
