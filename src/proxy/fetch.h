// One answer being recorded on its way from PostgreSQL to the client (freshness.md, rule 6): the
// stamp is captured before the query is sent, the bytes are taken as they pass, and the entry is
// made when the answer is complete and quiet. Dropping a Fetch at any point is always right.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "cache/entry.h"
#include "cache/flights.h"
#include "proxy/prepared.h"
#include "proxy/query_stats.h"

namespace pgfresh::proxy {

// What a client must know to read rows: names and types of the columns; not their format, which is
// asked for anew at each Bind, nor their origin, which may change (a table replaced by another)
// without PostgreSQL refusing the statement. `message`: a whole RowDescription. Never 0.
[[nodiscard]] uint64_t row_shape(std::string_view message);

struct Fetch {
  std::string key;
  Hash128 hash;
  freshness::Stamp stamp;
  const freshness::TokenTable* table = nullptr;
  std::unique_ptr<cache::Flights::Lead> lead;  // wakes those who wait when this goes
  PreparedRef prepared;                        // extended protocol; else null
  QueryStatRef stat;                           // null: of_description
  uint64_t query_id = 0;
  uint64_t describe_sequence = 0;  // of the Describe whose RowDescription is the answer's; or 0
  uint64_t answer_sequence = 0;    // of the Query or Execute
  int64_t started_ns = 0;
  int64_t ttl_ms = 0;
  // What is asked for is the description of a statement (ParameterDescription and RowDescription),
  // not its rows.
  bool of_description = false;
  uint32_t description_bytes = 0;
  uint64_t shape = 0;  // row_shape() of the answer, 0: not known
  std::string body;

  // False when the body would become larger than `bytes_max`.
  [[nodiscard]] bool append(std::string_view bytes, size_t bytes_max) {
    if (body.size() + bytes.size() > bytes_max) return false;
    body.append(bytes);
    return true;
  }

  [[nodiscard]] std::shared_ptr<cache::Entry> finish(int64_t now_ns, int64_t expires_ns) && {
    auto entry = std::make_shared<cache::Entry>();
    entry->key = std::move(key);
    entry->hash = hash;
    entry->stamp = std::move(stamp);
    entry->table = table;
    entry->body = SharedBytes::copy_of(body);
    entry->description_bytes = description_bytes;
    entry->shape = shape;
    entry->query_id = query_id;
    entry->stored_ns = now_ns;
    entry->expires_ns = expires_ns;
    entry->upstream_ns = now_ns - started_ns;
    return entry;
  }
};

}  // namespace pgfresh::proxy
