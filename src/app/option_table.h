// The table of options: one row each, in the order of the sample file.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/options.h"

namespace pgfresh::app {

enum class Change : uint8_t { kAtStart, kByReload };

// How an option is written.
enum class Kind : uint8_t {
  kDuration,  // "15min"
  kBytes,     // "64KB"
  kPercent,   // "10%"
  kNumber,
  kWord,   // one of `words`
  kText,   // one line
  kTexts,  // a list; --set takes it with commas
  kUsers,  // a list of name and password; --set takes one "name:password"
};

using Texts = std::vector<std::string>;

struct Option {
  std::string_view name;  // dotted: "cache.bytes"
  Kind kind = Kind::kText;
  std::string_view default_text;  // as --set would take it
  int64_t low = 0;                // range, in milliseconds, bytes, percent or itself
  int64_t high = 0;
  std::vector<std::string_view> words;
  std::string_view allowed;  // of kText and kTexts, for people
  Change change = Change::kAtStart;
  std::string_view why;

  // The first two for kDuration to kWord (there: the index of the word), the others for the rest.
  std::function<void(Options&, int64_t)> put_number;
  std::function<int64_t(const Options&)> get_number;
  std::function<std::string(Options&, const Texts&)> put_texts;  // empty, or what is wrong
  std::function<Texts(const Options&)> get_texts;
};

[[nodiscard]] std::span<const Option> option_table();
// Null when there is none of that name.
[[nodiscard]] const Option* find_option(std::string_view name);

// Puts a value, given as its items: one, or any number for kTexts and kUsers. Empty, or what is
// wrong and what is allowed.
[[nodiscard]] std::string put(const Option& option, Options& options, const Texts& items);

// "1KB to 1GB", "on or off".
[[nodiscard]] std::string allowed_text(const Option& option);
// A name that is none, for an error: cut where it may have become part of a value.
[[nodiscard]] std::string shown_name(std::string_view name);
// As SHOW CONFIG shows it: no passwords.
[[nodiscard]] std::string shown_value(const Option& option, const Options& options);
// The default as the sample file has it; `defaults` are Options::defaults().
[[nodiscard]] std::string shown_default(const Option& option, const Options& defaults);

}  // namespace pgfresh::app
