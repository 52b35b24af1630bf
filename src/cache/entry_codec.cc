#include "cache/entry_codec.h"

#include <zstd.h>

#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "base/limits.h"

namespace pgfresh::cache {
namespace {

using freshness::SlotToken;

static_assert(std::endian::native == std::endian::little, "the format's numbers are copied");

constexpr std::string_view kMagic = "pgfE";
constexpr char kVersion = 1;
constexpr char kPacked = 1;
constexpr char kSealed = 2;
constexpr size_t kNonceAt = 12;
constexpr size_t kPlainSizeAt = kNonceAt + Sealer::kNonceBytes;
constexpr size_t kHeaderBytes = kPlainSizeAt + sizeof(uint32_t);
constexpr size_t kChecksumBytes = sizeof(uint64_t);
constexpr size_t kFixedBytes = 5 * sizeof(uint64_t) + 4 * sizeof(uint32_t);
constexpr size_t kPairBytes = sizeof(uint32_t) + sizeof(uint64_t);
// zstd's fastest ordinary level: about 400 MB/s, and rows shrink to a third all the same.
constexpr int kPackLevel = 1;
// What the scratch buffers may keep between two entries.
constexpr size_t kScratchBytesMax = size_t{1} << 20;

template <typename Number>
void append(std::string& out, Number number) {
  char bytes[sizeof number];
  std::memcpy(bytes, &number, sizeof number);
  out.append(bytes, sizeof bytes);
}

// REQUIRES: it is there.
template <typename Number>
Number number_at(std::string_view bytes, size_t at) {
  PGFRESH_CHECK(at + sizeof(Number) <= bytes.size());
  Number number;
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

template <typename Number>
Number take(std::string_view& bytes) {
  const auto number = number_at<Number>(bytes, 0);
  bytes.remove_prefix(sizeof number);
  return number;
}

size_t plain_bytes(const RemoteEntry& entry) {
  return kFixedBytes + entry.stamp.size() * kPairBytes + entry.key.size() + entry.body.size();
}

void append_plain(std::string& out, const RemoteEntry& entry) {
  append(out, entry.created_unix_ms);
  append(out, entry.expires_unix_ms);
  append(out, entry.upstream_ns);
  append(out, entry.shape);
  append(out, entry.query_id);
  append(out, entry.description_bytes);
  append(out, static_cast<uint32_t>(entry.stamp.size()));
  append(out, static_cast<uint32_t>(entry.key.size()));
  append(out, static_cast<uint32_t>(entry.body.size()));
  for (const SlotToken& pair : entry.stamp) {
    append(out, pair.slot);
    append(out, pair.token);
  }
  out += entry.key;
  out += entry.body;
}

void trim(std::string& scratch) {
  if (scratch.capacity() > kScratchBytesMax) std::string().swap(scratch);
}

}  // namespace

std::string_view decoded_name(Decoded decoded) {
  switch (decoded) {
    case Decoded::kEntry:
      return "entry";
    case Decoded::kForeign:
      return "foreign";
    case Decoded::kVersion:
      return "version";
    case Decoded::kSlots:
      return "slots";
    case Decoded::kTruncated:
      return "truncated";
    case Decoded::kTooLarge:
      return "too_large";
    case Decoded::kKeyUnknown:
      return "key_unknown";
    case Decoded::kNotSealed:
      return "not_sealed";
    case Decoded::kTampered:
      return "tampered";
    case Decoded::kPacking:
      return "packing";
    case Decoded::kMalformed:
      return "malformed";
  }
  return "";
}

void EntryCodec::FreeZstd::operator()(ZSTD_CCtx_s* context) const noexcept {
  ZSTD_freeCCtx(context);
}
void EntryCodec::FreeZstd::operator()(ZSTD_DCtx_s* context) const noexcept {
  ZSTD_freeDCtx(context);
}

EntryCodec::EntryCodec(CodecOptions options, std::function<uint64_t()> random)
    : options_(std::move(options)), random_(std::move(random)) {
  set_keys(options_.keys);
}

void EntryCodec::set_keys(const SealKeys& keys) {
  sealer_.reset();
  if (!keys.empty()) sealer_.emplace(keys);
}

EntryCodec::~EntryCodec() = default;

// ── Out ──────────────────────────────────────────────────────────────────────────────────────────

bool EntryCodec::encode(const RemoteEntry& entry, std::string& out) {
  const size_t size = plain_bytes(entry);
  if (size > options_.plain_bytes_max || entry.stamp.size() > limits::kStampSlotsMax) return false;
  PGFRESH_CHECK(entry.description_bytes <= entry.body.size());
  std::string nonce(Sealer::kNonceBytes, '\0');
  if (sealer_) {
    const std::array<uint64_t, 2> numbers = {random_(), random_()};
    std::memcpy(nonce.data(), numbers.data(), nonce.size());
  }
  out.clear();
  out.reserve(kHeaderBytes + size + Sealer::kTagBytes);
  out += kMagic;
  out += kVersion;
  out += sealer_ ? kSealed : '\0';
  out += static_cast<char>(options_.slot_bits);
  out += '\0';
  append(out, sealer_ ? sealer_->newest() : uint32_t{0});
  out += nonce;
  append(out, static_cast<uint32_t>(size));
  if (size < options_.pack_bytes_min) {
    append_plain(out, entry);
  } else {
    plain_.clear();
    append_plain(plain_, entry);
    if (!pack(out)) out += plain_;
    trim(plain_);
  }
  if (sealer_) {
    sealer_->seal(out, kHeaderBytes, nonce);
  } else {
    append(out, hash64(out));
  }
  return true;
}

// Appends plain_ compressed, and says so in the header. False: it would be no shorter.
bool EntryCodec::pack(std::string& out) {
  if (!packer_) packer_.reset(ZSTD_createCCtx());
  PGFRESH_CHECK(packer_ != nullptr);
  const size_t before = out.size();
  out.resize(before + plain_.size());
  const size_t packed = ZSTD_compressCCtx(packer_.get(), out.data() + before, plain_.size(),
                                          plain_.data(), plain_.size(), kPackLevel);
  if (ZSTD_isError(packed) != 0 || packed >= plain_.size()) {
    out.resize(before);
    return false;
  }
  out.resize(before + packed);
  out[kMagic.size() + 1] = static_cast<char>(out[kMagic.size() + 1] | kPacked);
  return true;
}

// ── In ───────────────────────────────────────────────────────────────────────────────────────────

Decoded EntryCodec::decode(std::string_view bytes, RemoteEntry& entry) {
  if (bytes.substr(0, kMagic.size()) != kMagic) return Decoded::kForeign;
  if (bytes.size() < kHeaderBytes) return Decoded::kTruncated;
  if (bytes[kMagic.size()] != kVersion) return Decoded::kVersion;
  const char flags = bytes[kMagic.size() + 1];
  if ((flags & ~(kPacked | kSealed)) != 0 || bytes[kMagic.size() + 3] != 0) {
    return Decoded::kMalformed;
  }
  if (bytes[kMagic.size() + 2] != static_cast<char>(options_.slot_bits)) return Decoded::kSlots;
  const auto plain_size = number_at<uint32_t>(bytes, kPlainSizeAt);
  if (plain_size > options_.plain_bytes_max) return Decoded::kTooLarge;

  trim(unsealed_);
  trim(unpacked_);
  std::string_view payload;
  const Decoded opened = open(bytes, payload);
  if (opened != Decoded::kEntry) return opened;
  if ((flags & kPacked) == 0) {
    return payload.size() == plain_size ? read_plain(payload, entry) : Decoded::kTruncated;
  }
  if (!unpacker_) unpacker_.reset(ZSTD_createDCtx());
  PGFRESH_CHECK(unpacker_ != nullptr);
  unpacked_.resize(plain_size);
  const size_t unpacked = ZSTD_decompressDCtx(unpacker_.get(), unpacked_.data(), unpacked_.size(),
                                              payload.data(), payload.size());
  if (ZSTD_isError(unpacked) != 0 || unpacked != plain_size) return Decoded::kPacking;
  return read_plain(unpacked_, entry);
}

// Checks the trailer; `payload` is the plain part, still compressed where it is.
Decoded EntryCodec::open(std::string_view bytes, std::string_view& payload) {
  const bool sealed = (bytes[kMagic.size() + 1] & kSealed) != 0;
  if (!sealed && sealer_) return Decoded::kNotSealed;
  if (sealed && !sealer_) return Decoded::kKeyUnknown;
  if (bytes.size() < kHeaderBytes + (sealed ? Sealer::kTagBytes : kChecksumBytes)) {
    return Decoded::kTruncated;
  }
  if (!sealed) {
    const std::string_view covered = bytes.substr(0, bytes.size() - kChecksumBytes);
    if (hash64(covered) != number_at<uint64_t>(bytes, covered.size())) return Decoded::kTampered;
    payload = covered.substr(kHeaderBytes);
    return Decoded::kEntry;
  }
  const auto key_id = number_at<uint32_t>(bytes, kMagic.size() + 4);
  switch (sealer_->open(bytes, kHeaderBytes, key_id, bytes.substr(kNonceAt, Sealer::kNonceBytes),
                        unsealed_)) {
    case Sealer::Opened::kOpen:
      payload = unsealed_;
      return Decoded::kEntry;
    case Sealer::Opened::kKeyUnknown:
      return Decoded::kKeyUnknown;
    case Sealer::Opened::kTampered:
      return Decoded::kTampered;
  }
  return Decoded::kMalformed;
}

Decoded EntryCodec::read_plain(std::string_view plain, RemoteEntry& entry) {
  if (plain.size() < kFixedBytes) return Decoded::kTruncated;
  entry.created_unix_ms = take<int64_t>(plain);
  entry.expires_unix_ms = take<int64_t>(plain);
  entry.upstream_ns = take<int64_t>(plain);
  entry.shape = take<uint64_t>(plain);
  entry.query_id = take<uint64_t>(plain);
  entry.description_bytes = take<uint32_t>(plain);
  const size_t pairs = take<uint32_t>(plain);
  const size_t key_bytes = take<uint32_t>(plain);
  const size_t body_bytes = take<uint32_t>(plain);
  if (pairs > limits::kStampSlotsMax || entry.description_bytes > body_bytes ||
      plain.size() != pairs * kPairBytes + key_bytes + body_bytes) {
    return Decoded::kMalformed;
  }
  stamp_.clear();
  for (size_t i = 0; i < pairs; ++i) {
    const auto slot = take<uint32_t>(plain);
    if ((uint64_t{slot} >> options_.slot_bits) != 0) return Decoded::kMalformed;
    stamp_.push_back({slot, take<uint64_t>(plain)});
  }
  entry.stamp = stamp_;
  entry.key = plain.substr(0, key_bytes);
  entry.body = plain.substr(key_bytes);
  return Decoded::kEntry;
}

}  // namespace pgfresh::cache
