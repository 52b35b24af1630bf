// The policy is a handful of look-ups; the exchange itself is wire/scram.h.
#include "console/access.h"

#include <utility>

namespace pgfresh::console {

bool Access::trusts_peer(int peer_uid) const {
  if (peer_uid < 0) return false;
  return peer_uid == 0 || peer_uid == daemon_uid || trusted_peer_uids.contains(peer_uid);
}

wire::ScramSecret Access::secret_for(std::string_view user, std::string random32) const {
  if (const auto found = users.find(user); found != users.end()) return found->second.secret;
  wire::ScramSecret mock;
  // A server signature is HMAC-SHA-256 with the server key: here it makes a salt of the seed and
  // the name, which nobody without the seed can tell from a real one.
  mock.server_key = mock_seed;
  mock.salt = mock.server_signature(user).substr(0, 16);
  mock.stored_key = std::move(random32);
  return mock;
}

Role Access::role_of(std::string_view user) const {
  const auto found = users.find(user);
  return found == users.end() ? Role::kLooks : found->second.role;
}

}  // namespace pgfresh::console
