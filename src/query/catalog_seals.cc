#include "query/catalog_seals.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <utility>

#include "base/hash.h"
#include "base/text.h"

namespace pgfresh::query {
namespace {

constexpr Oid kFirstOfUsers = 16384;  // FirstNormalObjectId
constexpr size_t kNameBytesMax = 63;  // NAMEDATALEN - 1: PostgreSQL cuts names there
constexpr int kPartsDepthMax = 16;    // types within types: far beyond what anyone declares

bool is_operator(std::string_view text) {
  return text.find_first_not_of("~!@#^&|`?+-*/%<>=") == std::string_view::npos;
}

std::string unquoted(std::string_view text) {
  std::string name;
  for (size_t i = 1; i + 1 < text.size(); ++i) {
    name.push_back(text[i]);
    if (text[i] == '"') ++i;  // written twice
  }
  return name;
}

std::string named_by(const Token& token) {
  switch (token.kind) {
    case TokenKind::kWord: {
      std::string name(token.text);
      for (char& c : name) c = lower(c);
      return name;
    }
    case TokenKind::kQuotedWord:
      return unquoted(token.text);
    case TokenKind::kSymbol:
      if (!is_operator(token.text)) return {};
      return token.text == "!=" ? "<>" : std::string(token.text);
    case TokenKind::kString:
    case TokenKind::kNumber:
    case TokenKind::kComment:
      return {};
  }
  return {};
}

std::vector<Oid> numbers_in(std::string_view text) {
  std::vector<Oid> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    Oid number = 0;
    const auto [next, error] = std::from_chars(at, end, number);
    if (error == std::errc()) numbers.push_back(number);
    at = std::max(next, at + 1);
  }
  return numbers;
}

}  // namespace

void seal(uint64_t& sum, uint64_t value) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
  sum = (std::rotl(sum, 23) ^ value) * kOdd;
}

uint64_t word(std::string_view name) { return seal128(name.substr(0, kNameBytesMax)).low; }

std::vector<uint64_t> words_of(const std::vector<Token>& tokens, const std::set<Name>& implied) {
  std::vector<uint64_t> words;
  for (const Name& each : implied) words.push_back(word(each.name));
  for (const Token& token : tokens) {
    if (const std::string name = named_by(token); !name.empty()) words.push_back(word(name));
  }
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  return words;
}

uint64_t CatalogSeals::of_words(std::span<const uint64_t> words,
                                std::span<const uint64_t> tables) const {
  uint64_t sum = common_;
  for (const uint64_t each : words) {
    if (const auto found = names_.find(each); found != names_.end()) seal(sum, found->second);
    if (std::find(tables.begin(), tables.end(), each) != tables.end()) continue;
    if (const auto found = rows_.find(each); found != rows_.end()) seal(sum, found->second);
  }
  return sum;
}

uint64_t CatalogSeals::of_type(Oid type) const {
  const auto found = types_.find(type);
  return found == types_.end() ? type : found->second;
}

void SealsBuilder::take_common(std::string_view text) { seals_->common_ = seal128(text).low; }

void SealsBuilder::take_names(std::string_view name, std::string_view sum, std::string_view types) {
  named_.push_back({std::string(name), std::string(sum), numbers_in(types)});
}

void SealsBuilder::take_type(RawType type) {
  if (type.oid >= kFirstOfUsers) types_.emplace(type.oid, std::move(type));
}

// A type is sealed with those it is made of, these with theirs, and so on.
std::shared_ptr<const CatalogSeals> SealsBuilder::finish(
    std::unordered_map<Oid, Relation>& relations) {
  std::unordered_map<Oid, uint64_t> own;
  std::vector<std::pair<Oid, std::vector<Oid>>> compound;
  for (const auto& [oid, type] : types_) {
    std::vector<Oid> parts;
    if (types_.contains(type.part)) parts.push_back(type.part);
    uint64_t sum = seal128(std::to_string(oid) + " " + type.detail).low;
    seal(sum, seal128(type.schema).low);
    seal(sum, seal128(type.name).low);
    const auto relation = relations.find(type.relation);
    if (relation != relations.end()) {
      seal(sum, relation->second.seal);
      for (const Oid part : users_types(relation->second)) parts.push_back(part);
    }
    own.emplace(oid, sum);
    if (!parts.empty()) compound.emplace_back(oid, std::move(parts));
  }
  std::unordered_map<Oid, uint64_t>& types = seals_->types_;
  types = own;
  std::vector<uint64_t> sums(compound.size());
  for (int depth = 0; depth < kPartsDepthMax; ++depth) {
    for (size_t i = 0; i < compound.size(); ++i) {
      sums[i] = own[compound[i].first];
      for (const Oid part : compound[i].second) seal(sums[i], types[part]);
    }
    for (size_t i = 0; i < compound.size(); ++i) types[compound[i].first] = sums[i];
  }
  for (const auto& [oid, type] : types_) {
    const auto relation = relations.find(type.relation);
    const bool of_table = relation != relations.end() && relation->second.kind != 'c';
    (of_table ? seals_->rows_ : seals_->names_)[word(type.name)] += types[oid];
  }
  for (const Named& each : named_) {
    uint64_t sum = seal128(each.sum).low;
    for (const Oid type : each.types) seal(sum, seals_->of_type(type));
    seals_->names_[word(each.name)] += sum;
  }
  for (auto& [oid, relation] : relations) {
    for (const Oid type : users_types(relation)) seal(relation.seal, types[type]);
  }
  return std::move(seals_);
}

std::vector<Oid> SealsBuilder::users_types(const Relation& relation) const {
  std::vector<Oid> found;
  for (const Attribute& attribute : relation.attributes) {
    if (types_.contains(attribute.type)) found.push_back(attribute.type);
  }
  return found;
}

}  // namespace pgfresh::query
