// Frees in Redis what events have killed (freshness.md, rule 9: for memory only). Without it, dead
// entries would stay until they expire, and nothing else would be different.
//
// Every proxy of a fleet sees every event, and one should do the work. They agree on nothing: each
// collects what was killed for a time that chance determines, and then asks Redis, for many sets in
// one command, how many of them are still there. Whoever looks first finds them and pops them
// empty; the others find nothing. A set is named after the token that the event has taken away, so
// it does not matter how late anybody looks: what has been fetched since lies in other sets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/counters.h"
#include "cache/redis_client.h"
#include "cache/redis_names.h"
#include "pgfresh/loop.h"
#include "pgfresh/slot_token.h"

namespace pgfresh::cache {

// Loop thread only.
class RedisFreeing {
 public:
  // REQUIRES: all references outlive it, and the client forgets its requests before it goes.
  RedisFreeing(Loop& loop, RedisClient& client, const RedisNames& names,
               std::function<uint64_t()> random, Counters& counters);

  // What has this pair in its stamp is dead. Forgotten while Redis is away, or beyond a bound.
  void freed(const freshness::SlotToken& pair);

 private:
  void look();
  void look_at(std::vector<freshness::SlotToken> pairs);
  void pop(const freshness::SlotToken& pair);
  void popped(const freshness::SlotToken& pair, const RedisReply& reply);
  void unlink(const std::vector<std::string>& names);

  // Constant after construction.
  Loop& loop_;
  RedisClient& client_;
  const RedisNames& names_;
  const std::function<uint64_t()> random_;
  Counters& counters_;

  std::vector<freshness::SlotToken> waiting_;
  std::unique_ptr<Timer> timer_;
};

}  // namespace pgfresh::cache
