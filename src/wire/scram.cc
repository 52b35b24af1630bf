// SCRAM-SHA-256, the server's side. The grammar is RFC 5802, section 7, as strict as PostgreSQL's
// src/backend/libpq/auth-scram.c; the arithmetic is OpenSSL's. As PostgreSQL does, the user name in
// the exchange is ignored (the startup packet's counts) and an authorization identity is refused.
//
// Not done: channel binding (never offered, and asking for it is refused), SASLprep, an initial
// response that comes later than the message that names the mechanism (no client does it).
#include "wire/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/check.h"
#include "wire/bytes.h"

namespace pgfresh::wire {
namespace {

constexpr std::string_view kMechanism = "SCRAM-SHA-256";
constexpr size_t kKeyBytes = SHA256_DIGEST_LENGTH;
// A client's message has two names and a nonce; PostgreSQL's are below 200 bytes.
constexpr size_t kResponseBytesMax = 4096;
constexpr size_t kSecretTextMax = 1024;

const unsigned char* unsigned_data(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* unsigned_data(std::string& bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

std::string hmac(std::string_view key, std::string_view text) {
  std::string digest(kKeyBytes, '\0');
  unsigned int size = 0;
  const auto* made = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
                          unsigned_data(text), text.size(), unsigned_data(digest), &size);
  PGFRESH_CHECK(made != nullptr && size == kKeyBytes);
  return digest;
}

std::string sha256(std::string_view text) {
  std::string digest(kKeyBytes, '\0');
  SHA256(unsigned_data(text), text.size(), unsigned_data(digest));
  return digest;
}

std::string to_base64(std::string_view bytes) {
  // 4 characters for 3 bytes, and EVP_EncodeBlock ends them with a zero byte.
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size =
      EVP_EncodeBlock(unsigned_data(text), unsigned_data(bytes), static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  return text;
}

// Strict, by encoding again: EVP_DecodeBlock alone would skip white space, count the padding as
// bytes, and take several spellings of the same bytes.
std::optional<std::string> from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0 || text.size() > kResponseBytesMax) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size =
      EVP_DecodeBlock(unsigned_data(bytes), unsigned_data(text), static_cast<int>(text.size()));
  if (size < 0 || static_cast<size_t>(size) < padding) return std::nullopt;
  bytes.resize(static_cast<size_t>(size) - padding);
  if (to_base64(bytes) != text) return std::nullopt;
  return bytes;
}

// Takes "x=value" from the front of `text`, and the comma behind it; nullopt when it is not there.
std::optional<std::string_view> take_attribute(std::string_view& text, char name) {
  if (text.size() < 2 || text[0] != name || text[1] != '=') return std::nullopt;
  text.remove_prefix(2);
  const size_t comma = text.find(',');
  const std::string_view value = text.substr(0, comma);
  text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  return value;
}

// RFC 5802, section 7: printable = %x21-2B / %x2D-7E.
bool is_nonce(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](char c) { return c >= 0x21 && c <= 0x7e && c != ','; });
}

// The text of a client's message: no zero bytes, of bearable length.
bool is_text(std::string_view text) {
  return text.size() <= kResponseBytesMax && text.find('\0') == std::string_view::npos;
}

// Takes the part of `text` before the next `separator`, and the separator.
std::optional<std::string_view> take_until(std::string_view& text, char separator) {
  const size_t at = text.find(separator);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view taken = text.substr(0, at);
  text.remove_prefix(at + 1);
  return taken;
}

}  // namespace

std::optional<ScramSecret> ScramSecret::parse(std::string_view text) {
  if (text.size() > kSecretTextMax) return std::nullopt;
  if (take_until(text, '$') != kMechanism) return std::nullopt;
  const auto iterations = take_until(text, ':');
  const auto salt = take_until(text, '$');
  const auto stored_key = take_until(text, ':');
  if (!iterations || !salt || !stored_key) return std::nullopt;

  ScramSecret secret;
  const char* const end = iterations->data() + iterations->size();
  const auto [stop, error] = std::from_chars(iterations->data(), end, secret.iterations);
  if (error != std::errc() || stop != end || secret.iterations < 1) return std::nullopt;
  auto salt_bytes = from_base64(*salt);
  auto stored_bytes = from_base64(*stored_key);
  auto server_bytes = from_base64(text);
  if (!salt_bytes || !stored_bytes || !server_bytes) return std::nullopt;
  if (stored_bytes->size() != kKeyBytes || server_bytes->size() != kKeyBytes) return std::nullopt;
  secret.salt = std::move(*salt_bytes);
  secret.stored_key = std::move(*stored_bytes);
  secret.server_key = std::move(*server_bytes);
  return secret;
}

ScramSecret ScramSecret::derive(std::string_view password, std::string_view salt) {
  ScramSecret secret;
  secret.salt = std::string(salt);
  std::string salted(kKeyBytes, '\0');
  const int made =
      PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), unsigned_data(salt),
                        static_cast<int>(salt.size()), secret.iterations, EVP_sha256(),
                        static_cast<int>(kKeyBytes), unsigned_data(salted));
  PGFRESH_CHECK(made == 1);
  std::string client_key = hmac(salted, "Client Key");
  secret.stored_key = sha256(client_key);
  secret.server_key = hmac(salted, "Server Key");
  OPENSSL_cleanse(salted.data(), salted.size());
  OPENSSL_cleanse(client_key.data(), client_key.size());
  return secret;
}

bool ScramSecret::proven_by(std::string_view proof, std::string_view auth_message) const {
  if (proof.size() != kKeyBytes || stored_key.size() != kKeyBytes) return false;
  std::string client_key = hmac(stored_key, auth_message);
  for (size_t i = 0; i < kKeyBytes; ++i) {
    client_key[i] = static_cast<char>(client_key[i] ^ proof[i]);
  }
  const std::string digest = sha256(client_key);
  OPENSSL_cleanse(client_key.data(), client_key.size());
  return CRYPTO_memcmp(digest.data(), stored_key.data(), kKeyBytes) == 0;
}

std::string ScramSecret::server_signature(std::string_view auth_message) const {
  return hmac(server_key, auth_message);
}

ScramServer::ScramServer(ScramSecret secret, std::string nonce)
    : secret_(std::move(secret)), nonce_(to_base64(nonce)) {}

std::optional<std::string> ScramServer::first(std::string_view initial_response_body) {
  if (std::exchange(started_, true)) return std::nullopt;
  ByteReader reader(initial_response_body);
  const std::string_view mechanism = reader.cstring();
  const uint32_t length = reader.u32();
  std::string_view message = reader.bytes(length);
  if (!reader.at_end() || mechanism != kMechanism || !is_text(message)) return std::nullopt;

  // The GS2 header: no channel binding ("y": the client could, and knows that we cannot), no
  // authorization identity. "p=…" asks for a binding that was not offered.
  const std::string_view header = message.substr(0, 3);
  if (header != "n,," && header != "y,,") return std::nullopt;
  message.remove_prefix(header.size());
  const std::string_view bare = message;
  const auto user = take_attribute(message, 'n');
  const auto client_nonce = take_attribute(message, 'r');
  if (!user || !client_nonce || !is_nonce(*client_nonce)) return std::nullopt;

  gs2_header_ = header;
  client_first_bare_ = bare;
  nonce_.insert(0, *client_nonce);
  server_first_ =
      "r=" + nonce_ + ",s=" + to_base64(secret_.salt) + ",i=" + std::to_string(secret_.iterations);
  return server_first_;
}

std::optional<std::string> ScramServer::final(std::string_view response_body) {
  const std::string server_first = std::exchange(server_first_, {});
  if (server_first.empty() || !is_text(response_body)) return std::nullopt;
  // The proof comes last; extensions may stand before it, and base64 has no comma.
  const size_t proof_at = response_body.rfind(",p=");
  if (proof_at == std::string_view::npos) return std::nullopt;
  const std::string_view without_proof = response_body.substr(0, proof_at);
  const auto proof = from_base64(response_body.substr(proof_at + 3));

  std::string_view attributes = without_proof;
  const auto binding = take_attribute(attributes, 'c');
  const auto nonce = take_attribute(attributes, 'r');
  if (!proof || !binding || !nonce) return std::nullopt;
  if (*binding != to_base64(gs2_header_) || *nonce != nonce_) return std::nullopt;

  std::string auth_message = client_first_bare_ + "," + server_first + ",";
  auth_message += without_proof;
  if (!secret_.proven_by(*proof, auth_message)) return std::nullopt;
  return "v=" + to_base64(secret_.server_signature(auth_message));
}

}  // namespace pgfresh::wire
