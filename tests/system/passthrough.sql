-- Run by psql directly and through pgfresh by test_passthrough.py; what psql prints must be equal.
\set ON_ERROR_STOP off
\set VERBOSITY verbose
\set SHOW_CONTEXT never
SET client_min_messages = notice;
\echo several statements, errors among them
SELECT 1 AS a\; SELECT 2 AS b\; SELECT 3 AS c;
SELECT 1 AS a\; SELECT 1 / 0\; SELECT 3 AS c;
INSERT INTO plain VALUES (900, 'x')\; SELECT 1 / 0;
SELECT count(*) FROM plain WHERE id = 900;
BEGIN\; INSERT INTO plain VALUES (901, 'x')\; COMMIT\; SELECT count(*) FROM plain WHERE id = 901;
;
SELECT;
nonsense;
SELECT * FROM missing;
\echo notices
DO $$ BEGIN RAISE NOTICE 'a notice'; RAISE WARNING 'a warning' USING HINT = 'a hint', ERRCODE = '01007'; END $$;
DO $$ BEGIN RAISE INFO 'an info'; RAISE INFO 'another' USING ERRCODE = 'PF002'; END $$;
DO $$ BEGIN RAISE EXCEPTION 'an error' USING DETAIL = 'detail', COLUMN = 'c', TABLE = 't'; END $$;
CREATE TABLE IF NOT EXISTS plain (id int);
\echo transactions
BEGIN;
SELECT name FROM item WHERE id = 1;
SELECT 1 / 0;
SELECT name FROM item WHERE id = 1;
COMMIT;
BEGIN;
BEGIN;
SAVEPOINT a;
INSERT INTO item (id, name) VALUES (950, 'within');
SAVEPOINT b;
INSERT INTO item (id, name) VALUES (950, 'within');
ROLLBACK TO b;
SELECT name FROM item WHERE id = 950;
ROLLBACK TO a;
SELECT name FROM item WHERE id = 950;
RELEASE a;
COMMIT AND CHAIN;
SHOW transaction_isolation;
ROLLBACK;
COMMIT;
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SHOW transaction_isolation;
SHOW transaction_read_only;
UPDATE item SET name = name;
END;
BEGIN READ ONLY;
SELECT name FROM item WHERE id = 2;
DELETE FROM item WHERE id = 2;
ABORT;
BEGIN;
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
SHOW transaction_isolation;
COMMIT;
BEGIN;
SELECT 1;
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
COMMIT;
BEGIN;
PREPARE TRANSACTION 'held';
SELECT gid FROM pg_prepared_xacts WHERE database = current_database();
ROLLBACK PREPARED 'held';
\echo cursors
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id FROM item WHERE id <= 10 ORDER BY id;
FETCH 3 FROM c;
MOVE 2 IN c;
FETCH BACKWARD 1 FROM c;
FETCH ALL FROM c;
CLOSE c;
FETCH 1 FROM c;
COMMIT;
\set FETCH_COUNT 7
SELECT id FROM item WHERE id <= 20 ORDER BY id;
\unset FETCH_COUNT
\echo prepared statements
PREPARE p (int) AS SELECT name FROM item WHERE id = $1;
EXECUTE p (3);
EXECUTE p (4);
PREPARE p AS SELECT 1;
DEALLOCATE p;
EXECUTE p (3);
DEALLOCATE ALL;
SELECT id, name, price FROM item WHERE id = 7 \gdesc
SELECT 'SELECT ' || n FROM generate_series(1, 3) n \gexec
\echo settings
SET DateStyle = 'German';
SELECT d, tz FROM kinds ORDER BY id;
SET TimeZone = 'Asia/Kolkata';
SELECT d, tz FROM kinds ORDER BY id;
SET LOCAL DateStyle = 'SQL';
BEGIN;
SET LOCAL DateStyle = 'SQL, DMY';
SELECT d, tz FROM kinds ORDER BY id;
ROLLBACK;
SELECT d, tz FROM kinds ORDER BY id;
SELECT set_config('IntervalStyle', 'iso_8601', false);
SELECT iv FROM kinds ORDER BY id;
SET search_path = other, public;
SELECT name FROM item WHERE id = 1;
SET ROLE anna;
SELECT current_user, secret FROM guarded;
RESET ROLE;
SET SESSION AUTHORIZATION bert;
SELECT current_user, secret FROM guarded;
RESET SESSION AUTHORIZATION;
RESET ALL;
SELECT name FROM item WHERE id = 1;
SET client_encoding = 'LATIN1';
SHOW client_encoding;
SET client_encoding = 'UTF8';
DISCARD ALL;
SET standard_conforming_strings = off;
SELECT 'a\\b';
RESET standard_conforming_strings;
SELECT 'a\\b';
\echo copy
CREATE TEMP TABLE copied (a int, b text);
COPY copied FROM stdin;
1	one
2	two\tand a tab
\.
COPY copied FROM stdin (FORMAT csv);
3,"three, quoted"
x,fails
\.
SELECT * FROM copied ORDER BY a;
COPY copied TO stdout (FORMAT csv, HEADER);
COPY (SELECT 1 / 0) TO stdout;
COPY missing FROM stdin;
\echo temporary tables shadow
SELECT name FROM plain WHERE id = 1;
CREATE TEMP TABLE plain (id int, name text);
SELECT name FROM plain WHERE id = 1;
DROP TABLE plain;
SELECT name FROM plain WHERE id = 1;
\echo writes of every kind
INSERT INTO item (id, name) VALUES (960, 'one'), (961, 'two') RETURNING id;
UPDATE item SET name = 'three' WHERE id IN (960, 961) RETURNING *;
INSERT INTO item (id, name) VALUES (960, 'four') ON CONFLICT (id) DO UPDATE SET name = excluded.name;
MERGE INTO item USING (VALUES (961, 'five')) v (id, name) ON v.id = item.id WHEN MATCHED THEN UPDATE SET name = v.name;
SELECT id, name FROM item WHERE id >= 960 ORDER BY id;
SELECT rename_item(960, 'six');
CALL rename_and_commit(960, 'seven', 'eight');
SELECT name FROM item WHERE id = 960;
WITH gone AS (DELETE FROM item WHERE id >= 960 RETURNING id) SELECT count(*) FROM gone;
INSERT INTO item (id, name) VALUES (1, 'duplicate');
INSERT INTO part VALUES (999, 999, 'no such item');
SELECT pg_notify('nobody', 'listens');
CREATE TABLE short_lived (id int PRIMARY KEY);
ALTER TABLE short_lived ADD COLUMN name text;
\d short_lived
COMMENT ON TABLE short_lived IS 'here';
DROP TABLE short_lived;
EXPLAIN (COSTS OFF) SELECT name FROM item WHERE id = 1;
VALUES (1, 'x'), (2, 'y');
TABLE other.item ORDER BY id LIMIT 2;
SELECT lo_from_bytea(4711, '\x0102');
SELECT lo_get(4711);
\lo_unlink 4711
VACUUM plain;
BEGIN;
VACUUM plain;
ROLLBACK;
LOCK TABLE item;
SELECT pg_cancel_backend(pg_backend_pid());
