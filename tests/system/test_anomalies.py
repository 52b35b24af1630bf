"""The table of anomalies of the freshness protocol, one play for each, on a real PostgreSQL. The
relay (relay.py) stands between pgfresh and PostgreSQL and holds the one message on which the
anomaly hangs; the counters say that the window was really hit.

Numbers are those of the table. 6 to 8 need Redis, 13 is test_write_paths.py, 16 is the build with
weak hashes (run.sh). Most plays have a bound of 30 s, so that what is seen at once is seen because
of the protocol, and not because a lease ran out; those about the lease have their own.
"""
import contextlib
import threading
import time

import pytest

from pgfresh_proc import Pgfresh, wait_until
from pgwire import bind, describe, execute, flush, parse, query, rows, sync
from play import Play, one
from relay import ANSWER, REQUEST, Relay
from test_freshness import WAYS, Scene

LONG_S = 8  # a start among other connections waits half of it
NAME = "SELECT name FROM item WHERE id = {}"
SETTINGS = {"freshness.staleness": f"{LONG_S}s"}


@pytest.fixture(scope="module")
def upstream(server):
    with Relay(server.port) as relay:
        yield relay


@pytest.fixture(scope="module")
def proxy(server, upstream):
    with Pgfresh(url_of(upstream), SETTINGS) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_held(upstream):
    yield
    upstream.speak()
    assert upstream.rules == []


def url_of(relay):
    return f"postgresql://postgres@127.0.0.1:{relay.port}/postgres"


@pytest.fixture
def another(server, database):
    """A factory of further proxies in front of the play's database, each behind a relay of its
    own; gives the stage and the relay."""
    with contextlib.ExitStack() as stack:
        def make(staleness):
            relay = stack.enter_context(Relay(server.port))
            running = stack.enter_context(Pgfresh(url_of(relay), {"freshness.staleness": staleness}))
            stage = Play(server, database, running)
            stack.callback(stage.send_home)
            stage.hot(stage.app(), "SELECT name FROM part WHERE id = 1", seconds=15)
            return stage, relay

        yield make


# -- what the plays are made of -------------------------------------------------------------------


def ask_simple(sql):
    return query(sql)


def ask_extended(sql):
    return parse(sql) + bind() + describe() + execute() + sync()


def say(wire, data):
    wire.send(data)
    return rows(wire.until_ready())


def awake(play):
    """A raw session whose settings are known: its next SELECT is looked up."""
    wire = play.wire()

    def warm():
        before = play.metrics().hits
        wire.query("SELECT name FROM part WHERE id = 1")
        return play.metrics().hits > before

    wait_until(warm, "the session gets hits", 5)
    return wire


def events(play):
    return play.metrics().value("pgfresh_feed_events_total", database=play.database)


def open_slots(play):
    return play.metrics().value("pgfresh_feed_open_slots", database=play.database)


@contextlib.contextmanager
def an_event(play):
    """Something is written within; afterwards the feed has heard of it."""
    before = events(play)
    yield
    wait_until(lambda: events(play) > before, "the event has come")


@contextlib.contextmanager
def deaf(relay, of="feed"):
    """What PostgreSQL says to pgfresh's feed stays on the way."""
    assert relay.silence(of, (ANSWER,)), f"there is no {of}"
    try:
        yield
    finally:
        relay.speak(of)


def rename(number, name="new"):
    return f"UPDATE item SET name = '{name}' WHERE id = {number}"


# -- 1: an answer read before a commit, stored after its event ------------------------------------


@pytest.mark.parametrize("by", ["direct", "pgfresh"])
@pytest.mark.parametrize("held", ["T", "D", "C"])
@pytest.mark.parametrize("form", [ask_simple, ask_extended])
def test_1_answer_overtaken_by_an_event_is_not_stored(play, upstream, form, held, by):
    number = play.item("old")
    reader, writer = awake(play), play.direct() if by == "direct" else play.app()
    data = form(NAME.format(number))
    with play.expect(hits=0, fills_total=0, fills_dropped_total=1):
        with upstream.hold(ANSWER, held) as answer:
            reader.send(data)
            answer.wait()
            with an_event(play):
                writer.execute(rename(number))
            answer.release()
            assert rows(reader.until_ready()) == [[b"old"]]  # it was asked before
    with play.expect(hits=0):
        assert say(reader, data) == [[b"new"]]


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


def test_3_event_that_comes_before_its_notice(play, upstream):
    """The commit is heard of on the feed while the writer's own notice is still on its way."""
    scene = Scene(play)
    with upstream.hold(ANSWER, "N", containing="PF001") as notice:
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


# -- 4: the feed is gone, or says nothing ---------------------------------------------------------

BOUND, BOUND_S = "1s", 1.0


def lose(relay, how):
    if how in ("fin", "rst"):
        assert relay.cut(how, "feed")
    elif how == "fin, and stays away":
        relay.refuse()
        assert relay.cut("fin", "feed") and relay.cut("fin", "catalog")
    elif how == "deaf":
        assert relay.silence("feed", (ANSWER,))
    elif how == "mute":
        assert relay.silence("feed", (REQUEST,))
    else:
        assert relay.silence("feed") and relay.silence("catalog")


@pytest.mark.parametrize("how", ["fin", "rst", "fin, and stays away", "deaf", "mute", "half-open"])
def test_4_feed_lost(another, how):
    play, relay = another(BOUND)
    number = play.item("old")
    sql, app, direct = NAME.format(number), play.app(), play.direct()
    play.hot(app, sql)
    before = play.metrics()
    lose(relay, how)
    direct.execute(rename(number))
    acknowledged = time.monotonic()
    while True:
        asked = time.monotonic()
        seen = one(app, sql)
        assert seen == "new" or asked < acknowledged + BOUND_S, "old beyond the bound"
        if asked > acknowledged + BOUND_S:
            break
    after = play.metrics()
    if how in ("fin", "rst"):
        wait_until(lambda: play.metrics().value("pgfresh_feed_sessions_total", database=play.database)
                   > before.value("pgfresh_feed_sessions_total", database=play.database),
                   "another feed session")
    elif how != "mute":  # events still come then, fences do not go
        assert (after.bypasses - before.bypasses)["no_lease"]
    if how not in ("fin", "rst"):
        with play.expect(hits=0, reason="no_lease"):
            assert one(app, sql) == "new"
    relay.refuse(False)
    relay.speak()
    play.hot(app, sql, seconds=15)
    assert one(app, sql) == "new"


def test_4_events_lost_with_the_feed_are_not_missed(play, upstream):
    """What was committed while there was no feed killed nothing; the new base does."""
    number = play.item("old")
    sql, app, direct = NAME.format(number), play.app(), play.direct()
    for turn in range(3):
        play.hot(app, sql)
        with deaf(upstream):
            direct.execute(rename(number, turn))
            upstream.cut("rst", "feed")
        wait_until(lambda: upstream.of_kind("feed"), "a new feed")
        wait_until(lambda: play.metrics().value("pgfresh_feed_live", database=play.database) == 1,
                   "the feed is live")
        assert one(app, sql) == str(turn)


# -- 5: frozen and woken --------------------------------------------------------------------------


@pytest.mark.parametrize("form", [ask_simple, ask_extended])
def test_5_lease_is_over_before_anything_is_served(another, form):
    """What happened meanwhile is not even on its way when the process wakes."""
    play, relay = another("300ms")
    number = play.item("old")
    data, wire, direct = form(NAME.format(number)), awake(play), play.direct()
    wait_until(lambda: last_verdict(play, wire, data) == "hit", "a hit")
    before = play.metrics().bypasses
    play.proxy.freeze()
    with deaf(relay):
        direct.execute(rename(number))
        time.sleep(0.4)
        wire.send(data)
        play.proxy.wake()
        assert rows(wire.until_ready()) == [[b"new"]]
        assert (play.metrics().bypasses - before)["no_lease"] == 1


def last_verdict(play, wire, data):
    before = play.metrics()
    say(wire, data)
    return "hit" if play.metrics().hits > before.hits else "miss"


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
    """The connection is gone and PostgreSQL has not noticed; its transaction commits a second
    later. Until then, and a fence long, what it has written stays open."""
    scene = Scene(play)
    writer = awake(play)
    with upstream.hold(ANSWER, "N", containing="PF001") as notice:
        writer.send(query(f"{rename(scene.id)}; SELECT pg_sleep(1)"))
        notice.wait()
    wait_until(lambda: open_slots(play) > 0, "the notice has come")
    pid = play.sql("SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1)' AND "
                   "state = 'active' AND pid <> pg_backend_pid()")
    with play.expect(hits=0, reason="write_pending"):
        upstream.cut("rst", "client")
        reader = play.app()
        assert one(reader, scene.sql) == "old"
        seen = []
        while play.sql(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == "1":
            seen.append(one(reader, scene.sql))
        assert one(reader, scene.sql) == "new"
    assert seen == sorted(seen, reverse=True) and "old" in seen  # never old again
    play.hot(reader, scene.sql)
    assert one(reader, scene.sql) == "new"


# -- 10: a savepoint is rolled back after its notice ----------------------------------------------


def test_10_slot_closes_by_a_fence_alone(play, upstream):
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
    assert events(play) == before


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
        assert say(reader, ask_simple(sql)) == [[b"old"]]
    assert rows(wire.until_ready()) == [[b"new"]]
    for _ in range(4):
        assert say(reader, ask_simple(sql)) == say(wire, ask_extended(sql)) == [[b"old"]]


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


# -- 12: DDL --------------------------------------------------------------------------------------

CHANGES = {  # set-up, question, change, what the question comes to afterwards
    "column renamed": (
        "CREATE TABLE {0} (id int PRIMARY KEY, a text); INSERT INTO {0} VALUES (1, 'x')",
        "SELECT * FROM {0}", "ALTER TABLE {0} RENAME a TO b", [("id", "b"), ("1", "x")]),
    "column added": (
        "CREATE TABLE {0} (id int PRIMARY KEY); INSERT INTO {0} VALUES (1)",
        "SELECT * FROM {0}", "ALTER TABLE {0} ADD b int DEFAULT 7", [("id", "b"), ("1", "7")]),
    "type changed": (
        "CREATE TABLE {0} (id int PRIMARY KEY, a int); INSERT INTO {0} VALUES (1, 2)",
        "SELECT a FROM {0}", "ALTER TABLE {0} ALTER a TYPE numeric(5,2)", [("a",), ("2.00",)]),
    "table replaced": (
        "CREATE TABLE {0} (id int PRIMARY KEY, a text); INSERT INTO {0} VALUES (1, 'x');"
        "CREATE TABLE {0}_n (id int PRIMARY KEY, a text); INSERT INTO {0}_n VALUES (1, 'y');"
        "GRANT ALL ON {0}_n TO anna",
        "SELECT a FROM {0}", "ALTER TABLE {0} RENAME TO {0}_o; ALTER TABLE {0}_n RENAME TO {0}",
        [("a",), ("y",)]),
    "function replaced": (
        "CREATE TABLE {0} (id int PRIMARY KEY); INSERT INTO {0} VALUES (1);"
        "CREATE FUNCTION {0}_f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1'",
        "SELECT {0}_f(id) AS f FROM {0}",
        "CREATE OR REPLACE FUNCTION {0}_f(int) RETURNS int IMMUTABLE LANGUAGE sql AS "
        "'SELECT $1 + 10'", [("f",), ("11",)]),
    "enum renamed": (
        "CREATE TYPE {0}_e AS ENUM ('a'); CREATE TABLE {0} (id int PRIMARY KEY, e {0}_e);"
        "INSERT INTO {0} VALUES (1, 'a')",
        "SELECT e FROM {0}", "ALTER TYPE {0}_e RENAME VALUE 'a' TO 'b'", [("e",), ("b",)]),
    "right taken": (
        "CREATE TABLE {0} (id int PRIMARY KEY); INSERT INTO {0} VALUES (1); "
        "GRANT SELECT ON {0} TO anna",
        "SELECT id FROM {0}", "REVOKE SELECT ON {0} FROM anna", "42501"),
    "policy made": (
        "CREATE TABLE {0} (id int PRIMARY KEY); INSERT INTO {0} VALUES (1); "
        "GRANT SELECT ON {0} TO anna",
        "SELECT id FROM {0}", "ALTER TABLE {0} ENABLE ROW LEVEL SECURITY", [("id",)]),
    "table dropped": (
        "CREATE TABLE {0} (id int PRIMARY KEY); INSERT INTO {0} VALUES (1)",
        "SELECT id FROM {0}", "DROP TABLE {0}", "42P01"),
}


def shown(wire, sql):
    """Names of the columns and the rows, or the SQLSTATE."""
    heard = wire.query(sql)
    refused = [m.sqlstate for m in heard if m.type == "E"]
    if refused:
        return refused[0]
    names = [tuple(name for name, _, _ in m.columns) for m in heard if m.type == "T"]
    return names + [tuple(value.decode() for value in row) for row in rows(heard)]


def changed_table(play, name, text):
    """Makes the table of a change, watched; the question is in memory for anna."""
    set_up, sql, *_ = CHANGES[name]
    play.sql(set_up.format(text) + f"; SELECT pgfresh.watch('{text}'); GRANT ALL ON {text} TO anna")
    reader = play.wire("anna")

    def asked():
        before = play.metrics().hits
        shown(reader, sql.format(text))
        return play.metrics().hits > before

    try:
        wait_until(asked, "a hit", 3)
        return reader, sql.format(text), True
    except AssertionError:
        return reader, sql.format(text), False


@pytest.mark.parametrize("name", CHANGES)
def test_12_ddl_through_pgfresh_is_seen_though_the_feed_is_late(play, upstream, name):
    text = "p_" + name.replace(" ", "_")
    reader, sql, cached = changed_table(play, name, text)
    assert cached, "never a hit: nothing is proven"
    app = play.app()
    with deaf(upstream), play.expect(hits=0):
        for part in CHANGES[name][2].format(text).split("; "):
            app.execute(part)
        for _ in range(3):
            assert shown(reader, sql) == CHANGES[name][3]
    for _ in range(3):
        assert shown(reader, sql) == CHANGES[name][3]


@pytest.mark.parametrize("name", CHANGES)
def test_12_ddl_by_others_is_seen_within_the_bound(another, name):
    play, _ = another(BOUND)
    text = "d_" + name.replace(" ", "_")
    reader, sql, cached = changed_table(play, name, text)
    assert cached, "never a hit: nothing is proven"
    play.sql(CHANGES[name][2].format(text))
    time.sleep(BOUND_S)
    for _ in range(3):
        assert shown(reader, sql) == CHANGES[name][3]


def test_12_no_hits_until_the_catalog_has_been_read_again(play, upstream):
    scene = Scene(play)
    with upstream.hold(ANSWER, "D", of="catalog") as row:
        with an_event(play):
            play.sql("CREATE TABLE passing_by (id int)")
        row.wait()
        with play.expect(hits=0, fills_total=0, reason="no_catalog"):
            assert scene.seen_by_both() == {"old"}
        with play.expect(hits=0):
            play.sql(rename(scene.id))
            assert one(scene.reader, scene.sql) == "new"
    play.hot(scene.reader, scene.sql)
    assert one(scene.reader, scene.sql) == "new"
    play.sql("DROP TABLE passing_by")


# -- 14: truncated answers ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("message", ["T", "D", "C"])
def test_14_answer_cut_at_every_byte(play, upstream, message, how):
    number = play.item("a name to be cut")
    sql = NAME.format(number)
    expected = play.wire(direct=True).query(sql)
    length = next(len(m.body) + 5 for m in expected if m.type == message)
    awake(play)
    before = play.metrics()
    for byte in range(length):
        wire = play.wire()
        wire.query("SELECT name FROM part WHERE id = 1")  # its settings are read
        with upstream.cut_at(byte, ANSWER, message, how=how) as cut:
            wire.send(query(sql))
            cut.wait()
            heard = wire.until_closed()
            assert not [m for m in heard if m.type == "Z"]
        wire.abort()
    rise = play.metrics()
    assert rise.value("pgfresh_fills_total") == before.value("pgfresh_fills_total")
    assert rise.value("pgfresh_fills_dropped_total") - before.value("pgfresh_fills_dropped_total") \
        == length
    wire = awake(play)
    for _ in range(3):
        assert wire.query(sql) == expected


def test_14_answer_in_single_bytes_is_stored_whole(play, upstream):
    sql = "SELECT id, name FROM item WHERE id < 6 ORDER BY id"
    expected = play.wire(direct=True).query(sql)
    wire = awake(play)
    with upstream.split(ANSWER, every=True), play.expect(fills_total=1):
        assert wire.query(sql) == expected
    with play.expect(hits=1):
        assert wire.query(sql) == expected


# -- 15: a coalesced reader -----------------------------------------------------------------------


@pytest.mark.parametrize("by", ["direct", "pgfresh"])
def test_15_reader_after_a_commit_does_not_join(play, upstream, by):
    number = play.item("old")
    leader, joiner, late = awake(play), awake(play), awake(play)
    writer, data = play.direct() if by == "direct" else play.app(), query(NAME.format(number))
    with upstream.hold(ANSWER, "D") as row, play.expect(flights_joined_total=1):
        leader.send(data)
        row.wait()
        joined = play.metrics().value("pgfresh_flights_joined_total")
        joiner.send(data)
        wait_until(lambda: play.metrics().value("pgfresh_flights_joined_total") > joined, "joined")
        with an_event(play):
            writer.execute(rename(number))
        assert say(late, data) == [[b"new"]]  # while the leader still waits
        row.release()
        assert rows(leader.until_ready()) == [[b"old"]]
        assert rows(joiner.until_ready()) in ([[b"old"]], [[b"new"]])  # asked before the commit
    for wire in (leader, joiner, late):
        assert say(wire, data) == [[b"new"]]


# -- 17: forged and repeated notifications --------------------------------------------------------


def test_17_every_notification_twice_and_in_pieces(play, upstream):
    scene = Scene(play)
    direct = play.direct()
    with upstream.duplicate(ANSWER, "A", of="feed", every=True) as twice, \
            upstream.split(ANSWER, "Z", of="feed", every=True):
        for turn in range(20):
            (direct if turn % 2 else scene.writer).execute(rename(scene.id, turn))
            wait_until(lambda turn=turn: one(scene.reader, scene.sql) == str(turn), "seen", LONG_S / 2)
            play.hot(scene.reader, scene.sql)
    assert twice.count >= 20


def test_17_old_notification_repeated_brings_nothing_back(play, upstream):
    """A payload that has been seen before, sent again by anybody, between fill and hit."""
    scene = Scene(play)
    with upstream.watch(ANSWER, "A", of="feed") as heard:
        with an_event(play):
            scene.writer.execute(rename(scene.id, "second"))
        payload = heard.piece.bytes[9:].split(b"\0")[1].decode()
    play.hot(scene.reader, scene.sql)
    with an_event(play):
        scene.writer.execute(rename(scene.id, "third"))
    with an_event(play):
        play.direct().execute("SELECT pg_notify('pgfresh', %s)", (payload,))
    for _ in range(5):
        assert scene.seen_by_both() == {"third"}


# -- 18: a huge result ----------------------------------------------------------------------------


@pytest.mark.seconds(120)
@pytest.mark.parametrize("client", ["reads", "does not read"])
def test_18_huge_result_does_not_delay_the_feed(another, client):
    play, _ = another(BOUND)
    number = play.item("old")
    sql, app, direct = NAME.format(number), play.app(), play.direct()
    big = play.wire()
    big.send(query("SELECT repeat('x', 1000000) FROM generate_series(1, 600)"))
    over = threading.Event()
    if client == "reads":
        def read_on():
            with contextlib.suppress(OSError):  # the play ends first
                big.until_ready(90)
            over.set()

        threading.Thread(target=read_on, daemon=True).start()
    before = play.metrics()
    ended = time.monotonic() + 3
    turn = 0
    while time.monotonic() < ended and not over.is_set():
        turn += 1
        direct.execute(rename(number, turn))
        acknowledged = time.monotonic()
        while one(app, sql) != str(turn):
            assert time.monotonic() < acknowledged + BOUND_S
        one(app, sql)
        assert play.metrics().value("pgfresh_feed_fence_seconds",
                                    database=play.database) < BOUND_S
    after = play.metrics()
    assert turn > 3 and after.hits > before.hits
    assert (after.bypasses - before.bypasses)["no_lease"] == 0
    big.abort()
