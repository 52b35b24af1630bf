#include "cache/redis_trouble.h"

#include <algorithm>
#include <array>

namespace pgfresh::cache {
namespace {

struct Beginning {
  std::string_view text;
  RedisTrouble trouble;
};

// Redis 7 and Valkey 8: src/server.c (createSharedObjects), src/cluster.c, src/networking.c.
constexpr std::array<Beginning, 19> kBeginnings = {{
    {"READONLY ", RedisTrouble::kReplica},
    {"MASTERDOWN ", RedisTrouble::kReplica},
    {"UNBLOCKED ", RedisTrouble::kReplica},
    {"LOADING ", RedisTrouble::kLoading},
    {"BUSY ", RedisTrouble::kBusy},
    {"TRYAGAIN ", RedisTrouble::kBusy},
    {"ERR max number of clients", RedisTrouble::kBusy},
    {"OOM ", RedisTrouble::kFull},
    {"MISCONF ", RedisTrouble::kNotWriting},
    {"NOREPLICAS ", RedisTrouble::kNotWriting},
    {"NOAUTH ", RedisTrouble::kLogin},
    {"WRONGPASS ", RedisTrouble::kLogin},
    {"ERR AUTH ", RedisTrouble::kLogin},
    {"ERR invalid password", RedisTrouble::kLogin},
    {"NOPERM ", RedisTrouble::kForbidden},
    {"MOVED ", RedisTrouble::kCluster},
    {"ASK ", RedisTrouble::kCluster},
    {"CLUSTERDOWN ", RedisTrouble::kCluster},
    {"CROSSSLOT ", RedisTrouble::kCluster},
}};

// The value of the first line that begins with `name`.
std::string_view value_of(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.starts_with(name)) return line.substr(name.size(), line.find('\r') - name.size());
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return {};
}

// Short and printable: it is shown to people.
std::string shown(std::string_view value) {
  std::string text(value.substr(0, 32));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

}  // namespace

std::string_view trouble_name(RedisTrouble trouble) {
  switch (trouble) {
    case RedisTrouble::kOther:
      return "other";
    case RedisTrouble::kReplica:
      return "replica";
    case RedisTrouble::kLoading:
      return "loading";
    case RedisTrouble::kBusy:
      return "busy";
    case RedisTrouble::kFull:
      return "full";
    case RedisTrouble::kNotWriting:
      return "not_writing";
    case RedisTrouble::kLogin:
      return "login";
    case RedisTrouble::kForbidden:
      return "forbidden";
    case RedisTrouble::kCluster:
      return "cluster";
    case RedisTrouble::kSentinel:
      return "sentinel";
  }
  return "";
}

RedisTrouble classify(std::string_view error) {
  for (const Beginning& beginning : kBeginnings) {
    if (error.starts_with(beginning.text)) return beginning.trouble;
  }
  return RedisTrouble::kOther;
}

RedisInfo read_info(std::string_view text) {
  RedisInfo info;
  const std::string_view valkey = value_of(text, "valkey_version:");
  info.server = valkey.empty() ? "redis" : "valkey";
  info.version = shown(valkey.empty() ? value_of(text, "redis_version:") : valkey);
  // Valkey says server_mode, and redis_mode where it is told to be compatible.
  for (const std::string_view name : {"redis_mode:", "server_mode:"}) {
    const std::string_view mode = value_of(text, name);
    info.cluster = info.cluster || mode == "cluster";
    info.sentinel = info.sentinel || mode == "sentinel";
  }
  info.cluster = info.cluster || value_of(text, "cluster_enabled:") == "1";
  info.replica = value_of(text, "role:") == "slave" || value_of(text, "role:") == "replica";
  info.loading = value_of(text, "loading:") == "1";
  return info;
}

}  // namespace pgfresh::cache
