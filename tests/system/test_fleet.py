"""Several proxies, one Redis, one PostgreSQL: as fresh as one proxy (the judge), and warm: what one
has fetched the others give, also after each has been restarted; not after all were stopped while
somebody wrote. JUDGE_FLEET_SECONDS (default: JUDGE_SECONDS, default 30) sets how long the judge
looks in peace, JUDGE_TROUBLE_SECONDS (default: JUDGE_SECONDS) how long in each trouble. How one
proxy gets on with its Redis is in test_redis.py."""
import collections
import contextlib
import itertools
import os
import random
import threading
import time

import psycopg
import pytest

import fleet_load
import judge_load
from judge import Judge
from pgfresh_proc import Pgfresh, wait_until
from play import STALENESS_S, last
from redis_server import Door, PrivateRedis

SECONDS = os.environ.get("JUDGE_SECONDS", "30")
PEACE_SECONDS = float(os.environ.get("JUDGE_FLEET_SECONDS", SECONDS))
TROUBLE_SECONDS = float(os.environ.get("JUDGE_TROUBLE_SECONDS", SECONDS))
NAMES = itertools.count(1)
POINT = "SELECT name FROM item WHERE id = {}"
IDS = range(1, 31)


class Fleet:
    """`proxies` are in front of one database; a place whose proxy was stopped holds None. `doors`:
    each proxy's own way to Redis; None: the straight one."""

    def __init__(self, server, redis, size, settings, doors=None):
        self.server = server
        self.redis = redis
        self.doors = doors
        self.database = f"fleet{next(NAMES)}"
        server.create_database(self.database, template="stage")
        # The budget is one that a busy machine keeps, where every answer is to come from Redis.
        self.settings = {"redis.url": redis.url(), "redis.ask": "always", "workers": "1",
                         "redis.budget": "200ms", "console.users": "admin:secret",
                         **(settings or {})}
        self.proxies = [None] * size
        self.woken = [None] * size  # counters, when each was ready
        for place in range(size):
            self.start(place)

    def start(self, place):
        door = self.doors[place] if self.doors else None
        way = {"redis.url": door.url()} if door else {}
        self.proxies[place] = Pgfresh(self.server.url(), {**self.settings, **way})
        self.proxies[place].start()
        self.wake(place)
        return self.proxies[place]

    def wake(self, place):
        """The feed of a database begins with its first client, and Redis is asked from the moment
        that the catalog is known to be exact. What is counted is counted from here."""
        proxy = self.proxies[place]
        numbers = itertools.count(10**6)
        with self.app(place) as connection:

            def ready():
                connection.execute(POINT.format(next(numbers))).fetchone()
                page = proxy.metrics()
                return (page.value("pgfresh_feed_live", database=self.database) == 1
                        and page.value("pgfresh_l2_lookups_total") > 0)

            try:
                wait_until(ready, f"feed and Redis of proxy {place}", 15)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.feeds()}") from None
        self.woken[place] = collections.Counter()
        self.woken[place] = self.counted(place)

    def stop(self, place):
        self.proxies[place].stop()
        self.proxies[place] = None

    def app(self, place):
        return psycopg.connect(self.url(place), autocommit=True, prepare_threshold=None)

    def url(self, place):
        return self.proxies[place].url("postgres", self.database)

    def console(self, place):
        return psycopg.connect(f"host=127.0.0.1 port={self.proxies[place].port} dbname=pgfresh "
                               "user=admin password=secret", autocommit=True)

    def direct_url(self):
        return self.server.url("postgres", self.database)

    def sql(self, text):
        return self.server.psql(text, database=self.database)

    def read(self, place, ids=IDS):
        with self.app(place) as connection:
            return {one: connection.execute(POINT.format(one)).fetchone()[0] for one in ids}

    def counted(self, place):
        page = self.proxies[place].metrics()
        now = {"l1": int(page.value("pgfresh_hits_total", tier="l1")),
               "l2": int(page.value("pgfresh_hits_total", tier="l2")),
               "misses": page.misses, "bypasses": sum(page.bypasses.values())}
        return {name: count - self.woken[place][name] for name, count in now.items()}

    def feeds(self):
        """SHOW FEEDS and SHOW REDIS of all, for a test that fails."""
        told = []
        for place, proxy in enumerate(self.proxies):
            if proxy is None:
                continue
            with self.console(place) as console:
                for command in ("SHOW FEEDS", "SHOW REDIS"):
                    cursor = console.execute(command)
                    names = [column.name for column in cursor.description]
                    told += [f"proxy {place}: {dict(zip(names, row))}" for row in cursor]
        return "\n".join(told)

    def feed(self, place, name):
        return int(self.proxies[place].metrics().value(f"pgfresh_feed_{name}",
                                                       database=self.database))

    def close(self):
        for proxy in self.proxies:
            if proxy is not None:
                proxy.stop()
        self.server.psql(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")


@pytest.fixture
def redis():
    with PrivateRedis() as running:
        yield running


@pytest.fixture
def make_fleet(server, redis):
    fleets = []

    def make(size, doors=None, **settings):
        fleets.append(Fleet(server, redis, size, settings, doors))
        return fleets[-1]

    yield make
    for one in fleets:
        one.close()


@pytest.fixture
def make_judged(make_fleet):
    """With the budget as it is by default."""
    return lambda size, doors=None, **settings: make_fleet(
        size, doors, **{"redis.budget": "20ms", **settings})


# -- warm and cold ----------------------------------------------------------------------------


def test_what_one_has_fetched_another_gives(make_fleet):
    fleet = make_fleet(2)
    assert fleet.feed(1, "joins_total") == 1
    truth = fleet.read(0)
    before = fleet.counted(1)
    assert fleet.read(1) == truth
    after = fleet.counted(1)
    assert after["l2"] - before["l2"] == len(IDS)
    assert after["misses"] == before["misses"]
    assert fleet.read(1) == truth
    assert fleet.counted(1)["l1"] - after["l1"] == len(IDS)


def test_an_update_ends_one_answer_everywhere_and_leaves_the_others(make_fleet):
    fleet = make_fleet(3)
    truth = fleet.read(0)
    for place in (1, 2):
        assert fleet.read(place) == truth
    with fleet.app(1) as writer:
        writer.execute("UPDATE item SET name = 'changed' WHERE id = 7")
        assert fleet.read(1)[7] == "changed"
    for place in (0, 2):
        wait_until(lambda: fleet.read(place, [7])[7] == "changed", "the others see it", 1)
        before = fleet.counted(place)
        assert fleet.read(place) == {**truth, 7: "changed"}
        assert fleet.counted(place)["misses"] == before["misses"]


def test_restarted_in_turn_they_stay_warm(make_fleet):
    fleet = make_fleet(2)
    truth = fleet.read(0)
    for place in (0, 1, 0, 1):
        fleet.stop(place)
        fleet.start(place)
        assert fleet.feed(place, "joins_total") == 1
        assert fleet.read(place) == truth
        counted = fleet.counted(place)
        assert counted["l2"] >= len(IDS), counted
        assert counted["misses"] <= 2, counted


def test_all_stopped_while_somebody_writes_they_come_back_cold(make_fleet):
    fleet = make_fleet(2)
    truth = fleet.read(0)
    assert fleet.read(1) == truth
    assert fleet.redis.names("*"), "nothing lies in Redis"
    for place in (0, 1):
        fleet.stop(place)
    fleet.sql("UPDATE item SET name = name || '!' WHERE id <= 30")
    for place in (0, 1):
        fleet.start(place)
        assert fleet.read(place) == {one: name + "!" for one, name in truth.items()}
    assert fleet.counted(0)["l2"] == 0


def test_a_feed_that_was_cut_is_warm_again(make_fleet):
    fleet = make_fleet(2)
    truth = fleet.read(1)
    joins = fleet.feed(1, "joins_total")
    fleet.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
              "WHERE application_name LIKE 'pgfresh%' AND datname = current_database()")
    wait_until(lambda: all(fleet.feed(place, "sessions_total") >= 2 and fleet.feed(place, "live")
                           for place in (0, 1)), "both feeds again", 15)
    # Cut at the same moment, nobody could answer anybody: they come together by their bases.
    wait_until(lambda: fleet.read(0) == truth and fleet.read(1) == truth
               and lineages(fleet) == 1, "one lineage", 30)
    assert joins == 1


def lineages(fleet):
    """How many groups of proxies there are that share entries."""
    seen = set()
    for place in range(len(fleet.proxies)):
        with fleet.console(place) as connection:
            cursor = connection.execute("SHOW FEEDS")
            names = [column.name for column in cursor.description]
            for row in cursor.fetchall():
                shown = dict(zip(names, row))
                if shown["database"] == fleet.database:
                    seen.add(shown["lineage"])
    return len(seen)


def test_ddl_ends_every_answer_everywhere_and_they_share_again(make_fleet):
    fleet = make_fleet(2)
    truth = fleet.read(0)
    assert fleet.read(1) == truth
    with fleet.app(0) as owner:
        owner.execute("ALTER TABLE item ADD COLUMN later int")
        wide = owner.execute("SELECT * FROM item WHERE id = 1").fetchone()
    with fleet.app(1) as other:
        def seen():
            row = other.execute("SELECT * FROM item WHERE id = 1").fetchone()
            return len(row) == len(wide)
        wait_until(seen, "the new column through the other proxy", 1)
    wait_until(lambda: all(fleet.feed(place, "live") for place in (0, 1)), "both live", 10)
    assert fleet.read(0) == truth
    before = fleet.counted(1)
    assert fleet.read(1) == truth
    after = fleet.counted(1)
    assert after["l2"] - before["l2"] >= len(IDS) - 1, (before, after)


def test_three_ask_postgresql_about_as_often_as_one(make_fleet):
    """Readers of all proxies at once, over the same rows, each in an order of its own: what one
    fetches the others need not."""
    fleet = make_fleet(3, **{"redis.single_flight": "where_it_pays"})
    before = [fleet.counted(place) for place in range(3)]
    threads = [threading.Thread(target=fleet.read, args=(place, random.sample(IDS, len(IDS))))
               for place in range(3) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rises = [{name: count - first[name] for name, count in fleet.counted(place).items()}
             for place, first in enumerate(before)]
    misses = sum(rise["misses"] for rise in rises)
    # Side by side, two may fetch the same before either has put it.
    assert len(IDS) <= misses < 2 * len(IDS), rises
    assert sum(rise["l1"] + rise["l2"] for rise in rises) > 3 * len(IDS), rises


def test_flush_query_reaches_redis(make_fleet):
    fleet = make_fleet(2)
    fleet.read(1)
    kept = "SELECT price FROM item WHERE id = {}"
    with fleet.app(1) as app:
        for one in IDS:
            app.execute(kept.format(one))
        app.execute(POINT.format(1))
        number = last(app)["query_id"]
    with fleet.console(0) as console:
        console.execute(f"FLUSH QUERY {number}")
    before = fleet.counted(0)
    fleet.read(0)
    after = fleet.counted(0)
    assert after["misses"] - before["misses"] == len(IDS) and after["l2"] == before["l2"]
    with fleet.app(0) as app:
        for one in IDS:
            app.execute(kept.format(one))
    assert fleet.counted(0)["l2"] - after["l2"] == len(IDS), "the other query's answers stay"


# -- the judge --------------------------------------------------------------------------------


@contextlib.contextmanager
def disturbing(fault, every_s):
    """Calls fault() again and again beside the load. How it went, each time: True, or an error."""
    over = threading.Event()
    done = []

    def go_on():
        while not over.wait(every_s):
            try:
                fault()
                done.append(True)
            except Exception as error:  # shown by the test, which must not go on without faults
                done.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join(60)


def mostly_hits(rise):
    return rise["l1"] + rise["l2"] > sum(rise.values()) / 2


def judge_fleet(fleet, tmp_path, seconds, fault=None, every_s=0.0):
    """Runs the load; asserts zero violations. The logs, what each proxy has counted, and how often
    fault() was done."""
    fleet.sql(judge_load.schema())
    for place in range(len(fleet.proxies)):
        fleet.read(place, [1])
    load, makers = fleet_load.crew(fleet, str(tmp_path), seconds)
    before = [fleet.counted(place) for place in range(len(fleet.proxies))]
    faults = []

    def all_asked():
        return all(sum(fleet.counted(place).values()) > sum(first.values()) + 100
                   for place, first in enumerate(before))

    with contextlib.ExitStack() as stack:
        logs = stack.enter_context(judge_load.running(load, makers))
        wait_until(all_asked, "the load at every proxy", 60)
        if fault:
            faults = stack.enter_context(disturbing(fault, every_s))
        time.sleep(seconds)
    assert faults == [True] * len(faults), faults
    violations = []
    time.sleep(STALENESS_S + 0.2)
    for place in range(len(fleet.proxies)):
        judge = Judge([write._replace(proxied=write.proxied == place + 1)
                       for write in logs.writes], STALENESS_S)
        reads = [read for read in logs.reads if read.reader.endswith(f"@{place}")]
        assert len(reads) > 100, f"proxy {place} was asked {len(reads)} times; {logs.errors[:3]}"
        violations += judge.reads(reads)
        violations += judge.final(judge_load.final_values(fleet.url(place)))
        assert judge.coverage.empty() == [], (place, judge.coverage)
    assert not violations, "\n".join(f"{one.kind} {one.text}" for one in violations[:20])
    assert logs.hidden == []
    after = [fleet.counted(place) for place in range(len(fleet.proxies))]
    rises = [{name: last[name] - first[name] for name in last}
             for first, last in zip(before, after)]
    print(f"{len(logs.writes)} writes, {len(logs.reads)} reads, {len(faults)} faults, {rises}")
    return logs, rises, len(faults)


@pytest.mark.slow
@pytest.mark.seconds(PEACE_SECONDS + 150)
@pytest.mark.parametrize("size", [2, 3])
def test_no_stale_read_anywhere(make_judged, tmp_path, size):
    fleet = make_judged(size, **{"freshness.publish": "trigger"})
    logs, rises, _ = judge_fleet(fleet, tmp_path, PEACE_SECONDS)
    assert logs.errors == []
    for rise in rises:
        assert mostly_hits(rise), rises
        assert rise["l2"] > 0, rises


@pytest.mark.slow
@pytest.mark.seconds(TROUBLE_SECONDS + 150)
def test_no_stale_read_where_proxies_publish(make_judged, tmp_path):
    """On a machine too slow for its load a beat may be late, and its sender given up for dead. That
    costs hits, and nothing else."""
    fleet = make_judged(3, **{"freshness.publish": "proxy"})
    logs, rises, _ = judge_fleet(fleet, tmp_path, TROUBLE_SECONDS)
    assert logs.errors == []
    given_up = [fleet.feed(place, "publishers_lost_total") for place in range(3)]
    print(f"given up: {given_up}")
    for place, rise in enumerate(rises):
        assert fleet.feed(place, "published_total") > 0
        assert mostly_hits(rise) or any(given_up), rises
        assert rise["l2"] > 0, rises


@pytest.mark.slow
@pytest.mark.seconds(TROUBLE_SECONDS + 150)
def test_no_stale_read_while_feeds_are_cut(make_judged, tmp_path):
    fleet = make_judged(2)

    def cut_one():
        fleet.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name "
                  "LIKE 'pgfresh%' AND datname = current_database() AND pid <> pg_backend_pid() "
                  "ORDER BY random() LIMIT 1")

    logs, rises, _ = judge_fleet(fleet, tmp_path, TROUBLE_SECONDS, cut_one, every_s=0.8)
    assert logs.errors == []  # P4: no client may notice
    assert sum(rise["l2"] for rise in rises) > 0
    assert sum(fleet.feed(place, "joins_total") for place in (0, 1)) > 1


@pytest.mark.slow
@pytest.mark.seconds(TROUBLE_SECONDS + 150)
def test_no_stale_read_while_redis_comes_and_goes(make_judged, redis, tmp_path):
    """Killed and started again from an old state, evicting, standing still."""
    fleet = make_judged(2)
    with contextlib.suppress(OSError):
        redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    faults = itertools.cycle([
        lambda: redis.call("SAVE"),
        lambda: redis.call("CLIENT", "PAUSE", "150", "ALL"),
        lambda: redis.call("CONFIG", "SET", "maxmemory", "1500kb"),
        lambda: (redis.kill(), redis.start()),  # with what SAVE has written
        lambda: redis.call("FLUSHALL")])
    logs, rises, _ = judge_fleet(fleet, tmp_path, TROUBLE_SECONDS,
                                 lambda: next(faults)(), every_s=0.7)
    assert logs.errors == []
    assert sum(rise["l2"] for rise in rises) > 0


@contextlib.contextmanager
def doors_to(redis, size):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Door(target=redis.port)) for _ in range(size)]


def redis_counted(fleet, place, name):
    return int(fleet.proxies[place].metrics().value(f"pgfresh_redis_{name}"))


@pytest.mark.slow
@pytest.mark.seconds(TROUBLE_SECONDS + 150)
def test_no_stale_read_while_replicas_are_promoted(make_judged, redis, tmp_path):
    """Each proxy has a name for the primary that is told late, so that for a while they write to
    two primaries; and what the promoted one was not sent before the other died is lost."""
    with PrivateRedis({"replicaof": f"127.0.0.1 {redis.port}"}) as other, \
            doors_to(redis, 2) as doors:
        fleet = make_judged(2, doors)
        primary, replica = redis, other

        def swap():
            nonlocal primary, replica
            wait_until(lambda: replica.info("master_link_status") == "up", "a replica", 15)
            primary, replica = replica, primary
            primary.call("REPLICAOF", "NO", "ONE")

        def switch():
            """As an operator would, one name after the other; the old primary still answers."""
            swap()
            for door in doors:
                time.sleep(0.3)
                door.lead_to(primary.port)
            replica.call("REPLICAOF", "127.0.0.1", primary.port)

        def die():
            """As a Sentinel would; the dead one comes back as a replica of the other."""
            dead = primary
            swap()  # at this moment, so that what is written until the end is lost
            dead.kill()
            for door in doors:
                door.lead_to(primary.port)
            replica.settings.pop("replicaof", None)
            replica.start()
            wait_until(lambda: replica.info("loading") == "0", "its old state", 15)
            replica.call("REPLICAOF", "127.0.0.1", primary.port)

        faults = itertools.cycle([switch, die])
        connects = [redis_counted(fleet, place, "connects_total") for place in (0, 1)]
        logs, rises, done = judge_fleet(fleet, tmp_path, TROUBLE_SECONDS,
                                        lambda: next(faults)(), every_s=1.2)
        assert logs.errors == []
        assert done >= 3
        for place in (0, 1):
            assert rises[place]["l2"] > 0, rises
            assert redis_counted(fleet, place, "connects_total") - connects[place] >= done
        for one in (redis, other):
            assert int(one.info("total_commands_processed")) > 100, "it was primary in vain"


@pytest.mark.slow
@pytest.mark.seconds(TROUBLE_SECONDS + 150)
def test_no_stale_read_while_one_is_cut_from_redis(make_judged, redis, tmp_path):
    """Thrown out, and held up: then what it says and is told arrives seconds later. The others keep
    what they have."""
    with doors_to(redis, 1) as (cut,):
        fleet = make_judged(3, [cut, None, None], **{"redis.single_flight": "where_it_pays",
                                                     "freshness.publish": "trigger"})
        others = (1, 2)
        shared = []

        def throw_out():
            before = [fleet.counted(place)["l2"] for place in others]
            cut.close()
            time.sleep(0.5)
            assert redis_counted(fleet, 0, "ready") == 0
            shared.append(sum(fleet.counted(place)["l2"] for place in others) > sum(before))
            cut.lead_to(redis.port)

        def hold_up():
            cut.stand_still()
            time.sleep(1.2)
            cut.move()

        faults = itertools.cycle([throw_out, hold_up])
        breaks = [redis_counted(fleet, place, "breaks_total") for place in range(3)]
        logs, rises, done = judge_fleet(fleet, tmp_path, TROUBLE_SECONDS,
                                        lambda: next(faults)(), every_s=0.8)
        assert logs.errors == []
        assert done >= 3 and any(shared), shared
        rose = [redis_counted(fleet, place, "breaks_total") - breaks[place] for place in range(3)]
        assert rose[0] >= done / 2 and rose[1:] == [0, 0], rose
        assert redis_counted(fleet, 0, "trips_total") > 0
        assert rises[0]["l2"] > 0, rises
        for place in others:
            rise = rises[place]
            assert mostly_hits(rise), rises
            assert rise["l2"] > 0, rises
