// What a text's tokens give besides its parse tree: the canonical form and the hints in comments.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "query/scan.h"

namespace pgfresh::query {

// `places`, where it is given, gets for each token its place in the canonical form; for comments
// and for semicolons at the end, which are left out, it means nothing.
[[nodiscard]] std::string canonical_form(const std::vector<Token>& tokens,
                                         std::vector<uint32_t>* places = nullptr);

// The canonical form with a ? for each constant and parameter, and one for a whole list of them
// behind IN or ARRAY: what texts have in common that one piece of an application sends. For
// statistics; it says nothing about meaning.
[[nodiscard]] std::string grouped_form(const std::vector<Token>& tokens);

// `text` without the comment at its end that tracing tools put there, another one each time:
// /* traceparent='00-…' */, with a semicolon behind it or not. Comments that somebody reads, hints
// of ours or a planner's, stay. If what is given back parses, it means to PostgreSQL what `text`
// does; if it does not, nothing is said about `text`.
[[nodiscard]] std::string_view without_last_comment(std::string_view text);

struct Hints {
  bool off = false;
  std::optional<int64_t> ttl_ms;
};

// From comments of the form /* pgfresh: off */ and /* pgfresh: ttl=30s */ (ms, s, min, h), options
// separated by blanks or commas. What is not understood is left alone: it is a comment.
[[nodiscard]] Hints hints_of(const std::vector<Token>& tokens);

}  // namespace pgfresh::query
