// Goes through all entries that lie in Redis, for FLUSH: nothing there is sorted by query, and what
// an operator does once a month must not cost every fill. Small steps, one walk at a time, each
// step begun when the one before has been answered. A step without an answer ends the walk; what is
// left expires.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/counters.h"
#include "cache/redis_client.h"
#include "cache/redis_names.h"

namespace pgfresh::cache {

// Loop thread only.
class RedisSweep {
 public:
  // Whether an entry is to go, by what lies there.
  using Picks = std::function<bool(std::string_view bytes)>;
  // `whole`: every entry has been looked at, and what had to go is gone.
  using Swept = std::function<void(bool whole)>;

  // REQUIRES: all references outlive it, and the client forgets its requests before it goes.
  RedisSweep(RedisClient& client, const RedisNames& names, Counters& counters);

  // Unlinks those that `picks` picks, of all databases; empty: every one. `done`: once, from inside
  // this call too.
  void begin(Picks picks, Swept done);

 private:
  struct Walk {
    Picks picks;
    Swept done;
    std::string cursor = "0";
    size_t waited_for = 0;  // answers of this step
    bool whole = true;
    std::vector<std::string> picked = {};
  };

  void step();
  void scanned(const RedisReply& reply);
  void look_at(const std::string& name);
  void looked();
  void unlink();
  void step_ended();
  void end(bool whole);

  // Constant after construction.
  RedisClient& client_;
  const RedisNames& names_;
  Counters& counters_;

  std::deque<Walk> walks_;  // the first is under way
};

}  // namespace pgfresh::cache
