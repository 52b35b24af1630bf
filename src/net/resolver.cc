#include "net/resolver.h"

#include <netinet/in.h>

#include <array>
#include <cstring>
#include <utility>

namespace pgfresh::net {

struct Resolution::Request {
  uv_getaddrinfo_t handle{};
  std::string host;
  uint16_t port = 0;
  Done done;                      // empty once told or abandoned
  std::shared_ptr<Request> self;  // while libuv has the request

  void tell(std::vector<sockaddr_storage> addresses, std::string error) {
    const Done callback = std::exchange(done, nullptr);
    if (callback) callback(std::move(addresses), std::move(error));
  }

  [[nodiscard]] std::string failure(const char* why) const {
    return "could not translate host name \"" + host + "\" to address: " + why;
  }

  static void resolved(uv_getaddrinfo_t* handle, int status, addrinfo* found) noexcept;
};

void Resolution::Request::resolved(uv_getaddrinfo_t* handle, int status, addrinfo* found) noexcept {
  const auto request = std::exchange(static_cast<Request*>(handle->data)->self, nullptr);
  std::vector<sockaddr_storage> addresses;
  for (const addrinfo* one = found; one != nullptr && addresses.size() < kAddressesMax;
       one = one->ai_next) {
    if (one->ai_family != AF_INET && one->ai_family != AF_INET6) continue;
    sockaddr_storage& address = addresses.emplace_back();
    std::memset(&address, 0, sizeof address);
    std::memcpy(&address, one->ai_addr, one->ai_addrlen);
  }
  uv_freeaddrinfo(found);
  std::string error;
  if (addresses.empty()) {
    const bool unknown = status == UV_EAI_NONAME || status == UV_EAI_NODATA || status == 0;
    error = request->failure(unknown ? "Name or service not known" : uv_strerror(status));
  }
  request->tell(std::move(addresses), std::move(error));
}

Resolution::Resolution(UvLoop& loop, const std::string& host, uint16_t port, Done done)
    : request_(std::make_shared<Request>()) {
  request_->host = host;
  request_->port = port;
  request_->done = std::move(done);
  request_->handle.data = request_.get();

  sockaddr_storage numeric{};
  if (uv_ip4_addr(host.c_str(), port, reinterpret_cast<sockaddr_in*>(&numeric)) == 0 ||
      uv_ip6_addr(host.c_str(), port, reinterpret_cast<sockaddr_in6*>(&numeric)) == 0) {
    loop.defer([request = request_, numeric] { request->tell({numeric}, {}); });
    return;
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  const int rc = uv_getaddrinfo(loop.uv(), &request_->handle, &Request::resolved, host.c_str(),
                                std::to_string(port).c_str(), &hints);
  if (rc == 0) {
    request_->self = request_;
    return;
  }
  loop.defer([request = request_, rc] { request->tell({}, request->failure(uv_strerror(rc))); });
}

Resolution::~Resolution() {
  request_->done = nullptr;
  // Works only before a thread has taken it up; else it ends by itself and tells nobody.
  if (request_->self) uv_cancel(reinterpret_cast<uv_req_t*>(&request_->handle));
}

std::string numeric_host(const sockaddr_storage& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  uv_ip_name(reinterpret_cast<const sockaddr*>(&address), text.data(), text.size());
  return text.data();
}

}  // namespace pgfresh::net
