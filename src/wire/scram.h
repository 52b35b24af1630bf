// The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677; PostgreSQL manual, "SASL
// Authentication"), for sessions that end at pgfresh itself: the console. Channel binding is not
// offered. No I/O, no clock; randomness is a parameter.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pgfresh::wire {

// What a server keeps instead of a password, in the form of pg_authid.rolpassword.
struct ScramSecret {
  int iterations = 4096;
  std::string salt;        // raw bytes
  std::string stored_key;  // 32 raw bytes
  std::string server_key;  // 32 raw bytes

  // From "SCRAM-SHA-256$4096:<salt>$<stored>:<server>"; nullopt when it is not of that form.
  [[nodiscard]] static std::optional<ScramSecret> parse(std::string_view text);
  // From a password in clear. `salt`: 16 random bytes. The password is used as it is, without
  // SASLprep: one that is not plain ASCII and not normalised already will not match what a client
  // sends that normalises it.
  [[nodiscard]] static ScramSecret derive(std::string_view password, std::string_view salt);

  // The two computations of an exchange, apart from its messages. `auth_message` as RFC 5802,
  // section 3 defines it. `proof`: raw bytes; compared in constant time.
  [[nodiscard]] bool proven_by(std::string_view proof, std::string_view auth_message) const;
  [[nodiscard]] std::string server_signature(std::string_view auth_message) const;
};

// One exchange: first(), then final(), each once; anything out of order is refused.
class ScramServer {
 public:
  // `nonce`: 18 random bytes, sent in base64. For an unknown user pass a derived mock secret and
  // the exchange fails at its end, as PostgreSQL's does.
  ScramServer(ScramSecret secret, std::string nonce);

  // The body of SASLInitialResponse; the text of AuthenticationSASLContinue, or nullopt: refused.
  [[nodiscard]] std::optional<std::string> first(std::string_view initial_response_body);
  // The body of SASLResponse; the text of AuthenticationSASLFinal, or nullopt: refused.
  [[nodiscard]] std::optional<std::string> final(std::string_view response_body);

 private:
  ScramSecret secret_;
  std::string nonce_;  // ours in base64; after first(): the client's, then ours
  std::string gs2_header_;
  std::string client_first_bare_;
  std::string server_first_;  // empty: no final() expected
  bool started_ = false;
};

}  // namespace pgfresh::wire
