"""The feed killed, silent, forged; PostgreSQL restarted; pgfresh frozen. Nobody reads anything
stale, nobody gets an error that is not PostgreSQL's own, and the hits come back."""
import time

import psycopg
import pytest

from conftest import HBA, set_the_stage
from pgfresh_proc import Pgfresh, wait_until
from pgserver import PrivatePostgres
from play import STALENESS_S, Play, last, one
from relay import ANSWER, REQUEST, Relay

NAME = "SELECT name FROM item WHERE id = 1"


def kill_feed(play):
    """pgfresh's own connections to the play's database; how many there were."""
    return int(play.sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name "
        "LIKE 'pgfresh%' AND datname = current_database() AND pid <> pg_backend_pid()"))


def test_feed_is_recognisable_in_pg_stat_activity(play):
    play.hot(play.app(), NAME)
    assert int(play.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                        "AND application_name LIKE 'pgfresh%'")) >= 1


def test_feed_killed(play):
    app = play.app()
    for turn in range(5):
        play.hot(app, NAME)
        assert kill_feed(play) >= 1
        play.sql(f"UPDATE item SET name = 'direct {turn}' WHERE id = 1")
        time.sleep(STALENESS_S)
        assert one(app, NAME) == f"direct {turn}"
    play.hot(app, NAME)


def test_the_log_tells_when_a_feed_comes_and_goes(own_server, own_play):
    play = own_play(postgres=own_server)

    def lines(noun):
        return play.proxy.log_text().count(f"{noun} database={play.database}")

    play.hot(play.app(), NAME)
    wait_until(lambda: lines("feed_live") == 1, "a line for the feed that lives")
    own_server.stop()
    wait_until(lambda: lines("feed_not_live") == 1, "one for its loss")
    own_server.start()
    wait_until(lambda: lines("feed_live") == 2, "and one for its return")


def test_the_log_of_a_database_without_pgfresh(own_play):
    play = own_play()
    with psycopg.connect(play.proxy.url(database="postgres"), autocommit=True) as guest:
        guest.execute("SELECT 1")
        wait_until(lambda: "info not_cached database=postgres" in play.proxy.log_text(), "a line")
    assert "feed_not_live database=postgres" not in play.proxy.log_text()


OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgfresh%' AND datname = "


@pytest.fixture
def besides(own_play):
    """A play, and the names of databases of the same server, for the test to add to. pgfresh has a
    feed for the first, which has no clients; visit() is one that sees hits there."""
    play = own_play({"freshness.idle_timeout": "0"})
    names = [f"{play.database}_b"]
    play.server.create_database(names[0], template="stage")

    def visit():
        with psycopg.connect(play.proxy.url(database=names[0]), autocommit=True) as guest:
            guest.execute("UPDATE part SET name = name WHERE id = 2")
            return play.hot(guest, "SELECT name FROM part WHERE id = 1")

    # It writes, too: pgfresh vouches for a while then, and says the end before it goes.
    play.visit = visit
    visit()
    assert int(play.sql(f"{OURS}'{names[0]}'")) == 2
    yield play, names
    for name in names:
        play.server.psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_a_database_can_be_dropped_when_its_clients_have_gone(besides):
    play, names = besides
    play.app().execute(f"DROP DATABASE {names[0]}")
    # And one of the same name is another one.
    play.server.create_database(names[0], template="stage")
    play.server.psql("UPDATE part SET name = 'of the second' WHERE id = 1", database=names[0])
    with psycopg.connect(play.proxy.url(database=names[0]), autocommit=True) as guest:
        assert one(guest, "SELECT name FROM part WHERE id = 1") == "of the second"
    assert play.visit() == [("of the second",)]


def test_a_database_can_be_renamed_and_copied_when_its_clients_have_gone(besides):
    play, names = besides
    other = f"{names[0]}_new"
    names.append(other)
    play.app().execute(f"CREATE DATABASE {other} TEMPLATE {names[0]}")
    play.app().execute(f"DROP DATABASE {other}")
    play.visit()
    play.app().execute("ALTER DATABASE {} RENAME TO {}".format(names[0], other))


def test_a_database_with_clients_is_in_use_as_ever(besides):
    play, names = besides
    with psycopg.connect(play.proxy.url(database=names[0]), autocommit=True) as guest:
        with pytest.raises(psycopg.errors.ObjectInUse):
            play.app().execute(f"DROP DATABASE {names[0]}")
        assert one(guest, "SELECT 1") == 1
    play.app().execute(f"DROP DATABASE {names[0]}")


def test_a_database_without_clients_is_let_go_after_a_while(own_play):
    play = own_play({"freshness.idle_timeout": "1s"}, upstream="postgres")
    of_upstream = wait_until(lambda: play.sql(f"{OURS}'postgres'"), "a count")
    with play.app() as app:
        play.hot(app, NAME)
        time.sleep(3)
        assert int(play.sql(f"{OURS}'{play.database}'")) == 2  # a client is here
    wait_until(lambda: play.sql(f"{OURS}'{play.database}'") == "0", "pgfresh's connections to end")
    wait_until(lambda: f"feed_off database={play.database}" in play.proxy.log_text(), "a line")
    assert play.sql(f"{OURS}'postgres'") == of_upstream  # the one of the upstream URL stays
    play.sql("UPDATE item SET name = 'unseen' WHERE id = 1")
    again = play.app()
    assert one(again, NAME) == "unseen"
    play.hot(again, NAME)


def test_a_database_without_pgfresh_is_let_go_at_once(own_play):
    """template1 among them: a visit must not keep others from CREATE DATABASE."""
    play = own_play()
    with psycopg.connect(play.proxy.url(database="template1"), autocommit=True):
        wait_until(lambda: play.sql(f"{OURS}'template1'") == "2", "pgfresh's connections")
        time.sleep(1.5)
        assert play.sql(f"{OURS}'template1'") == "2"  # a client is here
    play.direct().execute("CREATE DATABASE made_past_pgfresh")
    play.sql("DROP DATABASE made_past_pgfresh")


def test_own_writes_while_the_feed_is_killed(play):
    app, reader = play.app(), play.app()
    for turn in range(60):
        if turn % 4 == 0:
            kill_feed(play)
        app.execute(f"UPDATE item SET name = 'turn {turn}' WHERE id = 1")
        assert one(reader, NAME) == f"turn {turn}"
        assert one(app, NAME) == f"turn {turn}"
    play.hot(app, NAME)


def test_writers_connection_killed_in_its_transaction(play):
    """Its open tables close once that backend is gone for certain."""
    app, reader = play.app(), play.app()
    play.hot(reader, NAME)
    app.execute("BEGIN")
    app.execute("UPDATE item SET name = 'never' WHERE id = 1")
    pid = app.execute("SELECT pg_backend_pid()").fetchone()[0]
    play.sql(f"SELECT pg_terminate_backend({pid})")
    with pytest.raises(psycopg.OperationalError):
        app.execute("COMMIT")
    assert one(reader, NAME) != "never"
    play.hot(reader, NAME)


def test_client_vanishes_with_an_open_write(play):
    wire, reader = play.wire(), play.app()
    play.hot(reader, NAME)
    wire.query("BEGIN")
    wire.query("UPDATE item SET name = 'never' WHERE id = 1")
    wire.abort()
    assert one(reader, NAME) != "never"
    play.hot(reader, NAME)


@pytest.mark.seconds(90)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_restarted(own_play, own_server, mode):
    play = own_play(postgres=own_server)
    play.hot(play.app(), NAME)
    own_server.restart(mode)
    play.sql("UPDATE item SET name = 'after the restart' WHERE id = 1")
    time.sleep(STALENESS_S)

    def reconnected():
        try:
            return play.app()
        except psycopg.OperationalError:
            return None

    app = wait_until(reconnected, "a new connection")
    assert one(app, NAME) == "after the restart"
    play.hot(app, NAME, seconds=10)


def test_old_sessions_end_with_their_server(own_play, own_server):
    play = own_play(postgres=own_server)
    app = play.app()
    play.hot(app, NAME)
    own_server.restart()
    time.sleep(STALENESS_S)
    with pytest.raises(psycopg.OperationalError):
        for _ in range(3):
            app.execute(NAME)


@pytest.mark.parametrize("frozen_s", [0.3, 2.5])
def test_pgfresh_frozen_and_woken(own_play, frozen_s):
    """It finds its lease expired before it serves anything; the read was queued meanwhile."""
    play = own_play()
    wire = play.wire()
    play.hot(play.app(), NAME)
    play.proxy.freeze()
    play.sql("UPDATE item SET name = 'while it slept' WHERE id = 1")
    time.sleep(frozen_s)
    wire.send(b"Q" + (len(NAME) + 5).to_bytes(4, "big") + NAME.encode() + b"\0")
    time.sleep(STALENESS_S if frozen_s < 1 else 0)
    play.proxy.wake()
    assert [m.row for m in wire.until_ready() if m.type == "D"] == [[b"while it slept"]]
    play.hot(play.app(), NAME)


@pytest.mark.parametrize("payload", [
    "", "x", "1", "1 99999999999999999999 r 1", "1 5 r 1 1 1 999999 3:abc", "1 5 r 1 65535",
    "1 5 z", "2 5 s", "1 5 s", "1 5 w 0", "1 -5 w 7", "\\001", "é" * 2000, "hello 1"])
def test_forged_notifications_only_cost_hits(play, payload):
    app = play.app()
    play.hot(app, NAME)
    play.direct().execute("SELECT pg_notify('pgfresh', %s)", (payload,))
    expected = play.sql(NAME)
    for _ in range(10):
        assert one(app, NAME) == expected
    play.hot(app, NAME)


def test_flood_of_notifications(play):
    app = play.app()
    play.hot(app, NAME)
    play.sql("SELECT count(pg_notify('pgfresh', 'junk ' || n)) FROM generate_series(1, 50000) n")
    expected = play.sql(NAME)
    for _ in range(50):
        assert one(app, NAME) == expected
    play.hot(app, NAME, seconds=20)


def test_forged_notice_by_a_client_function(play):
    """PF001 raised by anybody: hidden or not, it may only cost hits."""
    app = play.app()
    play.hot(app, NAME)
    app.execute("DO $$ BEGIN RAISE INFO 'garbage' USING ERRCODE = 'PF001'; END $$")
    assert one(app, NAME) == play.sql(NAME)
    play.hot(app, NAME)


def test_database_without_pgfresh_passes_through(server, play):
    server.psql("CREATE DATABASE unwatched TEMPLATE template0")
    try:
        with psycopg.connect(play.proxy.url(database="unwatched"), autocommit=True) as app:
            app.execute("CREATE TABLE t (id int)")
            app.execute("INSERT INTO t VALUES (1)")
            with play.expect(hits=0):
                wait_until(lambda: one(app, "SELECT id FROM t") == 1
                           and last(app)["reason"] == "not_installed", "the reason is known")
    finally:
        wait_until(lambda: _dropped(server), "it is dropped")


def _dropped(server):
    return server.psql("DROP DATABASE unwatched WITH (FORCE)", check=False).returncode == 0


def test_unwatch_and_uninstall(own_play):
    play = own_play()
    app = play.app()
    play.hot(app, NAME)
    play.sql("SELECT pgfresh.unwatch('item')")
    time.sleep(STALENESS_S)
    with play.expect(hits=0, reason="not_watched"):
        app.execute(NAME)
    play.sql("UPDATE item SET name = 'unwatched' WHERE id = 1")
    assert one(app, NAME) == "unwatched"


def test_few_slots_collide_and_stay_right(own_play):
    """Anomaly 16: with four slots everything collides, which costs hits and nothing else."""
    play = own_play({"freshness.slots_log2": 2})
    app, reader = play.app(), play.app()
    for turn in range(30):
        app.execute(f"UPDATE item SET name = 'turn {turn}' WHERE id = 1")
        app.execute(f"UPDATE part SET name = 'turn {turn}' WHERE id = 1")
        assert one(reader, NAME) == one(reader, "SELECT name FROM part WHERE id = 1") \
            == f"turn {turn}"
    play.hot(reader, NAME)


def test_a_name_that_leads_to_another_server(server, database):
    """After a fail-over the old primary may live on, and the feed with it: it hears nothing of what
    is written where new sessions come to."""
    with PrivatePostgres(hba=HBA) as successor:
        set_the_stage(successor)
        successor.create_database(database, template="stage")
        successor.psql("UPDATE item SET name = 'there' WHERE id = 1", database=database)
        with Relay(server.port) as relay:
            url = f"postgresql://postgres@127.0.0.1:{relay.port}/postgres"
            with Pgfresh(url) as running:
                play = Play(server, database, running)
                sql = "SELECT name FROM item WHERE id = 1"
                here = play.app()
                old = play.hot(here, sql, seconds=15)[0][0]
                relay.target_port = successor.port
                there = play.app()
                for name in ("there", "there again"):
                    successor.psql(f"UPDATE item SET name = '{name}' WHERE id = 1",
                                   database=database)
                    for _ in range(4):
                        assert one(there, sql) == name
                        assert one(here, sql) == old
                relay.cut("rst", of="feed")  # it comes back to the successor

                def hits():
                    before = play.metrics().hits
                    assert one(there, sql) == "there again"
                    return play.metrics().hits > before

                wait_until(hits, "a hit there", 15)
                assert one(here, sql) == old
                play.send_home()


@pytest.mark.parametrize("cut", [(REQUEST, "Q"), (ANSWER, "T")], ids=["unsaid", "unanswered"])
def test_a_schema_event_outlives_its_connection(server, cut):
    """Without event triggers pgfresh publishes what it has seen of DDL; the connection it does so on
    breaks."""
    database = server.create_database("unsaid", template="stage")
    server.psql("DROP EVENT TRIGGER pgfresh_ddl_end; "
                "CREATE VIEW seen AS SELECT name FROM item WHERE id = 1", database=database)
    with Relay(server.port) as relay, Pgfresh(
            f"postgresql://postgres@127.0.0.1:{relay.port}/{database}") as running:
        play = Play(server, database, running)
        app, reader, sql = play.app(), play.app(), "SELECT name FROM seen"
        play.hot(reader, sql, seconds=15)
        name = play.sql("SELECT name FROM item WHERE id = 2")
        with relay.hold(*cut, of="catalog", containing="pg_notify") as said:
            app.execute("CREATE OR REPLACE VIEW seen AS SELECT name FROM item WHERE id = 2")
            said.wait()
            assert one(reader, sql) == name
            said.cut("rst")
        for _ in range(20):
            assert one(reader, sql) == name
        assert play.hot(reader, sql) == [(name,)]
        play.send_home()
    server.psql(f"DROP DATABASE {database} WITH (FORCE)")


@pytest.mark.parametrize("setting", ["statement_timeout = '3ms'",
                                     "idle_session_timeout = '100ms'",
                                     "standard_conforming_strings = off",
                                     "default_transaction_read_only = on"])
def test_settings_of_the_control_role(own_server, setting):
    """Settings that are given to roles, databases or the server for what applications ask do not
    keep the feed and the catalog from working."""
    own_server.psql("CREATE ROLE control SUPERUSER LOGIN")
    own_server.psql(f"ALTER ROLE control SET {setting}")
    own_server.create_database("controlled", template="stage")
    with Pgfresh(own_server.url(user="control")) as proxy:
        play = Play(own_server, "controlled", proxy)
        app, sql = play.app(), "SELECT name FROM part WHERE id = 1"
        play.hot(app, sql, seconds=15)
        play.direct().execute("UPDATE part SET name = 'seen' WHERE id = 1")
        wait_until(lambda: one(app, sql) == "seen", "the write is seen")
        play.send_home()
