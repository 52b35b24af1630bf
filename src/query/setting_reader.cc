#include "query/setting_reader.h"

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "query/tree_json.h"

namespace pgfresh::query {
namespace {

using simdjson::dom::element;
using simdjson::dom::object;

// A string, or a whole number above 0: libpg_query writes no other so that it can be told.
void read_constant(const std::optional<Node>& node, SettingChange& change) {
  if (!node || node->type != "A_Const") return;
  object constant;
  if (const auto string = member(node->body, "sval");
      string && string->get(constant) == simdjson::SUCCESS) {
    change.value = text(constant, "sval");
    change.to = SettingChange::To::kValue;
    return;
  }
  int64_t number = 0;
  const auto whole = member(node->body, "ival");
  if (whole && whole->get(constant) == simdjson::SUCCESS &&
      constant.at_key("ival").get(number) == simdjson::SUCCESS && number > 0) {
    change.value = std::to_string(number);
    change.to = SettingChange::To::kValue;
  }
}

// The second argument of set_config().
void read_value(const element& argument, SettingChange& change) {
  if (const std::optional<std::string> string = string_literal(argument)) {
    change.value = *string;
    change.to = SettingChange::To::kValue;
    return;
  }
  std::optional<Node> found = unwrap(argument);
  if (found && found->type == "TypeCast") {
    object target;
    const auto type = member(found->body, "typeName");
    const auto inner = member(found->body, "arg");
    const bool to_text = type && type->get(target) == simdjson::SUCCESS &&
                         !member(target, "arrayBounds") && strings(target, "names") &&
                         strings(target, "names")->back() == "text";
    found = to_text && inner ? unwrap(*inner) : std::nullopt;
  }
  int64_t number = 0;
  if (found && found->type == "ParamRef" &&
      found->body.at_key("number").get(number) == simdjson::SUCCESS && number > 0) {
    change.parameter = static_cast<int>(number);
    change.to = SettingChange::To::kParameter;
  }
}

std::optional<bool> boolean_literal(const element& argument) {
  const std::optional<Node> found = unwrap(argument);
  const auto constant =
      found && found->type == "A_Const" ? member(found->body, "boolval") : std::nullopt;
  object value;
  if (!constant || constant->get(value) != simdjson::SUCCESS) return std::nullopt;
  return boolean(value, "boolval");
}

std::optional<SettingChange> change_of_call(const object& call) {
  const auto function = strings(call, "funcname");
  const bool named =
      function && !function->empty() && function->back() == "set_config" &&
      (function->size() == 1 || (function->size() == 2 && function->front() == "pg_catalog"));
  const auto list = member(call, "args");
  simdjson::dom::array arguments;
  if (!named || !list || list->get(arguments) != simdjson::SUCCESS || arguments.size() != 3) {
    return std::nullopt;
  }
  for (const auto [key, value] : call) {
    if (key != "funcname" && key != "args" && key != "funcformat" && key != "location") {
      return std::nullopt;
    }
  }
  const std::optional<std::string> name = string_literal(arguments.at(0));
  const std::optional<bool> local = boolean_literal(arguments.at(2));
  if (!name || !local) return std::nullopt;
  SettingChange change;
  change.name = lower_ascii(*name);
  change.local = *local;
  read_value(arguments.at(1), change);
  return change;
}

}  // namespace

std::vector<SettingChange> changes_of_set(const object& set) {
  const std::string kind = text(set, "kind");
  SettingChange change;
  change.name = lower_ascii(text(set, "name"));
  change.local = boolean(set, "is_local");
  if (kind == "VAR_SET_DEFAULT" || kind == "VAR_RESET") {
    change.to = SettingChange::To::kDefault;
  } else if (kind == "VAR_SET_VALUE") {
    simdjson::dom::array values;
    const auto list = member(set, "args");
    if (list && list->get(values) == simdjson::SUCCESS && values.size() == 1) {
      read_constant(unwrap(values.at(0)), change);
    }
  } else {
    return {};
  }
  return {change};
}

std::vector<SettingChange> changes_of_select(const object& select) {
  for (const auto [key, value] : select) {
    if (key != "targetList" && key != "limitOption" && key != "op") return {};
  }
  if (text(select, "op") != "SETOP_NONE") return {};
  simdjson::dom::array targets;
  const auto list = member(select, "targetList");
  if (!list || list->get(targets) != simdjson::SUCCESS) return {};
  std::vector<SettingChange> changes;
  for (const element item : targets) {
    const std::optional<Node> target = unwrap(item);
    const auto value =
        target && target->type == "ResTarget" ? member(target->body, "val") : std::nullopt;
    const std::optional<Node> call = value ? unwrap(*value) : std::nullopt;
    if (!call || call->type != "FuncCall" || member(target->body, "indirection")) return {};
    std::optional<SettingChange> change = change_of_call(call->body);
    if (!change) return {};
    if (const std::string name = text(target->body, "name"); !name.empty()) change->column = name;
    changes.push_back(std::move(*change));
  }
  return changes;
}

bool is_harmless_setting(std::string_view lower_name) {
  static const std::unordered_set<std::string_view> names = {"application_name",
                                                             "statement_timeout",
                                                             "lock_timeout",
                                                             "idle_in_transaction_session_timeout",
                                                             "idle_session_timeout",
                                                             "transaction_timeout",
                                                             "deadlock_timeout",
                                                             "tcp_user_timeout",
                                                             "tcp_keepalives_idle",
                                                             "tcp_keepalives_interval",
                                                             "tcp_keepalives_count",
                                                             "client_connection_check_interval",
                                                             "work_mem",
                                                             "hash_mem_multiplier",
                                                             "maintenance_work_mem",
                                                             "temp_buffers",
                                                             "effective_cache_size",
                                                             "effective_io_concurrency",
                                                             "synchronous_commit",
                                                             "commit_delay",
                                                             "client_min_messages",
                                                             "log_min_messages",
                                                             "log_min_error_statement",
                                                             "log_min_duration_statement",
                                                             "log_statement",
                                                             "log_duration",
                                                             "jit",
                                                             "jit_above_cost",
                                                             "plan_cache_mode",
                                                             "random_page_cost",
                                                             "seq_page_cost",
                                                             "cpu_tuple_cost",
                                                             "enable_seqscan",
                                                             "enable_indexscan",
                                                             "enable_bitmapscan",
                                                             "enable_indexonlyscan",
                                                             "enable_nestloop",
                                                             "enable_hashjoin",
                                                             "enable_mergejoin",
                                                             "enable_sort",
                                                             "enable_hashagg",
                                                             "enable_material",
                                                             "enable_partition_pruning",
                                                             "max_parallel_workers_per_gather",
                                                             "join_collapse_limit",
                                                             "from_collapse_limit",
                                                             "cursor_tuple_fraction",
                                                             "default_statistics_target",
                                                             "track_activities",
                                                             "track_io_timing"};
  return names.contains(lower_name);
}

}  // namespace pgfresh::query
