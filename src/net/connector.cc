#include "net/connector.h"

#include <sys/un.h>

#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "net/resolver.h"
#include "net/tls_stream.h"
#include "net/uv_stream.h"

namespace pgfresh::net {
namespace {

// Int32 8, Int32 80877103 (PostgreSQL manual, Message Formats, SSLRequest).
constexpr std::array<char, 8> kSslRequest = {0, 0, 0, 8, 0x04, static_cast<char>(0xd2), 0x16, 0x2f};
// A unix socket whose queue is full refuses with EAGAIN; asked again after this pause.
constexpr int64_t kQueueFullMs = 10;

// One connection attempt, to PostgreSQL or to whatever wants its TLS at once. Shared by its owner's
// handle and by the callbacks under way; abandoned means done_ is empty, and then nothing more is
// begun.
class Attempt final : public std::enable_shared_from_this<Attempt>, private Stream::Events {
 public:
  Attempt(UvLoop& loop, std::shared_ptr<const Upstream> upstream, Connector::Done done)
      : loop_(loop), upstream_(std::move(upstream)), done_(std::move(done)) {}

  void begin();
  void abandon();

 private:
  enum class Tls : uint8_t { kAsk, kNever };

  [[nodiscard]] const UpstreamTarget& target() const { return upstream_->target; }

  void resolved(std::vector<sockaddr_storage> addresses, std::string error);
  void try_address(Tls tls);
  void open_stream();
  void try_next(const std::string& why);
  void connected(int status);
  void answered();
  void secure();
  void secured(const std::string& error);
  void finished(std::string error);
  void later(void (Attempt::*step)());

  void on_bytes(std::string_view bytes) override;
  void on_drained() override {}
  void on_end(std::string_view why) override;

  [[nodiscard]] std::string server_text() const;

  // Constant after construction.
  UvLoop& loop_;
  std::shared_ptr<const Upstream> upstream_;

  // Loop thread only.
  Connector::Done done_;
  std::unique_ptr<Resolution> resolution_;
  std::vector<sockaddr_storage> addresses_;  // one empty entry for a unix socket
  size_t address_ = 0;
  Tls tls_ = Tls::kAsk;
  std::unique_ptr<Timer> timeout_;
  std::unique_ptr<Timer> retry_;
  std::unique_ptr<Stream> stream_;
  std::string answer_;  // to the SSLRequest
  std::string ended_;   // why the stream ended before it answered
  std::string errors_;
};

void Attempt::begin() {
  if (target().is_unix()) {
    addresses_.resize(1);
    if (!socket_path_fits(target().socket_path())) {
      errors_ = "Unix-domain socket path \"" + target().socket_path() + "\" is too long";
      address_ = addresses_.size();
      finished(errors_);
      return;
    }
    try_address(Tls::kNever);
    return;
  }
  const std::string& name = target().hostaddr.empty() ? target().host : target().hostaddr;
  resolution_ = std::make_unique<Resolution>(
      loop_, name, target().port,
      [this](std::vector<sockaddr_storage> addresses, std::string error) {
        resolved(std::move(addresses), std::move(error));
      });
}

void Attempt::abandon() {
  done_ = nullptr;
  resolution_.reset();
  timeout_.reset();
  retry_.reset();
  stream_.reset();
}

void Attempt::later(void (Attempt::*step)()) {
  loop_.defer([self = shared_from_this(), step] {
    if (self->done_) (self.get()->*step)();
  });
}

void Attempt::resolved(std::vector<sockaddr_storage> addresses, std::string error) {
  if (!error.empty()) {
    finished(std::move(error));
    return;
  }
  addresses_ = std::move(addresses);
  try_address(upstream_->tls ? Tls::kAsk : Tls::kNever);
}

void Attempt::try_address(Tls tls) {
  tls_ = tls;
  answer_.clear();
  ended_.clear();
  timeout_ = loop_.after(target().connect_timeout_ms, [this] { try_next("timeout expired"); });
  open_stream();
}

void Attempt::open_stream() {
  auto told = [this](int status) { connected(status); };
  if (target().is_unix()) {
    stream_ = UvStream::connect_unix(loop_, target().socket_path(), told);
  } else {
    const auto& address = reinterpret_cast<const sockaddr&>(addresses_[address_]);
    stream_ = UvStream::connect_tcp(loop_, address, told);
  }
}

void Attempt::try_next(const std::string& why) {
  if (!errors_.empty()) errors_ += "\n";
  errors_ += server_text() + why;
  stream_.reset();
  retry_.reset();
  timeout_.reset();
  if (++address_ < addresses_.size()) {
    try_address(upstream_->tls ? Tls::kAsk : Tls::kNever);
  } else {
    finished(errors_);
  }
}

void Attempt::connected(int status) {
  if (status == UV_EAGAIN && target().is_unix()) {
    stream_.reset();
    retry_ = loop_.after(kQueueFullMs, [this] { open_stream(); });
    return;
  }
  if (status != 0) {
    std::string why = status == UV_ECONNREFUSED ? "Connection refused"
                      : status == UV_ENOENT     ? "No such file or directory"
                                                : std::strerror(-status);
    if (status == UV_ECONNREFUSED || status == UV_ENOENT) {
      why += target().is_unix()
                 ? "\n\tIs the server running locally and accepting connections on that socket?"
                 : "\n\tIs the server running on that host and accepting TCP/IP connections?";
    }
    try_next(why);
    return;
  }
  if (tls_ == Tls::kNever) {
    finished({});
    return;
  }
  if (target().tls_first) {
    later(&Attempt::secure);
    return;
  }
  stream_->start(this);
  const Slice request{{kSslRequest.data(), kSslRequest.size()}, nullptr};
  stream_->write({&request, 1});
}

void Attempt::on_bytes(std::string_view bytes) {
  answer_.append(bytes.substr(0, 2));
  stream_->pause();
  later(&Attempt::answered);
}

void Attempt::on_end(std::string_view why) {
  ended_ = why;
  later(&Attempt::answered);
}

void Attempt::answered() {
  if (answer_.empty()) {
    try_next(ended_ == "end of stream" ? "server closed the connection unexpectedly" : ended_);
    return;
  }
  // Bytes behind the answer were sent before TLS protects anything: somebody in between may have
  // put them there (CVE-2021-23222).
  if (answer_.size() > 1 && answer_[0] != 'E') {
    try_next("received unencrypted data after SSL response");
    return;
  }
  switch (answer_[0]) {
    case 'S':
      secure();
      return;
    case 'N':
      if (target().ssl_mode == SslMode::kPrefer) {
        finished({});
      } else {
        try_next("server does not support SSL, but SSL was required");
      }
      return;
    case 'E':
      try_next("server sent an error response during SSL exchange");
      return;
    default:
      try_next(std::string("received invalid response to SSL negotiation: ") + answer_[0]);
  }
}

void Attempt::secure() {
  stream_ = TlsStream::secure(loop_, *upstream_->tls, std::move(stream_),
                              [this](const std::string& error) { secured(error); });
}

void Attempt::secured(const std::string& error) {
  if (error.empty()) {
    finished({});
  } else if (target().ssl_mode == SslMode::kPrefer) {
    stream_.reset();
    try_address(Tls::kNever);  // as libpq: the same address once more, without
  } else {
    try_next(error);
  }
}

void Attempt::finished(std::string error) {
  timeout_.reset();
  errors_ = std::move(error);
  // Not from inside connect() nor from a callback of the stream.
  loop_.defer([self = shared_from_this()] {
    const Connector::Done done = std::exchange(self->done_, nullptr);
    if (!done) return;
    if (!self->errors_.empty()) self->stream_.reset();
    done(std::move(self->stream_), std::move(self->errors_));
  });
}

std::string Attempt::server_text() const {
  if (target().is_unix()) {
    return "connection to server on socket \"" + target().socket_path() + "\" failed: ";
  }
  const std::string address = numeric_host(addresses_[address_]);
  const std::string shown = address == target().host ? "" : " (" + address + ")";
  return "connection to server at \"" + target().host + "\"" + shown + ", port " +
         std::to_string(target().port) + " failed: ";
}

class Handle final : public PendingConnect {
 public:
  explicit Handle(std::shared_ptr<Attempt> attempt) : attempt_(std::move(attempt)) {}
  ~Handle() override { attempt_->abandon(); }

 private:
  std::shared_ptr<Attempt> attempt_;
};

}  // namespace

tl::expected<std::shared_ptr<const Upstream>, std::string> Upstream::open(const std::string& url) {
  auto target = UpstreamTarget::parse(url);
  if (!target) return tl::make_unexpected(target.error());
  auto upstream = std::make_shared<Upstream>();
  upstream->target = std::move(*target);
  if (!upstream->target.is_unix() && upstream->target.ssl_mode != SslMode::kDisable) {
    auto tls = TlsContext::make(upstream->target);
    if (!tls) return tl::make_unexpected(tls.error());
    upstream->tls = std::move(*tls);
  }
  return upstream;
}

UpstreamConnector::UpstreamConnector(UvLoop& loop, std::shared_ptr<const Upstream> upstream)
    : loop_(loop), upstream_(std::move(upstream)) {}

std::unique_ptr<PendingConnect> UpstreamConnector::connect(Done done) {
  auto attempt = std::make_shared<Attempt>(loop_, upstream_, std::move(done));
  attempt->begin();
  return std::make_unique<Handle>(std::move(attempt));
}

}  // namespace pgfresh::net
