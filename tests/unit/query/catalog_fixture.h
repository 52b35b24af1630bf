// A made-up database for the tests and the fuzz target of src/query: the healthcare tables in
// small, a handful of PostgreSQL's functions, operators and types with the declarations PostgreSQL
// 15 gives them, and whatever a test adds. The rows have the form of Catalog::load_sql() (see
// catalog_load.cc).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "query/catalog.h"
#include "query/statement.h"

namespace pgfresh::query::test {

inline const std::vector<std::string> kPath = {"pg_catalog", "public"};

class CatalogFixture {
 public:
  struct Column {
    std::string name;
    Oid type;
  };

  // Builtin types by the oids PostgreSQL gives them.
  static constexpr Oid kBool = 16, kInt8 = 20, kInt4 = 23, kText = 25, kJsonb = 3802, kDate = 1082,
                       kTime = 1083, kTimestamptz = 1184, kTimetz = 1266, kInterval = 1186,
                       kNumeric = 1700, kUuid = 2950, kRegclass = 2205, kTextArray = 1009,
                       kDateArray = 1182;

  CatalogFixture() {
    add_types();
    add_functions();
    add_operators();
    add_tables();
  }

  void row(std::vector<std::string> fields) {
    std::vector<std::optional<std::string>> row(10);
    for (size_t i = 0; i < fields.size(); ++i) {
      if (fields[i] != "\\N") row[i] = std::move(fields[i]);
    }
    rows_.rows.push_back(std::move(row));
  }

  struct Table {
    std::string schema = "public";
    char kind = 'r';
    char persistence = 'p';
    std::string row_security = "false";
    std::string watched = "true";
    std::string subscribed = "false";
  };
  void table(Oid oid, const std::string& name, const std::vector<Column>& columns,
             const Table& how) {
    std::string json = "[";
    for (size_t i = 0; i < columns.size(); ++i) {
      if (i > 0) json += ", ";
      json += "[" + std::to_string(i + 1) + ", " + std::to_string(columns[i].type) + ", \"" +
              columns[i].name + "\", true]";
    }
    json += "]";
    row({"r", std::to_string(oid), how.schema, name, std::string(1, how.kind),
         std::string(1, how.persistence), how.row_security, how.watched, how.subscribed, json});
  }
  void table(Oid oid, const std::string& name, const std::vector<Column>& columns) {
    table(oid, name, columns, Table());
  }
  // What the triggers of a table tell, as in the head of their function.
  void keys(Oid oid, const std::string& columns, const std::string& numbers,
            const std::string& unique = "[1]") {
    row({"k", std::to_string(oid), columns, numbers, unique});
  }
  void inherits(Oid parent, Oid child) {
    row({"i", std::to_string(parent), std::to_string(child)});
  }
  // A view (id int8) whose stored tree has `inside` among its clauses.
  void view(Oid oid, const std::string& name, const std::string& inside) {
    Table how;
    how.kind = 'v';
    how.watched = "false";
    table(oid, name, {{"id", kInt8}}, how);
    row({"v", std::to_string(oid), "({QUERY :commandType 1 " + inside + "})"});
  }
  static std::string reads(const std::vector<Oid>& relations) {
    std::string out = ":rtable (";
    for (const Oid oid : relations) out += "{RTE :rtekind 0 :relid " + std::to_string(oid) + "}";
    return out + ") ";
  }
  static std::string calls(Oid function) {
    return ":where {FUNCEXPR :funcid " + std::to_string(function) + " :args <>} ";
  }
  // Of the functions or operators added last; they are numbered in the order of their names.
  [[nodiscard]] Oid last_oid() const { return next_oid_ - 1; }
  // `code`: origin b e u, volatility i s v, suspect s or -, string result t or -, on a row r or -.
  void functions(const std::string& schema, const std::string& code,
                 const std::vector<std::string>& names) {
    row({"f", schema, code, json_list(names)});
  }
  void operators(const std::string& schema, const std::string& code,
                 const std::vector<std::string>& names) {
    row({"o", schema, code, json_list(names)});
  }
  void type(Oid oid, const std::string& schema, const std::string& name, char type_type,
            const std::string& code, Oid part, Oid relation, const std::string& labels = "") {
    row({"y", std::to_string(oid), schema, name, std::string(1, type_type), code,
         part == 0 ? "\\N" : std::to_string(part), std::to_string(relation), labels});
  }
  // Functions or operators of one name, in whatever schemas: what they are, and the types they
  // know.
  void named(const std::string& name, const std::string& sum, const std::string& types) {
    row({"w", name, sum, types});
  }
  void writes_may_change_session() { suspicion_ = "true"; }
  // What is meant without being named: casts, orders.
  void meant(std::string seal) { meant_ = std::move(seal); }

  [[nodiscard]] SqlRows rows() const {
    SqlRows all = rows_;
    all.rows.push_back({"m", "1.0", "2", suspicion_, {}, meant_, {}, {}, {}, {}});
    return all;
  }
  [[nodiscard]] std::shared_ptr<const Catalog> build() const {
    auto built = Catalog::build(rows(), 7, 42);
    PGFRESH_CHECK(built.has_value());
    return *built;
  }

 private:
  std::string json_list(const std::vector<std::string>& names) {
    std::string json = "[";
    for (const std::string& name : names) {
      if (json.size() > 1) json += ", ";
      json += "[" + std::to_string(next_oid_++) + ", \"" + name + "\"]";
    }
    return json + "]";
  }

  void add_types() {
    for (const auto& [oid, name] :
         std::vector<std::pair<Oid, std::string>>{{kBool, "bool"},
                                                  {kInt8, "int8"},
                                                  {kInt4, "int4"},
                                                  {21, "int2"},
                                                  {701, "float8"},
                                                  {kText, "text"},
                                                  {1043, "varchar"},
                                                  {1042, "bpchar"},
                                                  {kJsonb, "jsonb"},
                                                  {kDate, "date"},
                                                  {kTime, "time"},
                                                  {1114, "timestamp"},
                                                  {kTimestamptz, "timestamptz"},
                                                  {kTimetz, "timetz"},
                                                  {kInterval, "interval"},
                                                  {kNumeric, "numeric"},
                                                  {kUuid, "uuid"},
                                                  {kRegclass, "regclass"},
                                                  {27, "tid"}}) {
      type(oid, "pg_catalog", name, 'b', "b--", 0, 0);
    }
    type(kTextArray, "pg_catalog", "_text", 'b', "b--", kText, 0);
    type(kDateArray, "pg_catalog", "_date", 'b', "b--", kDate, 0);
    type(2951, "pg_catalog", "_uuid", 'b', "b--", kUuid, 0);
    type(3912, "pg_catalog", "daterange", 'r', "b--", kDate, 0);
    type(2249, "pg_catalog", "record", 'p', "b--", 0, 0);
    type(90001, "public", "geography", 'b', "ei-", 0, 0);
    type(90002, "public", "mood", 'e', "us-", 0, 0);
    type(90003, "public", "odd_base", 'b', "ui-", 0, 0);
    type(90004, "public", "positive", 'd', "us-", kInt4, 0);
    type(90005, "public", "fresh_date", 'd', "usx", kDate, 0);
    type(90006, "public", "day", 'd', "us-", kDate, 0);
  }
  void add_functions() {
    functions("pg_catalog", "bi---",
              {"count", "sum", "avg", "round", "length", "generate_series", "jsonb_array_elements",
               "date_trunc", "age", "extract", "bool_or", "row_number", "similar_to_escape"});
    functions("pg_catalog", "bi-t-", {"lower", "upper", "substring", "string_agg", "md5", "left"});
    functions("pg_catalog", "bi-tr", {"min", "max", "unnest", "array_agg"});
    functions("pg_catalog", "bs---",
              {"now", "timezone", "date", "age", "date_trunc", "extract", "has_table_privilege",
               "pg_get_viewdef", "date_in"});
    functions("pg_catalog", "bs-t-", {"to_char", "format", "current_setting", "version"});
    functions("pg_catalog", "bs--r", {"row_to_json", "json_agg", "to_jsonb", "pg_typeof"});
    functions("pg_catalog", "bv---",
              {"random", "clock_timestamp", "gen_random_uuid", "pg_sleep", "nextval", "lo_unlink",
               "timezone", "query_to_xml"});
    functions("pg_catalog", "bv-t-", {"set_config"});
    functions("public", "ei---", {"st_dwithin", "st_makepoint", "st_setsrid", "st_distance"});
    functions("public", "es-t-", {"st_asgeojson", "ext_stable", "crosstab"});
    functions("public", "ev---", {"dblink_exec", "ext_volatile"});
    functions("public", "ui---", {"my_immutable"});
    functions("public", "us---", {"my_stable"});
    functions("public", "uv---", {"my_volatile"});
    functions("public", "uis--", {"my_liar"});
    functions("public", "uv--r", {"row_writer"});
  }
  void add_operators() {
    operators("pg_catalog", "bi---",
              {"=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "~", "~~", "~~*", "!~~",
               "@>", "->", "&&"});
    operators("pg_catalog", "bi-t-", {"->>", "||", "#>>"});
    operators("pg_catalog", "bs---", {"=", "<>", "<", "<=", ">", ">=", "+", "-", "@@"});
    operators("pg_catalog", "bs-t-", {"||"});
    operators("public", "es---", {"%"});
    operators("public", "uv---", {"<<<"});
    operators("public", "ei---", {"#=", "<->"});
  }
  void add_tables() {
    table(1001, "users",
          {{"id", kUuid},
           {"email", kText},
           {"full_name", kText},
           {"role", kText},
           {"is_active", kBool},
           {"created_at", kTimestamptz},
           {"updated_at", kTimestamptz},
           {"birthday", kText}});
    table(1002, "doctors",
          {{"id", kUuid},
           {"user_id", kUuid},
           {"specialization", kText},
           {"rating", kNumeric},
           {"birthday", kDate}});
    table(1003, "appointments",
          {{"id", kUuid},
           {"patient_id", kUuid},
           {"doctor_id", kUuid},
           {"appointment_at", kTimestamptz},
           {"notes", kText},
           {"data", kJsonb},
           {"day", kDate}});
    table(1004, "places", {{"id", kInt8}, {"geo", 90001}, {"mood", 90002}, {"n", 90004}});
    keys(1001, "{id,email,is_active}", "{1,2,5}", "[1, 2]");
    keys(1002, "{id,user_id,specialization}", "{1,2,3}");
    keys(1003, "{id,patient_id,doctor_id}", "{1,2,3}");
    keys(1004, "{id}", "{1}");
    Table unwatched;
    unwatched.watched = "false";
    table(1010, "unwatched", {{"id", kInt8}}, unwatched);
    Table secured;
    secured.row_security = "true";
    table(1011, "secured", {{"id", kInt8}}, secured);
    row({"p", "1011", "SELECT FROM public.secured WHERE (random() < 0.5)"});
    Table unlogged;
    unlogged.persistence = 'u';
    table(1012, "unlogged", {{"id", kInt8}}, unlogged);
    Table subscribed;
    subscribed.subscribed = "true";
    table(1013, "subscribed", {{"id", kInt8}}, subscribed);
    Table foreign;
    foreign.kind = 'f';
    table(1014, "remote", {{"id", kInt8}}, foreign);
    Table other_schema;
    other_schema.schema = "other";
    table(1015, "elsewhere", {{"id", kInt8}}, other_schema);
    table(1016, "users", {{"id", kInt8}}, other_schema);
    table(1017, "with_regclass", {{"id", kRegclass}});
    table(1018, "with_timetz", {{"at", kTimetz}});
    table(1019, "with_odd", {{"x", 90003}});
    Table partitioned;
    partitioned.kind = 'p';
    table(1020, "audit_logs", {{"id", kInt8}, {"created_at", kTimestamptz}}, partitioned);
    table(1021, "audit_logs_1", {{"id", kInt8}, {"created_at", kTimestamptz}});
    inherits(1020, 1021);
    functions("public", "uv---", {"view_writer"});
    view(1030, "plain_view", reads({1030, 1030, 1001}));
    view(1031, "writing_view", reads({1001}) + calls(last_oid()));
    view(1032, "view_of_view", reads({1031}));
    row({"s", "pg_catalog", R"([[1259, "pg_class", "r"], [1247, "pg_type", "r"]])"});
    row({"s", "information_schema", R"([[13000, "tables", "v"]])"});
  }

  SqlRows rows_;
  Oid next_oid_ = 5000;
  std::string suspicion_ = "false";
  std::string meant_;
};

[[nodiscard]] inline Verdict judge(std::string_view sql, const Catalog& catalog) {
  return resolve(*analyze(sql, 16384), catalog, kPath);
}

[[nodiscard]] inline bool has_reason(const Verdict& verdict, Reason reason) {
  for (const Reason each : verdict.reasons) {
    if (each == reason) return true;
  }
  return false;
}

[[nodiscard]] inline std::string labels(const Verdict& verdict) {
  std::string out;
  for (const Reason each : verdict.reasons) out.append(reason_label(each)).push_back(' ');
  return out;
}

}  // namespace pgfresh::query::test
