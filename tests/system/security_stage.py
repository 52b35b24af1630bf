"""The stage of the security matrix (test_security.py, test_security_settings.py): roles, a database
with policies, and twins. What is right is what PostgreSQL says: each statement runs in a session
that goes through pgfresh and in a twin that goes around it, and both must come to the same rows or
the same SQLSTATE. Counters show that memory was asked at all.
"""
import itertools

import psycopg
import pytest

from pgfresh_proc import Pgfresh
from play import Play

ROLES = ("s_ann", "s_bob", "s_boss", "s_grp", "s_own")
SETUP = """
CREATE ROLE s_ann LOGIN; CREATE ROLE s_bob LOGIN; CREATE ROLE s_boss LOGIN BYPASSRLS;
CREATE ROLE s_grp; CREATE ROLE s_own LOGIN; GRANT s_grp TO s_ann;
"""
SCHEMA = """
GRANT USAGE, CREATE ON SCHEMA public TO s_own;
GRANT CREATE, TEMPORARY ON DATABASE {database} TO s_ann, s_own;
SET ROLE s_own;
CREATE TABLE note (id int PRIMARY KEY, owner text NOT NULL, tenant text NOT NULL, body text);
CREATE TABLE member (tenant text, who text, PRIMARY KEY (tenant, who));
CREATE TABLE shared (id int PRIMARY KEY, tenant text, body text);
CREATE TABLE mine (id int PRIMARY KEY, owner text, body text);
CREATE TABLE asked (id int PRIMARY KEY, owner text, body text);
CREATE TABLE open_table (id int PRIMARY KEY, body text, hidden text);
CREATE FUNCTION uid() RETURNS text LANGUAGE sql STABLE AS
  $$ SELECT coalesce(nullif(current_setting('app.who', true), ''), 'nobody') $$;
CREATE FUNCTION is_member(of text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
  SET search_path = public AS
  $$ SELECT EXISTS (SELECT FROM member m WHERE m.tenant = of AND m.who = uid()) $$;
CREATE FUNCTION set_tenant(t text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.tenant', t, false); RETURN t; END $$;
CREATE FUNCTION bodies() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER
  SET search_path = public AS $$ SELECT body FROM note ORDER BY id $$;
CREATE FUNCTION five() RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 5 $$;
INSERT INTO note VALUES (1, 's_ann', 'red', 'of ann'), (2, 's_bob', 'blue', 'of bob'),
  (3, 's_grp', 'red', 'of grp');
INSERT INTO member VALUES ('red', 's_ann'), ('blue', 's_bob');
INSERT INTO shared SELECT id, tenant, body FROM note;
INSERT INTO mine SELECT id, owner, body FROM note;
INSERT INTO asked SELECT id, owner, body FROM note;
INSERT INTO open_table VALUES (1, 'open', 'hidden');
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_tenant ON note USING (tenant = current_setting('app.tenant', true));
ALTER TABLE shared ENABLE ROW LEVEL SECURITY;
CREATE POLICY members ON shared USING (is_member(tenant));
ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON mine USING (owner = current_user OR pg_has_role(owner, 'MEMBER'));
ALTER TABLE asked ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON asked USING (owner = uid());
GRANT ALL ON note, member, shared, mine, asked, open_table TO s_ann, s_bob, s_boss, s_grp;
RESET ROLE;
GRANT SELECT ON item, kinds TO s_ann, s_bob, s_boss, s_grp, s_own;
SELECT pgfresh.watch(t) FROM unnest('{{note,member,shared,mine,asked,open_table}}'::regclass[]) AS t;
"""
NOTES = "SELECT id, body FROM note ORDER BY id"
SHARED = "SELECT id, body FROM shared ORDER BY id"
MINE = "SELECT id, body FROM mine ORDER BY id"
ASKED = "SELECT id, body FROM asked ORDER BY id"
OPEN = "SELECT body FROM open_table WHERE id = 1"
ITEM = "SELECT name FROM item WHERE id = 1"
NUMBERS = itertools.count()
READS = [NOTES, SHARED, MINE, ASKED, OPEN, ITEM]


def outcome(session, sql, parameters=None, **options):
    try:
        cursor = session.execute(sql, parameters, **options)
        return cursor.fetchall() if cursor.description else cursor.statusmessage
    except psycopg.Error as error:
        return error.sqlstate


class Twins:
    """A session through pgfresh and one around it, with the same login; they are told the same."""

    def __init__(self, play, user, **options):
        self.user = user
        self.app = play.app(user, **options)
        self.direct = play.direct(user, **options)

    def say(self, sql, parameters=None, **options):
        through = outcome(self.app, sql, parameters, **options)
        around = outcome(self.direct, sql, parameters, **options)
        assert through == around, f"{self.user}: {sql} {parameters}"
        return through

    def look(self, reads=None):
        """Reads everything, often enough to be answered from memory at the end. (In a failed block
        every answer is 25P02.)"""
        for _ in range(3):
            for sql in reads or READS:
                self.say(sql)


@pytest.fixture(scope="module")
def stage(server):
    """A pgfresh of its own that polls the catalog often, and a database with policies."""
    server.psql(SETUP)
    server.create_database("secure", template="stage")
    server.psql(SCHEMA.format(database="secure"), database="secure")
    with Pgfresh(server.url(), {"freshness.catalog_poll": "200ms"}) as proxy:
        stage = Play(server, "secure", proxy)
        stage.hot(stage.app(), ITEM, seconds=15)
        stage.send_home()
        yield stage
    server.psql("DROP DATABASE secure WITH (FORCE)")
    server.psql("; ".join(f"DROP ROLE IF EXISTS {role}" for role in ROLES))


@pytest.fixture
def play(stage):
    yield stage
    stage.send_home()
    assert stage.proxy.running(), stage.proxy.log_tail()


def rise(play, of):
    """How many hits `of()` brings."""
    before = play.metrics().hits
    of()
    return play.metrics().hits - before


def shares(play, session, sql, parameters=None, **options):
    """`session`, which has not asked yet, is answered by what others have brought into memory."""
    before = play.metrics().misses
    play.hot(session, sql, parameters, **options)
    assert play.metrics().misses == before
