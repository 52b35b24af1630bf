// Small readings of libpg_query's JSON. A node is an object with one member, the node's name; its
// fields are that member's members.
#pragma once

#include <simdjson.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pgfresh::query {

struct Node {
  std::string_view type;
  simdjson::dom::object body;
};

// nullopt: not an object with one member that is an object.
[[nodiscard]] inline std::optional<Node> unwrap(const simdjson::dom::element& value) {
  simdjson::dom::object outer;
  if (value.get(outer) != simdjson::SUCCESS || outer.size() != 1) return std::nullopt;
  const simdjson::dom::key_value_pair only = *outer.begin();
  Node node{only.key, {}};
  if (only.value.get(node.body) != simdjson::SUCCESS) return std::nullopt;
  return node;
}

[[nodiscard]] inline bool is_empty(const simdjson::dom::element& value) {
  simdjson::dom::object outer;
  return value.get(outer) == simdjson::SUCCESS && outer.size() == 0;
}

[[nodiscard]] inline std::optional<simdjson::dom::element> member(const simdjson::dom::object& body,
                                                                  std::string_view name) {
  simdjson::dom::element found;
  if (body.at_key(name).get(found) != simdjson::SUCCESS) return std::nullopt;
  return found;
}

// "" when there is none: libpg_query leaves out empty strings.
[[nodiscard]] inline std::string text(const simdjson::dom::object& body, std::string_view name) {
  std::string_view found;
  if (body.at_key(name).get(found) != simdjson::SUCCESS) return {};
  return std::string(found);
}

[[nodiscard]] inline bool boolean(const simdjson::dom::object& body, std::string_view name) {
  bool found = false;
  return body.at_key(name).get(found) == simdjson::SUCCESS && found;
}

// The number of items of a list field; 0 when there is none.
[[nodiscard]] inline size_t count(const simdjson::dom::object& body, std::string_view name) {
  simdjson::dom::array list;
  return body.at_key(name).get(list) == simdjson::SUCCESS ? list.size() : 0;
}

// A list of String nodes, as in qualified names; nullopt when anything else is in it.
[[nodiscard]] inline std::optional<std::vector<std::string>> strings(
    const simdjson::dom::object& body, std::string_view name) {
  std::vector<std::string> out;
  simdjson::dom::array list;
  if (body.at_key(name).get(list) != simdjson::SUCCESS) return out;
  for (const simdjson::dom::element item : list) {
    const std::optional<Node> found = unwrap(item);
    if (!found || found->type != "String") return std::nullopt;
    out.push_back(text(found->body, "sval"));
  }
  return out;
}

// 'text' or 'text'::text; nullopt: anything else.
[[nodiscard]] inline std::optional<std::string> string_literal(
    const simdjson::dom::element& value) {
  std::optional<Node> found = unwrap(value);
  if (found && found->type == "TypeCast") {
    simdjson::dom::object target;
    const auto type = member(found->body, "typeName");
    const auto argument = member(found->body, "arg");
    if (!type || !argument || type->get(target) != simdjson::SUCCESS) return std::nullopt;
    const auto names = strings(target, "names");
    if (!names || names->empty() || names->back() != "text" || member(target, "arrayBounds")) {
      return std::nullopt;
    }
    found = unwrap(*argument);
  }
  const auto constant =
      found && found->type == "A_Const" ? member(found->body, "sval") : std::nullopt;
  simdjson::dom::object string;
  if (!constant || constant->get(string) != simdjson::SUCCESS) return std::nullopt;
  return text(string, "sval");
}

// As PostgreSQL compares the names of settings.
[[nodiscard]] inline std::string lower_ascii(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return lower;
}

}  // namespace pgfresh::query
