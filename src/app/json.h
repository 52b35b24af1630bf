// The little JSON that pgfresh writes.
#pragma once

#include <string>
#include <string_view>

namespace pgfresh::app {

// The text in quotes. Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string json_string(std::string_view text);

}  // namespace pgfresh::app
