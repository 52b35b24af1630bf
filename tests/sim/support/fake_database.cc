#include "fake_database.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstddef>

#include "base/check.h"

namespace pgfresh::sim {
namespace {

enum class Shape : uint8_t {
  kRow,   // v of one row
  kStar,  // all columns of one row: id, v, and x0 … for each ALTER TABLE … ADD
  kPad,   // a long text of one row
  kList,  // all rows
  kSum,   // count and sum of all rows
  kLock,  // v of one row, FOR UPDATE
  kInsert,
  kUpdate,
  kUpdateIf,  // only if v is smaller than …
  kUpdateAll,
  kCall,  // of a function that sets v of one row of bench, if it is smaller
};

struct Pattern {
  Shape shape;
  std::string_view text;  // TABLE and INT capture, the rest stands for itself
};

constexpr Pattern kPatterns[] = {
    {Shape::kRow, "select v from TABLE where id = INT"},
    {Shape::kStar, "select * from TABLE where id = INT"},
    {Shape::kLock, "select v from TABLE where id = INT for update"},
    {Shape::kPad, "select pad from TABLE where id = INT"},
    {Shape::kList, "select id , v from TABLE order by id"},
    {Shape::kSum, "select count ( * ) , sum ( v ) from TABLE"},
    {Shape::kInsert, "insert into TABLE values ( INT , INT )"},
    {Shape::kUpdate, "update TABLE set v = INT where id = INT"},
    {Shape::kUpdateIf, "update TABLE set v = INT where id = INT and v < INT"},
    {Shape::kUpdateAll, "update TABLE set v = INT"},
    {Shape::kCall, "select raise_v ( INT , INT )"},
};

// A number, or the number of a parameter.
struct Argument {
  bool parameter = false;
  int64_t number = 0;
};

bool read_number(std::string_view text, int64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

struct Match {
  Shape shape = Shape::kRow;
  std::string table;
  std::vector<Argument> arguments;
};

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t end = text.find(' ');
    words.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return words;
}

bool matches(const Pattern& pattern, const std::vector<std::string>& tokens, Match& match) {
  const std::vector<std::string_view> words = words_of(pattern.text);
  if (words.size() != tokens.size()) return false;
  match = Match{pattern.shape, "bench", {}};
  for (size_t i = 0; i < words.size(); ++i) {
    Argument argument;
    if (words[i] == "TABLE") {
      match.table = tokens[i];
    } else if (words[i] == "INT") {
      argument.parameter = tokens[i].starts_with('$');
      const std::string_view digits =
          std::string_view(tokens[i]).substr(argument.parameter ? 1 : 0);
      if (!read_number(digits, argument.number)) return false;
      match.arguments.push_back(argument);
    } else if (words[i] != tokens[i]) {
      return false;
    }
  }
  return true;
}

std::vector<FakeColumn> columns_of(Shape shape, size_t added) {
  switch (shape) {
    case Shape::kStar: {
      std::vector<FakeColumn> columns = {{"id", 20}, {"v", 20}};
      for (size_t i = 0; i < added; ++i) columns.push_back({"x" + std::to_string(i), 23});
      return columns;
    }
    case Shape::kRow:
    case Shape::kLock:
      return {{"v", 20}};
    case Shape::kPad:
      return {{"pad", 25}};
    case Shape::kList:
      return {{"id", 20}, {"v", 20}};
    case Shape::kSum:
      return {{"count", 20}, {"sum", 1700}};
    case Shape::kCall:
      return {{"raise_v", 20}};
    case Shape::kInsert:
    case Shape::kUpdate:
    case Shape::kUpdateIf:
    case Shape::kUpdateAll:
      return {};
  }
  return {};
}

// CREATE TABLE … AS, SELECT … INTO.
bool makes_table(const std::vector<std::string>& tokens) {
  return tokens.size() > 4 && ((tokens[0] == "create" && tokens[3] == "as") ||
                               (tokens[0] == "select" && tokens[2] == "into"));
}

bool is_schema_change(const std::vector<std::string>& tokens) {
  return makes_table(tokens) ||
         (tokens.size() > 2 && (tokens[0] == "create" || tokens[0] == "alter" ||
                                tokens[0] == "drop" || tokens[0] == "security"));
}

}  // namespace

FakeOutcome FakeOutcome::failure(std::string sqlstate, std::string error) {
  FakeOutcome outcome;
  outcome.sqlstate = std::move(sqlstate);
  outcome.error = std::move(error);
  return outcome;
}

std::vector<std::string> fake_tokens(std::string_view sql) {
  std::vector<std::string> tokens;
  const auto word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' || c == '.';
  };
  for (size_t at = 0; at < sql.size();) {
    if (sql.substr(at).starts_with("/*")) {
      const size_t end = sql.find("*/", at);
      at = end == std::string_view::npos ? sql.size() : end + 2;
    } else if (sql.substr(at).starts_with("--")) {
      at = std::min(sql.find('\n', at), sql.size());
    } else if (std::isspace(static_cast<unsigned char>(sql[at])) != 0 || sql[at] == ';') {
      ++at;
    } else {
      size_t end = at + 1;
      if (word(sql[at]) || sql[at] == '-') {
        while (end < sql.size() && word(sql[end])) ++end;
      }
      std::string token(sql.substr(at, end - at));
      std::transform(token.begin(), token.end(), token.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      tokens.push_back(std::move(token));
      at = end;
    }
  }
  return tokens;
}

struct FakeDatabase::Values {
  Shape shape = Shape::kRow;
  std::string table;
  std::vector<int64_t> numbers;
};

FakeDatabase::FakeDatabase() : tables_{{"bench", 16402}, {"side", 16403}, {"mirror", 16404}} {}

std::optional<int64_t> FakeDatabase::committed(int64_t id, const std::string& table) const {
  const auto row = rows_.find({table, id});
  return row == rows_.end() ? std::nullopt : std::optional(row->second);
}

FakeOutcome FakeDatabase::describe(std::string_view sql, size_t& parameters) const {
  const std::vector<std::string> tokens = fake_tokens(sql);
  parameters = 0;
  if (is_schema_change(tokens) || tokens == std::vector<std::string>{"select"}) return {};
  Match match;
  for (const Pattern& pattern : kPatterns) {
    if (!matches(pattern, tokens, match)) continue;
    if (!tables_.contains(match.table))
      return FakeOutcome::failure("42P01", "relation does not exist");
    for (const Argument& argument : match.arguments) {
      if (argument.parameter) {
        parameters = std::max(parameters, static_cast<size_t>(argument.number));
      }
    }
    FakeOutcome outcome;
    outcome.columns = columns_of(match.shape, added_of(match.table));
    return outcome;
  }
  return FakeOutcome::failure("42601", "syntax error");
}

FakeOutcome FakeDatabase::execute(Transaction& tx, std::string_view sql,
                                  const std::vector<std::optional<std::string>>& parameters) {
  size_t wanted = 0;
  FakeOutcome outcome = describe(sql, wanted);
  if (!outcome.error.empty()) return outcome;
  const std::vector<std::string> tokens = fake_tokens(sql);
  if (is_schema_change(tokens)) return change_schema(tx, sql);
  if (parameters.size() < wanted) return FakeOutcome::failure("08P01", "too few parameters");
  Match match;
  for (const Pattern& pattern : kPatterns) {
    if (matches(pattern, tokens, match)) break;
  }
  Values values{match.shape, match.table, {}};
  for (const Argument& argument : match.arguments) {
    int64_t number = argument.number;
    if (argument.parameter) {
      const auto& given = parameters[static_cast<size_t>(argument.number) - 1];
      if (!given || !read_number(*given, number))
        return FakeOutcome::failure("22P02", "invalid input");
    }
    values.numbers.push_back(number);
  }
  if (tx.visibility == Visibility::kSnapshot && !tx.snapshot) tx.snapshot = rows_;
  if (values.shape == Shape::kCall) return call(tx, values);
  return outcome.columns.empty() ? write(tx, values) : select(tx, values);
}

std::optional<int64_t> FakeDatabase::read(const Transaction& tx, const Key& key) const {
  if (const auto own = tx.writes.find(key); own != tx.writes.end()) return own->second;
  const std::map<Key, int64_t>& visible = tx.snapshot ? *tx.snapshot : rows_;
  const auto row = visible.find(key);
  return row == visible.end() ? std::nullopt : std::optional(row->second);
}

std::vector<std::pair<int64_t, int64_t>> FakeDatabase::scan(const Transaction& tx,
                                                            const std::string& table) const {
  std::map<int64_t, int64_t> found;
  for (const auto& [key, v] : tx.snapshot ? *tx.snapshot : rows_) {
    if (key.first == table) found[key.second] = v;
  }
  for (const auto& [key, v] : tx.writes) {
    if (key.first == table) found[key.second] = v;
  }
  return {found.begin(), found.end()};
}

FakeOutcome FakeDatabase::select(Transaction& tx, const Values& values) {
  FakeOutcome outcome;
  outcome.columns = columns_of(values.shape, added_of(values.table));
  if (values.shape == Shape::kList) {
    for (const auto& [id, v] : scan(tx, values.table)) {
      outcome.rows.push_back({std::to_string(id), std::to_string(v)});
    }
  } else if (values.shape == Shape::kSum) {
    int64_t count = 0;
    int64_t sum = 0;
    for (const auto& [id, v] : scan(tx, values.table)) {
      ++count;
      sum += v;
    }
    outcome.rows.push_back({std::to_string(count), std::to_string(sum)});
  } else {
    const int64_t id = values.numbers[0];
    if (values.shape == Shape::kLock && !lock(tx, {values.table, id})) {
      return FakeOutcome::failure("55P03", "could not obtain lock on row");
    }
    const auto quirk = quirks_.find(id);
    if (quirk != quirks_.end()) {
      if (quirk->second == Quirk::kError) return FakeOutcome::failure("22012", "division by zero");
      outcome.notice = quirk->second == Quirk::kNotice;
      outcome.parameter_status = quirk->second == Quirk::kParameterStatus;
    }
    const auto v = read(tx, {values.table, id});
    if (v && values.shape == Shape::kStar) {
      outcome.rows.push_back({std::to_string(id), std::to_string(*v)});
      outcome.rows.back().resize(outcome.columns.size());
    } else if (v) {
      outcome.rows.push_back({values.shape == Shape::kPad ? pad_ : std::to_string(*v)});
    }
  }
  outcome.tag = "SELECT " + std::to_string(outcome.rows.size());
  return outcome;
}

bool FakeDatabase::lock(Transaction& tx, const Key& key) {
  const auto [place, made] = locks_.try_emplace(key, &tx);
  if (made) static_cast<void>(assign_xid(tx));
  return place->second == &tx;
}

// A row locked by another transaction is an error at once: nobody waits here.
FakeOutcome FakeDatabase::write(Transaction& tx, const Values& values) {
  std::vector<std::pair<int64_t, int64_t>> changes;  // id, v
  const std::vector<int64_t>& numbers = values.numbers;
  switch (values.shape) {
    case Shape::kInsert:
      changes.emplace_back(numbers[0], numbers[1]);
      break;
    case Shape::kUpdate:
    case Shape::kUpdateIf: {
      // What counts is the newest committed row, as for PostgreSQL's UPDATE.
      const Key key{values.table, numbers[1]};
      const auto own = tx.writes.find(key);
      const auto v =
          own != tx.writes.end() ? std::optional(own->second) : committed(numbers[1], values.table);
      const bool wanted = v && (values.shape == Shape::kUpdate || *v < numbers[2]);
      if (wanted) changes.emplace_back(numbers[1], numbers[0]);
      break;
    }
    default:
      for (const auto& [id, v] : scan(tx, values.table)) changes.emplace_back(id, numbers[0]);
  }
  std::vector<int64_t> ids;
  for (const auto& [id, v] : changes) {
    if (!lock(tx, {values.table, id}))
      return FakeOutcome::failure("55P03", "could not obtain lock on row");
    ids.push_back(id);
  }
  for (const auto& [id, v] : changes) tx.writes[{values.table, id}] = v;
  FakeOutcome outcome;
  outcome.tag =
      (values.shape == Shape::kInsert ? "INSERT 0 " : "UPDATE ") + std::to_string(ids.size());
  fire_triggers(tx, values.table, ids, outcome);
  write_mirror(tx, values, ids, outcome);
  return outcome;
}

// The rows of bench are locked, and nobody else writes these.
void FakeDatabase::write_mirror(Transaction& tx, const Values& values,
                                const std::vector<int64_t>& ids, FakeOutcome& outcome) {
  if (mirror_ == Mirror::kNone || values.table != "bench") return;
  for (const int64_t id : ids) tx.writes[{"mirror", id}] = tx.writes[{"bench", id}];
  FakeOutcome unheard;
  fire_triggers(tx, "mirror", ids, mirror_ == Mirror::kTold ? outcome : unheard);
}

// It returns how many rows it has changed.
FakeOutcome FakeDatabase::call(Transaction& tx, const Values& values) {
  const int64_t id = values.numbers[0];
  const int64_t v = values.numbers[1];
  FakeOutcome outcome = write(tx, {Shape::kUpdateIf, "bench", {v, id, v}});
  if (!outcome.error.empty()) return outcome;
  outcome.columns = columns_of(Shape::kCall, 0);
  outcome.rows.push_back({outcome.events.empty() ? "0" : "1"});
  outcome.tag = "SELECT 1";
  return outcome;
}

FakeOutcome FakeDatabase::copy_in(Transaction& tx, const std::string& table,
                                  std::string_view lines) {
  std::vector<int64_t> ids;
  while (!lines.empty()) {
    const size_t end = lines.find('\n');
    const std::string_view line = lines.substr(0, end);
    const size_t tab = line.find('\t');
    int64_t id = 0;
    int64_t v = 0;
    if (tab == std::string_view::npos || !read_number(line.substr(0, tab), id) ||
        !read_number(line.substr(tab + 1), v)) {
      return FakeOutcome::failure("22P04", "bad copy data");
    }
    if (!lock(tx, {table, id}))
      return FakeOutcome::failure("55P03", "could not obtain lock on row");
    tx.writes[{table, id}] = v;
    ids.push_back(id);
    if (end == std::string_view::npos) break;
    lines.remove_prefix(end + 1);
  }
  FakeOutcome outcome;
  outcome.tag = "COPY " + std::to_string(ids.size());
  fire_triggers(tx, table, ids, outcome);
  return outcome;
}

// Rule 2: the keys when they are known and few; nothing where no row was changed.
void FakeDatabase::fire_triggers(Transaction& tx, const std::string& table,
                                 const std::vector<int64_t>& ids, FakeOutcome& outcome) {
  if (ids.empty()) return;
  std::string payload = "1 " + std::to_string(assign_xid(tx));
  const std::string oid = std::to_string(tables_.at(table));
  if (ids.size() > 8) {
    payload += " w " + oid;
  } else {
    payload += " r " + oid + " 1 1 " + std::to_string(ids.size());
    for (const int64_t id : ids) {
      const std::string text = std::to_string(id);
      payload += " " + std::to_string(text.size()) + ":" + text;
    }
  }
  outcome.events.push_back(payload);
  if (std::find(tx.events.begin(), tx.events.end(), payload) == tx.events.end()) {
    tx.events.push_back(payload);
  }
}

FakeOutcome FakeDatabase::change_schema(Transaction& tx, std::string_view sql) {
  const std::vector<std::string> tokens = fake_tokens(sql);
  FakeOutcome outcome;
  outcome.tag = tokens[0] + " " + tokens[1];
  std::transform(outcome.tag.begin(), outcome.tag.end(), outcome.tag.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (makes_table(tokens)) outcome.tag = "SELECT 1";
  ++ddl_;
  flush();
  if (tokens[0] == "alter" && tokens.size() > 3 && tokens[3] == "add") ++added_[tokens[2]];
  const bool of_role = std::find(tokens.begin(), tokens.end(), "role") != tokens.end();
  if (event_triggers_ && !of_role) {
    const std::string payload = "1 " + std::to_string(assign_xid(tx)) + " s";
    outcome.events.push_back(payload);
    tx.events.push_back(payload);
  }
  return outcome;
}

uint64_t FakeDatabase::assign_xid(Transaction& tx) {
  if (tx.xid == 0) tx.xid = next_xid_++;
  return tx.xid;
}

std::vector<std::string> FakeDatabase::commit(Transaction& tx) {
  for (const auto& [key, v] : tx.writes) {
    if (asynchronous_) unflushed_.push_back({key, committed(key.second, key.first), v});
    rows_[key] = v;
    if (on_visible_) on_visible_(key, v);
  }
  std::vector<std::string> events = std::move(tx.events);
  rollback(tx);
  return events;
}

void FakeDatabase::rollback(Transaction& tx) {
  std::erase_if(locks_, [&tx](const auto& item) { return item.second == &tx; });
  tx = Transaction{};
}

void FakeDatabase::flush() {
  unflushed_.clear();
  flushed_xid_ = next_xid_;
}

std::vector<std::pair<FakeDatabase::Key, int64_t>> FakeDatabase::lose_unflushed() {
  if (!asynchronous_) return {};
  std::vector<std::pair<Key, int64_t>> lost;
  for (; !unflushed_.empty(); unflushed_.pop_back()) {
    const Unflushed& last = unflushed_.back();
    lost.emplace_back(last.key, last.after);
    if (last.before) {
      rows_[last.key] = *last.before;
    } else {
      rows_.erase(last.key);
    }
  }
  next_xid_ = flushed_xid_;
  return lost;
}

void FakeDatabase::savepoint(Transaction& tx, std::string name) {
  tx.savepoints.push_back({std::move(name), tx.writes, tx.events.size()});
}

// The locks stay until the end; PostgreSQL would give those of the subtransaction back.
bool FakeDatabase::rollback_to(Transaction& tx, const std::string& name) {
  while (!tx.savepoints.empty() && tx.savepoints.back().name != name) tx.savepoints.pop_back();
  if (tx.savepoints.empty()) return false;
  tx.writes = tx.savepoints.back().writes;
  tx.events.resize(tx.savepoints.back().events);
  return true;
}

bool FakeDatabase::release(Transaction& tx, const std::string& name) {
  while (!tx.savepoints.empty() && tx.savepoints.back().name != name) tx.savepoints.pop_back();
  if (tx.savepoints.empty()) return false;
  tx.savepoints.pop_back();
  return true;
}

size_t FakeDatabase::added_of(const std::string& table) const {
  const auto found = added_.find(table);
  return found == added_.end() ? 0 : found->second;
}

std::string FakeDatabase::attributes_of(const std::string& table) const {
  std::string json = R"([[1, 20, "id", true], [2, 20, "v", true], [3, 25, "pad", true])";
  for (size_t i = 0; i < added_of(table); ++i) {
    json += ", [" + std::to_string(4 + i) + ", 23, \"x" + std::to_string(i) + "\", true]";
  }
  return json + "]";
}

// In the form of src/query/catalog_load.cc: what the statements above need, and no more.
SqlRows FakeDatabase::catalog_rows() const {
  SqlRows out;
  out.columns = {"kind", "a", "b", "c", "d", "e", "f", "g", "h", "i"};
  const auto add = [&out](std::vector<std::optional<std::string>> row) {
    row.resize(10);
    out.rows.push_back(std::move(row));
  };
  add({"m", "1", event_triggers_ ? "2" : "0", "false"});
  for (const auto& [name, oid] : tables_) {
    add({"r", std::to_string(oid), "public", name, "r", "p", "false", "true", "false",
         attributes_of(name)});
    add({"k", std::to_string(oid), "{id}", "{1}", "[1]"});
  }
  // A policy that is not in force: what it reads is known to sessions all the same.
  add({"p", std::to_string(tables_.begin()->second),
       "SELECT FROM public.bench WHERE (current_setting('app.tenant'::text, true) = 'x'::text)"});
  add({"f", "pg_catalog", "bi---", R"([[2147, "count"], [2108, "sum"]])"});
  add({"f", "public", "uv---", R"([[16500, "raise_v"]])"});
  add({"o", "pg_catalog", "bi---", R"([[410, "="], [412, "<"]])"});
  add({"y", "20", "pg_catalog", "int8", "b", "b--"});
  add({"y", "23", "pg_catalog", "int4", "b", "b--"});
  add({"y", "25", "pg_catalog", "text", "b", "b--"});
  add({"y", "1700", "pg_catalog", "numeric", "b", "b--"});
  return out;
}

}  // namespace pgfresh::sim
