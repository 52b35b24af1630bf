// See pattern.h, which argues why it is right.
#include "query/pattern.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "base/check.h"
#include "base/text.h"
#include "query/canonical.h"
#include "query/scan.h"
#include "query/shape.h"

namespace pgfresh::query {
namespace {

// What may stand in a word behind its first character.
constexpr std::array<bool, 256> kInWord = [] {
  std::array<bool, 256> table{};
  for (size_t c = 0; c < table.size(); ++c) {
    table[c] = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '$' || c >= 0x80;
  }
  return table;
}();

bool in_word(char c) { return kInWord[static_cast<unsigned char>(c)]; }

// The class of a run of digits; nullopt: it stays as it is. So do leading zeros, so that the value
// is told by the digits alone, and zero.
std::optional<Literal::Class> class_of(std::string_view digits) {
  constexpr size_t kInt8Digits = 19;
  if (digits.size() > kInt8Digits || digits.front() == '0') {
    return std::nullopt;
  }
  uint64_t value = 0;
  for (const char c : digits) value = value * 10 + static_cast<uint64_t>(c - '0');
  if (value <= uint64_t{std::numeric_limits<int32_t>::max()}) return Literal::Class::kInt4;
  if (value <= uint64_t{std::numeric_limits<int64_t>::max()}) return Literal::Class::kInt8;
  return std::nullopt;
}

// The end of the run of digits at `at`.
size_t end_of_digits(std::string_view text, size_t at) {
  while (at < text.size() && is_digit(text[at])) ++at;
  return at;
}

size_t end_of_word(std::string_view text, size_t at) {
  while (at < text.size() && in_word(text[at])) ++at;
  return at;
}

struct Quoted {
  size_t end = 0;  // behind the last quote, or at the end of the text
  bool plain = false;
};

// The string at `at`. Doubled quotes are part of it.
Quoted quoted_at(std::string_view text, size_t at) {
  Quoted found{at + 1, true};
  while (found.end < text.size()) {
    const char c = text[found.end++];
    if (c == '\'') {
      if (found.end >= text.size() || text[found.end] != '\'') return found;
      ++found.end;
      found.plain = false;
    } else if (c == '\\' || c < ' ' || static_cast<unsigned char>(c) >= 0x7f) {
      found.plain = false;
    }
  }
  found.plain = false;
  return found;
}

// float(24) is another type than float(25).
bool has_sized_float(const std::vector<Token>& tokens) {
  const Token* previous = nullptr;
  for (const Token& token : tokens) {
    if (token.kind == TokenKind::kComment) continue;
    if (previous != nullptr && token.text == "(" && previous->kind == TokenKind::kWord &&
        contains_word(previous->text, "float")) {
      return true;
    }
    previous = &token;
  }
  return false;
}

std::string_view bytes_of(std::string_view text, const Literal& literal) {
  return text.substr(literal.begin, literal.size);
}

// The analysis of a text with this literal is another one than that of texts with others.
bool matters(std::string_view text, const Literal& literal) {
  if (literal.kind != Literal::Class::kString) return false;
  const std::string_view bytes = bytes_of(text, literal);
  return is_time_word(bytes) || !cheap_to_scan(bytes);
}

// As the parse tree has it.
std::string_view value_of(std::string_view text, const Literal& literal) {
  const std::string_view bytes = bytes_of(text, literal);
  const bool is_string = literal.kind == Literal::Class::kString;
  return is_string ? bytes.substr(1, bytes.size() - 2) : bytes;
}

// Makes the literal another one of the same class and length; an empty string stays.
void change(std::string& text, const Literal& literal) {
  if (literal.kind == Literal::Class::kString) {
    for (size_t at = literal.begin + 1; at + 1 < literal.begin + literal.size; ++at) {
      text[at] = text[at] == 'x' ? 'y' : 'x';
    }
    return;
  }
  char& last = text[literal.begin + literal.size - 1];
  const char digit = last;
  for (const char other : {digit == '0' ? '1' : static_cast<char>(digit - 1),
                           digit == '9' ? '8' : static_cast<char>(digit + 1)}) {
    last = other;
    if (class_of(bytes_of(text, literal)) == literal.kind) return;
  }
  last = digit;
}

// The constants among the row keys, always in the same order.
template <typename Visit>
void for_each_constant(SelectShape& shape, Visit visit) {
  const auto see = [&](KeyOperand& operand) {
    if (operand.kind == KeyOperand::Kind::kNumber || operand.kind == KeyOperand::Kind::kString) {
      visit(operand);
    }
  };
  const auto see_all = [&](std::vector<KeyCondition>& conditions) {
    for (KeyCondition& condition : conditions) {
      see(condition.left);
      for (KeyOperand& operand : condition.right) see(operand);
    }
  };
  for (QueryLevel& level : shape.levels) {
    see_all(level.where);
    for (FromItem& item : level.items) see_all(item.on);
  }
}

// Statements whose grammar was looked through for constants that matter.
bool may_teach(const Statement& statement) {
  // What set_config() sets may be a literal.
  if (!statement.setting_changes.empty() || statement.makes_table) return false;
  switch (statement.kind) {
    case Kind::kSelect:
      return statement.shape != nullptr;
    case Kind::kWrite:
      return statement.shape != nullptr && !statement.canonical.starts_with("copy") &&
             !statement.canonical.starts_with("truncate");
    case Kind::kEmpty:
    case Kind::kBegin:
    case Kind::kCommit:
    case Kind::kRollback:
    case Kind::kSavepoint:
    case Kind::kShowLast:
    case Kind::kShow:
    case Kind::kNotify:
    case Kind::kDeallocate:
    case Kind::kSession:
    case Kind::kDdl:
    case Kind::kMany:
    case Kind::kUnknown:
      return false;
  }
  return false;
}

}  // namespace

bool Skeleton::take(std::string_view text) {
  bytes.clear();
  literals.clear();
  if (text.size() >= std::numeric_limits<uint32_t>::max()) return false;
  // The marks are such characters, so that none of the text's own can be taken for one.
  const auto is_mark = [](char c) { return c >= '\0' && c < '\t'; };
  if (std::any_of(text.begin(), text.end(), is_mark)) return false;
  bytes.reserve(text.size());
  size_t copied = 0;
  const auto add = [&](Literal::Class kind, size_t begin, size_t end) {
    bytes.append(text.substr(copied, begin - copied));
    bytes.push_back(static_cast<char>(kind));
    literals.push_back({kind, static_cast<uint32_t>(begin), static_cast<uint32_t>(end - begin)});
    copied = end;
  };
  size_t at = 0;
  while (at < text.size()) {
    const char c = text[at];
    size_t end = at + 1;
    if (is_digit(c)) {
      end = end_of_digits(text, at);
      const bool in_number = (at > 0 && text[at - 1] == '.') ||
                             (end < text.size() && (text[end] == '.' || in_word(text[end])));
      const auto kind = in_number ? std::nullopt : class_of(text.substr(at, end - at));
      if (kind) add(*kind, at, end);
    } else if (in_word(c)) {
      // A word, or $1; a string directly behind it is not a plain one.
      end = end_of_word(text, at);
      if (end < text.size() && text[end] == '\'') end = quoted_at(text, end).end;
    } else if (c == '\'') {
      const Quoted found = quoted_at(text, at);
      end = found.end;
      if (found.plain) add(Literal::Class::kString, at, end);
    }
    at = end;
  }
  bytes.append(text.substr(copied));
  return !literals.empty();
}

std::shared_ptr<const Pattern> Pattern::learn(const std::shared_ptr<const Statement>& statement,
                                              const Skeleton& skeleton) {
  if (!may_teach(*statement)) return nullptr;
  std::shared_ptr<Pattern> pattern(new Pattern);
  pattern->model_ = statement;
  if (!pattern->find_places(skeleton) || !pattern->find_keys(skeleton) ||
      !pattern->holds_for_another(skeleton)) {
    return nullptr;
  }
  return pattern;
}

// Each literal is one token (1), of the canonical form too.
bool Pattern::find_places(const Skeleton& skeleton) {
  const std::string_view text = model_->text;
  const std::optional<std::vector<Token>> tokens = scan(text);
  if (!tokens || has_sized_float(*tokens)) return false;
  std::vector<uint32_t> token_places;
  if (canonical_form(*tokens, &token_places) != model_->canonical) return false;
  size_t next = 0;
  for (const Literal& literal : skeleton.literals) {
    const std::string_view bytes = bytes_of(text, literal);
    while (next < tokens->size() && (*tokens)[next].text.data() < bytes.data()) ++next;
    if (next == tokens->size()) return false;
    const Token& token = (*tokens)[next];
    const bool is_string = literal.kind == Literal::Class::kString;
    if (token.text.data() != bytes.data() || token.text.size() != bytes.size() ||
        token.kind != (is_string ? TokenKind::kString : TokenKind::kNumber) ||
        matters(text, literal)) {
      return false;
    }
    places_.push_back(token_places[next]);
    sizes_.push_back(literal.size);
  }
  return true;
}

// Where the constants among the row keys come from: a literal, or bytes that are those of every
// text of the skeleton.
bool Pattern::find_keys(const Skeleton& skeleton) {
  const std::string_view text = model_->text;
  bool understood = true;
  bool any = false;
  SelectShape shape = *model_->shape;
  for_each_constant(shape, [&](const KeyOperand& operand) {
    size_t from = kNone;
    for (size_t i = 0; i < skeleton.literals.size(); ++i) {
      if (skeleton.literals[i].begin == operand.location) from = i;
    }
    if (from != kNone) {
      any = true;
      if (value_of(text, skeleton.literals[from]) != operand.text) understood = false;
    } else if (operand.location < 0 || operand.location >= static_cast<int64_t>(text.size()) ||
               text[static_cast<size_t>(operand.location)] == '-') {
      understood = false;  // a sign in front of a literal makes a constant with it
    }
    key_literals_.push_back(from);
  });
  if (!any) key_literals_.clear();
  return understood;
}

// A text of the same skeleton in which every literal is another one of the same length.
bool Pattern::holds_for_another(const Skeleton& skeleton) const {
  std::string other = model_->text;
  for (const Literal& literal : skeleton.literals) change(other, literal);
  Skeleton again;
  if (!again.take(other) || again.bytes != skeleton.bytes) return false;
  const auto filled = fill(other, again);
  if (filled == nullptr) return false;
  const auto analysed = analyze(other, other.size());
  return filled->kind == analysed->kind && filled->canonical == analysed->canonical &&
         filled->grouped == analysed->grouped && filled->query_id == analysed->query_id &&
         analysed->setting_changes.empty() && filled->reasons == analysed->reasons &&
         filled->hint_off == analysed->hint_off && filled->hint_ttl_ms == analysed->hint_ttl_ms &&
         analysed->shape != nullptr && *filled->shape == *analysed->shape;
}

std::shared_ptr<const SelectShape> Pattern::fill_keys(std::string_view text,
                                                      const Skeleton& skeleton) const {
  if (key_literals_.empty()) return model_->shape;
  auto shape = std::make_shared<SelectShape>(*model_->shape);
  size_t next = 0;
  for_each_constant(*shape, [&](KeyOperand& operand) {
    const size_t from = key_literals_[next++];
    if (from != kNone) operand.text = value_of(text, skeleton.literals[from]);
  });
  return shape;
}

std::shared_ptr<const Statement> Pattern::fill(std::string_view text,
                                               const Skeleton& skeleton) const {
  PGFRESH_CHECK(skeleton.literals.size() == places_.size());
  auto out = std::make_shared<Statement>();
  const std::string_view model = model_->canonical;
  out->canonical.reserve(model.size() + text.size());
  size_t copied = 0;
  for (size_t i = 0; i < places_.size(); ++i) {
    const Literal& literal = skeleton.literals[i];
    if (matters(text, literal)) return nullptr;
    out->canonical.append(model.substr(copied, places_[i] - copied));
    out->canonical.append(bytes_of(text, literal));
    copied = places_[i] + sizes_[i];
  }
  out->canonical.append(model.substr(copied));
  out->text = text;
  out->kind = model_->kind;
  out->grouped = model_->grouped;
  out->query_id = model_->query_id;
  out->isolation = model_->isolation;
  out->deferrable_begin = model_->deferrable_begin;
  out->hint_off = model_->hint_off;
  out->hint_ttl_ms = model_->hint_ttl_ms;
  out->reasons = model_->reasons;
  out->shape = fill_keys(text, skeleton);
  return out;
}

}  // namespace pgfresh::query
