#include "net/uv_stream.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace pgfresh::net {
namespace {

// finish(): how long the peer may take no byte, or leave its side open, before on_end comes anyway.
constexpr int64_t kFinishMsMax = 5'000;
// After a failed write: how long what the peer had sent before may still be read.
constexpr int64_t kLastWordsMs = 200;
// Server connections idle this long are probed, so that a vanished peer is noticed.
constexpr unsigned kKeepaliveSeconds = 60;
// Slices handed to the kernel in one call; more take another call.
constexpr size_t kSlicesPerCall = 32;
// Several slices of together at most this much are copied into one. A hit is one row and a
// ReadyForQuery, as a rule.
constexpr size_t kGatherBytesMax = 1024;

int fd_of(const uv_handle_t* handle) {
  uv_os_fd_t fd = -1;
  return uv_fileno(handle, &fd) == 0 ? fd : -1;
}

// The number of bytes the kernel took, or a libuv error code. `size` is that of all slices.
ssize_t send_slices(int fd, std::span<const Slice> slices, size_t size) {
  std::array<char, kGatherBytesMax> gathered;
  std::array<iovec, kSlicesPerCall> pieces;
  msghdr message{};
  message.msg_iov = pieces.data();
  if (slices.size() > 1 && size <= gathered.size()) {
    char* to = gathered.data();
    for (const Slice& slice : slices) {
      if (!slice.bytes.empty()) std::memcpy(to, slice.bytes.data(), slice.bytes.size());
      to += slice.bytes.size();
    }
    pieces[0] = {gathered.data(), size};
    message.msg_iovlen = 1;
  } else {
    for (const Slice& slice : slices) {
      // The kernel does not write through it.
      if (!slice.bytes.empty()) {
        pieces[message.msg_iovlen++] = {const_cast<char*>(slice.bytes.data()), slice.bytes.size()};
      }
    }
  }
  constexpr int kFlags = MSG_NOSIGNAL | MSG_DONTWAIT;
  while (true) {
    const ssize_t rc = message.msg_iovlen == 1
                           ? ::send(fd, pieces[0].iov_base, pieces[0].iov_len, kFlags)
                           : ::sendmsg(fd, &message, kFlags);
    if (rc >= 0) return rc;
    if (errno == EINTR) continue;
    return errno == EAGAIN ? UV_EAGAIN : uv_translate_sys_error(errno);
  }
}

uv_buf_t buffer_of(std::string_view bytes) {
  // libuv takes a mutable pointer and does not write through it.
  uv_buf_t buffer;
  buffer.base = const_cast<char*>(bytes.data());
  buffer.len = bytes.size();
  return buffer;
}

}  // namespace

struct UvStream::Socket {
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  };
  UvStream* owner;
};

struct UvStream::Connect {
  uv_connect_t request;
  Connected done;
};

struct UvStream::Batch {
  uv_write_t request;
  std::vector<Chunk> chunks;
};

UvStream::UvStream(UvLoop& loop, SocketKind kind) : loop_(loop), socket_(new Socket), kind_(kind) {
  const int rc = kind == SocketKind::kTcp ? uv_tcp_init(loop.uv(), &socket_->tcp)
                                          : uv_pipe_init(loop.uv(), &socket_->pipe, 0);
  PGFRESH_CHECK(rc == 0);  // allocates nothing and opens nothing
  socket_->handle.data = socket_;
  socket_->owner = this;
}

UvStream::~UvStream() {
  socket_->owner = nullptr;
  uv_close(&socket_->handle,
           [](uv_handle_t* handle) noexcept { delete static_cast<Socket*>(handle->data); });
}

std::unique_ptr<UvStream> UvStream::adopt(UvLoop& loop, int fd, SocketKind kind) {
  std::unique_ptr<UvStream> stream(new UvStream(loop, kind));
  const int rc = kind == SocketKind::kTcp ? uv_tcp_open(&stream->socket_->tcp, fd)
                                          : uv_pipe_open(&stream->socket_->pipe, fd);
  if (rc != 0) {
    ::close(fd);
    return nullptr;
  }
  stream->connected();
  return stream;
}

std::unique_ptr<UvStream> UvStream::connect_tcp(UvLoop& loop, const sockaddr& address,
                                                Connected done) {
  std::unique_ptr<UvStream> stream(new UvStream(loop, SocketKind::kTcp));
  auto connect = std::make_unique<Connect>();
  connect->done = std::move(done);
  connect->request.data = connect.get();
  const int rc =
      uv_tcp_connect(&connect->request, &stream->socket_->tcp, &address, &UvStream::on_connected);
  if (rc == 0) {
    static_cast<void>(connect.release());  // freed in on_connected, which always comes
    return stream;
  }
  loop.defer([socket = stream->socket_, rc, shared = std::shared_ptr<Connect>(std::move(connect))] {
    if (socket->owner != nullptr) shared->done(rc);
  });
  return stream;
}

std::unique_ptr<UvStream> UvStream::connect_unix(UvLoop& loop, const std::string& path,
                                                 Connected done) {
  PGFRESH_CHECK(socket_path_fits(path));
  std::unique_ptr<UvStream> stream(new UvStream(loop, SocketKind::kUnix));
  auto* connect = new Connect;
  connect->done = std::move(done);
  connect->request.data = connect;
  uv_pipe_connect(&connect->request, &stream->socket_->pipe, path.c_str(), &UvStream::on_connected);
  return stream;
}

void UvStream::on_connected(uv_connect_t* request, int status) noexcept {
  const std::unique_ptr<Connect> connect(static_cast<Connect*>(request->data));
  UvStream* self = static_cast<Socket*>(request->handle->data)->owner;
  if (self == nullptr) return;
  if (status == 0) {
    self->connected();
    if (self->kind_ == SocketKind::kTcp) {
      uv_tcp_keepalive(&self->socket_->tcp, 1, kKeepaliveSeconds);
    }
  }
  connect->done(status);
}

void UvStream::connected() {
  state_ = State::kOpen;
  const int fd = fd_of(&socket_->handle);
  if (kind_ == SocketKind::kTcp) {
    uv_tcp_nodelay(&socket_->tcp, 1);
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);  // as PostgreSQL does for clients
  }
  describe_peer(fd);
}

void UvStream::describe_peer(int fd) {
  if (kind_ == SocketKind::kUnix) {
    peer_ = "unix";
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
      peer_uid_ = static_cast<int>(credentials.uid);
    }
    return;
  }
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  peer_ = ::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0
              ? address_text(address)
              : "unknown";
}

void UvStream::start(Events* events) {
  PGFRESH_CHECK(state_ != State::kConnecting);
  events_ = events;
  if (state_ != State::kEnded) {
    read_on();
    return;
  }
  if (end_told_) return;
  loop_.defer([socket = socket_] {
    if (socket->owner != nullptr) socket->owner->end(uv_strerror(socket->owner->broken_status_));
  });
}

void UvStream::write(std::span<const Slice> slices) {
  PGFRESH_CHECK(state_ != State::kConnecting);
  if (state_ != State::kOpen || sending_closed_) return;
  const size_t sent = in_flight_ ? 0 : send_now(slices);
  if (state_ != State::kOpen) return;
  queue(slices, sent);
  if (!in_flight_ && !pending_.empty()) submit();
}

// One system call for up to kSlicesPerCall slices: small ones are put side by side first, for which
// the kernel charges less than for several pieces.
size_t UvStream::send_now(std::span<const Slice> slices) {
  const int fd = fd_of(&socket_->handle);
  size_t sent = 0;
  while (!slices.empty()) {
    const std::span<const Slice> part = slices.first(std::min(slices.size(), kSlicesPerCall));
    slices = slices.subspan(part.size());
    size_t wanted = 0;
    for (const Slice& slice : part) wanted += slice.bytes.size();
    if (wanted == 0) continue;
    const ssize_t rc = send_slices(fd, part, wanted);
    if (rc == UV_EAGAIN) break;
    if (rc < 0) {
      write_failed(static_cast<int>(rc));
      break;
    }
    sent += static_cast<size_t>(rc);
    if (static_cast<size_t>(rc) < wanted) break;
  }
  return sent;
}

void UvStream::queue(std::span<const Slice> slices, size_t skip) {
  size_t next = 0;
  while (next < slices.size() && skip >= slices[next].bytes.size()) {
    skip -= slices[next++].bytes.size();
  }
  while (next < slices.size()) {
    Chunk chunk;
    if (slices[next].owner != nullptr) {
      chunk.owner = *slices[next].owner;
      chunk.bytes = slices[next++].bytes.substr(skip);
    } else {
      // A run of slices without an owner becomes one copy.
      const size_t first = next;
      size_t size = 0;
      for (; next < slices.size() && slices[next].owner == nullptr; ++next) {
        size += slices[next].bytes.size();
      }
      size -= skip;
      chunk.copy = std::make_unique_for_overwrite<char[]>(size);
      char* to = chunk.copy.get();
      for (size_t i = first; i < next; ++i) {
        const std::string_view piece = slices[i].bytes.substr(i == first ? skip : 0);
        if (!piece.empty()) std::memcpy(to, piece.data(), piece.size());
        to += piece.size();
      }
      chunk.bytes = {chunk.copy.get(), size};
    }
    skip = 0;
    if (chunk.bytes.empty()) continue;
    pending_bytes_ += chunk.bytes.size();
    pending_.push_back(std::move(chunk));
  }
}

void UvStream::submit() {
  auto batch = std::make_unique<Batch>();
  batch->chunks.swap(pending_);
  pending_bytes_ = 0;
  batch->request.data = batch.get();
  std::vector<uv_buf_t> buffers;
  buffers.reserve(batch->chunks.size());
  for (const Chunk& chunk : batch->chunks) buffers.push_back(buffer_of(chunk.bytes));
  const int rc = uv_write(&batch->request, &socket_->stream, buffers.data(),
                          static_cast<unsigned>(buffers.size()), &UvStream::on_written);
  if (rc != 0) {
    write_failed(rc);
    return;
  }
  in_flight_ = true;
  static_cast<void>(batch.release());  // freed in on_written, which always comes
}

void UvStream::on_written(uv_write_t* request, int status) noexcept {
  const std::unique_ptr<Batch> batch(static_cast<Batch*>(request->data));
  UvStream* self = static_cast<Socket*>(request->handle->data)->owner;
  if (self != nullptr) self->written(status);
}

void UvStream::written(int status) {
  in_flight_ = false;
  if (status != 0) {
    write_failed(status);
    return;
  }
  if (state_ != State::kOpen && state_ != State::kFinishing) return;
  if (!pending_.empty()) {
    submit();
    return;
  }
  if (state_ == State::kFinishing || sending_closed_) {
    shut_down();
  } else if (events_ != nullptr) {
    events_->on_drained();
  }
}

size_t UvStream::queued_bytes() const {
  return uv_stream_get_write_queue_size(&socket_->stream) + pending_bytes_;
}

void UvStream::on_alloc(uv_handle_t* handle, size_t, uv_buf_t* buffer) noexcept {
  const std::span<char> shared = static_cast<Socket*>(handle->data)->owner->loop_.read_buffer();
  buffer->base = shared.data();
  buffer->len = shared.size();
}

void UvStream::on_read(uv_stream_t* handle, ssize_t result, const uv_buf_t* buffer) noexcept {
  UvStream* self = static_cast<Socket*>(handle->data)->owner;
  if (self != nullptr) self->received(result, buffer->base);
}

void UvStream::received(int64_t result, const char* data) {
  if (result > 0) {
    // Nothing of this object is touched after the call, should it destroy the stream after all.
    if (state_ != State::kFinishing && events_ != nullptr) {
      events_->on_bytes({data, static_cast<size_t>(result)});
    }
    return;
  }
  if (result == 0) return;  // would block
  if (result == UV_EOF && state_ == State::kOpen && events_ != nullptr) {
    read_off();
    half_closed_ = true;
    if (events_->on_half_close()) return;
  }
  end(result == UV_EOF ? "end of stream" : uv_strerror(static_cast<int>(result)));
}

void UvStream::pause() {
  if (state_ == State::kOpen || state_ == State::kBroken) read_off();
}

void UvStream::resume() {
  if (state_ == State::kOpen || state_ == State::kBroken) read_on();
}

void UvStream::read_on() {
  if (reading_ || half_closed_) return;
  const int rc = uv_read_start(&socket_->stream, &UvStream::on_alloc, &UvStream::on_read);
  if (rc == 0) {
    reading_ = true;
  } else {
    write_failed(rc);
  }
}

void UvStream::read_off() {
  if (!reading_) return;
  uv_read_stop(&socket_->stream);
  reading_ = false;
}

void UvStream::close_sending() {
  if (state_ != State::kOpen || std::exchange(sending_closed_, true)) return;
  if (!in_flight_) shut_down();
}

void UvStream::finish() {
  if (state_ != State::kOpen) return;
  state_ = State::kFinishing;
  read_on();  // what comes is thrown away; the end is waited for
  if (state_ != State::kFinishing) return;
  finish_queued_ = queued_bytes();
  timer_ = loop_.every(kFinishMsMax, [this] {
    const size_t queued = queued_bytes();
    if (queued > 0 && queued < finish_queued_) {
      finish_queued_ = queued;  // slow, but taking
      return;
    }
    end("the peer did not close in time");
  });
  if (!in_flight_) shut_down();
}

void UvStream::shut_down() {
  // Not uv_shutdown(): our own queue is empty, and the call needs no request to be kept alive.
  ::shutdown(fd_of(&socket_->handle), SHUT_WR);
  if (state_ != State::kFinishing || !half_closed_) return;
  loop_.defer([socket = socket_] {
    if (socket->owner != nullptr) socket->owner->end("end of stream");
  });
}

void UvStream::write_failed(int status) {
  if (state_ == State::kEnded || state_ == State::kBroken) return;
  state_ = State::kBroken;
  broken_status_ = status;
  pending_.clear();
  pending_bytes_ = 0;
  // Told later: no event comes from inside write().
  loop_.defer([socket = socket_] {
    UvStream* self = socket->owner;
    if (self == nullptr || self->state_ != State::kBroken) return;
    if (!self->reading_) {
      self->end(uv_strerror(self->broken_status_));
      return;
    }
    self->timer_ =
        self->loop_.after(kLastWordsMs, [self] { self->end(uv_strerror(self->broken_status_)); });
  });
}

void UvStream::end(std::string_view why) {
  if (end_told_) return;
  state_ = State::kEnded;
  read_off();
  pending_.clear();
  pending_bytes_ = 0;
  timer_.reset();
  if (events_ == nullptr) return;  // told when there is somebody to tell
  end_told_ = true;
  events_->on_end(why);
}

size_t UvStream::idle_bytes() { return sizeof(UvStream) + sizeof(Socket); }

bool socket_path_fits(const std::string& path) {
  return !path.empty() && path.size() < sizeof(sockaddr_un::sun_path);
}

std::string address_text(const sockaddr_storage& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address);
    uv_ip4_name(v4, text.data(), text.size());
    return std::string(text.data()) + ":" + std::to_string(ntohs(v4->sin_port));
  }
  if (address.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address);
    uv_ip6_name(v6, text.data(), text.size());
    return "[" + std::string(text.data()) + "]:" + std::to_string(ntohs(v6->sin6_port));
  }
  return "unix";
}

}  // namespace pgfresh::net
