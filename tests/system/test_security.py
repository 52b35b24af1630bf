"""Who sees what: every way to change identity, privileges and policies, and settings that policies
read, against answers that are in memory. The stage is security_stage.py; all other settings are in
test_security_settings.py."""
import itertools

import psycopg
import pytest

from pgfresh_proc import wait_until
from pgwire import bind, describe, execute, parse, sync
from play import last
from security_stage import play, stage  # noqa: F401
from security_stage import ASKED, ITEM, MINE, NOTES, OPEN, \
    READS, SHARED, Twins, outcome, rise, shares

# -- row-level security: answers from memory, and each to whom it belongs -------------------------


@pytest.mark.parametrize("sql, login", [
    (NOTES, {"options": "-c app.tenant=red"}), (SHARED, {"options": "-c app.who=s_ann"}),
    (MINE, {}), (ASKED, {"options": "-c app.who=s_ann"})])
def test_guarded_rows_come_from_memory(play, sql, login):
    ann = play.app("s_ann", **login)
    rows = play.hot(ann, sql)
    assert rows and rows == play.direct("s_ann", **login).execute(sql).fetchall()
    shares(play, play.app("s_ann", **login), sql)
    for other in ("s_bob", "s_boss", "s_own"):
        Twins(play, other, **login).look([sql])


def test_no_tenant_any_more_is_not_none_ever(play):
    """A setting that has had a value is '' afterwards, and not NULL as before."""
    play.sql("CREATE TABLE either (id int PRIMARY KEY, tenant text); "
             "INSERT INTO either VALUES (1, 'red'), (2, 'blue'); "
             "ALTER TABLE either ENABLE ROW LEVEL SECURITY; "
             "CREATE POLICY p ON either USING (current_setting('app.tenant', true) IS NULL OR "
             "tenant = current_setting('app.tenant', true)); "
             "GRANT SELECT ON either TO s_ann; SELECT pgfresh.watch('either')")
    sql = "SELECT id FROM either ORDER BY id"
    fresh = Twins(play, "s_ann")
    assert play.hot(fresh.app, sql) == [(1,), (2,)]
    for end in ("COMMIT", "ROLLBACK"):
        for set_it in ("SET LOCAL app.tenant = 'red'", "SET app.tenant = 'red'",
                       "SELECT set_config('app.tenant', 'red', true)"):
            twins = Twins(play, "s_ann")
            twins.look([sql])
            for sent in (False, True):
                twins.say("BEGIN")
                if sent:
                    twins.say("SELECT clock_timestamp() IS NULL")
                twins.say(set_it)
                twins.look([sql])
                twins.say(end)
                twins.look([sql])
            fresh.look([sql])
    play.sql("DROP TABLE either")


def test_policies_that_cannot_be_proven_are_refused(play):
    play.sql("CREATE TABLE timed (id int PRIMARY KEY, until timestamptz); "
             "INSERT INTO timed VALUES (1, now() + interval '1 day'); "
             "ALTER TABLE timed ENABLE ROW LEVEL SECURITY; "
             "CREATE POLICY due ON timed USING (until > now()); "
             "GRANT SELECT ON timed TO s_ann; SELECT pgfresh.watch('timed')")
    ann = play.app("s_ann")
    play.hot(ann, ITEM)
    wait_until(lambda: ann.execute("SELECT id FROM timed") and last(ann)["reason"] == "row_security",
               "the reason")
    assert rise(play, lambda: [ann.execute("SELECT id FROM timed") for _ in range(3)]) == 0
    play.sql("DROP TABLE timed")


def test_what_a_policy_reads_is_depended_on(play):
    """A membership granted around pgfresh changes what is shown within the staleness."""
    ann = play.app("s_ann", options="-c app.who=s_ann")
    assert play.hot(ann, SHARED) == [(1, "of ann"), (3, "of grp")]
    play.app().execute("INSERT INTO member VALUES ('blue', 's_ann')")
    assert len(ann.execute(SHARED).fetchall()) == 3
    play.sql("DELETE FROM member WHERE tenant = 'blue' AND who = 's_ann'")
    wait_until(lambda: len(ann.execute(SHARED).fetchall()) == 2, "the member's leaving")


# -- the session changes itself: SET in all its forms ---------------------------------------------

TENANT = {
    "SET": ["SET app.tenant = 'red'", "SET app.tenant = 'blue'", "SET app.tenant TO DEFAULT",
            "SET app.tenant = 'red'", "RESET app.tenant", "SET APP.Tenant = 'red'", "RESET ALL"],
    "SET of something that nothing reads": ["SET app.request = '1'", "SET app.request = '2'",
                                            "SET app.tenant = 'red'", "SET work_mem = '5MB'",
                                            "SET LOCAL statement_timeout = '10s'"],
    "SET of numbers and lists": ["SET app.tenant = 7", "SET app.tenant = -7", "SET app.tenant = 0",
                                 "SET app.tenant = red", "SET app.tenant = 'a', 'b'",
                                 "SET app.tenant = 1.50"],
    "set_config": ["SELECT set_config('app.tenant', 'red', false)",
                   "SELECT set_config('app.tenant', 'blue', false), set_config('app.who', 's_bob', false)",
                   "SELECT pg_catalog.set_config('app.tenant', 'red', true)",
                   "SELECT set_config('app.tenant', NULL, false)",
                   "SELECT set_config('app.' || 'tenant', 'red', false)",
                   "SELECT set_config('app.tenant', upper('red'), false)",
                   "SELECT 1, set_config('app.tenant', 'blue', false)",
                   "SELECT set_config('app.tenant', 'red', false) FROM member LIMIT 1"],
    "local, committed": ["SET app.tenant = 'blue'", "BEGIN",
                         "SELECT set_config('app.tenant', 'red', true)", "COMMIT"],
    "local, rolled back": ["BEGIN", "SET LOCAL app.tenant = 'red'", "SET LOCAL app.who = 's_ann'",
                           "ROLLBACK"],
    "session, rolled back": ["BEGIN", "SET app.tenant = 'red'", "ROLLBACK"],
    "both, in either order": ["BEGIN", "SET LOCAL app.tenant = 'red'", "SET app.tenant = 'blue'",
                              "COMMIT", "BEGIN", "SET app.tenant = 'red'",
                              "SET LOCAL app.tenant = 'blue'", "COMMIT"],
    "savepoints": ["BEGIN", "SET LOCAL app.tenant = 'red'", "SAVEPOINT a",
                   "SET LOCAL app.tenant = 'blue'", "ROLLBACK TO a", "RELEASE a", "SAVEPOINT b",
                   "SET app.tenant = 'blue'", "RELEASE b", "COMMIT"],
    "a failed block": ["SET app.tenant = 'red'", "BEGIN", "SET app.tenant = 'blue'",
                       "SELECT 1/0", "COMMIT"],
    "an error inside, back to a savepoint": ["BEGIN", "SAVEPOINT a", "SET app.tenant = 'red'",
                                             "SELECT 1/0", "ROLLBACK TO a", "COMMIT"],
    "refused": ["SET app.tenant = 'red'", "SET app.tenant.x. = 'blue'", "SET nonsense = 1",
                "SELECT set_config('app.tenant', 'blue')"],
    "several in one text": ["SET app.tenant = 'red'; SET app.who = 's_ann'",
                            "BEGIN; SET LOCAL app.tenant = 'blue'; COMMIT",
                            "SET app.tenant = 'blue'; SELECT 1/0"],
    "functions and DO": ["SELECT set_tenant('red')",
                         "DO $$ BEGIN PERFORM set_config('app.tenant', 'blue', false); END $$",
                         "DO $$ BEGIN SET LOCAL app.tenant = 'red'; END $$"],
    "SQL PREPARE": ["PREPARE s AS SELECT set_config('app.tenant', $1, false)", "EXECUTE s('red')",
                    "EXECUTE s('blue')", "DEALLOCATE s"],
    "DISCARD ALL": ["SET app.tenant = 'red'", "DISCARD ALL"],
    "CHAIN": ["BEGIN", "SET LOCAL app.tenant = 'red'", "COMMIT AND CHAIN",
              "SET LOCAL app.tenant = 'blue'", "ROLLBACK AND CHAIN", "COMMIT"],
    "another isolation": ["BEGIN ISOLATION LEVEL SERIALIZABLE", "SET LOCAL app.tenant = 'red'",
                          "COMMIT"],
    "a function of that name": ["CREATE SCHEMA s_ann",
                                "CREATE FUNCTION s_ann.set_config(text, text, boolean) RETURNS text "
                                "LANGUAGE sql AS $$ SELECT 'nothing'::text $$",
                                "SELECT set_config('app.tenant', 'red', false)",
                                "SET search_path = s_ann, pg_catalog, public",
                                "SELECT set_config('app.tenant', 'blue', false)",
                                "DROP SCHEMA s_ann CASCADE"],
}


@pytest.mark.parametrize("how", TENANT)
def test_following_a_custom_setting(play, how):
    ann = Twins(play, "s_ann")
    other = Twins(play, "s_ann", options="-c app.tenant=red -c app.who=s_bob")
    hits = rise(play, lambda: other.look())
    assert hits > 0
    for sql in TENANT[how]:
        if "SCHEMA s_ann" in sql or "FUNCTION s_ann" in sql:  # there is one database for both
            ann.app.execute(sql)
        else:
            ann.say(sql)
        ann.look()
        other.look([NOTES])


def test_the_usual_pattern_is_answered_from_memory(play):
    """SET LOCAL or set_config() at the beginning of each transaction, by one pooled session for
    many users: hits, no probe after the first, and never another tenant's rows."""
    twins = Twins(play, "s_ann")
    tenants = ["red", "blue", "green"]

    said = []

    def read(sql):
        twins.say(sql)
        said.append(last(twins.app))

    def rounds(set_local):
        said.clear()
        for tenant in tenants:
            twins.say("BEGIN")
            set_local(tenant)
            read(NOTES)
            read(ITEM)
            twins.say("COMMIT")
            read(NOTES)

    ways = [lambda t: twins.say(f"SET LOCAL app.tenant = '{t}'"),
            lambda t: twins.say(f"SELECT set_config('app.tenant', '{t}', true)"),
            lambda t: twins.say("SELECT set_config('app.tenant', %s, true)", (t,)),
            lambda t: twins.say("SELECT set_config('app.tenant', %b, true)", (t,)),
            lambda t: twins.say("SELECT set_config('app.tenant', %s, true)", (t,), prepare=True)]
    def probes():
        return play.metrics().value("pgfresh_settings_probes_total")

    def all_from_memory(way):
        before = probes()
        rounds(way)
        return [each["verdict"] for each in said] == ["hit"] * 9 and probes() == before

    for way in ways:
        wait_until(lambda: all_from_memory(way), f"hits: {said}", seconds=20)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_block_that_begins_where_another_ends(play, end):
    """Both in one segment: what was set in the first is nothing to the second."""
    twins = Twins(play, "s_ann")
    for _ in range(3):
        twins.say("BEGIN")
        twins.say("SELECT clock_timestamp() IS NULL")  # PostgreSQL knows of the block
        twins.say("SET LOCAL app.tenant = 'red'")
        twins.look([NOTES])
        for session in (twins.app, twins.direct):
            with session.pipeline():
                session.execute(end)
                session.execute("BEGIN")
        twins.look([NOTES])
        twins.say("SET LOCAL app.tenant = 'blue'")
        twins.look([NOTES])
        twins.say("COMMIT")


def test_prepared_statements_outlive_a_change_of_tenant(play):
    twins = Twins(play, "s_ann", prepare_threshold=0)
    sql = "SELECT id, body FROM note WHERE id > %s ORDER BY id"
    for _ in range(4):
        for tenant in ("red", "blue"):
            twins.say(f"SET app.tenant = '{tenant}'", prepare=False)
            twins.say(sql, (0,))
    for tenant in ("red", "blue"):
        twins.say(f"SET app.tenant = '{tenant}'", prepare=False)
        shares(play, twins.app, sql, (0,))


def test_pipelines(play):
    """What is set and read in one pipeline, with and without an error behind it."""
    ann = Twins(play, "s_ann")
    wires = [play.wire("s_ann"), play.wire("s_ann", direct=True)]
    ann.look()
    for statements in itertools.permutations(
            ["SELECT set_config('app.tenant', 'red', false)", NOTES, "SELECT 1/0"]):
        pipeline = b"".join(parse(sql) + bind() + describe() + execute() for sql in statements)
        told = []
        for wire in wires:
            wire.send(pipeline, sync())
            told.append(wire.until_ready())
            wire.query("RESET app.tenant")
        assert told[0] == told[1], statements
        # In how many packets it comes decides what psycopg sends, or shows, before the error.
        for session in (ann.app, ann.direct):
            with pytest.raises(psycopg.errors.DivisionByZero), session.pipeline():
                for sql in statements:
                    session.execute(sql)
        ann.look()
        ann.say("RESET app.tenant")


# -- the session becomes somebody else ------------------------------------------------------------

BECOMING = {
    "SET ROLE": ["SET ROLE s_grp", "SET ROLE s_own", "SET ROLE NONE", "SET ROLE s_bob",
                 "RESET ROLE"],
    "SET LOCAL ROLE": ["BEGIN", "SET LOCAL ROLE s_grp", "ROLLBACK", "BEGIN", "SET LOCAL ROLE s_grp",
                       "COMMIT", "BEGIN", "SET ROLE s_grp", "ROLLBACK"],
    "set_config": ["SELECT set_config('role', 's_grp', false)",
                   "SELECT set_config('role', 'none', false)",
                   "DO $$ BEGIN PERFORM set_config('role', 's_grp', false); END $$", "RESET ROLE"],
    "DISCARD": ["SET ROLE s_grp", "DISCARD ALL"],
    "a function that runs as its owner": ["SELECT * FROM bodies()", "SET ROLE s_grp",
                                          "SELECT * FROM bodies()"],
    "row_security": ["SET row_security = off", "SET row_security = on"],
    "a temporary table": ["CREATE TEMP TABLE open_table (id int, body text)",
                          "INSERT INTO open_table VALUES (1, 'temporary')", "DROP TABLE open_table",
                          "CREATE TEMP TABLE other AS SELECT 1", "DISCARD TEMP"],
    "a temporary table, rolled back": ["BEGIN", "CREATE TEMP TABLE open_table (id int, body text)",
                                       "ROLLBACK"],
}
BEING = {
    "SET SESSION AUTHORIZATION": ["SET SESSION AUTHORIZATION s_ann", "SET ROLE s_grp", "RESET ROLE",
                                  "SET SESSION AUTHORIZATION s_bob",
                                  "RESET SESSION AUTHORIZATION", "BEGIN",
                                  "SET LOCAL SESSION AUTHORIZATION s_bob", "ROLLBACK"],
    "SET ROLE": ["SET ROLE s_bob", "SET row_security = off", "SET ROLE s_boss", "RESET ROLE"],
}


@pytest.mark.parametrize("user, how", [("s_ann", how) for how in BECOMING] +
                         [("postgres", how) for how in BEING])
def test_becoming_somebody_else(play, user, how):
    login = {"options": "-c app.tenant=red -c app.who=s_ann"}
    session, other = Twins(play, user, **login), Twins(play, user, **login)
    assert rise(play, other.look) > 0
    for sql in (BECOMING if user == "s_ann" else BEING)[how]:
        session.say(sql)
        session.look()
        other.look()


def test_prepared_statements_across_roles(play):
    """PostgreSQL looks at privileges and policies when a statement is executed."""
    twins = Twins(play, "s_ann", prepare_threshold=0, options="-c app.tenant=red")
    for sql in ("SET ROLE s_grp", "SET ROLE s_own", "RESET ROLE"):
        for read in READS:
            for _ in range(2):
                twins.say(read)
        twins.say(sql, prepare=False)


# -- somebody else changes what there is ----------------------------------------------------------

# Each: what is done, how it is undone; by the superuser. Those of the second list have no event
# trigger and are seen when the catalog is polled.
CHANGES = [
    ("REVOKE SELECT ON open_table FROM s_ann", "GRANT SELECT ON open_table TO s_ann"),
    ("REVOKE SELECT ON open_table FROM s_ann; GRANT SELECT (id) ON open_table TO s_ann",
     "GRANT SELECT ON open_table TO s_ann"),
    ("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "GRANT USAGE ON SCHEMA public TO PUBLIC"),
    ("REVOKE SELECT ON member FROM s_own", "GRANT SELECT ON member TO s_own"),
    ("REVOKE EXECUTE ON FUNCTION uid() FROM PUBLIC", "GRANT EXECUTE ON FUNCTION uid() TO PUBLIC"),
    ("DROP POLICY own ON mine", "CREATE POLICY own ON mine USING (owner = current_user OR "
                                "pg_has_role(owner, 'MEMBER'))"),
    ("CREATE POLICY more ON note USING (owner = 's_bob')", "DROP POLICY more ON note"),
    ("CREATE POLICY less ON note AS RESTRICTIVE USING (id > 1)", "DROP POLICY less ON note"),
    ("CREATE POLICY more ON mine TO s_grp USING (true)", "DROP POLICY more ON mine"),
    ("ALTER POLICY by_tenant ON note USING (tenant = 'blue')",
     "ALTER POLICY by_tenant ON note USING (tenant = current_setting('app.tenant', true))"),
    ("ALTER POLICY by_tenant ON note TO s_bob", "ALTER POLICY by_tenant ON note TO PUBLIC"),
    ("ALTER TABLE note DISABLE ROW LEVEL SECURITY", "ALTER TABLE note ENABLE ROW LEVEL SECURITY"),
    ("ALTER TABLE open_table ENABLE ROW LEVEL SECURITY",
     "ALTER TABLE open_table DISABLE ROW LEVEL SECURITY"),
    ("ALTER TABLE note FORCE ROW LEVEL SECURITY", "ALTER TABLE note NO FORCE ROW LEVEL SECURITY"),
    ("ALTER TABLE note OWNER TO s_ann", "ALTER TABLE note OWNER TO s_own"),
    ("REASSIGN OWNED BY s_own TO s_bob", "REASSIGN OWNED BY s_bob TO s_own"),
    ("CREATE OR REPLACE FUNCTION uid() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 's_bob' $$",
     "CREATE OR REPLACE FUNCTION uid() RETURNS text LANGUAGE sql STABLE AS "
     "$$ SELECT coalesce(nullif(current_setting('app.who', true), ''), 'nobody') $$"),
    ("ALTER FUNCTION is_member(text) SECURITY INVOKER",
     "ALTER FUNCTION is_member(text) SECURITY DEFINER"),
    ("ALTER FUNCTION uid() RENAME TO uid_gone; CREATE FUNCTION uid() RETURNS text LANGUAGE sql AS "
     "$$ SELECT 's_grp' $$", "DROP FUNCTION uid(); ALTER FUNCTION uid_gone() RENAME TO uid"),
    ("CREATE SCHEMA s_ann; CREATE TABLE s_ann.open_table AS SELECT 1 AS id, 'shadow' AS body; "
     "GRANT ALL ON SCHEMA s_ann TO s_ann; GRANT SELECT ON s_ann.open_table TO s_ann",
     "DROP SCHEMA s_ann CASCADE"),
    ("ALTER DEFAULT PRIVILEGES FOR ROLE s_own REVOKE ALL ON TABLES FROM PUBLIC",
     "ALTER DEFAULT PRIVILEGES FOR ROLE s_own GRANT SELECT ON TABLES TO PUBLIC"),
    ("ALTER TABLE open_table RENAME COLUMN body TO gone; "
     "ALTER TABLE open_table RENAME COLUMN hidden TO body",
     "ALTER TABLE open_table RENAME COLUMN body TO hidden; "
     "ALTER TABLE open_table RENAME COLUMN gone TO body"),
]
POLLED = [
    ("REVOKE s_grp FROM s_ann", "GRANT s_grp TO s_ann"),
    ("GRANT s_grp TO s_bob", "REVOKE s_grp FROM s_bob"),
    ("ALTER ROLE s_boss NOBYPASSRLS", "ALTER ROLE s_boss BYPASSRLS"),
    ("ALTER ROLE s_ann BYPASSRLS", "ALTER ROLE s_ann NOBYPASSRLS"),
    ("ALTER ROLE s_bob SUPERUSER", "ALTER ROLE s_bob NOSUPERUSER"),
    ("ALTER ROLE s_ann NOINHERIT", "ALTER ROLE s_ann INHERIT"),
    ("ALTER ROLE s_grp RENAME TO s_grp2", "ALTER ROLE s_grp2 RENAME TO s_grp"),
]
LOGIN = {"options": "-c app.tenant=red -c app.who=s_ann"}


def same_soon(play, people, seconds):
    """Within `seconds` everybody sees what PostgreSQL shows, and goes on seeing it."""
    def same():
        return all(outcome(each.app, sql) == outcome(each.direct, sql)
                   for each in people for sql in READS)
    wait_until(same, "what PostgreSQL shows", seconds)
    for each in people:
        each.look()


@pytest.mark.parametrize("through", ["pgfresh", "psql"])
@pytest.mark.parametrize("do, undo", CHANGES + POLLED, ids=lambda text: text[:50])
def test_privileges_and_policies(play, through, do, undo):
    people = [Twins(play, user, **LOGIN) for user in ("s_ann", "s_bob", "s_boss", "s_own")]
    wait_until(lambda: rise(play, lambda: [each.look() for each in people]) > 0, "hits")
    polled = (do, undo) in POLLED
    admin = play.app()
    for sql in (do, undo):
        if through == "pgfresh":
            admin.execute(sql)  # acknowledged: no later read may show the old state
        else:
            play.sql(sql)
        if through == "psql" or polled:
            same_soon(play, people, 3)
        for each in people:
            each.look()
    newcomer = Twins(play, "s_ann", **LOGIN)
    newcomer.look()


@pytest.mark.parametrize("do, undo, who", [
    ("GRANT s_grp TO s_bob", "REVOKE s_grp FROM s_bob", "s_bob"),
    ("ALTER ROLE s_bob BYPASSRLS", "ALTER ROLE s_bob NOBYPASSRLS", "s_bob")])
def test_given_and_taken_back_between_two_looks_at_the_catalog(play, do, undo, who):
    """PostgreSQL has no event for either, and the catalog is as it was: what was answered in
    between must not stay."""
    twins = Twins(play, who, **LOGIN)
    for _ in range(4):
        play.sql(do)
        for _ in range(4):
            outcome(twins.app, MINE)
        play.sql(undo)
        wait_until(lambda: outcome(twins.app, MINE) == outcome(twins.direct, MINE),
                   "what PostgreSQL shows", 15)


def test_grant_then_revoke_before_anyone_looks(play):
    bob = Twins(play, "s_bob", **LOGIN)
    play.app().execute("REVOKE SELECT ON open_table FROM s_bob")
    assert bob.say(OPEN) == "42501"
    admin = play.app()
    for _ in range(5):
        admin.execute("GRANT SELECT ON open_table TO s_bob")
        bob.look([OPEN])
        admin.execute("REVOKE SELECT ON open_table FROM s_bob")
        bob.look([OPEN])
    admin.execute("GRANT SELECT ON open_table TO s_bob")
    bob.look([OPEN])


def test_dropped_owned(play):
    play.sql("CREATE ROLE s_tmp LOGIN; GRANT SELECT ON open_table TO s_tmp")
    guest = Twins(play, "s_tmp")
    guest.look([OPEN])
    play.app().execute("DROP OWNED BY s_tmp")
    assert guest.say(OPEN) == "42501"
    play.sql("DROP ROLE s_tmp")


def test_search_path_finds_new_objects(play):
    """A table, a function, an operator in a schema that comes earlier."""
    play.sql("CREATE SCHEMA earlier; GRANT ALL ON SCHEMA earlier TO PUBLIC; "
             "GRANT USAGE ON SCHEMA earlier TO PUBLIC")
    ann = Twins(play, "s_ann", options="-c search_path=later,earlier,public")
    reads = [OPEN, "SELECT five() FROM open_table", "SELECT id + 1 FROM open_table"]
    for sql in reads:
        play.hot(ann.app, sql)
    admin = play.app()
    for ddl in ["CREATE TABLE earlier.open_table AS SELECT 1 AS id, 'earlier' AS body",
                "GRANT SELECT ON earlier.open_table TO PUBLIC",
                "CREATE FUNCTION earlier.five() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 6'",
                "CREATE FUNCTION earlier.add(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS "
                "'SELECT $1 - $2'",
                "CREATE OPERATOR earlier.+ (LEFTARG = int, RIGHTARG = int, "
                "FUNCTION = earlier.add)",
                "CREATE SCHEMA later",
                "GRANT USAGE ON SCHEMA later TO PUBLIC",
                "CREATE TABLE later.open_table AS SELECT 1 AS id, 'later' AS body",
                "GRANT SELECT ON later.open_table TO PUBLIC"]:
        admin.execute(ddl)
        ann.look(reads)
    play.sql("DROP SCHEMA earlier CASCADE; DROP SCHEMA later CASCADE")
