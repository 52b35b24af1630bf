#include "query/key_value.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

namespace pgfresh::query {
namespace {

constexpr uint32_t kBool = 16, kInt8 = 20, kInt2 = 21, kInt4 = 23, kText = 25, kUuid = 2950;

std::string canonical(KeyType type, std::string_view text) {
  KeyBuffer buffer;
  const auto value = canonical_text(type, text, buffer);
  return value ? std::string(*value) : "refused";
}

std::string binary(uint32_t oid, std::string_view bytes) {
  KeyBuffer buffer;
  const auto value = canonical_binary(oid, bytes, buffer);
  return value ? std::string(*value) : "refused";
}

TEST_CASE("integers are spelled as int8out spells them") {
  for (const std::string_view text : {"42", "0042", " 42 ", "+42", "\t42\n", "+0042\f\v\r"}) {
    CAPTURE(text);
    CHECK(canonical(KeyType::kInteger, text) == "42");
  }
  CHECK(canonical(KeyType::kInteger, "-7") == "-7");
  CHECK(canonical(KeyType::kInteger, "-0") == "0");
  CHECK(canonical(KeyType::kInteger, "-9223372036854775808") == "-9223372036854775808");
  for (const std::string_view text : {"", " ", "+", "-", "+-1", "1.0", "1e3", "0x10", "1_000",
                                      "4 2", "9223372036854775808", "١"}) {
    CAPTURE(text);
    CHECK(canonical(KeyType::kInteger, text) == "refused");
  }
}

TEST_CASE("uuids are spelled as uuid_out spells them") {
  const std::string wanted = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
  for (const std::string_view text :
       {"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}"}) {
    CAPTURE(text);
    CHECK(canonical(KeyType::kUuid, text) == wanted);
  }
  for (const std::string_view text :
       {"", "{", "{}", " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-", "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11", "g0eebc999c0b4ef8bb6d6bb9bd380a11",
        "{a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11}",
        "a-0eebc999c0b4ef8bb6d6bb9bd380a11"}) {
    CAPTURE(text);
    CHECK(canonical(KeyType::kUuid, text) == "refused");
  }
}

TEST_CASE("truth values, texts, other types") {
  for (const std::string_view text : {"t", "TRUE", " yes ", "on", "1", "Y"}) {
    CHECK(canonical(KeyType::kBool, text) == "t");
  }
  for (const std::string_view text : {"f", "False", "no", "OFF", "0", "n"}) {
    CHECK(canonical(KeyType::kBool, text) == "f");
  }
  for (const std::string_view text : {"", "tr", "o", "2", "of"}) {
    CHECK(canonical(KeyType::kBool, text) == "refused");
  }
  CHECK(canonical(KeyType::kText, " As It Is ") == " As It Is ");
  CHECK(canonical(KeyType::kText, "") == "");
  CHECK(canonical(KeyType::kNone, "1") == "refused");
  CHECK(key_type(1700) == KeyType::kNone);
  CHECK(key_type(1042) == KeyType::kNone);
  CHECK(key_type(1043) == KeyType::kText);
  CHECK(key_type_of_array(2951) == KeyType::kUuid);
  CHECK(key_type_of_array(2950) == KeyType::kNone);
  CHECK(key_array_oid(23) == 1007);
  CHECK(key_element_oid(1007) == 23);
}

TEST_CASE("binary values") {
  using namespace std::string_view_literals;
  CHECK(binary(kInt2, "\x00\x2a"sv) == "42");
  CHECK(binary(kInt2, "\xff\xff"sv) == "-1");
  CHECK(binary(kInt4, "\x00\x00\x00\x2a"sv) == "42");
  CHECK(binary(kInt4, "\x80\x00\x00\x00"sv) == "-2147483648");
  CHECK(binary(kInt8, "\x80\0\0\0\0\0\0\0"sv) == "-9223372036854775808");
  CHECK(binary(kInt8, "\x7f\xff\xff\xff\xff\xff\xff\xff"sv) == "9223372036854775807");
  CHECK(binary(kInt4, "\x00\x2a"sv) == "refused");
  CHECK(binary(kInt8, "\0\0\0\x2a"sv) == "refused");
  CHECK(binary(kBool, "\1"sv) == "t");
  CHECK(binary(kBool, "\0"sv) == "f");
  CHECK(binary(kBool, ""sv) == "refused");
  CHECK(binary(kText, "ab") == "ab");
  CHECK(binary(kUuid, "\xa0\xee\xbc\x99\x9c\x0b\x4e\xf8\xbb\x6d\x6b\xb9\xbd\x38\x0a\x11"sv) ==
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
  CHECK(binary(kUuid, "\xa0") == "refused");
  CHECK(binary(1700, "\0\0"sv) == "refused");
}

std::string elements(std::string_view text) {
  TextArrayReader reader(text);
  std::string out;
  while (const auto element = reader.next()) {
    out += element->is_null ? "NULL" : "<" + std::string(element->text) + ">";
  }
  return reader.ok() ? out : "refused";
}

TEST_CASE("arrays as text") {
  CHECK(elements("{}") == "");
  CHECK(elements(" { } ") == "");
  CHECK(elements("{1,2, 3 }") == "<1><2><3>");
  CHECK(elements("{a b,\"a,b\",\"\\\"\\\\\",\"\"}") == "<a b><a,b><\"\\><>");
  CHECK(elements("{NULL,null,\"NULL\",nulls}") == "NULLNULL<NULL><nulls>");
  for (const std::string_view text :
       {"", "{", "}", "1", "{1", "{1,}", "{,1}", "{1,,2}", "{{1},{2}}", "[0:1]={1,2}", "{\"a}",
        "{\"a\"b}", "{a\"b\"}", "{a\\,b}", "{\"a\\", "{1}{2}"}) {
    CAPTURE(text);
    CHECK(elements(text) == "refused");
  }
  CHECK(elements("{\"" + std::string(1024, 'x') + "\"}").size() == 1026);
  CHECK(elements("{\"" + std::string(1025, 'x') + "\"}") == "refused");
}

std::string be(uint32_t value) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 255);
  return out;
}

std::string binary_elements(const std::string& bytes, uint32_t oid) {
  BinaryArrayReader reader(bytes, oid);
  std::string out;
  while (const auto element = reader.next()) {
    out += element->is_null ? "NULL" : binary(oid, element->bytes) + ",";
  }
  return reader.ok() ? out : "refused";
}

TEST_CASE("arrays in binary") {
  const std::string one_two = be(4) + be(1) + be(4) + be(2);
  CHECK(binary_elements(be(0) + be(0) + be(kInt4), kInt4) == "");
  CHECK(binary_elements(be(1) + be(0) + be(kInt4) + be(2) + be(1) + one_two, kInt4) == "1,2,");
  CHECK(binary_elements(be(2) + be(0) + be(kInt4) + be(1) + be(1) + be(2) + be(1) + one_two,
                        kInt4) == "1,2,");
  CHECK(binary_elements(be(1) + be(1) + be(kInt4) + be(2) + be(1) + be(0xffffffff) + be(4) + be(7),
                        kInt4) == "NULL7,");
  const std::string good = be(1) + be(0) + be(kInt4) + be(2) + be(1) + one_two;
  for (size_t size = 0; size < good.size(); ++size) {
    CAPTURE(size);
    CHECK(binary_elements(good.substr(0, size), kInt4) == "refused");
  }
  CHECK(binary_elements(good + "x", kInt4) == "refused");
  CHECK(binary_elements(good, kInt8) == "refused");
  CHECK(binary_elements(be(7) + good.substr(4), kInt4) == "refused");
  CHECK(binary_elements(be(1) + be(0) + be(kInt4) + be(0xffffffff) + be(1), kInt4) == "refused");
}

}  // namespace
}  // namespace pgfresh::query
