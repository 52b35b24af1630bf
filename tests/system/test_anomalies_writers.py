"""The anomalies of the freshness protocol that hang on how a write is told of: own writes (2), notice
and feed out of order (3), the server connection lost around COMMIT (9), savepoints (10), own
uncommitted rows (11). Each with events that pgfresh publishes, and with triggers that NOTIFY. The
stage is anomaly_stage.py, the rest of the table in test_anomalies.py.
"""
import contextlib
import threading

import pytest

from anomaly_stage import another, nothing_held, proxy, upstream  # noqa: F401
from anomaly_stage import LONG_S, NAME, an_event, ask_extended, ask_simple, awake, deaf, events, \
    open_slots, rename, say
from pgfresh_proc import wait_until
from pgwire import bind, execute, flush, parse, query, rows, sync
from play import last, one
from relay import ANSWER, REQUEST
from test_freshness import WAYS, Scene
from test_publish import make_carry


@pytest.fixture(scope="module", params=["proxy", "trigger"])
def publish(request):  # noqa: F811
    return request.param


@pytest.fixture(autouse=True)
def publishing(play, publish):  # noqa: F811
    """Where pgfresh publishes, a session carries what it writes when the play begins."""
    if publish == "proxy":
        make_carry(play, play.app())


# -- 2: own write, own read; another client of the same proxy reads -------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_2_own_write_is_seen_though_the_feed_is_late(play, upstream, way):
    scene = Scene(play)
    with deaf(upstream), play.expect(hits=0, reason="write_pending"):
        way(scene)
        for _ in range(3):
            assert scene.seen_by_both() == {"new"}
    play.hot(scene.reader, scene.sql)
    assert scene.seen_by_both() == {"new"}


@pytest.mark.parametrize("write, reads, expected", [
    ("UPDATE item SET id = id + 500000 WHERE id = {0}", "SELECT item_id FROM part WHERE id = {0}",
     b"{1}"),
    ("UPDATE item SET name = 'new' WHERE id = {0}",
     "SELECT what FROM journal WHERE item_id = {0}", b"renamed to new"),
    ("DELETE FROM item WHERE id = {0}", "SELECT what FROM journal WHERE item_id = {0}", b"deleted")],
    ids=["cascade", "trigger", "deferred trigger"])
def test_2_tables_the_statement_does_not_name(play, upstream, write, reads, expected):
    number = play.item("old")
    play.sql(f"INSERT INTO part VALUES ({number}, {number}, 'part')")
    writer, reader, sql = play.app(), play.wire(), reads.format(number)
    expected = expected.replace(b"{1}", b"%d" % (number + 500000))
    play.hot(play.app(), sql)
    with deaf(upstream), play.expect(reason="write_pending"):
        writer.execute(write.format(number))
        for _ in range(2):
            assert rows(reader.query(sql)) == [[expected]]


def test_2_writes_and_reads_in_one_packet(play, upstream):
    number = play.item("old")
    wire, sql = awake(play), NAME.format(number)
    wire.query(sql)
    with deaf(upstream):
        for turn in range(10):
            wire.send(query(rename(number, turn)), query(sql), ask_extended(sql))
            heard = wire.until_ready() + wire.until_ready() + wire.until_ready()
            assert rows(heard) == [[b"%d" % turn]] * 2


@pytest.mark.parametrize("step", [1, 3, 7])
def test_2_notice_in_pieces_opens_what_was_written(play, upstream, step):
    scene = Scene(play)
    with deaf(upstream), upstream.split(ANSWER, "N", step=step) as notice:
        scene.writer.execute(rename(scene.id))
        notice.wait()
        with play.expect(hits=0, reason="write_pending"):
            assert scene.seen_by_both() == {"new"}


# -- 3: notice and feed disagree on the order -----------------------------------------------------


def test_3_event_that_comes_before_its_notice(another):
    """The commit is heard of on the feed while the writer's own notice is still on its way: where
    the trigger tells. (What pgfresh publishes comes from that very notice.)"""
    play, relay = another(f"{LONG_S}s", publish="trigger")
    scene = Scene(play)
    with relay.hold(ANSWER, "N", containing="PF001") as notice:
        done = threading.Thread(target=scene.writer.execute, args=(rename(scene.id),))
        with an_event(play):
            done.start()
            notice.wait()
        assert one(scene.reader, scene.sql) == "new"
        scene.play.hot(scene.reader, scene.sql)
        notice.release()
        done.join(10)
    for _ in range(3):
        assert scene.seen_by_both() == {"new"}
    wait_until(lambda: open_slots(play) == 0, "the slots are closed")


@pytest.mark.parametrize("late", ["first", "second", "both"])
def test_3_two_proxies_commit_while_feeds_are_late(play, upstream, another, late):
    other, elsewhere = another(f"{LONG_S}s")
    number = play.item("old")
    sql = NAME.format(number)
    sides = [(play, upstream), (other, elsewhere)]
    apps = [stage.app() for stage, _ in sides]
    for (stage, _), app in zip(sides, apps):
        stage.hot(app, sql)
    with contextlib.ExitStack() as held:
        for at, (stage, relay) in enumerate(sides):
            if late in (("first", "second")[at], "both"):
                held.enter_context(deaf(relay))
        for turn in range(6):
            at = turn % 2
            apps[at].execute(rename(number, turn))
            assert one(apps[at], sql) == str(turn)  # its own writes, always
    for (stage, _), app in zip(sides, apps):
        wait_until(lambda stage=stage: open_slots(stage) == 0, "the slots are closed")
        assert one(app, sql) == "5"
        stage.hot(app, sql)
        assert one(app, sql) == "5"


# -- 9: the server connection is lost between COMMIT and its reply --------------------------------


@pytest.mark.parametrize("late", ["the feed speaks", "the feed is late"])
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("where", ["autocommit", "block"])
def test_9_reply_lost(play, upstream, where, how, late):
    scene = Scene(play)
    writer = awake(play)
    if where == "block":
        writer.query("BEGIN")
        writer.query(rename(scene.id))
    tag = "UPDATE 1" if where == "autocommit" else "COMMIT"
    with contextlib.ExitStack() as held:
        if late == "the feed is late":
            held.enter_context(deaf(upstream))
        with play.expect(reason="write_pending"), upstream.hold(ANSWER, "C", containing=tag) as reply:
            writer.send(query(rename(scene.id) if where == "autocommit" else "COMMIT"))
            reply.wait()
            wait_until(lambda: open_slots(play) > 0, "the notice has come")
            assert one(scene.reader, scene.sql) == "new"
            reply.cut(how)
            told = writer.until_closed()
            assert [m.sqlstate for m in told if m.type == "E"] == ["08006"]
            for _ in range(3):
                assert one(scene.reader, scene.sql) == "new"
    for _ in range(20):
        assert one(scene.reader, scene.sql) == "new"
    play.hot(scene.reader, scene.sql)
    assert one(scene.reader, scene.sql) == "new"


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_9_commit_lost_on_its_way(play, upstream, how):
    scene = Scene(play)
    writer = awake(play)
    writer.query("BEGIN")
    writer.query(rename(scene.id))
    with upstream.hold(REQUEST, "Q", containing="COMMIT") as commit:
        writer.send(query("COMMIT"))
        commit.cut(how)
        writer.until_closed()
    play.hot(scene.reader, scene.sql)
    assert scene.seen_by_both() == {"old"}


def test_9_backend_that_lives_on_commits_later(play, upstream):
    """The connection is gone and PostgreSQL has not noticed; its transaction commits later. Until
    then, and a fence long, what it has written stays open."""
    scene = Scene(play)
    writer = awake(play)
    gate = play.direct()
    gate.execute("SELECT pg_advisory_lock(9)")
    writer.send(query(f"{rename(scene.id)}; SELECT pg_advisory_xact_lock(9)"))
    # Not before: a notice that cannot be sent any more ends the transaction, and there are two.
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE 'UPDATE%'"
    wait_until(lambda: play.sql(waiting), "all is written")
    wait_until(lambda: open_slots(play) > 0, "the notice has come")
    pid = play.sql(waiting)
    with play.expect(hits=0, reason="write_pending"):
        upstream.cut("rst", "client")
        reader = play.app()
        for _ in range(5):
            assert one(reader, scene.sql) == "old"
        gate.execute("SELECT pg_advisory_unlock(9)")
        seen = []
        while play.sql(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == "1":
            seen.append(one(reader, scene.sql))
        assert one(reader, scene.sql) == "new", (seen, last(reader))
    assert seen == sorted(seen, reverse=True)  # never old again
    play.hot(reader, scene.sql)
    assert one(reader, scene.sql) == "new"


# -- 10: a savepoint is rolled back after its notice ----------------------------------------------


def test_10_slot_closes_by_a_fence_alone(play, upstream, publish):
    scene = Scene(play)
    before = events(play)
    scene.writer.execute("BEGIN")
    scene.writer.execute("SAVEPOINT a")
    scene.writer.execute(rename(scene.id))
    scene.writer.execute("ROLLBACK TO a")
    with play.expect(hits=0, reason="write_pending"):
        assert scene.seen_by_both() == {"old"}
    with upstream.hold(REQUEST, "Q", of="feed") as fence:
        scene.writer.execute("COMMIT")
        fence.wait()
        assert open_slots(play) > 0
        with play.expect(hits=0, reason="write_pending"):
            assert scene.seen_by_both() == {"old"}
        fence.release()
        wait_until(lambda: open_slots(play) == 0, "the slots are closed", 1)
    with play.expect(hits=2):
        assert scene.seen_by_both() == {"old"}
    assert publish == "proxy" or events(play) == before  # what was undone is published, too


# -- 11: own uncommitted rows ---------------------------------------------------------------------


@pytest.mark.parametrize("end", ["SELECT 1/0", "SELECT 1"])
def test_11_pipeline_read_while_it_runs(play, upstream, end):
    """The own row is on its way to the client while others ask for it."""
    number = play.item("old")
    sql = NAME.format(number)
    wire, reader = awake(play), awake(play)
    with play.expect(fills_total=0):
        with upstream.hold(ANSWER, "D", containing="new") as own:
            wire.send(*[parse(text) + bind() + execute() for text in (rename(number), sql)], flush())
            own.wait()
            wait_until(lambda: open_slots(play) > 0, "pgfresh has read what lies before the row")
            assert say(reader, ask_simple(sql)) == say(reader, ask_extended(sql)) == [[b"old"]]
        wire.send(parse(end) + bind() + execute() + sync())
        assert rows(wire.until_ready())[0] == [b"new"]
    expected = [[b"old" if "/0" in end else b"new"]]
    for _ in range(4):
        assert say(reader, ask_simple(sql)) == say(wire, ask_extended(sql)) == expected
    play.hot(play.app(), sql)
    assert say(reader, ask_simple(sql)) == expected


def test_11_one_query_that_fails_leaves_nothing(play, upstream):
    number = play.item("old")
    sql = NAME.format(number)
    wire, reader = awake(play), awake(play)
    with upstream.hold(ANSWER, "D", containing="new") as own, play.expect(fills_total=0):
        wire.send(query(f"{rename(number)}; {sql}; SELECT 1/0"))
        own.wait()
        wait_until(lambda: open_slots(play) > 0, "pgfresh has read what lies before the row")
        assert say(reader, ask_simple(sql)) == [[b"old"]]
    assert rows(wire.until_ready()) == [[b"new"]]
    for _ in range(4):
        assert say(reader, ask_simple(sql)) == say(wire, ask_extended(sql)) == [[b"old"]]


def test_2_other_key_columns_while_somebody_writes(play, upstream):
    """pgfresh.watch() waits for no writer. What he was told to have open, by the columns of that
    time, is not what answers rest on by the new ones."""
    name = f"rewatched_{play.item()}"
    play.sql(f"CREATE TABLE {name} (id int PRIMARY KEY, x int, n int);"
             f"INSERT INTO {name} VALUES (1, 5, 10); SELECT pgfresh.watch('{name}')")
    writer, reader, sql = play.app(), play.app(), f"SELECT n FROM {name} WHERE x = 5"
    play.hot(reader, sql)
    writer.execute("BEGIN")
    writer.execute(f"UPDATE {name} SET n = 20 WHERE id = 1")
    play.sql(f"SELECT pgfresh.watch('{name}', '{{id,x}}')")
    play.hot(reader, sql)
    with deaf(upstream):
        writer.execute("COMMIT")
        assert one(reader, sql) == one(writer, sql) == 20
    play.hot(reader, sql)


@pytest.mark.parametrize("undo, expected", [
    (["ROLLBACK TO a"], b"old"), (["RELEASE a"], b"new"),
    (["RELEASE a", "SAVEPOINT b", "ROLLBACK TO b"], b"new")])
def test_11_savepoints(play, upstream, undo, expected):
    number = play.item("old")
    sql = NAME.format(number)
    wire, reader = awake(play), awake(play)
    with deaf(upstream), play.expect(fills_total=0):
        for text in ("BEGIN", "SAVEPOINT a", rename(number)):
            wire.query(text)
        assert rows(wire.query(sql)) == [[b"new"]]
        for text in undo:
            wire.query(text)
        assert say(wire, ask_extended(sql)) == [[expected]]
        assert rows(reader.query(sql)) == [[b"old"]]
        wire.query("COMMIT")
        assert rows(reader.query(sql)) == rows(wire.query(sql)) == [[expected]]
    play.hot(play.app(), sql)
    assert rows(reader.query(sql)) == [[expected]]
