// What a Redis server says of itself, sorted by what pgfresh does about it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pgfresh::cache {

enum class RedisTrouble : uint8_t {
  kOther,       // an error that says nothing about the next request
  kReplica,     // a primary is wanted: reconnect, the name may lead elsewhere by then
  kLoading,     // it has just started: later
  kBusy,        // too many clients, or a script that runs long: later
  kFull,        // maxmemory without eviction: reads go on
  kNotWriting,  // it cannot save, or lacks replicas, and takes no writes: reads go on
  kLogin,       // user or password
  kForbidden,   // the user may not do this command
  kCluster,     // a node of a Redis Cluster: not supported
  kSentinel,    // not supported
};
inline constexpr size_t kRedisTroubleCount = static_cast<size_t>(RedisTrouble::kSentinel) + 1;
[[nodiscard]] std::string_view trouble_name(RedisTrouble trouble);  // "not_writing"

// An error's text: "READONLY You can't write against a read only replica."
[[nodiscard]] RedisTrouble classify(std::string_view error);

// What of INFO's answer counts.
struct RedisInfo {
  std::string version = {};  // "7.0.15"
  std::string server = {};   // "redis", "valkey"
  bool cluster = false;
  bool sentinel = false;
  bool replica = false;
  bool loading = false;
};
[[nodiscard]] RedisInfo read_info(std::string_view text);

}  // namespace pgfresh::cache
