#include "net/uv_stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
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
// Server connections idle this long are probed, each second then, and ended when as many probes
// have no answer: so a vanished peer is noticed.
constexpr int kKeepaliveSeconds = 60;
constexpr int kKeepaliveProbeSeconds = 1;
constexpr int kKeepaliveProbes = 10;
// Slices handed to the kernel in one call; more take another call.
constexpr size_t kSlicesPerCall = 32;

// The number of bytes the kernel took, or a libuv error code.
ssize_t send_slices(int fd, std::span<const Slice> slices) {
  std::array<iovec, kSlicesPerCall> pieces;
  msghdr message{};
  message.msg_iov = pieces.data();
  for (const Slice& slice : slices) {
    // The kernel does not write through it.
    if (!slice.bytes.empty()) {
      pieces[message.msg_iovlen++] = {const_cast<char*>(slice.bytes.data()), slice.bytes.size()};
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

void set_option(int fd, int level, int option, int value) {
  // A socket without the option is one that has no use for it.
  static_cast<void>(::setsockopt(fd, level, option, &value, sizeof value));
}

}  // namespace

UvStream::UvStream(UvLoop& loop, SocketKind kind) : loop_(loop), kind_(kind) {}

UvStream::~UvStream() {
  flush();
  loop_.current().forget(*this);
}

std::unique_ptr<UvStream> UvStream::adopt(UvLoop& loop, int fd, SocketKind kind) {
  std::unique_ptr<UvStream> stream(new UvStream(loop, kind));
  if (stream->take(fd) != 0) return nullptr;
  stream->connected();
  return stream;
}

std::unique_ptr<UvStream> UvStream::connect_tcp(UvLoop& loop, const sockaddr& address,
                                                Connected done) {
  const socklen_t size = address.sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  std::unique_ptr<UvStream> stream(new UvStream(loop, SocketKind::kTcp));
  stream->connect(address, size, std::move(done));
  return stream;
}

std::unique_ptr<UvStream> UvStream::connect_unix(UvLoop& loop, const std::string& path,
                                                 Connected done) {
  PGFRESH_CHECK(socket_path_fits(path));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  std::unique_ptr<UvStream> stream(new UvStream(loop, SocketKind::kUnix));
  stream->connect(reinterpret_cast<const sockaddr&>(address), sizeof address, std::move(done));
  return stream;
}

// 0, or a libuv error code.
int UvStream::take(int fd) {
  fd_.reset(fd);
  auto poll = std::make_unique<uv_poll_t>();
  const int rc = uv_poll_init(loop_.uv(), poll.get(), fd);  // makes it non-blocking
  if (rc != 0) return rc;
  poll->data = this;
  poll_.reset(poll.release());
  return 0;
}

void UvStream::connect(const sockaddr& address, socklen_t size, Connected done) {
  told_ = std::move(done);
  const int fd = ::socket(address.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int status = fd < 0 ? uv_translate_sys_error(errno) : take(fd);
  if (status == 0 && ::connect(fd, &address, size) != 0) {
    if (errno == EINPROGRESS || errno == EINTR) {
      watch();
      return;
    }
    status = uv_translate_sys_error(errno);
  }
  timer_ = loop_.after(0, [this, status] { connect_ended(status); });
}

void UvStream::connect_ended(int status) {
  timer_.reset();
  if (status == 0) {
    connected();
    if (kind_ == SocketKind::kTcp) {
      set_option(fd_.get(), IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveSeconds);
      set_option(fd_.get(), IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveProbeSeconds);
      set_option(fd_.get(), IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
    }
  } else {
    state_ = State::kEnded;
    broken_status_ = status;
  }
  watch();
  const Connected told = std::move(told_);
  told(status);  // who is told of a failure may destroy the stream
}

void UvStream::connected() {
  state_ = State::kOpen;
  if (kind_ == SocketKind::kTcp) {
    set_option(fd_.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd_.get(), SOL_SOCKET, SO_KEEPALIVE, 1);  // as PostgreSQL does for clients
  }
  describe_peer();
}

void UvStream::describe_peer() {
  if (kind_ == SocketKind::kUnix) {
    peer_ = "unix";
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
      peer_uid_ = static_cast<int>(credentials.uid);
    }
    return;
  }
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  peer_ = ::getpeername(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0
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
  timer_ = loop_.after(0, [this] { end(uv_strerror(broken_status_)); });
}

// Has libuv watch the socket for what is waited for now. It is looked at again at every turn while
// there is something to read or room to write.
void UvStream::watch() {
  const bool for_room = state_ == State::kConnecting || !pending_.empty();
  const bool for_bytes = reading_ && held_ == nullptr;
  const int events = (for_bytes ? UV_READABLE : 0) | (for_room ? UV_WRITABLE : 0);
  if (events == watched_) return;
  watched_ = events;
  const int rc = events != 0 ? uv_poll_start(poll_.get(), events, &UvStream::on_event)
                             : uv_poll_stop(poll_.get());
  PGFRESH_CHECK(rc == 0);  // nobody else watches this socket
}

void UvStream::on_event(uv_poll_t* poll, int status, int events) noexcept {
  static_cast<UvStream*>(poll->data)->happened(status, events);
}

void UvStream::happened(int status, int events) {
  if (status != 0) {
    // An error is pending (EPOLLERR), and libuv has stopped watching. Reading tells which, behind
    // what came before it; where nothing is read, writing does.
    events = reading_ ? UV_READABLE : UV_WRITABLE;
    watched_ = 0;
    watch();
  }
  if (state_ == State::kConnecting) {
    int error = 0;
    socklen_t size = sizeof error;
    static_cast<void>(::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size));
    connect_ended(uv_translate_sys_error(error));
    return;
  }
  if ((events & UV_WRITABLE) != 0 && !pending_.empty()) send_pending();
  // Nothing of this object is touched after this, should an owner destroy it after all.
  if ((events & UV_READABLE) != 0 && reading_) read_now();
}

void UvStream::write(std::span<const Slice> slices) {
  PGFRESH_CHECK(state_ != State::kConnecting);
  if (state_ != State::kOpen || sending_closed_) return;
  size_t size = 0;
  for (const Slice& slice : slices) size += slice.bytes.size();
  if (pending_.empty() && size <= Turn::kSendBytesMax) {
    if (size > 0) loop_.current().put_off(*this, slices, size);
    return;
  }
  flush();
  send_or_queue(slices);
}

void UvStream::flush() { loop_.current().send_of(*this); }

void UvStream::send_late(std::string_view bytes) {
  const Slice slice{bytes, nullptr};
  send_or_queue({&slice, 1});
}

void UvStream::send_or_queue(std::span<const Slice> slices) {
  if (state_ != State::kOpen) return;
  const size_t sent = pending_.empty() ? send_now(slices) : 0;
  if (state_ != State::kOpen) return;
  queue(slices, sent);
  watch();
}

// One system call for up to kSlicesPerCall slices.
size_t UvStream::send_now(std::span<const Slice> slices) {
  size_t sent = 0;
  while (!slices.empty()) {
    const std::span<const Slice> part = slices.first(std::min(slices.size(), kSlicesPerCall));
    slices = slices.subspan(part.size());
    size_t wanted = 0;
    for (const Slice& slice : part) wanted += slice.bytes.size();
    if (wanted == 0) continue;
    const ssize_t rc = send_slices(fd_.get(), part);
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

void UvStream::send_pending() {
  std::array<Slice, kSlicesPerCall> slices;
  while (sent_chunks_ < pending_.size()) {
    const size_t count = std::min(slices.size(), pending_.size() - sent_chunks_);
    size_t wanted = 0;
    for (size_t i = 0; i < count; ++i) {
      slices[i].bytes = pending_[sent_chunks_ + i].bytes;
      wanted += slices[i].bytes.size();
    }
    const size_t sent = send_now({slices.data(), count});
    if (state_ != State::kOpen && state_ != State::kFinishing) return;
    drop_sent(sent);
    if (sent < wanted) return;
  }
  drop_pending();
  if (state_ == State::kFinishing || sending_closed_) {
    shut_down();
  } else if (events_ != nullptr) {
    events_->on_drained();
  }
}

void UvStream::drop_sent(size_t bytes) {
  pending_bytes_ -= bytes;
  while (bytes > 0) {
    Chunk& chunk = pending_[sent_chunks_];
    const size_t taken = std::min(bytes, chunk.bytes.size());
    chunk.bytes.remove_prefix(taken);
    bytes -= taken;
    if (!chunk.bytes.empty()) break;
    chunk = {};
    ++sent_chunks_;
  }
  // A queue that never runs empty gives back its places, too.
  if (sent_chunks_ > kSlicesPerCall && sent_chunks_ > pending_.size() / 2) {
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(sent_chunks_));
    sent_chunks_ = 0;
  }
}

size_t UvStream::queued_bytes() const { return pending_bytes_; }

void UvStream::read_now() {
  if (read_ || held_ != nullptr) return;  // that first; libuv says it again
  const std::span<char> buffer = loop_.current().room();
  ssize_t got = 0;
  do {
    got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    read_ = true;
    loop_.current().has_read(*this, static_cast<size_t>(got));
    return;
  }
  if (got < 0) {
    if (errno != EAGAIN) end(uv_strerror(uv_translate_sys_error(errno)));
    return;
  }
  if (state_ == State::kOpen && events_ != nullptr) {
    read_off();
    half_closed_ = true;
    if (events_->on_half_close()) return;
  }
  if (state_ == State::kFinishing && !pending_.empty()) {  // the peer may still be reading
    read_off();
    half_closed_ = true;
    return;
  }
  end("end of stream");
}

void UvStream::take_late(std::string_view bytes) {
  read_ = false;
  if (state_ == State::kFinishing || state_ == State::kEnded || events_ == nullptr) return;
  if (reading_) {
    events_->on_bytes(bytes);
    return;
  }
  held_ = std::make_unique<Held>(Held{std::string(bytes), nullptr});
}

void UvStream::give_held() {
  const std::unique_ptr<Held> held = std::move(held_);
  watch();
  events_->on_bytes(held->bytes);
}

void UvStream::pause() {
  if (state_ == State::kOpen || state_ == State::kBroken) read_off();
}

void UvStream::resume() {
  if (state_ == State::kOpen || state_ == State::kBroken) read_on();
}

void UvStream::read_on() {
  if (half_closed_) return;
  reading_ = true;
  if (held_ != nullptr) held_->timer = loop_.after(0, [this] { give_held(); });
  watch();
}

void UvStream::read_off() {
  reading_ = false;
  if (held_ != nullptr) held_->timer.reset();
  watch();
}

void UvStream::close_sending() {
  if (state_ != State::kOpen || std::exchange(sending_closed_, true)) return;
  flush();
  if (pending_.empty()) shut_down();
}

void UvStream::finish() {
  flush();
  if (state_ != State::kOpen) return;
  state_ = State::kFinishing;
  held_.reset();
  read_on();  // what comes is thrown away; the end is waited for
  finish_queued_ = queued_bytes();
  timer_ = loop_.every(kFinishMsMax, [this] {
    const size_t queued = queued_bytes();
    if (queued > 0 && queued < finish_queued_) {
      finish_queued_ = queued;  // slow, but taking
      return;
    }
    end("the peer did not close in time");
  });
  if (pending_.empty()) shut_down();
}

void UvStream::shut_down() {
  ::shutdown(fd_.get(), SHUT_WR);
  if (state_ == State::kFinishing && half_closed_) {
    timer_ = loop_.after(0, [this] { end("end of stream"); });
  }
}

void UvStream::write_failed(int status) {
  if (state_ == State::kEnded || state_ == State::kBroken) return;
  state_ = State::kBroken;
  broken_status_ = status;
  drop_pending();
  // Told later: no event comes from inside write().
  timer_ = loop_.after(reading_ ? kLastWordsMs : 0, [this] { end(uv_strerror(broken_status_)); });
}

void UvStream::drop_pending() {
  // An idle connection keeps no memory of what it once had to queue.
  pending_ = std::vector<Chunk>();
  sent_chunks_ = 0;
  pending_bytes_ = 0;
  watch();
}

void UvStream::end(std::string_view why) {
  if (end_told_) return;
  flush();
  state_ = State::kEnded;
  reading_ = false;
  held_.reset();
  drop_pending();
  timer_.reset();
  if (events_ == nullptr) return;  // told when there is somebody to tell
  end_told_ = true;
  events_->on_end(why);
}

size_t UvStream::idle_bytes() { return sizeof(UvStream) + sizeof(uv_poll_t); }

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
