#include "cache/sealer.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/check.h"
#include "base/text.h"

namespace pgfresh::cache {
namespace {

const unsigned char* raw(const char* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}
unsigned char* raw(char* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

int length(std::string_view bytes) {
  PGFRESH_CHECK(bytes.size() <= static_cast<size_t>(std::numeric_limits<int>::max()));
  return static_cast<int>(bytes.size());
}

template <typename Number>
bool read_all(std::string_view text, Number& number, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc() && end == text.data() + text.size();
}

// Empty, or what is wrong with the line.
std::string read_key(std::string_view line, SealKey& key) {
  const size_t gap = line.find_first_of(" \t");
  if (gap == std::string_view::npos) return "a key's number and 64 hexadecimal digits are wanted";
  if (!read_all(line.substr(0, gap), key.id, 10) || key.id == 0) {
    return "the key's number must be one from 1 to 4294967295";
  }
  const std::string_view digits = trimmed(line.substr(gap));
  if (digits.size() != key.bytes.size() * 2) return "the key must have 64 hexadecimal digits";
  for (size_t i = 0; i < key.bytes.size(); ++i) {
    if (!read_all(digits.substr(i * 2, 2), key.bytes[i], 16)) {
      return "the key must have hexadecimal digits only";
    }
  }
  return {};
}

}  // namespace

tl::expected<SealKeys, std::string> read_seal_keys(std::string_view text) {
  SealKeys keys;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#') continue;
    SealKey key;
    std::string trouble = read_key(line, key);
    const auto same = [&key](const SealKey& other) { return other.id == key.id; };
    if (trouble.empty() && std::any_of(keys.begin(), keys.end(), same)) {
      trouble = "key " + std::to_string(key.id) + " has been given already";
    }
    if (!trouble.empty()) {
      return tl::make_unexpected("line " + std::to_string(number) + ": " + trouble);
    }
    keys.push_back(key);
  }
  if (keys.empty()) return tl::make_unexpected("it has no key");
  return keys;
}

Sealer::Sealer(const SealKeys& keys) {
  PGFRESH_CHECK(!keys.empty());
  for (const SealKey& key : keys) {
    Key made{key.id, Context(EVP_CIPHER_CTX_new()), Context(EVP_CIPHER_CTX_new())};
    const EVP_CIPHER* cipher = EVP_aes_256_gcm();
    PGFRESH_CHECK(made.sealing && made.opening);
    PGFRESH_CHECK(
        EVP_EncryptInit_ex(made.sealing.get(), cipher, nullptr, key.bytes.data(), nullptr) == 1);
    PGFRESH_CHECK(
        EVP_DecryptInit_ex(made.opening.get(), cipher, nullptr, key.bytes.data(), nullptr) == 1);
    keys_.push_back(std::move(made));
  }
}

void Sealer::seal(std::string& message, size_t from, std::string_view nonce) {
  PGFRESH_CHECK(nonce.size() == kNonceBytes && from <= message.size());
  EVP_CIPHER_CTX* context = keys_.back().sealing.get();
  const int size = length(std::string_view(message).substr(from));
  unsigned char* const text = raw(message.data() + from);
  int done = 0;
  PGFRESH_CHECK(EVP_EncryptInit_ex(context, nullptr, nullptr, nullptr, raw(nonce.data())) == 1);
  PGFRESH_CHECK(
      EVP_EncryptUpdate(context, nullptr, &done, raw(message.data()), static_cast<int>(from)) == 1);
  PGFRESH_CHECK(EVP_EncryptUpdate(context, text, &done, text, size) == 1 && done == size);
  PGFRESH_CHECK(EVP_EncryptFinal_ex(context, text + size, &done) == 1 && done == 0);
  message.resize(message.size() + kTagBytes);
  PGFRESH_CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, kTagBytes,
                                    message.data() + message.size() - kTagBytes) == 1);
}

Sealer::Opened Sealer::open(std::string_view message, size_t from, uint32_t key_id,
                            std::string_view nonce, std::string& plain) {
  PGFRESH_CHECK(nonce.size() == kNonceBytes && from + kTagBytes <= message.size());
  const auto key = std::find_if(keys_.begin(), keys_.end(),
                                [key_id](const Key& one) { return one.id == key_id; });
  if (key == keys_.end()) return Opened::kKeyUnknown;
  EVP_CIPHER_CTX* context = key->opening.get();
  const std::string_view sealed = message.substr(from, message.size() - from - kTagBytes);
  std::string tag(message.substr(message.size() - kTagBytes));
  plain.resize(sealed.size());
  int done = 0;
  PGFRESH_CHECK(EVP_DecryptInit_ex(context, nullptr, nullptr, nullptr, raw(nonce.data())) == 1);
  PGFRESH_CHECK(
      EVP_DecryptUpdate(context, nullptr, &done, raw(message.data()), static_cast<int>(from)) == 1);
  PGFRESH_CHECK(EVP_DecryptUpdate(context, raw(plain.data()), &done, raw(sealed.data()),
                                  length(sealed)) == 1);
  PGFRESH_CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1);
  if (EVP_DecryptFinal_ex(context, raw(plain.data() + plain.size()), &done) == 1) {
    return Opened::kOpen;
  }
  OPENSSL_cleanse(plain.data(), plain.size());
  plain.clear();
  return Opened::kTampered;
}

}  // namespace pgfresh::cache
