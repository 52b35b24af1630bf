#!/usr/bin/env python3
"""Twenty minutes of everything at once: the judge's load on a private PostgreSQL through pgfresh,
and every so often a fault: the feed killed, PostgreSQL restarted or killed, pgfresh frozen,
connections cut on their way, DDL. Not part of the suite.

    PGFRESH_BIN=build/pgfresh tests/soak.py [--seconds 1200] [--seed N] [--calm] [--publish trigger]

Ends with a report and status 0 when the judge has found nothing, every reader has read to the end,
hits went on to the end, and memory has not grown: the median of the last quarter of the samples of
its resident memory is at most a tenth and 8 MB above that of the second quarter.
"""
import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "system"))

import judge_load  # noqa: E402
from conftest import set_the_stage  # noqa: E402
from judge import Judge  # noqa: E402
from pgfresh_proc import Pgfresh, wait_until  # noqa: E402
from pgserver import PrivatePostgres  # noqa: E402
from play import STALENESS_S, Play  # noqa: E402
from relay import Relay  # noqa: E402

ROUND_S = 120  # the judge's logs are judged and thrown away this often


class Memory:
    """Samples of the proxy's resident memory, one every two seconds."""

    def __init__(self, proxy):
        self.proxy, self.samples, self.over = proxy, [], threading.Event()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while not self.over.wait(2):
            self.samples.append(self.proxy.rss_bytes())

    def grown(self):
        """By how many bytes it has grown beyond what is allowed; negative: it has not."""
        quarter = len(self.samples) // 4
        if quarter < 2:
            return -1
        early = statistics.median(self.samples[quarter:2 * quarter])
        late = statistics.median(self.samples[-quarter:])
        return late - early * 1.1 - (8 << 20)


class Faults:
    """One at a time, at random; how often each has happened."""

    def __init__(self, play, server, relay, numbers):
        self.play, self.server, self.relay, self.numbers = play, server, relay, numbers
        self.happened = {}
        self.failed = []
        self.over = threading.Event()
        self.kinds = [self.kill_feed, self.cut_feed, self.silence_feed, self.cut_clients,
                      self.freeze, self.restart, self.crash, self.ddl]

    def run(self):
        while not self.over.wait(self.numbers.uniform(2, 12)):
            fault = self.numbers.choice(self.kinds)
            try:
                fault()
            except Exception as error:  # reported at the end; the others go on
                self.failed.append(f"{fault.__name__}: {error}")
            self.happened[fault.__name__] = self.happened.get(fault.__name__, 0) + 1

    def kill_feed(self):
        self.play.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name "
                      "LIKE 'pgfresh%' AND pid <> pg_backend_pid()")

    def cut_feed(self):
        self.relay.cut(self.numbers.choice(["fin", "rst"]), "feed")

    def silence_feed(self):
        self.relay.silence("feed")
        time.sleep(self.numbers.uniform(0.1, 4))
        self.relay.speak("feed")

    def cut_clients(self):
        for link in self.relay.of_kind("client")[:2]:
            link.cut(self.numbers.choice(["fin", "rst"]))

    def freeze(self):
        self.play.proxy.freeze()
        time.sleep(self.numbers.uniform(0.1, 3))
        self.play.proxy.wake()

    def restart(self):
        self.server.restart(self.numbers.choice(["fast", "immediate"]))

    def crash(self):
        self.server.kill()
        self.server.start()

    def ddl(self):
        self.play.sql("ALTER TABLE judged_0 ADD IF NOT EXISTS extra int; "
                      "ALTER TABLE judged_0 DROP extra")


def one_round(play, server, seconds, seed):
    """Violations, and the logs. The tables begin anew each time."""
    anew = "".join(f"DROP TABLE IF EXISTS judged_{t} CASCADE; DROP FUNCTION IF EXISTS "
                   f"judged_{t}_write;" for t in range(judge_load.TABLES)) + judge_load.schema()
    # A fault may be under way.
    wait_until(lambda: server.psql("BEGIN;" + anew + "COMMIT;", database=play.database,
                                   check=False).returncode == 0, "the tables are made", 60, 0.5)
    with tempfile.TemporaryDirectory() as folder:
        load = judge_load.Load(play.url(), server.url(database=play.database), folder,
                               seconds=seconds, seed=seed)
        with judge_load.running(load) as logs:
            time.sleep(seconds)
    judge = Judge(logs.writes, STALENESS_S)
    found = judge.reads(logs.reads)
    return found, logs


@contextlib.contextmanager
def stage(publish):
    with PrivatePostgres(settings={"synchronous_commit": "on"}) as server:
        set_the_stage(server)
        server.create_database("soaked", template="stage")
        with Relay(server.port) as relay, \
                Pgfresh(f"postgresql://postgres@127.0.0.1:{relay.port}/postgres",
                        {"console.users": "soak:soak",
                         "freshness.publish": publish}) as proxy:
            yield server, relay, Play(server, "soaked", proxy)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--seconds", type=float, default=1200)
    arguments.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments.add_argument("--calm", action="store_true", help="no faults")
    arguments.add_argument("--publish", choices=("proxy", "trigger"), default="proxy")
    wanted = arguments.parse_args()
    print(f"seed {wanted.seed}, published by the {wanted.publish}", flush=True)
    violations, reads, writes = [], 0, 0
    with stage(wanted.publish) as (server, relay, play):
        faults = Faults(play, server, relay, random.Random(wanted.seed))
        thread = threading.Thread(target=faults.run, daemon=True)
        memory = Memory(play.proxy)
        begun = time.monotonic()
        turn = 0
        while time.monotonic() - begun < wanted.seconds:
            turn += 1
            if not wanted.calm and turn == 2:
                thread.start()  # the first round is calm: what memory is to be compared with
            before = play.metrics()
            left = wanted.seconds - (time.monotonic() - begun)
            try:
                found, logs = one_round(play, server, max(min(ROUND_S, left), 5),
                                        wanted.seed + turn)
            except EOFError:  # a process of the load did not end, and was killed
                print(f"a reader or writer hangs\n{play.proxy.log_tail()}\n"
                      f"{play.proxy.get('/metrics')[1]}")
                for what in ("CLIENTS", "SERVERS", "FEEDS"):
                    subprocess.run(["psql", "-X", "-d", f"postgresql://soak:soak@127.0.0.1:"
                                    f"{play.proxy.port}/pgfresh", "-c", f"SHOW {what}"],
                                   timeout=20, check=False)
                return 1
            after = play.metrics()
            violations += found
            reads += len(logs.reads)
            writes += len(logs.writes)
            print(f"round {turn}: {len(logs.reads)} reads, {len(logs.writes)} writes, "
                  f"{after.hits - before.hits} hits, {len(found)} violations, "
                  f"{len(logs.errors)} errors seen by readers, rss {play.proxy.rss_bytes() >> 10} kB, of "
                  f"which answers {int(after.value('pgfresh_cache_bytes')) >> 10}", flush=True)
            for one in found[:5]:
                print("  " + one.text, flush=True)
            assert after.hits > before.hits, "no hits in this round"
        faults.over.set()
        memory.over.set()
        if thread.is_alive():
            thread.join(60)
        alive = play.proxy.running()
    print(f"{reads} reads, {writes} writes, {len(violations)} violations; faults {faults.happened}; "
          f"faults that failed: {faults.failed[:5]}; rss every minute "
          f"{[s >> 20 for s in memory.samples[::30]]} MB; grown too much: {memory.grown() > 0}")
    return 0 if alive and not violations and memory.grown() <= 0 else 1


if __name__ == "__main__":
    sys.exit(main())
