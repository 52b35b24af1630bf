"""Answers are shared by sessions whose settings are the same, however they were given, and by no
others. The stage is security_stage.py."""
import time

import psycopg
import pytest

from play import one
from security_stage import play, stage  # noqa: F401
from security_stage import ASKED, ITEM, MINE, NOTES, NUMBERS, OPEN, Twins, rise, shares

SETTINGS = {
    "DateStyle": ("German", "SELECT d::text FROM kinds WHERE id = 1"),
    "IntervalStyle": ("iso_8601", "SELECT iv::text FROM kinds WHERE id = 1"),
    "TimeZone": ("Asia/Kolkata", "SELECT tz::text FROM kinds WHERE id = 1"),
    "extra_float_digits": ("0", "SELECT (f8 * 3)::text FROM kinds WHERE id = 1"),
    "bytea_output": ("escape", "SELECT y::text FROM kinds WHERE id = 1"),
    "search_path": ("other", "SELECT name FROM item WHERE id = 2"),
    "client_encoding": ("LATIN1", "SELECT t FROM kinds WHERE id = 1"),
    "row_security": ("off", "SELECT id FROM mine"),
    "transform_null_equals": ("on", "SELECT id FROM kinds WHERE t = NULL"),
    "xmlbinary": ("hex", "SELECT xmlelement(name a, y)::text FROM kinds WHERE id = 1"),
    "lc_monetary": ("C", "SELECT n::money::text FROM kinds WHERE id = 1"),
    "quote_all_identifiers": ("on", ITEM),
    "default_text_search_config": ("simple", "SELECT to_tsvector(t)::text FROM kinds WHERE id = 1"),
    "app.tenant": ("blue", NOTES),
    "app.who": ("s_bob", ASKED),
    "role": ("s_grp", MINE),
}


def by_set(play, name, value):
    twins = Twins(play, "s_ann")
    twins.say(f"SET {name} = '{value}'")
    return twins


def by_set_local(play, name, value):
    twins = Twins(play, "s_ann")
    twins.say("BEGIN")
    twins.say(f"SET LOCAL {name} = '{value}'")
    return twins


def by_set_config(play, name, value):
    twins = Twins(play, "s_ann")
    twins.say("SELECT set_config(%s, %s, false)", (name, value))
    return twins


def by_options(play, name, value):
    return Twins(play, "s_ann", options=f"-c {name}={value}")


def by_role(play, name, value):
    play.sql(f"ALTER ROLE s_ann IN DATABASE secure SET {name} = '{value}'")
    return Twins(play, "s_ann")


def by_database(play, name, value):
    play.sql(f"ALTER DATABASE secure SET {name} = '{value}'")
    return Twins(play, "s_ann")


@pytest.mark.parametrize("how", [by_set, by_set_local, by_set_config, by_options, by_role,
                                 by_database])
@pytest.mark.parametrize("name", SETTINGS)
def test_other_settings_never_share(play, name, how):
    value, sql = SETTINGS[name]
    if how is by_database and name == "role":
        pytest.skip("nobody could take it back")
    sql = f"SELECT *, 'test {next(NUMBERS)}' FROM ({sql}) s"  # that nobody has asked for before
    ordinary = Twins(play, "s_ann")
    ordinary.look([sql])
    changed = how(play, name, value)
    try:
        ordinary.look([sql])
        changed.say(OPEN)  # its settings are known then, and have not brought an entry yet
        assert rise(play, lambda: changed.say(sql)) == 0
        for _ in range(3):
            changed.say(sql)
            ordinary.say(sql)
    finally:
        if how is by_role:
            play.sql(f"ALTER ROLE s_ann IN DATABASE secure RESET {name}")
        if how is by_database:
            play.sql(f"ALTER DATABASE secure RESET {name}")


def settle(play):
    """What has been put back at roles and databases is told by the poll, at once and again when
    PostgreSQL has counted it a second later; each time the memory is emptied."""
    def loads():
        return play.metrics().value("pgfresh_catalog_loads_total")

    before = None
    while before != loads():
        before = loads()
        time.sleep(1.5)


def test_the_same_settings_share_however_they_came(play):
    """One fill for all of them."""
    settle(play)
    sql = "SELECT id, body, 'shared by' FROM note ORDER BY id"
    first = play.app("s_ann", options="-c app.tenant=red -c app.who=s_ann")
    play.hot(first, sql)
    second = play.app("s_ann")
    second.execute("SET app.who = 's_ann'")
    second.execute("SET app.tenant = 'red'")
    third = play.app("s_ann", application_name="another")
    third.execute("SELECT set_config('app.tenant', %s, false), set_config('app.who', %s, false)",
                  ("red", "s_ann"))
    third.execute("SET statement_timeout = '1min'")
    for session in (second, third):
        shares(play, session, sql)


def test_extension_settings_are_in_the_key(play):
    if not one(play.direct(), "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'"):
        pytest.skip("pg_trgm is not there")
    play.sql("CREATE EXTENSION pg_trgm")
    sql = "SELECT id FROM item WHERE name % 'item 1' ORDER BY id"
    twins = Twins(play, "s_ann")
    play.hot(twins.app, sql)
    for threshold in ("0.9", "0.5", "1.0"):
        twins.say(f"SET pg_trgm.similarity_threshold = {threshold}")
        for _ in range(3):
            twins.say(sql)
    play.hot(twins.app, sql)
    play.sql("DROP EXTENSION pg_trgm")


WRITTEN = ["UPDATE pg_settings SET setting = 'other, public' WHERE name = 'search_path'",
           'UPDATE "pg_catalog"."pg_settings" s SET setting = $$other, public$$ FROM note '
           "WHERE s.name = 'search_path' AND note.id = 1",
           "WITH w AS (UPDATE pg_settings SET setting = 'other, public' WHERE name = 'search_path' "
           "RETURNING 1) SELECT count(*) FROM w",
           "UPDATE my_settings SET setting = 'other, public' WHERE name = 'search_path'",
           "INSERT INTO setter VALUES (1)"]


@pytest.mark.parametrize("write", WRITTEN)
def test_a_setting_that_is_written_to_pg_settings(play, write):
    """That view makes a SET of an UPDATE, by a rule."""
    play.sql("""
        CREATE VIEW my_settings AS SELECT * FROM pg_settings;
        CREATE TABLE setter (id int);
        CREATE FUNCTION set_there() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          UPDATE pg_settings SET setting = 'other, public' WHERE name = 'search_path';
          RETURN NULL; END $$;
        CREATE TRIGGER set_there AFTER INSERT ON setter EXECUTE FUNCTION set_there();
        GRANT ALL ON my_settings, setter TO s_ann""")
    sql = "SELECT name FROM item WHERE id = 2"
    try:
        twins = Twins(play, "s_ann")
        play.hot(twins.app, sql)
        twins.say(write)
        for _ in range(3):
            twins.say(sql)
    finally:
        play.sql("DROP VIEW my_settings; DROP TABLE setter; DROP FUNCTION set_there")


def test_a_reload_is_seen_within_the_bound(own_server, own_play):
    """Sessions that are connected go by the server's new settings from their next statement on, and
    most settings change without a word to the client. What they fetch before pgfresh knows belongs
    to nobody who has the settings of before."""
    play = own_play(postgres=own_server)
    play.sql("CREATE TABLE measured (id int PRIMARY KEY, f float8, b bytea); INSERT INTO measured "
             "SELECT n, 0.1::float8 + 0.2, '\\x00ff' FROM generate_series(1, 3) n; "
             "SELECT pgfresh.watch('measured')")
    sql = "SELECT f::text, b::text FROM measured WHERE id = {}"
    before, now = ("0.30000000000000004", "\\x00ff"), ("0.3", "\\000\\377")
    app, other = play.app(), play.app()
    for setting in ("extra_float_digits = 1", "bytea_output = 'hex'"):
        other.execute(f"SET {setting}")
    assert play.hot(app, sql.format(1), seconds=15) == [before]
    for setting in ("extra_float_digits = -10", "bytea_output = 'escape'"):
        own_server.psql(f"ALTER SYSTEM SET {setting}")
    own_server.psql("SELECT pg_reload_conf()")
    bound = time.monotonic() + 1
    while time.monotonic() < bound:  # never in memory before, so PostgreSQL's answer
        assert app.execute(sql.format(2)).fetchall()[0] in (before, now)
    assert app.execute(sql.format(1)).fetchall() == [now]
    assert app.execute(sql.format(3)).fetchall() == [now]
    for row in (1, 2, 3):
        assert other.execute(sql.format(row)).fetchall() == [before]
    assert play.hot(app, sql.format(1)) == [now]
    assert play.hot(other, sql.format(1)) == [before]


def test_a_role_that_may_not_execute_set_config(own_play):
    """Where it is not everybody's, PostgreSQL decides: nothing is set for anybody on its behalf."""
    play = own_play()
    play.sql("CREATE TABLE secret (id int PRIMARY KEY, who text); "
             "INSERT INTO secret VALUES (1, 'a'), (2, 'b'); "
             "ALTER TABLE secret ENABLE ROW LEVEL SECURITY; "
             "CREATE POLICY own ON secret USING (who = current_setting('app.who', true)); "
             "GRANT SELECT ON secret TO anna; SELECT pgfresh.watch('secret')")
    app, sql = play.app("anna"), "SELECT id FROM secret"
    by_function = "SELECT set_config('app.who', 'b', true)"
    play.hot(app, sql, seconds=15)
    with app.transaction():
        app.execute(by_function)
        assert app.execute(sql).fetchall() == [(2,)]
    play.sql("REVOKE EXECUTE ON FUNCTION set_config(text, text, boolean) FROM PUBLIC")
    play.hot(app, sql)
    for _ in range(2):  # the second time there is an answer in memory
        with app.transaction():
            app.execute("SET LOCAL app.who = 'a'")
            assert app.execute(sql).fetchall() == [(1,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
            app.execute(by_function)
            app.execute(sql)
    assert app.execute(sql).fetchall() == []
