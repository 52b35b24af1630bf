"""sql/install.sql: what each way of writing sends, over the channel and in-band, and that no write
ever fails because of it."""
import psycopg2
import pytest

from sql_bench import Bench, Inband, install, parse, rows


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


def test_columns_that_move_rows(db):
    """pgfresh_moved is for the columns of all partition keys below, or for any."""
    db.query("CREATE TABLE p (id int, k int, n int, d int) PARTITION BY LIST (k)")
    db.query("CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY RANGE (n)")
    db.query("CREATE TABLE p1a PARTITION OF p1 DEFAULT")
    db.query("CREATE TABLE p2 (d int, n int, k int, id int)")
    db.query("ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2)")
    db.query("SELECT pgfresh.watch('p', '{id}')")

    def columns(table):
        return db.value("SELECT coalesce((SELECT tgattr::text FROM pg_trigger WHERE tgname = "
                        f"'pgfresh_moved' AND tgrelid = '{table}'::regclass), 'none')")

    assert [columns(table) for table in ("p", "p1", "p1a", "p2")] == ["2 3", "3", "none", "none"]
    db.query("CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3) PARTITION BY RANGE (d)")
    db.query("CREATE TABLE p3a PARTITION OF p3 DEFAULT")
    assert [columns(table) for table in ("p", "p1", "p3")] == ["2 3 4", "3", "4"]
    db.query("CREATE TABLE p4 PARTITION OF p FOR VALUES IN (4) PARTITION BY RANGE ((d + n))")
    assert [columns(table) for table in ("p", "p1", "p4")] == ["", "3", ""]
    assert db.status("p")["complete"]
    # A row that a trigger changes may move, whatever columns the statement names.
    db.query("CREATE FUNCTION push() RETURNS trigger LANGUAGE plpgsql AS "
             "'BEGIN new.n := new.n + 1; RETURN new; END'; CREATE TRIGGER push BEFORE UPDATE ON "
             "p1a FOR EACH ROW EXECUTE FUNCTION push()")
    assert [columns(table) for table in ("p", "p1", "p4")] == ["", "", ""]
    assert db.status("p")["complete"]
    db.query("DROP TRIGGER pgfresh_moved ON p1")
    assert not db.status("p")["complete"]


@pytest.mark.parametrize("gone", ["DROP TABLE p1", "DROP SCHEMA parts CASCADE",
                                  "ALTER TABLE p DETACH PARTITION p1"])
def test_columns_that_no_longer_move_rows_may_be_altered(db, gone):
    db.query("CREATE SCHEMA parts; CREATE TABLE p (id int, k int, n int, m int) "
             "PARTITION BY LIST (k); CREATE TABLE parts.p1 PARTITION OF p FOR VALUES IN (1) "
             "PARTITION BY LIST (n); CREATE TABLE parts.p1a PARTITION OF parts.p1 DEFAULT; "
             "CREATE TABLE p2 PARTITION OF p DEFAULT; SET search_path = public, parts")
    db.query("SELECT pgfresh.watch('p', '{id}')")
    db.query(gone)
    db.query("ALTER TABLE p ALTER COLUMN n TYPE bigint; ALTER TABLE p DROP COLUMN n")
    assert db.status("p")["complete"]
    # Past the event triggers, until watch() is called again.
    db.query("CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3) PARTITION BY LIST (m)")
    db.query("ALTER EVENT TRIGGER pgfresh_drop DISABLE; DROP TABLE p3")
    db.query("SELECT pgfresh.watch('p', '{id}'); ALTER TABLE p DROP COLUMN m")


def test_trigger_on_the_root_that_moves_rows(db):
    db.query("CREATE TABLE p (id int, k int) PARTITION BY LIST (k)")
    db.query("CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)")
    db.query("CREATE TABLE p2 PARTITION OF p DEFAULT")
    db.query("SELECT pgfresh.watch('p', '{id}')")
    db.query("CREATE FUNCTION push() RETURNS trigger LANGUAGE plpgsql AS "
             "'BEGIN new.k := new.k + 1; RETURN new; END'; CREATE TRIGGER push BEFORE UPDATE ON "
             "p FOR EACH ROW EXECUTE FUNCTION push()")
    assert db.value("SELECT tgattr::text FROM pg_trigger WHERE tgname = 'pgfresh_moved'") == ""
    assert db.status("p")["complete"]


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
    assert db.events("UPDATE p SET id = 5 WHERE id = 5") == [rows("p", c2=["5"], c3=["1"])]
    # What may move a row is told as a whole, too: of a MERGE that does, nothing else may come.
    assert db.events("UPDATE p SET k = 2 WHERE id = 5") == [
        ("w", "p", {}), rows("p", c2=["5"], c3=["1", "2"])]
    assert db.events("MERGE INTO p USING (VALUES (5)) v (i) ON v.i = p.id WHEN MATCHED THEN UPDATE "
                     "SET k = 1") == [("w", "p", {})]
    assert db.events("MERGE INTO p USING (VALUES (5)) v (i) ON v.i = p.id WHEN MATCHED THEN UPDATE "
                     "SET k = 2") == [("w", "p", {})]
    assert db.events("DELETE FROM p") == [rows("p", c2=["5", "6"], c3=["2"])]
    assert sorted(db.events("TRUNCATE p")) == [("w", "p", {}), ("w", "p1", {}), ("w", "p2", {})]
    # A row that a trigger swallows on its way to another partition is gone.
    db.query("CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS "
             "'BEGIN RETURN NULL; END'; CREATE TRIGGER swallow BEFORE INSERT ON p2 "
             "FOR EACH ROW EXECUTE FUNCTION swallow()")
    db.query("INSERT INTO p VALUES (9, 1)")
    db.payloads()
    assert db.events("UPDATE p SET k = 2 WHERE id = 9") == [
        ("w", "p", {}), rows("p", c2=["9"], c3=["1"])]
    db.query("INSERT INTO p VALUES (9, 1)")
    db.query("SELECT pgfresh.watch('p', '{}')")
    db.payloads()
    assert db.events("UPDATE p SET k = 2 WHERE id = 9") == [("w", "p", {})]
    assert db.events("UPDATE p SET id = 2 WHERE id = 9") == []
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
        assert session.tells("INSERT INTO t VALUES (2, 'ä')") == [("r", {2: ["ä"]})]
        # No such letter in LATIN1.
        assert session.tells("INSERT INTO t VALUES (3, U&'\\0141')") == [("r", {2: ["Ł"]})]
        assert session.tells("INSERT INTO t VALUES (4, 'a'), (5, 'ä')") == [("r", {2: ["a", "ä"]})]
    assert [parse(p)[3] for p in db.payloads()] == [
        {2: ["plain"]}, {2: ["ä"]}, {2: ["Ł"]}, {2: ["a", "ä"]}]


def test_without_the_right_to_set_config(db):
    db.query("CREATE TABLE t (id int PRIMARY KEY, s text); SELECT pgfresh.watch('t', '{s}')")
    db.query("DROP ROLE IF EXISTS nobody_sets; CREATE ROLE nobody_sets; "
             "GRANT ALL ON t TO nobody_sets; "
             "REVOKE EXECUTE ON FUNCTION set_config(text, text, boolean) FROM PUBLIC")
    for encoding, told in (("utf8", ("r", {2: ["ä"]})), ("latin1", ("w", {}))):
        with Inband(db, "on", encoding=encoding) as session:
            session.connection.execute("SET ROLE nobody_sets")
            assert session.tells("INSERT INTO t VALUES (%d, 'ä')" % len(encoding)) == [told]
    db.query("DROP OWNED BY nobody_sets; DROP ROLE nobody_sets")


@pytest.mark.parametrize("setting", ["on", "carry"])
def test_statements_the_client_could_not_read_never_fail_a_write(db, setting):
    """A notice's CONTEXT quotes the statements of the functions it comes from."""
    db.query("CREATE TABLE t (id int PRIMARY KEY, s text); SELECT pgfresh.watch('t')")
    db.query("CREATE FUNCTION price() RETURNS void LANGUAGE plpgsql AS $$ BEGIN "
             "INSERT INTO t VALUES (1, '5 €') ON CONFLICT (id) DO UPDATE SET s = '6 €'; END $$")
    db.query("CREATE FUNCTION euro() RETURNS void LANGUAGE plpgsql AS $$ BEGIN "
             "CREATE TABLE \"€\" (id int); DROP TABLE \"€\"; END $$")
    with Inband(db, setting, encoding="latin1") as session:
        assert session.tells("SELECT price()") == [("r", {1: ["1"]})]
        assert session.tells("SELECT price()") == [("r", {1: ["1"]})]
        assert session.tells("BEGIN; SET LOCAL client_encoding = 'sql_ascii'; SELECT price(); "
                             "COMMIT") == [("r", {1: ["1"]})]
        assert session.tells("SELECT euro()") == [("s", {}), ("s", {})]
        # The client is told nothing of another encoding, and has its own.
        assert session.connection.execute("SHOW client_encoding").fetchone() == ("LATIN1",)
        assert session.connection.info.encoding == "iso8859-1"
        session.connection.execute("SET client_encoding = 'WIN1252'; BEGIN")
        assert session.tells("SELECT price()") == [("r", {1: ["1"]})]
        session.connection.execute("COMMIT")
        assert session.connection.execute("SHOW client_encoding").fetchone() == ("WIN1252",)
        session.connection.execute("RESET client_encoding")
        assert session.connection.execute("SHOW client_encoding").fetchone() == ("LATIN1",)


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


@pytest.mark.parametrize("old", ["smallint", "int", "bigint", "uuid", "boolean"])
def test_columns_that_become_text_unseen(db, old):
    db.query("DROP EVENT TRIGGER pgfresh_ddl_end; DROP EVENT TRIGGER pgfresh_drop")
    db.query(f"CREATE TABLE t (id int, k {old}); SELECT pgfresh.watch('t', '{{k}}')")
    db.query("ALTER TABLE t ALTER COLUMN k TYPE text USING k::text")
    with Inband(db, "on", encoding="latin1") as session:
        for value in ("repeat('x', 9000)", "U&'\\0141'", "repeat(U&'\\0141', 4000)"):
            assert session.tells(f"INSERT INTO t VALUES (1, {value})") == [("w", {})]
        assert session.tells("UPDATE t SET id = 2") == [("w", {})]
        assert session.tells("DELETE FROM t") == [("w", {})]


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


@pytest.mark.parametrize("before", ["bool", "int", "text", "uuid"])
@pytest.mark.parametrize("after", ["bool", "int", "text", "numeric", "jsonb", "point", "bool[]"])
def test_columns_of_another_type_unseen(db, before, after):
    """As where event triggers may not be installed."""
    db.query("DROP EVENT TRIGGER pgfresh_ddl_end; DROP EVENT TRIGGER pgfresh_drop")
    db.query(f"CREATE TABLE t (id int PRIMARY KEY, k {before})")
    db.query("SELECT pgfresh.watch('t', '{k}')")
    db.query(f"ALTER TABLE t ALTER COLUMN k TYPE {after} USING NULL")
    value = {"bool": "true", "int": "1", "text": "'x'", "numeric": "2.5", "jsonb": "'[1]'",
             "point": "'(1,2)'", "bool[]": "'{t}'"}[after]
    for write in (f"INSERT INTO t VALUES (1, {value})", "UPDATE t SET k = k", "UPDATE t SET k = NULL",
                  f"INSERT INTO t VALUES (2, {value}), (3, NULL)", "DELETE FROM t"):
        assert len(db.events(write)) == 1, write


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
