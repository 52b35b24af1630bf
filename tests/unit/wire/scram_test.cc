// SCRAM-SHA-256: the arithmetic against RFC 7677's example, the exchange against a client made of
// the RFC's grammar, and refusals.
#include "wire/scram.h"

#include <doctest/doctest.h>
#include <openssl/evp.h>

#include <string>
#include <string_view>

namespace pgfresh::wire {
namespace {

using namespace std::string_literals;

// RFC 7677, section 3: user "user", password "pencil".
constexpr std::string_view kSalt = "W22ZaJ0SNY7soEsUEjb6gQ==";
constexpr std::string_view kAuthMessage =
    "n=user,r=rOprNGfwEbeRWgbNEkqO,"
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
constexpr std::string_view kProof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
constexpr std::string_view kSignature = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
// "pencil" with that salt, as PostgreSQL stores it (computed with Python's hashlib).
constexpr std::string_view kStored =
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

std::string decoded(std::string_view text) {
  std::string bytes(text.size(), '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  REQUIRE(size > 0);
  bytes.resize(static_cast<size_t>(size) - (text.ends_with("==")  ? 2
                                            : text.ends_with('=') ? 1
                                                                  : 0));
  return bytes;
}

std::string encoded(std::string_view bytes) {
  std::string text(bytes.size() * 2 + 8, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                   reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  return text;
}

std::string initial(std::string_view message, std::string_view mechanism = "SCRAM-SHA-256") {
  std::string body(mechanism);
  body += "\0\0\0"s;
  body.push_back(static_cast<char>(message.size() >> 8));
  body.push_back(static_cast<char>(message.size() & 0xff));
  body += message;
  return body;
}

ScramServer server() {
  return ScramServer(ScramSecret::derive("pencil", decoded(kSalt)), "0123456789abcdefgh");
}

const std::string kServerNonce = encoded("0123456789abcdefgh");

// The proof of a client that has the keys of RFC 7677's example. The client key is what the
// example's own proof shows: proof XOR signature by the stored key.
std::string proof_for(const std::string& auth_message) {
  // server_signature() is HMAC with the server key; put the stored key in its place.
  ScramSecret stored = ScramSecret::parse(kStored).value();
  stored.server_key = stored.stored_key;
  const std::string example_signature = stored.server_signature(kAuthMessage);
  const std::string signature = stored.server_signature(auth_message);
  std::string proof = decoded(kProof);
  for (size_t i = 0; i < proof.size(); ++i) {
    proof[i] = static_cast<char>(proof[i] ^ example_signature[i] ^ signature[i]);
  }
  return encoded(proof);
}

TEST_CASE("scram: RFC 7677's example") {
  const ScramSecret secret = ScramSecret::derive("pencil", decoded(kSalt));
  CHECK(secret.iterations == 4096);
  CHECK(secret.proven_by(decoded(kProof), kAuthMessage));
  CHECK(encoded(secret.server_signature(kAuthMessage)) == kSignature);

  CHECK_FALSE(secret.proven_by(decoded(kProof), std::string(kAuthMessage) + "x"));
  CHECK_FALSE(secret.proven_by("", kAuthMessage));
  CHECK_FALSE(
      ScramSecret::derive("pencils", decoded(kSalt)).proven_by(decoded(kProof), kAuthMessage));
}

TEST_CASE("scram: a stored secret is read, and only of the right form") {
  const auto secret = ScramSecret::parse(kStored);
  REQUIRE(secret.has_value());
  const ScramSecret derived = ScramSecret::derive("pencil", decoded(kSalt));
  CHECK(secret->iterations == 4096);
  CHECK(secret->salt == derived.salt);
  CHECK(secret->stored_key == derived.stored_key);
  CHECK(secret->server_key == derived.server_key);

  const auto with = [](std::string_view what, std::string_view instead) {
    std::string text(kStored);
    const size_t at = text.find(what);
    REQUIRE(at != std::string::npos);
    return ScramSecret::parse(text.replace(at, what.size(), instead)).has_value();
  };
  CHECK(with("4096", "1"));
  CHECK_FALSE(with("SCRAM-SHA-256", "SCRAM-SHA-1"));
  CHECK_FALSE(with("4096", "0"));
  CHECK_FALSE(with("4096", "-4096"));
  CHECK_FALSE(with("4096", ""));
  CHECK_FALSE(with("4096", "4096x"));
  CHECK_FALSE(with("4096", "99999999999"));
  CHECK_FALSE(with("gQ==$", "gQ=$"));
  CHECK_FALSE(with("gQ==$", "g===$"));
  CHECK_FALSE(with("W22Z", " W22"));
  CHECK_FALSE(with("W22ZaJ0SNY7soEsUEjb6gQ==", ""));
  CHECK_FALSE(with("W22ZaJ0SNY7soEsUEjb6gQ==", "===="));
  CHECK_FALSE(with("gQ==$", "gR==$"));  // other unused bits: a second spelling of the same bytes
  CHECK_FALSE(with("WG5d", ""));
  CHECK_FALSE(with("2dU=", "2dU=AAAA"));
  CHECK_FALSE(ScramSecret::parse("").has_value());
  CHECK_FALSE(ScramSecret::parse("md5abcdef0123456789abcdef0123456789").has_value());
  CHECK_FALSE(ScramSecret::parse(kStored.substr(0, kStored.size() - 45)).has_value());
}

TEST_CASE("scram: an exchange with each GS2 header, and with extensions") {
  struct Example {
    std::string header;
    std::string first_more;
    std::string final_more;
  };
  for (const Example& example :
       {Example{"n,,", "", ""}, Example{"y,,", "", ""}, Example{"n,,", ",x=1", ",x=a=b"}}) {
    ScramServer exchange = server();
    const std::string bare = "n=,r=abc" + example.first_more;
    const auto first = exchange.first(initial(example.header + bare));
    REQUIRE(first.has_value());
    CHECK(*first == "r=abc" + kServerNonce + ",s=" + std::string(kSalt) + ",i=4096");

    const std::string without_proof =
        "c=" + encoded(example.header) + ",r=abc" + kServerNonce + example.final_more;
    const std::string auth_message = bare + "," + *first + "," + without_proof;
    const auto final = exchange.final(without_proof + ",p=" + proof_for(auth_message));
    REQUIRE(final.has_value());
    const ScramSecret secret = ScramSecret::parse(kStored).value();
    CHECK(*final == "v=" + encoded(secret.server_signature(auth_message)));
    // Once only.
    CHECK_FALSE(exchange.final(without_proof + ",p=" + proof_for(auth_message)).has_value());
    CHECK_FALSE(exchange.first(initial("n,,n=,r=abc")).has_value());
  }
}

TEST_CASE("scram: first messages that are refused") {
  const auto refused = [](const std::string& body) {
    ScramServer exchange = server();
    return !exchange.first(body).has_value();
  };
  CHECK_FALSE(refused(initial("n,,n=user,r=abc")));
  CHECK(refused(""));
  CHECK(refused("SCRAM-SHA-256"));
  CHECK(refused("SCRAM-SHA-256\0\xff\xff\xff\xff"s));
  CHECK(refused("SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=abc"s));
  CHECK(refused(initial("n,,n=user,r=abc") + "x"));
  CHECK(refused(initial("n,,n=user,r=abc", "SCRAM-SHA-256-PLUS")));
  CHECK(refused(initial("n,,n=user,r=abc", "")));
  CHECK(refused(initial("p=tls-server-end-point,,n=user,r=abc")));
  CHECK(refused(initial("n,a=other,n=user,r=abc")));
  CHECK(refused(initial("n,,m=x,n=user,r=abc")));
  CHECK(refused(initial("n,,r=abc")));
  CHECK(refused(initial("n,,n=user")));
  CHECK(refused(initial("n,,n=user,r=")));
  CHECK(refused(initial("n,,n=user,r=a b")));
  CHECK(refused(initial("n,,n=user,r=a\x7f")));
  CHECK(refused(initial("n,,n=us\0er,r=abc"s)));
  CHECK(refused(initial("n,,n=user,r=" + std::string(5000, 'a'))));
}

TEST_CASE("scram: final messages that are refused") {
  const std::string bare = "n=,r=abc";
  const std::string first = "r=abc" + kServerNonce + ",s=" + std::string(kSalt) + ",i=4096";
  // Whatever the client says, its proof is right for what it says.
  const auto accepted = [&](const std::string& without_proof, const std::string& more) {
    ScramServer exchange = server();
    REQUIRE(exchange.first(initial("n,," + bare)).has_value());
    const std::string proof = proof_for(bare + "," + first + "," + without_proof);
    return exchange.final(without_proof + ",p=" + proof + more).has_value();
  };
  const std::string good = "c=biws,r=abc" + kServerNonce;
  CHECK(accepted(good, ""));
  CHECK_FALSE(accepted(good, "\0"s));
  CHECK_FALSE(accepted(good, ",x=1"));
  CHECK_FALSE(accepted("c=eSws,r=abc" + kServerNonce, ""));
  CHECK_FALSE(accepted("r=abc" + kServerNonce, ""));
  CHECK_FALSE(accepted("c=biws,r=" + kServerNonce, ""));
  CHECK_FALSE(accepted("c=biws,r=abc", ""));
  CHECK_FALSE(accepted("c=biws", ""));

  // The right proof, spelled with other unused bits: its last digit, before "=", one higher.
  ScramServer respelled = server();
  REQUIRE(respelled.first(initial("n,," + bare)).has_value());
  std::string proof = proof_for(bare + "," + first + "," + good);
  REQUIRE(proof.ends_with('='));
  const std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  proof[proof.size() - 2] = digits[digits.find(proof[proof.size() - 2]) + 1];
  CHECK_FALSE(respelled.final(good + ",p=" + proof).has_value());

  const auto answer = [&](const std::string& body) {
    ScramServer exchange = server();
    REQUIRE(exchange.first(initial("n,," + bare)).has_value());
    return exchange.final(body);
  };
  CHECK_FALSE(answer("").has_value());
  CHECK_FALSE(answer(good).has_value());
  CHECK_FALSE(answer(good + ",p=").has_value());
  CHECK_FALSE(answer(good + ",p=AAAA").has_value());
  CHECK_FALSE(answer(good + ",p=" + std::string(kProof)).has_value());

  ScramServer without_first = server();
  CHECK_FALSE(without_first.final(good + ",p=" + std::string(kProof)).has_value());
}

}  // namespace
}  // namespace pgfresh::wire
