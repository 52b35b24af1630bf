-- Takes everything of pgfresh out of a database: event triggers, the triggers of every watched
-- table, the schema. One transaction.
--
--   psql -v ON_ERROR_STOP=1 -f uninstall.sql
--
-- The role must own the schema pgfresh and the watched tables; a superuser always may. A proxy that
-- runs meanwhile is told, and passes everything through from then on.

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $do$
DECLARE
  event_trigger name;
  relation regclass;
  trigger name;
BEGIN
  IF to_regnamespace('pgfresh') IS NULL THEN
    RAISE NOTICE 'pgfresh is not installed in this database';
    RETURN;
  END IF;
  -- The proxies' last word: what they hold is not kept fresh any more.
  IF current_setting('pgfresh.inband', true) IN ('on', 'carry') THEN
    RAISE INFO USING ERRCODE = 'PF001', MESSAGE = concat('1 ', pg_current_xact_id(), ' s');
  END IF;
  PERFORM pg_notify('pgfresh', concat('1 ', pg_current_xact_id(), ' s'));
  FOR event_trigger IN
    SELECT e.evtname FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
    WHERE p.pronamespace = 'pgfresh'::regnamespace
  LOOP
    EXECUTE format('DROP EVENT TRIGGER %I', event_trigger);
  END LOOP;
  FOR relation, trigger IN
    SELECT t.tgrelid, t.tgname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE p.pronamespace = 'pgfresh'::regnamespace ORDER BY 1, 2
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', trigger, relation);
  END LOOP;
  -- Without CASCADE nothing that others built on it is lost; they are named in the error.
  EXECUTE (SELECT coalesce(string_agg(statement, '; ' ORDER BY place, statement), '') FROM (
    SELECT 1 AS place, 'DROP VIEW pgfresh.status' AS statement
    WHERE to_regclass('pgfresh.status') IS NOT NULL
    UNION ALL
    SELECT 2, format('DROP FUNCTION %s', string_agg(p.oid::regprocedure::text, ', '))
    FROM pg_proc p WHERE p.pronamespace = 'pgfresh'::regnamespace HAVING count(*) > 0) AS parts);
  DROP SCHEMA pgfresh;
END
$do$;

COMMIT;
