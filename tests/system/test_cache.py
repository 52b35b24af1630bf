"""What comes from memory: every form of asking, byte for byte what PostgreSQL would have said; in
blocks; bounded in size and time. What must not come from memory is in test_refusals.py."""
import threading
import time

import psycopg
import pytest

from pgfresh_proc import wait_until
from pgwire import bind, describe, execute, parse, query, rows, sync, types
from play import STALENESS_S, last, one

NAME = "SELECT name FROM item WHERE id = 1"
BY_ID = "SELECT id, name, price FROM item WHERE id = $1"

ANSWERS = {
    "point": NAME,
    "all types": "SELECT * FROM kinds ORDER BY id",
    "no rows": "SELECT * FROM item WHERE id = -1",
    "no columns": "SELECT FROM item WHERE id < 4",
    "list": "SELECT id, name FROM item WHERE id BETWEEN 5 AND 25 ORDER BY name DESC LIMIT 7 OFFSET 2",
    "aggregate": "SELECT count(*), sum(price), min(name), avg(price), max(made) FROM item",
    "group": "SELECT id % 5 AS rest, count(*) FROM item GROUP BY 1 HAVING count(*) > 1 ORDER BY 1",
    "join": "SELECT i.name, p.name FROM item i JOIN part p ON p.item_id = i.id WHERE i.id = 3 "
            "ORDER BY p.id",
    "left join": "SELECT i.id, p.id FROM item i LEFT JOIN part p ON p.id = i.id + 195 "
                 "WHERE i.id < 8 ORDER BY 1",
    "subquery": "SELECT name FROM item WHERE id IN (SELECT item_id FROM part WHERE id < 6) "
                "ORDER BY id",
    "exists": "SELECT id FROM item i WHERE EXISTS (SELECT FROM part p WHERE p.item_id = i.id) "
              "AND id < 5 ORDER BY id",
    "cte": "WITH few AS (SELECT id FROM item WHERE id < 4) SELECT count(*) FROM few",
    "window": "SELECT id, row_number() OVER (ORDER BY id DESC) FROM item WHERE id < 5",
    "union": "SELECT id FROM item WHERE id < 3 UNION ALL SELECT id FROM part WHERE id < 3",
    "case and coalesce": "SELECT CASE WHEN price > 20 THEN 'much' ELSE 'little' END, "
                         "coalesce(name, '-'), nullif(id, 3) FROM item WHERE id < 30 ORDER BY id",
    "distinct": "SELECT DISTINCT id % 3 FROM item ORDER BY 1",
    "partitioned": "SELECT count(*) FROM happening WHERE day >= '2026-01-20'",
    "table": "TABLE part",
    "text functions": "SELECT upper(name), length(name), name || '!' FROM item WHERE id = 9",
}


def ask_simple(sql):
    return query(sql)


def ask_unnamed(sql):
    return parse(sql) + bind() + describe() + execute() + sync()


def ask_binary(sql):
    return parse(sql) + bind(result_formats=[1]) + describe() + execute() + sync()


def ask_undescribed(sql):
    return parse(sql) + bind() + execute() + sync()


def ask_statement_described(sql):
    return parse(sql) + describe("S") + bind() + execute() + sync()


FORMS = [ask_simple, ask_unnamed, ask_binary, ask_undescribed, ask_statement_described]


def turn_hot(play, wire, data):
    """Sends until the answer came from memory; what came."""

    def asked():
        before = play.metrics().hits
        wire.send(data)
        heard = wire.until_ready()
        return heard if play.metrics().hits > before else None

    return wait_until(asked, "a hit", 5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ANSWERS)
def test_hot_answer_is_the_same_bytes(play, name, form):
    data = form(ANSWERS[name])
    straight = play.wire(direct=True)
    straight.send(data)
    expected = straight.until_ready()
    wire = play.wire()
    wire.send(data)
    assert wire.until_ready() == expected, "cold"
    assert turn_hot(play, wire, data) == expected, "hot"
    with play.expect(hits=1, misses=0, bypasses=0):
        wire.send(data)
        assert wire.until_ready() == expected, "hot again"


def test_parameters_are_part_of_the_key(play):
    app = play.app()
    sql = "SELECT name FROM item WHERE id = %s"
    assert play.hot(app, sql, (4,)) == [("item 4",)]
    with play.expect(hits=0):
        assert one(app, sql, (5,)) == "item 5"
    with play.expect(hits=1):
        assert one(app, sql, (4,)) == "item 4"
    with play.expect(hits=0):
        assert one(app, sql, (None,)) is None


def test_named_statement_hits(play):
    wire = play.wire()
    wire.send(parse(BY_ID, "s"), describe("S", "s"), sync())
    assert types(wire.until_ready()) == "1tTZ"
    data = bind("s", ["6"]) + execute() + sync()
    assert types(turn_hot(play, wire, data)) == "2DCZ"
    with play.expect(hits=1, misses=0, bypasses=0):
        wire.send(data)
        assert rows(wire.until_ready()) == [[b"6", b"item 6", b"9.0"]]


def test_text_is_compared_without_spaces_and_comments(play):
    app = play.app()
    play.hot(app, "SELECT name FROM item WHERE id = 10")
    with play.expect(hits=1, misses=0):
        app.execute("select  NAME\n from Item -- why not\n where id=10 /* here */;")


def test_comments_of_tracing_tools_cost_nothing(play):
    """Another one behind each text: it is one text still, analysed once, in both protocols."""
    app, wire = play.app(), play.wire()
    sql = "SELECT name, 'traced' FROM item WHERE id = 5"
    play.hot(app, sql)
    play.hot(app, sql.replace("5", "%s"), (5,))
    wire.query(sql)
    comment = "/*route='%2Fitem',traceparent='00-{:032x}-01'*/"
    with play.expect(hits=40, memo_misses_total=0):
        for turn in range(20):
            assert one(app, f"{sql} {comment.format(turn)}") == "item 5"
            wire.send(parse(f"{sql} {comment.format(100 + turn)};"), bind(), describe(), execute(),
                      sync())
            assert rows(wire.until_ready()) == [[b"item 5", b"traced"]]
    for broken in ("SELECT 'a /* b */", "SELECT 1 /* a /* b */ */ */", "SELECT \"a /* b */"):
        with pytest.raises(psycopg.errors.SyntaxError):
            app.execute(broken)


def test_constants_are_compared_to_the_letter(play):
    app = play.app()
    play.hot(app, "SELECT count(*) FROM item WHERE name = 'item 1'")
    with play.expect(hits=0):
        assert one(app, "SELECT count(*) FROM item WHERE name = 'Item 1'") == 0


def test_pipelined_hits(play):
    wire = play.wire()
    data = ask_unnamed(NAME)
    turn_hot(play, wire, data)
    with play.expect(hits=5, misses=0, bypasses=0):
        wire.send(*[data] * 5)
        for _ in range(5):
            assert rows(wire.until_ready()) == [[b"item 1"]]


def test_psycopg_prepares_and_still_hits(play):
    app = play.app(prepare_threshold=5)
    sql = "SELECT name FROM item WHERE id = %s"
    for _ in range(8):
        app.execute(sql, (12,))
    play.hot(app, sql, (12,))
    with play.expect(hits=10, misses=0, bypasses=0):
        for _ in range(10):
            assert one(app, sql, (12,)) == "item 12"


def test_statement_prepared_long_ago_still_hits(own_play):
    """The catalog is read again and again; a pool's statements must survive that."""
    play = own_play({"freshness.audit": "1s", "freshness.catalog_poll": "200ms"})
    play.hot(play.app(), NAME)
    wire = play.wire()
    wire.send(parse(BY_ID, "s"), describe("S", "s"), sync())
    wire.until_ready()
    data = bind("s", ["6"]) + execute() + sync()
    turn_hot(play, wire, data)
    loads = play.metrics().value("pgfresh_catalog_loads_total")
    wait_until(lambda: play.metrics().value("pgfresh_catalog_loads_total") > loads + 1, "audits")
    turn_hot(play, wire, data)
    play.sql("CREATE TABLE IF NOT EXISTS unrelated (id int)")
    play.hot(play.app(), NAME)
    turn_hot(play, wire, data)
    play.sql("UPDATE item SET name = 'renewed' WHERE id = 6")
    time.sleep(STALENESS_S)
    wire.send(data)
    assert rows(wire.until_ready())[0][1] == b"renewed"


# -- blocks -------------------------------------------------------------------------------------


def backend_state(play, name):
    """When the server connection of the application `name` last did anything."""
    return play.sql("SELECT state, state_change, xact_start FROM pg_stat_activity "
                    f"WHERE application_name = '{name}'")


@pytest.mark.parametrize("begin", ["BEGIN", "START TRANSACTION", "BEGIN READ ONLY",
                                   "BEGIN ISOLATION LEVEL READ COMMITTED"])
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_block_that_only_hits_never_touches_postgresql(play, begin, end):
    app = play.app(application_name="quiet")
    play.hot(app, NAME)
    before = backend_state(play, "quiet")
    with play.expect(hits=2, misses=0, bypasses=0, local_blocks_total=1):
        app.execute(begin)
        assert app.info.transaction_status.name == "INTRANS"
        assert one(app, NAME) == one(app, NAME) == "item 1"
        app.execute(end)
        assert app.info.transaction_status.name == "IDLE"
    assert backend_state(play, "quiet") == before


def test_block_begins_on_the_server_when_something_has_to_go_there(play):
    app = play.app()
    play.hot(app, NAME)
    app.execute("BEGIN")
    app.execute(NAME)
    with play.expect(hits=0):
        assert one(app, "SELECT count(*) FROM plain WHERE id = 5000") == 0
    app.execute("INSERT INTO plain VALUES (5000, 'x')")
    app.execute("ROLLBACK")
    assert one(app, "SELECT count(*) FROM plain WHERE id = 5000") == 0


def test_block_fills_for_others(play):
    app = play.app()
    app.execute("SELECT name FROM item WHERE id = 20")

    def filled():
        app.execute("BEGIN")
        app.execute("SELECT name FROM item WHERE id = 21")
        app.execute("COMMIT")
        with play.app() as other:
            other.execute("SELECT name FROM item WHERE id = 21")
            return last(other)["verdict"] == "hit"

    wait_until(filled, "a hit by another session")


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_higher_isolation_gets_no_hits_and_fills_nothing(play, level):
    app = play.app()
    play.hot(app, NAME)
    app.execute(f"BEGIN ISOLATION LEVEL {level}")
    with play.expect(hits=0, fills_total=0, reason="transaction"):
        app.execute(NAME)
        app.execute("SELECT name FROM item WHERE id = 33")
    app.execute("COMMIT")
    with play.expect(hits=1):
        app.execute(NAME)


@pytest.mark.parametrize("how", ["SET default_transaction_isolation = 'serializable'",
                                 "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL "
                                 "REPEATABLE READ"])
def test_higher_default_isolation_gets_no_hits(play, how):
    app = play.app()
    play.hot(app, NAME)
    app.execute(how)
    with play.expect(hits=0):
        app.execute(NAME)
        app.execute("BEGIN")
        app.execute(NAME)
        app.execute("COMMIT")
        app.execute(NAME)


def test_set_transaction_inside_a_block(play):
    app = play.app()
    play.hot(app, NAME)
    app.execute("BEGIN")
    app.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    with play.expect(hits=0):
        app.execute(NAME)
    app.execute("COMMIT")


def test_failed_block_answers_nothing(play):
    app = play.app()
    play.hot(app, NAME)
    app.execute("BEGIN")
    with pytest.raises(psycopg.errors.DivisionByZero):
        app.execute("SELECT 1 / 0")
    with play.expect(hits=0), pytest.raises(psycopg.errors.InFailedSqlTransaction):
        app.execute(NAME)
    app.execute("ROLLBACK")


# -- sharing, size, time ------------------------------------------------------------------------


def test_connections_of_one_identity_share(play):
    play.hot(play.app(), "SELECT name FROM item WHERE id = 40")
    other = play.app()
    with play.expect(misses=0):
        play.hot(other, "SELECT name FROM item WHERE id = 40")


def test_large_answers_are_not_kept(play):
    app = play.app()
    sql = "SELECT id, name FROM many"  # 2.6 MB
    with play.expect(hits=0, fills_total=0):
        for _ in range(3):
            assert len(app.execute(sql).fetchall()) == 20_000
    assert last(app)["reason"] == "too_large" or last(app)["verdict"] == "miss"


def test_entry_limit_is_an_option(own_play):
    play = own_play({"cache.entry_bytes": "4KB"})
    app = play.app()
    play.hot(app, "SELECT name FROM many WHERE id <= 10")
    with play.expect(hits=0):
        for _ in range(3):
            app.execute("SELECT name FROM many WHERE id <= 100")


def test_an_answer_larger_than_its_share_of_memory_is_told(own_play):
    play = own_play({"cache.bytes": "1MB"})  # 16 KB for each of 64 shards
    app = play.app()
    play.hot(app, NAME)
    with play.expect(hits=0):
        for _ in range(3):
            app.execute("SELECT id, name FROM many WHERE id <= 1000")  # 130 KB
    assert last(app)["reason"] == "too_large"


def test_answers_grow_old(own_play):
    play = own_play({"cache.ttl": "400ms"})
    app = play.app()
    play.hot(app, NAME)
    time.sleep(0.5)
    with play.expect(hits=0, misses=1):
        app.execute(NAME)


def test_hint_sets_the_lifetime(play):
    app = play.app()
    sql = "/* pgfresh: ttl=300ms */ SELECT name FROM item WHERE id = 60"
    play.hot(app, sql)
    time.sleep(0.4)
    with play.expect(hits=0, misses=1):
        app.execute(sql)


def test_memory_is_bounded(own_play):
    play = own_play({"cache.bytes": "2MB"})
    app = play.app()
    for n in range(3000):
        app.execute("SELECT name FROM many WHERE id BETWEEN %s AND %s", (n, n + 20))
    metrics = play.metrics()
    assert 0 < metrics.value("pgfresh_cache_bytes") <= 2 * 1024 * 1024
    assert metrics.value("pgfresh_cache_evictions_total") > 0


def test_readers_of_one_slow_answer_share_the_fetch(play):
    sql = "SELECT count(*) FROM many a JOIN many b ON a.id %% 100 = b.id %% 100 AND %s::int > 0"
    apps = [play.app() for _ in range(4)]
    for app in apps:
        play.hot(app, NAME)
    answers = []

    def ask(app):
        answers.append(one(app, sql, (1,)))

    before = play.metrics().value("pgfresh_flights_joined_total")
    threads = [threading.Thread(target=ask, args=(app,)) for app in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert answers == [4_000_000] * 4
    assert play.metrics().value("pgfresh_flights_joined_total") > before


def test_last_tells_where_the_answer_came_from(play):
    app = play.app()
    play.hot(app, NAME)
    app.execute(NAME)
    said = last(app)
    assert (said["verdict"], said["tier"]) == ("hit", "l1")
    assert int(said["age_ms"]) >= 0
    assert said["query_id"]
    app.execute("SELECT name FROM item WHERE id = -77")
    assert last(app)["verdict"] == "miss"
    app.execute("SELECT random() FROM item WHERE id = 1")
    assert (last(app)["verdict"], last(app)["reason"]) == ("bypass", "volatile_function")
