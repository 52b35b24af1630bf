// See reviewed.h. One table per list, each with the reason its members are on it. The names were
// gone through one by one against PostgreSQL 15's pg_proc, PostGIS 3.3 and the contrib modules;
// names of later versions are included where they are known.

#include "query/reviewed.h"

#include <unordered_set>

namespace pgfresh::query {
namespace {

using NameSet = std::unordered_set<std::string_view>;

bool has(const NameSet& names, std::string_view name) { return names.contains(name); }

// STABLE (or, for timezone, VOLATILE) only because they format or read values by settings that are
// part of the cache key: TimeZone, DateStyle, IntervalStyle, lc_*, default_text_search_config,
// xmlbinary …, or by catalog entries that change with schema(D) alone (enums, encodings, text
// search configurations).
const NameSet& settings_dependent() {
  static const NameSet names = {
      // JSON and text made of any value: output functions of date/time, float, bytea.
      "array_to_json", "array_to_string", "concat", "concat_ws", "format", "json_agg",
      "json_agg_strict", "json_array", "json_build_array", "json_build_object", "json_object_agg",
      "json_object_agg_strict", "json_object_agg_unique", "json_object_agg_unique_strict",
      "jsonb_agg", "jsonb_agg_strict", "jsonb_build_array", "jsonb_build_object",
      "jsonb_object_agg", "jsonb_object_agg_strict", "jsonb_object_agg_unique",
      "jsonb_object_agg_unique_strict", "quote_literal", "quote_nullable", "row_to_json", "to_json",
      "to_jsonb", "array_agg", "string_agg", "xml",
      // Date and time arithmetic in the session's time zone. The clock is read by one overload of
      // age (see reads_clock) and by timezone(text, timetz); timetz is refused as a type.
      "age", "date", "date_add", "date_part", "date_subtract", "date_trunc", "extract",
      "generate_series", "make_timestamptz", "overlaps", "time", "timestamp", "timestamptz",
      "timezone", "to_char", "to_date", "to_number", "to_timestamp", "in_range",
      "interval_pl_timestamptz", "timestamptz_mi_interval", "timestamptz_pl_interval",
      "date_cmp_timestamptz", "date_eq_timestamptz", "date_ge_timestamptz", "date_gt_timestamptz",
      "date_le_timestamptz", "date_lt_timestamptz", "date_ne_timestamptz",
      "timestamp_cmp_timestamptz", "timestamp_eq_timestamptz", "timestamp_ge_timestamptz",
      "timestamp_gt_timestamptz", "timestamp_le_timestamptz", "timestamp_lt_timestamptz",
      "timestamp_ne_timestamptz", "timestamptz_cmp_date", "timestamptz_cmp_timestamp",
      "timestamptz_eq_date", "timestamptz_eq_timestamp", "timestamptz_ge_date",
      "timestamptz_ge_timestamp", "timestamptz_gt_date", "timestamptz_gt_timestamp",
      "timestamptz_le_date", "timestamptz_le_timestamp", "timestamptz_lt_date",
      "timestamptz_lt_timestamp", "timestamptz_ne_date", "timestamptz_ne_timestamp",
      // What || and @@ call.
      "anytextcat", "textanycat", "ts_match_tq", "ts_match_tt",
      // Rows by a list of columns, whose types are judged where the list stands.
      "json_to_record", "json_to_recordset", "jsonb_to_record", "jsonb_to_recordset",
      // In the key by themselves.
      "current_catalog", "current_database", "current_schema", "current_schemas",
      // Money and locale.
      "money", "numeric",
      // Text search by configuration.
      "json_to_tsvector", "jsonb_to_tsvector", "phraseto_tsquery", "plainto_tsquery", "to_tsquery",
      "to_tsvector", "ts_headline", "websearch_to_tsquery",
      // Encodings: pg_conversion.
      "convert", "convert_from", "convert_to", "length",
      // Enumerations: pg_enum.
      "enum_first", "enum_last", "enum_range"};
  return names;
}

// Extensions' STABLE functions, and aggregates whose support functions carry no declaration and so
// count as VOLATILE: results of arguments and keyed settings alone.
const NameSet& extension_settings_dependent() {
  static const NameSet names = {
      "st_asgeojson", "st_clusterintersecting", "st_clusterwithin",       "st_collect",
      "st_makeline",  "st_polygonize",          "st_symmetricdifference", "similarity_op",
      "unaccent",     "word_similarity_op"};
  return names;
}

// STABLE, and known not to depend on arguments and settings alone: they fill rows through input
// functions (which may read 'now'), or read whole tables.
const NameSet& distrusted() {
  static const NameSet names = {"json_populate_record",
                                "json_populate_recordset",
                                "jsonb_populate_record",
                                "jsonb_populate_recordset",
                                "database_to_xml",
                                "database_to_xml_and_xmlschema",
                                "database_to_xmlschema",
                                "schema_to_xml",
                                "schema_to_xml_and_xmlschema",
                                "schema_to_xmlschema",
                                "table_to_xml",
                                "table_to_xml_and_xmlschema",
                                "table_to_xmlschema",
                                "fmgr_c_validator",
                                "fmgr_internal_validator",
                                "fmgr_sql_validator"};
  return names;
}

// The time of day.
const NameSet& clock() {
  static const NameSet names = {"now", "statement_timestamp", "transaction_timestamp",
                                // Comparing a time with a timetz takes the offset of today's date.
                                "jsonb_path_exists_tz", "jsonb_path_match_tz",
                                "jsonb_path_query_array_tz", "jsonb_path_query_first_tz",
                                "jsonb_path_query_tz", "timetz"};
  return names;
}

// Who asks, from where, with which settings; names of catalog objects. All are pure reads. More by
// prefix, see session_prefix().
const NameSet& session() {
  static const NameSet names = {"aclexplode",
                                "aclitemin",
                                "aclitemout",
                                "col_description",
                                "current_query",
                                "current_role",
                                "current_setting",
                                "current_user",
                                "currval",
                                "format_type",
                                "get_current_ts_config",
                                "getdatabaseencoding",
                                "getpgusername",
                                "icu_unicode_version",
                                "lastval",
                                "mxid_age",
                                "obj_description",
                                "oidvectortypes",
                                "regclass",
                                "row_security_active",
                                "session_user",
                                "shobj_description",
                                "show_limit",
                                "system_user",
                                "ts_debug",
                                "ts_parse",
                                "ts_token_type",
                                "txid_current",
                                "txid_current_if_assigned",
                                "txid_current_snapshot",
                                "txid_status",
                                "unicode_version",
                                "user",
                                "version",
                                "xml_is_well_formed"};
  return names;
}

bool session_prefix(std::string_view name) {
  for (const std::string_view prefix : {"pg_", "has_", "inet_", "to_reg", "_pg_", "reg"}) {
    if (name.starts_with(prefix)) return true;
  }
  return false;
}

// VOLATILE and a pure read: never cached, harmless to run.
const NameSet& harmless_volatile() {
  static const NameSet names = {"clock_timestamp",
                                "gen_random_bytes",
                                "gen_random_uuid",
                                "gen_salt",
                                "lo_get",
                                "pg_blocking_pids",
                                "pg_collation_actual_version",
                                "pg_control_checkpoint",
                                "pg_control_init",
                                "pg_control_recovery",
                                "pg_control_system",
                                "pg_current_logfile",
                                "pg_current_wal_flush_lsn",
                                "pg_current_wal_insert_lsn",
                                "pg_current_wal_lsn",
                                "pg_database_collation_actual_version",
                                "pg_database_size",
                                "pg_get_backend_memory_contexts",
                                "pg_get_multixact_members",
                                "pg_get_shmem_allocations",
                                "pg_get_wal_replay_pause_state",
                                "pg_get_wal_resource_managers",
                                "pg_get_wait_events",
                                "pg_hba_file_rules",
                                "pg_ident_file_mappings",
                                "pg_indexes_size",
                                "pg_is_in_recovery",
                                "pg_is_wal_replay_paused",
                                "pg_jit_available",
                                "pg_last_committed_xact",
                                "pg_last_wal_receive_lsn",
                                "pg_last_wal_replay_lsn",
                                "pg_last_xact_replay_timestamp",
                                "pg_lock_status",
                                "pg_ls_archive_statusdir",
                                "pg_ls_dir",
                                "pg_ls_logdir",
                                "pg_ls_logicalmapdir",
                                "pg_ls_logicalsnapdir",
                                "pg_ls_replslotdir",
                                "pg_ls_tmpdir",
                                "pg_ls_waldir",
                                "pg_notification_queue_usage",
                                "pg_partition_ancestors",
                                "pg_partition_tree",
                                "pg_prepared_xact",
                                "pg_read_binary_file",
                                "pg_read_file",
                                "pg_relation_size",
                                "pg_safe_snapshot_blocking_pids",
                                "pg_sequence_last_value",
                                "pg_show_all_file_settings",
                                "pg_show_replication_origin_status",
                                "pg_sleep",
                                "pg_sleep_for",
                                "pg_sleep_until",
                                "pg_stat_file",
                                "pg_stat_have_stats",
                                "pg_stat_statements",
                                "pg_table_size",
                                "pg_tablespace_size",
                                "pg_total_relation_size",
                                "pg_xact_commit_timestamp",
                                "pg_xact_commit_timestamp_origin",
                                "pg_xact_status",
                                "pgp_pub_encrypt",
                                "pgp_pub_encrypt_bytea",
                                "pgp_sym_encrypt",
                                "pgp_sym_encrypt_bytea",
                                "random",
                                "random_normal",
                                "st_clusterkmeans",
                                "st_generatepoints",
                                "timeofday",
                                "uuid_generate_v1",
                                "uuid_generate_v1mc",
                                "uuid_generate_v4",
                                "uuidv4",
                                "uuidv7"};
  return names;
}

bool harmless_volatile_prefix(std::string_view name) {
  return name.starts_with("pg_stat_get_") && !name.starts_with("pg_stat_get_reset");
}

// Writes, locks, signals: not reads, but no setting and no temporary object changes.
const NameSet& writing() {
  static const NameSet names = {"brin_desummarize_range",
                                "brin_summarize_new_values",
                                "brin_summarize_range",
                                "gin_clean_pending_list",
                                "lo_creat",
                                "lo_create",
                                "lo_from_bytea",
                                "lo_put",
                                "lo_unlink",
                                "lo_close",
                                "lo_lseek",
                                "lo_lseek64",
                                "lo_open",
                                "lo_tell",
                                "lo_tell64",
                                "lo_truncate",
                                "lo_truncate64",
                                "loread",
                                "lowrite",
                                "nextval",
                                "pg_advisory_lock",
                                "pg_advisory_lock_shared",
                                "pg_advisory_unlock",
                                "pg_advisory_unlock_all",
                                "pg_advisory_unlock_shared",
                                "pg_advisory_xact_lock",
                                "pg_advisory_xact_lock_shared",
                                "pg_cancel_backend",
                                "pg_create_restore_point",
                                "pg_export_snapshot",
                                "pg_log_backend_memory_contexts",
                                "pg_logical_emit_message",
                                "pg_notify",
                                "pg_reload_conf",
                                "pg_rotate_logfile",
                                "pg_stat_clear_snapshot",
                                "pg_stat_force_next_flush",
                                "pg_stat_reset",
                                "pg_stat_reset_shared",
                                "pg_stat_reset_single_table_counters",
                                "pg_switch_wal",
                                "pg_terminate_backend",
                                "pg_try_advisory_lock",
                                "pg_try_advisory_lock_shared",
                                "pg_try_advisory_xact_lock",
                                "pg_try_advisory_xact_lock_shared",
                                "setseed",
                                "setval"};
  return names;
}

// Run SQL given as text, or fill values through input functions, whatever their declaration says:
// the first may do anything, the second may read 'now'. isn_weak() tells, and sets, what the
// session takes for a number; it is declared IMMUTABLE.
const NameSet& treacherous() {
  static const NameSet names = {
      "connectby",         "crosstab",      "crosstab2",       "crosstab3",
      "crosstab4",         "crosstab_hash", "dblink",          "dblink_exec",
      "dblink_open",       "dblink_fetch",  "dblink_close",    "dblink_send_query",
      "dblink_get_result", "isn_weak",      "populate_record", "standardize_address",
      "xpath_table"};
  return names;
}

// PostgreSQL's STABLE operators: timestamptz arithmetic, comparison of date or timestamp with
// timestamptz (TimeZone), text || anything (output functions), text search by the default
// configuration. All of them by keyed settings.
const NameSet& settings_dependent_operators() {
  static const NameSet names = {"+", "-", "<", "<=", "=", "<>", ">=", ">", "||", "@@", "@@@", "@?"};
  return names;
}

// pg_trgm's thresholds are settings of the extension, and keyed.
const NameSet& extension_settings_dependent_operators() {
  static const NameSet names = {"%", "<%", "%>", "<<%", "%>>"};
  return names;
}

// Declared IMMUTABLE by PostGIS 3.3, and yet different each time: they print memory that nobody has
// set (for geometries without a Z, for text that is no polyline), or read the tables of the
// geocoder.
const NameSet& unsteady() {
  static const NameSet names = {"geocode_intersection", "get_tract",
                                "is_pretype",           "normalize_address",
                                "st_3dextent",          "st_linefromencodedpolyline"};
  return names;
}

// hstore's `#=` fills a row through input functions.
const NameSet& treacherous_operators() {
  static const NameSet names = {"#="};
  return names;
}

Safety classify_builtin(Volatility volatility, std::string_view name) {
  if (volatility == Volatility::kImmutable) return Safety::kSafe;
  if (has(distrusted(), name)) return Safety::kUnsafe;
  if (has(settings_dependent(), name)) return Safety::kSafe;
  if (has(clock(), name)) return Safety::kTime;
  if (has(session(), name)) return Safety::kSession;
  if (volatility == Volatility::kStable) {
    return session_prefix(name) ? Safety::kSession : Safety::kUnsafe;
  }
  if (has(harmless_volatile(), name) || harmless_volatile_prefix(name)) return Safety::kVolatile;
  if (has(writing(), name)) return Safety::kWrites;
  return Safety::kEffects;
}

Safety classify_extension(Volatility volatility, std::string_view name) {
  if (has(treacherous(), name)) return Safety::kEffects;
  if (has(unsteady(), name)) return Safety::kUnsafe;
  if (volatility == Volatility::kImmutable) return Safety::kSafe;
  if (has(extension_settings_dependent(), name)) return Safety::kSafe;
  if (has(harmless_volatile(), name)) return Safety::kVolatile;
  if (has(session(), name)) return Safety::kSession;
  return volatility == Volatility::kStable ? Safety::kUnsafe : Safety::kEffects;
}

Safety classify_user(Volatility volatility) {
  switch (volatility) {
    case Volatility::kImmutable:
      return Safety::kSafe;
    case Volatility::kStable:
      return Safety::kUnsafe;
    case Volatility::kVolatile:
      return Safety::kEffects;
  }
  return Safety::kEffects;
}

}  // namespace

Safety classify_function(Origin origin, Volatility volatility, std::string_view name) {
  switch (origin) {
    case Origin::kBuiltin:
      return classify_builtin(volatility, name);
    case Origin::kExtension:
      return classify_extension(volatility, name);
    case Origin::kUser:
      return classify_user(volatility);
  }
  return Safety::kEffects;
}

Safety classify_operator(Origin origin, Volatility volatility, std::string_view name) {
  if (origin == Origin::kUser) return classify_user(volatility);
  if (origin == Origin::kExtension && has(treacherous_operators(), name)) return Safety::kUnsafe;
  if (volatility == Volatility::kImmutable) return Safety::kSafe;
  if (volatility == Volatility::kVolatile) return Safety::kEffects;
  const NameSet& reviewed = origin == Origin::kBuiltin ? settings_dependent_operators()
                                                       : extension_settings_dependent_operators();
  return has(reviewed, name) ? Safety::kSafe : Safety::kUnsafe;
}

// Not here, and so unsafe: reg* (names by search_path and privileges), aclitem, refcursor, tid,
// xid, cid, snapshots, statistics; timetz, because reading '12:00' or casting a time takes the
// offset of today's date.
bool safe_builtin_type(std::string_view name) {
  static const NameSet names = {
      "bool",        "bytea",     "char",  "name",    "int2",    "int4",     "int8",    "float4",
      "float8",      "numeric",   "text",  "varchar", "bpchar",  "date",     "time",    "timestamp",
      "timestamptz", "interval",  "uuid",  "json",    "jsonb",   "jsonpath", "xml",     "money",
      "bit",         "varbit",    "inet",  "cidr",    "macaddr", "macaddr8", "point",   "line",
      "lseg",        "box",       "path",  "polygon", "circle",  "tsvector", "tsquery", "oid",
      "int2vector",  "oidvector", "pg_lsn"};
  return has(names, name);
}

bool date_time_builtin_type(std::string_view name) {
  static const NameSet names = {"date", "time", "timetz", "timestamp", "timestamptz"};
  return has(names, name);
}

bool time_of_day_builtin_type(std::string_view name) { return name == "time" || name == "timetz"; }

// PostGIS 3: what looks an SRID up, through PROJ or by its authority's name. Functions on
// geographies take the ellipsoid of their SRID from there, too; those are known by their arguments.
bool always_projects(std::string_view name) {
  static const NameSet names = {"_asgmlnode",
                                "_st_asgml",
                                "geography",
                                "get_proj4_from_srid",
                                "postgis_transform_geometry",
                                "st_asgdalraster",
                                "st_asgeojson",
                                "st_asgml",
                                "st_asjpeg",
                                "st_askml",
                                "st_aspng",
                                "st_astiff",
                                "st_asx3d",
                                "st_distance_sphere",
                                "st_distancesphere",
                                "st_fromgdalraster",
                                "st_geomfromgeojson",
                                "st_geomfromgml",
                                "st_geomfromkml",
                                "st_gmltosql",
                                "st_transform"};
  return has(names, name);
}

bool system_column(std::string_view name) {
  static const NameSet names = {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"};
  return has(names, name);
}

bool reads_clock(std::string_view name, size_t argument_count) {
  return name == "age" && argument_count == 1;
}

}  // namespace pgfresh::query
