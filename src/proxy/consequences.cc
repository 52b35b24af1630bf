#include "proxy/consequences.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <string_view>

#include "query/policy.h"

namespace pgfresh::proxy {
namespace {

using query::Kind;
using query::Statement;

bool says(const Statement& statement, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(), [&](std::string_view word) {
    return query::contains_word(statement.text, word);
  });
}

// Anything may be in it.
bool is_opaque(Kind kind) { return kind == Kind::kMany || kind == Kind::kUnknown; }

bool may_change_session(Kind kind) {
  return kind == Kind::kDeallocate || kind == Kind::kSession || is_opaque(kind);
}

bool may_prepare(const Statement& statement) {
  if (!may_change_session(statement.kind) || !says(statement, {"prepare"})) return false;
  if (is_opaque(statement.kind)) return true;
  constexpr std::string_view kOthers[] = {"prepare transaction", "commit prepared",
                                          "rollback prepared", "deallocate", "execute"};
  return std::none_of(std::begin(kOthers), std::end(kOthers), [&](std::string_view other) {
    return statement.canonical.starts_with(other);
  });
}

bool sets_custom_alone(const Statement& statement) {
  return !statement.setting_changes.empty() &&
         std::all_of(statement.setting_changes.begin(), statement.setting_changes.end(),
                     [](const auto& change) { return query::is_custom_setting(change.name); });
}

bool may_change_parsing(const Statement& statement) {
  return (statement.kind == Kind::kSession && !sets_custom_alone(statement)) ||
         is_opaque(statement.kind);
}

// PostgreSQL refuses another isolation behind a snapshot, which all but SET, RESET and the like
// take: functions, DO and CALL cannot (src/backend/tcop/pquery.c: PlannedStmtRequiresSnapshot).
bool may_change_block(const Statement& statement) {
  if (statement.kind == Kind::kBegin || is_opaque(statement.kind)) return true;
  if (statement.kind != Kind::kSession) return false;
  return says(statement, {"transaction", "chain"}) ||
         std::any_of(statement.setting_changes.begin(), statement.setting_changes.end(),
                     [](const auto& change) { return change.name == "transaction_isolation"; });
}

// However its name is written: SET pgfresh . "inband".
bool speaks_of_inband(const Statement& statement) {
  constexpr std::string_view kName = "pgfresh.inband";
  return says(statement, {kName}) ||
         std::any_of(statement.setting_changes.begin(), statement.setting_changes.end(),
                     [&](const auto& change) { return change.name == kName; });
}

bool may_commit_within(const Statement& statement) {
  switch (statement.kind) {
    case Kind::kMany:
      return !says(statement, {"prepare"});  // PostgreSQL prepares no transaction that notifies
    case Kind::kUnknown:
      return true;
    case Kind::kSession:
      return statement.runs_code;
    default:
      return false;
  }
}

}  // namespace

Consequences consequences_of(const Statement& statement) {
  const Kind kind = statement.kind;
  Consequences found;
  found.speaks_of_statements =
      kind == Kind::kDeallocate ||
      (may_change_session(kind) && says(statement, {"deallocate", "discard", "execute"}));
  found.may_prepare = may_prepare(statement);
  found.concerns_statements =
      found.speaks_of_statements || found.may_prepare || says(statement, {"pg_prepared_statement"});
  found.may_change_parsing = may_change_parsing(statement);
  found.may_change_parsing_by_effect =
      (kind == Kind::kSelect || kind == Kind::kWrite) && !sets_custom_alone(statement);
  found.may_reset_settings = may_change_session(kind) && says(statement, {"reset", "discard"});
  found.may_set_time_limit =
      statement.setting_changes.empty() && (kind == Kind::kSession || is_opaque(kind)) &&
      says(statement,
           {"statement_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout"});
  found.may_change_block = may_change_block(statement);
  found.may_commit_within = may_commit_within(statement);
  found.speaks_of_inband = speaks_of_inband(statement);
  found.only_answers =
      kind == Kind::kSelect && !statement.makes_table && statement.setting_changes.empty();
  return found;
}

}  // namespace pgfresh::proxy
