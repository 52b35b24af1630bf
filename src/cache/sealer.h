// AES-256-GCM for what leaves this process towards Redis, so that rows need not lie readable there.
// libcrypto's arithmetic alone, as in wire/scram: no connection, no file, no clock, no randomness
// of its own.
//
// Nonces are random, 96 bits: by NIST SP 800-38D one key may seal 2^32 messages, after which the
// operator adds a new one (at 1000 fills a second: seven weeks).
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

namespace pgfresh::cache {

struct SealKey {
  uint32_t id = 0;
  std::array<unsigned char, 32> bytes{};
};
// Not empty, the newest last: it seals, and all of them open.
using SealKeys = std::vector<SealKey>;

// A key file: a line "ID HEX" for each key, ID from 1 to 4294967295 and HEX of 64 digits; empty
// lines and lines that begin with # count for nothing. The error is one line, "line 3: …", and
// quotes nothing of the file.
[[nodiscard]] tl::expected<SealKeys, std::string> read_seal_keys(std::string_view text);

// One thread's.
class Sealer {
 public:
  static constexpr size_t kNonceBytes = 12;
  static constexpr size_t kTagBytes = 16;

  // REQUIRES: `keys` is not empty.
  explicit Sealer(const SealKeys& keys);

  [[nodiscard]] uint32_t newest() const { return keys_.back().id; }
  // Encrypts the bytes of `message` from `from` on, in place, and appends the tag. What stands
  // before them, with the nonce in it, is authenticated. REQUIRES: nonce of kNonceBytes.
  void seal(std::string& message, size_t from, std::string_view nonce);

  enum class Opened : uint8_t { kOpen, kKeyUnknown, kTampered };
  // The reverse; `plain` is what stood from `from` on. REQUIRES: `from` + kTagBytes fit.
  [[nodiscard]] Opened open(std::string_view message, size_t from, uint32_t key_id,
                            std::string_view nonce, std::string& plain);

 private:
  struct FreeContext {
    void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
  };
  using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;
  // The key schedule is made once; a message sets its nonce only.
  struct Key {
    uint32_t id = 0;
    Context sealing;
    Context opening;
  };

  std::vector<Key> keys_;
};

}  // namespace pgfresh::cache
