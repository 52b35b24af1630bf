#include "net/tls_context.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <array>
#include <cstdlib>

#include "base/check.h"

namespace pgfresh::net {
namespace {

bool is_address(const std::string& host) {
  std::array<char, 16> ignored{};
  return uv_inet_pton(AF_INET, host.c_str(), ignored.data()) == 0 ||
         uv_inet_pton(AF_INET6, host.c_str(), ignored.data()) == 0;
}

// libpq refuses such a key, so the control connections would
// (src/interfaces/libpq/fe-secure-openssl.c: initialize_SSL).
bool is_exposed(const std::string& key) {
  struct stat status {};
  if (::stat(key.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  const mode_t refused = status.st_uid == 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO;
  return (status.st_mode & refused) != 0;
}

}  // namespace

std::string openssl_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "unknown error";
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "error " + std::to_string(code);
}

std::string system_certificate_file() {
  const char* named = std::getenv(X509_get_default_cert_file_env());
  for (const char* file :
       {named, X509_get_default_cert_file(), "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"}) {
    if (file != nullptr && ::access(file, R_OK) == 0) return file;
  }
  return {};
}

TlsContext::TlsContext(const UpstreamTarget& target)
    : context_(SSL_CTX_new(TLS_client_method())),
      host_(target.host),
      host_is_address_(is_address(target.host)),
      verifies_host_(target.ssl_mode == SslMode::kVerifyFull) {
  PGFRESH_CHECK(context_ != nullptr);
}

tl::expected<std::shared_ptr<const TlsContext>, std::string> TlsContext::make(
    const UpstreamTarget& target) {
  std::shared_ptr<TlsContext> context(new TlsContext(target));
  std::string trouble = context->load(target);
  if (!trouble.empty()) return tl::make_unexpected(std::move(trouble));
  return context;
}

std::string TlsContext::load(const UpstreamTarget& target) {
  SSL_CTX* context = context_.get();
  ERR_clear_error();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
  if (target.ssl_root_cert == "system") {
    if (SSL_CTX_set_default_verify_paths(context) != 1) {
      return "could not load system root certificate paths: " + openssl_error();
    }
  } else if (!target.ssl_root_cert.empty()) {
    if (SSL_CTX_load_verify_locations(context, target.ssl_root_cert.c_str(), nullptr) != 1) {
      return "could not read root certificate file \"" + target.ssl_root_cert +
             "\": " + openssl_error();
    }
  }
  // As libpq: where a root certificate is known, the chain is verified in every mode.
  if (!target.ssl_root_cert.empty()) SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  if (target.ssl_cert.empty()) return {};
  if (SSL_CTX_use_certificate_chain_file(context, target.ssl_cert.c_str()) != 1) {
    return "could not read certificate file \"" + target.ssl_cert + "\": " + openssl_error();
  }
  const std::string& key = target.ssl_key.empty() ? target.ssl_cert : target.ssl_key;
  if (!target.tls_first && is_exposed(key)) {
    return "private key file \"" + key +
           "\" has group or world access; chmod 600 it, or 640 where "
           "root owns it";
  }
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1) {
    return "could not load private key file \"" + key + "\": " + openssl_error();
  }
  if (SSL_CTX_check_private_key(context) != 1) {
    return "certificate does not match private key file \"" + key + "\": " + openssl_error();
  }
  return {};
}

std::unique_ptr<SSL, FreeSsl> TlsContext::new_connection() const {
  std::unique_ptr<SSL, FreeSsl> ssl(SSL_new(context_.get()));
  PGFRESH_CHECK(ssl != nullptr);
  SSL_set_connect_state(ssl.get());
  // RFC 6066 forbids addresses in SNI.
  if (!host_is_address_) {
    // SSL_set_tlsext_host_name() without its C cast; OpenSSL copies the name.
    SSL_ctrl(ssl.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
             const_cast<char*>(host_.c_str()));
  }
  return ssl;
}

std::string TlsContext::check_host(SSL* ssl) const {
  if (!verifies_host_) return {};
  X509* certificate = SSL_get0_peer_certificate(ssl);
  if (certificate == nullptr) return "certificate could not be obtained";
  const int rc = host_is_address_
                     ? X509_check_ip_asc(certificate, host_.c_str(), 0)
                     : X509_check_host(certificate, host_.c_str(), host_.size(), 0, nullptr);
  if (rc == 1) return {};
  return "server certificate does not match host name \"" + host_ + "\"";
}

}  // namespace pgfresh::net
