"""Publishing by the proxy (freshness.md, rules 14 to 16): what sessions carry reaches everybody, and
a publisher that dies, freezes or loses its feed leaves nobody with an old answer (anomaly 19)."""
import concurrent.futures
import contextlib
import signal
import time

import psycopg
import pytest

from pgfresh_proc import Pgfresh, wait_until
from play import STALENESS_S, Play, one

NAME = "SELECT name FROM item WHERE id = {}"
PROXY = {"freshness.publish": "proxy"}


def feed(play):
    """What the metrics say of the play's feed."""
    return {name: play.metrics().value(f"pgfresh_feed_{name}", database=play.database)
            for name in ("vouching", "queued_events", "published_total", "publications_total",
                         "publishers", "publishers_lost_total", "transactions_noted")}


@contextlib.contextmanager
def second_proxy(play, settings=None):
    """Another pgfresh before the same database."""
    with Pgfresh(play.server.url(database=play.database), settings or PROXY) as running:
        other = Play(play.server, play.database, running)
        yield other
        other.send_home()


def make_carry(play, app):
    """Writes until the session carries: the first writes ask for the carry lease."""
    scratch = play.item("scratch")

    def carried():
        before = play.metrics().value("pgfresh_carried_total")
        app.execute(f"UPDATE item SET name = 'x' WHERE id = {scratch}")
        return play.metrics().value("pgfresh_carried_total") > before

    wait_until(carried, "a session that carries")


@pytest.fixture
def play(own_play):
    return own_play(PROXY)


def test_what_is_carried_is_seen_at_once_here_and_soon_by_others(play):
    with second_proxy(play) as other:
        row = play.item("old")
        writer, reader, far = play.app(), play.app(), other.app()
        make_carry(play, writer)
        for round_ in range(20):
            play.hot(reader, NAME.format(row))
            other.hot(far, NAME.format(row))
            writer.execute(f"UPDATE item SET name = 'new {round_}' WHERE id = {row}")
            acknowledged = time.monotonic()
            assert one(reader, NAME.format(row)) == f"new {round_}"
            wait_until(lambda: one(far, NAME.format(row)) == f"new {round_}",  # noqa: B023
                       "the other proxy's answer", STALENESS_S)
            assert time.monotonic() - acknowledged < STALENESS_S
        assert play.metrics().value("pgfresh_carried_total") >= 20
        assert feed(play)["published_total"] >= 20
        assert feed(other)["publishers"] == 1


def test_slots_close_within_milliseconds(play):
    row = play.item("old")
    writer = play.app()
    make_carry(play, writer)
    writer.execute(f"UPDATE item SET name = 'new' WHERE id = {row}")
    wait_until(lambda: play.metrics().value("pgfresh_feed_open_slots") == 0, "closed slots", 0.5)


def test_no_notify_in_a_session_that_carries(play):
    """What is heard of its writes comes from pgfresh's own connection."""
    row = play.item("old")
    writer = play.app()
    make_carry(play, writer)
    own = {int(p) for p in play.sql("SELECT pid FROM pg_stat_activity WHERE "
                                    "application_name = 'pgfresh'").split() if p.isdigit()}
    listener, heard = play.direct(), []
    listener.add_notify_handler(heard.append)
    listener.execute("LISTEN pgfresh")

    def told_by_pgfresh():  # on a busy machine the carry lease may have run out for a moment
        make_carry(play, writer)  # its row comes from psql, which notifies itself
        listener.execute("SELECT 1")
        heard.clear()
        writer.execute(f"UPDATE item SET name = 'new' WHERE id = {row}")
        time.sleep(0.1)
        listener.execute("SELECT 1")
        senders = {n.pid for n in heard if not n.payload.startswith(("3 b", "3 e"))}
        return senders and senders <= own

    wait_until(told_by_pgfresh, "an event from pgfresh itself", 20)


def test_a_client_sees_no_trace_of_it(play):
    app = play.app()
    make_carry(play, app)
    notices = []
    app.add_notice_handler(notices.append)
    with play.expect(bypasses=None):
        app.execute("UPDATE item SET name = 'y' WHERE id = 1")
    assert notices == []
    other = play.app()
    make_carry(play, other)
    assert one(other, "SHOW pgfresh.inband") == "on"


@pytest.mark.parametrize("reset", ["RESET ALL", "DISCARD ALL"])
def test_reset_while_carrying(play, reset):
    row = play.item("old")
    app, reader = play.app(), play.app()
    make_carry(play, app)
    for name in ("new", "newer"):
        play.hot(reader, NAME.format(row))
        app.execute(reset)
        app.execute(f"UPDATE item SET name = '{name}' WHERE id = {row}")
        assert one(reader, NAME.format(row)) == name
    make_carry(play, app)


def test_a_role_that_may_not_execute_set_config(play):
    """It is asked for once in a session; its triggers notify, and everybody sees what it writes."""
    play.sql("REVOKE EXECUTE ON FUNCTION set_config(text, text, boolean) FROM PUBLIC; "
             "GRANT SELECT, UPDATE ON item TO anna")
    row = play.item("old")
    make_carry(play, play.app())
    refused = "permission denied for function set_config"
    before = play.server.log_text().count(refused)
    with second_proxy(play) as other:
        writer, reader, far = play.app("anna"), play.app("anna"), other.app("anna")
        for name in ("first", "second", "third"):
            play.hot(reader, NAME.format(row))
            other.hot(far, NAME.format(row))
            with writer.transaction():
                writer.execute(f"UPDATE item SET name = '{name}' WHERE id = {row}")
            assert one(reader, NAME.format(row)) == name
            wait_until(lambda: one(far, NAME.format(row)) == name, "the other sees it", STALENESS_S)
    assert play.server.log_text().count(refused) == before + 1


@pytest.mark.parametrize("by", ["PostgreSQL", "the client"])
def test_an_error_that_passes_leaves_a_session_to_carry(play, by):
    """set_config() is cancelled while it waits for a lock; the client's request is for its own
    statement, too."""
    row = play.item("old")
    make_carry(play, play.app())
    writer, holder = play.app(), play.direct(autocommit=False)
    holder.execute("LOCK TABLE pg_proc IN ACCESS EXCLUSIVE MODE")
    pid = writer.info.backend_pid
    with concurrent.futures.ThreadPoolExecutor() as threads:
        written = threads.submit(writer.execute, f"UPDATE item SET name = 'new' WHERE id = {row}")
        waits = f"SELECT 1 FROM pg_locks WHERE NOT granted AND pid = {pid}"
        wait_until(lambda: holder.execute(waits).fetchone(), "a setting that waits", 5)
        if by == "the client":
            writer.cancel()
            assert isinstance(written.exception(5), psycopg.errors.QueryCanceled)
        else:
            holder.execute(f"SELECT pg_cancel_backend({pid})")
        holder.rollback()
        wait_until(written.done, "the client's statement", 5)
    make_carry(play, writer)


def test_rolled_back_savepoints_and_blocks(play):
    row = play.item("old")
    app, reader = play.app(), play.app()
    make_carry(play, app)
    play.hot(reader, NAME.format(row))
    app.execute("BEGIN")
    app.execute("SAVEPOINT s")
    app.execute(f"UPDATE item SET name = 'never' WHERE id = {row}")
    app.execute("ROLLBACK TO s")
    app.execute("COMMIT")
    app.execute("BEGIN")
    app.execute(f"UPDATE item SET name = 'never' WHERE id = {row}")
    app.execute("ROLLBACK")
    assert one(reader, NAME.format(row)) == "old"
    wait_until(lambda: play.metrics().value("pgfresh_feed_open_slots") == 0, "closed slots", 2)
    play.hot(reader, NAME.format(row))


def test_procedure_that_commits_inside(play):
    row = play.item("old")
    app, reader = play.app(), play.app()
    make_carry(play, app)
    play.hot(reader, NAME.format(row))
    app.execute(f"CALL rename_and_commit({row}, 'between', 'new')")
    assert one(reader, NAME.format(row)) == "new"


def test_many_keys_and_large_transactions(play):
    with second_proxy(play) as other:
        app, far = play.app(), other.app()
        make_carry(play, app)
        first = play.item("first")
        other.hot(far, NAME.format(first))
        with app.transaction():
            for number in range(2000):
                app.execute(f"UPDATE item SET name = 'n{number}' WHERE id = {first}")
                app.execute(f"INSERT INTO item VALUES ({500_000 + number}, 'é''\\ {number}', 1)")
        wait_until(lambda: one(far, NAME.format(first)) == "n1999", "the other's answer",
                   STALENESS_S)
        assert play.metrics().value("pgfresh_feed_garbled_total") == 0
        app.execute("DELETE FROM item WHERE id >= 500000")


def test_ddl_is_carried_too(play):
    with second_proxy(play) as other:
        app, far = play.app(), other.app()
        make_carry(play, app)
        app.execute("CREATE TABLE fresh (id int PRIMARY KEY, a int)")
        app.execute("SELECT pgfresh.watch('fresh')")
        app.execute("INSERT INTO fresh VALUES (1, 1)")
        other.hot(far, "SELECT * FROM fresh WHERE id = 1", seconds=10)
        app.execute("ALTER TABLE fresh ADD b int DEFAULT 7")
        wait_until(lambda: far.execute("SELECT * FROM fresh WHERE id = 1").fetchone() == (1, 1, 7),
                   "the new shape", STALENESS_S)


# -- a publisher is no more ---------------------------------------------------------------------


GATE = """
CREATE TABLE gate (id int);
CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(42);
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER wait_at_gate AFTER INSERT ON gate DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION wait_at_gate();
"""


@pytest.mark.parametrize("end", ["kill", "freeze"])
def test_a_publisher_dies_between_commit_and_publication(play, end):
    """Its COMMIT waits in PostgreSQL, behind everything it has to tell its client, when it goes."""
    play.sql(GATE)
    with second_proxy(play) as other:
        row = play.item("old")
        app, far = play.app(), other.app()
        make_carry(play, app)
        other.hot(far, NAME.format(row))
        wait_until(lambda: feed(other)["publishers"] == 1, "a publisher that is followed")
        gate = play.direct()
        gate.execute("SELECT pg_advisory_lock(42)")
        for sql in ("BEGIN", f"UPDATE item SET name = 'new' WHERE id = {row}",
                    "INSERT INTO gate VALUES (1)"):
            app.execute(sql)
        app.pgconn.send_query(b"COMMIT")
        wait_until(lambda: play.sql("SELECT count(*) FROM pg_stat_activity WHERE "
                                    "wait_event = 'advisory'").strip() == "1", "the wait")
        if end == "kill":
            play.proxy.kill()
        else:
            play.proxy.freeze()
        # The reader goes on, and has its answer in memory again, before the commit.
        time.sleep(2.5 * STALENESS_S)
        other.hot(far, NAME.format(row))
        assert feed(other)["publishers_lost_total"] >= 1
        wait_until(lambda: "publisher_lost" in other.proxy.log_text(), "a line of it")
        assert feed(other)["transactions_noted"] >= 1
        gate.execute("SELECT pg_advisory_unlock(42)")
        committed = wait_until(
            lambda: play.sql(NAME.format(row)).strip() == "new" and time.monotonic(), "a commit", 3)
        time.sleep(max(0.0, committed + STALENESS_S - time.monotonic()))
        assert one(far, NAME.format(row)) == "new"
        if end == "freeze":
            play.proxy.wake()
            app.pgconn.get_result()
        else:
            play.proxy.start()


def test_a_publisher_dies_with_what_it_had_not_published(play):
    """Its feed is cut off from PostgreSQL while sessions go on: others notice in time."""
    with second_proxy(play) as other:
        row = play.item("old")
        app, far = play.app(), other.app()
        make_carry(play, app)
        for round_ in range(5):
            other.hot(far, NAME.format(row))
            play.proxy.freeze()
            play.proxy.wake()
            app.execute(f"UPDATE item SET name = 'new {round_}' WHERE id = {row}")
            acknowledged = time.monotonic()
            play.proxy.freeze()
            time.sleep(max(0.0, acknowledged + STALENESS_S - time.monotonic()))
            assert one(far, NAME.format(row)) == f"new {round_}"
            play.proxy.wake()
            make_carry(play, app)


def test_a_publisher_that_loses_its_feed(play):
    with second_proxy(play) as other:
        row = play.item("old")
        app, far, near = play.app(), other.app(), play.app()
        make_carry(play, app)
        for round_ in range(5):
            other.hot(far, NAME.format(row))
            play.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                     "application_name = 'pgfresh' AND pid <> pg_backend_pid()")
            app.execute(f"UPDATE item SET name = 'new {round_}' WHERE id = {row}")
            acknowledged = time.monotonic()
            assert one(near, NAME.format(row)) == f"new {round_}"
            time.sleep(max(0.0, acknowledged + STALENESS_S - time.monotonic()))
            assert one(far, NAME.format(row)) == f"new {round_}"
            other.hot(far, NAME.format(row))


def test_a_publisher_that_stops_says_so(play):
    with second_proxy(play) as other:
        row = play.item("old")
        app, far = play.app(), other.app()
        make_carry(play, app)
        wait_until(lambda: feed(other)["publishers"] == 1, "a publisher that is followed")
        other.hot(far, NAME.format(row))
        app.execute(f"UPDATE item SET name = 'new' WHERE id = {row}")
        app.close()
        play.proxy.signal(signal.SIGTERM)
        wait_until(lambda: feed(other)["publishers"] == 0, "the end", 3)
        time.sleep(STALENESS_S)
        assert feed(other)["publishers_lost_total"] == 0
        assert one(far, NAME.format(row)) == "new"
        wait_until(lambda: not play.proxy.running(), "the end of the process")
        play.proxy.start()


# -- two-phase commit ---------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["the session", "another session", "the other proxy", "psql"])
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_prepared_transactions(play, by, end):
    with second_proxy(play) as other:
        row = play.item("old")
        app, near, far = play.app(), play.app(), other.app()
        make_carry(play, app)
        play.hot(near, NAME.format(row))
        other.hot(far, NAME.format(row))
        app.execute("BEGIN")
        app.execute(f"UPDATE item SET name = 'new' WHERE id = {row}")
        app.execute("PREPARE TRANSACTION 'gid'")
        assert one(near, NAME.format(row)) == "old"
        time.sleep(1.2 * STALENESS_S)
        assert one(far, NAME.format(row)) == "old"
        {"the session": app, "another session": near, "the other proxy": far,
         "psql": play.direct()}[by].execute(f"{end} PREPARED 'gid'")
        now = "new" if end == "COMMIT" else "old"
        assert one(near, NAME.format(row)) == now
        if by == "the other proxy":
            assert one(far, NAME.format(row)) == now
        time.sleep(STALENESS_S)
        assert one(far, NAME.format(row)) == now
        wait_until(lambda: play.metrics().value("pgfresh_feed_open_slots") == 0, "closed slots", 3)


@pytest.mark.parametrize("goes", ["session", "TERM", "KILL"])
def test_a_prepared_transaction_outlives_who_made_it(play, goes):
    with second_proxy(play) as other:
        row = play.item("old")
        app, far = play.app(), other.app()
        make_carry(play, app)
        app.execute("BEGIN")
        app.execute(f"UPDATE item SET name = 'new' WHERE id = {row}")
        app.execute("PREPARE TRANSACTION 'orphan'")
        if goes == "session":
            app.close()
        else:
            play.send_home()
            play.proxy.signal(getattr(signal, "SIG" + goes))
            wait_until(lambda: not play.proxy.running(), "the end of the process")
            play.proxy.start()
            near = play.app()
            play.hot(near, NAME.format(row), seconds=10)
        time.sleep(2.5 * STALENESS_S)
        other.hot(far, NAME.format(row))
        play.sql("COMMIT PREPARED 'orphan'")
        committed = time.monotonic()
        time.sleep(max(0.0, committed + STALENESS_S - time.monotonic()))
        assert one(far, NAME.format(row)) == "new"
        assert one(play.app(), NAME.format(row)) == "new"


# -- other ends and settings --------------------------------------------------------------------


def test_a_server_connection_that_dies_with_carried_events(play):
    with second_proxy(play) as other:
        row = play.item("old")
        app, far, near = play.app(), other.app(), play.app()
        make_carry(play, app)
        play.hot(near, NAME.format(row))
        other.hot(far, NAME.format(row))
        app.execute("BEGIN")
        app.execute(f"UPDATE item SET name = 'new' WHERE id = {row}")
        with pytest.raises(psycopg.Error):
            app.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        wait_until(lambda: play.metrics().value("pgfresh_feed_open_slots") == 0, "closed slots", 5)
        assert one(near, NAME.format(row)) == "old"
        assert one(far, NAME.format(row)) == "old"


def test_switched_by_reload(server, database):
    base = "upstream:\n  url: {}\nlisten:\n  tcp: [\"127.0.0.1:{}\"]\n  http: \"127.0.0.1:{}\"\n" \
           "  unix: none\nfreshness:\n  publish: {}\n"
    proxy = Pgfresh(None, config="")
    text = lambda how: base.format(server.url(), proxy.port, proxy.http_port, how)  # noqa: E731
    proxy.write_config(text("trigger"))
    with proxy:
        play = Play(server, database, proxy)
        row = play.item("old")
        app, reader = play.app(), play.app()

        def writes(name):
            play.hot(reader, NAME.format(row), seconds=10)
            app.execute(f"UPDATE item SET name = '{name}' WHERE id = {row}")
            assert one(reader, NAME.format(row)) == name

        writes("one")
        assert play.metrics().value("pgfresh_carried_total") == 0
        for how, name in (("proxy", "two"), ("trigger", "three"), ("proxy", "four")):
            proxy.write_config(text(how))
            proxy.signal(signal.SIGHUP)
            if how == "proxy":
                make_carry(play, app)
            else:
                wait_until(lambda: feed(play)["vouching"] == 0, "the end of vouching", 3)
            before = play.metrics().value("pgfresh_carried_total")
            writes(name)
            carried = play.metrics().value("pgfresh_carried_total") - before
            assert how == "proxy" or carried == 0
        play.send_home()


CARRIES = "set_config('pgfresh.' || 'inband', 'carry', {})"
SPELLED = {
    "set_config": ["SELECT " + CARRIES.format("false"), "{write}"],
    "set_config_in_the_message": ["SELECT " + CARRIES.format("false") + "; {write}"],
    "local": ["BEGIN", "SELECT " + CARRIES.format("true"), "{write}", "COMMIT"],
    "blanks": ["SET pgfresh . inband = 'carry'", "{write}"],
    "do": ["DO $do$ BEGIN PERFORM " + CARRIES.format("false") + "; {write}; END $do$"],
    "function": ["SELECT hidden(id, 'new') FROM item WHERE id = {row}"],
    "procedure": ["CALL hiding({row}, 'new')"],
}


@pytest.mark.parametrize("publish", ["proxy", "trigger"])
def test_carry_set_behind_our_back(own_play, publish):
    """The notice says whether its trigger has notified; no text is searched for the setting."""
    play = own_play({"freshness.publish": publish})
    body = "(row_ int, name_ text) {} SET pgfresh.inband = 'carry' AS $$ {} $$"
    write = "UPDATE item SET name = name_ WHERE id = row_"
    play.sql("CREATE FUNCTION hidden" + body.format(
        "RETURNS void LANGUAGE plpgsql", f"BEGIN {write}; END"))
    play.sql("CREATE PROCEDURE hiding" + body.format(
        "LANGUAGE plpgsql", f"BEGIN {write}; END"))
    with second_proxy(play, {"freshness.publish": publish}) as other:
        for way, texts in SPELLED.items():
            row = play.item("old")
            reader, far, writer = play.app(), other.app(), play.app()
            play.hot(reader, NAME.format(row))
            other.hot(far, NAME.format(row))
            for text in texts:
                writer.execute(text.format(
                    row=row, write=f"UPDATE item SET name = 'new' WHERE id = {row}"))
            acknowledged = time.monotonic()
            assert one(reader, NAME.format(row)) == "new", way
            while one(far, NAME.format(row)) != "new":
                assert time.monotonic() - acknowledged < STALENESS_S, way
            for session in (reader, far, writer):
                session.close()


def test_forged_messages_only_remove(play):
    row = play.item("old")
    app = play.app()
    make_carry(play, app)
    play.hot(app, NAME.format(row))
    forger = play.direct()
    for payload in ("3 b 1 1", "3 e 1", "3 m 5:1 7 s", "3 m", "3 b x", "3 m 999:1 7 s"):
        forger.execute("SELECT pg_notify('pgfresh', %s)", (payload,))
    app.execute(f"UPDATE item SET name = 'new' WHERE id = {row}")
    assert one(app, NAME.format(row)) == "new"
    time.sleep(STALENESS_S)
    play.hot(app, NAME.format(row), seconds=5)
