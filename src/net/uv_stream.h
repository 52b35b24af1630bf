// Stream over a TCP or unix socket.
//
// Reading: every stream of a loop reads into the loop's one buffer, so an idle connection owns
// none, and is handed what came when the turn has read all (turn.h). Writing: what is small is sent
// at the end of the turn, what is not, at once, from where it is (the path of a hit: read callback,
// write(), one system call, no allocation, no lock). What the kernel does not take waits: slices
// that have an owner keep a reference, others are copied.
//
// libuv says when there is something to read or room to write (uv_poll_t); reading and writing are
// ours: a socket costs one recv() and one send() that way, and nothing around them.
//
// Life: connecting → open → (finishing | broken) → ended. "Broken": a write has failed; what the
// peer said before it went is still read, for a bounded time, since PostgreSQL's last words are
// worth having.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/turn.h"
#include "net/unique_fd.h"
#include "net/uv_handle.h"
#include "net/uv_loop.h"
#include "pgfresh/stream.h"

namespace pgfresh::net {

enum class SocketKind : uint8_t { kTcp, kUnix };

class UvStream final : public Stream, private Turn::Member {
 public:
  // Takes over a connected socket; `fd` is closed in any case. Null if it cannot be used.
  [[nodiscard]] static std::unique_ptr<UvStream> adopt(UvLoop& loop, int fd, SocketKind kind);

  // Connects. `done` gets 0 or a libuv error code, from a callback of the loop, and not at all when
  // the stream is destroyed before. REQUIRES: for kUnix, socket_path_fits(path).
  using Connected = std::function<void(int status)>;
  [[nodiscard]] static std::unique_ptr<UvStream> connect_tcp(UvLoop& loop, const sockaddr& address,
                                                             Connected done);
  [[nodiscard]] static std::unique_ptr<UvStream> connect_unix(UvLoop& loop, const std::string& path,
                                                              Connected done);

  ~UvStream() override;
  UvStream(const UvStream&) = delete;
  UvStream& operator=(const UvStream&) = delete;

  void start(Events* events) override;
  void write(std::span<const Slice> slices) override;
  void flush() override;
  [[nodiscard]] size_t queued_bytes() const override;
  void pause() override;
  void resume() override;
  void close_sending() override;
  void finish() override;
  [[nodiscard]] const std::string& peer() const override { return peer_; }
  [[nodiscard]] int peer_uid() const override { return peer_uid_; }
  [[nodiscard]] bool encrypted() const override { return false; }

  // What one idle connection costs in this process, for the tests that hold the bound.
  [[nodiscard]] static size_t idle_bytes();

 private:
  enum class State : uint8_t { kConnecting, kOpen, kFinishing, kBroken, kEnded };

  // A piece of output that waits: inside `owner`, or in memory of its own.
  struct Chunk {
    SharedBytes owner;
    std::unique_ptr<char[]> copy;
    std::string_view bytes;
  };

  // What was read before the stream was paused, and not handed out. Nothing is read until it is.
  struct Held {
    std::string bytes;
    std::unique_ptr<Timer> timer;  // null while paused
  };

  UvStream(UvLoop& loop, SocketKind kind);

  [[nodiscard]] int take(int fd);
  void connect(const sockaddr& address, socklen_t size, Connected done);
  void connect_ended(int status);
  void connected();
  void describe_peer();
  void watch();
  void happened(int status, int events);
  void take_late(std::string_view bytes) override;
  void send_late(std::string_view bytes) override;
  void send_or_queue(std::span<const Slice> slices);
  [[nodiscard]] size_t send_now(std::span<const Slice> slices);
  void queue(std::span<const Slice> slices, size_t skip);
  void send_pending();
  void drop_sent(size_t bytes);
  void drop_pending();
  void read_now();
  void give_held();
  void write_failed(int status);
  void shut_down();
  void read_on();
  void read_off();
  void end(std::string_view why);

  static void on_event(uv_poll_t* poll, int status, int events) noexcept;

  // Constant after construction.
  UvLoop& loop_;
  SocketKind kind_;

  // Loop thread only.
  UniqueFd fd_;
  UvHandle<uv_poll_t> poll_;  // of fd_; closed before it
  State state_ = State::kConnecting;
  bool reading_ = false;      // not paused
  bool read_ = false;         // this turn, and not handed out yet
  bool half_closed_ = false;  // the peer has said all, and its owner has not
  bool sending_closed_ = false;
  bool end_told_ = false;
  int watched_ = 0;  // UV_READABLE, UV_WRITABLE: what libuv watches for
  int peer_uid_ = -1;
  int broken_status_ = 0;
  Events* events_ = nullptr;
  std::string peer_;
  std::unique_ptr<Held> held_;
  std::vector<Chunk> pending_;  // empty, or waiting for room
  size_t sent_chunks_ = 0;      // the first of them, which have been sent
  size_t pending_bytes_ = 0;
  size_t finish_queued_ = 0;      // queued_bytes() when the finish timer last looked
  std::unique_ptr<Timer> timer_;  // while finishing or broken, and for what is told later
  Connected told_;                // while connecting
};

// The kernel's limit for the path of a unix socket (108 bytes with the final zero, unix(7)).
[[nodiscard]] bool socket_path_fits(const std::string& path);

// "10.0.0.7:51234", "[::1]:51234", "unix".
[[nodiscard]] std::string address_text(const sockaddr_storage& address);

}  // namespace pgfresh::net
