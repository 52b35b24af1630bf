// One cached answer: the bytes PostgreSQL sent, ready for the wire, the whole key they answer and
// the stamp they are judged by. Immutable but for its statistics.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "freshness/stamp.h"
#include "pgfresh/shared_bytes.h"

namespace pgfresh::cache {

// A whole key and the hash that finds it. `bytes` are compared at every hit.
struct Key {
  std::string_view bytes;
  Hash128 hash;
};

struct Entry {
  std::string key;
  Hash128 hash;
  freshness::Stamp stamp;
  const freshness::TokenTable* table = nullptr;  // whose slots the stamp names; outlives the entry
  // [RowDescription][DataRow…][CommandComplete], or [ParameterDescription][RowDescription|NoData]
  // for the description of a statement. Without RowDescription when the client that filled it had
  // not asked for one.
  SharedBytes body;
  uint32_t description_bytes = 0;  // length of the RowDescription at the front of `body`
  uint64_t shape = 0;     // names and types of its columns, hashed (proxy/fetch.h); 0: not known
  uint64_t query_id = 0;  // query::Statement::query_id of what it answers
  int64_t stored_ns = 0;  // on the loop's clock
  int64_t expires_ns = 0;
  int64_t upstream_ns = 0;  // what PostgreSQL took, first byte sent to last byte received
  mutable std::atomic<uint64_t> hits{0};

  [[nodiscard]] bool has_description() const { return description_bytes != 0; }
  // What the entry is charged for: itself, its key, stamp, body, and its place in the tables.
  [[nodiscard]] size_t charge() const;
};

using EntryRef = std::shared_ptr<const Entry>;

}  // namespace pgfresh::cache
