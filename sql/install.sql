-- The database side of pgfresh: statement triggers that tell, for every write to a watched table,
-- which rows it touched, and event triggers that tell of DDL.
--
--   psql -v ON_ERROR_STOP=1 -f install.sql     (again at any time; this is also the upgrade)
--   SELECT pgfresh.watch('doctors', '{id,specialization}');
--   SELECT pgfresh.watch_schema('public');
--   SELECT * FROM pgfresh.status;
--
-- What is sent. One text per event, over NOTIFY on the channel `pgfresh` and, in sessions that have
-- pgfresh.inband = on or carry, also as an INFO message with SQLSTATE PF001, whose DETAIL is that
-- setting (carry: INFO only, the proxy publishes the event after the commit):
--
--   1 <xid8> r <relation> <columns> {<attnum> <values> {<bytes>:<value>}}  rows known
--   1 <xid8> w <relation>                                                  rows unknown
--   1 <xid8> s                                                             DDL, rights, policies
--
-- <relation> is the table named in the statement; <attnum> counts as in the root of its partition
-- or inheritance tree; <value> is what the type's output function gives (bool: t or f), in at most
-- 64 distinct old and new values a column. NULL is never sent: no `column = value` matches it.
-- A statement that changed no row sends nothing.
--
-- Who needs which right. Writers: EXECUTE of pg_notify, which everybody has unless it was revoked;
-- the trigger functions run as the writer and call nothing of this schema. Watching a table:
-- ownership of it and CREATE on schema pgfresh. Event triggers: a superuser (or what the provider
-- gives instead); without them the script says what is missing.
--
-- There is no table of watched tables. The triggers are the truth, and the head of a trigger
-- function's body says which columns it reports, so nothing can fall out of step and pg_dump
-- carries everything.
--
-- Needs PostgreSQL 14 or newer (CREATE OR REPLACE TRIGGER).

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;  -- nothing about what IF EXISTS did not find

DO $do$
BEGIN
  IF current_setting('server_version_num')::int < 140000 THEN
    RAISE EXCEPTION 'pgfresh needs PostgreSQL 14 or newer, this is %',
      current_setting('server_version');
  END IF;
  IF to_regnamespace('pgfresh') IS NULL THEN
    CREATE SCHEMA pgfresh;
  END IF;
END
$do$;

-- What event triggers run, they run in a superuser's sessions too: whoever could replace it there
-- could do anything. So a superuser takes over what an ordinary role has installed, and writes anew
-- all but the trigger functions of tables, which their owners go on watching.
DO $do$
DECLARE
  owner CONSTANT regrole := (SELECT nspowner FROM pg_namespace WHERE nspname = 'pgfresh');
  strangers CONSTANT oid[] := (SELECT array_agg(oid) FROM pg_roles WHERE NOT rolsuper);
  function regprocedure;
BEGIN
  IF quote_ident(current_user)::regrole = ANY (strangers) THEN
    RETURN;
  END IF;
  FOR function IN
    SELECT oid FROM pg_proc WHERE pronamespace = 'pgfresh'::regnamespace
      AND prorettype <> 'trigger'::regtype AND proowner = ANY (strangers)
  LOOP
    DROP EVENT TRIGGER IF EXISTS pgfresh_ddl_start;
    DROP EVENT TRIGGER IF EXISTS pgfresh_ddl_end;
    DROP EVENT TRIGGER IF EXISTS pgfresh_drop;
    DROP VIEW IF EXISTS pgfresh.status;
    EXECUTE format('DROP ROUTINE %s', function);
  END LOOP;
  IF owner = ANY (strangers) THEN
    ALTER SCHEMA pgfresh OWNER TO CURRENT_USER;
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA pgfresh TO %s', owner);
  END IF;
END
$do$;

COMMENT ON SCHEMA pgfresh IS 'pgfresh: tells caching proxies what was written';
GRANT USAGE ON SCHEMA pgfresh TO PUBLIC;
-- Views cannot change their columns in place, and the functions below are what they stand on.
DROP VIEW IF EXISTS pgfresh.status;

CREATE OR REPLACE FUNCTION pgfresh.version() RETURNS text
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT '1.0'::pg_catalog.text $$;

-- ---- Trees ------------------------------------------------------------------------------------

-- A table and everything below it, partitions and inheritance children alike.
CREATE OR REPLACE FUNCTION pgfresh.members(root oid) RETURNS SETOF oid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE tree(member) AS (
    SELECT root
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.member)
  SELECT member FROM tree
$$;

-- The top of a table's tree; with several parents on the way, one of several tops.
CREATE OR REPLACE FUNCTION pgfresh.root_of(relation oid) RETURNS oid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE up(member) AS (
    SELECT relation
    UNION
    SELECT i.inhparent FROM pg_inherits i JOIN up ON i.inhrelid = up.member)
  SELECT member FROM up
  WHERE NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = up.member)
  ORDER BY member LIMIT 1
$$;

-- ---- What may be watched ----------------------------------------------------------------------

-- Why a tree cannot be watched, with what to do about it; no row when it can.
CREATE OR REPLACE FUNCTION pgfresh.refusal(relation oid, OUT reason text, OUT hint text)
  RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT w.who || v.reason, v.hint
  FROM pgfresh.members(relation) AS m(member)
  JOIN pg_class c ON c.oid = m.member
  CROSS JOIN LATERAL (VALUES
    (1, c.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace,
                           'pg_toast'::regnamespace, 'pgfresh'::regnamespace),
     'is a system catalog', 'System catalogs have no triggers; what reads them is never cached.'),
    (2, c.relkind = 'v', 'is a view', 'Watch the tables it reads.'),
    (3, c.relkind = 'm', 'is a materialized view',
     'REFRESH fires no trigger, so what reads it is never cached; watch the tables it is made from.'),
    (4, c.relkind = 'f', 'is a foreign table',
     'Changes at the remote side are not seen, so what reads it is never cached.'),
    (5, c.relkind NOT IN ('r', 'p', 'v', 'm', 'f'), 'is not a table', 'Name a table.'),
    (6, c.relpersistence = 't', 'is a temporary table', 'Temporary tables are never cached.'),
    (7, c.relpersistence = 'u', 'is unlogged',
     'A crash empties it without a trigger; ALTER TABLE ... SET LOGGED first.'),
    (8, (SELECT count(*) FROM pg_inherits i WHERE i.inhrelid = c.oid) > 1,
     'inherits from several tables', 'A write can be mapped to one tree only.'),
    (9, c.oid = relation AND pgfresh.root_of(c.oid) <> c.oid,
     format('is a part of %s', pgfresh.root_of(c.oid)::regclass),
     format('A tree is watched as a whole: watch %s.', pgfresh.root_of(c.oid)::regclass))
  ) AS v(place, holds, reason, hint)
  CROSS JOIN LATERAL (SELECT CASE WHEN c.oid = relation THEN 'it ' ELSE
    format('its member %s ', c.oid::regclass) END AS who) AS w
  WHERE v.holds
  ORDER BY c.oid <> relation, v.place, c.oid LIMIT 1
$$;

-- A column whose values may stand in an event, and the SQL that gives them from a transition table
-- called `source`; `expression` is NULL for other types. `ascii`: the text can only be ASCII and is
-- at most 40 bytes long; should the column become one of text, unseen, the expression has no
-- meaning any more, which is why it does more than cast. Of long texts a part is enough to see that
-- they are too long.
CREATE OR REPLACE FUNCTION pgfresh.key_expression(type oid, collation_ oid, name name, source name,
                                                  OUT expression text, OUT ascii boolean)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
           WHEN type = 'bool'::regtype THEN
             format('CASE WHEN %1$I.%2$I THEN ''t'' WHEN NOT %1$I.%2$I THEN ''f'' END', source,
               name)
           WHEN type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN
             format('(%I.%I OPERATOR(pg_catalog.|) 0)::pg_catalog.text', source, name)
           WHEN type = 'uuid'::regtype THEN
             format('CASE WHEN %1$I.%2$I OPERATOR(pg_catalog.>=) ''00000000-0000-0000-0000-'
               '000000000000''::pg_catalog.uuid THEN %1$I.%2$I::pg_catalog.text END', source, name)
           WHEN type IN ('text'::regtype, 'varchar'::regtype)
                AND (SELECT collisdeterministic FROM pg_collation WHERE oid = collation_) THEN
             format('pg_catalog.left(%I.%I::pg_catalog.text, 8000)', source, name)
         END,
         type NOT IN ('text'::regtype, 'varchar'::regtype)
$$;

-- The names asked for, or the usable columns of the primary key; an error for what cannot be.
CREATE OR REPLACE FUNCTION pgfresh.chosen_columns(relation regclass, asked name[]) RETURNS name[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  wanted name;
  chosen name[] := '{}';
  found_type oid;
  usable boolean;
BEGIN
  IF asked IS NULL THEN
    RETURN coalesce((
      SELECT array_agg(a.attname ORDER BY k.place)
      FROM pg_index x
      CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
      JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
      CROSS JOIN LATERAL pgfresh.key_expression(a.atttypid, a.attcollation, a.attname, 'r') AS e
      WHERE x.indrelid = relation AND x.indisprimary AND k.place <= x.indnkeyatts
        AND e.expression IS NOT NULL), '{}');
  END IF;
  FOREACH wanted IN ARRAY asked LOOP
    SELECT a.atttypid, e.expression IS NOT NULL INTO found_type, usable
    FROM pg_attribute a
    CROSS JOIN LATERAL pgfresh.key_expression(a.atttypid, a.attcollation, a.attname, 'r') AS e
    WHERE a.attrelid = relation AND a.attname = wanted AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'column "%" of table % does not exist', wanted, relation
        USING ERRCODE = 'undefined_column';
    ELSIF NOT usable THEN
      RAISE EXCEPTION 'column "%" of table % cannot be a key column: its type is %', wanted,
        relation, format_type(found_type, NULL)
        USING ERRCODE = 'datatype_mismatch',
        HINT = 'Key columns are smallint, integer, bigint, uuid, boolean, text or varchar '
               'with a deterministic collation.';
    ELSIF wanted ~ '[\n\r]' THEN
      RAISE EXCEPTION 'column "%" of table % cannot be a key column: its name has a line break',
        wanted, relation USING ERRCODE = 'invalid_name';
    ELSIF wanted <> ALL (chosen) THEN
      chosen := chosen || wanted;
    END IF;
  END LOOP;
  IF cardinality(chosen) > 16 THEN
    RAISE EXCEPTION 'table % cannot have % key columns, 16 is the most', relation,
      cardinality(chosen) USING ERRCODE = 'too_many_columns';
  END IF;
  RETURN chosen;
END
$$;

-- ---- The trigger function ---------------------------------------------------------------------

-- The body for one tree. Every name in it is qualified, operators too: it runs with the writer's
-- search_path, and setting one at each call would cost more than all of the rest. (CASE, IS NULL
-- and GREATEST do not look operators up by name.)
--
-- Built for the write of one row that leaves the key columns as they are, none of them NULL: one
-- query without aggregates fetches the values, INTO STRICT says whether it was one row (LIMIT 2 is
-- for the planner: the product of two large tables would cost enough to be compiled), and what
-- follows are one expression or two that PL/pgSQL computes without a query (so pg_notify stands in
-- an IF, not in a PERFORM). PL/pgSQL prepares each expression anew in each transaction, whether or
-- not all of it is needed: so they are few, and a writer behind a proxy that publishes comes first.
-- Everything else takes a second query, that looks at 1000 rows at most.
--
-- It is declared STABLE, which a function that notifies is not: to a trigger that says nothing but
-- that its expressions need no new snapshot each.
--
-- An UPDATE can leave old rows without new ones: a row that was to move to a partition, and that a
-- trigger of that partition swallowed, is gone.
--
-- A column that is gone, renamed or of another type must never fail a write: its rows are unknown
-- then, or the head of the body shows proxies that a bool is not told as one (truths). Text that
-- the client's encoding does not have must not fail one either, and a notice has more text than its
-- own: its CONTEXT quotes what functions further up the stack do. So where PostgreSQL would
-- translate it, it is raised under the server's encoding.
CREATE OR REPLACE FUNCTION pgfresh.function_body(root regclass, columns name[]) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
  utf8 CONSTANT boolean := current_setting('server_encoding') = 'UTF8';
  not_ascii CONSTANT text := $$ OPERATOR(pg_catalog.~) '[^ -~]'$$;
  numbers text;     -- attnum of each column
  truths text;      -- of those that are told as t and f
  variables text;   -- their declarations
  names text;       -- the same, for INTO
  kept text;        -- SQL for the values that an UPDATE of one row left as they are
  inserted text;    -- for the values of pgfresh_new
  deleted text;     -- and of pgfresh_old; all three NULL where a value does not fit an event
  rows_ text;       -- the columns of a transition table called r, as k1, k2 ...
  known text;       -- the variables are not NULL
  told text;        -- the event of these values
  all_values text;  -- and from k1, k2 ...
  most text;        -- number of values of the column that has most
  any_text boolean;
  fast text := '';
  slow text := '';
  kind record;
BEGIN
  SELECT array_agg(c.attnum ORDER BY c.place)::text,
    (array_agg(c.attnum ORDER BY c.place) FILTER (WHERE c.truth))::text,
    string_agg(format(E'\n  value%s_ pg_catalog.text;', c.place), '' ORDER BY c.place),
    string_agg(format('value%s_', c.place), ', ' ORDER BY c.place),
    string_agg(format('CASE WHEN %s OPERATOR(pg_catalog.=) %s%s THEN %s END',
      coalesce(c.old || c.comparable, format('pgfresh_old.%I', c.attname)),
      coalesce(c.new || c.comparable, format('pgfresh_new.%I', c.attname)),
      ' AND ' || format(c.fitting, c.new), c.new), E',\n        ' ORDER BY c.place),
    string_agg(coalesce(format('CASE WHEN ' || c.fitting || ' THEN %1$s END', c.new), c.new), ', '
      ORDER BY c.place),
    string_agg(coalesce(format('CASE WHEN ' || c.fitting || ' THEN %1$s END', c.old), c.old), ', '
      ORDER BY c.place),
    string_agg(format('(%s) COLLATE pg_catalog."C" AS k%s', c.expression, c.place), ', '
      ORDER BY c.place),
    string_agg(format('value%s_ IS NOT NULL', c.place), ' AND ' ORDER BY c.place),
    format($$pg_catalog.format('1 %%s r %%s %s%s',
      pg_catalog.pg_current_xact_id(), TG_RELID, %s)$$, cardinality(columns),
      string_agg(format(' %s 1 %%s:%%s', c.attnum), '' ORDER BY c.place),
      string_agg(format('pg_catalog.octet_length(value%1$s_), value%1$s_', c.place), ', '
        ORDER BY c.place)),
    string_agg(format($$, ' %s ', pg_catalog.count(DISTINCT k%2$s),
              pg_catalog.string_agg(DISTINCT
                pg_catalog.concat(' ', pg_catalog.octet_length(k%2$s), ':', k%2$s), '')
                FILTER (WHERE k%2$s IS NOT NULL)$$, c.attnum, c.place), '' ORDER BY c.place),
    format('GREATEST(%s)', string_agg(format('pg_catalog.count(DISTINCT k%s)', c.place), ', ')),
    coalesce(bool_or(NOT c.ascii), false)
  INTO numbers, truths, variables, names, kept, inserted, deleted, rows_, known, told, all_values,
    most, any_text
  FROM (
    SELECT a.attname, a.attnum, a.atttypid = 'bool'::regtype AS truth, e.expression, e.ascii,
      (pgfresh.key_expression(a.atttypid, a.attcollation, a.attname, 'pgfresh_old')).expression
        AS old,
      (pgfresh.key_expression(a.atttypid, a.attcollation, a.attname, 'pgfresh_new')).expression
        AS new,
      CASE WHEN NOT e.ascii THEN ' COLLATE pg_catalog."C"' END AS comparable,
      CASE WHEN NOT e.ascii THEN 'pg_catalog.octet_length(%1$s) OPERATOR(pg_catalog.<=) 400'
        || CASE WHEN utf8 THEN '' ELSE ' AND NOT (%1$s)' || not_ascii END END
        AS fitting,
      row_number() OVER (ORDER BY n.place) AS place
    FROM unnest(columns) WITH ORDINALITY AS n(name, place)
    JOIN pg_attribute a ON a.attrelid = root AND a.attname = n.name AND NOT a.attisdropped
    CROSS JOIN LATERAL pgfresh.key_expression(a.atttypid, a.attcollation, a.attname, 'r') AS e
  ) AS c;

  FOR kind IN
    SELECT CASE WHEN v.place = 1 THEN 'IF' ELSE 'ELSIF' END AS if_, v.*,
      CASE v.op WHEN 'UPDATE' THEN format('SELECT %1$s FROM pgfresh_old AS r UNION ALL '
        'SELECT %1$s FROM pgfresh_new AS r', rows_)
      ELSE format('SELECT %s FROM %s AS r', rows_, v.changed) END AS source
    FROM (VALUES
      (1, 'UPDATE', 'pgfresh_new', kept, 'pgfresh_old, pgfresh_new'),
      (2, 'INSERT', 'pgfresh_new', inserted, 'pgfresh_new'),
      (3, 'DELETE', 'pgfresh_old', deleted, 'pgfresh_old')
    ) AS v(place, op, changed, picked, tables)
    ORDER BY v.place
  LOOP
    fast := fast || format($$
    %s TG_OP OPERATOR(pg_catalog.=) '%s' THEN
      SELECT %s INTO STRICT %s FROM %s;$$, kind.if_, kind.op,
      coalesce(kind.picked, 'true'), coalesce(names, 'hopeless_'),
      CASE WHEN numbers IS NULL THEN kind.changed || ' LIMIT 1' ELSE kind.tables || ' LIMIT 2' END);
    slow := slow || format($$
      %s TG_OP OPERATOR(pg_catalog.=) '%s' THEN
        SELECT CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.<=) 1000 AND
            %s OPERATOR(pg_catalog.<=) 64 THEN
          pg_catalog.concat('1 ', pg_catalog.pg_current_xact_id(), ' r ', TG_RELID, ' %s'%s) END
        INTO event_ FROM (%s LIMIT 1001) AS changed;$$, kind.if_, kind.op, most,
      cardinality(columns), all_values, kind.source);
  END LOOP;

  RETURN format($$
-- Written by pgfresh.watch(), explained at pgfresh.function_body() in install.sql.
-- columns: %s
-- numbers: %s
-- truths: %s
#variable_conflict use_column
DECLARE
  event_ pg_catalog.text;     -- what to tell; NULL: not known yet
  hopeless_ pg_catalog.bool;  -- true: no use asking which rows
  encoding_ pg_catalog.text;  -- the client's
  translated_ pg_catalog.bool;%s
BEGIN
  BEGIN%s
    ELSE
      hopeless_ := true;
    END IF;
  EXCEPTION
    WHEN no_data_found THEN
      IF TG_OP OPERATOR(pg_catalog.<>) 'UPDATE' THEN
        RETURN NULL;
      ELSIF NOT EXISTS (SELECT FROM pgfresh_old) THEN
        RETURN NULL;
      END IF;
    WHEN too_many_rows THEN
      NULL;
    WHEN undefined_column OR undefined_table OR undefined_function OR datatype_mismatch THEN
      hopeless_ := true;
  END;$$, columns, coalesce(numbers, '{}'), coalesce(truths, '{}'), variables, fast)
  || CASE WHEN numbers IS NULL THEN '' ELSE format($$
  IF (%1$s%2$s
      AND pg_catalog.current_setting('pgfresh.inband', true) OPERATOR(pg_catalog.=) 'carry') THEN
    RAISE INFO SQLSTATE 'PF001' USING MESSAGE = %3$s, DETAIL = 'carry';
    RETURN NULL;
  END IF;
  IF (CASE WHEN NOT (%1$s) THEN false
           WHEN pg_catalog.current_setting('pgfresh.inband', true) OPERATOR(pg_catalog.<>) '' THEN
             false
           ELSE pg_catalog.pg_notify('pgfresh', %3$s) IS NOT NULL END) THEN
    RETURN NULL;
  END IF;
  IF (%1$s) THEN
    event_ := %3$s;
  ELSIF hopeless_ IS NULL THEN
    BEGIN%4$s
      END IF;
    EXCEPTION WHEN undefined_column OR undefined_table OR datatype_mismatch THEN
      NULL;
    END;
    IF pg_catalog.octet_length(event_) OPERATOR(pg_catalog.>=) 8000%5$s THEN
      event_ := NULL;
    END IF;
  END IF;$$, known, format($$
      AND pg_catalog.pg_client_encoding() OPERATOR(pg_catalog.=) %L$$,
      current_setting('server_encoding')), told, slow,
    CASE WHEN any_text AND NOT utf8 THEN ' OR event_' || not_ascii END) END
  || $$
  IF event_ IS NULL THEN
    event_ := pg_catalog.concat('1 ', pg_catalog.pg_current_xact_id(), ' w ', TG_RELID);
  END IF;
  IF pg_catalog.current_setting('pgfresh.inband', true) OPERATOR(pg_catalog.=)
      ANY (ARRAY['on', 'carry']) THEN
    encoding_ := pg_catalog.pg_client_encoding();
    translated_ := encoding_ OPERATOR(pg_catalog.<>)
      pg_catalog.current_setting('server_encoding');
    IF translated_ THEN
      -- A function that the writer may not execute must not even be looked at. What is told then
      -- must read the same in the client's encoding.
      translated_ := pg_catalog.has_function_privilege(
        'pg_catalog.set_config(pg_catalog.text, pg_catalog.text, pg_catalog.bool)', 'EXECUTE');
      IF NOT translated_ THEN
        event_ := pg_catalog.concat('1 ', pg_catalog.pg_current_xact_id(), ' w ', TG_RELID);
      END IF;
    END IF;
    IF translated_ THEN
      IF pg_catalog.set_config('client_encoding', pg_catalog.current_setting('server_encoding'),
                               true) IS NULL THEN
        RETURN NULL;
      END IF;
    END IF;
    RAISE INFO SQLSTATE 'PF001' USING DETAIL = pg_catalog.current_setting('pgfresh.inband'),
      MESSAGE = event_;
    IF translated_ THEN
      IF pg_catalog.set_config('client_encoding', encoding_, true) IS NULL THEN
        RETURN NULL;
      END IF;
    END IF;
    IF pg_catalog.current_setting('pgfresh.inband') OPERATOR(pg_catalog.=) 'carry' THEN
      RETURN NULL;
    END IF;
  END IF;
  IF pg_catalog.pg_notify('pgfresh', event_) IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN NULL;
END
$$;
END
$fn$;

-- What a trigger function of ours reports, from the head of its body; NULL for other functions.
CREATE OR REPLACE FUNCTION pgfresh.body_columns(function oid) RETURNS name[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT substring(p.prosrc FROM '\n-- columns: ([^\n]*)\n')::name[]
  FROM pg_proc p WHERE p.oid = function AND p.pronamespace = 'pgfresh'::regnamespace
$$;

CREATE OR REPLACE FUNCTION pgfresh.body_numbers(function oid) RETURNS int2[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT substring(p.prosrc FROM '\n-- numbers: ([^\n]*)\n')::int2[]
  FROM pg_proc p WHERE p.oid = function AND p.pronamespace = 'pgfresh'::regnamespace
$$;

-- ---- Triggers ---------------------------------------------------------------------------------

-- The four triggers a member must have, and a fifth one where it is partitioned. `type` as
-- pg_trigger.tgtype has it for AFTER ... FOR EACH STATEMENT (src/include/catalog/pg_trigger.h).
--
-- A MERGE that moves a row to another partition puts it into the transition tables of DELETE and
-- INSERT, whose triggers it does not fire unless it deletes and inserts, too; UPDATE's triggers see
-- nothing of it. So an UPDATE of the columns that decide where a row lies is told by a trigger
-- without transition tables, which makes its function say that the rows are unknown.
CREATE OR REPLACE FUNCTION pgfresh.trigger_kinds(OUT name name, OUT event text, OUT type int2,
                                                 OUT old_table name, OUT new_table name)
  RETURNS SETOF record
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  VALUES ('pgfresh_insert'::name, 'INSERT', 4::int2, NULL::name, 'pgfresh_new'::name),
         ('pgfresh_delete', 'DELETE', 8::int2, 'pgfresh_old', NULL),
         ('pgfresh_update', 'UPDATE', 16::int2, 'pgfresh_old', 'pgfresh_new'),
         ('pgfresh_truncate', 'TRUNCATE', 32::int2, NULL, NULL),
         ('pgfresh_moved', 'UPDATE', 16::int2, NULL, NULL)
$$;

-- Its columns, as in pg_trigger.tgattr: those in the partition keys of a table and of everything
-- below it. Empty, which means any column: a key is an expression, or rows pass through a trigger
-- that may change them on their way.
CREATE OR REPLACE FUNCTION pgfresh.moving_columns(relation oid) RETURNS int2vector
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(CASE WHEN NOT EXISTS (
      SELECT FROM pg_trigger t WHERE t.tgrelid IN (SELECT pgfresh.members(relation))
        AND t.tgtype & 19 = 19)  -- BEFORE UPDATE ... FOR EACH ROW
    AND bool_and(o.attnum IS NOT NULL)
    THEN string_agg(DISTINCT o.attnum::text, ' ') END, '')::int2vector
  FROM pgfresh.members(relation) AS m(member)
  JOIN pg_partitioned_table k ON k.partrelid = m.member
  CROSS JOIN LATERAL unnest(k.partattrs::int2[]) AS n(attnum)
  LEFT JOIN pg_attribute a ON a.attrelid = m.member AND a.attnum = n.attnum AND n.attnum > 0
  LEFT JOIN pg_attribute o ON o.attrelid = relation AND o.attname = a.attname AND NOT o.attisdropped
$$;

-- This trigger of a relation fires for each UPDATE that may move a row; true of other kinds.
CREATE OR REPLACE FUNCTION pgfresh.moves(relation oid, trigger name) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT trigger <> 'pgfresh_moved' OR EXISTS (
    SELECT FROM pg_trigger t CROSS JOIN pgfresh.moving_columns(relation) AS m(wanted)
    WHERE t.tgrelid = relation AND t.tgname = trigger AND (t.tgattr = ''::int2vector
      OR m.wanted <> ''::int2vector AND m.wanted::int2[] <@ t.tgattr::int2[]))
$$;

-- This trigger names columns that no longer decide anything, and that nobody could drop therefore.
CREATE OR REPLACE FUNCTION pgfresh.binds(relation oid, trigger name) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (
    SELECT FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgname = trigger
      AND NOT t.tgattr::int2[] <@ pgfresh.moving_columns(relation)::int2[])
$$;

-- The trigger is one that a member of this kind must have.
CREATE OR REPLACE FUNCTION pgfresh.needs(relation oid, trigger name) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT trigger <> 'pgfresh_moved' OR EXISTS (
    SELECT FROM pg_class c WHERE c.oid = relation AND c.relkind = 'p')
$$;

-- Every trigger of ours, right or not: relation, its kind's name, function, tgenabled, and whether
-- it is made as it should be (of pgfresh_moved, all but its columns).
CREATE OR REPLACE FUNCTION pgfresh.triggers(OUT relation oid, OUT name name, OUT function oid,
                                            OUT enabled "char", OUT sound boolean)
  RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.tgrelid, t.tgname, t.tgfoid, t.tgenabled,
    k.type IS NOT DISTINCT FROM t.tgtype AND t.tgqual IS NULL
      AND (t.tgattr = ''::int2vector OR k.name = 'pgfresh_moved')
      AND t.tgoldtable IS NOT DISTINCT FROM k.old_table
      AND t.tgnewtable IS NOT DISTINCT FROM k.new_table
  FROM pg_trigger t
  JOIN pg_proc p ON p.oid = t.tgfoid AND p.pronamespace = 'pgfresh'::regnamespace
                 AND p.proname LIKE 'changed\_%'
  LEFT JOIN pgfresh.trigger_kinds() k ON k.name = t.tgname
$$;

-- The trigger function of a tree: the one its root's triggers call, if no other tree's do (a table
-- that was detached keeps its triggers), else a name that is free.
CREATE OR REPLACE FUNCTION pgfresh.function_of(root oid, OUT function oid, OUT name name)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  serial int := 0;
BEGIN
  SELECT t.function, p.proname INTO function, name
  FROM pgfresh.triggers() t JOIN pg_proc p ON p.oid = t.function
  WHERE t.relation = root AND NOT EXISTS (
    SELECT FROM pgfresh.triggers() o
    WHERE o.function = t.function AND o.relation NOT IN (SELECT pgfresh.members(root)))
  ORDER BY t.name LIMIT 1;
  WHILE name IS NULL LOOP
    name := format(CASE serial WHEN 0 THEN 'changed_%s' ELSE 'changed_%s_%s' END, root, serial);
    IF EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = 'pgfresh'::regnamespace
                 AND p.proname = function_of.name) THEN
      name := NULL;
      serial := serial + 1;
    END IF;
  END LOOP;
END
$$;

-- Removes the trigger functions that no trigger calls.
CREATE OR REPLACE FUNCTION pgfresh.sweep() RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  unused oid;
BEGIN
  FOR unused IN
    SELECT p.oid FROM pg_proc p
    WHERE p.pronamespace = 'pgfresh'::regnamespace AND p.proname LIKE 'changed\_%'
      AND pg_has_role(p.proowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid)
  LOOP
    EXECUTE format('DROP FUNCTION %s', unused::regprocedure);
  END LOOP;
END
$$;

-- Brings the function and the triggers of a tree to what they should be; does nothing where they
-- are. `disabled` says what happens to a trigger somebody has disabled: 'enable' or 'leave'.
CREATE OR REPLACE FUNCTION pgfresh.cover(root regclass, columns name[], disabled text)
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  body text := pgfresh.function_body(root, columns);
  had oid;
  called name;
  wanted record;
  now_ record;
  only_of text;
  guard text := coalesce(current_setting('pgfresh.covering', true), '');
BEGIN
  -- The event trigger, which these commands fire, need not do the same again meanwhile.
  PERFORM set_config('pgfresh.covering', 'on', true);
  SELECT f.function, f.name INTO had, called FROM pgfresh.function_of(root) AS f;
  IF had IS NULL OR (SELECT p.prosrc FROM pg_proc p WHERE p.oid = had) <> body THEN
    EXECUTE format('CREATE OR REPLACE FUNCTION pgfresh.%I() RETURNS trigger LANGUAGE plpgsql '
      'STABLE AS %L', called, body);
    IF had IS NULL THEN
      -- Firing needs no right; only a new trigger does, and those are made here.
      EXECUTE format('REVOKE ALL ON FUNCTION pgfresh.%I() FROM PUBLIC', called);
    END IF;
  END IF;
  had := (SELECT p.oid FROM pg_proc p WHERE p.proname = called
          AND p.pronamespace = 'pgfresh'::regnamespace);
  FOR wanted IN
    SELECT m.member::regclass AS member, k.* FROM pgfresh.members(root) AS m(member)
    CROSS JOIN pgfresh.trigger_kinds() AS k WHERE pgfresh.needs(m.member, k.name)
    ORDER BY m.member, k.type, k.name DESC
  LOOP
    SELECT t.enabled, t.sound AND pgfresh.moves(t.relation, t.name)
      AND NOT pgfresh.binds(t.relation, t.name) AS sound INTO now_
    FROM pgfresh.triggers() t
    WHERE t.relation = wanted.member AND t.name = wanted.name AND t.function = had;
    IF now_.sound IS NOT TRUE THEN
      SELECT ' OF ' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO only_of
      FROM pg_attribute a WHERE wanted.name = 'pgfresh_moved' AND a.attrelid = wanted.member
        AND a.attnum = ANY (pgfresh.moving_columns(wanted.member)::int2[]);
      EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER %s%s ON %s %s %s %s FOR EACH STATEMENT '
        'EXECUTE FUNCTION pgfresh.%I()', wanted.name, wanted.event, only_of, wanted.member,
        CASE WHEN coalesce(wanted.old_table, wanted.new_table) IS NOT NULL THEN 'REFERENCING' END,
        'OLD TABLE AS ' || wanted.old_table, 'NEW TABLE AS ' || wanted.new_table, called);
    END IF;
    IF now_.enabled = 'D' AND disabled = 'leave' THEN
      -- A trigger that was replaced fires again.
      IF now_.sound IS NOT TRUE THEN
        EXECUTE format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', wanted.member, wanted.name);
      END IF;
    ELSIF now_.enabled IS DISTINCT FROM 'A' OR now_.sound IS NOT TRUE THEN
      EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', wanted.member, wanted.name);
    END IF;
  END LOOP;
  PERFORM set_config('pgfresh.covering', guard, true);
END
$$;

-- ---- Events about the schema ------------------------------------------------------------------

CREATE OR REPLACE FUNCTION pgfresh.send_schema_event() RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  event text := concat('1 ', pg_current_xact_id(), ' s');
  inband text := coalesce(current_setting('pgfresh.inband', true), '');
  encoding text := pg_client_encoding();
BEGIN
  IF inband IN ('on', 'carry') THEN
    -- The notice must not be translated: see pgfresh.function_body().
    PERFORM set_config('client_encoding', current_setting('server_encoding'), true);
    RAISE INFO USING ERRCODE = 'PF001', MESSAGE = event, DETAIL = inband;
    PERFORM set_config('client_encoding', encoding, true);
  END IF;
  IF inband <> 'carry' THEN
    PERFORM pg_notify('pgfresh', event);
  END IF;
END
$$;

-- After DDL on a table: what is now in a watched tree, or has left one, gets its own coverage; key
-- columns follow their names, else their numbers. Trouble is a warning: the command succeeds, the
-- table is no longer complete in pgfresh.status, and so no longer cached.
CREATE OR REPLACE FUNCTION pgfresh.follow(altered oid) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  root regclass;
  kept name[];
  trouble text;
BEGIN
  FOR root IN
    -- The altered table's tree, and the trees of tables that share its trigger function.
    SELECT DISTINCT pgfresh.root_of(t.relation) FROM pgfresh.triggers() t
    WHERE t.relation IN (SELECT pgfresh.members(pgfresh.root_of(altered)))
       OR t.function IN (SELECT o.function FROM pgfresh.triggers() o WHERE o.relation = altered)
  LOOP
    BEGIN
      SELECT r.reason INTO trouble FROM pgfresh.refusal(root) AS r;
      IF trouble IS NOT NULL THEN
        RAISE WARNING 'pgfresh: % can no longer be watched: %', root, trouble;
        CONTINUE;
      END IF;
      kept := pgfresh.kept_columns(root);
      IF kept IS NOT NULL THEN
        PERFORM pgfresh.cover(root, kept, 'leave');
      END IF;
    EXCEPTION WHEN OTHERS THEN
      RAISE WARNING 'pgfresh: the triggers of % could not be renewed: %', root, SQLERRM
        USING HINT = format('Call pgfresh.watch(%L).', root);
    END;
  END LOOP;
END
$$;

-- The key columns of a watched tree by their present names; NULL when its root is not watched.
CREATE OR REPLACE FUNCTION pgfresh.kept_columns(root regclass) RETURNS name[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce((
    SELECT array_agg(k.attname ORDER BY k.place) FROM (
      SELECT DISTINCT ON (a.attname) a.attname, h.place
      FROM unnest(pgfresh.body_columns(f.function), pgfresh.body_numbers(f.function))
        WITH ORDINALITY AS h(name, number, place)
      CROSS JOIN LATERAL (
        SELECT c.attname, c.atttypid, c.attcollation FROM pg_attribute c
        WHERE c.attrelid = root AND NOT c.attisdropped AND (c.attname = h.name OR
          c.attnum = h.number)
        ORDER BY c.attname <> h.name LIMIT 1) AS a
      CROSS JOIN LATERAL pgfresh.key_expression(a.atttypid, a.attcollation, a.attname, 'r') AS e
      WHERE e.expression IS NOT NULL
      ORDER BY a.attname, h.place) AS k), '{}')
  FROM (SELECT t.function FROM pgfresh.triggers() t WHERE t.relation = root
        ORDER BY t.name LIMIT 1) AS f
$$;

-- What begins a piece of work has jit off: the planner deems some queries of the catalog dear enough
-- to be compiled, which takes a tenth of a second for what is done in a millisecond.

-- Runs as the owner of the schema, because who may create a partition need not be allowed to create
-- triggers. It takes nothing from the command but object identifiers.
CREATE OR REPLACE FUNCTION pgfresh.ddl_end() RETURNS event_trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
  objects int;
  temporary int;
  altered oid;
BEGIN
  -- No answer can depend on these. A plain DROP that drops something is told by pgfresh_drop.
  IF TG_TAG IN ('REINDEX', 'COMMENT', 'CREATE STATISTICS', 'ALTER STATISTICS')
     OR (TG_TAG LIKE 'DROP %' AND TG_TAG <> 'DROP OWNED') THEN
    RETURN;
  END IF;
  -- Nor on an index, but where it stands in front of a table of its name in a search_path.
  IF TG_TAG = 'CREATE INDEX' AND NOT EXISTS (
       SELECT FROM pg_event_trigger_ddl_commands() AS c
       CROSS JOIN LATERAL pgfresh.members(c.objid) AS m(member)
       JOIN pg_class i ON i.oid = m.member
       JOIN pg_class o ON o.relname = i.relname AND o.relkind NOT IN ('i', 'I', 't')) THEN
    RETURN;
  END IF;
  SELECT count(*), count(*) FILTER (WHERE c.schema_name = 'pg_temp') INTO objects, temporary
  FROM pg_event_trigger_ddl_commands() AS c;
  -- CREATE ... IF NOT EXISTS of what exists; the creator of a temporary object alone can see it.
  IF objects = 0 AND TG_TAG IN ('CREATE TABLE', 'CREATE SCHEMA', 'CREATE SEQUENCE',
                                'CREATE EXTENSION')
     OR objects > 0 AND temporary = objects THEN
    RETURN;
  END IF;
  PERFORM pgfresh.send_schema_event();
  IF TG_TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE TRIGGER') AND
     coalesce(current_setting('pgfresh.covering', true), '') <> 'on' THEN
    FOR altered IN SELECT DISTINCT coalesce(t.tgrelid, c.objid)
                   FROM pg_event_trigger_ddl_commands() AS c
                   LEFT JOIN pg_trigger t
                     ON t.oid = c.objid AND c.classid = 'pg_trigger'::regclass
                   WHERE c.classid = 'pg_class'::regclass
                     AND c.object_type IN ('table', 'table column')
                     -- It may move rows between partitions: see pgfresh.moving_columns().
                     OR t.tgtype & 19 = 19 AND EXISTS (
                       SELECT FROM pg_inherits i WHERE t.tgrelid IN (i.inhrelid, i.inhparent)) LOOP
      PERFORM pgfresh.follow(altered);
    END LOOP;
  END IF;
END
$$;

-- ALTER TABLE ... DETACH PARTITION ... CONCURRENTLY commits twice: with the first the partition is
-- gone for everybody, and what is told at the end of the command comes with the second, which waits
-- for all who still look at it. This event comes with the first. It can only be a statement that the
-- client sent by itself. NOTIFY alone, for what a notice opens stays open until the command's end.
CREATE OR REPLACE FUNCTION pgfresh.ddl_start() RETURNS event_trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
  IF TG_TAG = 'ALTER TABLE' AND current_query() ~* 'concurrently' THEN
    PERFORM pg_notify('pgfresh', concat('1 ', pg_current_xact_id(), ' s'));
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION pgfresh.dropped() RETURNS event_trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
  root oid;
BEGIN
  -- What ALTER and the like drop on the way is told at their end.
  IF TG_TAG LIKE 'DROP %' AND TG_TAG NOT IN ('DROP INDEX', 'DROP STATISTICS', 'DROP OWNED') AND
     EXISTS (SELECT FROM pg_event_trigger_dropped_objects() AS d WHERE NOT d.is_temporary) THEN
    PERFORM pgfresh.send_schema_event();
  END IF;
  -- With a partition, its own partition key may be gone.
  IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() AS d
             WHERE d.object_type = 'table' AND NOT d.is_temporary) THEN
    FOR root IN SELECT t.relation FROM pgfresh.triggers() t
                WHERE t.name = 'pgfresh_moved' AND pgfresh.binds(t.relation, t.name) LOOP
      PERFORM pgfresh.follow(root);
    END LOOP;
  END IF;
END
$$;

-- ---- What people call -------------------------------------------------------------------------

-- Watches a table with all its partitions or children, now and, where event triggers are installed,
-- later; returns its key columns. By default those are the columns of the primary key that can be.
-- Calling it again changes the key columns and enables triggers that were disabled.
CREATE OR REPLACE FUNCTION pgfresh.watch("table" regclass, key_columns name[] DEFAULT NULL)
  RETURNS name[] LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
  refused record;
  chosen name[];
BEGIN
  IF "table" IS NULL THEN
    RAISE EXCEPTION 'pgfresh.watch() needs a table' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  SELECT * INTO refused FROM pgfresh.refusal("table");
  IF FOUND THEN
    RAISE EXCEPTION 'pgfresh cannot watch %: %', "table", refused.reason
      USING ERRCODE = 'wrong_object_type', HINT = refused.hint;
  END IF;
  IF NOT has_schema_privilege('pgfresh', 'CREATE') THEN
    RAISE EXCEPTION 'permission denied for schema pgfresh' USING ERRCODE = 'insufficient_privilege',
      HINT = format('Have its owner say: GRANT CREATE ON SCHEMA pgfresh TO %I;', current_user);
  END IF;
  chosen := pgfresh.chosen_columns("table", key_columns);
  IF EXISTS (SELECT FROM pg_subscription_rel s
             WHERE s.srrelid IN (SELECT pgfresh.members("table"))) THEN
    RAISE WARNING 'pgfresh: % is written by a subscription, which fires no statement triggers',
      "table" USING HINT = 'It is watched, but must not be cached without a time to live.';
  END IF;
  PERFORM pgfresh.cover("table", chosen, 'enable');
  PERFORM pgfresh.sweep();
  PERFORM pgfresh.send_schema_event();
  RETURN chosen;
END
$$;

-- Watches every table of a schema that can be, with a notice for each other one. Tables already
-- watched keep their key columns. Returns the tables that are watched then.
CREATE OR REPLACE FUNCTION pgfresh.watch_schema(schema name) RETURNS SETOF regclass
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
  namespace regnamespace := to_regnamespace(quote_ident(schema));
  relation regclass;
  extension name;
  refused record;
  hint text;
BEGIN
  IF namespace IS NULL THEN
    RAISE EXCEPTION 'schema "%" does not exist', schema USING ERRCODE = 'invalid_schema_name';
  END IF;
  FOR relation, extension IN
    SELECT c.oid, x.extname FROM pg_class c
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
      AND d.objsubid = 0 AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
    LEFT JOIN pg_extension x ON x.oid = d.refobjid
    WHERE c.relnamespace = namespace AND c.relkind IN ('r', 'p', 'f', 'm')
      AND NOT (c.relispartition AND (SELECT r.relnamespace FROM pg_class r
                                     WHERE r.oid = pgfresh.root_of(c.oid)) = namespace)
    ORDER BY c.relname
  LOOP
    SELECT * INTO refused FROM pgfresh.refusal(relation);
    IF FOUND THEN
      RAISE NOTICE 'pgfresh: % skipped: %', relation, refused.reason USING HINT = refused.hint;
    ELSIF extension IS NOT NULL THEN
      RAISE NOTICE 'pgfresh: % skipped: it belongs to extension %', relation, extension
        USING HINT = 'It can be watched by name.';
    ELSE
      BEGIN
        PERFORM pgfresh.watch(relation, pgfresh.kept_columns(relation));
        RETURN NEXT relation;
      EXCEPTION WHEN insufficient_privilege THEN
        GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
        RAISE NOTICE 'pgfresh: % skipped: %', relation, concat_ws('. ', SQLERRM, nullif(hint, ''));
      END;
    END IF;
  END LOOP;
END
$$;

-- Takes the triggers off a table and everything below it. False: there were none.
CREATE OR REPLACE FUNCTION pgfresh.unwatch("table" regclass) RETURNS boolean
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
  relation regclass;
  name name;
  found_any boolean := false;
  guard text := coalesce(current_setting('pgfresh.covering', true), '');
BEGIN
  PERFORM set_config('pgfresh.covering', 'on', true);
  FOR relation, name IN
    SELECT t.relation, t.name FROM pgfresh.triggers() t
    WHERE t.relation IN (SELECT pgfresh.members("table")) ORDER BY 1, 2
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', name, relation);
    found_any := true;
  END LOOP;
  PERFORM pgfresh.sweep();
  PERFORM set_config('pgfresh.covering', guard, true);
  IF found_any THEN
    PERFORM pgfresh.send_schema_event();
  END IF;
  RETURN found_any;
END
$$;

-- ---- What there is ----------------------------------------------------------------------------

-- One row per tree that has any trigger of ours. `complete`: the proxy may cache it. `why_not`:
-- the first thing that is missing. `event_triggers`: both are there and ENABLE ALWAYS; without
-- them a table can be complete, but new partitions are not covered and DDL by others is seen by
-- polling only.
CREATE VIEW pgfresh.status AS
WITH ours AS MATERIALIZED (
  SELECT * FROM pgfresh.triggers()
), roots AS (
  SELECT DISTINCT pgfresh.root_of(relation) AS root FROM ours
), members AS (
  SELECT r.root, m.member,
    NOT EXISTS (SELECT FROM pgfresh.trigger_kinds() k WHERE pgfresh.needs(m.member, k.name)
      AND NOT EXISTS (SELECT FROM ours t
        WHERE t.name = k.name AND t.relation = m.member AND t.sound
          AND pgfresh.moves(t.relation, t.name))) AS present,
    NOT EXISTS (SELECT FROM pgfresh.trigger_kinds() k WHERE pgfresh.needs(m.member, k.name)
      AND NOT EXISTS (SELECT FROM ours t WHERE t.name = k.name AND t.relation = m.member
        AND t.sound AND t.enabled = 'A')) AS always,
    EXISTS (SELECT FROM pg_catalog.pg_subscription_rel s WHERE s.srrelid = m.member) AS subscribed
  FROM roots r CROSS JOIN LATERAL pgfresh.members(r.root) AS m(member)
), heads AS (
  SELECT r.root,
    (SELECT t.function FROM ours t WHERE t.relation = r.root ORDER BY t.name LIMIT 1) AS function,
    (SELECT pg_catalog.count(DISTINCT t.function) FROM ours t
     WHERE t.relation IN (SELECT pgfresh.members(r.root))) AS functions
  FROM roots r
), sums AS (
  SELECT h.root, pgfresh.body_columns(h.function) AS key_columns,
    -- Names and numbers in the body must be those of the root: they are not after a RENAME that no
    -- event trigger followed, nor after a restore of a table that had dropped columns.
    h.functions > 1 OR EXISTS (
      SELECT FROM ROWS FROM (
        pg_catalog.unnest(pgfresh.body_columns(h.function)),
        pg_catalog.unnest(pgfresh.body_numbers(h.function))) AS b(name, number)
      WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = h.root AND a.attname = b.name
          AND a.attnum = b.number AND NOT a.attisdropped)) AS moved,
    (SELECT pg_catalog.count(*) FROM members m WHERE m.root = h.root) AS members,
    (SELECT pg_catalog.count(*) FROM members m WHERE m.root = h.root AND m.present)
      AS members_covered,
    (SELECT pg_catalog.bool_and(m.always) FROM members m WHERE m.root = h.root) AS enabled_always,
    (SELECT m.member FROM members m WHERE m.root = h.root AND NOT m.present ORDER BY 1 LIMIT 1)
      AS uncovered,
    (SELECT m.member FROM members m WHERE m.root = h.root AND NOT m.always ORDER BY 1 LIMIT 1)
      AS not_always,
    (SELECT m.member FROM members m WHERE m.root = h.root AND m.subscribed ORDER BY 1 LIMIT 1)
      AS subscribed,
    (SELECT f.reason FROM pgfresh.refusal(h.root) AS f) AS refused,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_event_trigger e
     JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid
     JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'pgfresh'
     WHERE e.evtname IN ('pgfresh_ddl_end', 'pgfresh_drop') AND e.evtenabled = 'A') = 2
      AS event_triggers
  FROM heads h
), verdicts AS (
  SELECT *, CASE
    WHEN refused IS NOT NULL THEN refused
    WHEN uncovered IS NOT NULL THEN pg_catalog.format(
      'triggers missing on %s: call pgfresh.watch again', uncovered::pg_catalog.regclass)
    WHEN not_always IS NOT NULL THEN pg_catalog.format(
      'triggers disabled or not ENABLE ALWAYS on %s: call pgfresh.watch again',
      not_always::pg_catalog.regclass)
    WHEN subscribed IS NOT NULL THEN pg_catalog.format(
      'a subscription writes %s without firing statement triggers',
      subscribed::pg_catalog.regclass)
    WHEN moved THEN 'key columns were renamed, dropped or moved: call pgfresh.watch again'
    END AS why_not
  FROM sums)
SELECT root::pg_catalog.regclass AS relation, key_columns, members, members_covered,
  enabled_always, event_triggers, why_not IS NULL AS complete, why_not
FROM verdicts ORDER BY root::pg_catalog.regclass::pg_catalog.text;

GRANT SELECT ON pgfresh.status TO PUBLIC;

-- ---- Event triggers, and what is already watched ----------------------------------------------

SET LOCAL client_min_messages = notice;

DO $do$
DECLARE
  missing boolean := false;
  wanted record;
BEGIN
  FOR wanted IN VALUES ('pgfresh_ddl_start', 'ddl_command_start', 'ddl_start'),
                       ('pgfresh_ddl_end', 'ddl_command_end', 'ddl_end'),
                       ('pgfresh_drop', 'sql_drop', 'dropped') LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = wanted.column1
                     AND evtevent = wanted.column2 AND evtenabled = 'A'
                     AND evtfoid = format('pgfresh.%s()', wanted.column3)::regprocedure) THEN
        IF EXISTS (SELECT FROM pg_event_trigger WHERE evtname = wanted.column1) THEN
          EXECUTE format('DROP EVENT TRIGGER %I', wanted.column1);
        END IF;
        EXECUTE format('CREATE EVENT TRIGGER %I ON %s EXECUTE FUNCTION pgfresh.%I()',
          wanted.column1, wanted.column2, wanted.column3);
        EXECUTE format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', wanted.column1);
      END IF;
    EXCEPTION WHEN insufficient_privilege THEN
      missing := true;
    END;
  END LOOP;
  IF missing THEN
    RAISE NOTICE 'pgfresh: role % may not create event triggers', current_user
      USING DETAIL = 'DDL through the proxy is seen on the wire; DDL by others is seen when the '
        'proxy next polls the catalog. New partitions are not covered by themselves, and their '
        'tree is not cached until pgfresh.watch() is called again.',
      HINT = 'Run this script once as a superuser.';
  END IF;
END
$do$;

-- An upgrade writes the functions of watched tables anew. Tables of other owners, which the
-- installing role may not touch, keep theirs.
DO $do$
DECLARE
  root regclass;
BEGIN
  FOR root IN SELECT DISTINCT pgfresh.root_of(t.relation) FROM pgfresh.triggers() t LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pgfresh.refusal(root)) THEN
        PERFORM pgfresh.cover(root, pgfresh.kept_columns(root), 'leave');
      END IF;
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE NOTICE 'pgfresh: the triggers of % are not renewed: %', root, SQLERRM
        USING HINT = 'Its owner can call pgfresh.watch().';
    END;
  END LOOP;
  PERFORM pgfresh.sweep();
  PERFORM pgfresh.send_schema_event();
END
$do$;

COMMIT;
