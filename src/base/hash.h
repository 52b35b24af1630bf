// The hashes of pgfresh: XXH3, 64 bits for tags and texts, 128 bits to find a cache entry. None is
// ever trusted alone: what it finds is compared whole, or a collision costs only a miss.
#pragma once

#include <cstdint>
#include <string_view>

namespace pgfresh {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};

[[nodiscard]] uint64_t hash64(std::string_view bytes);
[[nodiscard]] Hash128 hash128(std::string_view bytes);
// The exception: a seal is believed (join.h), and so it is whole where a test makes hashes weak.
[[nodiscard]] Hash128 seal128(std::string_view bytes);

}  // namespace pgfresh
