// Values and arrays of values as clients send them, in text and binary. The first byte says as
// what. What is accepted is spelled canonically: spelled once more it stays as it is.
#include <string>
#include <string_view>

#include "expect.h"
#include "query/key_value.h"

namespace pgfresh::query {
namespace {

constexpr uint32_t kOids[] = {16, 20, 21, 23, 25, 1043, 2950};

void check_text(KeyType type, std::string_view text) {
  KeyBuffer buffer;
  const auto value = canonical_text(type, text, buffer);
  if (!value) return;
  KeyBuffer other;
  const std::string once(*value);
  FUZZ_EXPECT(canonical_text(type, once, other) == once);
}

void check_binary(uint32_t oid, std::string_view bytes) {
  KeyBuffer buffer;
  const auto value = canonical_binary(oid, bytes, buffer);
  if (value) check_text(key_type(oid), *value);
}

void check(uint32_t oid, std::string_view bytes) {
  check_text(key_type(oid), bytes);
  check_binary(oid, bytes);
  size_t elements = 0;
  TextArrayReader text(bytes);
  while (const auto element = text.next()) {
    FUZZ_EXPECT(++elements <= bytes.size());
    if (!element->is_null) check_text(key_type(oid), element->text);
  }
  elements = 0;
  BinaryArrayReader binary(bytes, oid);
  while (const auto element = binary.next()) {
    FUZZ_EXPECT(++elements <= bytes.size());
    if (!element->is_null) check_binary(oid, element->bytes);
  }
}

}  // namespace
}  // namespace pgfresh::query

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pgfresh;
  if (size == 0) return 0;
  const fuzz::Exact bytes(fuzz::as_view(data + 1, size - 1));
  query::check(query::kOids[data[0] % std::size(query::kOids)], bytes.view());
  return 0;
}
