// What a peer that is said to be Redis may send. Oracles: whatever the pieces, the same answers
// come out of the same bytes; they are within their bounds; what is broken stays broken.
//
// Input: one byte, the size of the pieces, then the bytes.
#include <algorithm>
#include <string>

#include "base/limits.h"
#include "cache/redis_trouble.h"
#include "cache/resp.h"
#include "expect.h"

namespace pgfresh::cache {
namespace {

constexpr size_t kReplyMax = 4096;

// Appends what can be seen of a reply; its items and text bytes.
struct Size {
  size_t items = 0;
  size_t bytes = 0;
};
void describe(const RedisReply& reply, std::string& out, Size& size) {
  out += std::to_string(static_cast<int>(reply.kind)) + ":" + std::to_string(reply.integer) + ":" +
         reply.text + ";";
  size.bytes += reply.text.size();
  size.items += reply.items.size();
  for (const RedisReply& item : reply.items) describe(item, out, size);
}

std::string read(std::string_view bytes, size_t piece) {
  ReplyReader reader(kReplyMax);
  std::string seen;
  while (!bytes.empty()) {
    const fuzz::Exact part(fuzz::take(bytes, piece));
    reader.feed(part.view());
    RedisReply reply;
    ReplyReader::Read result = reader.next(reply);
    while (result == ReplyReader::Read::kReply) {
      Size size;
      describe(reply, seen, size);
      FUZZ_EXPECT(size.bytes <= kReplyMax && size.items <= limits::kRedisItemsMax);
      if (reply.is_error()) FUZZ_EXPECT(!trouble_name(classify(reply.text)).empty());
      FUZZ_EXPECT(read_info(reply.text).version.size() <= 32);
      result = reader.next(reply);
    }
    if (result == ReplyReader::Read::kBroken) {
      FUZZ_EXPECT(reader.next(reply) == ReplyReader::Read::kBroken);
      return seen + "broken";
    }
  }
  return seen;
}

}  // namespace
}  // namespace pgfresh::cache

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pgfresh;
  // Longer than the bound on what may lie unread: then where it breaks depends on the pieces.
  if (size == 0 || size > cache::kReplyMax) return 0;
  const std::string_view bytes = fuzz::as_view(data + 1, size - 1);
  const size_t piece = std::max<size_t>(data[0], 1);
  FUZZ_EXPECT(cache::read(bytes, piece) == cache::read(bytes, bytes.size()));
  return 0;
}
