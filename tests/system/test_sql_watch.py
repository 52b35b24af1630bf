"""sql/install.sql: DDL that is told; watch(), status, upgrade, roles and uninstall; the reference
schema."""
import re
import subprocess

import psycopg2
import pytest

from pgserver import PsqlError
from sql_bench import SQL, Bench, Inband, install, parse, rows


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


def test_ddl_compiles_nothing(db):
    """The planner deems some queries of the catalog worth compiling, which takes far longer."""
    db.query("SET jit = on")
    for statement in ("CREATE TABLE quick (id int PRIMARY KEY) PARTITION BY RANGE (id)",
                      "SELECT pgfresh.watch('quick')",
                      "CREATE TABLE quick_1 PARTITION OF quick FOR VALUES FROM (0) TO (10)",
                      "ALTER TABLE quick ADD COLUMN name text",
                      "SELECT pgfresh.unwatch('quick')", "DROP TABLE quick"):
        db.query(statement)
    assert not db.value("SELECT pg_read_file(format('/proc/%s/maps', pg_backend_pid())) ~ 'llvmjit'")


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
    assert len([row for row in before if row[0] == "trigger"]) == 13
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
        # A later run as superuser adds what was missing, and leaves nothing in the former owner's
        # hands that runs in a superuser's sessions.
        pg.psql("CREATE FUNCTION pgfresh.follow(regclass) RETURNS void LANGUAGE sql AS 'SELECT'",
                user="app", database="owned")
        for _ in range(2):
            install(bench)
            assert bench.status("t")["event_triggers"]
            theirs = pg.psql("SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = "
                             "'pgfresh'::regnamespace AND prorettype <> 'trigger'::regtype "
                             "AND NOT (SELECT rolsuper FROM pg_roles r WHERE r.oid = p.proowner)",
                             database="owned")
            assert theirs == ""
        with pytest.raises(PsqlError, match="must be owner"):
            pg.psql("CREATE OR REPLACE FUNCTION pgfresh.ddl_start() RETURNS event_trigger "
                    "LANGUAGE plpgsql AS 'BEGIN END'", user="app", database="owned")
        with pytest.raises(PsqlError, match="must be owner"):
            pg.psql("DROP SCHEMA pgfresh CASCADE", user="app", database="owned")
        # He goes on watching; others are told what they lack.
        pg.psql("SELECT pgfresh.watch('t')", user="app", database="owned")
        pg.psql("ALTER TABLE others OWNER TO writer; GRANT USAGE ON SCHEMA pgfresh TO writer",
                database="owned")
        with pytest.raises(PsqlError, match="GRANT CREATE ON SCHEMA pgfresh TO writer"):
            pg.psql("SELECT pgfresh.watch('others')", user="writer", database="owned")
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
            (17, True)]
        before = empty.value("SELECT updated_at FROM doctors ORDER BY id LIMIT 1")
        [(kind, table, columns)] = empty.events(
            "UPDATE doctors SET rating = 4 WHERE id = md5('doctor 1')::uuid")
        assert (kind, table) == ("r", "doctors")
        assert columns[1] == ["da34c3fa-47e0-e4e6-9fd9-dbeae1ae9e5d"]
        assert empty.value("SELECT max(updated_at) FROM doctors") > before
        assert empty.events("SELECT audit_logs_add_month('2031-05-17')") == [("s", "", {})]
        assert empty.status("audit_logs")["complete"]
        empty.server.psql(file=SQL / "healthcare" / "drop.sql", database=empty.database)
        # What is left is PostGIS's own.
        assert empty.query("SELECT relation::text FROM pgfresh.status") == [("spatial_ref_sys",)]
    assert len(seen) == 1
