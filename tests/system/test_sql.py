"""sql/install.sql on a private PostgreSQL: what each way of writing sends, and what watch(),
status, upgrade and uninstall do. No proxy takes part; events are read from the channel and from
PF001 notices, and taken apart byte by byte as src/freshness/event.cc does.
"""
import pathlib
import re
import subprocess

import psycopg
import psycopg2
import pytest

from pgserver import PrivatePostgres, PsqlError

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


@pytest.fixture(scope="module")
def pg():
    with PrivatePostgres() as server:
        yield server


@pytest.fixture(scope="module")
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


# -- what is sent --------------------------------------------------------------------------------

def test_every_key_type_and_operation(db):
    db.query("CREATE TABLE t (a int2, b int4, c int8, d uuid, e text, f varchar(20), g bool, "
             "x jsonb, PRIMARY KEY (a))")
    assert db.value("SELECT pgfresh.watch('t', '{a,b,c,d,e,f,g}')") == list("abcdefg")
    u = "6f1ed002-ab5e-4f3a-8d3c-3f0a7e9d2c11"
    assert db.events(f"INSERT INTO t VALUES (-1, 2, 9000000000, '{u}', 'a b:1 ä', '', true)") == [
        rows("t", c1=["-1"], c2=["2"], c3=["9000000000"], c4=[u], c5=["a b:1 ä"], c6=[""],
             c7=["t"])]
    assert db.events("UPDATE t SET x = '1'") == [
        rows("t", c1=["-1"], c2=["2"], c3=["9000000000"], c4=[u], c5=["a b:1 ä"], c6=[""],
             c7=["t"])]
    assert db.events("UPDATE t SET b = 3, e = E'new\\nline', g = false") == [
        rows("t", c1=["-1"], c2=["2", "3"], c3=["9000000000"], c4=[u], c5=["a b:1 ä", "new\nline"],
             c6=[""], c7=["f", "t"])]
    assert db.events("UPDATE t SET d = NULL, f = NULL") == [
        rows("t", c1=["-1"], c2=["3"], c3=["9000000000"], c4=[u], c5=["new\nline"], c6=[""],
             c7=["f"])]
    assert db.events("DELETE FROM t") == [
        rows("t", c1=["-1"], c2=["3"], c3=["9000000000"], c4=[], c5=["new\nline"], c6=[],
             c7=["f"])]
    assert db.events("TRUNCATE t") == [("w", "t", {})]


def test_event_carries_the_top_level_xid(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY)")
    db.query("SELECT pgfresh.watch('t')")
    db.payloads()
    xid = db.query("BEGIN; SAVEPOINT s; INSERT INTO t VALUES (1); RELEASE s; "
                   "SELECT pg_current_xact_id()::text")[0][0]
    db.query("COMMIT")
    assert [parse(p)[0] for p in db.payloads()] == [int(xid)]


def test_nothing_for_no_rows(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY)")
    db.query("CREATE TABLE keyless (id int)")
    db.query("SELECT pgfresh.watch('t'), pgfresh.watch('keyless')")
    for table in ("t", "keyless"):
        assert db.events(f"UPDATE {table} SET id = 1 WHERE id = 5",
                         f"DELETE FROM {table} WHERE id = 5",
                         f"INSERT INTO {table} SELECT 1 WHERE false") == []


def test_without_key_columns_rows_are_unknown(db):
    db.query("CREATE TABLE t (id int)")
    assert db.value("SELECT pgfresh.watch('t')") == []
    assert db.events("INSERT INTO t VALUES (1)", "UPDATE t SET id = 2", "DELETE FROM t") == [
        ("w", "t", {})] * 3


def test_limits(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY, s text)")
    db.query("SELECT pgfresh.watch('t', '{id,s}')")
    [(kind, _, columns)] = db.events("INSERT INTO t SELECT g FROM generate_series(1, 64) g")
    assert kind == "r" and len(columns[1]) == 64 and columns[2] == []
    assert db.events("INSERT INTO t SELECT g FROM generate_series(101, 165) g") == [("w", "t", {})]
    # 32 old and 33 new values make 65.
    assert db.events("UPDATE t SET id = id + 1000 WHERE id <= 32 OR id = 101")[0][0] == "w"
    # One value in every row, 129 rows: still known; 1001 rows are not looked at.
    db.query("SELECT pgfresh.watch('t', '{s}')")
    assert db.events("UPDATE t SET s = 'one'") == [rows("t", c2=["one"])]
    assert db.events("INSERT INTO t SELECT g, 'one' FROM generate_series(2000, 3000) g") == [
        ("w", "t", {})]
    assert db.events("INSERT INTO t SELECT g, 'one' FROM generate_series(4000, 4999) g") == [
        rows("t", c2=["one"])]
    db.query("DELETE FROM t")
    # 7999 bytes are the most a payload may have.
    db.query("INSERT INTO t VALUES (1)")
    xid = int(db.value("SELECT pg_current_xact_id()::text"))
    head = len(f"1 {xid + 1} r {db.value('SELECT %s::regclass::oid', ('t',))} 1 2 1 1234:")
    exact = 7999 - head
    assert db.events(f"UPDATE t SET s = repeat('x', {exact})") == [rows("t", c2=["x" * exact])]
    assert db.events(f"UPDATE t SET s = repeat('x', {exact + 5})") == [("w", "t", {})]
    assert db.events("UPDATE t SET s = repeat('ü', 500)")[0][0] == "w"
    assert db.events("UPDATE t SET s = repeat('ä', 3000)") == [
        rows("t", c2=["ü" * 500, "ä" * 3000])]
    assert db.events("UPDATE t SET s = repeat('x', 1000000)") == [("w", "t", {})]


def test_paths_of_writing(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY, v int)")
    db.query("CREATE VIEW v AS SELECT id, v FROM t")
    db.query("CREATE FUNCTION f(i int) RETURNS void LANGUAGE sql AS 'INSERT INTO t VALUES (i)'")
    db.query("CREATE PROCEDURE p() LANGUAGE plpgsql AS "
             "'BEGIN INSERT INTO t VALUES (50); COMMIT; INSERT INTO t VALUES (51); END'")
    db.query("SELECT pgfresh.watch('t')")
    db.payloads()
    db.server.psql("COPY t FROM stdin;\n1\t1\n2\t1\n\\.\n", database=db.database)
    assert [parse(p)[3] for p in db.payloads()] == [{1: ["1", "2"]}]
    one = lambda *values: rows("t", c1=list(values))
    assert db.events("WITH w AS (DELETE FROM t WHERE id = 2 RETURNING id) SELECT * FROM w") == [
        one("2")]
    got = db.events("WITH w AS (INSERT INTO t VALUES (3)) UPDATE t SET v = 0 WHERE id = 1")
    assert sorted(got, key=str) == [one("1"), one("3")]
    assert db.events("UPDATE v SET v = 7 WHERE id = 1") == [one("1")]
    assert db.events("SELECT f(10)") == [one("10")]
    assert db.events("DO 'BEGIN DELETE FROM t WHERE id = 10; END'") == [one("10")]
    assert db.events("CALL p()") == [one("50"), one("51")]
    got = db.events("INSERT INTO t VALUES (1, 1), (60, 1) ON CONFLICT (id) DO UPDATE SET v = 9")
    assert sorted(got, key=str) == [one("1"), one("60")]
    assert db.events("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING") == []
    got = db.events("MERGE INTO t USING (VALUES (1), (61), (60)) s(id) ON t.id = s.id "
                    "WHEN MATCHED AND t.id = 60 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 3 "
                    "WHEN NOT MATCHED THEN INSERT VALUES (s.id)")
    assert sorted(got, key=str) == [one("1"), one("60"), one("61")]


def test_rolled_back_writes_send_nothing(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY)")
    db.query("SELECT pgfresh.watch('t')")
    assert db.events("BEGIN; INSERT INTO t VALUES (1); ROLLBACK",
                     "BEGIN; SAVEPOINT s; INSERT INTO t VALUES (2); ROLLBACK TO s; COMMIT") == []


def test_foreign_keys(db):
    db.query("CREATE TABLE parent (id int PRIMARY KEY)")
    db.query("CREATE TABLE gone (id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE "
             "ON UPDATE CASCADE)")
    db.query("CREATE TABLE kept (id int PRIMARY KEY, p int REFERENCES parent ON DELETE SET NULL "
             "DEFERRABLE INITIALLY DEFERRED)")
    db.query("SELECT pgfresh.watch('parent'), pgfresh.watch('gone', '{id,p}'), "
             "pgfresh.watch('kept', '{id,p}')")
    db.query("INSERT INTO parent VALUES (1), (2); INSERT INTO gone VALUES (10, 1); "
             "INSERT INTO kept VALUES (20, 2)")
    got = db.events("UPDATE parent SET id = 3 WHERE id = 1")
    assert sorted(got, key=str) == [
        rows("gone", c1=["10"], c2=["1", "3"]), rows("parent", c1=["1", "3"])]
    assert sorted(db.events("DELETE FROM parent"), key=str) == sorted([
        rows("parent", c1=["2", "3"]), rows("gone", c1=["10"], c2=["3"]),
        rows("kept", c1=["20"], c2=["2"])], key=str)
    assert sorted(db.events("TRUNCATE parent CASCADE")) == [
        ("w", "gone", {}), ("w", "kept", {}), ("w", "parent", {})]


def test_partitions(db):
    db.query("CREATE TABLE p (pad int, id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k)")
    db.query("ALTER TABLE p DROP COLUMN pad")
    db.query("CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)")
    db.query("CREATE TABLE p2 (k int NOT NULL, id int NOT NULL)")
    db.query("ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2)")
    assert db.value("SELECT pgfresh.watch('p')") == ["id", "k"]
    # The table named in the statement, numbers as the root has them.
    assert db.events("INSERT INTO p VALUES (5, 1)") == [rows("p", c2=["5"], c3=["1"])]
    assert db.events("INSERT INTO p2 VALUES (2, 6)") == [rows("p2", c2=["6"], c3=["2"])]
    assert db.events("UPDATE p SET k = 2 WHERE id = 5") == [rows("p", c2=["5"], c3=["1", "2"])]
    assert db.events("DELETE FROM p") == [rows("p", c2=["5", "6"], c3=["2"])]
    assert sorted(db.events("TRUNCATE p")) == [("w", "p", {}), ("w", "p1", {}), ("w", "p2", {})]
    # A row that a trigger swallows on its way to another partition is gone.
    db.query("CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS "
             "'BEGIN RETURN NULL; END'; CREATE TRIGGER swallow BEFORE INSERT ON p2 "
             "FOR EACH ROW EXECUTE FUNCTION swallow()")
    db.query("INSERT INTO p VALUES (9, 1)")
    db.payloads()
    assert db.events("UPDATE p SET k = 2 WHERE id = 9") == [rows("p", c2=["9"], c3=["1"])]
    db.query("INSERT INTO p VALUES (9, 1)")
    db.query("SELECT pgfresh.watch('p', '{}')")
    db.payloads()
    assert db.events("UPDATE p SET k = 2 WHERE id = 9") == [("w", "p", {})]
    assert db.events("UPDATE p SET k = 2 WHERE id = 9") == []
    db.query("SELECT pgfresh.watch('p'); DROP TRIGGER swallow ON p2")
    db.payloads()
    # New members, by whatever command, and one level further down.
    db.query("CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3) PARTITION BY RANGE (id)")
    db.query("CREATE TABLE p3a PARTITION OF p3 DEFAULT")
    db.query("CREATE TABLE p4 (LIKE p)")
    db.query("ALTER TABLE p ATTACH PARTITION p4 FOR VALUES IN (4)")
    assert db.status("p")["members"] == 6 and db.status("p")["complete"]
    assert db.events("INSERT INTO p3a VALUES (7, 3)") == [rows("p3a", c2=["7"], c3=["3"])]
    # A member that left reports by its own numbers.
    db.query("ALTER TABLE p DETACH PARTITION p2")
    assert db.status("p")["complete"] and db.status("p2")["complete"]
    assert db.events("INSERT INTO p2 VALUES (2, 6)") == [rows("p2", c1=["2"], c2=["6"])]
    assert db.events("INSERT INTO p VALUES (8, 4)") == [rows("p", c2=["8"], c3=["4"])]


def test_inheritance(db):
    db.query("CREATE TABLE base (id int PRIMARY KEY, v int)")
    db.query("CREATE TABLE child (extra text) INHERITS (base)")
    db.query("SELECT pgfresh.watch('base')")
    db.query("INSERT INTO base VALUES (1); INSERT INTO child VALUES (2)")
    assert db.events("UPDATE base SET v = 1") == [rows("base", c1=["1", "2"])]
    assert db.events("UPDATE child SET v = 2") == [rows("child", c1=["2"])]
    db.query("CREATE TABLE late () INHERITS (base)")
    assert db.events("INSERT INTO late VALUES (3)") == [rows("late", c1=["3"])]
    db.query("CREATE TABLE other (id int NOT NULL, v int)")
    db.query("ALTER TABLE other INHERIT base")
    assert db.status("base")["members_covered"] == 4
    db.query("ALTER TABLE other NO INHERIT base")
    assert db.status("base")["members"] == 3


def test_replica_role_and_disabled_triggers(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY)")
    db.query("SELECT pgfresh.watch('t')")
    assert db.events("SET session_replication_role = replica; INSERT INTO t VALUES (1); "
                     "SET session_replication_role = origin") == [rows("t", c1=["1"])]
    assert ("s", "", {}) in db.events("ALTER TABLE t DISABLE TRIGGER pgfresh_update")
    assert db.events("UPDATE t SET id = 2") == []
    status = db.status("t")
    assert not status["complete"] and not status["enabled_always"]
    assert "ENABLE ALWAYS" in status["why_not"]
    db.query("ALTER TABLE t ADD COLUMN v int")
    assert not db.status("t")["complete"], "what somebody disabled stays so until watch()"
    db.query("SELECT pgfresh.watch('t')")
    assert db.status("t")["complete"]
    # What a bulk load leaves behind is ENABLE, not ENABLE ALWAYS: that is mended at once.
    db.query("ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE TRIGGER ALL")
    assert db.status("t")["complete"]


def test_subscription_target(pg, db):
    publisher = pg.create_database("publisher")
    try:
        pg.psql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t; "
                "SELECT pg_create_logical_replication_slot('pgfresh_test', 'pgoutput')",
                database=publisher)
        db.query("CREATE TABLE t (id int PRIMARY KEY)")
        db.query("SELECT pgfresh.watch('t')")
        assert db.status("t")["complete"]
        db.query(f"CREATE SUBSCRIPTION sub CONNECTION 'host={pg.socket_dir} port={pg.port} "
                 f"user=postgres dbname={publisher}' PUBLICATION pub "
                 "WITH (create_slot = false, slot_name = 'pgfresh_test', copy_data = false)")
        assert "subscription" in db.status("t")["why_not"]
        db.writer.notices.clear()
        db.query("SELECT pgfresh.watch('t')")
        assert any("subscription" in notice for notice in db.writer.notices)
        db.query("ALTER SUBSCRIPTION sub DISABLE")
        db.query("ALTER SUBSCRIPTION sub SET (slot_name = NONE)")
        db.query("DROP SUBSCRIPTION sub")
    finally:
        pg.psql("SELECT pg_drop_replication_slot('pgfresh_test')", database=publisher, check=False)
        pg.psql(f"DROP DATABASE {publisher} WITH (FORCE)")


# -- in-band -------------------------------------------------------------------------------------

class Inband:
    """A session with pgfresh.inband in its startup packet, as the proxy makes them."""

    def __init__(self, bench, setting, encoding="utf8"):
        self.connection = psycopg.connect(
            bench.server.dsn(database=bench.database), autocommit=True,
            options=f"-c pgfresh.inband={setting}", client_encoding=encoding)
        self.told = []
        self.connection.add_notice_handler(self.hear)

    def hear(self, diagnostic):
        if diagnostic.sqlstate == "PF001":
            assert diagnostic.severity_nonlocalized == "INFO"
            self.told.append(parse(diagnostic.message_primary))

    def tells(self, sql):
        self.told.clear()
        self.connection.execute(sql)
        return [(kind, columns) for _, kind, _, columns in self.told]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


@pytest.mark.parametrize("setting, told, notified", [
    ("on", 1, 1), ("carry", 1, 0), ("off", 0, 1), ("", 0, 1), ("yes", 0, 1)])
def test_inband_settings(db, setting, told, notified):
    db.query("CREATE TABLE t (id int PRIMARY KEY)")
    db.query("SELECT pgfresh.watch('t')")
    with Inband(db, setting) as session:
        for sql, expected in (
                ("INSERT INTO t VALUES (1)", ("r", {1: ["1"]})),
                ("INSERT INTO t VALUES (2), (3)", ("r", {1: ["2", "3"]})),
                ("TRUNCATE t", ("w", {})), ("ALTER TABLE t ADD v int", ("s", {})),
                ("DROP TABLE t", ("s", {}))):
            db.payloads()
            assert session.tells(sql) == [expected] * told
            heard = [parse(p) for p in db.payloads()]
            assert [(kind, columns) for _, kind, _, columns in heard] == [expected] * notified
            if told and notified:
                assert heard == session.told


def test_inband_comes_before_the_commit_whatever_client_min_messages(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY)")
    db.query("SELECT pgfresh.watch('t')")
    with Inband(db, "on") as session:
        session.connection.execute("SET client_min_messages = error")
        session.connection.execute("BEGIN")
        db.payloads()
        assert session.tells("INSERT INTO t VALUES (1)") == [("r", {1: ["1"]})]
        assert db.payloads() == []
        session.connection.execute("COMMIT")
        assert len(db.payloads()) == 1
        session.connection.execute("RESET ALL")
        assert session.tells("DELETE FROM t") == [("r", {1: ["1"]})]
        session.connection.execute("DISCARD ALL")
        assert session.tells("INSERT INTO t VALUES (2)") == [("r", {1: ["2"]})]


def test_two_phase_commit_works_when_carrying_only(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY)")
    db.query("SELECT pgfresh.watch('t')")
    with Inband(db, "carry") as session:
        session.connection.execute("BEGIN; INSERT INTO t VALUES (1)")
        session.connection.execute("PREPARE TRANSACTION 'x'")
        session.connection.execute("COMMIT PREPARED 'x'")
    with pytest.raises(psycopg2.errors.FeatureNotSupported):
        db.query("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'y'")


def test_client_encoding_never_fails_a_write(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY, s text)")
    db.query("SELECT pgfresh.watch('t', '{s}')")
    with Inband(db, "on", encoding="latin1") as session:
        db.payloads()
        assert session.tells("INSERT INTO t VALUES (1, 'plain')") == [("r", {2: ["plain"]})]
        assert session.tells("INSERT INTO t VALUES (2, 'ä')") == [("w", {})]
        # No such letter in LATIN1.
        assert session.tells("INSERT INTO t VALUES (3, U&'\\0141')") == [("w", {})]
        assert session.tells("INSERT INTO t VALUES (4, 'a'), (5, 'ä')") == [("w", {})]
    assert [parse(p)[3] for p in db.payloads()] == [
        {2: ["plain"]}, {2: ["ä"]}, {2: ["Ł"]}, {2: ["a", "ä"]}]


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "SQL_ASCII"])
def test_other_database_encodings(pg, encoding):
    name = pg.create_database("enc_" + encoding.lower(), encoding=encoding)
    bench = Bench(pg, name)
    try:
        install(bench)
        bench.query("CREATE TABLE t (id int PRIMARY KEY, s text)")
        bench.query("SELECT pgfresh.watch('t', '{id,s}')")
        assert bench.events("INSERT INTO t VALUES (1, 'plain')") == [
            rows("t", c1=["1"], c2=["plain"])]
        letter = "chr(228)" if encoding == "LATIN1" else (
            "convert_from('\\xa4a2', 'EUC_JP')" if encoding == "EUC_JP" else "E'\\xe4'")
        assert bench.events(f"INSERT INTO t VALUES (2, {letter})") == [("w", "t", {})]
        assert bench.events(f"INSERT INTO t VALUES (3, 'a'), (4, {letter})") == [("w", "t", {})]
        assert bench.events("DELETE FROM t WHERE id IN (1, 3)") == [
            rows("t", c1=["1", "3"], c2=["a", "plain"])]
    finally:
        bench.close()
        pg.psql(f"DROP DATABASE {name} WITH (FORCE)")


# -- a write must never fail ---------------------------------------------------------------------

def test_columns_renamed_and_dropped(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY, k int, s text)")
    db.query("SELECT pgfresh.watch('t', '{id,k,s}')")
    db.query("INSERT INTO t VALUES (1, 2, 'x')")
    db.query("ALTER TABLE t RENAME COLUMN k TO kind")
    assert db.status("t")["key_columns"] == ["id", "kind", "s"]
    assert db.events("UPDATE t SET kind = 3") == [
        rows("t", c1=["1"], c2=["2", "3"], c3=["x"])]
    db.query("ALTER TABLE t DROP COLUMN kind, ALTER COLUMN s TYPE jsonb USING to_jsonb(s)")
    assert db.status("t")["key_columns"] == ["id"] and db.status("t")["complete"]
    assert db.events("UPDATE t SET s = '1'") == [rows("t", c1=["1"])]
    db.query("ALTER TABLE t RENAME TO t2")
    assert db.events("DELETE FROM t2") == [rows("t2", c1=["1"])]


def test_columns_renamed_and_dropped_unseen(db):
    """As where event triggers may not be installed."""
    db.query("DROP EVENT TRIGGER pgfresh_ddl_end; DROP EVENT TRIGGER pgfresh_drop")
    db.query("CREATE TABLE t (id int PRIMARY KEY, k int, s text)")
    db.query("SELECT pgfresh.watch('t', '{id,k}')")
    db.query("INSERT INTO t VALUES (1, 2, 'x')")
    db.query("ALTER TABLE t ADD COLUMN more int")
    assert db.events("UPDATE t SET more = 3") == [rows("t", c1=["1"], c2=["2"])]
    db.query("ALTER TABLE t RENAME COLUMN k TO kind")
    assert db.events("UPDATE t SET kind = 3") == [("w", "t", {})]
    status = db.status("t")
    assert not status["complete"] and not status["event_triggers"]
    assert "renamed" in status["why_not"]
    db.query("ALTER TABLE t DROP COLUMN kind")
    assert db.events("DELETE FROM t") == [("w", "t", {})]
    db.query("SELECT pgfresh.watch('t')")
    assert db.status("t")["complete"]


def test_hostile_search_path(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY, s text)")
    db.query("SELECT pgfresh.watch('t', '{id,s}')")
    db.query("""
        CREATE SCHEMA evil;
        CREATE TABLE evil.called (what text);
        CREATE TABLE evil.pgfresh_new (id int, s text);
        CREATE FUNCTION evil.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS
          $$ BEGIN INSERT INTO evil.called VALUES ('operator'); RETURN true; END $$;
        CREATE OPERATOR evil.= (FUNCTION = evil.trap, LEFTARG = text, RIGHTARG = text);
        CREATE OPERATOR evil.<> (FUNCTION = evil.trap, LEFTARG = text, RIGHTARG = text);
        CREATE OPERATOR evil.~ (FUNCTION = evil.trap, LEFTARG = text, RIGHTARG = text);
        CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS
          $$ INSERT INTO evil.called VALUES ('pg_notify') $$;
        CREATE FUNCTION evil.left(text, int) RETURNS text LANGUAGE sql AS $$ SELECT 'evil' $$;
        CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE sql AS
          $$ SELECT 'carry' $$;
        CREATE DOMAIN evil.text AS int;
        CREATE DOMAIN evil.uuid AS int""")
    db.payloads()
    db.query("SET search_path = evil, pg_catalog, public")
    db.query("INSERT INTO public.t VALUES (1::int4, 'a'); "
             "INSERT INTO public.t VALUES (2, 'b'), (3, 'c')")
    db.query("UPDATE public.t SET s = 'd' WHERE id OPERATOR(pg_catalog.=) 1")
    db.query("CREATE TABLE public.unrelated (id int)")
    db.query("RESET search_path")
    assert db.query("SELECT * FROM evil.called") == []
    assert [parse(p)[3] for p in db.payloads()] == [
        {1: ["1"], 2: ["a"]}, {1: ["2", "3"], 2: ["b", "c"]}, {1: ["1"], 2: ["a", "d"]}, {}]


@pytest.mark.parametrize("setting", [
    "standard_conforming_strings = off", "plpgsql.extra_errors = 'all'", "row_security = off",
    "quote_all_identifiers = on", "transform_null_equals = on", "bytea_output = escape",
    "plan_cache_mode = force_custom_plan", "default_transaction_isolation = serializable"])
def test_settings_of_the_writer(db, setting):
    db.query("CREATE TABLE t (id int PRIMARY KEY, s text, g bool)")
    db.query("SELECT pgfresh.watch('t', '{id,s,g}')")
    db.query(f"SET {setting}")
    assert db.events("INSERT INTO t VALUES (1, 'a'), (2, 'b')",
                     "UPDATE t SET g = true WHERE id = 1", "DELETE FROM t WHERE id = 9") == [
        rows("t", c1=["1", "2"], c2=["a", "b"], c3=[]), rows("t", c1=["1"], c2=["a"], c3=["t"])]


def test_odd_names(db):
    db.query('CREATE SCHEMA "Ünï"; CREATE TABLE "Ünï"."t ""x"" \'y\' %s" '
             '("id" int PRIMARY KEY, "event_" text, "Gröβe $$ {} %1$s" int, tg_op text, r int, '
             'k1 int)'
             .replace("%", "%%"), ())
    table = '"Ünï"."t ""x"" \'y\' %s"'
    db.query("SELECT pgfresh.watch(%s::regclass, %s::name[])",
             (table, ["event_", "Gröβe $$ {} %1$s", "tg_op", "r", "k1"]))
    assert db.status(table)["complete"]
    db.payloads()
    db.query(f"INSERT INTO {table} VALUES (1, 'whole', 3, 'many', 5, 6)".replace("%", "%%"), ())
    db.query(f"UPDATE {table} SET r = 50, k1 = 60".replace("%", "%%"), ())
    assert [parse(p)[3] for p in db.payloads()] == [
        {2: ["whole"], 3: ["3"], 4: ["many"], 5: ["5"], 6: ["6"]},
        {2: ["whole"], 3: ["3"], 4: ["many"], 5: ["5", "50"], 6: ["6", "60"]}]
    install(db)
    assert db.status(table)["complete"]


# -- DDL -----------------------------------------------------------------------------------------

TOLD = [
    "CREATE TABLE x (id int)", "ALTER TABLE t ADD COLUMN y int", "DROP TABLE t",
    "ALTER TABLE t RENAME COLUMN v TO w", "CREATE VIEW w AS SELECT 1 AS one",
    "CREATE OR REPLACE VIEW v AS SELECT id + 1 AS id FROM t", "DROP VIEW v",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    "ALTER FUNCTION f() VOLATILE", "DROP FUNCTION f()", "GRANT SELECT ON t TO PUBLIC",
    "REVOKE ALL ON t FROM PUBLIC", "CREATE POLICY p ON t USING (true)",
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "ALTER TYPE e RENAME VALUE 'a' TO 'b'",
    "ALTER TYPE e ADD VALUE 'c'", "REFRESH MATERIALIZED VIEW m",
    "CREATE RULE r AS ON INSERT TO t DO ALSO NOTHING", "ALTER TABLE t SET SCHEMA s",
    "ALTER SCHEMA s RENAME TO s2", "DROP SCHEMA s", "CREATE DOMAIN d AS int",
    "CREATE TRIGGER g AFTER INSERT ON t EXECUTE FUNCTION tf()", "CREATE AGGREGATE agg(int) "
    "(sfunc = int4pl, stype = int)", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    "ALTER TABLE t DISABLE TRIGGER ALL", "SELECT 1 AS a INTO x", "CREATE TABLE x AS SELECT 1 AS a",
    "CREATE EXTENSION pgcrypto", "CREATE SCHEMA x", "CREATE SEQUENCE x", "DROP OWNED BY owner_role",
    "DROP MATERIALIZED VIEW m", "DROP TYPE e", "ALTER VIEW v RENAME TO v2",
    "CREATE CAST (t AS text) WITH INOUT", "CREATE COLLATION c (locale = 'C')",
    "CREATE TABLE IF NOT EXISTS x (id int)"]
UNTOLD = [
    "CREATE INDEX ON t (v)", "DROP INDEX i", "COMMENT ON TABLE t IS 'x'", "ANALYZE t",
    "CREATE STATISTICS st ON id, v FROM t", "CREATE TEMP TABLE tt (id int)",
    "CREATE TEMP TABLE tt AS SELECT 1 AS a", "CREATE TEMP VIEW tv AS SELECT 1 AS a",
    "CREATE TEMP TABLE tt (id serial PRIMARY KEY); ALTER TABLE tt ADD v int; DROP TABLE tt",
    "CREATE TABLE IF NOT EXISTS t (id int)", "CREATE SCHEMA IF NOT EXISTS s",
    "DROP TABLE IF EXISTS nothing", "CREATE FUNCTION pg_temp.g() RETURNS int LANGUAGE sql AS "
    "'SELECT 1'", "REINDEX TABLE t"]


@pytest.fixture(scope="module")
def ddl(pg):
    pg.create_database("ddl")
    bench = Bench(pg, "ddl")
    install(bench)
    bench.query("""
        CREATE ROLE owner_role;
        CREATE TABLE t (id int PRIMARY KEY, v int);
        CREATE INDEX i ON t (v);
        CREATE VIEW v AS SELECT id FROM t;
        CREATE MATERIALIZED VIEW m AS SELECT 1 AS one;
        CREATE TYPE e AS ENUM ('a');
        CREATE SCHEMA s;
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        GRANT SELECT ON t TO owner_role""")
    yield bench
    bench.close()


def sent_by(bench, statement):
    """Event kinds of a statement in a transaction that is undone: by its PF001 messages."""
    with Inband(bench, "carry") as session:
        try:
            session.connection.execute("BEGIN")
            return [kind for kind, _ in session.tells(statement)]
        finally:
            session.connection.execute("ROLLBACK")


@pytest.mark.parametrize("statement", TOLD)
def test_ddl_that_is_told(ddl, statement):
    if statement.startswith("DROP TABLE t"):
        statement += " CASCADE"
    kinds = sent_by(ddl, statement)
    assert kinds and set(kinds) == {"s"}


@pytest.mark.parametrize("statement", UNTOLD)
def test_ddl_that_is_not_told(ddl, statement):
    assert sent_by(ddl, statement) == []


def test_ddl_in_replica_role_is_told(ddl):
    assert "s" in sent_by(ddl, "SET session_replication_role = replica; CREATE TABLE x (a int)")


# -- watch() -------------------------------------------------------------------------------------

@pytest.mark.parametrize("prepare, table, says", [
    ("CREATE VIEW x AS SELECT 1 AS a", "x", "it is a view"),
    ("CREATE MATERIALIZED VIEW x AS SELECT 1 AS a", "x", "it is a materialized view"),
    ("CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; "
     "CREATE FOREIGN TABLE x (a int) SERVER s", "x", "it is a foreign table"),
    ("CREATE TEMP TABLE x (a int)", "x", "it is a temporary table"),
    ("CREATE UNLOGGED TABLE x (a int)", "x", "it is unlogged"),
    ("CREATE SEQUENCE x", "x", "it is not a table"),
    ("SELECT 1", "pg_class", "it is a system catalog"),
    ("SELECT 1", "information_schema.sql_features", "it is a system catalog"),
    ("CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE x PARTITION OF p DEFAULT", "x",
     "it is a part of public.p"),
    ("CREATE TABLE a (i int); CREATE TABLE b (i int); CREATE TABLE x () INHERITS (a, b)", "a",
     "its member public.x inherits from several tables"),
    ("CREATE TABLE a (i int); CREATE UNLOGGED TABLE x () INHERITS (a)", "a",
     "its member public.x is unlogged"),
    ("CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; "
     "CREATE TABLE a (i int) PARTITION BY LIST (i); "
     "CREATE FOREIGN TABLE x PARTITION OF a DEFAULT SERVER s", "a",
     "its member public.x is a foreign")])
def test_what_cannot_be_watched(db, prepare, table, says):
    db.query(prepare)
    with pytest.raises(psycopg2.errors.WrongObjectType) as error:
        db.query("SELECT pgfresh.watch(%s::regclass)", (table,))
    assert re.search(rf"pgfresh cannot watch [\w.]*{table}: {says}", str(error.value))
    assert error.value.diag.message_hint
    assert db.status(table) is None


@pytest.mark.parametrize("columns, says", [
    ("{nope}", 'column "nope" of table public.t does not exist'),
    ("{ctid}", 'column "ctid" of table public.t does not exist'),
    ("{n}", 'column "n" of table public.t cannot be a key column: its type is numeric'),
    ("{id,j}", "its type is jsonb"), ("{d}", "its type is public.dom"),
    ("{c}", "its type is character"),
    ("{i}", "its type is text"), ("{gone}", "does not exist"),
    ("{" + ",".join(f"c{n}" for n in range(17)) + "}", "cannot have 17 key columns")])
def test_columns_that_cannot_be_keys(db, columns, says):
    db.query("CREATE DOMAIN dom AS int")
    db.query("CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', "
             "deterministic = false)")
    db.query("CREATE TABLE t (id int PRIMARY KEY, n numeric, j jsonb, d dom, c char(3), "
             "i text COLLATE ci, gone int, " + ", ".join(f"c{n} int" for n in range(17)) + ")")
    db.query("ALTER TABLE t DROP COLUMN gone")
    with pytest.raises(psycopg2.Error) as error:
        db.query("SELECT pgfresh.watch('t', %s::name[])", (columns,))
    assert says in str(error.value)
    assert db.status("t") is None


def test_default_columns_are_the_usable_ones_of_the_primary_key(db):
    db.query("CREATE TABLE t (a timestamptz, b uuid, c int, d int, PRIMARY KEY (c, a, b) "
             "INCLUDE (d))")
    assert db.value("SELECT pgfresh.watch('t')") == ["c", "b"]
    assert db.value("SELECT pgfresh.watch(\"table\" => 't', key_columns => '{}')") == []
    assert db.value("SELECT pgfresh.watch('t', ARRAY['d', 'd', 'b'])") == ["d", "b"]


CATALOG = """
    SELECT 'trigger', t.tgrelid::regclass::text, t.tgname::text, t.oid, t.tgfoid, t.tgenabled::text
    FROM pg_trigger t WHERE t.tgname LIKE 'pgfresh%' UNION ALL
    SELECT 'function', '', p.proname::text, p.oid, 0, md5(p.prosrc) FROM pg_proc p
    WHERE p.pronamespace = to_regnamespace('pgfresh') UNION ALL
    SELECT 'event trigger', '', evtname::text, oid, evtfoid, evtenabled::text
    FROM pg_event_trigger ORDER BY 1, 2, 3"""


def test_watching_and_installing_again_changes_nothing(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY, k int)")
    db.query("CREATE TABLE p (id int) PARTITION BY LIST (id)")
    db.query("CREATE TABLE p1 PARTITION OF p DEFAULT")
    db.query("SELECT pgfresh.watch('t', '{k}'), pgfresh.watch('p')")
    before = db.query(CATALOG)
    assert len([row for row in before if row[0] == "trigger"]) == 12
    db.query("SELECT pgfresh.watch('t', '{k}'), pgfresh.watch('p')")
    assert db.query(CATALOG) == before
    install(db)
    assert db.query(CATALOG) == before
    install(db, options=["-1"])
    assert db.query(CATALOG) == before
    db.query("SELECT pgfresh.watch('t', '{id}')")
    after = db.query(CATALOG)
    assert [row[:5] for row in after] == [row[:5] for row in before] and after != before
    assert db.events("INSERT INTO t VALUES (1, 2)") == [rows("t", c1=["1"])]


def test_watching_is_told(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY)")
    assert ("s", "", {}) in db.events("SELECT pgfresh.watch('t')")
    assert ("s", "", {}) in db.events("SELECT pgfresh.unwatch('t')")


def test_upgrade_renews_the_functions_of_watched_tables(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY, k int)")
    db.query("SELECT pgfresh.watch('t', '{k}')")
    name = db.value("SELECT proname FROM pg_proc WHERE proname LIKE 'changed%'")
    # An earlier version's: another body, the same head; and a trigger made otherwise.
    db.query(f"CREATE OR REPLACE FUNCTION pgfresh.{name}() RETURNS trigger LANGUAGE plpgsql AS "
             "'\n-- columns: {k}\n-- numbers: {2}\nBEGIN RETURN NULL; END'")
    db.query(f"CREATE OR REPLACE TRIGGER pgfresh_update AFTER UPDATE ON t FOR EACH ROW "
             f"EXECUTE FUNCTION pgfresh.{name}()")
    assert "missing" in db.status("t")["why_not"]
    install(db)
    assert db.status("t")["complete"] and db.status("t")["key_columns"] == ["k"]
    assert db.events("INSERT INTO t VALUES (1, 2)", "UPDATE t SET k = 3") == [
        rows("t", c2=["2"]), rows("t", c2=["2", "3"])]
    assert db.value("SELECT pgfresh.version()") == "1.0"


def test_watch_schema(db):
    db.query("""
        CREATE SCHEMA app;
        CREATE TABLE app.a (id int PRIMARY KEY, k int);
        CREATE TABLE app.b (id int) PARTITION BY LIST (id);
        CREATE TABLE app.b1 PARTITION OF app.b DEFAULT;
        CREATE UNLOGGED TABLE app.c (id int);
        CREATE MATERIALIZED VIEW app.m AS SELECT 1 AS one;
        CREATE VIEW app.v AS SELECT 1 AS one;
        CREATE TABLE public.elsewhere (id int)""")
    db.query("SELECT pgfresh.watch('app.a', '{k}')")
    db.writer.notices.clear()
    assert [row[0] for row in db.query("SELECT pgfresh.watch_schema('app')::text")] == [
        "app.a", "app.b"]
    said = "".join(db.writer.notices)
    assert "app.c skipped: it is unlogged" in said and "app.m skipped" in said
    assert db.status("app.a")["key_columns"] == ["k"], "columns chosen before stay"
    assert db.status("app.b")["members_covered"] == 2
    assert db.status("public.elsewhere") is None
    with pytest.raises(psycopg2.errors.InvalidSchemaName):
        db.query("SELECT pgfresh.watch_schema('nowhere')")


def test_unwatch(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY)")
    db.query("CREATE TABLE p (id int) PARTITION BY LIST (id)")
    db.query("CREATE TABLE p1 PARTITION OF p DEFAULT")
    before = db.query(CATALOG)
    db.query("SELECT pgfresh.watch('t'), pgfresh.watch('p')")
    assert db.value("SELECT pgfresh.unwatch('p')") is True
    assert db.value("SELECT pgfresh.unwatch('p')") is False
    db.query("CREATE TABLE p2 PARTITION OF p FOR VALUES IN (1)")
    assert db.status("p") is None and db.status("t")["complete"]
    assert db.value("SELECT pgfresh.unwatch('t')") is True
    assert db.query(CATALOG) == before


def test_dropped_tables_leave_no_functions_behind(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)")
    db.query("SELECT pgfresh.watch('t')")
    db.query("DROP TABLE t")
    db.query("SELECT pgfresh.watch('u')")
    assert db.value("SELECT count(*) FROM pg_proc WHERE proname LIKE 'changed%'") == 1


def test_a_foreign_partition_is_a_warning_and_ends_completeness(db):
    db.query("CREATE TABLE p (id int) PARTITION BY LIST (id)")
    db.query("SELECT pgfresh.watch('p')")
    db.query("CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; "
             "CREATE FOREIGN TABLE f (id int) SERVER s")
    db.writer.notices.clear()
    db.query("ALTER TABLE p ATTACH PARTITION f DEFAULT")
    assert any("can no longer be watched" in notice for notice in db.writer.notices)
    assert db.status("p")["why_not"] == "its member public.f is a foreign table"


# -- roles ---------------------------------------------------------------------------------------

def test_without_superuser(pg):
    pg.psql("CREATE ROLE app LOGIN; CREATE ROLE writer LOGIN; CREATE DATABASE owned OWNER app")
    bench = Bench(pg, "owned")
    try:
        done = install(bench, user="app", check=False)
        assert done.returncode == 0 and "may not create event triggers" in done.stderr
        pg.psql("CREATE TABLE t (id int PRIMARY KEY, k int); GRANT ALL ON t TO writer; "
                "SELECT pgfresh.watch('t', '{id,k}'); REVOKE ALL ON SCHEMA pgfresh FROM PUBLIC",
                user="app", database="owned")
        pg.psql("CREATE TABLE others (id int)", database="owned")
        status = bench.status("t")
        assert status["complete"] and not status["event_triggers"]
        bench.payloads()
        pg.psql("INSERT INTO t VALUES (1, 2); UPDATE t SET k = 3; DELETE FROM t", user="writer",
                database="owned")
        assert [parse(p)[3] for p in bench.payloads()] == [
            {1: ["1"], 2: ["2"]}, {1: ["1"], 2: ["2", "3"]}, {1: ["1"], 2: ["3"]}]
        with pytest.raises(PsqlError, match="permission denied|must be owner"):
            pg.psql("SELECT pgfresh.watch('others')", user="app", database="owned")
        done = pg.psql("SELECT pgfresh.watch_schema('public')", user="app", database="owned",
                       check=False)
        assert done.stdout.split() == ["t"] and "others skipped" in done.stderr
        # A later run as superuser adds what was missing.
        install(bench)
        assert bench.status("t")["event_triggers"]
        pg.psql(file=SQL / "uninstall.sql", database="owned")
    finally:
        bench.close()
        pg.psql("DROP DATABASE owned WITH (FORCE)")
        pg.psql("DROP ROLE app; DROP ROLE writer")


def test_anybody_may_create_a_partition_and_see_the_status(pg, db):
    pg.psql("CREATE ROLE maker LOGIN")
    try:
        db.query("CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id); "
                 "GRANT CREATE ON SCHEMA public TO maker; ALTER TABLE p OWNER TO maker")
        db.query("SELECT pgfresh.watch('p')")
        pg.psql("CREATE TABLE p1 PARTITION OF p DEFAULT", user="maker", database=db.database)
        assert pg.psql("SELECT complete, members FROM pgfresh.status", user="maker",
                       database=db.database) == "t|2"
        with pytest.raises(PsqlError, match="permission denied"):
            pg.psql("SELECT pgfresh.watch('p', '{}')", user="maker", database=db.database)
        called = db.value("SELECT DISTINCT function::regproc::text FROM pgfresh.triggers()")
        with pytest.raises(PsqlError, match="permission denied for function"):
            pg.psql("CREATE TABLE own (id int); CREATE TRIGGER pgfresh_insert AFTER INSERT ON own "
                    f"EXECUTE FUNCTION {called}()", user="maker", database=db.database)
        db.query("INSERT INTO p VALUES (1)")
        assert pg.psql("DELETE FROM p RETURNING id", user="maker", database=db.database) == "1"
    finally:
        db.query("DROP OWNED BY maker; REVOKE ALL ON SCHEMA public FROM maker")
        pg.psql("DROP ROLE maker")


# -- leaving -------------------------------------------------------------------------------------

def test_uninstall_leaves_nothing(empty):
    everything = """
        SELECT 'class', oid FROM pg_class UNION ALL SELECT 'proc', oid FROM pg_proc
        UNION ALL SELECT 'trigger', oid FROM pg_trigger UNION ALL SELECT 'type', oid FROM pg_type
        UNION ALL SELECT 'schema', oid FROM pg_namespace
        UNION ALL SELECT 'event trigger', oid FROM pg_event_trigger
        UNION ALL SELECT 'comment', objoid FROM pg_description ORDER BY 1, 2"""
    empty.query("CREATE TABLE t (id int PRIMARY KEY)")
    empty.query("CREATE TABLE p (id int) PARTITION BY LIST (id)")
    empty.query("CREATE TABLE p1 PARTITION OF p DEFAULT")
    before = empty.query(everything)
    install(empty)
    empty.query("SELECT pgfresh.watch_schema('public')")
    empty.query("ALTER TABLE p DETACH PARTITION p1")
    empty.payloads()
    empty.server.psql(file=SQL / "uninstall.sql", database=empty.database)
    assert "s" in [parse(p)[1] for p in empty.payloads()]
    assert empty.query(everything) == before
    done = empty.server.psql(file=SQL / "uninstall.sql", database=empty.database, check=False)
    assert done.returncode == 0 and "not installed" in done.stderr


def test_uninstall_spares_what_others_built_on_it(db):
    db.query("CREATE VIEW mine AS SELECT * FROM pgfresh.status")
    with pytest.raises(PsqlError, match="mine"):
        db.server.psql(file=SQL / "uninstall.sql", database=db.database)
    assert db.value("SELECT pgfresh.version()") == "1.0"


def test_dump_and_restore(pg, db):
    db.query("CREATE TABLE t (pad int, id int PRIMARY KEY)")
    db.query("ALTER TABLE t DROP COLUMN pad")
    db.query("CREATE TABLE u (id int PRIMARY KEY)")
    db.query("SELECT pgfresh.watch('t'), pgfresh.watch('u')")
    dump = subprocess.run([f"{pg.bin}/pg_dump", "-h", pg.socket_dir, "-p", str(pg.port), "-U",
                           "postgres", db.database], capture_output=True, text=True, check=True)
    pg.create_database("restored")
    bench = Bench(pg, "restored")
    try:
        pg.psql(dump.stdout, database="restored")
        assert bench.status("u")["complete"]
        assert bench.events("INSERT INTO u VALUES (1)") == [rows("u", c1=["1"])]
        # The dropped column is gone for good, so numbers in the body are not the table's.
        assert "moved" in bench.status("t")["why_not"]
        install(bench)
        assert bench.status("t")["complete"]
        assert bench.events("INSERT INTO t VALUES (1)") == [rows("t", c1=["1"])]
    finally:
        bench.close()
        pg.psql("DROP DATABASE restored WITH (FORCE)")


# -- the reference schema ------------------------------------------------------------------------

def test_healthcare(empty):
    fingerprint = """
        SELECT string_agg(md5(x), '' ORDER BY x) FROM (
          SELECT u::text FROM users u UNION ALL SELECT s::text FROM availability_slots s UNION ALL
          SELECT c::text FROM consultations c UNION ALL SELECT l::text FROM pharmacy_locations l)
          AS rows(x)"""
    seen = set()
    for _ in range(2):
        for script in ("schema.sql", "data.sql"):
            empty.server.psql(file=SQL / "healthcare" / script, database=empty.database,
                              variables={"scale": "0.02"})
        seen.add(empty.value(fingerprint))
        install(empty)
        empty.server.psql(file=SQL / "healthcare" / "watch.sql", database=empty.database)
        assert empty.query("SELECT count(*), bool_and(complete) FROM pgfresh.status") == [
            (16, True)]
        before = empty.value("SELECT updated_at FROM doctors ORDER BY id LIMIT 1")
        [(kind, table, columns)] = empty.events(
            "UPDATE doctors SET rating = 4 WHERE id = md5('doctor 1')::uuid")
        assert (kind, table) == ("r", "doctors")
        assert columns[1] == ["da34c3fa-47e0-e4e6-9fd9-dbeae1ae9e5d"]
        assert empty.value("SELECT max(updated_at) FROM doctors") > before
        assert empty.events("SELECT audit_logs_add_month('2031-05-17')") == [("s", "", {})]
        assert empty.status("audit_logs")["complete"]
        empty.server.psql(file=SQL / "healthcare" / "drop.sql", database=empty.database)
        assert empty.query("SELECT * FROM pgfresh.status") == []
    assert len(seen) == 1
