"""The load the judge looks at: processes that write pairs of rows and processes that read them.

Every process keeps a log (judge.Write, judge.Read) and pickles it when it is told to stop. A
connection that breaks is made anew; what was under way counts as "outcome unknown". Python's lock
does not limit the load because every writer and reader is a process of its own.
"""
import asyncio
import contextlib
import dataclasses
import faulthandler
import multiprocessing
import os
import pickle
import random
import signal
import time

import psycopg
import psycopg2

from judge import ABORTED, COMMITTED, INFINITE, UNKNOWN, Read, Write

TABLES = 4
ROWS = 8  # of each table, pairs (0, 1), (2, 3) …
GROUPS = 2
CLOCK = time.monotonic_ns
# Not "fork": a child would hold copies of the sockets its parent has open, so that a connection the
# relay closes stays open, and whatever locks the parent's threads held at that moment.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["asyncpg", "psycopg", "psycopg2"])  # so that children begin at once

SCHEMA = """
CREATE TABLE judged_{t} (id int PRIMARY KEY, team int NOT NULL, version bigint NOT NULL);
INSERT INTO judged_{t} SELECT n, (n / 2) % {groups}, 0 FROM generate_series(0, {rows} - 1) n;
CREATE FUNCTION judged_{t}_write(pair int, v bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE judged_{t} SET version = v WHERE id / 2 = pair AND version < v;
END $$;
SELECT pgfresh.watch('judged_{t}', '{{id,team}}');
"""


def schema():
    return "".join(SCHEMA.format(t=t, groups=GROUPS, rows=ROWS) for t in range(TABLES))


@dataclasses.dataclass
class Load:
    proxied: str          # URL by way of pgfresh
    direct: str           # URL around it
    directory: str        # for the logs
    writers: int = 3
    direct_writers: int = 1  # of them, never by way of pgfresh
    seconds: float = 30
    write_pause_s: float = 0.05
    direct_share: float = 0.3
    seed: int = dataclasses.field(default_factory=lambda: random.randrange(10**6))


class OwnWriteHidden(Exception):
    """A transaction did not see what it had written itself."""


def update(table, pair, version):
    # A late attempt of a lost connection finds a higher version and changes nothing.
    return (f"UPDATE judged_{table} SET version = {version} WHERE id IN ({2 * pair}, "
            f"{2 * pair + 1}) AND version < {version}")


def look(table, pair):
    return f"SELECT id, version FROM judged_{table} WHERE id = {2 * pair}"


# -- how a pair is written: each function returns the outcome ------------------------------------


def expect_own(rows, version):
    if [value for _, value in rows] != [version]:
        raise OwnWriteHidden(f"wrote {version}, saw {rows}")


def by_simple_query(connection, table, pair, version):
    connection.execute(update(table, pair, version))
    return COMMITTED


def by_parameters(connection, table, pair, version):
    connection.execute(f"UPDATE judged_{table} SET version = %s WHERE id / 2 = %s AND version < %s",
                       (version, pair, version))
    return COMMITTED


def by_function(connection, table, pair, version):
    connection.execute(f"SELECT judged_{table}_write({pair}, {version})")
    return COMMITTED


def in_block(connection, table, pair, version):
    connection.execute("BEGIN")
    connection.execute(look(table, pair))
    connection.execute(update(table, pair, version))
    expect_own(connection.execute(look(table, pair)).fetchall(), version)
    connection.execute("COMMIT")
    return COMMITTED


def rolled_back(connection, table, pair, version):
    connection.execute("BEGIN")
    connection.execute(update(table, pair, version))
    expect_own(connection.execute(look(table, pair)).fetchall(), version)
    connection.execute("ROLLBACK")
    return ABORTED


def savepoint_rolled_back(connection, table, pair, version):
    connection.execute("BEGIN")
    connection.execute("SAVEPOINT here")
    connection.execute(update(table, pair, version))
    expect_own(connection.execute(look(table, pair)).fetchall(), version)
    connection.execute("ROLLBACK TO here")
    connection.execute("COMMIT")
    return ABORTED


def failed_statement(connection, table, pair, version):
    with contextlib.suppress(psycopg.errors.DivisionByZero):
        connection.execute(update(table, pair, version) + "; " + look(table, pair)
                           + "; SELECT 1 / 0")
    return ABORTED


def in_pipeline(connection, table, pair, version):
    with connection.pipeline():
        connection.execute(f"UPDATE judged_{table} SET version = %s WHERE id / 2 = %s "
                           "AND version < %s", (version, pair, version))
        answer = connection.execute(f"SELECT id, version FROM judged_{table} WHERE id = %s",
                                    (2 * pair,))
    expect_own(answer.fetchall(), version)
    return COMMITTED


def by_copy(connection, table, pair, version):
    with connection.transaction():
        rows = connection.execute(f"DELETE FROM judged_{table} WHERE id / 2 = {pair} AND version < "
                                  f"{version} RETURNING id, team").fetchall()
        with connection.cursor() as cursor, cursor.copy(
                f"COPY judged_{table} (id, team, version) FROM stdin") as copy:
            for number, team in rows:
                copy.write_row((number, team, version))
    return COMMITTED


def by_cte(connection, table, pair, version):
    connection.execute(f"WITH done AS ({update(table, pair, version)} RETURNING id) "
                       "SELECT count(*) FROM done")
    return COMMITTED


SHAPES = [by_simple_query, by_parameters, by_function, in_block, in_block, rolled_back,
          savepoint_rolled_back, failed_statement, in_pipeline, by_copy, by_cte]


class Writer:
    """Owns the pairs whose number leaves `index` when divided by the number of writers."""

    def __init__(self, load, index):
        self.load = load
        self.random = random.Random(load.seed * 1000 + index)
        self.pairs = [(table, pair) for table in range(TABLES) for pair in range(ROWS // 2)
                      if (table + pair) % load.writers == index]
        self.versions = dict.fromkeys(self.pairs, 0)
        only_direct = index >= load.writers - load.direct_writers
        self.direct_share = 1.0 if only_direct else load.direct_share
        self.connections = {}
        self.writes, self.reads, self.violations = [], [], []
        self.name = f"writer{index}"

    def connection(self, url):
        held = self.connections.get(url)
        if held is None or held.closed:
            held = psycopg.connect(url, autocommit=True, connect_timeout=5)
            self.connections[url] = held
        return held

    def once(self):
        table, pair = self.random.choice(self.pairs)
        proxied = self.random.random() >= self.direct_share
        url = self.load.proxied if proxied else self.load.direct
        shape = self.random.choice(SHAPES)
        connection = self.connection(url)
        version = self.versions[table, pair] = self.versions[table, pair] + 1
        began = CLOCK()
        try:
            outcome = shape(connection, table, pair, version)
            acked = CLOCK()
        except psycopg.Error as error:
            outcome, acked = UNKNOWN, INFINITE
            connection.close()
            self.problem = repr(error)
        except OwnWriteHidden as hidden:
            outcome, acked = UNKNOWN, INFINITE
            self.violations.append(f"{self.name}/{shape.__name__} ({table}, {pair}): {hidden}")
            connection.close()
        self.writes.append(Write((table, pair), version, proxied, began, acked, outcome,
                                 f"{shape.__name__}, {'proxied' if proxied else 'direct'}"))
        if outcome is COMMITTED and proxied:
            self.read_back(table, pair)

    def read_back(self, table, pair):
        connection = self.connection(self.load.proxied)
        started = CLOCK()
        rows = connection.execute(look(table, pair)).fetchall()
        self.reads.append(Read(self.name, "read back", started, CLOCK(),
                               tuple(((table, n), v) for n, v in rows)))

    def run(self, stop):
        while not stop.is_set():
            try:
                self.once()
            except psycopg.Error:
                time.sleep(0.05)
            time.sleep(self.random.expovariate(1 / self.load.write_pause_s))
        return self.writes, self.reads, self.violations


# -- how rows are read: (name, SQL, tables of the columns) --------------------------------------


def questions():
    """SQL with %s for psycopg, its parameters, and the table of each (id, version) column pair."""
    for t in range(TABLES):
        u = (t + 1) % TABLES
        for n in range(ROWS):
            yield "point", f"SELECT id, version FROM judged_{t} WHERE id = %s", (n,), (t,)
        for pair in range(ROWS // 2):
            yield ("in list", f"SELECT id, version FROM judged_{t} WHERE id IN (%s, %s) ORDER BY id",
                   (2 * pair, 2 * pair + 1), (t,))
            yield ("array", f"SELECT id, version FROM judged_{t} WHERE id = ANY "
                   "(ARRAY[%s, %s]::int[]) ORDER BY id", (2 * pair, 2 * pair + 1), (t,))
            yield ("outer join", f"SELECT a.id, a.version, b.id, b.version FROM judged_{t} a "
                   f"LEFT JOIN judged_{u} b ON b.id = a.id WHERE a.id = %s", (2 * pair,), (t, u))
        for team in range(GROUPS):
            yield ("list", f"SELECT id, version FROM judged_{t} WHERE team = %s ORDER BY id",
                   (team,), (t,))
            yield ("aggregate", f"SELECT id, max(version) FROM judged_{t} WHERE team = %s "
                   "GROUP BY id ORDER BY id", (team,), (t,))
            yield ("join", f"SELECT a.id, a.version, b.id, b.version FROM judged_{t} a "
                   f"JOIN judged_{u} b ON b.id = a.id WHERE a.team = %s ORDER BY a.id",
                   (team,), (t, u))


def values_of(rows, tables):
    return tuple(((table, row[2 * at]), int(row[2 * at + 1]))
                 for row in rows for at, table in enumerate(tables))


def literal(sql, parameters):
    return sql % parameters


class Reader:
    """Asks one question after the other through pgfresh, in its driver's manner."""

    def __init__(self, load, index):
        self.load = load
        self.random = random.Random(load.seed * 1000 + 500 + index)
        self.questions = list(questions())
        self.reads = []
        self.connection = None
        self.name = f"{type(self).__name__}{index}"
        self.errors = []

    def note(self, shape, started, rows, tables):
        self.reads.append(Read(self.name, shape, started, CLOCK(), values_of(rows, tables)))

    def run(self, stop):
        while not stop.is_set():
            try:
                self.connection = self.connect()
                while not stop.is_set():
                    self.once(*self.random.choice(self.questions))
            except (psycopg.Error, psycopg2.Error) as error:
                self.errors.append(repr(error))
                time.sleep(0.05)
        return [], self.reads, [], self.errors

    def connect(self):
        return psycopg.connect(self.load.proxied, autocommit=True, connect_timeout=5)


class SimpleReader(Reader):
    """psycopg2: simple Query, text."""

    def connect(self):
        connection = psycopg2.connect(self.load.proxied, connect_timeout=5)
        connection.autocommit = True
        return connection

    def once(self, shape, sql, parameters, tables):
        with self.connection.cursor() as cursor:
            started = CLOCK()
            cursor.execute(literal(sql, parameters))
            self.note(shape, started, cursor.fetchall(), tables)


class ExtendedReader(Reader):
    """psycopg 3: unnamed, then prepared after five executions; half of them binary."""

    def once(self, shape, sql, parameters, tables):
        binary = self.random.random() < 0.5
        started = CLOCK()
        rows = self.connection.execute(sql, parameters, binary=binary).fetchall()
        self.note(shape, started, rows, tables)


class BlockReader(Reader):
    """READ COMMITTED blocks of a few reads, as SQLAlchemy makes them."""

    def once(self, shape, sql, parameters, tables):
        self.connection.execute("BEGIN")
        ExtendedReader.once(self, shape, sql, parameters, tables)
        for _ in range(2):
            ExtendedReader.once(self, *self.random.choice(self.questions))
        self.connection.execute(self.random.choice(["COMMIT", "ROLLBACK"]))


class AsyncpgReader(Reader):
    """asyncpg: named statements, binary, four connections at once."""

    def run(self, stop):
        async def one_connection():
            import asyncpg
            while not stop.is_set():
                connection = None
                try:
                    connection = await asyncpg.connect(self.load.proxied, timeout=5)
                    while not stop.is_set():
                        await self.ask(connection, *self.random.choice(self.questions))
                except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError,
                        asyncpg.InternalClientError, asyncio.TimeoutError) as error:
                    self.errors.append(repr(error))
                    await asyncio.sleep(0.05)
                finally:
                    if connection is not None:
                        connection.terminate()

        async def everybody():
            await asyncio.gather(*(one_connection() for _ in range(4)))

        asyncio.run(everybody())
        return [], self.reads, [], self.errors

    async def ask(self, connection, shape, sql, parameters, tables):
        for number in range(len(parameters)):
            sql = sql.replace("%s", f"${number + 1}", 1)
        started = CLOCK()
        rows = await connection.fetch(sql, *parameters, timeout=30)
        self.note(shape, started, [tuple(row) for row in rows], tables)


READERS = (SimpleReader, ExtendedReader, BlockReader, AsyncpgReader)


# -- running it ---------------------------------------------------------------------------------


def _work(kind, load, index, stop, path):
    faulthandler.register(signal.SIGUSR1)
    with open(path, "wb") as file:
        pickle.dump(kind(load, index).run(stop), file)


@dataclasses.dataclass
class Logs:
    writes: list
    reads: list
    hidden: list      # own writes not seen inside their transaction
    errors: list      # of readers


@contextlib.contextmanager
def running(load, readers=READERS):
    """The load runs while the block does; afterwards `logs` is complete."""
    stop = CONTEXT.Event()
    workers = [(Writer, i) for i in range(load.writers)]
    workers += [(kind, i) for i, kind in enumerate(readers)]
    paths = [os.path.join(load.directory, f"log{i}") for i in range(len(workers))]
    processes = [CONTEXT.Process(target=_work, args=(kind, load, i, stop, path), daemon=True)
                 for (kind, i), path in zip(workers, paths)]
    logs = Logs([], [], [], [])
    for process in processes:
        process.start()
    try:
        yield logs
    finally:
        stop.set()
        for process in processes:
            process.join(40)
            if process.is_alive():
                os.kill(process.pid, signal.SIGUSR1)  # says on standard error where it is
                process.join(1)
                process.kill()
    for path in paths:
        with open(path, "rb") as file:
            writes, reads, hidden, *errors = pickle.load(file)
        logs.writes += writes
        logs.reads += reads
        logs.hidden += hidden
        logs.errors += errors[0] if errors else []


def final_values(url):
    """All rows as every question shows them, asked twice (the second time perhaps from memory)."""
    values = set()
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        for _ in range(2):
            for _, sql, parameters, tables in questions():
                values.update(values_of(connection.execute(sql, parameters).fetchall(), tables))
    return values
