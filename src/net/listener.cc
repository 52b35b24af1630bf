#include "net/listener.h"

#include <fcntl.h>
#include <netdb.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace pgfresh::net {
namespace {

// As long as the kernel allows (net.core.somaxconn cuts it): a thousand clients may reconnect at
// the same moment.
constexpr int kBacklog = 4096;
// Clients accepted at one wake-up before the control loop's other work has its turn.
constexpr int kAcceptsPerTurn = 64;
// Pause when the process has no descriptors left.
constexpr int64_t kRestMs = 100;

constexpr int kFirstInheritedFd = 3;  // SD_LISTEN_FDS_START

std::string why_not(const std::string& what, int error) {
  return "cannot listen on " + what + ": " + std::strerror(error);
}

struct HostPort {
  std::string host;  // empty: all addresses
  std::string port;
};

// False unless the text is HOST:PORT, [V6]:PORT, or *:PORT.
bool split_address(const std::string& text, HostPort& result) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == text.size()) return false;
  result.host = text.substr(0, colon);
  result.port = text.substr(colon + 1);
  if (result.port.find_first_not_of("0123456789") != std::string::npos) return false;
  if (result.port.size() > 5 || std::stoi(result.port) > 65'535) return false;
  if (result.host.size() >= 2 && result.host.front() == '[' && result.host.back() == ']') {
    result.host = result.host.substr(1, result.host.size() - 2);
  } else if (result.host.find(':') != std::string::npos) {
    return false;  // an IPv6 address needs its brackets
  }
  if (result.host == "*") result.host.clear();
  return true;
}

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// Whether some process accepts connections on this socket file.
bool somebody_answers(const sockaddr_un& address) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return true;  // cannot tell: leave the file alone
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    return true;
  }
  return errno != ECONNREFUSED && errno != ENOENT;
}

// Empty, or why the file at `path` may not be replaced.
std::string remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return {};
  if (!S_ISSOCK(status.st_mode)) {
    return "cannot listen on " + path + ": the file exists and is not a socket";
  }
  if (somebody_answers(address)) {
    return "cannot listen on " + path + ": another process answers there";
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return why_not(path, errno);
  return {};
}

bool out_of_resources(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace

struct Listener::Door {
  Listener* listener = nullptr;
  UniqueFd fd;
  SocketKind kind = SocketKind::kTcp;
  std::string path;  // of a unix socket file that we made
  dev_t device = 0;
  ino_t inode = 0;
  UvHandle<uv_poll_t> poll;  // declared after fd: the watch ends before the descriptor is closed

  ~Door() {
    poll.reset();
    fd.reset();
    struct stat status {};
    // Not when another process has replaced the file meanwhile.
    if (!path.empty() && ::lstat(path.c_str(), &status) == 0 && status.st_dev == device &&
        status.st_ino == inode) {
      ::unlink(path.c_str());
    }
  }
};

Listener::Listener(UvLoop& control, std::vector<UvLoop*> workers, Accepted accepted)
    : control_(control),
      workers_(std::move(workers)),
      accepted_(std::make_shared<const Accepted>(std::move(accepted))) {
  PGFRESH_CHECK(!workers_.empty());
}

Listener::~Listener() { close(); }

void Listener::close() {
  resting_.reset();
  doors_.clear();
}

std::string Listener::listen_tcp(const std::string& address) {
  HostPort parts;
  if (!split_address(address, parts)) {
    return "cannot listen on \"" + address + "\": HOST:PORT, [IPV6]:PORT or *:PORT is wanted";
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int rc = ::getaddrinfo(parts.host.empty() ? nullptr : parts.host.c_str(),
                                   parts.port.c_str(), &hints, &found);
      rc != 0) {
    return "cannot listen on " + address + ": " + ::gai_strerror(rc);
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(found, &::freeaddrinfo);
  std::string trouble;
  size_t opened = 0;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    UniqueFd fd(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) {
      trouble = why_not(address, errno);  // such as no IPv6 in this kernel
      continue;
    }
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (one->ai_family == AF_INET6) {
      ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    if (::bind(fd.get(), one->ai_addr, one->ai_addrlen) != 0 || ::listen(fd.get(), kBacklog) != 0) {
      trouble = why_not(address, errno);
      if (errno == EADDRNOTAVAIL) continue;  // localhost may have an address this host has not
      return trouble;
    }
    if (std::string error = open_door(std::move(fd), SocketKind::kTcp, {}); !error.empty()) {
      return error;
    }
    ++opened;
  }
  return opened > 0 ? std::string() : trouble;
}

std::string Listener::listen_unix(const std::string& directory, uint16_t port) {
  const std::string path = directory + "/.s.PGSQL." + std::to_string(port);
  if (!socket_path_fits(path)) return "cannot listen on " + path + ": the path is too long";
  const sockaddr_un address = unix_address(path);
  if (std::string error = remove_stale(path, address); !error.empty()) return error;
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return why_not(path, errno);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return why_not(path, errno);
  }
  // Who may use the database is PostgreSQL's to decide, not this file's.
  if (::chmod(path.c_str(), 0777) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    return why_not(path, error);
  }
  return open_door(std::move(fd), SocketKind::kUnix, path);
}

std::string Listener::listen_inherited(int inherited) {
  UniqueFd fd(inherited);
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0) {
    return "the inherited descriptor " + std::to_string(inherited) + " is not a listening socket";
  }
  ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
  sockaddr_storage address{};
  size = sizeof address;
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return open_door(std::move(fd),
                   address.ss_family == AF_UNIX ? SocketKind::kUnix : SocketKind::kTcp, {});
}

std::string Listener::open_door(UniqueFd fd, SocketKind kind, std::string path) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  std::string text = path.empty() ? address_text(address) : path;

  auto door = std::make_unique<Door>();
  door->listener = this;
  door->fd = std::move(fd);
  door->kind = kind;
  if (!path.empty()) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) == 0) {
      door->device = status.st_dev;
      door->inode = status.st_ino;
    }
    door->path = std::move(path);
  }
  auto* poll = new uv_poll_t;
  if (const int rc = uv_poll_init(control_.uv(), poll, door->fd.get()); rc != 0) {
    delete poll;
    return "cannot listen on " + text + ": " + uv_strerror(rc);
  }
  door->poll.reset(poll);
  poll->data = door.get();
  wait(*door);
  doors_.push_back(std::move(door));
  addresses_.push_back(std::move(text));
  return {};
}

void Listener::wait(Door& door) {
  uv_poll_start(door.poll.get(), UV_READABLE, [](uv_poll_t* handle, int, int) noexcept {
    auto* ready_door = static_cast<Door*>(handle->data);
    ready_door->listener->ready(*ready_door);
  });
}

void Listener::ready(Door& door) {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    UniqueFd fd(::accept4(door.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      hand_over(std::move(fd), door.kind);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (out_of_resources(errno)) rest();
    return;  // nobody waits any more, or an error of a single connection
  }
}

void Listener::hand_over(UniqueFd fd, SocketKind kind) {
  ++accepted_count_;
  UvLoop* worker = workers_[next_worker_];
  next_worker_ = (next_worker_ + 1) % workers_.size();
  // Shared, so that a task dropped by a worker that has stopped closes the socket.
  worker->post(
      [worker, kind, accepted = accepted_, socket = std::make_shared<UniqueFd>(std::move(fd))] {
        (*accepted)(*worker, socket->release(), kind);
      });
}

void Listener::rest() {
  ++pauses_;
  for (const auto& door : doors_) uv_poll_stop(door->poll.get());
  resting_ = control_.after(kRestMs, [this] {
    for (const auto& door : doors_) wait(*door);
    resting_.reset();
  });
}

bool is_listen_address(const std::string& address) {
  HostPort ignored;
  return split_address(address, ignored);
}

std::vector<int> inherited_sockets() {
  std::vector<int> result;
  const char* pid = std::getenv("LISTEN_PID");
  const char* count = std::getenv("LISTEN_FDS");
  if (pid != nullptr && count != nullptr && std::atol(pid) == static_cast<long>(::getpid())) {
    for (int i = 0; i < std::atoi(count); ++i) result.push_back(kFirstInheritedFd + i);
  }
  ::unsetenv("LISTEN_PID");
  ::unsetenv("LISTEN_FDS");
  ::unsetenv("LISTEN_FDNAMES");
  return result;
}

}  // namespace pgfresh::net
