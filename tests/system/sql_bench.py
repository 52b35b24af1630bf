"""The stage of the tests of sql/: one database, a session that writes, one that listens, and the
events taken apart byte by byte as src/freshness/event.cc does. The fixtures are made known by
conftest.py. No proxy takes part."""
import pathlib

import psycopg
import psycopg2
import pytest

from pgserver import PrivatePostgres

SQL = pathlib.Path(__file__).resolve().parents[2] / "sql"


def parse(payload):
    """The event as (xid, kind, relation, {attnum: [values]}); fails on anything else."""
    data = payload.encode()
    place = 0

    def word(end=b" "):
        nonlocal place
        stop = data.find(end, place)
        stop = len(data) if stop < 0 else stop
        token, place = data[place:stop], stop + 1
        return token.decode()

    assert word() == "1" and len(data) < 8000
    xid, kind = int(word()), word()
    if kind == "s":
        assert place > len(data)
        return xid, kind, 0, {}
    relation = int(word())
    columns = {}
    if kind == "r":
        for _ in range(int(word())):
            number, count = int(word()), int(word())
            columns[number] = []
            for _ in range(count):
                length = int(word(b":"))
                columns[number].append(data[place:place + length].decode())
                place += length
                assert place == len(data) or data[place:place + 1] == b" "
                place += 1
            assert len(set(columns[number])) == count <= 64
    else:
        assert kind == "w"
    assert place >= len(data)
    return xid, kind, relation, columns


class Bench:
    """One database: `query` is a direct session, `events` what the channel brought of it."""

    def __init__(self, server, database):
        self.server = server
        self.database = database
        self.writer = psycopg2.connect(server.dsn(database=database))
        self.writer.autocommit = True
        self.listener = psycopg2.connect(server.dsn(database=database))
        self.listener.autocommit = True
        self.listener.cursor().execute("LISTEN pgfresh")

    def close(self):
        self.writer.close()
        self.listener.close()

    def query(self, sql, arguments=None):
        with self.writer.cursor() as cursor:
            cursor.execute(sql, arguments)
            return cursor.fetchall() if cursor.description else None

    def value(self, sql, arguments=None):
        return self.query(sql, arguments)[0][0]

    def payloads(self):
        # What was committed before this statement is delivered before it is answered.
        self.listener.cursor().execute("SELECT 1")
        got = [n.payload for n in self.listener.notifies if n.channel == "pgfresh"]
        self.listener.notifies.clear()
        return got

    def events(self, *statements):
        """Runs the statements; answers what they sent, as (kind, table, columns)."""
        self.payloads()
        for statement in statements:
            self.query(statement)
        return [(kind, self.value("SELECT relname FROM pg_class WHERE oid = %s", (relation,))
                 if relation else "", columns)
                for _, kind, relation, columns in map(parse, self.payloads())]

    def status(self, table):
        with self.writer.cursor() as cursor:
            cursor.execute("SELECT * FROM pgfresh.status WHERE relation = %s::regclass", (table,))
            row = cursor.fetchone()
            return row and dict(zip([c.name for c in cursor.description], row))


@pytest.fixture(scope="session")
def pg():
    with PrivatePostgres() as server:
        yield server


@pytest.fixture(scope="session")
def installed(pg):
    """A database to copy, with pgfresh in it."""
    pg.create_database("installed")
    pg.psql(file=SQL / "install.sql", database="installed")
    return "installed"


def scratch(pg, name, template):
    pg.create_database(name, template=template)
    bench = Bench(pg, name)
    yield bench
    bench.close()
    pg.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty(pg):
    """A new database without pgfresh."""
    yield from scratch(pg, "scratch_empty", "template0")


@pytest.fixture
def db(pg, installed):
    """A new database with pgfresh."""
    yield from scratch(pg, "scratch", installed)


def install(bench, **options):
    return bench.server.psql(file=SQL / "install.sql", database=bench.database, **options)


def rows(table, **columns):
    return ("r", table, {int(number[1:]): values for number, values in columns.items()})


class Inband:
    """A session with pgfresh.inband in its startup packet, as the proxy makes them."""

    def __init__(self, bench, setting, encoding="utf8"):
        self.connection = psycopg.connect(
            bench.server.dsn(database=bench.database), autocommit=True,
            options=f"-c pgfresh.inband={setting}", client_encoding=encoding)
        self.setting = setting
        self.told = []
        self.connection.add_notice_handler(self.hear)

    def hear(self, diagnostic):
        if diagnostic.sqlstate == "PF001":
            assert diagnostic.severity_nonlocalized == "INFO"
            assert diagnostic.message_detail == self.setting
            # It comes in the server's encoding, whatever the client's is.
            encoding = self.connection.info.encoding
            self.told.append(parse(diagnostic.message_primary.encode(encoding).decode()))

    def tells(self, sql):
        self.told.clear()
        self.connection.execute(sql)
        return [(kind, columns) for _, kind, _, columns in self.told]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()
