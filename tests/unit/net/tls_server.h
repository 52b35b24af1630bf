// A PostgreSQL-shaped TLS server in a thread: answers the SSLRequest as told, shakes hands with a
// certificate made for this run, and echoes what it receives. Blocking sockets, OpenSSL.
#pragma once

#include <doctest/doctest.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "net_fixture.h"

namespace pgfresh::net {

// A self-signed certificate and its key, in two files that go with the object.
class Certificate {
 public:
  explicit Certificate(const std::string& names) {
    key_ = EVP_EC_gen("P-256");
    x509_ = X509_new();
    X509_set_version(x509_, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509_), 1);
    X509_gmtime_adj(X509_getm_notBefore(x509_), -60);
    X509_gmtime_adj(X509_getm_notAfter(x509_), 3600);
    X509_set_pubkey(x509_, key_);
    X509_NAME* name = X509_get_subject_name(x509_);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("test"), -1, -1, 0);
    X509_set_issuer_name(x509_, name);
    X509_EXTENSION* extension =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, names.c_str());
    X509_add_ext(x509_, extension, -1);
    X509_EXTENSION_free(extension);
    X509_sign(x509_, key_, EVP_sha256());
    char path[] = "/tmp/pgfresh-test-cert-XXXXXX";
    const int fd = ::mkstemp(path);
    REQUIRE(fd >= 0);
    file_ = path;
    std::FILE* out = ::fdopen(fd, "w");
    PEM_write_X509(out, x509_);
    std::fclose(out);
  }
  ~Certificate() {
    ::unlink(file_.c_str());
    X509_free(x509_);
    EVP_PKEY_free(key_);
  }
  Certificate(const Certificate&) = delete;
  Certificate& operator=(const Certificate&) = delete;

  [[nodiscard]] const std::string& file() const { return file_; }
  void use(SSL_CTX* context) const {
    SSL_CTX_use_certificate(context, x509_);
    SSL_CTX_use_PrivateKey(context, key_);
  }

 private:
  EVP_PKEY* key_ = nullptr;
  X509* x509_ = nullptr;
  std::string file_;
};

class TlsServer {
 public:
  // `answer`: what is sent to an SSLRequest; TLS follows when it is "S".
  TlsServer(std::string answer, const Certificate& certificate)
      : listener_(loopback_listener(port_)), answer_(std::move(answer)), certificate_(certificate) {
    thread_ = std::thread([this] { serve(); });
  }
  ~TlsServer() {
    stopping_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] int requests() const { return requests_; }
  [[nodiscard]] int plain() const { return plain_; }
  [[nodiscard]] std::string sni() const { return sni_; }
  // Bytes to send before echoing begins.
  std::string greeting;
  // Highest protocol version, 0 for the library's own.
  int version_max = 0;

 private:
  void serve() {
    while (!stopping_) {
      const UniqueFd fd(::accept(listener_.get(), nullptr, nullptr));
      if (!fd.valid()) return;
      char request[8] = {};
      const ssize_t count = ::recv(fd.get(), request, sizeof request, MSG_WAITALL);
      if (count == 8 && request[4] == 0x04 && request[7] == 0x2f) {
        ++requests_;
        if (::write(fd.get(), answer_.data(), answer_.size()) < 0) continue;
        if (answer_ == "S") {
          encrypted(fd.get());
        } else {
          echo_plain(fd.get());
        }
      } else if (count > 0) {
        ++plain_;
        if (::write(fd.get(), request, static_cast<size_t>(count)) < 0) continue;
        echo_plain(fd.get());
      }
    }
  }

  static void echo_plain(int fd) {
    char buffer[4096];
    ssize_t count = 0;
    while ((count = ::read(fd, buffer, sizeof buffer)) > 0) {
      if (::write(fd, buffer, static_cast<size_t>(count)) < 0) return;
    }
  }

  void encrypted(int fd) {
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    if (version_max != 0) SSL_CTX_set_max_proto_version(context, version_max);
    certificate_.use(context);
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
      if (const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) sni_ = name;
      if (!greeting.empty()) SSL_write(ssl, greeting.data(), static_cast<int>(greeting.size()));
      char buffer[20000];
      int count = 0;
      while ((count = SSL_read(ssl, buffer, sizeof buffer)) > 0) {
        if (SSL_write(ssl, buffer, count) <= 0) break;
      }
      if (SSL_get_shutdown(ssl) == SSL_RECEIVED_SHUTDOWN) SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
  }

  uint16_t port_ = 0;
  UniqueFd listener_;
  std::string answer_;
  const Certificate& certificate_;
  std::string sni_;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> requests_ = 0;
  std::atomic<int> plain_ = 0;
  std::thread thread_;
};

}  // namespace pgfresh::net
