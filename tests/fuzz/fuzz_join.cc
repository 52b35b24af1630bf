// What others of the fleet say: the words on the channel, which anybody may say, and the map of
// slots, which lies in Redis. Oracles: what is read keeps its bounds, and written again is the
// same, byte for byte; so no two readers can take the same bytes for different maps.
//
// Input: one byte that says what is tried (0: a word; 1: a map as it lies there; 2: the same with a
// right seal behind it, so that the fuzzer gets past it), then the bytes.
#include <cstring>
#include <string>

#include "base/hash.h"
#include "expect.h"
#include "freshness/join.h"

namespace pgfresh::freshness {
namespace {

constexpr Hash128 kNonce = {7, 8};
constexpr uint64_t kTopBit = uint64_t{1} << 63;

std::string written(const FleetWord& word) {
  switch (word.kind) {
    case FleetWord::Kind::kAsk:
      return format_ask(word.nonce, word.base, word.peer);
    case FleetWord::Kind::kLineage:
      return format_lineage(word.base);
    case FleetWord::Kind::kDigest:
      return format_digest(word.digest);
  }
  return {};
}

void check_word(std::string_view payload) {
  const std::optional<FleetWord> word = parse_fleet_word(payload);
  if (!word) return;
  FUZZ_EXPECT(payload.starts_with(kFleetHead));
  FUZZ_EXPECT(word->base >= kTopBit ||
              (word->base == 0 && word->peer == 0 && word->kind != FleetWord::Kind::kLineage));
  // Hex digits are read in either case, and written in lower.
  const std::string text = written(*word);
  const std::optional<FleetWord> again = parse_fleet_word(text);
  FUZZ_EXPECT(text.size() == payload.size());
  FUZZ_EXPECT(again && again->kind == word->kind && again->nonce == word->nonce &&
              again->base == word->base && again->peer == word->peer &&
              again->digest == word->digest);
}

void check_map(std::string_view bytes) {
  const std::optional<SlotMap> map = decode_map(bytes, kNonce);
  if (!map) return;
  FUZZ_EXPECT(map->base >= kTopBit && map->base_age_ns >= 0);
  for (const SlotToken& pair : map->touched) {
    FUZZ_EXPECT(uint64_t{pair.slot} >> map->slot_bits == 0 && pair.token != 0);
  }
  for (const PublisherAge& publisher : map->publishers) {
    FUZZ_EXPECT(publisher.told_age_ns >= 0 && publisher.beat_age_ns >= 0);
  }
  const std::optional<std::string> again = encode_map(*map, kNonce);
  FUZZ_EXPECT(again && *again == bytes);
  FUZZ_EXPECT(!decode_map(bytes, {kNonce.low + 1, kNonce.high}));
}

std::string sealed(std::string_view map) {
  const std::string_view nonce(reinterpret_cast<const char*>(&kNonce), sizeof kNonce);
  const Hash128 seal = hash128(std::string(nonce) + std::string(map) + std::string(nonce));
  std::string bytes(map);
  bytes.append(reinterpret_cast<const char*>(&seal), sizeof seal);
  return bytes;
}

}  // namespace
}  // namespace pgfresh::freshness

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pgfresh;
  if (size == 0) return 0;
  const std::string_view bytes = fuzz::as_view(data + 1, size - 1);
  const int tried = data[0] % 3;
  const fuzz::Exact exact(tried == 2 ? freshness::sealed(bytes) : bytes);
  if (tried == 0) {
    freshness::check_word(exact.view());
  } else {
    freshness::check_map(exact.view());
  }
  return 0;
}
