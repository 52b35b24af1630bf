// The two statements of the catalog snapshot. Everything PostgreSQL can decide better than we is
// decided here (which triggers stand, which functions a write can reach); everything that rests on
// a reviewed list is left to CatalogBuilder. Rows are (kind, a … h), all text; lists travel as
// JSON, because names may hold any character. Kinds:
//   m  installed version (read from pgfresh.version()'s body: one statement cannot call a function
//      that may not exist) | enabled event triggers of ours | writes_may_change_session |
//      set_config_is_public | a sum over what is meant without a name: casts, orders, collations
//   r  oid, schema, name, relkind, relpersistence, row security, own triggers complete, subscribed,
//      attributes [[number, type, name, its collation is deterministic] …]
//   k  oid, columns, numbers, [number …]: what the triggers of the relation tell, as it stands in
//      the head of their function (two arrays as text), and the columns that are unique alone
//   e  schema: other than pg_catalog, with an operator = that takes a key type (key_value.h)
//   s  schema, [[oid, name, relkind] …]: relations of the system schemas
//   i  parent, child: inheritance and partitions
//   v  view, its stored tree (see view_tree.h)
//   f  schema, code, [[oid, name] …]: functions; code = origin (g: an extension's that takes a
//      geography), volatility (a user's that takes or gives a timetz is no better than stable, for
//      a time that becomes one, or is compared with one, reads the clock; nor is one in a language
//      that keeps the types of its variables, where these are not PostgreSQL's own; one whose
//      default arguments are computed is volatile), suspected of changing the session, may return a
//      string (t), a time of day (z) or anything (a), can be called on a row; one letter or '-'
//      each
//   o  schema, code, [[oid, name] …]: operators, by the function beneath
//   w  name, sum, types: functions or operators of one name that are not PostgreSQL's own, and the
//      types they take and give, apart by blanks
//   y  oid, schema, name, typtype, code, part, relation, detail: types; code = origin,
//      volatility of I/O, checks and casts harmless; part = element of an array, base of a domain,
//      subtype of a range; detail = what else a seal of it rests on
//   p  relation, SELECT FROM relation WHERE the condition of a policy that shows rows
//   q  schema, function, body (null: not to be looked into, as where default arguments are computed
//      and it is not all there is), code, settings: functions declared by users, where there is any
//      policy; code = s (text) or b (parsed at its declaration), d (runs as its owner) or -
//   g  setting: read by a function, given to a role or database, or defined by an extension
//   x  the first word of the names of an extension's settings
// Temporary objects and TOAST tables are left out: a session that has temporary objects gets no
// hits at all.

#include "query/catalog.h"

#include <string>

#include "query/moving_sql.h"

namespace pgfresh::query {
namespace {

// The words that make a function body suspect of changing session settings or creating temporary
// objects: set_config anywhere, even in a comment; an UPDATE of pg_settings; SET, RESET and DISCARD
// where a statement or a quoted statement begins (an UPDATE … SET does not count), looked for with
// and without comments; temporary tables, views and sequences, also where the text of a statement
// is put together. Suspicion spreads to every function whose body mentions the name of a suspect.
// jit off: compiling this statement would take two seconds, running it takes some 30 ms. The
// settings end with the implicit transaction of the one query text.
constexpr std::string_view kLoadSqlHead = R"sql(
SET LOCAL jit = off;
SET LOCAL search_path = pg_catalog, pg_temp;
WITH RECURSIVE
ns AS MATERIALIZED (
  SELECT oid, nspname, nspname IN ('pg_catalog', 'information_schema') AS system
  FROM pg_catalog.pg_namespace
  WHERE nspname !~ '^pg_(toast|temp_|toast_temp_)'),
member AS MATERIALIZED (
  SELECT classid, objid FROM pg_catalog.pg_depend
  WHERE deptype = 'e' AND refclassid = 'pg_catalog.pg_extension'::regclass),
body AS MATERIALIZED (
  SELECT p.oid, p.proname,
         p.prosrc || CASE WHEN p.prosqlbody IS NULL THEN ''
                          ELSE E'\n' || pg_catalog.pg_get_function_sqlbody(p.oid) END AS text
  FROM pg_catalog.pg_proc p JOIN ns ON ns.oid = p.pronamespace
       JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  WHERE p.oid >= 16384 AND ns.nspname <> 'pgfresh' AND l.lanname NOT IN ('c', 'internal')
    AND NOT EXISTS (SELECT FROM member m WHERE m.objid = p.oid
                    AND m.classid = 'pg_catalog.pg_proc'::regclass)),
suspect(oid, proname) AS (
  SELECT b.oid, b.proname FROM body b,
    LATERAL (VALUES (b.text),
             (pg_catalog.regexp_replace(b.text, '--[^\n]*|/\*.*?\*/', ' ', 'g'))) AS t(text)
  WHERE t.text ~* 'set_config|\mpg_temp\M|\mupdate\M.*\mpg_settings\M'
     OR t.text ~* ('(^|;|\mbegin\M|\mthen\M|\melse\M|\mloop\M|\matomic\M|>>|''|\$[a-z_0-9]*\$)'
                   '\s*(set|reset|discard)\s+[a-z_"%'']')
     OR t.text ~* '\m(create|into)\s+((local|global)\s+)?(temp|temporary)\M'
     OR t.text ~* '\m(temp|temporary)\s+(table|view|sequence|recursive)\M'
  UNION
  SELECT b.oid, b.proname FROM body b JOIN suspect s
    ON pg_catalog.strpos(pg_catalog.lower(b.text), pg_catalog.lower(s.proname::text)) > 0),
typed(oid, proname) AS (  -- keeps for a session's life what the types of its variables were
  SELECT b.oid, b.proname FROM body b
    JOIN pg_catalog.pg_proc p ON p.oid = b.oid AND p.provolatile = 'i'
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang AND l.lanname <> 'sql'
  WHERE b.text ~ '"' OR b.text ~* '%\s*(row)?type\M' OR EXISTS (
    SELECT FROM pg_catalog.regexp_split_to_table(pg_catalog.lower(b.text), '[^[:alnum:]_$]+') AS w
      JOIN pg_catalog.pg_type t ON t.oid >= 16384 AND t.typname = w)
  UNION
  SELECT b.oid, b.proname FROM body b JOIN typed t
    ON pg_catalog.strpos(pg_catalog.lower(b.text), pg_catalog.lower(t.proname::text)) > 0),
unsteady(oid) AS (SELECT oid FROM suspect UNION SELECT oid FROM typed),
settings_view(oid) AS (  -- what is written there is a SET, by a rule of pg_settings
  SELECT 'pg_catalog.pg_settings'::regclass::oid
  UNION
  SELECT r.ev_class FROM settings_view s
    JOIN pg_catalog.pg_depend d ON d.refobjid = s.oid
      AND d.refclassid = 'pg_catalog.pg_class'::regclass
      AND d.classid = 'pg_catalog.pg_rewrite'::regclass
    JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.ev_type = '1'),
exposed AS (
  SELECT EXISTS (
    SELECT FROM suspect s JOIN pg_catalog.pg_depend d ON d.refobjid = s.oid
    WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass
      AND d.classid NOT IN ('pg_catalog.pg_proc'::regclass,
                            'pg_catalog.pg_event_trigger'::regclass))
    OR EXISTS (SELECT FROM pg_catalog.pg_rewrite
               WHERE ev_type <> '1' AND ev_class >= 16384 AND ev_action::text LIKE '%funcid 2078 %')
    OR EXISTS (SELECT FROM pg_catalog.pg_attrdef WHERE adbin::text LIKE '%funcid 2078 %')
    OR EXISTS (SELECT FROM settings_view s
               WHERE s.oid >= 16384 AND pg_catalog.pg_relation_is_updatable(s.oid, true) & 4 <> 0)
    AS yes),
)sql";
// Between the two: kMovingSql.
constexpr std::string_view kLoadSqlTail = R"sql(,
safe_trigger AS (
  SELECT t.tgrelid AS relid,
         count(DISTINCT t.tgname) FILTER (WHERE t.tgname <> 'pgfresh_moved') = 4
           AND (NOT EXISTS (SELECT FROM moving m WHERE m.root = t.tgrelid)
                OR coalesce(bool_or(t.tgname = 'pgfresh_moved'), false)) AS complete,
         count(DISTINCT t.tgfoid) AS functions, min(t.tgfoid::int8)::oid AS function
  FROM pg_catalog.pg_trigger t
       JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
       JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'pgfresh'
       JOIN (VALUES ('pgfresh_insert', 4), ('pgfresh_delete', 8), ('pgfresh_update', 16),
                    ('pgfresh_truncate', 32), ('pgfresh_moved', 16)) AS ours(name, event)
         ON t.tgname = ours.name AND t.tgtype & 127 = ours.event
  WHERE NOT t.tgisinternal AND t.tgenabled = 'A' AND t.tgqual IS NULL
    AND (t.tgattr = '' OR t.tgname = 'pgfresh_moved' AND EXISTS (
           SELECT FROM moving m WHERE m.root = t.tgrelid AND NOT m.by_any
             AND m.columns <@ t.tgattr::int2[]))
    AND (t.tgname <> 'pgfresh_moved' OR t.tgoldtable IS NULL AND t.tgnewtable IS NULL)
  GROUP BY t.tgrelid),
support AS (
  SELECT a.aggfnoid AS oid,
         pg_catalog.max(CASE WHEN t.provolatile = 'v' THEN 3
                             WHEN t.provolatile = 's' OR t.oid IN (SELECT oid FROM typed) THEN 2
                             ELSE 1 END) AS worst
  FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc t
    ON t.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
                 a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
  GROUP BY a.aggfnoid),
kind_of_type AS MATERIALIZED (
  SELECT t.oid,
         t.typcategory IN ('S', 'X') OR e.typcategory IN ('S', 'X')
           OR t.typname IN ('anyelement', 'anynonarray', 'anyarray', 'anycompatible', 'cstring',
                            'anycompatiblenonarray', 'anycompatiblearray', 'record', '_record')
           AS stringy,
         t.oid IN (1083, 1266) OR e.oid IN (1083, 1266)
           OR t.typbasetype IN (1083, 1266) OR t.typname IN ('anyelement', 'anynonarray',
              'anyarray', 'anycompatible', 'anycompatiblenonarray', 'anycompatiblearray', 'record',
              '_record') AS timely,
         t.typtype = 'c'
           OR t.typname IN ('any', 'anyelement', 'anynonarray', 'anycompatible',
                            'anycompatiblenonarray', 'record')
           OR t.oid IN (SELECT c.casttarget FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_type s
                          ON s.oid = c.castsource AND s.typtype = 'c'
                        WHERE c.castcontext = 'i') AS rowish
  FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.typarray = t.oid),
bad_default AS (
  SELECT p.oid FROM pg_catalog.pg_proc p
  WHERE p.oid >= 16384 AND p.proargdefaults IS NOT NULL
    AND (p.proargdefaults::text ~ 'SQLVALUEFUNCTION|COERCEVIAIO|NEXTVALUE|SUBLINK'
         OR EXISTS (
           SELECT FROM pg_catalog.regexp_matches(p.proargdefaults::text, ':(?:op)?funcid (\d+)', 'g')
                       AS f
             LEFT JOIN pg_catalog.pg_proc d ON d.oid = f[1]::oid
           WHERE d.provolatile IS DISTINCT FROM 'i'))),
zonal AS MATERIALIZED (  -- timetz, and what is made of it
  SELECT oid FROM pg_catalog.pg_type
  WHERE oid IN (1266, 1270) OR typbasetype IN (1266, 1270)
     OR typrelid IN (SELECT attrelid FROM pg_catalog.pg_attribute
                     WHERE atttypid IN (1266, 1270) AND attnum > 0 AND NOT attisdropped)),
geography AS (
  SELECT t.oid FROM pg_catalog.pg_type t
       JOIN member m ON m.objid = t.oid AND m.classid = 'pg_catalog.pg_type'::regclass
  WHERE t.typname = 'geography' LIMIT 1),
proc AS MATERIALIZED (
  SELECT p.oid, ns.nspname, p.proname,
         CASE WHEN p.oid < 16384 THEN 'b' WHEN m.objid IS NULL THEN 'u'
              WHEN geography.oid = ANY (p.proargtypes) THEN 'g' ELSE 'e' END
         || CASE greatest(s.worst, CASE p.provolatile WHEN 'v' THEN 3 WHEN 's' THEN 2 ELSE 1 END,
                          CASE WHEN p.oid >= 16384 AND (p.prorettype IN (SELECT oid FROM zonal)
                                 OR EXISTS (SELECT FROM zonal z WHERE z.oid = ANY (p.proargtypes)
                                              OR z.oid = ANY (p.proallargtypes))) THEN 2 END,
                          CASE WHEN p.oid IN (SELECT oid FROM typed) THEN 2 END,
                          CASE WHEN p.oid IN (SELECT oid FROM bad_default) THEN 3 END)
              WHEN 3 THEN 'v' WHEN 2 THEN 's' ELSE 'i' END
         || CASE WHEN p.oid >= 16384 AND p.oid IN (SELECT oid FROM suspect) THEN 's' ELSE '-' END
         || CASE WHEN r.stringy AND r.timely THEN 'a' WHEN r.stringy THEN 't'
                 WHEN r.timely THEN 'z' ELSE '-' END AS code,
         p.pronargs >= 1 AND p.pronargs - p.pronargdefaults <= 1 AND coalesce(a.rowish, true)
           AS rowish
  FROM pg_catalog.pg_proc p JOIN ns ON ns.oid = p.pronamespace
       JOIN kind_of_type r ON r.oid = p.prorettype
       LEFT JOIN kind_of_type a ON a.oid = p.proargtypes[0]
       LEFT JOIN support s ON s.oid = p.oid
       LEFT JOIN geography ON true
       LEFT JOIN member m ON m.objid = p.oid AND m.classid = 'pg_catalog.pg_proc'::regclass),
bad_cast AS (
  SELECT x.type FROM pg_catalog.pg_cast c
         JOIN pg_catalog.pg_type tt ON tt.oid = c.casttarget
         LEFT JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc,
         LATERAL (VALUES (c.castsource), (c.casttarget)) AS x(type)
  WHERE c.oid >= 16384
    AND NOT EXISTS (SELECT FROM member m WHERE m.objid = c.oid
                    AND m.classid = 'pg_catalog.pg_cast'::regclass)
    AND (p.provolatile <> 'i' OR p.oid IN (SELECT oid FROM unsteady)
         OR (c.castmethod = 'i' AND tt.typcategory NOT IN ('S', 'E', 'B', 'N', 'U')))),
bad_check AS (
  SELECT c.contypid AS type FROM pg_catalog.pg_constraint c
  WHERE c.contypid <> 0
    AND (c.conbin::text ~ 'SQLVALUEFUNCTION|COERCEVIAIO|NEXTVALUE|SUBLINK'
         OR EXISTS (
           SELECT FROM pg_catalog.regexp_matches(c.conbin::text, ':(?:op)?funcid (\d+)', 'g') AS f
             LEFT JOIN pg_catalog.pg_proc p ON p.oid = f[1]::oid
           WHERE p.provolatile IS DISTINCT FROM 'i' OR p.oid IN (SELECT oid FROM unsteady)))
  UNION ALL  -- sorting and grouping by somebody's operator class
  SELECT c.opcintype FROM pg_catalog.pg_opclass c
    JOIN pg_catalog.pg_amproc a ON a.amprocfamily = c.opcfamily
    JOIN pg_catalog.pg_proc p ON p.oid = a.amproc
  WHERE c.oid >= 16384 AND (p.provolatile <> 'i' OR p.oid IN (SELECT oid FROM unsteady))
    AND NOT EXISTS (SELECT FROM member m WHERE m.objid = c.oid
                    AND m.classid = 'pg_catalog.pg_opclass'::regclass)),
extension_setting(extension, name) AS (VALUES
  ('vector', 'hnsw.iterative_scan'),
  ('vector', 'hnsw.max_scan_tuples'), ('vector', 'hnsw.scan_mem_multiplier'),
  ('vector', 'ivfflat.iterative_scan'),
  ('vector', 'ivfflat.max_probes'), ('postgis', 'postgis.backend'),
  ('pg_bigm', 'pg_bigm.similarity_limit'),
  ('pg_bigm', 'pg_bigm.gin_key_limit'), ('pg_bigm', 'pg_bigm.enable_recheck')),
given_setting(name) AS (
  SELECT pg_catalog.split_part(s.setting, '=', 1)
  FROM pg_catalog.pg_db_role_setting r, pg_catalog.unnest(r.setconfig) AS s(setting)
  WHERE r.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d
                              WHERE d.datname = pg_catalog.current_database()))
  UNION
  SELECT m[1] FROM body b, LATERAL pg_catalog.regexp_matches(b.text,
    'current_setting\s*\(\s*''([A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)+)''', 'g') AS m
  UNION
  SELECT s.name FROM extension_setting s JOIN pg_catalog.pg_extension e
    ON e.extname = s.extension),
relation AS MATERIALIZED (
  SELECT c.oid, ns.nspname, c.relname, c.relkind, c.relpersistence, c.relrowsecurity, ns.system
  FROM pg_catalog.pg_class c JOIN ns ON ns.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND c.relpersistence <> 't')

SELECT 'm' AS kind,
  (SELECT substring(prosrc FROM '[0-9]+(?:\.[0-9]+)*') FROM pg_catalog.pg_proc
   WHERE oid = to_regprocedure('pgfresh.version()')) AS a,
  (SELECT count(*)::text FROM pg_catalog.pg_event_trigger
   WHERE evtname IN ('pgfresh_ddl_end', 'pgfresh_drop') AND evtenabled = 'A') AS b,
  (SELECT yes::text FROM exposed) AS c,
  (SELECT p.proacl IS NULL OR EXISTS (SELECT FROM pg_catalog.aclexplode(p.proacl) a
                                      WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE')
   FROM pg_catalog.pg_proc p
   WHERE p.oid = 'pg_catalog.set_config(text,text,boolean)'::regprocedure)::text AS d,
  (SELECT pg_catalog.concat_ws(' ',
    (SELECT sum(hashtextextended(concat_ws(' ', c.oid, c.castsource, c.casttarget, c.castfunc,
       c.castcontext, c.castmethod), 0)) FROM pg_catalog.pg_cast c WHERE c.oid >= 16384),
    (SELECT sum(hashint8extended(o.xmin, o.oid)) FROM (
       SELECT xmin::text::int8, oid::int8 FROM pg_catalog.pg_collation WHERE oid >= 16384
       UNION ALL SELECT xmin::text::int8, oid::int8 FROM pg_catalog.pg_opclass
         WHERE oid >= 16384 AND opcmethod IN (403, 405)  -- btree, hash: for ORDER BY and GROUP BY
       UNION ALL SELECT xmin::text::int8, oid::int8 FROM pg_catalog.pg_ts_config WHERE oid >= 16384
       UNION ALL SELECT xmin::text::int8, oid::int8 FROM pg_catalog.pg_ts_dict WHERE oid >= 16384
     ) AS o(xmin, oid)),
    (SELECT sum(hashint8extended(m.xmin::text::int8,
                                 (m.mapcfg::int8 << 32) + m.maptokentype * 64 + m.mapseqno))
     FROM pg_catalog.pg_ts_config_map m WHERE m.mapcfg >= 16384)))
   AS e, NULL::text AS f, NULL::text AS g, NULL::text AS h,
  NULL::text AS i
UNION ALL
SELECT 'r', r.oid::text, r.nspname, r.relname, r.relkind::text, r.relpersistence::text,
  r.relrowsecurity::text,
  coalesce((SELECT t.complete FROM safe_trigger t WHERE t.relid = r.oid), false)::text,
  EXISTS (SELECT FROM pg_catalog.pg_subscription_rel s WHERE s.srrelid = r.oid)::text,
  (SELECT pg_catalog.json_agg(
            pg_catalog.json_build_array(a.attnum, a.atttypid::int8, a.attname,
              coalesce(l.collisdeterministic, true)) ORDER BY a.attnum)::text
   FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
   WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND r.relkind <> 'S')
FROM relation r WHERE NOT r.system
UNION ALL
SELECT 'k', t.relid::text, substring(p.prosrc FROM '\n-- columns: ([^\n]*)\n'),
  substring(p.prosrc FROM '\n-- numbers: ([^\n]*)\n'),
  (SELECT pg_catalog.json_agg(x.indkey[0])::text FROM pg_catalog.pg_index x
   WHERE x.indrelid = t.relid AND x.indisunique AND x.indisvalid AND x.indnkeyatts = 1
     AND x.indpred IS NULL AND x.indkey[0] > 0),
  NULL, NULL, NULL, NULL, NULL
FROM safe_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.function
WHERE t.complete AND t.functions = 1
  -- Made before the column's type was changed to bool, it does not tell t and f. Of a member,
  -- whose columns have other numbers, the root's say it.
  AND (EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = t.relid)
       OR NOT EXISTS (
         SELECT FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = t.relid AND a.attnum > 0 AND NOT a.attisdropped
           AND a.attnum::text = ANY (pg_catalog.string_to_array(
                 substring(p.prosrc FROM '\n-- numbers: \{([0-9,]*)\}\n'), ','))
           AND a.atttypid = 'bool'::regtype
           AND (a.attnum::text = ANY (pg_catalog.string_to_array(
                  substring(p.prosrc FROM '\n-- truths: \{([0-9,]*)\}\n'), ','))) IS NOT TRUE))
UNION ALL
SELECT DISTINCT 'e', ns.nspname, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_operator o JOIN ns ON ns.oid = o.oprnamespace
     JOIN pg_catalog.pg_type t ON t.oid IN (o.oprleft, o.oprright)
WHERE o.oprname = '=' AND ns.nspname <> 'pg_catalog'
  AND (t.typtype = 'p' OR t.oid IN ('bool'::regtype, 'int8'::regtype, 'int2'::regtype,
       'int4'::regtype, 'text'::regtype, 'varchar'::regtype, 'uuid'::regtype))
UNION ALL
SELECT 's', r.nspname,
  pg_catalog.json_agg(pg_catalog.json_build_array(r.oid::int8, r.relname, r.relkind))::text,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM relation r WHERE r.system GROUP BY r.nspname
UNION ALL
SELECT 'i', i.inhparent::text, i.inhrelid::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_inherits i JOIN relation p ON p.oid = i.inhparent
     JOIN relation c ON c.oid = i.inhrelid
UNION ALL
SELECT 'v', r.oid::text, w.ev_action::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM relation r JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid AND w.ev_type = '1'
WHERE r.relkind = 'v' AND NOT r.system
UNION ALL
SELECT 'f', p.nspname, p.code || CASE WHEN p.rowish THEN 'r' ELSE '-' END,
  pg_catalog.json_agg(pg_catalog.json_build_array(p.oid::int8, p.proname) ORDER BY p.oid)::text,
  NULL, NULL, NULL, NULL, NULL, NULL
FROM proc p GROUP BY 2, 3
UNION ALL
SELECT 'o', ns.nspname, p.code || '-',
  pg_catalog.json_agg(pg_catalog.json_build_array(o.oid::int8, o.oprname) ORDER BY o.oid)::text,
  NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_operator o JOIN ns ON ns.oid = o.oprnamespace JOIN proc p ON p.oid = o.oprcode
GROUP BY 2, 3
UNION ALL
SELECT 'w', p.proname,
  sum(hashtextextended(concat_ws(' ', p.oid, ns.nspname, p.proargtypes, p.prorettype,
    p.proallargtypes, p.proargnames, p.provariadic, p.pronargdefaults, p.proretset, p.prokind),
    0))::text,
  string_agg(concat_ws(' ', p.prorettype, p.proargtypes, p.proallargtypes), ' ' ORDER BY p.oid),
  NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_proc p JOIN ns ON ns.oid = p.pronamespace
WHERE p.oid >= 16384 AND ns.nspname <> 'pgfresh'
  AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
GROUP BY p.proname
UNION ALL
SELECT 'w', o.oprname,
  sum(hashtextextended(concat_ws(' ', o.oid, ns.nspname, o.oprleft, o.oprright, o.oprresult,
    o.oprcode::oid), 0))::text,
  string_agg(concat_ws(' ', o.oprleft, o.oprright, o.oprresult), ' ' ORDER BY o.oid),
  NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_operator o JOIN ns ON ns.oid = o.oprnamespace
WHERE o.oid >= 16384 GROUP BY o.oprname
UNION ALL
SELECT 'y', t.oid::text, ns.nspname, t.typname, t.typtype::text,
  CASE WHEN t.oid < 16384 THEN 'b' WHEN m.objid IS NOT NULL THEN 'e' ELSE 'u' END
  || CASE WHEN t.oid < 16384 THEN '-'
          WHEN EXISTS (SELECT FROM pg_catalog.pg_proc p
                       WHERE p.oid IN (t.typinput, t.typoutput) AND p.provolatile <> 'i')
          THEN 's' ELSE 'i' END
  || CASE WHEN t.oid IN (SELECT type FROM bad_check) OR t.oid IN (SELECT type FROM bad_cast)
          THEN 'x' ELSE '-' END,
  CASE t.typtype WHEN 'd' THEN t.typbasetype
       WHEN 'r' THEN (SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE g.rngtypid = t.oid
                      AND g.rngsubopc < 16384)
       WHEN 'm' THEN (SELECT g.rngtypid FROM pg_catalog.pg_range g WHERE g.rngmultitypid = t.oid)
       ELSE el.oid END::text,
  t.typrelid::text,
  CASE WHEN t.oid >= 16384 THEN pg_catalog.concat_ws(' ', t.typtype, t.typcategory,
    t.typispreferred, t.typbasetype, t.typelem, t.typcollation, t.typtypmod,
    (SELECT sum(hashtextextended(concat_ws(' ', n.oid, n.enumsortorder, n.enumlabel), 0))
     FROM pg_catalog.pg_enum n WHERE n.enumtypid = t.oid)) END,
  NULL
FROM pg_catalog.pg_type t JOIN ns ON ns.oid = t.typnamespace
     LEFT JOIN pg_catalog.pg_type el ON el.typarray = t.oid
     LEFT JOIN member m ON m.objid = t.oid AND m.classid = 'pg_catalog.pg_type'::regclass
WHERE NOT (ns.system AND (t.typrelid <> 0 OR coalesce(el.typrelid, 0) <> 0))
UNION ALL
SELECT 'p', p.polrelid::text,
  pg_catalog.format('SELECT FROM %I.%I WHERE %s', ns.nspname, c.relname,
    pg_catalog.pg_get_expr(p.polqual, p.polrelid)),
  NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
     JOIN ns ON ns.oid = c.relnamespace
WHERE p.polcmd IN ('*', 'r') AND p.polqual IS NOT NULL
UNION ALL
SELECT 'q', ns.nspname, p.proname,
  CASE WHEN l.lanname <> 'sql' OR p.prokind <> 'f' OR p.oid IN (SELECT oid FROM bad_default)
         THEN NULL
       WHEN p.prosqlbody IS NULL THEN p.prosrc
       ELSE pg_catalog.pg_get_function_sqlbody(p.oid) END,
  CASE WHEN p.prosqlbody IS NULL THEN 's' ELSE 'b' END
  || CASE WHEN p.prosecdef THEN 'd' ELSE '-' END,
  pg_catalog.array_to_json(p.proconfig)::text, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_proc p JOIN ns ON ns.oid = p.pronamespace
     JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE p.oid >= 16384 AND ns.nspname <> 'pgfresh' AND EXISTS (SELECT FROM pg_catalog.pg_policy)
UNION ALL
SELECT DISTINCT 'g', pg_catalog.lower(g.name), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM given_setting g
UNION ALL
SELECT 'x', w.word, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM (SELECT pg_catalog.lower(e.extname) FROM pg_catalog.pg_extension e
      UNION
      SELECT pg_catalog.split_part(s.name, '.', 1) FROM extension_setting s
        JOIN pg_catalog.pg_extension e ON e.extname = s.extension) AS w(word)
)sql";

// What no event trigger tells, and, for databases without event triggers, a sum over the row
// versions of what a verdict rests on. pg_authid and pg_user_mapping are not readable for all, so
// roles are summed by value; so are relations, because TRUNCATE makes a new version of a relation's
// row and must not count. A row version (xmin) changes with every UPDATE of the row.
constexpr std::string_view kFingerprintSql = R"sql(
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT pg_catalog.concat_ws(' ',
  pg_catalog.pg_conf_load_time(),
  (SELECT sum(pg_catalog.hashtextextended(r.oid::text || r.rolname || r.rolsuper || r.rolinherit
     || r.rolbypassrls || coalesce(r.rolconfig::text, ''), 0)) FROM pg_catalog.pg_roles r),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, roleid::int8 * 31 + member::int8))
   FROM pg_catalog.pg_auth_members),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, setdatabase::int8 * 31 + setrole::int8))
   FROM pg_catalog.pg_db_role_setting),
  -- What was granted and taken back since the last look has left no other trace: the numbers of
  -- rows written in pg_authid, pg_auth_members and pg_db_role_setting.
  (SELECT sum(pg_catalog.pg_stat_get_tuples_inserted(s.oid)
     + pg_catalog.pg_stat_get_tuples_updated(s.oid) + pg_catalog.pg_stat_get_tuples_deleted(s.oid))
   FROM (VALUES (1260::oid), (1261), (2964)) AS s(oid)),
  (SELECT sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', c.relname, c.relnamespace,
     c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relowner, c.relacl,
     c.relispartition,
     CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger
       WHERE evtname = 'pgfresh_ddl_end' AND evtenabled = 'A') THEN c.xmin::text END),
     c.oid::int8)) FROM pg_catalog.pg_class c
   WHERE c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')),
  -- An index may stand in front of a table of its name.
  (SELECT sum(pg_catalog.hashint8extended(i.relnamespace::int8, i.oid::int8))
   FROM pg_catalog.pg_class i WHERE i.relkind IN ('i', 'I') AND EXISTS (
     SELECT FROM pg_catalog.pg_class c WHERE c.relname = i.relname
       AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c'))),
  (SELECT sum(pg_catalog.hashint8extended(a.xmin::text::int8, a.attrelid::int8 * 2048 + a.attnum))
   FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
   WHERE a.attrelid >= 16384 AND a.attnum > 0 AND c.relpersistence <> 't'
     AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8)) FROM pg_catalog.pg_proc
   WHERE oid >= 16384),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8)) FROM pg_catalog.pg_trigger),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8)) FROM pg_catalog.pg_policy),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8)) FROM pg_catalog.pg_rewrite
   WHERE oid >= 16384),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, inhrelid::int8 * 31 + inhparent::int8))
   FROM pg_catalog.pg_inherits),
  (SELECT sum(pg_catalog.hashint8extended(t.xmin::text::int8, t.oid::int8))
   FROM pg_catalog.pg_type t WHERE t.oid >= 16384 AND t.typnamespace NOT IN
     (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_(toast|temp_|toast_temp_)')),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8)) FROM pg_catalog.pg_operator
   WHERE oid >= 16384),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8)) FROM pg_catalog.pg_cast
   WHERE oid >= 16384),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8)) FROM pg_catalog.pg_namespace
   WHERE nspname !~ '^pg_(toast|temp_|toast_temp_)'),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8)) FROM pg_catalog.pg_enum),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8))
   FROM pg_catalog.pg_constraint
   -- What is grouped by a primary key may show other columns.
   WHERE contypid <> 0 OR contype = 'p'),
  -- What texts are searched and sorted by, and what decides how values are compared.
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8))
   FROM pg_catalog.pg_ts_dict),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8))
   FROM pg_catalog.pg_ts_config),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8,
     mapcfg::int8 * 65536 + maptokentype * 256 + mapseqno))
   FROM pg_catalog.pg_ts_config_map),
  (SELECT sum(pg_catalog.hashint8extended(o.xmin, o.oid)) FROM (
     SELECT xmin::text::int8, oid::int8 FROM pg_catalog.pg_collation WHERE oid >= 16384
     UNION ALL SELECT xmin::text::int8, oid::int8 FROM pg_catalog.pg_conversion WHERE oid >= 16384
     UNION ALL SELECT xmin::text::int8, oid::int8 FROM pg_catalog.pg_opclass WHERE oid >= 16384
     UNION ALL SELECT xmin::text::int8, oid::int8 FROM pg_catalog.pg_amproc WHERE oid >= 16384
     UNION ALL SELECT xmin::text::int8, oid::int8 FROM pg_catalog.pg_amop WHERE oid >= 16384
   ) AS o(xmin, oid)),
  -- Labels, by which extensions mask columns for some roles; of roles no event trigger tells.
  (SELECT sum(pg_catalog.hashtextextended(l.provider || ':' || l.label,
     l.objoid::int8 * 31 + l.objsubid)) FROM pg_catalog.pg_seclabel l),
  (SELECT sum(pg_catalog.hashtextextended(l.provider || ':' || l.label, l.objoid::int8))
   FROM pg_catalog.pg_shseclabel l),
  (SELECT sum(srrelid::int8) FROM pg_catalog.pg_subscription_rel),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8))
   FROM pg_catalog.pg_event_trigger),
  (SELECT sum(pg_catalog.hashint8extended(xmin::text::int8, oid::int8)) FROM pg_catalog.pg_database
   WHERE datname = pg_catalog.current_database())
) AS fingerprint
)sql";

}  // namespace

std::string_view Catalog::load_sql() {
  static const std::string sql = std::string(kLoadSqlHead).append(kMovingSql).append(kLoadSqlTail);
  return sql;
}
std::string_view Catalog::fingerprint_sql() { return kFingerprintSql; }

}  // namespace pgfresh::query
