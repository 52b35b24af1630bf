"""One proxy and its Redis, a real one: every way to reach it, and every trouble it may be in. In
each trouble the clients notice nothing but the speed: all answers are right, and the slowest stays
below the budget and what a busy machine needs.

Answers are made so large that the smallest cache.bytes holds none of them: what does not come from
Redis comes from PostgreSQL. How several proxies share a Redis is in test_fleet.py."""
import contextlib
import os
import random
import signal
import subprocess
import threading
import time

import psycopg
import pytest

from pgfresh_proc import wait_until
from pgserver import free_port
from redis_server import Door, PrivateRedis, RedisError
from test_login import authority, certificate

SMALL_L1 = {"cache.bytes": "1MB", "redis.ask": "always", "redis.single_flight": "off",
            "workers": "1", "console.users": "admin:secret"}
BIG = "SELECT repeat(name || '-' || id, 4000) FROM item WHERE id = {}"
IDS = range(1, 31)
OTHERS = 1  # the entry of the query that waits for the feed
SLOWEST_S = 0.020 + 0.4  # redis.budget, and a machine with other things to do


@pytest.fixture
def stage(own_play):
    """A factory: a play whose proxy uses `url`; the feed is live when it comes."""

    def make(url, **settings):
        play = own_play({**SMALL_L1, "redis.url": url, **settings})
        play.reader = play.app()
        play.hot(play.reader, "SELECT name FROM part WHERE id = 1", seconds=15)
        play.truth = {row[0]: row[1] for row in play.direct().execute(
            "SELECT id, repeat(name || '-' || id, 4000) FROM item WHERE id = ANY(%s)",
            [list(IDS)]).fetchall()}
        return play

    return make


def console(play, command):
    with psycopg.connect(f"host=127.0.0.1 port={play.proxy.port} dbname=pgfresh user=admin "
                         "password=secret", autocommit=True) as connection:
        cursor = connection.execute(command)
        if cursor.description is None:
            return []
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]


@pytest.fixture
def redis():
    with PrivateRedis() as running:
        yield running


def l2_hits(play):
    return play.metrics().value("pgfresh_hits_total", tier="l2")


def is_ready(play):
    return play.metrics().value("pgfresh_redis_ready", loop="worker 0") == 1


def ready(play, seconds=15):
    wait_until(lambda: is_ready(play), "Redis in use", seconds)


def trouble(play, words, seconds=15):
    """Waits until the console says so, of the worker's connection."""
    log = play.proxy.log_text
    wait_until(lambda: words in log(), f"{words!r} in the log\n{log()[-2000:]}", seconds)


def doctor(play):
    """What DOCTOR finds about Redis, which is wrong."""
    finding, = (row for row in console(play, "DOCTOR") if row["subject"] == "redis")
    assert finding["severity"] == "warning"
    return finding


def read(play, ids=IDS, connection=None):
    for number in ids:
        rows = (connection or play.reader).execute(BIG.format(number)).fetchall()
        assert rows == [(play.truth[number],)], f"item {number}"


def served_by_redis(play):
    """Two rounds, and the second comes from Redis."""
    ready(play)
    read(play)

    def round_of_hits():
        before = l2_hits(play)
        read(play)
        return l2_hits(play) - before >= len(IDS) / 2

    wait_until(round_of_hits, "answers from Redis", 15)


class Steady:
    """Somebody who reads all the time, in a thread: every answer is compared and timed."""

    def __init__(self, play):
        self.play = play
        self.reads = 0
        self.slowest = 0.0
        self.wrong = []
        self._connection = play.app()
        self._going = True
        self._thread = threading.Thread(target=self._read)

    def _read(self):
        dice = random.Random(4)
        while self._going:
            number = dice.choice(IDS)
            began = time.monotonic()
            try:
                rows = self._connection.execute(BIG.format(number)).fetchall()
                if rows != [(self.play.truth[number],)]:
                    self.wrong.append(number)
            except psycopg.Error as error:
                self.wrong.append(str(error))
                return
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.reads += 1


@contextlib.contextmanager
def unnoticed(play):
    """Whatever happens inside: a reader gets right answers in time."""
    steady = Steady(play)
    steady._thread.start()
    try:
        yield steady
    finally:
        steady._going = False
        steady._thread.join(30)
    assert steady.wrong == []
    assert steady.reads > 20
    assert steady.slowest < SLOWEST_S, f"{steady.slowest:.3f} s"


# -- ways to reach it ---------------------------------------------------------------------------


def test_answers_come_from_redis(stage, redis):
    play = stage(redis.url())
    served_by_redis(play)
    rows = {row["loop"]: row for row in console(play, "SHOW REDIS")}
    assert set(rows) == {"worker 0", "control"}
    worker = rows["worker 0"]
    assert worker["state"] == "ready" and worker["trouble"] == ""
    assert worker["server"] == redis.product()
    assert worker["address"] == f"127.0.0.1:{redis.port}"
    assert worker["found"] >= len(IDS) and worker["stored"] >= len(IDS)
    assert 0 < worker["p50_us"] <= worker["p99_us"] <= worker["p999_us"]
    page = play.metrics()
    answers = page.value("pgfresh_redis_latency_seconds_count")
    assert answers == page.value("pgfresh_redis_latency_seconds_bucket", le="+Inf")
    assert answers > 2 * len(IDS) and page.value("pgfresh_redis_latency_seconds_sum") > 0
    assert worker["timeouts"] == worker["errors"] == worker["broken_entries"] == 0
    names = redis.names()
    assert all(name.startswith("pgfresh:") for name in names)
    assert len([name for name in names if name.startswith("pgfresh:e:")]) >= len(IDS)
    assert all(redis.call("PTTL", name) > 0 for name in names), "everything expires"


def test_database_number_prefix_and_user(stage, redis):
    redis.call("ACL", "SETUSER", "cache", "on", ">geheim@1", "~team/a:*", "+@all", "-@dangerous",
               "+info")
    play = stage(redis.url("cache:geheim%401@", database=5), **{"redis.prefix": "team/a:"})
    served_by_redis(play)
    assert redis.names() == []
    assert all(name.startswith("team/a:") for name in redis.names(database=5))
    assert "geheim" not in str(console(play, "SHOW CONFIG")) + play.proxy.log_text()


def test_the_least_an_acl_must_allow(stage, redis):
    commands = ["get", "set", "unlink", "exists", "zadd", "pexpire", "zpopmin",
                "zremrangebyscore", "scan", "ping", "select", "auth"]
    redis.call("ACL", "SETUSER", "cache", "on", ">geheim", "~pgfresh:*", "-@all",
               *[f"+{command}" for command in commands])
    play = stage(redis.url("cache:geheim@", database=1))
    served_by_redis(play)
    play.reader.execute("UPDATE item SET price = price + 1 WHERE id = 1")
    console(play, "FLUSH ALL")
    time.sleep(2.5)
    assert play.metrics().value("pgfresh_redis_errors_total") == 0


def test_password_without_a_user(stage):
    with PrivateRedis({"requirepass": "geheim"}) as redis:
        play = stage(redis.url(":geheim@"))
        served_by_redis(play)


def test_wrong_password_until_it_is_right(stage):
    with PrivateRedis({"requirepass": "right"}) as redis:
        play = stage(redis.url(":wrong@"))
        with unnoticed(play):
            trouble(play, "WRONGPASS")
            time.sleep(0.5)
            assert not is_ready(play)
            redis.call("CONFIG", "SET", "requirepass", "wrong", login=["right"])
            ready(play)
        served_by_redis(play)


def test_unix_socket(stage, redis):
    play = stage(f"unix://{redis.socket_path}?db=2")
    served_by_redis(play)
    assert redis.names(database=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("redis-tls")
    authority(made, "ca")
    authority(made, "stranger")
    certificate(made, "server", "DNS:cache.example,IP:127.0.0.1")
    certificate(made, "client", "DNS:client")
    return made


def test_tls(stage, folder):
    with PrivateRedis(tls_folder=folder) as redis:
        play = stage(redis.url(tls=True), **{"redis.tls_ca": folder / "ca.crt"})
        served_by_redis(play)


def test_tls_with_a_certificate_and_a_name_of_its_own(stage, folder):
    with PrivateRedis({"tls-auth-clients": "yes"}, tls_folder=folder) as redis:
        play = stage(redis.url(tls=True, host="localhost"),
                     **{"redis.tls_ca": folder / "ca.crt", "redis.tls_cert": folder / "client.crt",
                        "redis.tls_key": folder / "client.key",
                        "redis.tls_server_name": "cache.example"})
        served_by_redis(play)


@pytest.mark.parametrize("ca, host, words", [("stranger", "127.0.0.1", "certificate verify failed"),
                                             ("ca", "localhost", "does not match host name")])
def test_tls_that_cannot_be_trusted(stage, folder, ca, host, words):
    with PrivateRedis(tls_folder=folder) as redis:
        play = stage(redis.url(tls=True, host=host), **{"redis.tls_ca": folder / f"{ca}.crt"})
        with unnoticed(play):
            trouble(play, words)
            time.sleep(0.5)
        assert not is_ready(play)
        assert redis.names() == []


# -- whom it does not talk to -------------------------------------------------------------------


@pytest.mark.parametrize("settings, words", [
    ({"cluster-enabled": "yes", "cluster-port": free_port()}, "Redis Cluster, which is not supported"),
    ({"sentinel": "monitor m 127.0.0.1 1 1"}, "Redis Sentinel, which is not supported")])
def test_clusters_and_sentinels_are_refused(stage, settings, words):
    with PrivateRedis(settings) as redis:
        play = stage(redis.url())
        with unnoticed(play):
            trouble(play, words)
            time.sleep(0.5)
        assert not is_ready(play)
        assert any(words in row["trouble"] for row in console(play, "SHOW REDIS"))


def test_garbage(stage):
    with Door(garbage=b"HTTP/1.1 400 Bad Request\r\n\r\n") as door:
        play = stage(f"redis://127.0.0.1:{door.port}")
        with unnoticed(play):
            trouble(play, "does not speak Redis' protocol")
            time.sleep(1)
        assert not is_ready(play)


def test_garbage_in_the_middle(stage, redis):
    """What was good begins to answer nonsense, and is good again."""
    with Door(target=redis.port) as door:
        play = stage(f"redis://127.0.0.1:{door.port}")
        served_by_redis(play)
        with unnoticed(play):
            door.garbage = b"$5\r\nhel\r\n*-7\r\n"
            door.cut()
            time.sleep(1)
            door.garbage = None
            door.cut()
            ready(play)
        served_by_redis(play)


# -- troubles -----------------------------------------------------------------------------------


def test_killed_and_restarted(stage, redis):
    play = stage(redis.url())
    served_by_redis(play)
    with unnoticed(play):
        redis.kill()
        time.sleep(1.5)
        redis.start()
        ready(play)
        time.sleep(0.5)
    served_by_redis(play)


def test_restarted_from_an_old_snapshot(stage, redis):
    play = stage(redis.url())
    served_by_redis(play)
    redis.call("SAVE")
    play.direct().execute("UPDATE item SET name = 'changed' WHERE id <= 10")
    for number in range(1, 11):
        play.truth[number] = f"changed-{number}" * 4000
    time.sleep(1.2)  # the bound of a write that did not come through pgfresh
    with unnoticed(play):
        redis.kill()
        redis.start()
        assert len(redis.names("pgfresh:e:*")) >= len(IDS), "the old state is there"
        ready(play)
        time.sleep(1)
    served_by_redis(play)


def test_paused(stage, redis):
    play = stage(redis.url())
    served_by_redis(play)
    trips = play.metrics().value("pgfresh_redis_trips_total")
    with unnoticed(play):
        redis.call("CLIENT", "PAUSE", 2500, "ALL")
        time.sleep(0.5)
        assert not is_ready(play)
        assert play.metrics().value("pgfresh_redis_trips_total") > trips
        ready(play)
    served_by_redis(play)


def test_frozen_for_long(stage, redis):
    """Not even the connection ends: it is given up, and made anew."""
    play = stage(redis.url())
    served_by_redis(play)
    with unnoticed(play):
        redis.process.send_signal(signal.SIGSTOP)
        trouble(play, "silent for too long")
        redis.process.send_signal(signal.SIGCONT)
        ready(play)
    served_by_redis(play)


def leave_room(redis):
    """For a dozen of the entries, which are some 40 KB each."""
    redis.call("CONFIG", "SET", "maxmemory", int(redis.info("used_memory")) + 500_000)


def test_evicting(stage):
    with PrivateRedis({"maxmemory-policy": "allkeys-lru"}) as redis:
        play = stage(redis.url(), **{"redis.compress_min": "1GB"})
        ready(play)
        leave_room(redis)
        with unnoticed(play):
            wait_until(lambda: int(redis.info("evicted_keys")) > 50, "evictions", 30)
        assert is_ready(play)
        assert play.metrics().value("pgfresh_redis_errors_total") == 0


def test_full(stage):
    with PrivateRedis({"maxmemory-policy": "noeviction"}) as redis:
        play = stage(redis.url(), **{"redis.compress_min": "1GB"})
        ready(play)
        leave_room(redis)
        with unnoticed(play):
            wait_until(lambda: play.metrics().value("pgfresh_redis_errors_total", kind="full") > 0,
                       "a full Redis", 30)
            time.sleep(0.5)
        assert is_ready(play)
        assert "maxmemory-policy" in doctor(play)["remedy"]
        before = l2_hits(play)
        read(play)
        assert l2_hits(play) > before, "what is there is read"


def test_that_cannot_save(stage):
    """It takes no writes, not even a PING, and is read all the same; also after it was slow."""
    with PrivateRedis({"save": "3600 1", "dbfilename": "taken"}) as redis:
        play = stage(redis.url())
        served_by_redis(play)
        os.mkdir(os.path.join(redis.directory, "taken"))
        redis.call("BGSAVE")
        wait_until(lambda: redis.info("rdb_last_bgsave_status") == "err", "a failed BGSAVE", 15)
        with pytest.raises(RedisError, match="MISCONF"):
            redis.call("PING")
        with unnoticed(play):
            redis.call("CLIENT", "PAUSE", 700, "ALL")
            wait_until(lambda: not is_ready(play), "the breaker open", 15)
            ready(play)
        before = l2_hits(play)
        read(play)
        assert l2_hits(play) > before, "what is there is read"


def test_replica_is_not_used_until_it_is_promoted(stage, redis):
    with PrivateRedis({"replicaof": f"127.0.0.1 {redis.port}"}) as replica:
        play = stage(replica.url())
        with unnoticed(play):
            trouble(play, "it is a replica, and a primary is wanted")
            assert not is_ready(play)
            replica.call("REPLICAOF", "NO", "ONE")
            ready(play)
        served_by_redis(play)


def test_failing_over_behind_a_name(stage, redis):
    """The primary becomes a replica under its readers, and the name leads to the new one."""
    with PrivateRedis({"replicaof": f"127.0.0.1 {redis.port}"}) as other, \
            Door(target=redis.port) as door:
        play = stage(f"redis://127.0.0.1:{door.port}")
        served_by_redis(play)
        with unnoticed(play):
            other.call("REPLICAOF", "NO", "ONE")
            redis.call("REPLICAOF", "127.0.0.1", other.port)
            door.lead_to(other.port)
            play.direct().execute("UPDATE item SET price = price + 1")  # fills, and so writes
            wait_until(lambda: play.metrics().value("pgfresh_redis_errors_total",
                                                    kind="replica") > 0, "a replica noticed", 15)
            ready(play)
        served_by_redis(play)
        rows = console(play, "SHOW REDIS")
        assert all(row["state"] == "ready" for row in rows)
        assert int(other.info("total_commands_processed")) > len(IDS)


def test_nobody_there_from_the_beginning(stage):
    with Door() as door:
        play = stage(f"redis://127.0.0.1:{door.port}")
        with unnoticed(play):
            time.sleep(1)
        assert play.metrics().hits >= 1  # what fits into L1
        assert "are not in use" in doctor(play)["finding"]


# -- what lies there ----------------------------------------------------------------------------


def test_events_free_memory(stage, redis):
    play = stage(redis.url())
    served_by_redis(play)
    assert len(redis.names("pgfresh:e:*")) == len(IDS) + OTHERS
    play.reader.execute("UPDATE item SET price = price + 1 WHERE id > 1 AND id = ANY(%s)",
                        [list(IDS)])
    wait_until(lambda: len(redis.names("pgfresh:e:*")) == 1 + OTHERS, "dead entries freed", 15)
    assert play.metrics().value("pgfresh_redis_entries_freed_total") == len(IDS) - 1


def test_flush_reaches_redis(stage, redis):
    play = stage(redis.url())
    served_by_redis(play)
    before = l2_hits(play)
    old = set(redis.names("pgfresh:e:*"))
    assert len(old) == len(IDS) + OTHERS
    console(play, "FLUSH TABLE item")
    read(play)
    assert l2_hits(play) == before
    wait_until(lambda: len(old & set(redis.names("pgfresh:e:*"))) == OTHERS,
               "entries of item freed", 15)
    served_by_redis(play)
    console(play, "FLUSH ALL")
    wait_until(lambda: redis.names("pgfresh:e:*") == [], "all entries freed", 15)


def key_file(tmp_path, *numbers):
    path = tmp_path / "keys"
    path.write_text("".join(f"{number} {number:064x}\n" for number in numbers))
    path.chmod(0o600)
    return path


def test_encrypted(stage, redis, tmp_path):
    play = stage(redis.url(), **{"redis.encryption_key_file": key_file(tmp_path, 1, 2),
                                 "redis.compress_min": "1GB"})
    served_by_redis(play)
    names = redis.names("pgfresh:e:*")
    for name in names:
        value = redis.call("GET", name)
        assert isinstance(value, bytes) and b"item" not in value and b"-1" * 3 not in value
        redis.call("SETRANGE", name, 100, "tampered")
    read(play)
    unreadable = play.metrics().value("pgfresh_redis_entries_unreadable_total", why="tampered")
    assert unreadable >= len(IDS)
    served_by_redis(play)


def test_keys_are_rotated_by_reload(stage, redis, tmp_path):
    play = stage(redis.url(), **{"redis.encryption_key_file": key_file(tmp_path, 7)})
    served_by_redis(play)
    old = redis.names("pgfresh:e:*")

    def key_of(name):
        return int.from_bytes(redis.call("GET", name)[8:12], "little")

    assert {key_of(name) for name in old} == {7}
    key_file(tmp_path, 7, 9)
    console(play, "RELOAD")
    before = l2_hits(play)
    read(play)
    assert l2_hits(play) - before >= len(IDS), "what the old key sealed is read"
    play.reader.execute("UPDATE item SET price = price + 1 WHERE id = ANY(%s)", [list(IDS)])
    served_by_redis(play)
    assert {key_of(name) for name in redis.names("pgfresh:e:*") if name not in old} == {9}
    assert play.metrics().value("pgfresh_redis_entries_broken_total") == 0
    # A file that is wrong changes nothing: above all it does not end encryption.
    (tmp_path / "keys").write_text("nonsense")
    with pytest.raises(psycopg.Error, match="redis.encryption_key_file"):
        console(play, "RELOAD")
    read(play)
    assert play.metrics().value("pgfresh_redis_entries_broken_total") == 0


def test_a_key_file_must_be_private(own_play, redis, tmp_path):
    path = key_file(tmp_path, 1)
    path.chmod(0o644)
    command = [os.environ["PGFRESH_BIN"], "--check", "-c"]
    config = tmp_path / "pgfresh.yml"
    config.write_text(f"upstream:\n  url: postgresql://h/\nredis:\n  url: {redis.url()}\n"
                      f"  encryption_key_file: {path}\n")
    done = subprocess.run(command + [config], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith(f"pgfresh: {config}:5: redis.encryption_key_file: ")
    assert "open to everybody" in done.stderr
    path.chmod(0o600)
    assert subprocess.run(command + [config], timeout=30).returncode == 0
