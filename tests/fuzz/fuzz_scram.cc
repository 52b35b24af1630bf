// SCRAM under any bytes. Oracles: a client that knows the password is let in after any first
// message that was accepted; one that does not is never let in; a stored secret that was read has
// keys of the right size.
//
// Input: one byte that says what is tried, then either a secret's text, or the body of a
// SASLInitialResponse and, behind a byte 0xfe, what takes the place of the client's proof.
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <string>

#include "expect.h"
#include "wire/scram.h"

namespace pgfresh::wire {
namespace {

constexpr std::string_view kPassword = "pencil";
constexpr std::string_view kSalt = "sixteen bytes ..";

const unsigned char* raw(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* raw(std::string& bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }

std::string base64(std::string_view bytes) {
  std::string text(bytes.size() * 2 + 8, '\0');
  const int size = EVP_EncodeBlock(raw(text), raw(bytes), static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  return text;
}

std::string hmac(std::string_view key, std::string_view text) {
  std::string digest(32, '\0');
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), raw(text), text.size(), raw(digest),
       nullptr);
  return digest;
}

// The client's key, by the client's own way from the password.
std::string client_key() {
  std::string salted(32, '\0');
  PKCS5_PBKDF2_HMAC(kPassword.data(), static_cast<int>(kPassword.size()), raw(kSalt),
                    static_cast<int>(kSalt.size()), 4096, EVP_sha256(), 32, raw(salted));
  return hmac(salted, "Client Key");
}

const ScramSecret& secret() {
  static const ScramSecret the_secret = ScramSecret::derive(kPassword, kSalt);
  return the_secret;
}

// The proof of a client that knows the password.
std::string honest_proof(const std::string& auth_message) {
  static const std::string key = client_key();
  std::string proof = hmac(secret().stored_key, auth_message);
  for (size_t i = 0; i < proof.size(); ++i) proof[i] = static_cast<char>(proof[i] ^ key[i]);
  return base64(proof);
}

void try_exchange(std::string_view initial, std::string_view instead) {
  ScramServer honest(secret(), "0123456789abcdefgh");
  ScramServer other(secret(), "0123456789abcdefgh");
  const auto first = honest.first(initial);
  FUZZ_EXPECT(other.first(initial) == first);
  if (!first) {
    FUZZ_EXPECT(!honest.final(instead));
    return;
  }
  // Behind mechanism, zero byte and length: GS2 header of three bytes, then the bare message.
  const std::string_view message = initial.substr(initial.find('\0') + 5);
  const std::string nonce = first->substr(2, first->find(',') - 2);
  const std::string without_proof = "c=" + base64(message.substr(0, 3)) + ",r=" + nonce;
  const std::string auth_message =
      std::string(message.substr(3)) + "," + *first + "," + without_proof;
  const std::string proof = honest_proof(auth_message);
  const auto final = honest.final(without_proof + ",p=" + proof);
  FUZZ_EXPECT(final == "v=" + base64(secret().server_signature(auth_message)));
  // No wrong proof, and no whole response that the fuzzer thought of.
  const std::string forged = without_proof + ",p=" + std::string(instead);
  FUZZ_EXPECT(instead == proof || !other.final(forged));
  ScramServer third(secret(), "0123456789abcdefgh");
  FUZZ_EXPECT(third.first(initial) == first);
  FUZZ_EXPECT(!third.final(instead));
}

void try_secret(std::string_view text) {
  const auto read = ScramSecret::parse(text);
  if (!read) return;
  FUZZ_EXPECT(read->iterations > 0 && !read->salt.empty());
  FUZZ_EXPECT(read->stored_key.size() == 32 && read->server_key.size() == 32);
  FUZZ_EXPECT(!read->proven_by(text, text));
}

}  // namespace
}  // namespace pgfresh::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pgfresh;
  if (size == 0) return 0;
  const std::string_view input = fuzz::as_view(data + 1, size - 1);
  if ((data[0] & 1) != 0) {
    const fuzz::Exact text(input);
    wire::try_secret(text.view());
    return 0;
  }
  const size_t at = input.find('\xfe');
  const fuzz::Exact initial(input.substr(0, at));
  const fuzz::Exact instead(at == std::string_view::npos ? std::string_view()
                                                         : input.substr(at + 1));
  wire::try_exchange(initial.view(), instead.view());
  return 0;
}
