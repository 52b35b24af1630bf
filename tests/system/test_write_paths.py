"""Every way a row can change, written through pgfresh and around it: the next read is fresh, or was
never cached, and SHOW pgfresh.last says why. The rows are those of the table "Statement triggers:
what fires" in the design's facts about PostgreSQL, and what else changes an answer.

A path is its set-up ({0}: a prefix of its own for names), what is watched, the question, what is
done, and the answer afterwards. `reason`: the question is expected never to be cached, for it.
"""
import contextlib
import dataclasses
import itertools
import time

import psycopg
import pytest

from pgfresh_proc import wait_until
from play import STALENESS_S, Play, last, one

PREFIXES = (f"w{n}" for n in itertools.count())


@dataclasses.dataclass
class Path:
    name: str
    set_up: str
    question: str
    write: tuple  # statements, each sent by itself
    answer: object
    watch: tuple = ("{0}",)
    reason: tuple = ()     # one of these, where nothing is cached
    silent: bool = False   # nothing changes, and nothing may be forgotten


TABLE = ("CREATE TABLE {0} (id int PRIMARY KEY, n int, t text); "
         "INSERT INTO {0} VALUES (1, 10, 'a'), (2, 20, 'b');")
SUM = "SELECT sum(n)::int FROM {0}"
CHILD = (TABLE + "CREATE TABLE {0}_c (id int PRIMARY KEY, p int DEFAULT 2 REFERENCES {0} {1});"
         "INSERT INTO {0}_c VALUES (7, 1);")
PARTS = ("CREATE TABLE {0} (id int, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
         "CREATE TABLE {0}_a PARTITION OF {0} FOR VALUES FROM (0) TO (10);"
         "CREATE TABLE {0}_b PARTITION OF {0} FOR VALUES FROM (10) TO (20);"
         "INSERT INTO {0} VALUES (1, 10), (11, 20);")
HEIRS = ("CREATE TABLE {0} (id int PRIMARY KEY, n int); CREATE TABLE {0}_h () INHERITS ({0});"
         "INSERT INTO {0} VALUES (1, 10); INSERT INTO {0}_h VALUES (2, 20);")


def child(action):
    return CHILD.replace("{1}", action)


def path(name, set_up, question, *write, answer, **options):
    return Path(name, set_up, question, write, answer, **options)


COPIED = "COPY {0} (id, n) FROM stdin"  # with the row (3, 30)

PATHS = [
    # the three statements, and those that change nothing
    path("insert", TABLE, SUM, "INSERT INTO {0} VALUES (3, 30)", answer=60),
    path("update", TABLE, SUM, "UPDATE {0} SET n = 11 WHERE id = 1", answer=31),
    path("delete", TABLE, SUM, "DELETE FROM {0} WHERE id = 1", answer=20),
    path("update of no row", TABLE, SUM, "UPDATE {0} SET n = 1 WHERE id = 99", answer=30,
         silent=True),
    path("delete of no row", TABLE, SUM, "DELETE FROM {0} WHERE id = 99", answer=30, silent=True),
    path("insert of no row", TABLE, SUM, "INSERT INTO {0} SELECT 9, 9 WHERE false", answer=30,
         silent=True),
    path("update of the key", TABLE, "SELECT n FROM {0} WHERE id = 5",
         "UPDATE {0} SET id = 5 WHERE id = 1", answer=10),
    path("update from another table", child(""), SUM,
         "UPDATE {0} SET n = 0 FROM {0}_c c WHERE c.p = {0}.id", answer=20),
    path("delete using another table", child("ON DELETE CASCADE"), SUM,
         "DELETE FROM {0} USING {0}_c c WHERE c.p = {0}.id", answer=20),
    # what is not called a write
    path("copy", TABLE, SUM, COPIED, answer=60),
    path("writable cte", TABLE, SUM,
         "WITH w AS (UPDATE {0} SET n = 0 WHERE id = 1 RETURNING id) SELECT * FROM w", answer=20),
    path("two writable ctes", TABLE, SUM,
         "WITH d AS (DELETE FROM {0} WHERE id = 1 RETURNING n), i AS (INSERT INTO {0} "
         "SELECT 3, n FROM d RETURNING id) SELECT * FROM i", answer=30),
    path("view", TABLE + "CREATE VIEW {0}_v AS SELECT id, n FROM {0}", SUM,
         "UPDATE {0}_v SET n = 0 WHERE id = 1", answer=20),
    path("view of a view", TABLE + "CREATE VIEW {0}_v AS SELECT id, n FROM {0} WHERE n > 0;"
         "CREATE VIEW {0}_w AS SELECT * FROM {0}_v", SUM,
         "INSERT INTO {0}_w VALUES (3, 30)", answer=60),
    path("view with an instead-of trigger", TABLE +
         "CREATE VIEW {0}_v AS SELECT id, sum(n) AS n FROM {0} GROUP BY id;"
         "CREATE FUNCTION {0}_f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE {0} SET n = "
         "new.n WHERE id = new.id; RETURN new; END';"
         "CREATE TRIGGER t INSTEAD OF UPDATE ON {0}_v FOR EACH ROW EXECUTE FUNCTION {0}_f()", SUM,
         "UPDATE {0}_v SET n = 0 WHERE id = 1", answer=20),
    path("rule", TABLE + "CREATE TABLE {0}_r (id int); CREATE RULE r AS ON INSERT TO {0}_r DO "
         "INSTEAD UPDATE {0} SET n = 0 WHERE id = new.id", SUM,
         "INSERT INTO {0}_r VALUES (1)", answer=20),
    path("function", TABLE + "CREATE FUNCTION {0}_f() RETURNS int LANGUAGE sql AS "
         "'UPDATE {0} SET n = 0 WHERE id = 1 RETURNING n'", SUM, "SELECT {0}_f()", answer=20),
    path("function in FROM", TABLE + "CREATE FUNCTION {0}_f() RETURNS SETOF int LANGUAGE sql AS "
         "'UPDATE {0} SET n = 0 RETURNING n'", SUM, "SELECT * FROM {0}_f()", answer=0),
    path("function called stable", TABLE + "CREATE FUNCTION {0}_g() RETURNS int LANGUAGE sql AS "
         "'UPDATE {0} SET n = 0 WHERE id = 1 RETURNING n'; CREATE FUNCTION {0}_f() RETURNS int "
         "STABLE LANGUAGE sql AS 'SELECT {0}_g()'", SUM, "SELECT {0}_f()", answer=20),
    path("operator", TABLE + "CREATE FUNCTION {0}_f(int, int) RETURNS int LANGUAGE sql AS "
         "'UPDATE {0} SET n = $1 WHERE id = $2 RETURNING n';"
         "CREATE SCHEMA {0}_o; CREATE OPERATOR {0}_o.@@@@ (FUNCTION = {0}_f, LEFTARG = int, RIGHTARG = int)", SUM,
         "SELECT 0 OPERATOR({0}_o.@@@@) 1", answer=20),
    path("column default", TABLE + "CREATE FUNCTION {0}_f() RETURNS int LANGUAGE sql AS "
         "'UPDATE {0} SET n = 0 WHERE id = 1 RETURNING n'; CREATE TABLE {0}_d (a int, b int "
         "DEFAULT {0}_f())", SUM, "INSERT INTO {0}_d (a) VALUES (1)", answer=20),
    path("check constraint", TABLE + "CREATE FUNCTION {0}_f() RETURNS int LANGUAGE sql AS "
         "'UPDATE {0} SET n = 0 WHERE id = 1 RETURNING 1'; CREATE TABLE {0}_d (a int CHECK "
         "({0}_f() = 1))", SUM, "INSERT INTO {0}_d (a) VALUES (1)", answer=20),
    path("do", TABLE, SUM, "DO $$ BEGIN UPDATE {0} SET n = 0 WHERE id = 1; END $$", answer=20),
    path("procedure", TABLE + "CREATE PROCEDURE {0}_p() LANGUAGE sql AS "
         "'UPDATE {0} SET n = 0 WHERE id = 1'", SUM, "CALL {0}_p()", answer=20),
    path("procedure that commits", TABLE + "CREATE PROCEDURE {0}_p() LANGUAGE plpgsql AS 'BEGIN "
         "UPDATE {0} SET n = 0 WHERE id = 1; COMMIT; UPDATE {0} SET n = 1 WHERE id = 2; END'", SUM,
         "CALL {0}_p()", answer=1),
    path("procedure that commits and fails", TABLE + "CREATE PROCEDURE {0}_p() LANGUAGE plpgsql AS "
         "'BEGIN UPDATE {0} SET n = 0 WHERE id = 1; COMMIT; PERFORM 1/0; END'", SUM,
         "!CALL {0}_p()", answer=20),
    path("procedure that rolls back", TABLE + "CREATE PROCEDURE {0}_p() LANGUAGE plpgsql AS 'BEGIN "
         "UPDATE {0} SET n = 0 WHERE id = 1; ROLLBACK; UPDATE {0} SET n = 0 WHERE id = 2; END'", SUM,
         "CALL {0}_p()", answer=10),
    path("prepared by SQL", TABLE, SUM,
         "PREPARE {0}_p AS UPDATE {0} SET n = $1 WHERE id = 1", "EXECUTE {0}_p(0)", answer=20),
    path("cursor", TABLE, SUM, "BEGIN", "DECLARE c CURSOR FOR SELECT * FROM {0} WHERE id = 1 FOR "
         "UPDATE", "FETCH c", "DELETE FROM {0} WHERE CURRENT OF c", "COMMIT", answer=20),
    path("explain analyze", TABLE, SUM, "EXPLAIN ANALYZE DELETE FROM {0} WHERE id = 1", answer=20),
    path("create table as execute", TABLE + "CREATE FUNCTION {0}_f() RETURNS int LANGUAGE sql AS "
         "'UPDATE {0} SET n = 0 WHERE id = 1 RETURNING n'", SUM,
         "CREATE TEMP TABLE {0}_t AS SELECT {0}_f()", answer=20),
    path("select into", TABLE + "CREATE FUNCTION {0}_f() RETURNS int LANGUAGE sql AS "
         "'UPDATE {0} SET n = 0 WHERE id = 1 RETURNING n'", SUM,
         "SELECT {0}_f() AS f INTO TEMP {0}_t", answer=20),
    path("copy of a query that writes", TABLE, SUM,
         "COPY (UPDATE {0} SET n = 0 WHERE id = 1 RETURNING n) TO '/dev/null'", answer=20),
    # conflict and merge
    path("on conflict update", TABLE, SUM,
         "INSERT INTO {0} VALUES (1, 0), (3, 30) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
         answer=50),
    path("on conflict nothing", TABLE, SUM,
         "INSERT INTO {0} VALUES (1, 0) ON CONFLICT (id) DO NOTHING", answer=30, silent=True),
    path("merge", TABLE, SUM, "MERGE INTO {0} USING (VALUES (1, 0), (3, 30)) v (id, n) ON v.id = "
         "{0}.id WHEN MATCHED THEN UPDATE SET n = v.n WHEN NOT MATCHED THEN INSERT VALUES (v.id, "
         "v.n)", answer=50),
    path("merge that deletes", TABLE, SUM, "MERGE INTO {0} USING (VALUES (1)) v (id) ON v.id = "
         "{0}.id WHEN MATCHED THEN DELETE", answer=20),
    # foreign keys
    path("cascade", child("ON DELETE CASCADE"), "SELECT count(*)::int FROM {0}_c",
         "DELETE FROM {0} WHERE id = 1", answer=0, watch=("{0}", "{0}_c")),
    path("cascade from a table not watched", child("ON DELETE CASCADE"),
         "SELECT count(*)::int FROM {0}_c", "DELETE FROM {0} WHERE id = 1", answer=0,
         watch=("{0}_c",)),
    path("set null", child("ON DELETE SET NULL"), "SELECT p FROM {0}_c",
         "DELETE FROM {0} WHERE id = 1", answer=None, watch=("{0}_c",)),
    path("set null by key", child("ON DELETE SET NULL"), "SELECT p FROM {0}_c WHERE id = 7",
         "DELETE FROM {0} WHERE id = 1", answer=None, watch=("{0}_c",)),
    path("set default", child("ON DELETE SET DEFAULT"), "SELECT p FROM {0}_c",
         "DELETE FROM {0} WHERE id = 1", answer=2, watch=("{0}_c",)),
    path("update cascade", child("ON UPDATE CASCADE"), "SELECT p FROM {0}_c",
         "UPDATE {0} SET id = 5 WHERE id = 1", answer=5, watch=("{0}_c",)),
    path("deferred cascade", child("ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED"),
         "SELECT count(*)::int FROM {0}_c", "BEGIN", "DELETE FROM {0} WHERE id = 1", "COMMIT",
         answer=0, watch=("{0}_c",)),
    # triggers of the application's own
    path("row trigger", TABLE + "CREATE TABLE {0}_s (id int); CREATE FUNCTION {0}_f() RETURNS "
         "trigger LANGUAGE plpgsql AS 'BEGIN UPDATE {0} SET n = 0 WHERE id = new.id; RETURN new; "
         "END'; CREATE TRIGGER t BEFORE INSERT ON {0}_s FOR EACH ROW EXECUTE FUNCTION {0}_f()", SUM,
         "INSERT INTO {0}_s VALUES (1)", answer=20),
    path("deferred trigger", TABLE + "CREATE TABLE {0}_s (id int); CREATE FUNCTION {0}_f() RETURNS "
         "trigger LANGUAGE plpgsql AS 'BEGIN UPDATE {0} SET n = 0 WHERE id = new.id; RETURN new; "
         "END'; CREATE CONSTRAINT TRIGGER t AFTER INSERT ON {0}_s DEFERRABLE INITIALLY DEFERRED "
         "FOR EACH ROW EXECUTE FUNCTION {0}_f()", SUM, "INSERT INTO {0}_s VALUES (1)", answer=20),
    path("trigger that changes the row", TABLE + "CREATE FUNCTION {0}_f() RETURNS trigger LANGUAGE "
         "plpgsql AS 'BEGIN new.id := 9; RETURN new; END'; CREATE TRIGGER t BEFORE UPDATE ON {0} "
         "FOR EACH ROW EXECUTE FUNCTION {0}_f()", "SELECT n FROM {0} WHERE id = 9",
         "UPDATE {0} SET n = 11 WHERE id = 1", answer=11),
    # truncate
    path("truncate", TABLE, SUM, "TRUNCATE {0}", answer=None),
    path("truncate cascade", child(""), "SELECT count(*)::int FROM {0}_c", "TRUNCATE {0} CASCADE",
         answer=0, watch=("{0}_c",)),
    path("truncate of the parent", PARTS, SUM, "TRUNCATE {0}", answer=None),
    path("truncate of a leaf", PARTS, SUM, "TRUNCATE {0}_a", answer=20),
    path("truncate restart identity", TABLE, SUM, "TRUNCATE {0} RESTART IDENTITY", answer=None),
    # trees
    path("partitioned parent", PARTS, SUM, "UPDATE {0} SET n = 0 WHERE id = 1", answer=20),
    path("row movement", PARTS, "SELECT n FROM {0} WHERE id = 12",
         "UPDATE {0} SET id = 12 WHERE id = 1", answer=10),
    path("row movement, read at the leaf", PARTS, "SELECT count(*)::int FROM {0}_b",
         "UPDATE {0} SET id = 12 WHERE id = 1", answer=2),
    # (PostgreSQL puts the rows into the transition tables of triggers that it does not fire.)
    path("merge that moves a row", PARTS, "SELECT n FROM {0} WHERE id = 12",
         "MERGE INTO {0} USING (VALUES (1)) v (id) ON v.id = {0}.id WHEN MATCHED THEN UPDATE SET "
         "id = 12", answer=10),
    path("merge that moves a row, read as a whole", PARTS, "SELECT sum(id)::int FROM {0}",
         "MERGE INTO {0} USING (VALUES (1)) v (id) ON v.id = {0}.id WHEN MATCHED THEN UPDATE SET "
         "id = 12", answer=23),
    path("merge that moves a row, read by its old key", PARTS, "SELECT n FROM {0} WHERE id = 1",
         "MERGE INTO {0} USING (VALUES (1, 12), (3, 3)) v (id, n) ON v.id = {0}.id WHEN MATCHED "
         "THEN UPDATE SET id = v.n WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.n)", answer=None),
    path("leaf", PARTS, SUM, "UPDATE {0}_a SET n = 0", answer=20),
    path("leaf, read by key", PARTS, "SELECT n FROM {0} WHERE id = 1", "UPDATE {0}_a SET n = 0",
         answer=0),
    path("parent, read at the leaf", PARTS, "SELECT n FROM {0}_a", "UPDATE {0} SET n = 0", answer=0),
    path("leaf and leaf", PARTS, "SELECT n FROM {0}_a", "UPDATE {0}_a SET n = 0", answer=0),
    path("copy to a leaf", PARTS, SUM,
         "COPY {0}_a (id, n) FROM stdin", answer=60),
    path("new partition", PARTS, SUM,
         "CREATE TABLE {0}_n PARTITION OF {0} FOR VALUES FROM (20) TO (30)",
         "INSERT INTO {0} VALUES (21, 30)", "INSERT INTO {0}_n VALUES (22, 40)", answer=100),
    path("attach", PARTS + "CREATE TABLE {0}_n (id int NOT NULL, n int); INSERT INTO {0}_n VALUES "
         "(21, 30)", SUM, "ALTER TABLE {0} ATTACH PARTITION {0}_n FOR VALUES FROM (20) TO (30)",
         answer=60),
    path("attached, then written", PARTS + "CREATE TABLE {0}_n (id int NOT NULL, n int); INSERT "
         "INTO {0}_n VALUES (21, 30)", SUM,
         "ALTER TABLE {0} ATTACH PARTITION {0}_n FOR VALUES FROM (20) TO (30)",
         "UPDATE {0}_n SET n = 31", answer=61),
    path("detach", PARTS, SUM, "ALTER TABLE {0} DETACH PARTITION {0}_b", answer=10),
    path("detached, then written", PARTS, SUM, "ALTER TABLE {0} DETACH PARTITION {0}_b",
         "UPDATE {0}_b SET n = 99", answer=10),
    path("drop of a partition", PARTS, SUM, "DROP TABLE {0}_b", answer=10),
    path("other columns in the leaf", "CREATE TABLE {0} (id int, n int, PRIMARY KEY (id)) PARTITION "
         "BY RANGE (id); CREATE TABLE {0}_a (x int, n int, id int NOT NULL); ALTER TABLE {0}_a DROP "
         "x; ALTER TABLE {0} ATTACH PARTITION {0}_a FOR VALUES FROM (0) TO (9); INSERT INTO {0} "
         "VALUES (1, 10)", "SELECT n FROM {0} WHERE id = 1", "UPDATE {0}_a SET n = 3 WHERE id = 1",
         answer=3),
    path("inheritance, child", HEIRS, SUM, "UPDATE {0}_h SET n = 0", answer=10),
    path("inheritance, parent", HEIRS, SUM, "UPDATE {0} SET n = 0", answer=0),
    path("inheritance, parent written, child read", HEIRS, "SELECT n FROM {0}_h",
         "UPDATE {0} SET n = 0", answer=0),
    path("inheritance, only", HEIRS, "SELECT sum(n)::int FROM ONLY {0}",
         "UPDATE ONLY {0} SET n = 0", answer=0),
    path("no inherit", HEIRS, SUM, "ALTER TABLE {0}_h NO INHERIT {0}", answer=10),
    path("inherit", HEIRS + "CREATE TABLE {0}_i (id int NOT NULL, n int); INSERT INTO {0}_i VALUES "
         "(3, 30)", SUM, "ALTER TABLE {0}_i INHERIT {0}", answer=60),
    # what a session may switch off
    path("replica role", TABLE, SUM, "SET session_replication_role = replica",
         "UPDATE {0} SET n = 0 WHERE id = 1", "RESET session_replication_role", answer=20),
    path("local role", TABLE, SUM, "SET session_replication_role = local",
         "UPDATE {0} SET n = 0 WHERE id = 1", "RESET session_replication_role", answer=20),
    path("disabled trigger", TABLE, SUM, "ALTER TABLE {0} DISABLE TRIGGER ALL",
         "UPDATE {0} SET n = 0 WHERE id = 1", answer=20),
    path("disabled user triggers", TABLE, SUM, "ALTER TABLE {0} DISABLE TRIGGER USER",
         "UPDATE {0} SET n = 0 WHERE id = 1", answer=20),
    path("enabled as ordinary", TABLE, SUM, "ALTER TABLE {0} ENABLE TRIGGER ALL",
         "SET session_replication_role = replica", "UPDATE {0} SET n = 0 WHERE id = 1",
         "RESET session_replication_role", answer=20),
    path("unwatched", TABLE, SUM, "SELECT pgfresh.unwatch('{0}')",
         "UPDATE {0} SET n = 0 WHERE id = 1", answer=20),
    path("search path", TABLE, SUM, "CREATE SCHEMA {0}_s", "SET search_path = {0}_s",
         "UPDATE public.{0} SET n = 0 WHERE id = 1", "RESET search_path", answer=20),
    path("role", TABLE + "GRANT ALL ON {0} TO anna", SUM, "SET ROLE anna",
         "UPDATE {0} SET n = 0 WHERE id = 1", "RESET ROLE", answer=20),
    # DDL that changes rows
    path("alter type", TABLE, SUM, "ALTER TABLE {0} ALTER n TYPE int USING n * 2", answer=60),
    path("dropped and made again", TABLE, SUM, "DROP TABLE {0}",
         "CREATE TABLE {0} (id int, n int)", "INSERT INTO {0} VALUES (1, 5)", answer=5),
    path("swapped by name", TABLE + "CREATE TABLE {0}_n (id int, n int); INSERT INTO {0}_n VALUES "
         "(1, 5)", SUM, "BEGIN", "ALTER TABLE {0} RENAME TO {0}_o", "ALTER TABLE {0}_n RENAME TO {0}",
         "COMMIT", answer=5),
    path("added column", TABLE, "SELECT to_jsonb(x)::text FROM {0} x WHERE id = 1",
         "ALTER TABLE {0} ADD z int DEFAULT 1", answer='{"n": 10, "t": "a", "z": 1, "id": 1}'),
    path("two-phase", TABLE, SUM, "BEGIN", "UPDATE {0} SET n = 0 WHERE id = 1",
         "?PREPARE TRANSACTION '{0}'", "?ROLLBACK PREPARED '{0}'", "ROLLBACK", answer=30),
    # what has no trigger, and so is not cached
    path("materialized view", TABLE + "CREATE MATERIALIZED VIEW {0}_m AS SELECT * FROM {0}",
         "SELECT sum(n)::int FROM {0}_m", "UPDATE {0} SET n = 0 WHERE id = 1",
         "REFRESH MATERIALIZED VIEW {0}_m", answer=20, reason=("relation_kind", "materialized_view")),
    path("unlogged", TABLE.replace("TABLE", "UNLOGGED TABLE"), SUM, "DELETE FROM {0} WHERE id = 1",
         answer=20, watch=(), reason=("unlogged", "not_watched")),
    path("not watched", TABLE, SUM, "DELETE FROM {0} WHERE id = 1", answer=20, watch=(),
         reason=("not_watched",)),
    path("set unlogged", TABLE, SUM, "ALTER TABLE {0} SET UNLOGGED", "DELETE FROM {0} WHERE id = 1",
         answer=20),
    path("sequence", "CREATE SEQUENCE {0}", "SELECT last_value::int FROM {0}",
         "SELECT setval('{0}', 7)", answer=7, watch=(), reason=("relation_kind",)),
]


def perform(connection, statement):
    """`!` in front: it fails, and is meant to; `?`: it may. COPY FROM STDIN gets one row of 30."""
    if "FROM stdin" in statement:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write_row((3, 30))
    elif statement.startswith("!"):
        with pytest.raises(psycopg.Error):
            connection.execute(statement[1:])
    elif statement.startswith("?"):
        with contextlib.suppress(psycopg.Error):
            connection.execute(statement[1:])
    else:
        connection.execute(statement)


class Stage:
    def __init__(self, play, path):
        self.play, self.path, self.prefix = play, path, next(PREFIXES)
        self.question = self.named(path.question)
        self.reader = None

    def set_up(self):
        watched = "".join(f"SELECT pgfresh.watch('{table}');" for table in self.path.watch)
        return self.named(f"{self.path.set_up};\n{watched}\n")

    def enter(self):
        self.reader = self.play.app()
        return self

    def named(self, text):
        return text.replace("{0}", self.prefix)

    def cached(self):
        """Whether the answer came to memory; else the reason must be one expected."""
        if not self.path.reason:
            self.play.hot(self.reader, self.question)
            return
        wait_until(lambda: one(self.reader, self.question) is not None
                   and last(self.reader)["reason"] in self.path.reason, "the reason is known")

    def written(self, writer):
        for statement in self.path.write:
            perform(writer, self.named(statement))

    def seen(self):
        return one(self.reader, self.question)

    def why_not(self):
        """After the write: either it is cached again, or there is a reason, and it is shown."""

        def settled():
            self.seen()
            verdict = last(self.reader)
            return verdict["verdict"] == "hit" or verdict["reason"] in STANDING

        wait_until(settled, "a hit or a reason that stands", 10)


STANDING = ("not_watched", "unlogged", "relation_kind", "materialized_view")


@pytest.fixture(scope="module")
def stages(server, database):
    """Everything is set up at once: DDL makes pgfresh read its catalog, and that takes time."""
    empty = Play(server, database, None)
    made = {(path.name, way): Stage(empty, path) for path in PATHS for way in ("proxied", "direct")}
    server.psql("SET client_min_messages = warning;" + "".join(s.set_up() for s in made.values()),
                database=database)
    return made


def enter(stages, play, path, way):
    stage = stages[path.name, way]
    stage.play = play
    return stage.enter()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_written_through_pgfresh(stages, play, path):
    stage, writer = enter(stages, play, path, "proxied"), play.app()
    stage.cached()
    stage.written(writer)
    expected = play.expect(hits=2) if path.silent else contextlib.nullcontext()
    with expected:
        assert stage.seen() == path.answer
        assert stage.seen() == path.answer
    stage.why_not()
    assert stage.seen() == path.answer


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_written_directly(stages, play, path):
    stage, writer = enter(stages, play, path, "direct"), play.direct()
    stage.cached()
    stage.written(writer)
    acknowledged = time.monotonic()
    while True:
        asked = time.monotonic()
        if stage.seen() == path.answer:
            break
        assert asked < acknowledged + STALENESS_S, "old beyond the bound"
    stage.why_not()
    assert stage.seen() == path.answer


# -- what needs more than statements ----------------------------------------------------------------


def test_new_partition_row_by_row(play):
    """A partition has no triggers of ours when it is born; each write to it is seen all the same."""
    stage = Stage(play, next(p for p in PATHS if p.name == "partitioned parent"))
    play.sql(stage.set_up())
    writer, name = play.app(), stage.enter().prefix
    stage.cached()
    writer.execute(f"CREATE TABLE {name}_n PARTITION OF {name} FOR VALUES FROM (20) TO (30)")
    for turn in range(5):
        writer.execute(f"INSERT INTO {name}_n VALUES ({20 + turn}, 1)")
        assert stage.seen() == 31 + turn


def test_subscription_target_is_not_cached(server, play):
    """Logical replication applies rows without firing statement triggers."""
    server.psql("CREATE DATABASE publisher TEMPLATE template0")
    try:
        server.psql("CREATE TABLE applied (id int PRIMARY KEY, n int); INSERT INTO applied VALUES "
                    "(1, 10); CREATE PUBLICATION p FOR TABLE applied", database="publisher")
        server.psql("SELECT pg_create_logical_replication_slot('proof', 'pgoutput')",
                    database="publisher")
        play.sql("CREATE TABLE applied (id int PRIMARY KEY, n int);"
                 "INSERT INTO applied VALUES (1, 10); SELECT pgfresh.watch('applied')")
        reader = play.app()
        play.hot(reader, "SELECT n FROM applied")
        play.sql(f"CREATE SUBSCRIPTION proof CONNECTION 'host=127.0.0.1 port={server.port} "
                 "user=postgres dbname=publisher' PUBLICATION p "
                 "WITH (create_slot = false, slot_name = proof, copy_data = false)")
        time.sleep(STALENESS_S)
        for turn in range(3):
            server.psql(f"UPDATE applied SET n = {turn}", database="publisher")
            wait_until(lambda turn=turn: play.sql("SELECT n FROM applied") == str(turn), "applied")
            applied = time.monotonic()
            while one(reader, "SELECT n FROM applied") != turn:
                assert time.monotonic() < applied + STALENESS_S, last(reader)
        assert last(reader)["reason"], "a subscription's target must say why it is not cached"
    finally:
        play.sql("DROP SUBSCRIPTION IF EXISTS proof")
        server.psql("DROP DATABASE publisher WITH (FORCE)")


def test_foreign_table_is_not_cached(server, play):
    play.sql("CREATE EXTENSION IF NOT EXISTS postgres_fdw; CREATE TABLE remote (id int, n int);"
             "INSERT INTO remote VALUES (1, 10);"
             f"CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port "
             f"'{server.port}', dbname '{play.database}');"
             "CREATE USER MAPPING FOR postgres SERVER self OPTIONS (user 'postgres');"
             "CREATE FOREIGN TABLE remoted (id int, n int) SERVER self OPTIONS (table_name 'remote')")
    app = play.app()
    for turn in range(3):
        play.sql(f"UPDATE remote SET n = {turn}")
        assert one(app, "SELECT n FROM remoted") == turn
    wait_until(lambda: one(app, "SELECT n FROM remoted") == 2
               and last(app)["reason"] == "relation_kind", "the reason is known")


def test_write_by_another_servers_hand_is_seen_within_the_bound(server, play):
    """postgres_fdw writes on a connection of its own, whose notices nobody here hears."""
    play.sql("CREATE EXTENSION IF NOT EXISTS postgres_fdw; CREATE TABLE far (id int PRIMARY KEY, n "
             "int); INSERT INTO far VALUES (1, 10); SELECT pgfresh.watch('far');"
             f"CREATE SERVER back FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port "
             f"'{server.port}', dbname '{play.database}');"
             "CREATE USER MAPPING FOR postgres SERVER back OPTIONS (user 'postgres');"
             "CREATE FOREIGN TABLE near (id int, n int) SERVER back OPTIONS (table_name 'far')")
    writer, reader = play.app(), play.app()
    for turn in range(3):
        play.hot(reader, "SELECT n FROM far WHERE id = 1")
        writer.execute(f"UPDATE near SET n = {turn} WHERE id = 1")
        acknowledged = time.monotonic()
        while True:
            asked = time.monotonic()
            if one(reader, "SELECT n FROM far WHERE id = 1") == turn:
                break
            assert asked < acknowledged + STALENESS_S, "old beyond the bound"


def test_crash_empties_unlogged_tables_and_no_others(own_play, own_server):
    play = own_play(postgres=own_server)
    play.sql("CREATE UNLOGGED TABLE volatile (id int PRIMARY KEY); INSERT INTO volatile VALUES (1);"
             "CREATE TABLE lasting (id int PRIMARY KEY); INSERT INTO lasting VALUES (1);"
             "SELECT pgfresh.watch('lasting')")
    app = play.app()
    play.hot(app, "SELECT count(*)::int FROM lasting")
    assert one(app, "SELECT count(*)::int FROM volatile") == 1
    assert last(app)["reason"] in ("unlogged", "not_watched")
    own_server.restart("immediate")

    def again():
        with contextlib.suppress(psycopg.OperationalError):
            return play.app()

    app = wait_until(again, "a new connection")
    assert one(app, "SELECT count(*)::int FROM volatile") == 0
    assert one(app, "SELECT count(*)::int FROM lasting") == 1
