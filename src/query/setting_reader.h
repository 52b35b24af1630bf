// From the parse tree of one statement to the settings it changes (setting_change.h).
#pragma once

#include <simdjson.h>

#include <vector>

#include "query/setting_change.h"

namespace pgfresh::query {

// `set`: the fields of a VariableSetStmt. Empty: it is another one, as SET TRANSACTION, RESET ALL.
[[nodiscard]] std::vector<SettingChange> changes_of_set(const simdjson::dom::object& set);

// `select`: the fields of a SelectStmt. Empty: it does anything besides calling set_config() with
// a name and true or false to the letter. Whether that is PostgreSQL's own function is for the
// catalog to say.
[[nodiscard]] std::vector<SettingChange> changes_of_select(const simdjson::dom::object& select);

}  // namespace pgfresh::query
