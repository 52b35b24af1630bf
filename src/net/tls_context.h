// Certificates and rules of TLS connections to one server, shared by all loops.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include <tl/expected.hpp>

#include "net/upstream.h"

namespace pgfresh::net {

struct FreeSsl {
  void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};

// Immutable; any thread.
class TlsContext {
 public:
  // Reads the certificate files that `target` names. The error is one line.
  [[nodiscard]] static tl::expected<std::shared_ptr<const TlsContext>, std::string> make(
      const UpstreamTarget& target);

  // The state of a new connection, in client mode, with SNI where the host is a name.
  [[nodiscard]] std::unique_ptr<SSL, FreeSsl> new_connection() const;
  // Whether the server's certificate is the right one for the host, after the handshake: empty, or
  // libpq's text. (The chain has been verified in the handshake.)
  [[nodiscard]] std::string check_host(SSL* ssl) const;

 private:
  explicit TlsContext(const UpstreamTarget& target);
  [[nodiscard]] std::string load(const UpstreamTarget& target);

  std::unique_ptr<SSL_CTX, FreeSsl> context_;
  std::string host_;
  bool host_is_address_ = false;
  bool verifies_host_ = false;
};

// The text of OpenSSL's oldest queued error; the queue of this thread is empty afterwards.
[[nodiscard]] std::string openssl_error();

// The file with the certificates that the system trusts, for libraries that know no "system";
// empty where none is found.
[[nodiscard]] std::string system_certificate_file();

}  // namespace pgfresh::net
