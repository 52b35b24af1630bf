// What psql and drivers say on their own, to any PostgreSQL: SET and SHOW of ordinary parameters,
// SELECT 1, version() and the like, transaction blocks, DISCARD and DEALLOCATE. Answered here so
// that every client library may be used as a console. No table is ever read and nothing of pgfresh
// changes; a transaction block is kept in the status byte alone.
//
// Not done: expressions, other functions, the system catalogs (psql's \d), cursors.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "console/backend.h"
#include "console/tokens.h"

namespace pgfresh::console {

// What a session answers when it is asked about itself.
struct SessionFacts {
  std::string user;
  std::string database;
  std::string application_name;
  std::string version;  // of pgfresh: "0.1"
  uint32_t pid = 0;
};

// Prepared statements that a courtesy asks to be forgotten.
struct Forget {
  enum class What : uint8_t { kNothing, kAll, kOne };
  What what = What::kNothing;
  std::string name;  // kOne
};

struct Courtesy {
  Outcome outcome;
  Forget forget;
};

class CourtesyDesk {
 public:
  explicit CourtesyDesk(SessionFacts facts);

  // nullopt: not something the desk knows.
  [[nodiscard]] std::optional<Courtesy> answer(TokenSpan tokens);
  // The columns that answer() would give, empty for an answer without rows; nullopt as above.
  [[nodiscard]] std::optional<Columns> describe(TokenSpan tokens) const;

  // 'I', 'T' or 'E', as ReadyForQuery has it.
  [[nodiscard]] char block() const { return block_; }
  // In a failed block, only what ends it may be asked.
  [[nodiscard]] bool refuses(TokenSpan tokens) const;
  // An error was sent: an open block has failed.
  void failed();

  // What the client is told of at login, in PostgreSQL's order; values as SHOW gives them.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> reported() const;
  // Those that have changed since the last call.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> take_changes();

 private:
  struct Parameter {
    std::string value;
    std::string at_start;
  };

  [[nodiscard]] std::optional<Outcome> block_command(TokenSpan tokens);
  [[nodiscard]] std::optional<Outcome> set(TokenSpan tokens);
  [[nodiscard]] std::optional<Outcome> reset(TokenSpan tokens);
  [[nodiscard]] std::optional<Table> show(TokenSpan tokens) const;
  [[nodiscard]] std::optional<Table> select(TokenSpan tokens) const;
  [[nodiscard]] std::optional<std::pair<Column, Value>> item(TokenSpan& tokens) const;
  [[nodiscard]] std::optional<std::pair<Column, Value>> call(const std::string& function,
                                                             TokenSpan arguments) const;
  [[nodiscard]] Outcome assign(const std::string& name, const std::string& value);
  void restore();

  const SessionFacts facts_;
  std::map<std::string, Parameter, std::less<>> parameters_;
  std::vector<std::string> changed_;
  char block_ = 'I';
};

}  // namespace pgfresh::console
