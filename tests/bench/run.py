#!/usr/bin/python3
"""One run, everything side by side, a table and a JSON file. Times are reported, never judged.

    PGFRESH_BIN=build/pgfresh /usr/bin/python3 tests/bench/run.py [--quick] [--json FILE]

Everybody is measured once in each round, and who is compared with whom one after the other. Shown
are medians of the rounds, and the aims judge the median of the ratios within a round: a machine
changes from minute to minute by more than what is compared.

One private PostgreSQL; the same SELECT by key for everybody, on a watched table:

    direct                    PostgreSQL, nothing between
    PgBouncer                 session and transaction pooling; also a process for each core, and
                              with the keys in turn that a miss is measured with
    pgpool-II                 with its query cache in shared memory
    pgfresh, hit              always the same key, the answer is in memory
    pgfresh, miss             keys in turn and a lifetime of 1 ms: looked up, fetched, stored
    pgfresh, miss, new text   a literal that never came before: analysed as well (simple mode only;
                              in the others the text does not change)
    pgfresh, not cacheable    the same SELECT on an unwatched table: known, refused, passed on
    pgfresh, caching off      cache.mode = off: passed on
    pgfresh, … one worker     the same with one thread, as PgBouncer has
    echo server               one canned answer to everything: what the kernel charges

CPU is the contestant's own, all its processes and threads, per query. The machine's cores are
shared by pgbench, contestant and PostgreSQL, so tps compares only within one run.
"""
import argparse
import json
import os
import platform
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "system")]

import contestants  # noqa: E402
import measure  # noqa: E402
from pgserver import PrivatePostgres  # noqa: E402

INSTALL = os.path.join(HERE, "..", "..", "sql", "install.sql")
MODES = ("simple", "extended", "prepared")


def number(value, digits):
    return "–" if value is None else f"{value:,.{digits}f}"


def print_table(results, modes, clients):
    for mode in modes:
        for count in clients:
            print(f"\n{mode}, {count} client{'s' if count > 1 else ''}\n")
            print("| | tps | p50 ms | p99 ms | CPU µs/query |")
            print("|---|---:|---:|---:|---:|")
            for result in results:
                if (result["mode"], result["clients"]) != (mode, count):
                    continue
                if "error" in result:
                    print(f"| {result['name']} | {result['error']} | | | |")
                    continue
                doubt = f" ({result['doubt']}!)" if "doubt" in result else ""
                print(f"| {result['name']}{doubt} | {number(result['tps'], 0)} | "
                      f"{number(result.get('p50_ms'), 3)} | {number(result.get('p99_ms'), 3)} | "
                      f"{number(result.get('cpu_us'), 1)} |")


def print_rest(report):
    print("\n| idle clients | bytes of pgfresh per client |\n|---:|---:|")
    for count, result in report["idle"].items():
        lost = "" if result["alive"] else " (some were disconnected!)"
        print(f"| {int(count):,} | {number(result['bytes_per_client'], 0)}{lost} |")
    clients = 16 if report["seconds"] else measure.SMOKE_CLIENTS
    for fsync, results in report["triggers"].items():
        print(f"\n| UPDATE by key, {clients} clients, fsync {fsync} | tps | p50 ms | p99 ms |")
        print("|---|---:|---:|---:|")
        for name, result in results.items():
            print(f"| {name} | {result.get('error') or number(result['tps'], 0)} | "
                  f"{number(result.get('p50_ms'), 3)} | {number(result.get('p99_ms'), 3)} |")


def print_writes(report):
    clients = 16 if report["seconds"] else measure.SMOKE_CLIENTS
    for fsync, results in report["writes"].items():
        print(f"\n| UPDATE by key through pgfresh, {clients} clients or as said, fsync {fsync} | tps "
              "| p50 ms | p99 ms | CPU µs/query |\n|---|---:|---:|---:|---:|")
        for name, result in results.items():
            print(f"| {name} | {result.get('error') or number(result['tps'], 0)} | "
                  f"{number(result.get('p50_ms'), 3)} | {number(result.get('p99_ms'), 3)} | "
                  f"{number(result.get('cpu_us'), 1)} |")


def aims(report):
    """(what, median of the rounds' ratios, aim, reached, their range) for 16 clients; the aims are
    those of the project."""
    found = {(r["name"], r["mode"], r["clients"]): r for r in report["cells"] if "error" not in r}
    rows = []

    def compare(what, one, other, key, aim, at_least):
        if one and other and one.get(key) and other.get(key):
            ratios = [a / b for a, b in zip(one["rounds"][key], other["rounds"][key])]
            value = statistics.median(ratios)
            rows.append((what, round(value, 2), f"{'≥' if at_least else '≤'} {aim}",
                         value >= aim if at_least else value <= aim,
                         f"{min(ratios):.2f} to {max(ratios):.2f}"))

    for mode in MODES:
        def of(name, mode=mode):
            return found.get((name, mode, 16))

        hit, echo = of("pgfresh, hit"), of("echo server, the ceiling")
        compare(f"hit / echo, tps, {mode}", hit, echo, "tps", 0.8, True)
        compare(f"hit / echo, CPU, {mode}", hit, echo, "cpu_us", 1.5, False)
        # What is asked is the same on both sides, and with as many threads: one for each core, and
        # one.
        cores = f", {os.cpu_count()} processes"
        for name, keys in (("miss", ", keys in turn"), ("not cacheable", ""), ("caching off", "")):
            for threads, processes in (("", cores), (", one worker", "")):
                compare(f"{name}{threads} / PgBouncer session{processes}, CPU, {mode}",
                        of(f"pgfresh, {name}{threads}"),
                        of(f"PgBouncer, session{processes}{keys}"), "cpu_us", 1.3, False)
            compare(f"{name} / PgBouncer session, CPU, {mode}", of(f"pgfresh, {name}"),
                    of(f"PgBouncer, session{keys}"), "cpu_us", 1.3, False)
    for count, result in report["idle"].items():
        rows.append((f"bytes per idle client of {count}", round(result["bytes_per_client"]),
                     "≤ 8192", result["bytes_per_client"] <= 8192, ""))
    for fsync, results in report["triggers"].items():
        compare(f"our triggers / bare pg_notify, tps, fsync {fsync}", results.get("ours"),
                results.get("a bare pg_notify"), "tps", 0.9, True)
        compare(f"our triggers / the least that names the row, tps, fsync {fsync}",
                results.get("ours"), results.get("the least that names the row"), "tps", 0.9, True)
    for fsync, results in report["writes"].items():
        compare(f"the proxy publishes / unwatched, tps, fsync {fsync}",
                results.get("watched, the proxy publishes"), results.get("unwatched table"), "tps",
                0.75, True)
        compare(f"the least that names the row / unwatched, tps, fsync {fsync}",
                results.get("the least that names the row"), results.get("unwatched table"), "tps",
                0.75, True)
        compare(f"the proxy publishes / bare pg_notify, tps, fsync {fsync}",
                results.get("watched, the proxy publishes"), results.get("a bare pg_notify"), "tps",
                0.9, True)
    return rows


def run_cells(options, report):
    with PrivatePostgres(max_connections=1000) as postgres:
        postgres.create_database("bench")
        postgres.psql(file=INSTALL, database="bench")
        postgres.psql(contestants.SCHEMA, database="bench")
        with contestants.Arena(postgres, "bench") as arena:
            everybody = arena.everybody()
            for mode in options.modes:
                for clients in options.clients:
                    report["cells"] += table(everybody, mode, clients, options)
            report["idle"] = measure.idle_memory(arena.echo_port, options.idle)


def table(everybody, mode, clients, options):
    """The cells of one mode and number of clients."""
    rounds = {contestant.name: [] for contestant in everybody}
    for round_ in range(options.rounds):
        for contestant in everybody:
            result = measure.cell(contestant, "bench", mode, clients, options.seconds,
                                  options.quick, warm=round_ == 0)
            rounds[contestant.name].append(result)
            progress(f"{mode}, {clients}, round {round_ + 1}, {contestant.name}: "
                     f"{result.get('error') or round(result['tps'])}")
    return [{"name": name, "mode": mode, "clients": clients, **measure.median(results)}
            for name, results in rounds.items()]


def run_triggers(options, report):
    for fsync in ("on", "off"):
        with PrivatePostgres(fsync=fsync == "on") as postgres:
            postgres.create_database("bench")
            postgres.psql(file=INSTALL, database="bench")
            postgres.psql(measure.WRITES, database="bench")
            report["triggers"][fsync] = measure.trigger_cost(postgres, "bench", options.seconds,
                                                             options.rounds)
            progress(f"triggers, fsync {fsync}")
            report["writes"][fsync] = measure.publishing_cost(postgres, "bench", options.seconds,
                                                              options.rounds)
            progress(f"writes, fsync {fsync}")


def progress(text):
    print(text, file=sys.stderr, flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run, no measurement")
    parser.add_argument("--seconds", type=int, help="per cell and round (2)")
    parser.add_argument("--rounds", type=int, help="(5; quick: 1)")
    parser.add_argument("--clients", type=int, nargs="+", help="(1 16 64; quick: 4)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--idle", type=int, nargs="+", help="(1000 5000; quick: 200)")
    parser.add_argument("--writes-only", action="store_true", help="triggers and publishing alone")
    parser.add_argument("--json", help="where the results go")
    options = parser.parse_args()
    options.seconds = options.seconds or (0 if options.quick else 2)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.clients = options.clients or ([4] if options.quick else [1, 16, 64])
    options.idle = options.idle or ([200] if options.quick else [1000, 5000])
    return options


def main():
    options = parse_arguments()
    contestants.raise_file_limit()
    report = {"machine": {"cores": os.cpu_count(), "kernel": platform.release()},
              "seconds": options.seconds, "rounds": options.rounds,
              "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "cells": [], "idle": {}, "triggers": {}, "writes": {}}
    if not options.writes_only:
        run_cells(options, report)
    run_triggers(options, report)
    print_table(report["cells"], options.modes, options.clients)
    print_rest(report)
    print_writes(report)
    report["aims"] = aims(report)
    if report["aims"]:
        print("\n| aim | measured | in single rounds | wanted | |\n|---|---:|---:|---:|---|")
        for what, value, aim, reached, range_ in report["aims"]:
            print(f"| {what} | {value:,} | {range_} | {aim} | {'yes' if reached else 'no'} |")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1, ensure_ascii=False)


if __name__ == "__main__":
    main()
