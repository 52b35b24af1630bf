#!/usr/bin/python3
"""What the second level costs, and what a hit in it costs, against a bare GET of the same size.

    PGFRESH_BIN=build/pgfresh /usr/bin/python3 tests/bench/redis_cost.py [--seconds 4]

One private PostgreSQL, one private Redis, one pgfresh at a time; pgbench asks by key, prepared. CPU
is per query, of all threads: of pgfresh, and of Redis, whose share is the tag sets' as well.

    L1 hit, no Redis        always the same key
    L1 hit, with Redis      the same, with a second level behind it: must not differ
    L2 hit                  keys by chance of far more than L1 holds, all of them in Redis
    fill, no Redis          keys by chance, a lifetime of 1 ms: looked up, fetched, stored in L1
    fill, with Redis        the same, and a look-up and a store in Redis each time
    UPDATE by key           half of the updated rows have an entry in Redis that dies
    bare GET                redis-benchmark on values as large as an entry, one at a time and 16
"""
import argparse
import os
import re
import resource
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "system")]

import contestants  # noqa: E402
import measure  # noqa: E402
from pgfresh_proc import Pgfresh  # noqa: E402
from pgserver import PrivatePostgres  # noqa: E402
from redis_server import PrivateRedis  # noqa: E402

INSTALL = os.path.join(HERE, "..", "..", "sql", "install.sql")
ROWS = 20_000
ONE = "SELECT v, filler FROM fact WHERE id = 7;\n"
ANY = f"\\set id random(1, {ROWS})\nSELECT v, filler FROM fact WHERE id = :id;\n"
UPDATE = f"\\set id random(1, {2 * ROWS})\nUPDATE fact SET v = v + 1 WHERE id = :id;\n"


def run(name, proxy, redis, script, clients, seconds):
    pids = {"pgfresh": [proxy.pid], "redis": [redis.process.pid]}
    before = {who: contestants.processor_seconds(these) for who, these in pids.items()}
    metrics = proxy.metrics()
    result = measure.pgbench(proxy.port, "bench", script, "prepared", clients, seconds, 0.1)
    if "error" in result:
        print(f"| {name} | {result['error']} | | | | | |")
        return
    cost = {who: (contestants.processor_seconds(these) - before[who]) * 1e6 /
            result["transactions"] for who, these in pids.items()}
    after = proxy.metrics()
    share = {tier: (after.value("pgfresh_hits_total", tier=tier) -
                    metrics.value("pgfresh_hits_total", tier=tier)) / result["transactions"]
             for tier in ("l1", "l2")}
    print(f"| {name} | {result['tps']:,.0f} | {result['p50_ms']:.3f} | {result['p99_ms']:.3f} | "
          f"{cost['pgfresh']:.1f} | {cost['redis']:.1f} | {share['l1']:.0%}, {share['l2']:.0%} |",
          flush=True)


def bare_get(redis, size, clients, pipeline, seconds):
    redis.call("SET", "bare", "x" * size)
    count = 60_000 * seconds
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    server = contestants.processor_seconds([redis.process.pid])
    done = subprocess.run(["redis-benchmark", "-p", str(redis.port), "-c", str(clients), "-P",
                           str(pipeline), "-n", str(count), "--csv", "GET", "bare"],
                          capture_output=True, text=True, check=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    server = contestants.processor_seconds([redis.process.pid]) - server
    client = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    numbers = [float(word) for word in re.findall(r'"([0-9.]+)"', done.stdout.splitlines()[-1])]
    print(f"| bare GET, {size} bytes, {pipeline} at a time | {numbers[0]:,.0f} | {numbers[3]:.3f} | "
          f"{numbers[5]:.3f} | {client * 1e6 / count:.1f} | {server * 1e6 / count:.1f} | |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    with PrivatePostgres() as postgres, PrivateRedis() as redis:
        postgres.create_database("bench")
        postgres.psql(file=INSTALL, database="bench")
        postgres.psql("CREATE TABLE fact (id int PRIMARY KEY, v int, filler text); INSERT INTO fact "
                      f"SELECT n, 0, repeat('x', 100) FROM generate_series(1, {2 * ROWS}) n; "
                      "SELECT pgfresh.watch('fact'); VACUUM ANALYZE fact", database="bench")
        print("| | tps | p50 ms | p99 ms | CPU µs/query | Redis' CPU µs | hits L1, L2 |")
        print("|---|---:|---:|---:|---:|---:|---:|")

        def case(name, script, warm=1, **settings):
            with Pgfresh(postgres.url(database="bench"),
                         {name.replace("__", "."): value for name, value in settings.items()}
                         ) as proxy:
                measure.pgbench(proxy.port, "bench", script if warm == 1 else ANY, "prepared",
                                options.clients, warm, 1)
                run(name, proxy, redis, script, options.clients, options.seconds)

        shared = {"redis__url": redis.url(), "redis__ask": "always"}
        case("L1 hit, no Redis", ONE)
        case("L1 hit, with Redis", ONE, **shared)
        case("L2 hit", ANY, warm=3 * options.seconds, cache__bytes="1MB", **shared)
        case("fill, no Redis", ANY, cache__ttl="1ms")
        case("fill, with Redis", ANY, cache__ttl="1ms", **shared)
        case("UPDATE by key, no Redis", UPDATE)
        case("UPDATE by key, with Redis", UPDATE, warm=3 * options.seconds, **shared)
        for pipeline in (1, 16):
            bare_get(redis, 500, options.clients, pipeline, options.seconds)


if __name__ == "__main__":
    main()
