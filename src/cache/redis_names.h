// How things are named in Redis. Everything begins with the prefix, so that an ACL can keep a fleet
// to `~prefix*`:
//   prefix e:HASH           an entry; HASH of its key and stamp
//   prefix t:SLOT:TOKEN     the entries whose stamp has this pair: a sorted set, by expiry
//   prefix l:HASH           the lock of whoever fetches that entry
//   prefix m:ADDRESS        a mailbox
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "pgfresh/slot_token.h"

namespace pgfresh::cache {

class RedisNames {
 public:
  explicit RedisNames(std::string prefix);

  // An entry's name is made from its whole stamp, not from its key alone: so an old answer lies
  // beside a new one, never in its place, and what frees the dead cannot free the living.
  [[nodiscard]] static Hash128 hash_of(std::string_view key,
                                       std::span<const freshness::SlotToken> stamp);
  // As it stands in the sets: 16 bytes.
  [[nodiscard]] static std::string member(const Hash128& hash);

  [[nodiscard]] std::string entry(const Hash128& hash) const;
  [[nodiscard]] std::string entry_of_member(std::string_view member) const;
  [[nodiscard]] std::string tag(const freshness::SlotToken& pair) const;
  [[nodiscard]] std::string lock(const Hash128& hash) const;
  [[nodiscard]] std::string mail(std::string_view address) const;
  // Of SCAN: every entry. The prefix has no character that means something there.
  [[nodiscard]] std::string entry_pattern() const { return entry_prefix_ + "*"; }

 private:
  std::string entry_prefix_;
  std::string tag_prefix_;
  std::string lock_prefix_;
  std::string mail_prefix_;
};

// Letters, digits, and : . _ - /, up to 64 of them, or none.
[[nodiscard]] bool is_redis_prefix(std::string_view prefix);

}  // namespace pgfresh::cache
