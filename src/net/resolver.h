// Host names to addresses, in libuv's thread pool, so that a slow name server stops no loop.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/uv_loop.h"

namespace pgfresh::net {

// Addresses tried for one name; more are left out. 8 × connect_timeout bounds a connection attempt.
inline constexpr size_t kAddressesMax = 8;

// A look-up under way. Destroying it abandons it; the callback does not come then.
class Resolution {
 public:
  // `addresses` is empty when `error` is not, whose text is libpq's.
  using Done = std::function<void(std::vector<sockaddr_storage> addresses, std::string error)>;

  // `done` comes from a callback of the loop, never from inside this call.
  Resolution(UvLoop& loop, const std::string& host, uint16_t port, Done done);
  ~Resolution();
  Resolution(const Resolution&) = delete;
  Resolution& operator=(const Resolution&) = delete;

 private:
  struct Request;
  std::shared_ptr<Request> request_;
};

// The address alone, as text: "10.0.0.7", "::1".
[[nodiscard]] std::string numeric_host(const sockaddr_storage& address);

}  // namespace pgfresh::net
