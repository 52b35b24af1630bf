// What one worker counts for each query, that is, for all texts of one grouped form in one
// database: what SHOW QUERIES sums. Worker thread only; a hit costs a few additions in memory of
// its own.
//
// Bounded: when there are kMax queries, the half with the fewest calls is dropped, and counted as
// one. So a flood of texts that come once pushes out nothing that is called often.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "freshness/domain.h"
#include "pgfresh/reason.h"
#include "proxy/remote_cost.h"
#include "query/statement.h"

namespace pgfresh::proxy {

struct QueryCounts {
  uint64_t hits_l1 = 0;
  uint64_t hits_l2 = 0;
  uint64_t misses = 0;
  uint64_t bypasses = 0;
  uint64_t fills = 0;
  uint64_t stale = 0;         // entries that readers found dead
  uint64_t upstream = 0;      // answers of PostgreSQL that were timed
  uint64_t upstream_ns = 0;   // and what they took, first byte sent to last byte received
  uint64_t saved_ns = 0;      // the same of the answers that hits gave
  uint64_t hit_bytes = 0;     // sent to clients by hits
  uint64_t answer_bytes = 0;  // of the answers that were stored

  [[nodiscard]] uint64_t calls() const { return hits_l1 + hits_l2 + misses + bypasses; }
  void add(const QueryCounts& other);
};

struct QueryStat {
  uint64_t id = 0;
  const freshness::Domain* domain = nullptr;  // null: a session that is not cached
  std::string text;                           // query::Statement::grouped
  QueryCounts counts;
  int64_t called_ns = 0;  // the loop's clock; 0: never
  int64_t hit_ns = 0;
  Reason reason_last = Reason::kNone;  // of the last bypass
  std::array<uint32_t, kReasonCount> reasons{};
  std::vector<query::Cause> causes;  // all that stood against it when it was last resolved
  uint64_t causes_generation = 0;    // of the catalog they were found in; 0: of the text alone
  RemoteCost remote;                 // whether the second level is asked
  bool dropped = false;              // out of the table; whoever still holds it asks again

  enum class Tier : uint8_t { kL1, kL2 };
  void hit(Tier tier, int64_t now_ns, uint64_t bytes, int64_t upstream_ns) {
    ++(tier == Tier::kL1 ? counts.hits_l1 : counts.hits_l2);
    counts.hit_bytes += bytes;
    counts.saved_ns += static_cast<uint64_t>(upstream_ns > 0 ? upstream_ns : 0);
    called_ns = now_ns;
    hit_ns = now_ns;
  }
  void miss(int64_t now_ns) {
    ++counts.misses;
    called_ns = now_ns;
  }
  void bypass(int64_t now_ns, Reason reason) {
    ++counts.bypasses;
    ++reasons[static_cast<size_t>(reason)];
    reason_last = reason;
    called_ns = now_ns;
  }
  void answered(int64_t upstream_ns) {
    ++counts.upstream;
    counts.upstream_ns += static_cast<uint64_t>(upstream_ns > 0 ? upstream_ns : 0);
    remote.upstream_took(upstream_ns);
  }
};
using QueryStatRef = std::shared_ptr<QueryStat>;

class QueryStats {
 public:
  static constexpr size_t kMax = 2000;  // about 1 KB each

  // The statistics of `statement` in `domain`. `known` is what this gave for the same text before,
  // or null: then, and when it has been dropped since, it is set anew.
  QueryStat& of(QueryStatRef& known, const query::Statement& statement,
                const freshness::Domain* domain) {
    if (known != nullptr && known->domain == domain && !known->dropped) return *known;
    return find(known, statement, domain);
  }

  // Copies, for other threads.
  [[nodiscard]] std::vector<QueryStat> all() const;
  // What has been dropped: how many queries, and the sum of their counts.
  [[nodiscard]] uint64_t dropped_queries() const { return dropped_queries_; }
  [[nodiscard]] const QueryCounts& dropped() const { return dropped_; }

 private:
  struct Name {
    uint64_t id = 0;
    const freshness::Domain* domain = nullptr;
    friend bool operator==(const Name&, const Name&) = default;
  };
  struct NameHash {
    size_t operator()(const Name& name) const {
      return name.id ^ (reinterpret_cast<uintptr_t>(name.domain) >> 4);
    }
  };

  QueryStat& find(QueryStatRef& known, const query::Statement& statement,
                  const freshness::Domain* domain);
  void make_room();

  std::unordered_map<Name, QueryStatRef, NameHash> stats_;
  uint64_t dropped_queries_ = 0;
  QueryCounts dropped_;
};

}  // namespace pgfresh::proxy
