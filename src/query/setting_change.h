// Statements that change a setting and do nothing else, understood so far that what they leave
// behind is known without asking PostgreSQL: SET, SET LOCAL, RESET, SELECT set_config(…).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pgfresh::query {

struct SettingChange {
  enum class To : uint8_t {
    kValue,      // `value`, to the letter
    kParameter,  // the bind parameter with the number `parameter`, a text
    kDefault,    // RESET, TO DEFAULT
    kUnclear,    // several values, a number of another form, an expression
  };
  std::string name;  // in lower case
  To to = To::kUnclear;
  std::string value;
  int parameter = 0;
  std::string column = "set_config";  // set_config(): what the result's column is called
  bool local = false;                 // until the end of the transaction
};

// A setting that cannot change the bytes or the meaning of an answer, whatever its value: time
// limits, memory, the planner's and the log's.
[[nodiscard]] bool is_harmless_setting(std::string_view lower_name);

}  // namespace pgfresh::query
