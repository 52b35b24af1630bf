#include "proxy/fetch.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"

namespace pgfresh::proxy {
namespace {

// Of a worker's idle fetches: 64 × 24 KB = 1.5 MB at the most.
constexpr size_t kIdleMax = 64;
constexpr size_t kBodyBytesKept = 16 * 1024;
constexpr size_t kKeyBytesKept = 8 * 1024;

uint64_t mix(uint64_t state, std::string_view bytes) {
  return (state ^ hash64(bytes)) * 0x9E3779B97F4A7C15U;
}

}  // namespace

// RowDescription: type, length, count, then for each column a name ending in NUL, table oid (4),
// attribute number (2), type oid (4), size (2), modifier (4), format (2).
uint64_t row_shape(std::string_view message) {
  constexpr size_t kHeader = 7;
  constexpr size_t kOrigin = 6;
  constexpr size_t kType = 10;
  constexpr size_t kFormat = 2;
  constexpr size_t kFixed = kOrigin + kType + kFormat;
  uint64_t shape = mix(message.size(), message.substr(0, kHeader));
  size_t at = kHeader;
  while (at < message.size()) {
    const size_t name_end = message.find('\0', at);
    if (name_end == std::string::npos || name_end + 1 + kFixed > message.size()) break;
    shape = mix(shape, message.substr(at, name_end - at));
    shape = mix(shape, message.substr(name_end + 1 + kOrigin, kType));
    at = name_end + 1 + kFixed;
  }
  if (at < message.size()) shape = mix(shape, message.substr(at));
  return shape == 0 ? 1 : shape;
}

uint64_t ShapeMemo::of(std::string_view message) {
  constexpr size_t kLooked = 48;  // at each end
  if (message.size() > kBytesMax) return row_shape(message);
  const std::string_view tail = message.substr(message.size() - std::min(message.size(), kLooked));
  const uint64_t hash = mix(mix(message.size(), message.substr(0, kLooked)), tail);
  Place& place = places_[hash / (UINT64_MAX / kPlaces + 1)];
  if (place.shape == 0 || place.message != message) {
    place.message.assign(message);
    place.shape = row_shape(message);
  }
  return place.shape;
}

void Fetch::forget() {
  key.clear();
  remote_key.clear();
  stamp.clear();
  body.clear();
  prepared.reset();
  stat.reset();
  query_id = 0;
  table = nullptr;
  hash = {};
  describe_sequence = answer_sequence = 0;
  started_ns = ttl_ms = remote_ttl_ms = 0;
  of_description = row_limited = false;
  description_bytes = 0;
  shape = 0;
}

FetchPool::Ref FetchPool::lend() {
  if (idle_.empty()) return Ref(new Fetch, Return{this});
  Ref lent(idle_.back().release(), Return{this});
  idle_.pop_back();
  return lent;
}

void FetchPool::take_back(Fetch* fetch) {
  std::unique_ptr<Fetch> owned(fetch);
  owned->lead.end();  // before what it points to changes
  owned->unlock();
  if (idle_.size() >= kIdleMax || owned->body.capacity() > kBodyBytesKept ||
      owned->key.capacity() + owned->remote_key.capacity() > kKeyBytesKept) {
    return;
  }
  owned->forget();
  idle_.push_back(std::move(owned));
}

}  // namespace pgfresh::proxy
