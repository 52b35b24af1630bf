// An entry as it lies in Redis. Whatever Redis answers is held to be hostile: lengths before
// content, the unpacked size before unpacking, and anything wrong is a miss with a name that is
// counted. What decodes is still only a claim, which the reader's own slots judge (freshness.md,
// rule 8).
//
//   header   "pgfE" · version · flags (1 zstd, 2 sealed) · log2 of the slots · 0 · u32 key number ·
//            12 bytes nonce · u32 size of the plain part. Numbers are little endian.
//   plain    i64 created, i64 expires (ms since 1970) · i64 upstream ns · u64 shape · u64 query id
//   ·
//            u32 description bytes · u32 pairs · u32 key bytes · u32 body bytes ·
//            pairs of u32 slot, u64 token · key · body;
//            compressed, then sealed, as the flags say
//   trailer  the seal's tag over header and plain part, or XXH3-64 of both
//
// A change of anything here is a new version: proxies of two versions in one fleet then do not see
// each other's entries, and miss.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cache/sealer.h"
#include "freshness/stamp.h"
#include "pgfresh/remote_store.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace pgfresh::cache {

enum class Decoded : uint8_t {
  kEntry,
  kForeign,     // not an entry at all
  kVersion,     // of another version
  kSlots,       // of a proxy with another freshness.slots_log2
  kTruncated,   // shorter than it says
  kTooLarge,    // unpacked it would be longer than allowed
  kKeyUnknown,  // sealed with a key that is not in the key file
  kNotSealed,   // readable, where there is a key file
  kTampered,    // the seal or the checksum is not right
  kPacking,     // zstd cannot unpack it
  kMalformed,   // its parts do not fit each other
};
inline constexpr size_t kDecodedCount = static_cast<size_t>(Decoded::kMalformed) + 1;
[[nodiscard]] std::string_view decoded_name(Decoded decoded);  // "key_unknown"

struct CodecOptions {
  int slot_bits = 20;
  size_t pack_bytes_min = 4096;        // smaller plain parts are not compressed
  size_t plain_bytes_max = 2U << 20U;  // larger ones are neither made nor believed
  SealKeys keys;                       // empty: not sealed
};

// One thread's.
class EntryCodec {
 public:
  // `random`: for nonces, of cryptographic quality where there are keys.
  EntryCodec(CodecOptions options, std::function<uint64_t()> random);
  ~EntryCodec();
  EntryCodec(const EntryCodec&) = delete;
  EntryCodec& operator=(const EntryCodec&) = delete;

  // From now on; empty: nothing is sealed, and what is cannot be read.
  void set_keys(const SealKeys& keys);

  // False when the entry is too large; `out` is replaced.
  [[nodiscard]] bool encode(const RemoteEntry& entry, std::string& out);
  // The views in `entry` are valid until the next decode(), or point into `bytes`.
  [[nodiscard]] Decoded decode(std::string_view bytes, RemoteEntry& entry);

 private:
  struct FreeZstd {
    void operator()(ZSTD_CCtx_s* context) const noexcept;
    void operator()(ZSTD_DCtx_s* context) const noexcept;
  };

  [[nodiscard]] bool pack(std::string& out);
  [[nodiscard]] Decoded open(std::string_view bytes, std::string_view& payload);
  [[nodiscard]] Decoded read_plain(std::string_view plain, RemoteEntry& entry);

  const CodecOptions options_;
  const std::function<uint64_t()> random_;
  std::optional<Sealer> sealer_;
  std::unique_ptr<ZSTD_CCtx_s, FreeZstd> packer_;
  std::unique_ptr<ZSTD_DCtx_s, FreeZstd> unpacker_;
  std::string plain_;  // of encode()
  // Of decode(): what its views point into.
  std::string unsealed_;
  std::string unpacked_;
  freshness::Stamp stamp_;
};

}  // namespace pgfresh::cache
