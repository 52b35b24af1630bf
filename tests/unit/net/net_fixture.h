// What the tests of src/net share: a loop turned until something has happened, a recorder of what
// a stream tells, and pairs of connected sockets.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/unique_fd.h"
#include "net/uv_loop.h"
#include "net/uv_stream.h"

namespace pgfresh::net {

inline bool turn_until(UvLoop& loop, const std::function<bool()>& happened, int ms_max = 5000) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(ms_max);
  const auto tick = loop.every(5, [] {});  // the loop may have nothing else to wake it
  while (!happened()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    loop.turn();
  }
  return true;
}

inline void turn_for(UvLoop& loop, int ms) {
  static_cast<void>(turn_until(
      loop, [] { return false; }, ms));
}

struct Recorder final : Stream::Events {
  std::string bytes;
  int drained = 0;
  int ends = 0;
  std::string why;
  std::function<void(std::string_view)> then;
  bool stays = false;  // when the peer has closed its sending side
  int half_closes = 0;

  void on_bytes(std::string_view more) override {
    REQUIRE(ends == 0);
    if (then) {
      then(more);
    } else {
      bytes.append(more);
    }
  }
  void on_drained() override {
    REQUIRE(ends == 0);
    ++drained;
  }
  bool on_half_close() override {
    REQUIRE(ends == 0);
    ++half_closes;
    return stays;
  }
  void on_end(std::string_view reason) override {
    ++ends;
    why = reason;
  }
};

struct FdPair {
  UniqueFd near;
  UniqueFd far;
};

inline FdPair unix_pair() {
  int fds[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

inline int unread_bytes(int fd) {
  int count = 0;
  REQUIRE(::ioctl(fd, FIONREAD, &count) == 0);
  return count;
}

inline UniqueFd loopback_listener(uint16_t& port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(fd.get(), 16) == 0);
  socklen_t size = sizeof address;
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  port = ntohs(address.sin_port);
  return fd;
}

inline UniqueFd connect_loopback(uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

inline FdPair tcp_pair() {
  uint16_t port = 0;
  const UniqueFd listener = loopback_listener(port);
  FdPair pair;
  pair.near = connect_loopback(port);
  pair.far.reset(::accept(listener.get(), nullptr, nullptr));
  REQUIRE(pair.far.valid());
  return pair;
}

inline void put(Stream& stream, std::string_view bytes) {
  const Slice slice{bytes, nullptr};
  stream.write({&slice, 1});
}

inline std::unique_ptr<UvStream> adopt(UvLoop& loop, UniqueFd& fd, SocketKind kind) {
  auto stream = UvStream::adopt(loop, fd.release(), kind);
  REQUIRE(stream != nullptr);
  return stream;
}

}  // namespace pgfresh::net
