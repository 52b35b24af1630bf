// What one session has been asked to do: texts become statements, statements become portals
// (PostgreSQL manual, "Extended Query"). Knows no I/O and runs nothing; the session does.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "console/backend.h"
#include "console/command.h"
#include "console/courtesy.h"
#include "console/table.h"
#include "console/tokens.h"
#include "wire/messages.h"

namespace pgfresh::console {

struct Statement {
  enum class Kind : uint8_t { kEmpty, kCommand, kCourtesy };
  Kind kind = Kind::kEmpty;
  Command command;  // kCommand
  Tokens tokens;    // all but kEmpty
};
using StatementRef = std::shared_ptr<const Statement>;

// The statements of a text, in order; one of them wrong, and none is given. Nothing at all in the
// text: an empty list.
[[nodiscard]] tl::expected<std::vector<StatementRef>, Failure> interpret(std::string_view text,
                                                                         const CourtesyDesk& desk);

// The columns a statement's answer has; empty when it has no rows.
[[nodiscard]] Columns columns_of(const Statement& statement, const CourtesyDesk& desk);

struct Portal {
  enum class State : uint8_t { kFresh, kRows, kDone };
  StatementRef statement;
  std::vector<Format> formats;
  State state = State::kFresh;
  std::optional<Table> table;  // kRows: what has been answered
  size_t next_row = 0;         // kRows: the first one not sent yet
};

// The named and unnamed statements and portals of a session. Their number is bounded: 64 statements
// of 256 tokens (statements.cc) are 700 KB; a portal's table lives until the transaction ends.
class StatementStore {
 public:
  explicit StatementStore(const CourtesyDesk& desk) : desk_(desk) {}

  [[nodiscard]] std::optional<Failure> parse(const wire::ParseMessage& message);
  [[nodiscard]] std::optional<Failure> bind(const wire::BindMessage& message);
  // Appends ParameterDescription, RowDescription or NoData.
  [[nodiscard]] std::optional<Failure> describe(std::string& out,
                                                const wire::TargetMessage& message) const;
  void close(const wire::TargetMessage& message);
  // nullptr: there is no such portal. Valid until the next call that removes portals.
  [[nodiscard]] Portal* portal(std::string_view name);

  void forget(const Forget& what);
  void drop_unnamed();
  void drop_portals() { portals_.clear(); }

 private:
  const CourtesyDesk& desk_;
  std::map<std::string, StatementRef, std::less<>> statements_;
  std::map<std::string, Portal, std::less<>> portals_;
};

}  // namespace pgfresh::console
