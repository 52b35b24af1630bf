"""The table of anomalies of the freshness protocol, one play for each; the stage is
anomaly_stage.py. Here those of answers, of the feed and of DDL; those of writers, by both who may
tell of writes, are in test_anomalies_writers.py.

Numbers are those of the table. 6 to 8 need Redis, 13 is test_write_paths.py, 16 is the build with
weak hashes (run.sh), 19 is test_publish.py.
"""
import contextlib
import threading
import time

import pytest

from anomaly_stage import alone, nothing_held, proxy, publish, upstream  # noqa: F401
from anomaly_stage import LONG_S, NAME, an_event, ask_extended, ask_simple, awake, deaf, \
    rename, say
from pgfresh_proc import wait_until
from pgwire import query, rows
from play import one
from relay import ANSWER, REQUEST
from test_freshness import Scene

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


# -- 4: the feed is gone, or says nothing ---------------------------------------------------------

BOUND, BOUND_S = "1s", 1.0


def lose(relay, how):
    """Those that are only cut come back at once; the others not before the relay lets them."""
    if how in ("fin", "rst"):
        assert relay.cut(how, "feed")
        return
    relay.refuse()
    if how == "fin, and stays away":
        assert relay.cut("fin", "feed") and relay.cut("fin", "catalog")
    elif how == "deaf":
        assert relay.silence("feed", (ANSWER,))
    elif how == "mute":
        assert relay.silence("feed", (REQUEST,))
    else:
        assert relay.silence("feed") and relay.silence("catalog")


@pytest.mark.parametrize("how", ["fin", "rst", "fin, and stays away", "deaf", "mute", "half-open"])
def test_4_feed_lost(alone, how):
    play, relay = alone(BOUND)
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
def test_5_lease_is_over_before_anything_is_served(alone, form):
    """What happened meanwhile is not even on its way when the process wakes."""
    play, relay = alone("300ms")
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
        wait_until(asked, "a hit", 10)
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
def test_12_ddl_by_others_is_seen_within_the_bound(alone, name):
    play, _ = alone(BOUND)
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
    with upstream.watch(ANSWER, "A", of="feed", containing=f":{scene.id}") as heard:
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
def test_18_huge_result_does_not_delay_the_feed(alone, client):
    play, _ = alone(BOUND)
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
    hits, lapses = after.hits - before.hits, (after.bypasses - before.bypasses)["no_lease"]
    print(f"{turn} turns, {hits} hits, {lapses} without a lease")
    # A feed that waits for such a result has none for seconds; a busy machine, now and then.
    assert turn > 3 and hits > 4 * lapses
    big.abort()
