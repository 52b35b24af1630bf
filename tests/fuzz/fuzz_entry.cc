// An entry as Redis may answer it. Oracles: what decodes has parts within its bounds and, encoded
// again, decodes to the same; nothing that was not sealed passes where there is a key, unless the
// fuzzer finds a seal.
//
// Input: one byte that says what is tried (0: the bytes as they are; 1: the same with a right
// checksum behind them, so that the fuzzer gets past it; 2: under a key), then the bytes.
#include <algorithm>
#include <string>

#include "base/hash.h"
#include "base/limits.h"
#include "cache/entry_codec.h"
#include "expect.h"

namespace pgfresh::cache {
namespace {

constexpr size_t kPlainMax = 64 * 1024;

CodecOptions options(bool sealed) {
  CodecOptions made;
  made.plain_bytes_max = kPlainMax;
  if (sealed) made.keys.push_back(SealKey{1, {1, 2, 3}});
  return made;
}

void check(EntryCodec& codec, std::string_view bytes) {
  RemoteEntry entry;
  const Decoded decoded = codec.decode(bytes, entry);
  FUZZ_EXPECT(!decoded_name(decoded).empty());
  if (decoded != Decoded::kEntry) return;
  FUZZ_EXPECT(entry.description_bytes <= entry.body.size());
  FUZZ_EXPECT(entry.key.size() + entry.body.size() <= kPlainMax);
  FUZZ_EXPECT(entry.stamp.size() <= limits::kStampSlotsMax);
  std::string again;
  FUZZ_EXPECT(codec.encode(entry, again));
  EntryCodec other(options(false), [] { return uint64_t{4}; });
  RemoteEntry second;
  FUZZ_EXPECT(other.decode(again, second) == Decoded::kEntry);
  FUZZ_EXPECT(
      std::equal(second.stamp.begin(), second.stamp.end(), entry.stamp.begin(), entry.stamp.end()));
}

}  // namespace
}  // namespace pgfresh::cache

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pgfresh;
  if (size == 0) return 0;
  std::string bytes(fuzz::as_view(data + 1, size - 1));
  const int tried = data[0] % 3;
  if (tried == 1) {
    const uint64_t checksum = hash64(bytes);
    bytes.append(reinterpret_cast<const char*>(&checksum), sizeof checksum);
  }
  const fuzz::Exact exact(bytes);
  static cache::EntryCodec plain(cache::options(false), [] { return uint64_t{4}; });
  static cache::EntryCodec sealed(cache::options(true), [] { return uint64_t{4}; });
  if (tried == 2) {
    RemoteEntry entry;
    FUZZ_EXPECT(sealed.decode(exact.view(), entry) != cache::Decoded::kEntry);
  } else {
    cache::check(plain, exact.view());
  }
  return 0;
}
