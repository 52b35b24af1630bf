#include "cache/entry_codec.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/limits.h"

namespace pgfresh::cache {
namespace {

const freshness::Stamp kStamp = {{0, 1}, {17, 0x8000000000000001U}, {0xFFFFF, ~uint64_t{0}}};

SealKey key_of(uint32_t id, unsigned char byte) {
  SealKey key;
  key.id = id;
  key.bytes.fill(byte);
  return key;
}

std::function<uint64_t()> counting() {
  return [next = uint64_t{0}]() mutable { return ++next * 0x9E3779B97F4A7C15U; };
}

CodecOptions options_with(SealKeys keys) {
  CodecOptions options;
  options.keys = std::move(keys);
  return options;
}

RemoteEntry sample(std::string_view body) {
  RemoteEntry entry;
  entry.key = std::string_view("select\0 1", 9);
  entry.stamp = kStamp;
  entry.body = body;
  entry.description_bytes = static_cast<uint32_t>(body.size() / 2);
  entry.shape = 0x1122334455667788U;
  entry.query_id = 42;
  entry.created_unix_ms = 1'790'000'000'000;
  entry.expires_unix_ms = 1'790'000'300'000;
  entry.upstream_ns = 250'000;
  return entry;
}

std::string encoded(const CodecOptions& options, std::string_view body) {
  EntryCodec codec(options, counting());
  std::string out;
  REQUIRE(codec.encode(sample(body), out));
  return out;
}

Decoded decoded(const CodecOptions& options, const std::string& bytes) {
  EntryCodec codec(options, counting());
  RemoteEntry entry;
  return codec.decode(bytes, entry);
}

void check_round_trip(const CodecOptions& options, std::string_view body) {
  EntryCodec codec(options, counting());
  const RemoteEntry before = sample(body);
  std::string bytes;
  REQUIRE(codec.encode(before, bytes));
  RemoteEntry after;
  REQUIRE(codec.decode(bytes, after) == Decoded::kEntry);
  CHECK(after.key == before.key);
  CHECK(freshness::Stamp(after.stamp.begin(), after.stamp.end()) == kStamp);
  CHECK(after.body == before.body);
  CHECK(after.description_bytes == before.description_bytes);
  CHECK(after.shape == before.shape);
  CHECK(after.query_id == before.query_id);
  CHECK(after.created_unix_ms == before.created_unix_ms);
  CHECK(after.expires_unix_ms == before.expires_unix_ms);
  CHECK(after.upstream_ns == before.upstream_ns);
}

TEST_CASE("what is encoded is decoded, whatever way it was packed") {
  std::string noise;
  for (uint32_t i = 0, x = 1; i < 10'000; ++i)
    noise += static_cast<char>((x = x * 1664525U + 7) >> 24);
  for (const SealKeys& keys : {SealKeys{}, SealKeys{key_of(1, 7)}}) {
    const CodecOptions options = options_with(keys);
    check_round_trip(options, "");
    check_round_trip(options, "rows");
    check_round_trip(options, std::string(100'000, 'x'));
    check_round_trip(options, noise);
  }
}

TEST_CASE("long bodies are compressed where that helps, short ones are left alone") {
  CHECK(encoded({}, std::string(100'000, 'x')).size() < 1000);
  CHECK(encoded({}, std::string(1000, 'x')).size() > 1000);
}

TEST_CASE("a sealed entry shows nothing, and no two look alike") {
  const CodecOptions options = options_with({key_of(1, 7)});
  const std::string body = "patient Ada Lovelace";
  EntryCodec codec(options, counting());
  std::string first;
  std::string second;
  REQUIRE(codec.encode(sample(body), first));
  REQUIRE(codec.encode(sample(body), second));
  CHECK(first.find("Ada") == std::string::npos);
  CHECK(first.find("select") == std::string::npos);
  CHECK(first != second);
  CHECK(encoded({}, body).find("Ada") != std::string::npos);
}

TEST_CASE("every byte counts: a changed or missing one is a miss") {
  for (const SealKeys& keys : {SealKeys{}, SealKeys{key_of(1, 7)}}) {
    for (const size_t size : {size_t{30}, size_t{5000}}) {
      const CodecOptions options = options_with(keys);
      const std::string good = encoded(options, std::string(size, 'x'));
      REQUIRE(decoded(options, good) == Decoded::kEntry);
      for (size_t i = 0; i < good.size(); ++i) {
        CHECK(decoded(options, good.substr(0, i)) != Decoded::kEntry);
        std::string bad = good;
        bad[i] = static_cast<char>(bad[i] ^ 0x10);
        CHECK(decoded(options, bad) != Decoded::kEntry);
      }
      CHECK(decoded(options, good + 'x') != Decoded::kEntry);
    }
  }
}

TEST_CASE("keys are rotated: the newest seals, all of them open") {
  const SealKey old_key = key_of(1, 7);
  const SealKey new_key = key_of(2, 8);
  const std::string by_old = encoded(options_with({old_key}), "rows");
  const std::string by_new = encoded(options_with({old_key, new_key}), "rows");
  CHECK(decoded(options_with({old_key, new_key}), by_old) == Decoded::kEntry);
  CHECK(decoded(options_with({old_key, new_key}), by_new) == Decoded::kEntry);
  CHECK(decoded(options_with({old_key}), by_new) == Decoded::kKeyUnknown);
  CHECK(decoded(options_with({key_of(2, 9)}), by_new) == Decoded::kTampered);
  CHECK(decoded({}, by_new) == Decoded::kKeyUnknown);
  CHECK(decoded(options_with({old_key}), encoded({}, "rows")) == Decoded::kNotSealed);
}

TEST_CASE("keys are changed while it runs") {
  EntryCodec codec(options_with({key_of(1, 7)}), counting());
  std::string by_old;
  std::string by_new;
  RemoteEntry entry;
  REQUIRE(codec.encode(sample("rows"), by_old));
  codec.set_keys({key_of(1, 7), key_of(2, 8)});
  REQUIRE(codec.encode(sample("rows"), by_new));
  CHECK(codec.decode(by_old, entry) == Decoded::kEntry);
  CHECK(codec.decode(by_new, entry) == Decoded::kEntry);
  codec.set_keys({key_of(2, 8)});
  CHECK(codec.decode(by_old, entry) == Decoded::kKeyUnknown);
  codec.set_keys({});
  CHECK(codec.decode(by_new, entry) == Decoded::kKeyUnknown);
}

TEST_CASE("each refusal has its name") {
  const std::string good = encoded({}, std::string(10'000, 'x'));
  CHECK(decoded({}, "") == Decoded::kForeign);
  CHECK(decoded({}, "hello") == Decoded::kForeign);
  CHECK(decoded({}, "pgfE") == Decoded::kTruncated);
  std::string later = good;
  later[4] = 2;
  CHECK(decoded({}, later) == Decoded::kVersion);
  CodecOptions other;
  other.slot_bits = 16;
  CHECK(decoded(other, good) == Decoded::kSlots);
  CodecOptions small;
  small.plain_bytes_max = 9'000;
  CHECK(decoded(small, good) == Decoded::kTooLarge);
  CHECK(decoded_name(Decoded::kTooLarge) == "too_large");
}

TEST_CASE("what is too large is not encoded") {
  CodecOptions options;
  options.plain_bytes_max = 1000;
  EntryCodec codec(options, counting());
  std::string out;
  CHECK_FALSE(codec.encode(sample(std::string(1000, 'x')), out));
  CHECK(codec.encode(sample(std::string(500, 'x')), out));
  const freshness::Stamp many(limits::kStampSlotsMax + 1);
  RemoteEntry entry = sample("");
  entry.stamp = many;
  CHECK_FALSE(EntryCodec({}, counting()).encode(entry, out));
}

TEST_CASE("key files") {
  const std::string hex(64, 'a');
  const auto keys = read_seal_keys("# made by openssl rand -hex 32\n\n1 " + hex + "\n  7\t" +
                                   std::string(62, '0') + "0F\r\n");
  REQUIRE(keys);
  REQUIRE(keys->size() == 2);
  CHECK(keys->front().id == 1);
  CHECK(keys->front().bytes[31] == 0xaa);
  CHECK(keys->back().id == 7);
  CHECK(keys->back().bytes[31] == 0x0f);

  const auto trouble = [](const std::string& text) {
    const auto read = read_seal_keys(text);
    return read ? std::string("none") : read.error();
  };
  CHECK(trouble("") == "it has no key");
  CHECK(trouble("# 1\n") == "it has no key");
  CHECK(trouble("1\n") == "line 1: a key's number and 64 hexadecimal digits are wanted");
  CHECK(trouble("0 " + hex) == "line 1: the key's number must be one from 1 to 4294967295");
  CHECK(trouble("\n4294967296 " + hex) ==
        "line 2: the key's number must be one from 1 to 4294967295");
  CHECK(trouble("1 abc") == "line 1: the key must have 64 hexadecimal digits");
  CHECK(trouble("1 " + std::string(64, 'g')) ==
        "line 1: the key must have hexadecimal digits only");
  CHECK(trouble("1 " + hex + "\n1 " + hex) == "line 2: key 1 has been given already");
}

}  // namespace
}  // namespace pgfresh::cache
