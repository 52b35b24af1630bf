// Who may use the console, and the login of one session: trust for the unix socket of the right
// system user, SCRAM-SHA-256 for everyone else.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "wire/scram.h"

namespace pgfresh::console {

// kAdministers may use the commands of Effect::kActs too.
enum class Role : uint8_t { kLooks, kAdministers };

struct User {
  wire::ScramSecret secret;
  Role role = Role::kAdministers;
};

// One immutable value; a reload swaps it whole, running sessions keep theirs.
struct Access {
  int daemon_uid = -1;              // of this process
  std::set<int> trusted_peer_uids;  // besides root and daemon_uid
  std::map<std::string, User, std::less<>> users;
  // 32 random bytes, made once when the process starts: from it come the salts shown to users that
  // do not exist, the same at each attempt, as PostgreSQL's are.
  std::string mock_seed;

  // `peer_uid` as Stream::peer_uid() gives it: -1 where there is none.
  [[nodiscard]] bool trusts_peer(int peer_uid) const;
  // The secret to run the exchange with: a made-up one that nothing proves for an unknown user.
  // `random32`: 32 random bytes.
  [[nodiscard]] wire::ScramSecret secret_for(std::string_view user, std::string random32) const;
  // What that user may do. REQUIRES: the user has proved the secret.
  [[nodiscard]] Role role_of(std::string_view user) const;
};

}  // namespace pgfresh::console
