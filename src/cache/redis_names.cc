#include "cache/redis_names.h"

#include <algorithm>
#include <cstring>

namespace pgfresh::cache {
namespace {

constexpr size_t kPrefixBytesMax = 64;

void append_hex(std::string& out, uint64_t number, int digits) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4) out += kDigits[(number >> shift) & 15];
}

std::string with_hash(const std::string& prefix, const Hash128& hash) {
  std::string name = prefix;
  append_hex(name, hash.high, 16);
  append_hex(name, hash.low, 16);
  return name;
}

}  // namespace

RedisNames::RedisNames(std::string prefix)
    : entry_prefix_(prefix + "e:"),
      tag_prefix_(prefix + "t:"),
      lock_prefix_(prefix + "l:"),
      mail_prefix_(prefix + "m:") {}

Hash128 RedisNames::hash_of(std::string_view key, std::span<const freshness::SlotToken> stamp) {
  std::string bytes;
  bytes.reserve(key.size() + (stamp.size() + 1) * (sizeof(uint32_t) + sizeof(uint64_t)));
  bytes += key;
  const auto append = [&bytes](const auto& number) {
    bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
  };
  for (const freshness::SlotToken& pair : stamp) {
    append(pair.slot);
    append(pair.token);
  }
  append(static_cast<uint64_t>(stamp.size()));
  return hash128(bytes);
}

std::string RedisNames::member(const Hash128& hash) {
  std::string bytes(sizeof hash, '\0');
  std::memcpy(bytes.data(), &hash, sizeof hash);
  return bytes;
}

std::string RedisNames::entry(const Hash128& hash) const { return with_hash(entry_prefix_, hash); }

std::string RedisNames::entry_of_member(std::string_view member) const {
  Hash128 hash;
  if (member.size() == sizeof hash) std::memcpy(&hash, member.data(), sizeof hash);
  return entry(hash);
}

std::string RedisNames::tag(const freshness::SlotToken& pair) const {
  std::string name = tag_prefix_;
  append_hex(name, pair.slot, 6);
  name += ':';
  append_hex(name, pair.token, 16);
  return name;
}

std::string RedisNames::lock(const Hash128& hash) const { return with_hash(lock_prefix_, hash); }

std::string RedisNames::mail(std::string_view address) const {
  return mail_prefix_ + std::string(address);
}

bool is_redis_prefix(std::string_view prefix) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ':' ||
           c == '.' || c == '_' || c == '-' || c == '/';
  };
  return prefix.size() <= kPrefixBytesMax && std::all_of(prefix.begin(), prefix.end(), allowed);
}

}  // namespace pgfresh::cache
