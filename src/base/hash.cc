#include "base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace pgfresh {
namespace {

// With PGFRESH_WEAK_HASH four bits are left of every hash: sixteen keys and sixteen slots for
// everything. A test build (freshness.md, anomaly 16): answers must stay right, hits may be few.
#ifdef PGFRESH_WEAK_HASH
constexpr int kBitsDropped = 60;
#else
constexpr int kBitsDropped = 0;
#endif

}  // namespace

// The high bits are kept: a slot is the top of its tag.
uint64_t hash64(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size()) >> kBitsDropped << kBitsDropped;
}

Hash128 seal128(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

Hash128 hash128(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  if constexpr (kBitsDropped != 0) return {hash.low64 >> kBitsDropped, hash.low64 >> kBitsDropped};
  return {hash.low64, hash.high64};
}

}  // namespace pgfresh
