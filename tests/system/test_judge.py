"""The judge's verdict on pgfresh: in peace, and while the feed is killed, PostgreSQL restarted and
pgfresh frozen. JUDGE_SECONDS (default 30) sets how long, JUDGE_TROUBLE_SECONDS (the same) how
long with faults. The judge itself is judged first."""
import contextlib
import itertools
import os
import signal
import threading
import time

import pytest

import judge_load
from judge import ABORTED, COMMITTED, INFINITE, UNKNOWN, Judge, Read, Write
from pgserver import free_port
from play import STALENESS_S

SECONDS = float(os.environ.get("JUDGE_SECONDS", "30"))
TROUBLE_SECONDS = float(os.environ.get("JUDGE_TROUBLE_SECONDS", SECONDS))
WEAK_HASH = "PGFRESH_WEAK_HASH" in os.environ  # the binary is built with 4-bit hashes
MS = 10**6


# -- the judge is judged ------------------------------------------------------------------------


def write(version, began, acked, proxied=True, outcome=COMMITTED):
    return Write((0, 0), version, proxied, began * MS, acked * MS, outcome, "test")


def verdict(writes, version, started, ended, staleness_s=1.0, other=None):
    values = [((0, 0), version)] + ([((0, 1), other)] if other is not None else [])
    read = Read("test", "point", started * MS, ended * MS, tuple(values))
    return [found.kind for found in Judge(writes, staleness_s).reads([read])]


def test_judge_accepts_old_and_new_while_the_write_is_under_way():
    writes = [write(1, 100, 200)]
    assert verdict(writes, 0, 150, 160) == []
    assert verdict(writes, 1, 150, 160) == []
    assert verdict(writes, 0, 199, 300) == []


def test_judge_finds_a_proxied_write_not_seen():
    assert verdict([write(1, 100, 200)], 0, 201, 210) == ["P1"]


def test_judge_allows_a_direct_write_its_time_and_no_more():
    writes = [write(1, 100, 200, proxied=False)]
    assert verdict(writes, 0, 1190, 1195) == []
    assert verdict(writes, 0, 1210, 1215) == ["P2"]


def test_judge_sees_a_proxied_write_behind_a_direct_one():
    writes = [write(1, 100, 200, proxied=False), write(2, 210, 220)]
    assert verdict(writes, 0, 230, 240) == ["P1"]
    assert verdict(writes, 1, 230, 240) == ["P1"]
    assert verdict(writes, 2, 230, 240) == []


def test_judge_finds_rolled_back_future_and_invented_versions():
    writes = [write(1, 100, 200, outcome=ABORTED), write(2, 300, 400)]
    assert verdict(writes, 1, 150, 160) == ["P3"]
    assert verdict(writes, 2, 150, 160) == ["P3"]
    assert verdict(writes, 7, 150, 160) == ["P3"]


def test_judge_lets_an_unknown_outcome_be_seen_or_not():
    writes = [Write((0, 0), 1, True, 100 * MS, INFINITE, UNKNOWN, "test")]
    assert verdict(writes, 0, 5000, 5001) == []
    assert verdict(writes, 1, 5000, 5001) == []
    assert Judge(writes, 1).final([((0, 0), 0), ((0, 1), 1)]) == []


def test_judge_finds_a_mixture():
    assert verdict([write(1, 100, 200)], 0, 150, 160, other=1) == ["P3"]


def test_judge_finds_a_wrong_end():
    assert [v.kind for v in Judge([write(1, 100, 200)], 1).final([((0, 0), 0)])] == ["final"]


class HalfSecondOldReader(judge_load.ExtendedReader):
    """Keeps answers for half a second: the naive cache this project exists to replace."""

    def once(self, shape, sql, parameters, tables):
        memory = self.__dict__.setdefault("memory", {})
        started = judge_load.CLOCK()
        rows, kept = memory.get((sql, parameters), (None, 0))
        if rows is None or started - kept > 500 * MS:
            kept = started
            rows = self.connection.execute(sql, parameters).fetchall()
            memory[sql, parameters] = (rows, kept)
        else:
            time.sleep(0.001)
        self.note(shape, started, rows, tables)


class UncommittedReader(judge_load.ExtendedReader):
    """Invents the version after the one it reads, as a dirty read would."""

    def once(self, shape, sql, parameters, tables):
        started = judge_load.CLOCK()
        rows = self.connection.execute(sql, parameters).fetchall()
        self.note(shape, started, [(row[0], row[1] + 1) for row in rows], tables[:1])


@pytest.fixture
def judged(server):
    name = "judged_directly"
    server.create_database(name, template="stage")
    server.psql(judge_load.schema(), database=name)
    yield server.url(database=name)
    server.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("reader, kinds, guilty", [
    (judge_load.ExtendedReader, set(), False),
    (judge_load.AsyncpgReader, set(), False),
    (HalfSecondOldReader, {"P1"}, True),
    (UncommittedReader, {"P3"}, True)])
def test_judge_on_postgresql_itself(judged, tmp_path, reader, kinds, guilty):
    """PostgreSQL without any cache is innocent; a reader that cheats is found out."""
    load = judge_load.Load(judged, judged, str(tmp_path), seconds=3, write_pause_s=0.01)
    with judge_load.running(load, [reader]) as logs:
        time.sleep(load.seconds)
    judge = Judge(logs.writes, STALENESS_S)
    found = judge.reads(logs.reads)
    assert len(logs.reads) > 20
    assert bool(found) == guilty, found[:5]
    assert kinds <= {violation.kind for violation in found}
    assert logs.hidden == []


# -- pgfresh is judged --------------------------------------------------------------------------


@contextlib.contextmanager
def disturbing(fault, every_s):
    """Calls fault() again and again beside the load."""
    over = threading.Event()
    problems = []

    def go_on():
        while not over.wait(every_s):
            try:
                fault()
            except Exception as error:  # shown by the test, which must not die of it
                problems.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield problems
    finally:
        over.set()
        thread.join(60)


def run_judge(play, tmp_path, fault=None, every_s=0.0):
    """Runs the load; asserts zero violations and the right end. Returns the judge, the
    logs, and the rise of the counters."""
    play.sql(judge_load.schema())
    load = judge_load.Load(play.url(), play.server.url(database=play.database), str(tmp_path),
                           seconds=TROUBLE_SECONDS if fault else SECONDS)
    print(f"seed {load.seed}")
    play.hot(play.app(), "SELECT id, version FROM judged_0 WHERE id = 1")
    before = play.metrics()
    with contextlib.ExitStack() as stack:
        logs = stack.enter_context(judge_load.running(load))
        problems = stack.enter_context(disturbing(fault, every_s)) if fault else []
        time.sleep(load.seconds)
    after = play.metrics()
    assert not problems
    judge = Judge(logs.writes, STALENESS_S)
    violations = judge.reads(logs.reads)
    time.sleep(STALENESS_S + 0.2)
    violations += judge.final(judge_load.final_values(play.url()))
    kinds = {kind: sum(v.kind == kind for v in violations) for kind in ("P1", "P2", "P3", "final")}
    assert not violations, f"seed {load.seed}, {kinds}\n" + "\n".join(v.text for v in violations[:20])
    assert logs.hidden == []
    asked = {"hits": after.hits - before.hits, "misses": after.misses - before.misses,
             "bypasses": sum((after.bypasses - before.bypasses).values())}
    print(f"{len(logs.writes)} writes, {judge.coverage}, {asked}")
    return judge, logs, asked, before, after


@pytest.fixture(params=["trigger", "proxy"])
def settings(request):
    """Who publishes what comes through pgfresh."""
    return {"freshness.publish": request.param}


@pytest.mark.slow
@pytest.mark.seconds(SECONDS + 90)
def test_no_stale_read_in_peace(own_play, settings, tmp_path):
    play = own_play(settings)
    judge, logs, asked, before, after = run_judge(play, tmp_path)
    assert logs.errors == []
    assert judge.coverage.empty() == []
    share = 20 if WEAK_HASH else 2  # where sixteen keys are all there are, most hits are lost
    assert asked["hits"] > sum(asked.values()) / share, asked
    # Not stale_found_total: that an entry is met between its event and its removal is a matter of
    # microseconds. The simulation sees to it.
    for name in ["fills_total", "inband_notices_total", "flights_joined_total"]:
        assert after.value(f"pgfresh_{name}") > before.value(f"pgfresh_{name}"), name
    open_met = (after.bypasses - before.bypasses)["write_pending"]
    assert open_met > 0, "no read met a table that was being written"


@pytest.mark.slow
@pytest.mark.seconds(SECONDS + 90)
def test_no_stale_read_while_the_feed_is_killed(own_play, settings, tmp_path):
    play = own_play(settings)

    def kill_feed():
        play.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                 "WHERE application_name LIKE 'pgfresh%' AND pid <> pg_backend_pid()")

    judge, logs, asked, *_ = run_judge(play, tmp_path, kill_feed, every_s=0.7)
    assert logs.errors == []  # P4: no client may notice
    assert judge.coverage.empty() == []
    assert asked["hits"] > 0


@pytest.mark.slow
@pytest.mark.seconds(SECONDS + 120)
def test_no_stale_read_while_postgresql_restarts(own_play, own_server, settings, tmp_path):
    play = own_play(settings, postgres=own_server)
    modes = iter(["fast", "immediate"] * 1000)
    judge, logs, asked, *_ = run_judge(
        play, tmp_path, lambda: own_server.restart(next(modes)), every_s=max(TROUBLE_SECONDS / 4, 3))
    assert logs.errors, "no restart was noticed by any client"
    assert judge.coverage.empty() == []
    assert asked["hits"] > 0


@pytest.mark.slow
@pytest.mark.seconds(SECONDS + 90)
def test_no_stale_read_while_both_are_reloaded(own_play, own_server, settings, tmp_path):
    """PostgreSQL's configuration and pgfresh's, by turns."""
    port, http_port = free_port(), free_port()
    turns = itertools.count()

    def config(turn):
        return (f"listen: {{tcp: ['127.0.0.1:{port}'], unix: none, http: '127.0.0.1:{http_port}'}}\n"
                f"upstream: {{url: '{own_server.url()}'}}\n"
                f"freshness: {{publish: {settings['freshness.publish']}}}\n"
                f"cache: {{ttl: {'1s' if turn % 4 else '5min'}, bytes: {64 + turn % 3}MB}}\n")

    play = own_play(postgres=own_server, config=config(0), port=port, http_port=http_port)

    def reload():
        turn = next(turns)
        if turn % 2:
            own_server.psql(f"ALTER SYSTEM SET extra_float_digits = {turn % 3}")
            own_server.psql("SELECT pg_reload_conf()")
        else:
            play.proxy.write_config(config(turn))
            play.proxy.signal(signal.SIGHUP)

    judge, logs, asked, *_ = run_judge(play, tmp_path, reload, every_s=0.3)
    assert logs.errors == []
    assert judge.coverage.empty() == []
    assert asked["hits"] > 0
    assert play.proxy.log_text().count(" reloaded") > 2 and next(turns) > 4


@pytest.mark.slow
@pytest.mark.seconds(SECONDS + 90)
def test_no_stale_read_while_pgfresh_is_frozen_and_woken(own_play, settings, tmp_path):
    play = own_play(settings)

    def freeze():  # one of the writers never goes through pgfresh, and writes on
        play.proxy.freeze()
        time.sleep(1.7)
        play.proxy.wake()

    judge, logs, asked, *_ = run_judge(play, tmp_path, freeze, every_s=2)
    assert logs.errors == []
    assert judge.coverage.empty() == []
    assert asked["hits"] > 0
