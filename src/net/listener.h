// Accepts clients on TCP and unix sockets, on the control loop, and deals them out to the workers
// in turn. A worker takes over the file descriptor; the client stays on that worker for life.
//
// Deliberately not done: SO_REUSEPORT (a restart would drop what one queue holds, and the kernel's
// hash deals unevenly where clients are few); allow lists (PostgreSQL's HBA and the firewall).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/unique_fd.h"
#include "net/uv_loop.h"
#include "net/uv_stream.h"

namespace pgfresh::net {

class Listener {
 public:
  // Called on the worker's thread with a connected socket, which the callee owns; usually it makes
  // UvStream::adopt(worker, fd, kind).
  using Accepted = std::function<void(UvLoop& worker, int fd, SocketKind kind)>;

  // REQUIRES: at least one worker; all loops outlive the listener. The control loop may be among
  // the workers.
  Listener(UvLoop& control, std::vector<UvLoop*> workers, Accepted accepted);
  // Closes all sockets, and removes the files of unix sockets it has made.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Each returns an empty string, or why it failed; to be called at start-up on the control thread.
  //
  // "127.0.0.1:6543", "[::1]:6543", "localhost:6543", "*:6543"; port 0 lets the kernel choose. A
  // name that has several addresses listens on all of them.
  [[nodiscard]] std::string listen_tcp(const std::string& address);
  // The socket DIRECTORY/.s.PGSQL.PORT with mode 0777, as PostgreSQL makes it. A file left behind
  // by a dead process is replaced, one that somebody answers on is not.
  [[nodiscard]] std::string listen_unix(const std::string& directory, uint16_t port);
  // A listening socket that somebody else has made (socket activation). Takes `fd` over.
  [[nodiscard]] std::string listen_inherited(int fd);

  // Stops accepting; clients that wait in the queues of the kernel are refused. Idempotent.
  void close();

  // "127.0.0.1:6543", "/run/pgfresh/.s.PGSQL.6543", in the order they were added.
  [[nodiscard]] const std::vector<std::string>& addresses() const { return addresses_; }
  // Connections accepted, and times accept() was refused for want of descriptors or memory.
  [[nodiscard]] uint64_t accepted() const { return accepted_count_; }
  [[nodiscard]] uint64_t pauses() const { return pauses_; }

 private:
  struct Door;

  [[nodiscard]] std::string open_door(UniqueFd fd, SocketKind kind, std::string path);
  void wait(Door& door);
  void ready(Door& door);
  void hand_over(UniqueFd fd, SocketKind kind);
  void rest();

  // Constant after construction.
  UvLoop& control_;
  std::vector<UvLoop*> workers_;
  std::shared_ptr<const Accepted> accepted_;

  // Control thread only.
  std::vector<std::unique_ptr<Door>> doors_;
  std::vector<std::string> addresses_;
  size_t next_worker_ = 0;
  uint64_t accepted_count_ = 0;
  uint64_t pauses_ = 0;
  std::unique_ptr<Timer> resting_;  // while there are no descriptors left
};

// Whether listen_tcp() understands the text; nothing is looked up or opened.
[[nodiscard]] bool is_listen_address(const std::string& address);

// The sockets that systemd has opened for this process (sd_listen_fds(3)), in its order; empty
// when there are none. The environment variables are removed.
[[nodiscard]] std::vector<int> inherited_sockets();

}  // namespace pgfresh::net
