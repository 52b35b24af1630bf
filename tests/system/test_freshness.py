"""Own writes are seen at once (P1), whatever way they take; other people's within the bound (P2);
uncommitted rows by nobody (P3). Trouble with the feed is in test_feed_trouble.py.

A play has a writer and a reader, both with sessions of their own, and a question whose answer is in
memory before the write, so that only freshness can make it right afterwards."""
import threading
import time

import psycopg
import pytest

from pgwire import bind, copy_data, copy_done, execute, parse, query, rows, sync
from pgfresh_proc import wait_until
from play import STALENESS_S, one

NAME = "SELECT name FROM item WHERE id = {}"


class Scene:
    """One row of item, in memory under the reader's and the writer's identity."""

    def __init__(self, play):
        self.play = play
        self.id = play.item("old")
        self.sql = NAME.format(self.id)
        self.writer, self.reader = play.app(), play.app()
        play.hot(self.writer, self.sql)
        play.hot(self.reader, self.sql)

    def seen_by_both(self):
        return {one(self.reader, self.sql), one(self.writer, self.sql)}


@pytest.fixture
def scene(play):
    return Scene(play)


# -- own writes, by every way -------------------------------------------------------------------


def by_simple_query(s):
    s.writer.execute(f"UPDATE item SET name = 'new' WHERE id = {s.id}")


def by_parameters(s):
    s.writer.execute("UPDATE item SET name = %s WHERE id = %s", ("new", s.id))


def by_prepared_statement(s):
    s.writer.execute("PREPARE w AS UPDATE item SET name = $1 WHERE id = $2")
    s.writer.execute(f"EXECUTE w ('new', {s.id})")


def in_a_block(s):
    with s.writer.transaction():
        s.writer.execute(f"UPDATE item SET name = 'new' WHERE id = {s.id}")


def in_many_statements(s):
    s.writer.execute(f"SELECT 1; UPDATE item SET name = 'new' WHERE id = {s.id}; SELECT 2")


def in_a_pipeline(s):
    with s.writer.pipeline():
        s.writer.execute("UPDATE item SET name = %s WHERE id = %s", ("new", s.id))
        answer = s.writer.execute("SELECT name FROM item WHERE id = %s", (s.id,))
    assert answer.fetchone() == ("new",)


def by_writable_cte(s):
    s.writer.execute(f"WITH w AS (UPDATE item SET name = 'new' WHERE id = {s.id} RETURNING id) "
                     "SELECT * FROM w")


def by_function(s):
    s.writer.execute("SELECT rename_item(%s, 'new')", (s.id,))


def by_procedure(s):
    s.writer.execute(f"CALL rename_and_commit({s.id}, 'between', 'new')")


def by_do(s):
    s.writer.execute(f"DO $$ BEGIN UPDATE item SET name = 'new' WHERE id = {s.id}; END $$")


def by_merge(s):
    s.writer.execute(f"MERGE INTO item USING (VALUES ({s.id})) v (id) ON v.id = item.id "
                     "WHEN MATCHED THEN UPDATE SET name = 'new'")


def by_upsert(s):
    s.writer.execute(f"INSERT INTO item (id, name) VALUES ({s.id}, 'new') "
                     "ON CONFLICT (id) DO UPDATE SET name = excluded.name")


def by_view(s):
    s.writer.execute(f"UPDATE item_name SET name = 'new' WHERE id = {s.id}")


def by_copy(s):
    with s.writer.transaction():
        s.writer.execute(f"DELETE FROM item WHERE id = {s.id}")
        with s.writer.cursor() as cursor, cursor.copy("COPY item (id, name) FROM stdin") as copy:
            copy.write_row((s.id, "new"))


def by_delete_and_insert(s):
    s.writer.execute(f"DELETE FROM item WHERE id = {s.id}")
    s.writer.execute(f"INSERT INTO item (id, name) VALUES ({s.id}, 'new')")


def after_a_savepoint(s):
    with s.writer.transaction():
        s.writer.execute("SAVEPOINT a")
        s.writer.execute(f"UPDATE item SET name = 'undone' WHERE id = {s.id}")
        s.writer.execute("ROLLBACK TO a")
        s.writer.execute(f"UPDATE item SET name = 'new' WHERE id = {s.id}")


def by_explain_analyze(s):
    s.writer.execute(f"EXPLAIN ANALYZE UPDATE item SET name = 'new' WHERE id = {s.id}")


def by_replica_role(s):
    s.writer.execute("SET session_replication_role = replica")
    s.writer.execute(f"UPDATE item SET name = 'new' WHERE id = {s.id}")
    s.writer.execute("RESET session_replication_role")


def by_cursor(s):
    with s.writer.transaction():
        s.writer.execute(f"DECLARE c CURSOR FOR SELECT * FROM item WHERE id = {s.id} FOR UPDATE")
        s.writer.execute("FETCH 1 FROM c")
        s.writer.execute("UPDATE item SET name = 'new' WHERE CURRENT OF c")


def in_autocommit_serializable(s):
    s.writer.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
    s.writer.execute(f"SELECT name FROM item WHERE id = {s.id} FOR UPDATE")
    s.writer.execute(f"UPDATE item SET name = 'new' WHERE id = {s.id}")
    s.writer.execute("COMMIT")


WAYS = [by_simple_query, by_parameters, by_prepared_statement, in_a_block, in_many_statements,
        in_a_pipeline, by_writable_cte, by_function, by_procedure, by_do, by_merge, by_upsert,
        by_view, by_copy, by_delete_and_insert, after_a_savepoint, by_explain_analyze,
        by_replica_role, by_cursor, in_autocommit_serializable]


@pytest.mark.parametrize("way", WAYS)
def test_own_write_is_seen_at_once(scene, way):
    way(scene)
    assert scene.seen_by_both() == {"new"}
    time.sleep(0.05)
    assert scene.seen_by_both() == {"new"}
    scene.play.hot(scene.reader, scene.sql)  # and the row becomes cacheable again
    assert scene.seen_by_both() == {"new"}


@pytest.mark.parametrize("way", WAYS)
def test_foreign_write_is_seen_within_the_bound(play, way):
    scene = Scene(play)
    scene.writer = play.direct()
    way(scene)
    deadline = time.monotonic() + STALENESS_S
    while one(scene.reader, scene.sql) != "new":
        assert time.monotonic() < deadline, "still old after the bound"
    time.sleep(0.02)
    assert one(scene.reader, scene.sql) == "new"


def test_foreign_write_is_seen_in_milliseconds(play):
    """The bound is a second, the usual case is far below."""
    scene = Scene(play)
    direct = play.direct()
    waits = []
    for turn in range(20):
        play.hot(scene.reader, scene.sql)
        direct.execute(f"UPDATE item SET name = 'turn {turn}' WHERE id = {scene.id}")
        started = time.monotonic()
        while one(scene.reader, scene.sql) != f"turn {turn}":
            pass
        waits.append(time.monotonic() - started)
    assert sorted(waits)[10] < 0.05, waits


@pytest.mark.parametrize("repeat", range(3))
def test_many_own_writes_in_a_row(scene, repeat):
    for turn in range(200):
        scene.writer.execute(f"UPDATE item SET name = 'turn {turn}' WHERE id = {scene.id}")
        assert one(scene.reader, scene.sql) == f"turn {turn}"
        assert one(scene.reader, scene.sql) == f"turn {turn}"


# -- tables the statement does not name ---------------------------------------------------------


def test_cascade(play):
    number = play.item()
    play.sql(f"INSERT INTO part VALUES ({number}, {number}, 'part')")
    writer, reader = play.app(), play.app()
    sql = f"SELECT item_id, name FROM part WHERE id = {number}"
    play.hot(reader, sql)
    writer.execute(f"UPDATE item SET id = id + 100000 WHERE id = {number}")
    assert one(reader, sql) == number + 100000
    play.hot(reader, sql)
    writer.execute(f"DELETE FROM item WHERE id = {number + 100000}")
    assert one(reader, sql) is None


def test_table_written_by_a_trigger(scene):
    sql = f"SELECT count(*) FROM journal WHERE item_id = {scene.id}"
    scene.play.hot(scene.reader, sql)
    by_simple_query(scene)
    assert one(scene.reader, sql) == 1


@pytest.mark.parametrize("block", [False, True])
def test_table_written_by_a_deferred_trigger(scene, block):
    sql = f"SELECT what FROM journal WHERE item_id = {scene.id}"
    scene.play.hot(scene.reader, sql)
    if block:
        scene.writer.execute("BEGIN")
    scene.writer.execute(f"DELETE FROM item WHERE id = {scene.id}")
    if block:
        assert one(scene.reader, sql) is None
        scene.writer.execute("COMMIT")
    assert one(scene.reader, sql) == "deleted"


def test_truncate(play):
    play.sql("CREATE TABLE emptied (id int PRIMARY KEY); INSERT INTO emptied VALUES (1); "
             "SELECT pgfresh.watch('emptied')")
    app, reader = play.app(), play.app()
    play.hot(reader, "SELECT count(*) FROM emptied")
    app.execute("BEGIN")
    app.execute("TRUNCATE emptied")
    app.execute("ROLLBACK")
    assert one(reader, "SELECT count(*) FROM emptied") == 1
    play.hot(reader, "SELECT count(*) FROM emptied")
    app.execute("TRUNCATE emptied")
    assert one(reader, "SELECT count(*) FROM emptied") == 0


def test_partitions(play):
    sql = "SELECT what FROM happening WHERE id = 5"
    app, direct, reader = play.app(), play.direct(), play.app()
    play.hot(reader, sql)
    app.execute("UPDATE happening SET what = 'by the parent' WHERE id = 5")
    assert one(reader, sql) == "by the parent"
    play.hot(reader, sql)
    app.execute("UPDATE happening_1 SET what = 'by the leaf' WHERE id = 5")
    assert one(reader, sql) == "by the leaf"
    play.hot(reader, sql)
    app.execute("UPDATE happening SET day = '2026-02-20' WHERE id = 5")
    assert one(reader, "SELECT day::text FROM happening WHERE id = 5") == "2026-02-20"
    play.hot(reader, sql)
    direct.execute("UPDATE happening_2 SET what = 'directly' WHERE id = 5")
    time.sleep(STALENESS_S)
    assert one(reader, sql) == "directly"


@pytest.mark.parametrize("create", [
    "CREATE TABLE happening_3 PARTITION OF happening FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')",
    "CREATE TABLE happening_3 (LIKE happening INCLUDING ALL); "
    "ALTER TABLE happening ATTACH PARTITION happening_3 FOR VALUES FROM ('2026-03-01') TO "
    "('2026-04-01')"])
@pytest.mark.parametrize("proxied", [True, False])
def test_new_partition(play, create, proxied):
    """It has no triggers of ours until it is watched; then a write to it must be seen or the
    table must not be cached."""
    sql = "SELECT count(*) FROM happening WHERE day >= '2026-03-01'"
    reader, writer = play.app(), play.app() if proxied else play.direct()
    play.hot(reader, sql)
    writer.execute(create)
    time.sleep(0 if proxied else STALENESS_S)
    for turn in range(5):
        writer.execute(f"INSERT INTO happening_3 VALUES ({turn}, '2026-03-05', 'x')")
        time.sleep(0 if proxied else STALENESS_S)
        assert one(reader, sql) == turn + 1
        assert one(reader, sql) == turn + 1
    play.sql("DROP TABLE happening_3")


def test_disabled_trigger_ends_the_caching(play):
    play.sql("CREATE TABLE unguarded AS SELECT 1 AS id, 0 AS n; ALTER TABLE unguarded ADD PRIMARY "
             "KEY (id); SELECT pgfresh.watch('unguarded')")
    app, reader = play.app(), play.app()
    play.hot(reader, "SELECT n FROM unguarded")
    app.execute("ALTER TABLE unguarded DISABLE TRIGGER ALL")
    for turn in range(3):
        app.execute(f"UPDATE unguarded SET n = {turn}")
        assert one(reader, "SELECT n FROM unguarded") == turn
    app.execute("ALTER TABLE unguarded ENABLE TRIGGER ALL")
    app.execute("SELECT pgfresh.watch('unguarded')")
    play.hot(reader, "SELECT n FROM unguarded")


# -- uncommitted, rolled back -------------------------------------------------------------------


def test_uncommitted_write_is_private(scene):
    scene.writer.execute("BEGIN")
    scene.writer.execute(f"UPDATE item SET name = 'new' WHERE id = {scene.id}")
    for _ in range(3):
        assert one(scene.writer, scene.sql) == "new"
        assert one(scene.reader, scene.sql) == "old"
    scene.writer.execute("ROLLBACK")
    for _ in range(3):
        assert scene.seen_by_both() == {"old"}
    scene.play.hot(scene.reader, scene.sql)
    assert scene.seen_by_both() == {"old"}


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT"])
def test_block_that_writes_and_reads_fills_nothing(scene, end):
    """Else its own uncommitted rows would live on after the rollback."""
    sql = f"SELECT upper(name) FROM item WHERE id = {scene.id}"
    scene.writer.execute("BEGIN")
    scene.writer.execute(f"UPDATE item SET name = 'new' WHERE id = {scene.id}")
    with scene.play.expect(fills_total=0):
        for _ in range(3):
            assert one(scene.writer, sql) == "NEW"
    scene.writer.execute(end)
    expected = "NEW" if end == "COMMIT" else "OLD"
    for _ in range(4):
        assert one(scene.reader, sql) == one(scene.writer, sql) == expected
        time.sleep(0.01)


def test_savepoint_rolled_back_closes_again(scene):
    """Anomaly 10: its NOTIFY never comes, yet the table is cacheable again soon."""
    with scene.writer.transaction():
        scene.writer.execute("SAVEPOINT a")
        scene.writer.execute(f"UPDATE item SET name = 'new' WHERE id = {scene.id}")
        scene.writer.execute("ROLLBACK TO a")
    assert scene.seen_by_both() == {"old"}
    scene.play.hot(scene.reader, scene.sql, seconds=1)


@pytest.mark.parametrize("form", ["pipeline", "one Query"])
def test_implicit_transaction_that_fails(play, form):
    """Anomaly 11: the pipeline's own read of its uncommitted write must not stay."""
    number = play.item("old")
    sql = NAME.format(number)
    reader, wire = play.app(), play.wire()
    play.hot(reader, sql)
    texts = [f"UPDATE item SET name = 'new' WHERE id = {number}", sql, "SELECT 1/0"]
    if form == "one Query":
        wire.send(query("; ".join(texts)))
    else:
        wire.send(*[parse(text) + bind() + execute() for text in texts], sync())
    assert wire.until_ready()[-1].text == "I"
    for _ in range(4):
        assert one(reader, sql) == "old"
        assert rows(wire.query(sql)) == [[b"old"]]


def test_reader_in_a_block_sees_commits_of_others(scene):
    scene.reader.execute("BEGIN")
    assert one(scene.reader, scene.sql) == "old"
    by_simple_query(scene)
    assert one(scene.reader, scene.sql) == "new"
    scene.reader.execute("COMMIT")


def test_repeatable_read_keeps_its_snapshot(scene):
    scene.reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert one(scene.reader, scene.sql) == "old"
    by_simple_query(scene)
    assert one(scene.reader, scene.sql) == "old"
    scene.reader.execute("COMMIT")
    assert one(scene.reader, scene.sql) == "new"


def test_prepared_transaction(own_play):
    """Where triggers notify, PostgreSQL refuses PREPARE TRANSACTION; then nothing has changed."""
    play = own_play({"freshness.publish": "trigger"})
    number = play.item("old")
    app, sql = play.app(), NAME.format(number)
    play.hot(app, sql, seconds=15)
    app.execute("BEGIN")
    app.execute(f"UPDATE item SET name = 'new' WHERE id = {number}")
    with pytest.raises(psycopg.Error):
        app.execute("PREPARE TRANSACTION 'two phases'")
    app.execute("ROLLBACK")
    assert one(app, sql) == "old"


def test_write_of_a_cancelled_query(scene):
    timer = threading.Timer(0.3, scene.writer.cancel)
    timer.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        scene.writer.execute(f"UPDATE item SET name = 'new' WHERE id = {scene.id}; SELECT pg_sleep(9)")
    assert scene.seen_by_both() == {"old"}


def test_pipelined_write_and_reads_in_one_packet(play):
    """Hits must not overtake the write in front of them."""
    number = play.item("old")
    wire, sql = play.wire(), NAME.format(number)
    for turn in range(50):
        wire.query(sql)
        wire.send(query(sql), query(f"UPDATE item SET name = '{turn}' WHERE id = {number}"),
                  query(sql), parse(sql) + bind() + execute() + sync(), query(sql))
        answers = [rows(wire.until_ready()) for _ in range(5)]
        assert answers[2:] == [[[b"%d" % turn]]] * 3


def test_copy_in_the_raw(play):
    number = 50_000
    wire, reader = play.wire(), play.app()
    sql = f"SELECT count(*) FROM many WHERE id >= {number}"
    play.hot(reader, sql)
    wire.send(query("COPY many FROM stdin"), *[copy_data(b"%d\tx\n" % (number + n))
                                               for n in range(300)], copy_done())
    wire.until_ready()
    assert one(reader, sql) == 300
    wire.query(f"DELETE FROM many WHERE id >= {number}")
    assert one(reader, sql) == 0


@pytest.mark.parametrize("text", [
    "CREATE TABLE made AS SELECT 1 AS a", "CREATE TEMP TABLE made AS VALUES (1)",
    "SELECT 1 AS a INTO made", "EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1 AS a"])
def test_a_table_made_by_a_query_is_ddl_whatever_its_tag(play, text):
    app = play.app()
    for sql in (text, f"SELECT 1; {text}"):
        before = play.metrics().value("pgfresh_ddl_seen_total")
        app.execute(sql)
        assert play.metrics().value("pgfresh_ddl_seen_total") > before
        app.execute("DROP TABLE made")


@pytest.mark.parametrize("through", [True, False], ids=["through pgfresh", "directly"])
def test_partition_detached_concurrently(own_play, through):
    """The partition is gone for everybody at the first of two commits; the second, and the event
    trigger at its end, wait for all who still look at it."""
    play = own_play({"freshness.catalog_poll": "60s"})
    app, question = play.app(), "SELECT count(*)::int FROM happening"
    before = play.hot(app, question, seconds=15)[0][0]
    onlooker = play.direct(autocommit=False)
    onlooker.execute(question)
    writer = play.app() if through else play.direct()
    detached = threading.Thread(target=writer.execute, args=(
        "ALTER TABLE happening DETACH PARTITION happening_2 CONCURRENTLY",))
    detached.start()
    direct = play.direct()
    wait_until(lambda: one(direct, question) < before, "the partition is gone")
    time.sleep(STALENESS_S)
    seen = one(app, question)
    assert detached.is_alive()
    onlooker.rollback()
    detached.join()
    assert seen == one(direct, question)
    play.hot(app, question, seconds=15)


@pytest.fixture
def early(play):
    """A schema in front of that of the tables."""
    play.sql("CREATE SCHEMA early; CREATE TABLE early.x (id int, day date); "
             "CREATE TABLE early.p (id int) PARTITION BY LIST (id); "
             "CREATE TABLE early.p_1 PARTITION OF early.p FOR VALUES IN (1)")
    yield
    play.sql("DROP SCHEMA early CASCADE")


@pytest.mark.parametrize("through", [True, False], ids=["through pgfresh", "directly"])
@pytest.mark.parametrize("sql", [
    "CREATE INDEX {0} ON early.x (id)", "CREATE UNIQUE INDEX CONCURRENTLY {0} ON early.x (id)",
    "CREATE INDEX {0} ON early.p (id)", "ALTER TABLE early.x ADD CONSTRAINT {0} UNIQUE (id)",
    "CREATE INDEX i ON early.x (id); ALTER INDEX early.i RENAME TO {0}",
    "CREATE TYPE early.{0} AS (a int)"])
def test_what_takes_a_tables_name(play, early, sql, through):
    """Not only tables stand in front of a table."""
    app, writer = play.app(), play.app() if through else play.direct()
    app.execute("SET search_path = early, public")
    question = "SELECT name FROM item WHERE id = 1"
    play.hot(app, question)
    for statement in sql.format("item").split("; "):
        writer.execute(statement)
    if not through:
        time.sleep(STALENESS_S)
    for _ in range(3):
        with pytest.raises(psycopg.errors.WrongObjectType):
            app.execute(question)


@pytest.mark.parametrize("sql, question", [
    ("CREATE INDEX item ON early.x (id)", "SELECT name FROM item WHERE id = 1"),
    ("ALTER TABLE item DROP CONSTRAINT item_pkey CASCADE",
     "SELECT id, name FROM item GROUP BY id ORDER BY id LIMIT 3")])
def test_ddl_without_event_triggers_that_makes_an_error_of_an_answer(own_play, sql, question):
    """It is seen when the catalog is polled."""
    play = own_play({"freshness.catalog_poll": "300ms"})
    play.sql("DROP EVENT TRIGGER pgfresh_ddl_start; DROP EVENT TRIGGER pgfresh_ddl_end;"
             "DROP EVENT TRIGGER pgfresh_drop; CREATE SCHEMA early; CREATE TABLE early.x (id int)")
    app = play.app()
    app.execute("SET search_path = early, public")
    play.hot(app, question, seconds=15)
    play.sql(sql)
    time.sleep(2 * 0.3 + 0.5)
    for _ in range(3):
        with pytest.raises(psycopg.ProgrammingError):
            app.execute(question)


@pytest.mark.parametrize("through", [True, False], ids=["through", "past"])
def test_ddl_of_a_replica_where_event_triggers_do_not_always_fire(own_play, through):
    """Triggers that are enabled, and not ENABLE ALWAYS, are as good as none."""
    play = own_play({"freshness.catalog_poll": "300ms"})
    play.sql("ALTER EVENT TRIGGER pgfresh_ddl_start ENABLE; ALTER EVENT TRIGGER pgfresh_ddl_end ENABLE;"
             "ALTER EVENT TRIGGER pgfresh_drop ENABLE")
    app, replica = play.app(), play.app() if through else play.direct()
    question = "SELECT id, name FROM item GROUP BY id ORDER BY id LIMIT 3"
    play.hot(app, question, seconds=15)
    replica.execute("SET session_replication_role = replica")
    replica.execute("ALTER TABLE item DROP CONSTRAINT item_pkey CASCADE")
    if not through:
        time.sleep(2 * 0.3 + 0.5)
    for _ in range(3):
        with pytest.raises(psycopg.errors.GroupingError):
            app.execute(question)
