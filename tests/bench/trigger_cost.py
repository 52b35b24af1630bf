#!/usr/bin/env python3
"""What our triggers cost a writer, against no trigger and against the least that any notification
costs: a statement trigger that does nothing but pg_notify.

    python3 tests/bench/trigger_cost.py [--url postgresql://…/database] [--rounds 5]

Without --url it starts a private PostgreSQL (fsync off). Measured is the CPU time of the writer's
own server process, not the clock: a busy machine disturbs it less. The cases take turns, and the
least of the rounds is shown: what disturbs only adds. A listener is connected, as in real life.
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


def one_row(url, table, statements, seed):
    """CPU microseconds of the server process per statement, the first ones left out."""
    warm = 50
    sql = f"UPDATE {table} SET version = version + 1 WHERE id = %s"
    with psycopg.connect(url, autocommit=True) as connection:
        pid = connection.info.backend_pid
        for number in range(statements + warm):
            if number == warm:
                first = cpu_ns(pid)
            connection.execute(sql, ((number * 7919 + seed) % ROWS + 1,), prepare=True)
        return (cpu_ns(pid) - first) / statements / 1000


def all_rows(url, table, statements, _):
    with psycopg.connect(url, autocommit=True) as connection:
        pid = connection.info.backend_pid
        connection.execute(f"VACUUM {table}")
        first = cpu_ns(pid)
        for _ in range(statements):
            connection.execute(f"UPDATE {table} SET version = version + 1")
        return (cpu_ns(pid) - first) / statements / 1000


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


def report(url, rounds, statements):
    with psycopg.connect(url, autocommit=True) as connection:
        cases = prepare(connection, ROWS)
    for rows, measure, many in ((1, one_row, statements), (ROWS, all_rows, 3)):
        found = {case: [] for case in cases}
        with listener(url):
            for seed in range(rounds):
                for case in cases:
                    found[case].append(measure(url, case, many, seed))
        least = {case: min(values) for case, values in found.items()}
        print(f"UPDATE of {rows} row(s), CPU of the server process:")
        for case, cost in least.items():
            print(f"  {case:12} {cost:10.1f} us   "
                  f"{least['bare_notify'] / cost:5.2f} of a bare pg_notify")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--url")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--statements", type=int, default=2000)
    options = arguments.parse_args()
    if options.url:
        return report(options.url, options.rounds, options.statements)
    with PrivatePostgres() as server:
        server.psql(file=ROOT / "sql" / "install.sql")
        report(server.url(), options.rounds, options.statements)


if __name__ == "__main__":
    main()
