// What a text's tokens give besides its parse tree: the canonical form and the hints in comments.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "query/scan.h"

namespace pgfresh::query {

[[nodiscard]] std::string canonical_form(const std::vector<Token>& tokens);

struct Hints {
  bool off = false;
  std::optional<int64_t> ttl_ms;
};

// From comments of the form /* pgfresh: off */ and /* pgfresh: ttl=30s */ (ms, s, min, h), options
// separated by blanks or commas. What is not understood is left alone: it is a comment.
[[nodiscard]] Hints hints_of(const std::vector<Token>& tokens);

}  // namespace pgfresh::query
