"""Measurements: one cell of the table, memory of idle clients, the price of triggers."""
import contextlib
import glob
import os
import re
import selectors
import socket
import statistics
import struct
import subprocess
import tempfile
import time

import contestants
from contestants import proportional_bytes
from pgfresh_proc import Pgfresh

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
TPS = re.compile(r"tps = ([0-9.]+) \(without")
DONE = re.compile(r"transactions actually processed: (\d+)")
FAILED = re.compile(r"failed transactions: (\d+)")


def pgbench(port, database, script, mode, clients, seconds, sampling):
    """Runs pgbench; {tps, transactions, p50_ms, p99_ms} or {error}. Latencies come from a sample
    of the per-transaction log, because writing all of it would be measured too. No seconds: a few
    hundred transactions, to see that everything works."""
    with tempfile.TemporaryDirectory(prefix="pgfresh-bench-run-") as folder:
        with open(f"{folder}/script", "w", encoding="utf-8") as file:
            file.write(script)
        command = ["pgbench", "-n", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-M",
                   mode, "-c", str(clients), "-j", str(min(clients, 2)),
                   *(["-T", str(seconds)] if seconds else ["-t", str(max(1, 200 // clients))]),
                   "-f", f"{folder}/script", "--log", f"--log-prefix={folder}/log",
                   f"--sampling-rate={sampling}", database]
        try:
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder,
                                  env=ENVIRONMENT, timeout=seconds + 120)
        except subprocess.TimeoutExpired:
            return {"error": "pgbench did not end"}
        tps, count, failed = (found.search(done.stdout) for found in (TPS, DONE, FAILED))
        if done.returncode != 0 or not tps or int(failed.group(1)):
            return {"error": (done.stderr.strip().splitlines() or ["no result"])[-1][:200]}
        latencies = []
        for path in glob.glob(f"{folder}/log.*"):
            with open(path, encoding="ascii") as log:
                latencies += [int(line.split()[2]) for line in log]
    latencies.sort()
    pick = (lambda share: latencies[int(share * (len(latencies) - 1))] / 1000) if latencies else \
        (lambda share: None)
    return {"tps": float(tps.group(1)), "transactions": int(count.group(1)),
            "p50_ms": pick(0.5), "p99_ms": pick(0.99)}


def median(results):
    """Of the rounds of one contestant: the median of each value, and under `rounds` the values
    themselves, by which contestants are compared round by round. One error is the result."""
    for result in results:
        if "error" in result:
            return {"error": result["error"]}
    rounds = {key: [result[key] for result in results] for key in results[0] if key != "doubt"}
    rounds = {key: values for key, values in rounds.items() if None not in values}
    merged = {key: statistics.median(values) for key, values in rounds.items()}
    merged["rounds"] = rounds
    doubts = [result["doubt"] for result in results if "doubt" in result]
    return merged | ({"doubt": doubts[0]} if doubts else {})


def cell(contestant, database, mode, clients, seconds, quick, warm):
    """One contestant in one mode with so many clients, once. `warm`: let it become warm first."""
    if contestant.modes and mode not in contestant.modes:
        return {"error": "not offered"}
    for _ in range(20 if warm else 0):  # the feed of a database begins with its first client
        cold = _metrics(contestant)
        first = pgbench(contestant.port, database, contestant.script, mode, clients,
                        0 if quick else contestant.warm_seconds, 1)
        if "error" in first:
            return first
        if not contestant.hits or _metrics(contestant) > cold + first["transactions"] // 2:
            break
    contestants.settle(0.1 if quick else 0.5)
    before, metrics = contestant.processor_seconds(), _metrics(contestant)
    result = pgbench(contestant.port, database, contestant.script, mode, clients, seconds,
                     1 if quick else 0.1)
    after = contestant.processor_seconds()
    if "error" in result:
        return result
    if before is not None:
        result["cpu_us"] = (after - before) * 1e6 / result["transactions"]
    if contestant.proxy:
        result["hit_share"] = (_metrics(contestant) - metrics) / result["transactions"]
        if contestant.hits is not None and (result["hit_share"] > 0.5) != contestant.hits:
            result["doubt"] = "hits" if result["hit_share"] > 0.5 else "no hits"
    return result


def _metrics(contestant):
    return contestant.proxy.metrics().hits if contestant.proxy else 0


# -- idle clients -------------------------------------------------------------------------------


class Crowd:
    """Clients that have logged in, asked once, and now do nothing."""

    def __init__(self, port):
        self.port = port
        self.links = []

    def grow_to(self, count):
        while len(self.links) < count:
            self._join(min(200, count - len(self.links)))

    def _join(self, count):
        """`count` more at once."""
        body = b"user\0echo\0database\0echo\0\0"
        question = b"SELECT 1\0"
        hello = struct.pack("!II", len(body) + 8, 3 << 16) + body
        ask = b"Q" + struct.pack("!I", len(question) + 4) + question
        fresh = []
        for _ in range(count):
            fresh.append(socket.create_connection(("127.0.0.1", self.port), 10))
            fresh[-1].sendall(hello)
        for _ in range(2):
            for link in fresh:
                self._until_ready(link)
            if _ == 0:
                for link in fresh:
                    link.sendall(ask)
        self.links += fresh

    @staticmethod
    def _until_ready(link):
        tail = b""
        while not tail.endswith(b"Z\0\0\0\5I"):
            chunk = link.recv(65536)
            if not chunk:
                raise RuntimeError("an idle client was disconnected")
            tail = (tail + chunk)[-6:]

    def all_alive(self):
        """That nobody was disconnected meanwhile."""
        with selectors.DefaultSelector() as selector:
            for link in self.links:
                selector.register(link, selectors.EVENT_READ)
            return not selector.select(0)

    def close(self):
        for link in self.links:
            link.close()


def idle_memory(echo_port, counts):
    """Bytes of pgfresh per idle client, its server connection included; the upstream is the echo
    server, so that PostgreSQL's processes are not the limit."""
    results = {}
    with Pgfresh(f"postgresql://echo@127.0.0.1:{echo_port}/echo") as proxy:
        crowd = Crowd(proxy.port)
        try:
            crowd.grow_to(10)
            time.sleep(0.5)
            before = proportional_bytes(proxy.pid)
            for count in counts:
                crowd.grow_to(10 + count)
                time.sleep(1)
                grown = proportional_bytes(proxy.pid) - before
                results[count] = {"bytes_per_client": grown / count, "alive": crowd.all_alive()}
        finally:
            crowd.close()
    return results


# -- triggers -----------------------------------------------------------------------------------

WRITES = """
CREATE TABLE w_none (id int PRIMARY KEY, n int NOT NULL) WITH (fillfactor = 50);
INSERT INTO w_none SELECT n, 0 FROM generate_series(1, 10000) n;
CREATE TABLE w_notify (LIKE w_none INCLUDING ALL) WITH (fillfactor = 50);
INSERT INTO w_notify SELECT * FROM w_none;
CREATE TABLE w_ours (LIKE w_none INCLUDING ALL) WITH (fillfactor = 50);
INSERT INTO w_ours SELECT * FROM w_none;
CREATE FUNCTION bare_notify() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_notify('bare', 'changed'); RETURN NULL; END $$;
CREATE TRIGGER bare_notify AFTER UPDATE ON w_notify FOR EACH STATEMENT
  EXECUTE FUNCTION bare_notify();
SELECT pgfresh.watch('w_ours');
-- The least that tells which row it was: to everybody, and in-band to the proxy before it. No
-- trigger that says as much can be cheaper; what ours do more is for rows that are several, keys
-- that change or are NULL, columns that are gone, and settings.
CREATE TABLE w_row (LIKE w_none INCLUDING ALL) WITH (fillfactor = 50);
INSERT INTO w_row SELECT * FROM w_none;
CREATE TABLE w_told (LIKE w_none INCLUDING ALL) WITH (fillfactor = 50);
INSERT INTO w_told SELECT * FROM w_none;
CREATE FUNCTION least_row() RETURNS trigger LANGUAGE plpgsql STABLE AS $$
  DECLARE key text;
  BEGIN
    SELECT o.id INTO key FROM o, n WHERE o.id = n.id;
    IF pg_notify('bare', format('1 %s r %s 1 1 1 %s:%s', pg_current_xact_id(), TG_RELID,
                                octet_length(key), key)) IS NULL THEN
      RETURN NULL;
    END IF;
    RETURN NULL;
  END $$;
CREATE FUNCTION least_told() RETURNS trigger LANGUAGE plpgsql STABLE AS $$
  DECLARE key text;
  BEGIN
    SELECT o.id INTO key FROM o, n WHERE o.id = n.id;
    RAISE INFO SQLSTATE 'PF001' USING MESSAGE = format('1 %s r %s 1 1 1 %s:%s',
      pg_current_xact_id(), TG_RELID, octet_length(key), key);
    RETURN NULL;
  END $$;
CREATE TRIGGER least AFTER UPDATE ON w_row REFERENCING OLD TABLE AS o NEW TABLE AS n
  FOR EACH STATEMENT EXECUTE FUNCTION least_row();
CREATE TRIGGER least AFTER UPDATE ON w_told REFERENCING OLD TABLE AS o NEW TABLE AS n
  FOR EACH STATEMENT EXECUTE FUNCTION least_told();
VACUUM ANALYZE;
"""
SMOKE_CLIENTS = 4  # each login costs more than what it does then
TABLES = {"w_none": "no trigger", "w_notify": "a bare pg_notify",
          "w_row": "the least that names the row", "w_ours": "ours"}


def trigger_cost(postgres, database, seconds, rounds):
    """Updates a second by key, 16 clients, in turns so that drift hits all alike. Nobody listens."""
    runs = {table: [] for table in TABLES}
    for _ in range(rounds):
        for table in TABLES:
            script = f"\\set id random(1, 10000)\nUPDATE {table} SET n = n + 1 WHERE id = :id;\n"
            runs[table].append(pgbench(postgres.port, database, script, "prepared",
                                       16 if seconds else SMOKE_CLIENTS, seconds, 1))
    return {name: median(runs[table]) for table, name in TABLES.items()}


# -- who publishes ------------------------------------------------------------------------------

PUBLISHERS = {"unwatched table": ("w_none", "proxy"),
              "a bare pg_notify": ("w_notify", "proxy"),
              "the least that names the row": ("w_told", "proxy"),
              "watched, the proxy publishes": ("w_ours", "proxy"),
              "watched, the trigger publishes": ("w_ours", "trigger")}


# Who writes: clients, rows a statement.
WRITERS = {"": (16, 1), ", one client": (1, 1), ", 1,000 rows, one client": (1, 1000)}


def publishing_cost(postgres, database, seconds, rounds):
    """Updates a second by key through pgfresh, in turns; and what pgfresh takes itself. The feed
    listens, so what is published is heard as well."""
    writers = WRITERS if seconds else {"": (SMOKE_CLIENTS, 1)}
    runs = {name + writer: [] for writer in writers for name in PUBLISHERS}
    with contextlib.ExitStack() as stack:
        proxies = {how: stack.enter_context(Pgfresh(postgres.url(database=database),
                                                    {"freshness.publish": how}))
                   for how in ("proxy", "trigger")}
        for round_ in range(0 if seconds else 1, rounds + 1):
            for writer, (clients, rows) in writers.items():
                for name, (table, how) in PUBLISHERS.items():
                    where = "id = :id" if rows == 1 else f"id BETWEEN :id AND :id + {rows - 1}"
                    script = f"\\set id random(1, {10001 - rows})\n" \
                             f"UPDATE {table} SET n = n + 1 WHERE {where};\n"
                    before = contestants.processor_seconds([proxies[how].pid])
                    run = pgbench(proxies[how].port, database, script, "prepared", clients,
                                  seconds if round_ else min(seconds, 1), 1)
                    after = contestants.processor_seconds([proxies[how].pid])
                    if "error" not in run:
                        run["cpu_us"] = (after - before) * 1e6 / run["transactions"]
                    if round_:  # the first warms up
                        runs[name + writer].append(run)
    return {name: median(results) for name, results in runs.items()}
