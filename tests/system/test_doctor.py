"""DOCTOR: each finding is made, seen, and gone after the remedy that was printed has been run."""
import psycopg
import pytest

from pgfresh_proc import Pgfresh, wait_until
from pgserver import PrivatePostgres
from play import Play, one
from test_console import ADMIN, Console
from test_explain import console, module_console  # noqa: F401

BAD = ("problem", "warning")


def doctor(console, database=None):
    """Findings about the database of the play, or another."""
    name = database or console.play.database
    found = console.table(f"DOCTOR {name}")
    assert all(row["severity"] in ("ok", "info", "warning", "problem") for row in found)
    assert all(row["database"] == name for row in found)
    return found


def about(found, subject, *severities):
    return [row for row in found if row["subject"] == subject
            and (not severities or row["severity"] in severities)]


def seen(console, subject, word, *severities):
    """The finding about `subject` that says `word`; waits for it."""
    def look():
        rows = [row for row in about(doctor(console), subject, *severities) if word in row["finding"]]
        return rows and rows[0]
    return wait_until(look, f"DOCTOR says {word} of {subject}")


def cured(console, subject, remedy):
    """Runs what DOCTOR printed; nothing bad is said of the subject any more."""
    console.play.sql(remedy)
    wait_until(lambda: not about(doctor(console), subject, *BAD), f"{subject} is well after {remedy}")


def table(console, name, more=""):
    console.play.sql(f"CREATE TABLE {name} (id int PRIMARY KEY, other int){more}")
    return f"public.{name}"


def watched(console, name):
    subject = table(console, name)
    console.play.sql(f"SELECT pgfresh.watch('{name}', '{{id,other}}')")
    return subject


def unfollowed(console, sql):
    """DDL whose traces pgfresh's event trigger does not clean up."""
    console.play.sql(f"BEGIN; SET LOCAL pgfresh.covering = 'on'; {sql}; COMMIT")


def asked(console, name):
    """A query asks for the table until DOCTOR says so."""
    app = console.play.app()

    def look():
        app.execute(f"SELECT * FROM {name} WHERE id = 1")
        rows = [row for row in about(doctor(console), f"public.{name}", "warning")
                if "calls asked for it" in row["finding"]]
        return rows and rows[0]

    return wait_until(look, f"DOCTOR says that {name} is asked for")


def key_columns(console, subject):
    return console.play.sql("SELECT key_columns FROM pgfresh.status "
                            f"WHERE relation = '{subject}'::regclass")


def test_all_is_well(console):
    found = doctor(console)
    assert not [row for row in found if row["severity"] == "problem"], found
    for name in ("item", "part", "journal", "many"):
        assert "4 triggers" in about(found, f"public.{name}", "ok")[0]["finding"]
    assert "3 tables" in about(found, "public.happening", "ok")[0]["finding"]
    assert "live" in about(found, "feed", "ok")[0]["finding"]
    for subject in ("schema pgfresh", "event trigger pgfresh_ddl_end", "NOTIFY queue", "clock",
                    "control role postgres"):
        assert about(found, subject, "ok"), found


def test_a_missing_trigger(console):
    subject = watched(console, "d_missing")
    console.play.sql("DROP TRIGGER pgfresh_update ON d_missing; DROP TRIGGER pgfresh_insert ON d_missing")
    row = seen(console, subject, "missing", "problem")
    assert "pgfresh_insert, pgfresh_update" in row["finding"] and "2 of 4" in row["finding"]
    cured(console, subject, row["remedy"])
    assert key_columns(console, subject) == "{id,other}"
    assert about(doctor(console), subject, "ok")


@pytest.mark.parametrize("how", ["DISABLE TRIGGER pgfresh_delete", "ENABLE TRIGGER pgfresh_delete",
                                 "ENABLE REPLICA TRIGGER pgfresh_delete"])
def test_a_trigger_that_does_not_always_fire(console, how):
    name = "d_" + how.split()[0].lower() + how.split()[1].lower()
    subject = watched(console, name)
    unfollowed(console, f"ALTER TABLE {name} {how}")
    row = seen(console, subject, "pgfresh_delete", "problem")
    assert "disabled" in row["finding"] or "ENABLE ALWAYS" in row["finding"]
    assert row["remedy"].startswith("ALTER TABLE")
    cured(console, subject, row["remedy"])


def test_a_trigger_with_another_function(console):
    subject = watched(console, "d_other")
    unfollowed(console, "CREATE FUNCTION silent() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
               "CREATE OR REPLACE TRIGGER pgfresh_insert AFTER INSERT ON d_other "
               "FOR EACH STATEMENT EXECUTE FUNCTION silent(); "
               "ALTER TABLE d_other ENABLE ALWAYS TRIGGER pgfresh_insert")
    row = seen(console, subject, "another function", "problem")
    cured(console, subject, row["remedy"])


def test_a_trigger_of_another_make(console):
    subject = watched(console, "d_make")
    function = console.play.sql("SELECT tgfoid::regproc FROM pg_trigger WHERE tgname = 'pgfresh_update' "
                                "AND tgrelid = 'd_make'::regclass")
    unfollowed(console, "DROP TRIGGER pgfresh_update ON d_make; CREATE TRIGGER pgfresh_update AFTER UPDATE "
               f"OF other ON d_make FOR EACH STATEMENT EXECUTE FUNCTION {function}(); "
               "ALTER TABLE d_make ENABLE ALWAYS TRIGGER pgfresh_update")
    row = seen(console, subject, "not made", "problem")
    cured(console, subject, row["remedy"])


def test_the_function_of_another_table(console):
    subject, other = watched(console, "d_lent"), watched(console, "d_lender")
    function = console.play.sql("SELECT tgfoid::regproc FROM pg_trigger WHERE tgname = 'pgfresh_insert' "
                                "AND tgrelid = 'd_lender'::regclass")
    unfollowed(console, "".join(
        f"CREATE OR REPLACE TRIGGER pgfresh_{event} AFTER {event} ON d_lent {tables} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {function}(); "
        f"ALTER TABLE d_lent ENABLE ALWAYS TRIGGER pgfresh_{event}; "
        for event, tables in (
            ("insert", "REFERENCING NEW TABLE AS pgfresh_new"),
            ("delete", "REFERENCING OLD TABLE AS pgfresh_old"), ("truncate", ""),
            ("update", "REFERENCING OLD TABLE AS pgfresh_old NEW TABLE AS pgfresh_new"))))
    row = seen(console, subject, "another table", "problem")
    cured(console, subject, row["remedy"])
    assert not about(doctor(console), other, *BAD)


def test_key_columns_that_moved(console):
    subject = watched(console, "d_moved")
    unfollowed(console, "ALTER TABLE d_moved RENAME COLUMN other TO renamed")
    row = seen(console, subject, "renamed", "problem")
    cured(console, subject, row["remedy"])
    assert key_columns(console, subject) == "{id,renamed}"


def test_a_partition_without_triggers(console):
    console.play.sql("CREATE TABLE d_parts (id int PRIMARY KEY) PARTITION BY RANGE (id); "
                     "CREATE TABLE d_parts_1 PARTITION OF d_parts FOR VALUES FROM (0) TO (10); "
                     "SELECT pgfresh.watch('d_parts'); "
                     "ALTER EVENT TRIGGER pgfresh_ddl_end DISABLE; "
                     "CREATE TABLE d_parts_2 PARTITION OF d_parts FOR VALUES FROM (10) TO (20); "
                     "ALTER EVENT TRIGGER pgfresh_ddl_end ENABLE ALWAYS")
    row = seen(console, "public.d_parts", "d_parts_2", "problem")
    assert "4 of 4 triggers missing" in row["finding"]
    cured(console, "public.d_parts", row["remedy"])
    assert "3 tables" in about(doctor(console), "public.d_parts", "ok")[0]["finding"]


def test_rows_that_may_move_unseen(console):
    """A MERGE may move them since there is a trigger that may change them on their way."""
    console.play.sql("CREATE TABLE d_moves (id int PRIMARY KEY, other int) PARTITION BY RANGE (id); "
                     "CREATE TABLE d_moves_1 PARTITION OF d_moves FOR VALUES FROM (0) TO (10); "
                     "SELECT pgfresh.watch('d_moves')")
    assert "5 on what is partitioned" in seen(console, "public.d_moves", "4 triggers", "ok")["finding"]
    unfollowed(console, "CREATE TRIGGER hurries BEFORE UPDATE ON d_moves_1 FOR EACH ROW "
                        "EXECUTE FUNCTION suppress_redundant_updates_trigger()")
    row = seen(console, "public.d_moves", "not made as they should be", "problem")
    assert "1 of 5" in row["finding"] and "pgfresh_moved" in row["finding"]
    cured(console, "public.d_moves", row["remedy"])


def test_what_queries_asked_for_and_is_not_watched(console):
    subject = table(console, "d_asked")
    row = asked(console, "d_asked")
    assert row["remedy"] == "SELECT pgfresh.watch('public.d_asked');"
    cured(console, subject, row["remedy"])
    console.play.hot(console.play.app(), "SELECT * FROM d_asked WHERE id = 1")


def test_the_others_are_counted(console):
    console.play.sql("CREATE SCHEMA quiet; CREATE TABLE quiet.a (id int); CREATE TABLE quiet.b (id int)")
    row = seen(console, "schema quiet", "2 tables", "info")
    console.play.sql(row["remedy"])
    wait_until(lambda: not about(doctor(console), "schema quiet"), "they are watched")


@pytest.mark.parametrize("name, make, word", [
    ("d_unlogged", "CREATE UNLOGGED TABLE d_unlogged (id int PRIMARY KEY)", "unlogged"),
    ("d_mat", "CREATE MATERIALIZED VIEW d_mat AS SELECT 1 AS id", "materialized view"),
    ("d_foreign", "CREATE EXTENSION IF NOT EXISTS file_fdw; CREATE SERVER IF NOT EXISTS files "
     "FOREIGN DATA WRAPPER file_fdw; CREATE FOREIGN TABLE d_foreign (id int) SERVER files "
     "OPTIONS (filename '/dev/null')", "foreign table"),
])
def test_kinds_that_are_not_cached(console, name, make, word):
    console.play.sql(make)
    seen(console, f"public.{name}", word, "info")
    row = asked(console, name)
    if row["remedy"]:
        console.play.sql(row["remedy"])
        wait_until(lambda: not [r for r in about(doctor(console), f"public.{name}") if word in r["finding"]],
                   "it is logged now")


def test_a_watched_table_that_became_unlogged(console):
    subject = watched(console, "d_unlogged_later")
    console.play.sql("ALTER TABLE d_unlogged_later SET UNLOGGED")
    row = seen(console, subject, "unlogged", "problem")
    cured(console, subject, row["remedy"])


def test_row_level_security_is_told(console):
    assert "row-level security" in seen(console, "public.guarded", "row-level", "info",
                                        "warning")["finding"]


def test_a_subscription_target(console):
    subject = watched(console, "d_sub")
    console.play.sql("CREATE SUBSCRIPTION d_sub CONNECTION 'dbname=nowhere' PUBLICATION nothing "
                     "WITH (connect = false); "
                     "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) "
                     "SELECT oid, 'd_sub'::regclass, 'r' FROM pg_subscription WHERE subname = 'd_sub'")
    try:
        row = seen(console, subject, "subscription", "warning")
        cured(console, subject, row["remedy"])
    finally:
        console.play.sql("DELETE FROM pg_subscription_rel; "
                         "ALTER SUBSCRIPTION d_sub SET (slot_name = NONE)")
        console.play.sql("DROP SUBSCRIPTION d_sub")


def test_a_prepared_transaction(console):
    console.play.sql("BEGIN; INSERT INTO plain VALUES (990, 'x'); PREPARE TRANSACTION 'd''x'")
    row = seen(console, "prepared transaction 'd''x'", "of postgres", "warning")
    console.play.sql(row["remedy"])
    wait_until(lambda: not [r for r in doctor(console) if "prepared tr" in r["subject"]], "it is gone")


def test_event_triggers(console):
    subject = "event trigger pgfresh_drop"
    console.play.sql("ALTER EVENT TRIGGER pgfresh_drop DISABLE")
    row = seen(console, subject, "disabled", "warning")
    cured(console, subject, row["remedy"])
    console.play.sql("DROP EVENT TRIGGER pgfresh_drop")
    row = seen(console, subject, "missing", "warning")
    assert "install.sql" in row["remedy"]
    install(console, console.play.database)
    assert about(doctor(console), subject, "ok")


def install(console, database):
    """The remedy that is a shell command."""
    from conftest import ROOT
    console.play.server.psql(file=ROOT / "sql" / "install.sql", database=database)


def test_an_old_version(console):
    source = console.play.sql("SELECT prosrc FROM pg_proc WHERE oid = 'pgfresh.version()'::regprocedure")
    assert "'1.0'" in source, "app/audit_sql.h: kInstallVersion"
    console.play.sql("CREATE OR REPLACE FUNCTION pgfresh.version() RETURNS text "
                     "LANGUAGE sql IMMUTABLE AS $$ SELECT '0.9'::text $$")
    row = seen(console, "schema pgfresh", "0.9", "warning")
    assert "install.sql" in row["remedy"]
    install(console, console.play.database)
    assert about(doctor(console), "schema pgfresh", "ok")


def test_a_database_without_pgfresh(console):
    name = console.play.server.create_database("bare")
    found = doctor(console, name)
    assert "not installed" in about(found, "schema pgfresh", "info")[0]["finding"]
    assert {row["severity"] for row in found} <= {"ok", "info"}
    install(console, name)
    assert about(doctor(console, name), "schema pgfresh", "ok")


def test_a_database_that_is_not_there(console):
    row = about(doctor(console, "no_such_database"), "control connection", "problem")[0]
    assert "no_such_database" in row["finding"]


def test_without_a_name_all_databases_are_examined(console):
    assert {row["database"] for row in console.table("DOCTOR")} == {console.play.database, "postgres"}


def test_a_control_role_without_rights(console):
    console.play.sql("CREATE ROLE meek LOGIN; REVOKE USAGE ON SCHEMA pgfresh FROM PUBLIC")
    url = console.play.server.url("meek", console.play.database)
    with Pgfresh(url, {"console.users": ":".join(ADMIN)}) as proxy:
        play = Play(console.play.server, console.play.database, proxy)
        other = Console(play, None)
        row = seen(other, "control role meek", "may not use", "problem")
        cured(other, "control role meek", row["remedy"])
        play.send_home()
    console.play.sql("GRANT USAGE ON SCHEMA pgfresh TO PUBLIC; DROP OWNED BY meek; DROP ROLE meek")


REVOKE_NOTIFY = "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC"


def test_a_control_role_that_may_not_publish(console):
    """What it cannot tell, or cannot any more, the writers' triggers do. It is said why, and how to
    change it."""
    console.play.sql("CREATE ROLE mute LOGIN")
    url = console.play.server.url("mute", console.play.database)
    with Pgfresh(url, {"console.users": ":".join(ADMIN)}) as proxy:
        play = Play(console.play.server, console.play.database, proxy)
        other = Console(play, None)
        row, sql = play.item("old"), "SELECT name FROM item WHERE id = {}"
        writer, reader = play.app(), play.app()
        play.hot(reader, sql.format(row), seconds=15)
        console.play.sql(REVOKE_NOTIFY)
        for turn in range(30):
            writer.execute(f"UPDATE item SET name = 'new {turn}' WHERE id = {row}")
            assert one(reader, sql.format(row)) == f"new {turn}"
            play.hot(reader, sql.format(row))  # and there are hits all the while
        assert play.metrics().value("pgfresh_carried_total") == 0
        feed, = (f for f in other.table("SHOW FEEDS") if f["database"] == play.database)
        assert (feed["state"], feed["publish"]) == ("live", "trigger")
        assert "publishing: " in feed["trouble"] and "pg_notify" in feed["trouble"]
        assert seen(other, "publishing", "pg_notify", "warning")
        found = seen(other, "control role mute", "pg_notify", "warning")
        play.send_home()
    with Pgfresh(url, {"console.users": ":".join(ADMIN)}) as proxy:
        play = Play(console.play.server, console.play.database, proxy)
        other, app = Console(play, None), play.app()
        play.hot(app, "SELECT name FROM item WHERE id = 1", seconds=15)
        assert seen(other, "control role mute", "pg_notify", "warning")["remedy"] == found["remedy"]
        cured(other, "control role mute", found["remedy"])
        play.send_home()
    console.play.sql("GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO PUBLIC; "
                     "DROP OWNED BY mute; DROP ROLE mute")


def test_writers_that_may_not_notify(console):
    """Past pgfresh each of their writes fails, through it only those that no proxy vouches for."""
    console.play.sql(f"{REVOKE_NOTIFY}; CREATE ROLE scribe LOGIN; GRANT UPDATE ON item TO scribe;"
                     "CREATE ROLE onlooker LOGIN; GRANT SELECT ON item TO onlooker")
    try:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), psycopg.connect(
                console.play.server.url("scribe", console.play.database)) as scribe:
            scribe.execute("UPDATE item SET name = name WHERE id = 1")
        row = seen(console, "role scribe", "not execute pg_notify", "problem")
        assert not [r for r in doctor(console) if "onlooker" in str(r)]
        cured(console, "role scribe", row["remedy"])
    finally:
        console.play.sql("GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO PUBLIC; "
                         "DROP OWNED BY scribe, onlooker; DROP ROLE scribe, onlooker")


def test_a_control_role_that_may_not_set(console):
    console.play.sql("REVOKE EXECUTE ON FUNCTION set_config(text, text, boolean) FROM PUBLIC; "
                     "CREATE ROLE stiff LOGIN")
    url = console.play.server.url("stiff", console.play.database)
    with Pgfresh(url, {"console.users": ":".join(ADMIN)}) as proxy:
        play = Play(console.play.server, console.play.database, proxy)
        other = Console(play, None)
        row = seen(other, "control role stiff", "set_config", "warning")
        cured(other, "control role stiff", row["remedy"])
        play.send_home()
    console.play.sql("GRANT EXECUTE ON FUNCTION set_config(text, text, boolean) TO PUBLIC; "
                     "DROP OWNED BY stiff; DROP ROLE stiff")


def test_a_dead_feed(own_server, tmp_path):
    """What can only be had with a PostgreSQL of one's own: it is stopped, and the feed with it."""
    own_server.create_database("lonely", template="stage")
    with Pgfresh(own_server.url(database="lonely"), {"console.users": ":".join(ADMIN)}) as proxy:
        play = Play(own_server, "lonely", proxy)
        console = Console(play, tmp_path)
        play.hot(play.app(), "SELECT name FROM item WHERE id = 1", seconds=15)
        play.send_home()
        own_server.stop()
        row = seen(console, "feed", "no lease", "problem")
        assert about(doctor(console), "control connection", "problem")
        own_server.start()
        wait_until(lambda: about(doctor(console), "feed", "ok"), "it lives again", 20)
        play.send_home()
        assert row
