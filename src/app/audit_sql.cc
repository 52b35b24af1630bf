#include "app/audit_sql.h"

#include <charconv>
#include <string>

#include "query/moving_sql.h"

namespace pgfresh::app {
namespace {

// Trees as pgfresh.members() has them, triggers as pgfresh.triggers() judges them
// (sql/install.sql); written out, because the schema may be missing, old, or half removed.
constexpr std::string_view kAuditSqlHead = R"sql(
SET LOCAL statement_timeout = '8s';
SET LOCAL jit = off;
SET LOCAL search_path = pg_catalog, pg_temp;
WITH RECURSIVE
kinds(name, type, old_table, new_table) AS (
  VALUES ('pgfresh_insert'::name, 4::int2, NULL::name, 'pgfresh_new'::name),
         ('pgfresh_delete', 8, 'pgfresh_old', NULL),
         ('pgfresh_update', 16, 'pgfresh_old', 'pgfresh_new'),
         ('pgfresh_truncate', 32, NULL, NULL),
         ('pgfresh_moved', 16, NULL, NULL)),
relation AS MATERIALIZED (
  SELECT c.oid, c.relkind, c.relpersistence, c.relrowsecurity, n.nspname,
         format('%I.%I', n.nspname, c.relname) AS name, n.nspname || '.' || c.relname AS raw,
         EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                   AND d.objsubid = 0 AND d.deptype = 'e') AS extension
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'f', 'm') AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgfresh')
    AND n.nspname !~ '^pg_(toast|temp_)'),
tree(root, member) AS (
  SELECT r.oid, r.oid FROM relation r
  WHERE NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = r.oid)
  UNION
  SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.member),
)sql";
// Between the two: kMovingSql.
constexpr std::string_view kAuditSqlTail = R"sql(,
given AS MATERIALIZED (
  SELECT t.tgrelid AS relation, t.tgname AS name, t.tgenabled AS enabled, t.tgfoid AS function,
         n.nspname = 'pgfresh' AND p.proname LIKE 'changed\_%' AS ours,
         t.tgtype = k.type AND t.tgqual IS NULL
           AND (t.tgattr = ''::int2vector OR k.name = 'pgfresh_moved' AND EXISTS (
                  SELECT FROM moving m WHERE m.root = t.tgrelid AND NOT m.by_any
                    AND m.columns <@ t.tgattr::int2[]))
           AND t.tgoldtable IS NOT DISTINCT FROM k.old_table
           AND t.tgnewtable IS NOT DISTINCT FROM k.new_table AS shaped,
         p.prosrc
  FROM pg_trigger t JOIN kinds k ON k.name = t.tgname
       JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE NOT t.tgisinternal),
watched AS MATERIALIZED (
  SELECT DISTINCT t.root FROM tree t JOIN given g ON g.relation = t.member AND g.ours),
looked AS MATERIALIZED (
  SELECT t.root, t.member, k.name AS trigger,
    CASE WHEN g.relation IS NULL THEN 'missing'
         WHEN NOT g.ours THEN 'calling another function'
         WHEN NOT g.shaped THEN 'not made as they should be'
         WHEN g.enabled = 'D' THEN 'disabled'
         WHEN g.enabled <> 'A' THEN 'not ENABLE ALWAYS'
         ELSE 'ok' END AS state
  FROM watched w JOIN tree t ON t.root = w.root JOIN relation r ON r.oid = t.member
       JOIN kinds k ON k.name <> 'pgfresh_moved' OR r.relkind = 'p'
       LEFT JOIN given g ON g.relation = t.member AND g.name = k.name),
functions AS MATERIALIZED (
  SELECT w.root, min(g.function) AS one, count(DISTINCT g.function) AS many,
         min(g.prosrc) AS source,
         EXISTS (SELECT FROM given o JOIN tree t ON t.root = w.root AND t.member = g.relation
                 WHERE o.function = g.function
                   AND o.relation NOT IN (SELECT m.member FROM tree m WHERE m.root = w.root))
           AS shared
  FROM watched w JOIN given g ON g.ours
       AND g.relation IN (SELECT m.member FROM tree m WHERE m.root = w.root)
  GROUP BY w.root, g.function, g.relation),
heads AS MATERIALIZED (
  SELECT f.root, count(DISTINCT f.one) AS functions, bool_or(f.shared) AS shared,
         substring(min(f.source) FROM '\n-- columns: ([^\n]*)\n') AS columns,
         substring(min(f.source) FROM '\n-- numbers: ([^\n]*)\n') AS numbers
  FROM functions f GROUP BY f.root),
again AS (
  SELECT r.oid AS root,
         format('SELECT pgfresh.watch(%L, pgfresh.kept_columns(%L));', r.name, r.name) AS watch
  FROM relation r),
moved AS MATERIALIZED (
  SELECT h.root FROM heads h WHERE EXISTS (
    SELECT FROM ROWS FROM (unnest(h.columns::name[]), unnest(h.numbers::int2[])) AS b(name, number)
    WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = h.root AND a.attname = b.name
                      AND a.attnum = b.number AND NOT a.attisdropped))),
barred AS MATERIALIZED (
  SELECT t.root, m.name,
    CASE WHEN m.relkind = 'f' THEN 'is a foreign table: what changes at the remote side is not seen'
         WHEN m.relkind = 'm' THEN 'is a materialized view: REFRESH fires no trigger'
         ELSE 'is unlogged: a crash empties it without a trigger' END AS why,
    CASE WHEN m.relkind IN ('r', 'p') AND m.relpersistence = 'u'
         THEN format('ALTER TABLE %s SET LOGGED;', m.name) END AS remedy
  FROM tree t JOIN relation m ON m.oid = t.member
  WHERE m.relkind IN ('f', 'm') OR m.relpersistence = 'u'),
subscribed AS MATERIALIZED (
  SELECT t.root, t.member FROM tree t JOIN pg_subscription_rel s ON s.srrelid = t.member),
installed AS (
  SELECT (SELECT substring(p.prosrc FROM '[0-9]+(?:\.[0-9]+)*') FROM pg_proc p
          JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'pgfresh'
          WHERE p.proname = 'version' AND p.pronargs = 0) AS version),
wanted_event(name, event, function) AS (
  VALUES ('pgfresh_ddl_start'::name, 'ddl_command_start', 'ddl_start'::name),
         ('pgfresh_ddl_end', 'ddl_command_end', 'ddl_end'),
         ('pgfresh_drop', 'sql_drop', 'dropped')),
lines(place, kind, severity, schema, subject, raw, finding, remedy, root) AS (
  SELECT 20, 'trigger', 'problem', r.nspname, r.name, r.raw,
    format('%s of %s triggers %s on %s (%s); the table is not cached', count(*),
           CASE m.relkind WHEN 'p' THEN 5 ELSE 4 END, l.state, m.name,
           string_agg(l.trigger::text, ', ' ORDER BY l.trigger)),
    CASE WHEN l.state IN ('disabled', 'not ENABLE ALWAYS') THEN
           format('ALTER TABLE ONLY %s %s;', m.name,
                  string_agg('ENABLE ALWAYS TRIGGER ' || l.trigger, ', ' ORDER BY l.trigger))
         ELSE a.watch END,
    r.oid
  FROM looked l JOIN relation r ON r.oid = l.root JOIN again a ON a.root = l.root
       JOIN relation m ON m.oid = l.member
  WHERE l.state <> 'ok' GROUP BY r.oid, r.nspname, r.name, r.raw, m.name, m.relkind, l.state, a.watch
  UNION ALL
  SELECT 21, 'function', 'problem', r.nspname, r.name, r.raw,
    CASE WHEN h.functions > 1 THEN format('its triggers call %s different functions', h.functions)
         ELSE 'the triggers of another table call its function' END, a.watch, r.oid
  FROM heads h JOIN relation r ON r.oid = h.root JOIN again a ON a.root = h.root
  WHERE h.functions > 1 OR h.shared
  UNION ALL
  SELECT 22, 'columns', 'problem', r.nspname, r.name, r.raw,
    'its key columns were renamed, dropped or moved: ' || coalesce(h.columns, '{}'), a.watch, r.oid
  FROM moved x JOIN heads h ON h.root = x.root JOIN relation r ON r.oid = x.root
       JOIN again a ON a.root = x.root
  UNION ALL
  SELECT 30, 'covered', 'ok', r.nspname, r.name, r.raw,
    format('%s with 4 triggers each%s, ENABLE ALWAYS, of one function; key columns %s',
           CASE count(DISTINCT l.member) WHEN 1 THEN '1 table'
           ELSE count(DISTINCT l.member) || ' tables of its tree' END,
           CASE WHEN bool_or(l.trigger = 'pgfresh_moved') THEN ', 5 on what is partitioned' END,
           coalesce(h.columns, '{}')),
    NULL, r.oid
  FROM looked l JOIN relation r ON r.oid = l.root JOIN heads h ON h.root = l.root
  WHERE h.functions = 1 AND NOT h.shared AND l.root NOT IN (SELECT root FROM moved)
  GROUP BY r.oid, r.nspname, r.name, r.raw, h.columns HAVING bool_and(l.state = 'ok')
  UNION ALL
  SELECT 40, CASE WHEN r.extension THEN 'extension' ELSE 'unwatched' END, 'info', r.nspname, r.name, r.raw, 'is not watched, so not cached',
    format('SELECT pgfresh.watch(%L);', r.name), r.oid
  FROM relation r JOIN tree t ON t.root = r.oid AND t.member = r.oid
  WHERE r.oid NOT IN (SELECT root FROM watched) AND r.oid NOT IN (SELECT root FROM barred)
  UNION ALL
  SELECT 41, 'kind', CASE WHEN b.root IN (SELECT root FROM watched) THEN 'problem' ELSE 'info' END,
    r.nspname, r.name, r.raw,
    CASE WHEN b.name = r.name THEN b.why ELSE 'its member ' || b.name || ' ' || b.why END
      || '; it is not cached', b.remedy, r.oid
  FROM barred b JOIN relation r ON r.oid = b.root
  UNION ALL
  SELECT 42, 'rls', 'info', r.nspname, r.name, r.raw,
    'has row-level security' || CASE WHEN m.name <> r.name THEN ' on its member ' || m.name
                                     ELSE '' END, NULL, r.oid
  FROM tree t JOIN relation m ON m.oid = t.member AND m.relrowsecurity
       JOIN relation r ON r.oid = t.root
  UNION ALL
  SELECT 43, 'subscription',
    CASE WHEN s.root IN (SELECT root FROM watched) THEN 'warning' ELSE 'info' END,
    r.nspname, r.name, r.raw,
    'a subscription writes ' || m.name || ' and fires no statement trigger; it is not cached',
    CASE WHEN s.root IN (SELECT root FROM watched) THEN
      format('SELECT pgfresh.unwatch(%L);', r.name) END, r.oid
  FROM subscribed s JOIN relation r ON r.oid = s.root JOIN relation m ON m.oid = s.member
  UNION ALL
  SELECT 1, 'version', CASE WHEN i.version IS NULL THEN 'info' ELSE 'ok' END, '', 'schema pgfresh',
    '', CASE WHEN i.version IS NULL THEN 'is not installed: nothing of this database is cached'
             ELSE i.version END, NULL, 0
  FROM installed i
  UNION ALL
  SELECT 2, 'event_trigger',
    CASE WHEN e.oid IS NULL OR p.oid IS NULL OR e.evtevent <> w.event OR e.evtenabled <> 'A'
         THEN 'warning' ELSE 'ok' END, '', 'event trigger ' || w.name, '',
    CASE WHEN e.oid IS NULL THEN 'is missing: DDL of others is seen by polling only, and new '
           'partitions are not watched by themselves'
         WHEN p.oid IS NULL OR e.evtevent <> w.event THEN 'does not call pgfresh.' || w.function
         WHEN e.evtenabled <> 'A' THEN 'is disabled or not ENABLE ALWAYS'
         ELSE 'is there, ENABLE ALWAYS' END,
    CASE WHEN e.oid IS NULL OR p.oid IS NULL OR e.evtevent <> w.event THEN ''
         WHEN e.evtenabled <> 'A' THEN format('ALTER EVENT TRIGGER %I ENABLE ALWAYS;', w.name) END, 0
  FROM installed i CROSS JOIN wanted_event w LEFT JOIN pg_event_trigger e ON e.evtname = w.name
       LEFT JOIN (pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'pgfresh')
         ON p.oid = e.evtfoid AND p.proname = w.function
  WHERE i.version IS NOT NULL
  UNION ALL
  SELECT 3, 'queue', CASE WHEN q.usage > 0.5 THEN 'problem' WHEN q.usage > 0.1 THEN 'warning'
                          ELSE 'ok' END, '', 'NOTIFY queue', '',
    format('%s %% full', round(q.usage::numeric * 100, 1)),
    CASE WHEN q.usage > 0.1 THEN 'SELECT pid, application_name, state, xact_start FROM '
      'pg_stat_activity WHERE xact_start < now() - interval ''1 min'' ORDER BY xact_start;' END, 0
  FROM (SELECT pg_notification_queue_usage() AS usage) AS q
  UNION ALL
  SELECT 4, 'prepared', 'warning', '', format('prepared transaction %L', x.gid), '',
    format('of %s since %s: what it wrote is decided when it ends', x.owner,
           to_char(x.prepared, 'YYYY-MM-DD HH24:MI:SS')),
    format('COMMIT PREPARED %L;  -- or ROLLBACK PREPARED', x.gid), 0
  FROM pg_prepared_xacts x WHERE x.database = current_database()
  UNION ALL
  SELECT 5, 'prepares', 'info', '', 'PREPARE TRANSACTION', '',
    'max_prepared_transactions is ' || current_setting('max_prepared_transactions'), NULL, 0
  WHERE current_setting('max_prepared_transactions')::int > 0
  UNION ALL
  SELECT 6, 'recovery', 'problem', '', 'server', '',
    'is a standby: LISTEN is refused there, so nothing is cached', 'name the primary in upstream.url',
    0
  WHERE pg_is_in_recovery()
  UNION ALL
  SELECT 7, 'server', CASE WHEN v.number < 140000 THEN 'problem' ELSE 'ok' END, '', 'server', '',
    'PostgreSQL ' || current_setting('server_version')
      || CASE WHEN v.number < 140000 THEN ': 14 or newer is needed' ELSE '' END, NULL, 0
  FROM (SELECT current_setting('server_version_num')::int AS number) AS v
  UNION ALL
  SELECT 8, 'clock', 'ok', '', 'clock', '',
    extract(epoch FROM clock_timestamp())::text, NULL, 0
  UNION ALL
  SELECT 9, 'role', CASE WHEN u.schema_used IS FALSE THEN 'problem' ELSE 'ok' END, '',
    'control role ' || current_user, '',
    CASE WHEN u.schema_used IS FALSE THEN 'may not use schema pgfresh'
         WHEN u.super THEN 'is a superuser' ELSE 'may read what pgfresh needs' END,
    CASE WHEN u.schema_used IS FALSE THEN
      format('GRANT USAGE ON SCHEMA pgfresh TO %I;', current_user) END, 0
  FROM (SELECT has_schema_privilege(to_regnamespace('pgfresh')::oid, 'USAGE') AS schema_used,
               (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS super) AS u
  UNION ALL
  SELECT 9, 'role', 'warning', '', 'control role ' || current_user, '',
    format('may not execute %s, so it can publish nothing', f.name),
    format('GRANT EXECUTE ON FUNCTION pg_catalog.%s TO %I;', f.name, current_user), 0
  FROM (VALUES ('pg_notify(text, text)'), ('set_config(text, text, boolean)')) AS f(name)
  WHERE NOT has_function_privilege('pg_catalog.' || f.name, 'EXECUTE')
  UNION ALL
  SELECT 10, 'writer', 'problem', '', format('role %I', w.rolname), '',
    'may write watched tables, but not execute pg_notify: what it writes fails wherever the '
      'triggers notify, which is always past pgfresh',
    format('GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO %I;', w.rolname), 0
  FROM (SELECT r.rolname FROM pg_roles r
        WHERE NOT has_function_privilege(r.oid, 'pg_catalog.pg_notify(text, text)', 'EXECUTE')
          AND r.rolname NOT LIKE 'pg\_%' AND EXISTS (
            SELECT FROM watched x
            WHERE has_table_privilege(r.oid, x.root, 'INSERT, UPDATE, DELETE, TRUNCATE'))
        ORDER BY r.rolname LIMIT 100) AS w)
SELECT kind, severity, schema, subject, raw, finding, remedy, root::text
FROM lines ORDER BY place, subject, finding
)sql";

constexpr size_t kAuditColumns = 8;

}  // namespace

std::string_view audit_sql() {
  static const std::string sql =
      std::string(kAuditSqlHead).append(query::kMovingSql).append(kAuditSqlTail);
  return sql;
}

std::optional<std::vector<AuditLine>> read_audit(const SqlRows& rows) {
  std::vector<AuditLine> lines;
  for (const auto& row : rows.rows) {
    if (row.size() != kAuditColumns) return std::nullopt;
    const auto text = [&row](size_t column) { return row[column].value_or(std::string()); };
    AuditLine line{text(0), text(1), text(2), text(3), text(4), text(5), text(6), 0};
    const std::string root = text(7);
    std::from_chars(root.data(), root.data() + root.size(), line.root);
    lines.push_back(std::move(line));
  }
  return lines;
}

std::string sql_literal(std::string_view text) {
  const bool escapes = text.find('\\') != std::string_view::npos;
  std::string literal = escapes ? " E'" : "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') literal += c;
    literal += c;
  }
  return literal + "'";
}

std::string defaults_sql(std::string_view user, const std::vector<std::string_view>& names) {
  std::string list;
  for (const std::string_view name : names) {
    if (!list.empty()) list += ", ";
    list += sql_literal(name);
  }
  const std::string who = user.empty() ? "current_user" : sql_literal(user);
  return R"sql(
SET LOCAL search_path = pg_catalog, pg_temp;
WITH
who AS (SELECT oid, rolname FROM pg_roles WHERE rolname = )sql" +
         who + R"sql(),
said AS (
  SELECT DISTINCT ON (lower(split_part(c.item, '=', 1))) lower(split_part(c.item, '=', 1)) AS name,
         substr(c.item, strpos(c.item, '=') + 1) AS value
  FROM who CROSS JOIN pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) AS c(item)
  WHERE s.setrole IN (0, who.oid) AND s.setdatabase IN (0, (SELECT oid FROM pg_database
                                                            WHERE datname = current_database()))
  ORDER BY lower(split_part(c.item, '=', 1)), s.setrole = 0, s.setdatabase = 0),
value AS (
  SELECT p.name, coalesce(s.value, CASE WHEN p.source IN ('user', 'database user', 'client',
           'session') AND p.name <> 'search_path' THEN p.boot_val ELSE p.reset_val END) AS value
  FROM pg_settings p LEFT JOIN said s ON s.name = lower(p.name)
  UNION ALL
  SELECT s.name, s.value FROM said s
  WHERE NOT EXISTS (SELECT FROM pg_settings p WHERE lower(p.name) = s.name)),
path AS (
  SELECT x.place, CASE WHEN x.part LIKE '"%' THEN replace(substr(x.part, 2, length(x.part) - 2),
                                                          '""', '"') ELSE lower(x.part) END AS name
  FROM value v CROSS JOIN LATERAL (
    SELECT o.place, btrim(o.part) AS part
    FROM regexp_split_to_table(v.value, ',') WITH ORDINALITY AS o(part, place)) AS x
  WHERE v.name = 'search_path'),
schemas AS (
  SELECT p.place, n.nspname FROM who CROSS JOIN path p JOIN pg_namespace n
    ON n.nspname = CASE p.name WHEN '$user' THEN who.rolname::text ELSE p.name END
  WHERE has_schema_privilege(who.oid, n.oid, 'USAGE'))
SELECT '@user' AS name, rolname::text AS value FROM who
UNION ALL
SELECT '@schemas', concat_ws(chr(31),
  CASE WHEN NOT EXISTS (SELECT FROM schemas WHERE nspname = 'pg_catalog') THEN 'pg_catalog' END,
  (SELECT string_agg(nspname, chr(31) ORDER BY place) FROM schemas))
UNION ALL
SELECT name, value FROM value WHERE lower(name) IN (SELECT lower(n) FROM unnest(ARRAY[)sql" +
         list + R"sql(]) AS n)
)sql";
}

}  // namespace pgfresh::app
