"""What conversations by chance (conversation.py) are about, and what is said in them: a world of its
own, which is the same on both sides, and texts that read, write, fail, or change how others read.

Deliberately not asked: whatever tells the time, a process or a transaction number.
"""
import struct

# Tables, two of which nobody writes.
WORLD = r"""
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS world CASCADE;
DROP SCHEMA IF EXISTS beyond CASCADE;
CREATE SCHEMA world;
CREATE SCHEMA beyond;
SET search_path = world;
CREATE TABLE thing (id int PRIMARY KEY, name text NOT NULL, price numeric DEFAULT 1,
                    made timestamptz DEFAULT '2026-01-01 12:00+00', CHECK (name <> 'forbidden'));
CREATE TABLE piece (id int PRIMARY KEY, thing_id int REFERENCES thing DEFERRABLE INITIALLY DEFERRED,
                    name text UNIQUE);
CREATE TABLE kinds (id int PRIMARY KEY, t text, v varchar(9), c char(5), i2 int2, i8 int8, f4 float4,
  f8 float8, n numeric(20, 6), b bool, y bytea, d date, tm time, ts timestamp, tz timestamptz,
  iv interval, u uuid, j json, jb jsonb, ia int[], ta text[], r int4range);
CREATE TABLE guarded (id int PRIMARY KEY, owner text NOT NULL, secret text NOT NULL);
CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, words text);
CREATE TABLE "Größe €" (id int PRIMARY KEY, "wört" text);
CREATE TABLE big (id int PRIMARY KEY, b text);
CREATE TABLE plain (id int PRIMARY KEY, name text);
CREATE TABLE beyond.thing (id int PRIMARY KEY, name text NOT NULL);
CREATE VIEW thing_name AS SELECT id, name FROM thing;
CREATE SEQUENCE counter;
CREATE FUNCTION rename(which int, what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN UPDATE thing SET name = what WHERE id = which; RETURN what; END $$;
CREATE FUNCTION fails(n int) RETURNS int LANGUAGE plpgsql STABLE AS $$
BEGIN IF n > 2 THEN RAISE EXCEPTION 'no % here', n USING ERRCODE = 'P0042', HINT = 'less'; END IF;
RETURN n; END $$;
CREATE FUNCTION tells(n int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN RAISE NOTICE 'told %', n; RETURN n; END $$;
CREATE FUNCTION doubled(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
CREATE FUNCTION things() RETURNS SETOF thing LANGUAGE sql STABLE AS
  'SELECT * FROM world.thing ORDER BY id';
CREATE FUNCTION tenant() RETURNS text LANGUAGE sql STABLE AS
  $$ SELECT current_setting('app.tenant', true) $$;
CREATE FUNCTION sets_locally(what text) RETURNS text LANGUAGE plpgsql SET app.tenant = 'inner' AS $$
BEGIN RETURN tenant() || what; END $$;
CREATE PROCEDURE sets(what text) LANGUAGE plpgsql AS $$
BEGIN PERFORM set_config('app.tenant', what, false); SET LOCAL DateStyle = 'German'; END $$;
CREATE PROCEDURE rolls_back(which int) LANGUAGE plpgsql AS $$
BEGIN UPDATE world.thing SET name = 'gone' WHERE id = which; SET app.tenant = 'gone'; ROLLBACK;
SET LOCAL app.tenant = 'local'; END $$;
CREATE PROCEDURE commits(which int) LANGUAGE plpgsql AS $$
BEGIN UPDATE world.thing SET name = 'one' WHERE id = which; COMMIT;
UPDATE world.thing SET name = 'two' WHERE id = which; END $$;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON guarded USING (owner = current_user);
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_tenant ON note USING (tenant = current_setting('app.tenant', true));
INSERT INTO world.big SELECT n, repeat(md5(n::text), 1500 * n) FROM generate_series(1, 3) n;
INSERT INTO world."Größe €" VALUES (1, 'ä'), (2, '漢字');
GRANT USAGE ON SCHEMA world, beyond TO anna, bert;
GRANT CREATE ON SCHEMA world TO anna;
GRANT ALL ON ALL TABLES IN SCHEMA world, beyond TO anna, bert;
GRANT ALL ON ALL SEQUENCES IN SCHEMA world TO anna, bert;
REVOKE ALL ON plain FROM bert;
SELECT pgfresh.watch(t) FROM unnest(ARRAY['thing', 'piece', 'kinds', 'guarded', 'note', 'big',
  'beyond.thing', '"Größe €"']::regclass[]) AS t;
RESET search_path;
RESET client_min_messages;
"""

# What may have been written.
DATA = r"""
BEGIN;
TRUNCATE world.thing, world.piece, world.kinds, world.guarded, world.note, world.plain,
  beyond.thing;
SELECT setval('world.counter', 1);
INSERT INTO world.thing (id, name) SELECT n, 'thing ' || n FROM generate_series(1, 9) n;
INSERT INTO world.piece SELECT n, n, 'piece ' || n FROM generate_series(1, 4) n;
INSERT INTO world.kinds VALUES
  (1, 'text é', 'varchar', 'char', -2, 9000000000, 1.5, 0.1, 12.345678, true, '\x00ff10',
   '2026-03-04', '05:06:07.8', '2026-03-04 05:06:07', '2026-03-04 05:06:07+02',
   '1 year 2 days 03:04', '0123456789abcdef0123456789abcdef', '{"a": [1, 2]}', '{"b": null}',
   '{1,NULL,3}', '{"x","y z"}', '[2,5)');
INSERT INTO world.kinds (id) VALUES (2);
INSERT INTO world.guarded VALUES (1, 'anna', 'of anna'), (2, 'bert', 'of bert');
INSERT INTO world.note VALUES (1, 'a', 'of a'), (2, 'b', 'of b'), (3, '', 'of nobody');
INSERT INTO world.plain SELECT n, 'plain ' || n FROM generate_series(1, 5) n;
INSERT INTO beyond.thing SELECT n, 'beyond ' || n FROM generate_series(1, 9) n;
COMMIT
"""

# Without parameters.
READS = ["SELECT name FROM thing WHERE id = 1", "SELECT name FROM thing WHERE id = 5",
         "SELECT id, name, price, made FROM thing ORDER BY id", "SELECT * FROM thing WHERE id = 2",
         "select Name from THING where ID=1", "SELECT name FROM thing WHERE id = 1;",
         "/* why */ SELECT name FROM thing WHERE id = 1 -- because",
         "SELECT name FROM thing WHERE id = 1 /* traceparent='00-a-b-01' */",
         "SELECT * FROM kinds ORDER BY id",
         "SELECT f4, f8, y, iv, tz, d, ts FROM kinds WHERE id = 1",
         "SELECT id, tz, iv, y FROM kinds WHERE tz > '2026-03-04' ORDER BY id",
         "SELECT n, ia, ta, jb, j, u, r, b FROM kinds ORDER BY id",
         "SELECT secret FROM guarded ORDER BY id", "SELECT id, words FROM note ORDER BY id",
         "SELECT * FROM thing_name WHERE id = 3", "SELECT count(*), max(name) FROM thing",
         "SELECT t.name, p.name FROM thing t JOIN piece p ON p.thing_id = t.id ORDER BY 1",
         "SELECT b FROM big WHERE id = 1", "SELECT id, b FROM big ORDER BY id",
         "SELECT \"wört\" FROM \"Größe €\" ORDER BY id", "SELECT name FROM thing WHERE false",
         "SELECT FROM thing WHERE id = 1", "TABLE thing", "VALUES (1, 'a'), (2, NULL)", "SELECT 1",
         "SELECT", "SELECT 10 / (id - 4) FROM thing ORDER BY id", "SELECT 1 / 0",
         "SELECT fails(id) FROM thing ORDER BY id", "SELECT fails(1)",
         "SELECT doubled(id) FROM thing WHERE id < 4 ORDER BY 1",
         "SELECT name FROM things() WHERE id = 1", "SELECT current_user, session_user",
         "SELECT current_setting('app.tenant', true)", "SELECT current_setting('app.other')",
         "SELECT current_schema", "SELECT name FROM plain ORDER BY id",
         "SELECT relname FROM pg_class WHERE relname = 'thing'",
         "WITH x AS (SELECT id FROM thing WHERE id < 3) SELECT * FROM x ORDER BY 1",
         "SELECT id FROM thing WHERE id IN (1, 2) UNION ALL SELECT 7 ORDER BY 1",
         "SELECT name FROM thing WHERE id = (SELECT min(thing_id) FROM piece)",
         "SELECT name FROM beyond.thing WHERE id = 1",
         "SELECT '\\x41'::bytea, 0.1::float8, '1 day'::interval",
         "SELECT name, statement, parameter_types, from_sql FROM pg_prepared_statements "
         "ORDER BY name",
         "SELECT name, statement, is_holdable FROM pg_cursors WHERE name <> '' ORDER BY name",
         "SELECT E'a\\'b', 'über', U&'\\00e4'", "SELECT x FROM unnest(ARRAY[1,2,3]) x",
         "SELECT name FROM thing WHERE made = '2026-01-01 12:00'",
         "SELECT ia[1], jb->'b' FROM kinds ORDER BY id",
         "SELECT id AS \"Ä\", 'x'::name FROM thing WHERE id = 1"]
BROKEN = ["SELECT name FROM missing", "SELECT nme FROM thing", "SELEC 1", "SELECT 'a", "SELECT $$a",
          "SELECT name FROM thing WHERE id = 'x'", "SELECT missing(1)",
          "SELECT name FROM thing WHERE", "SELECT 1 + ", "SELECT $1",
          "SELECT name FROM thing WHERE id = $1", "SELECT 1::int2 + 70000::int2",
          "SELECT name FROM thing GROUP BY id ORDER BY name + 1", "BEGIN SELECT",
          "COMMIT now please"]
# (text, parameter: values as text, oid, values in binary)
INT = (["1", "2", "5", "99", "x", "", " 1 ", "99999999999", None], 23,
       [struct.pack("!i", 1), struct.pack("!i", 5), b"\0\1", b"", None])
TEXT = (["thing 1", "thing 5", "ä", "", "a'b\\", None], 25, [b"thing 1", b"thing 2", b"\xff", None])
WITH_PARAMETERS = [("SELECT name FROM thing WHERE id = $1", [INT]),
                   ("SELECT * FROM thing WHERE id = $1", [INT]),
                   ("SELECT id FROM thing WHERE name = $1 ORDER BY id", [TEXT]),
                   ("SELECT id, name FROM thing WHERE id = $1 OR name = $2 ORDER BY id",
                    [INT, TEXT]),
                   ("SELECT $1::int + 1", [INT]),
                   ("SELECT 10 / (id - $1) FROM thing ORDER BY id", [INT]),
                   ("SELECT name FROM thing ORDER BY id LIMIT $1",
                    [(["1", "3", "-1", "x"], 20, [struct.pack("!q", 2)])]),
                   ("SELECT $1", [TEXT]), ("SELECT words FROM note WHERE id = $1", [INT]),
                   ("SELECT * FROM kinds WHERE id = $1", [INT]),
                   ("SELECT b FROM big WHERE id = $1", [INT]),
                   ("SELECT name FROM thing WHERE id = ANY($1)",
                    [(["{1,2}", "{}", "{x", "{1,NULL}"], 1007, [b"\0"])])]
SETTINGS = [("DateStyle", ["German", "'SQL, DMY'", "iso, mdy", "nonsense"]),
            ("TimeZone", ["'Asia/Kolkata'", "'UTC'", "DEFAULT", "'Nowhere/Land'"]),
            ("bytea_output", ["escape", "hex"]), ("IntervalStyle", ["iso_8601", "postgres"]),
            ("extra_float_digits", ["-3", "1", "99"]),
            ("search_path", ["beyond, world", "world", "world, beyond", "''"]),
            ("app.tenant", ["'a'", "'b'", "''", "DEFAULT"]), ("app.other", ["'x'", "'y'"]),
            ("client_min_messages", ["error", "notice"]), ("application_name", ["'me'"]),
            ("standard_conforming_strings", ["off", "on"]), ("client_encoding", ["latin1", "utf8"]),
            ("default_transaction_isolation", ["'repeatable read'", "'read committed'"]),
            ("default_transaction_read_only", ["on", "off"]),
            ("transaction_read_only", ["on", "off"]), ("work_mem", ["'1MB'", "nonsense"]),
            ("plan_cache_mode", ["force_generic_plan"]), ("nonsense", ["1"]),
            ("row_security", ["off", "on"]), ("app.2 bad", ["1"]),
            ("statement_timeout", ["'1h'", "0", "DEFAULT", "'x'"]), ("lock_timeout", ["'60ms'"]),
            ("idle_in_transaction_session_timeout", ["'1h'"]), ("xmlbinary", ["hex"]),
            ("transaction_isolation", ["'serializable'", "'read committed'"]),
            ("default_transaction_deferrable", ["on"]), ("enable_seqscan", ["off"]),
            ("lc_monetary", ["'C'"]), ("quote_all_identifiers", ["on", "off"]),
            ("backslash_quote", ["on", "off"]), ("array_nulls", ["off", "on"]),
            ("transform_null_equals", ["on", "off"]), ("synchronous_commit", ["off"]),
            ("timezone_abbreviations", ["'India'", "'Default'"]), ("geqo", ["off"]),
            ("log_min_messages", ["panic"])]
COPY_IN = ["COPY thing (id, name) FROM STDIN", "COPY plain FROM STDIN WITH (FORMAT csv)",
           "COPY missing FROM STDIN"]
COPY_OUT = ["COPY thing TO STDOUT",
            "COPY (SELECT name FROM thing ORDER BY id) TO STDOUT (FORMAT csv)",
            "COPY (SELECT 10 / (id - 4) FROM thing ORDER BY id) TO STDOUT",
            "COPY kinds TO STDOUT (FORMAT binary)"]
# Longer than the statement_timeout of those who are in a hurry, and than a cancel request takes.
LONG = ["SELECT pg_sleep(0.6)", "SELECT pg_sleep(0.6) /* x */, name FROM thing WHERE id = 1",
        "SELECT count(*) FROM generate_series(1, 9), pg_sleep(0.6)",
        "UPDATE beyond.thing SET name = name WHERE id = 1 AND pg_sleep(0.6) IS NOT NULL",
        "DO $$ BEGIN PERFORM pg_sleep(0.6); END $$", "COPY (SELECT pg_sleep(0.6)) TO STDOUT",
        "DO $$ BEGIN PERFORM pg_sleep(0.6); EXCEPTION WHEN query_canceled THEN NULL; END $$",
        "SELECT name, pg_sleep(0.3) FROM thing WHERE id IN (1, 2)"]
# length(), lower(), set_config(), current_setting(), pg_notify(), int4eq(), one that is not there.
FUNCTION_CALLS = ["function_call(1317, [b'abc'], (), 1)", "function_call(870, [b'ABC'], (0,), 0)",
                  "function_call(2078, [b'app.tenant', b'b', b'f'], (), 0)",
                  "function_call(2078, [b'app.tenant', b'a', b't'], (), 0)",
                  "function_call(2078, [b'DateStyle', b'German', b'f'], (), 0)",
                  "function_call(2077, [b'app.tenant'], (), 0)",
                  "function_call(2077, [None], (), 0)", "function_call(2077, [b'no'], (), 0)",
                  "function_call(3036, [b'ch', b'called'], (), 0)",
                  "function_call(65, [b'\\0\\0\\0\\1', b'\\0\\0\\0\\1'], (1,), 1)",
                  "function_call(65, [b'1', b'2'], (0, 0), 0)", "function_call(65, [b'1'], (), 0)",
                  "function_call(99999, [], (), 0)", "function_call(1317, [b'x'], (0, 0, 0), 0)"]
# In encodings of one byte for each.
FOREIGN = [b"SELECT '\xe4', length('\xe4\xf6')", b"SELECT name FROM thing WHERE name <> '\xe4' "
           b"ORDER BY id", b"SELECT id FROM thing WHERE name = '\xa4\x80' OR id = 1",
           b"SELECT name AS \"\xc4\" FROM thing WHERE id = 1", b"SELECT \"w\xf6rt\" FROM missing",
           b"UPDATE note SET words = '\xfc' WHERE id = 3", b"SELECT 1 -- \xff",
           b"SELECT \"w\xf6rt\" FROM \"Gr\xf6\xdfe\x80\"", b"SET app.tenant = '\xe9'",
           b"SELECT '\x83\x5c', name FROM thing WHERE id = 1"]
