// The cache key as bytes: scope, canonical text, parameter types, parameter formats and values,
// result formats. Every part carries its length, so that no two keys run into each other.
#pragma once

#include <string>
#include <string_view>

#include "proxy/scope.h"
#include "wire/messages.h"

namespace pgfresh::proxy {

// Scope and text; the scope by its id, which stands for its bytes in this process.
[[nodiscard]] std::string key_prefix(const Scope& scope, std::string_view canonical);

// Makes `key`, which begins with a key_prefix(), one of this scope. Allocates nothing.
void change_scope(std::string& key, const Scope& scope);

// No parameters, every column in text: what a simple Query asks for.
void append_plain_execution(std::string& key);

// What this Bind asks for. Result formats that are all text are left out, so that the extended
// protocol shares its entries with the simple one.
void append_execution(std::string& key, std::string_view parameter_oids,
                      const wire::BindMessage& bind, uint32_t max_rows);

// True when append_execution() would say the same as append_plain_execution().
[[nodiscard]] bool is_plain_execution(std::string_view parameter_oids,
                                      const wire::BindMessage& bind);

// The same key as all processes of a fleet write it: the scope by its bytes, which mean the same
// everywhere, and the database's server by name. `key` begins with a key_prefix() of this scope;
// `server`: Domain::server(). `catalog`: Catalog::content_hash() of the snapshot it was resolved
// by; for a while two processes may hold different ones under one token, where no event told of a
// change, and what was made by one is not for the other. Appends.
void append_portable_key(std::string& out, std::string_view server, uint64_t catalog,
                         const Scope& scope, std::string_view key);

// The description of a statement (Describe 'S') instead of an execution.
void append_description(std::string& key, std::string_view parameter_oids);

}  // namespace pgfresh::proxy
