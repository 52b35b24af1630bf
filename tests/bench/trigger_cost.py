#!/usr/bin/env python3
"""What our triggers cost a writer, against no trigger and against the least that any notification
costs: a statement trigger that does nothing but pg_notify.

    python3 tests/bench/trigger_cost.py [--url postgresql://…/database] [--statements 4000]

Without --url it starts a private PostgreSQL (fsync off). Measured is the CPU time of the writer's
own server process, not the clock: a busy machine disturbs it less. The cases take turns, statement
by statement in one session, and shown is what a quarter of the statements stay below: what disturbs
only adds. A listener is connected, as in real life.
"""
import argparse
import contextlib
import pathlib
import sys
import threading
import time

import psycopg

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "system"))

from pgserver import PrivatePostgres  # noqa: E402

COLUMNS = ["id", "k2", "k3", "k4", "k5", "k6", "k7", "k8"]
ROWS = 10_000
BARE = """
CREATE FUNCTION bare() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('pgfresh', pg_current_xact_id()::text);
  RETURN NULL;
END $$
"""


def create(connection, name, rows):
    columns = ", ".join(f"{c} {'int' if n % 2 else 'uuid'} DEFAULT "
                        f"{n if n % 2 else 'gen_random_uuid()'}" for n, c in
                        enumerate(COLUMNS[1:]))
    connection.execute(f"DROP TABLE IF EXISTS {name}")
    connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, {columns}, filler text, "
                       f"version int) WITH (fillfactor = 50)")
    connection.execute(f"INSERT INTO {name} (id, filler, version) "
                       f"SELECT n, repeat('x', 100), 0 FROM generate_series(1, {rows}) n")


def prepare(connection, rows):
    """The tables, one for each case."""
    connection.execute("DROP FUNCTION IF EXISTS bare CASCADE")
    connection.execute(BARE)
    create(connection, "none", rows)
    create(connection, "bare_notify", rows)
    connection.execute("CREATE TRIGGER t AFTER UPDATE ON bare_notify FOR EACH STATEMENT "
                       "EXECUTE FUNCTION bare()")
    for keys in (1, 3, 8):
        create(connection, f"keys_{keys}", rows)
        connection.execute(f"SELECT pgfresh.watch('keys_{keys}', "
                           f"'{{{','.join(COLUMNS[:keys])}}}')")
    connection.execute("VACUUM ANALYZE")
    return ["none", "bare_notify", "keys_1", "keys_3", "keys_8"]


def cpu_ns(pid):
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def costs(url, cases, change, turns, warm):
    """CPU microseconds of the server process, for each case those of its statements. The first
    `warm` turns are left out; `change(case, turn)` is (sql, parameters)."""
    found = {case: [] for case in cases}
    with psycopg.connect(url, autocommit=True) as connection:
        pid = connection.info.backend_pid
        for turn in range(warm + turns):
            for case in cases:
                first = cpu_ns(pid)
                connection.execute(*change(case, turn), prepare=True)
                if turn >= warm:
                    found[case].append((cpu_ns(pid) - first) / 1000)
    return found


def one_row(case, turn):
    return f"UPDATE {case} SET version = version + 1 WHERE id = %s", (turn * 7919 % ROWS + 1,)


def all_rows(case, _):
    return f"UPDATE {case} SET version = version + 1", ()


@contextlib.contextmanager
def listener(url):
    stop = threading.Event()

    def listen():
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("LISTEN pgfresh")
            while not stop.is_set():
                time.sleep(0.02)
                connection.execute("SELECT 1")  # reads what has come

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(5)


def report(url, statements):
    with psycopg.connect(url, autocommit=True) as connection:
        cases = prepare(connection, ROWS)
    for rows, change, turns, warm in ((1, one_row, statements, 50), (ROWS, all_rows, 10, 1)):
        with listener(url):
            found = costs(url, cases, change, turns, warm)
        quarter = {case: sorted(values)[len(values) // 4] for case, values in found.items()}
        print(f"UPDATE of {rows} row(s), CPU of the server process:")
        for case, cost in quarter.items():
            print(f"  {case:12} {cost:10.1f} us   "
                  f"{quarter['bare_notify'] / cost:5.2f} of a bare pg_notify")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--url")
    arguments.add_argument("--statements", type=int, default=4000)
    options = arguments.parse_args()
    if options.url:
        return report(options.url, options.statements)
    with PrivatePostgres() as server:
        server.psql(file=ROOT / "sql" / "install.sql")
        report(server.url(), options.statements)


if __name__ == "__main__":
    main()
