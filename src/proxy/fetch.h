// One answer being recorded on its way from PostgreSQL to the client (freshness.md, rule 6): the
// stamp is captured before the query is sent, the bytes are taken as they pass, and the entry is
// made when the answer is complete and quiet. Dropping a Fetch at any point is always right.
//
// A fetch that has ended goes back to its worker's pool with the memory of its buffers, so that a
// miss allocates nothing but the entry it leaves behind.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/entry.h"
#include "cache/flights.h"
#include "pgfresh/remote_store.h"
#include "proxy/prepared.h"
#include "proxy/query_stats.h"

namespace pgfresh::proxy {

// What a client must know to read rows: names and types of the columns; not their format, which is
// asked for anew at each Bind, nor their origin, which may change (a table replaced by another)
// without PostgreSQL refusing the statement. `message`: a whole RowDescription. Never 0.
[[nodiscard]] uint64_t row_shape(std::string_view message);

// The shapes of the descriptions that came last, since an application is shown the same few again
// and again. Worker thread only.
class ShapeMemo {
 public:
  // row_shape() of `message`.
  [[nodiscard]] uint64_t of(std::string_view message);

 private:
  struct Place {
    std::string message;
    uint64_t shape = 0;
  };
  static constexpr size_t kPlaces = 64;
  static constexpr size_t kBytesMax = 4096;  // of a message: 256 KB of all

  std::array<Place, kPlaces> places_;
};

struct Fetch {
  std::string key;
  Hash128 hash;
  freshness::Stamp stamp;
  const freshness::TokenTable* table = nullptr;
  cache::Flights::Lead lead;  // wakes those who wait when it ends; it points to key and stamp
  PreparedRef prepared;       // extended protocol; else null
  QueryStatRef stat;          // null: of_description
  // The second level: under what key to put the answer there (empty: it is not put), and who has
  // given us the fleet's lock for it.
  std::string remote_key;
  uint64_t catalog = 0;     // as in append_portable_key()
  uint64_t generation = 0;  // of the catalog that its verdict came from
  RemoteStore* locked_by = nullptr;
  int64_t remote_ttl_ms = 0;
  uint64_t query_id = 0;
  uint64_t describe_sequence = 0;  // of the Describe whose RowDescription is the answer's; or 0
  uint64_t answer_sequence = 0;    // of the Query or Execute
  int64_t started_ns = 0;
  int64_t ttl_ms = 0;
  // What is asked for is the description of a statement (ParameterDescription and RowDescription),
  // not its rows.
  bool of_description = false;
  // Asked for with a row limit, by an Execute that ends its portal: PortalSuspended may end it.
  bool row_limited = false;
  uint32_t description_bytes = 0;
  uint64_t shape = 0;  // row_shape() of the answer, 0: not known
  std::string body;

  // False when the body would become larger than `bytes_max`.
  [[nodiscard]] bool append(std::string_view bytes, size_t bytes_max) {
    if (body.size() + bytes.size() > bytes_max) return false;
    body.append(bytes);
    return true;
  }

  // Gives the fleet's lock back, if it was given.
  void unlock() {
    if (locked_by != nullptr) std::exchange(locked_by, nullptr)->unlock(remote_key, stamp);
  }
  // As new, but for the capacity of its buffers. REQUIRES: the lead has ended, and unlock().
  void forget();

  [[nodiscard]] cache::EntryRef finish(int64_t now_ns, int64_t expires_ns) const {
    return cache::Entry::make({.key = {key, hash},
                               .stamp = stamp,
                               .table = table,
                               .body = body,
                               .description_bytes = description_bytes,
                               .shape = shape,
                               .query_id = query_id,
                               .stored_ns = now_ns,
                               .expires_ns = expires_ns,
                               .upstream_ns = now_ns - started_ns});
  }
};

// Worker thread only. Outlives what it has lent.
class FetchPool {
 public:
  struct Return {
    FetchPool* pool = nullptr;
    void operator()(Fetch* fetch) const { pool->take_back(fetch); }
  };
  using Ref = std::unique_ptr<Fetch, Return>;

  FetchPool() = default;
  FetchPool(const FetchPool&) = delete;
  FetchPool& operator=(const FetchPool&) = delete;

  // As new, but for the capacity of its buffers.
  [[nodiscard]] Ref lend();
  [[nodiscard]] size_t idle() const { return idle_.size(); }

 private:
  void take_back(Fetch* fetch);

  std::vector<std::unique_ptr<Fetch>> idle_;
};
using FetchRef = FetchPool::Ref;

}  // namespace pgfresh::proxy
