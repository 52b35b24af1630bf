#include "net/tls_stream.h"

#include <openssl/bio.h>
#include <openssl/err.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace pgfresh::net {
namespace {

// The largest plain text of one record (RFC 8446, 5.1).
constexpr size_t kRecordBytesMax = 16 * 1024;
// Encrypted bytes gathered before they go to the stream below.
constexpr size_t kOutputBytesMax = 128 * 1024;

}  // namespace

TlsStream::TlsStream(UvLoop& loop, const TlsContext& context, std::unique_ptr<Stream> lower,
                     Secured done)
    : loop_(loop),
      context_(context),
      lower_(std::move(lower)),
      ssl_(context.new_connection()),
      self_(std::make_shared<TlsStream*>(this)),
      done_(std::move(done)) {
  BIO* bio = BIO_new(bio_method());
  PGFRESH_CHECK(bio != nullptr);
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);  // owns it
}

TlsStream::~TlsStream() { *self_ = nullptr; }

std::unique_ptr<TlsStream> TlsStream::secure(UvLoop& loop, const TlsContext& context,
                                             std::unique_ptr<Stream> lower, Secured done) {
  std::unique_ptr<TlsStream> stream(
      new TlsStream(loop, context, std::move(lower), std::move(done)));
  stream->lower_->start(stream.get());
  stream->shake_hands();
  return stream;
}

const BIO_METHOD* TlsStream::bio_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "pgfresh stream");
    PGFRESH_CHECK(made != nullptr);
    BIO_meth_set_read(made, &TlsStream::bio_read);
    BIO_meth_set_write(made, &TlsStream::bio_write);
    BIO_meth_set_ctrl(made, &TlsStream::bio_control);
    return made;
  }();
  return method;
}

int TlsStream::bio_read(BIO* bio, char* to, int size) noexcept {
  auto* self = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const size_t count = std::min(static_cast<size_t>(size), self->incoming_.size());
  if (count == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  std::memcpy(to, self->incoming_.data(), count);
  self->incoming_.remove_prefix(count);
  return static_cast<int>(count);
}

int TlsStream::bio_write(BIO* bio, const char* from, int size) noexcept {
  auto* self = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  self->loop_.tls_output().append(from, static_cast<size_t>(size));
  return size;
}

long TlsStream::bio_control(BIO*, int command, long, void*) noexcept {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

void TlsStream::later(void (TlsStream::*step)()) {
  loop_.defer([self = self_, step] {
    if (*self != nullptr) (**self.*step)();
  });
}

void TlsStream::shake_hands() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  std::string error = result == 1 ? context_.check_host(ssl_.get()) : failure(result);
  write_records();
  if (result == 1 || !error.empty()) shaken(std::move(error));
}

void TlsStream::shaken(std::string error) {
  if (state_ != State::kHandshake) return;
  lower_->pause();
  // What came behind the handshake (session tickets, early errors) waits for start().
  held_.append(incoming_);
  incoming_ = {};
  state_ = error.empty() ? State::kOpen : State::kEnded;
  loop_.defer([self = self_, why = std::move(error)] {
    if (*self == nullptr) return;
    const Secured done = std::exchange((*self)->done_, nullptr);
    if (done) done(why);
  });
}

std::string TlsStream::failure(int result) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
    case SSL_ERROR_NONE:
      return {};
    case SSL_ERROR_ZERO_RETURN:
      return "end of stream";
    default:
      break;
  }
  std::string text = "SSL error: " + openssl_error();
  const long verdict = SSL_get_verify_result(ssl_.get());
  if (state_ == State::kHandshake && verdict != X509_V_OK) {
    text += std::string(": ") + X509_verify_cert_error_string(verdict);
  }
  return text;
}

void TlsStream::on_bytes(std::string_view bytes) {
  if (state_ == State::kEnded) return;
  if (!held_.empty()) {  // not read on yet: the bytes that came first go first
    held_.append(bytes);
    return;
  }
  incoming_ = bytes;
  if (state_ == State::kHandshake) {
    shake_hands();
  } else {
    pump();
  }
}

void TlsStream::pump() {
  // The callbacks below may start(), pause(), write() or finish() this stream, not destroy it.
  while (!paused_ && state_ == State::kOpen) {
    const std::span<char> buffer = loop_.tls_buffer();
    const size_t count = read_some(buffer);
    write_records();  // a key update, an alert
    if (count > 0) events_->on_bytes({buffer.data(), count});
    if (!end_why_.empty()) {
      end(end_why_);
      return;
    }
    if (count < buffer.size() && incoming_.empty()) break;
  }
  if (!incoming_.empty()) held_.assign(incoming_);
  incoming_ = {};
}

size_t TlsStream::read_some(std::span<char> to) {
  size_t count = 0;
  while (count < to.size()) {
    ERR_clear_error();
    const int result = SSL_read(ssl_.get(), to.data() + count, static_cast<int>(to.size() - count));
    if (result <= 0) {
      end_why_ = failure(result);
      break;
    }
    count += static_cast<size_t>(result);
  }
  return count;
}

void TlsStream::on_drained() {
  if (state_ == State::kOpen && events_ != nullptr) events_->on_drained();
}

void TlsStream::on_end(std::string_view why) {
  if (state_ == State::kHandshake) {
    shaken("SSL error: the server closed the connection in the handshake: " + std::string(why));
    return;
  }
  end(std::string(why));
}

void TlsStream::start(Stream::Events* events) {
  PGFRESH_CHECK(state_ != State::kHandshake);
  events_ = events;
  if (state_ == State::kEnded) {
    later(&TlsStream::unpark);
    return;
  }
  resume();
}

void TlsStream::pause() {
  paused_ = true;
  lower_->pause();
}

void TlsStream::resume() {
  if (!paused_) return;
  paused_ = false;
  // Bytes that OpenSSL or held_ has are told before new ones, and not from inside this call.
  if (!held_.empty() || SSL_has_pending(ssl_.get()) != 0) {
    later(&TlsStream::unpark);
  } else {
    lower_->resume();
  }
}

void TlsStream::unpark() {
  if (state_ == State::kEnded) {
    end(end_why_);
    return;
  }
  if (paused_) return;
  const std::string bytes = std::exchange(held_, {});
  incoming_ = bytes;
  pump();
  if (!paused_ && state_ == State::kOpen) lower_->resume();
}

void TlsStream::write(std::span<const Slice> slices) {
  PGFRESH_CHECK(state_ != State::kHandshake);
  if (state_ != State::kOpen) return;
  // Small slices share a record.
  std::array<char, kRecordBytesMax> record;
  size_t filled = 0;
  for (const Slice& slice : slices) {
    std::string_view rest = slice.bytes;
    while (!rest.empty()) {
      if (filled == 0 && rest.size() >= record.size()) {
        send(rest.substr(0, record.size()));
        rest.remove_prefix(record.size());
        continue;
      }
      const size_t count = std::min(rest.size(), record.size() - filled);
      std::memcpy(record.data() + filled, rest.data(), count);
      rest.remove_prefix(count);
      filled += count;
      if (filled == record.size()) send({record.data(), std::exchange(filled, 0U)});
    }
  }
  if (filled > 0) send({record.data(), filled});
  write_records();
}

void TlsStream::send(std::string_view plain) {
  if (state_ != State::kOpen || plain.empty()) return;
  ERR_clear_error();
  const int result = SSL_write(ssl_.get(), plain.data(), static_cast<int>(plain.size()));
  // bio_write() takes everything, so a record is written whole or the connection is unusable.
  if (result != static_cast<int>(plain.size())) end_later(failure(result));
  if (loop_.tls_output().size() >= kOutputBytesMax) write_records();
}

void TlsStream::write_records() {
  std::string& output = loop_.tls_output();
  if (output.empty()) return;
  const Slice slice{output, nullptr};
  lower_->write({&slice, 1});
  output.clear();
}

void TlsStream::close_sending() {
  if (state_ != State::kOpen || std::exchange(sending_closed_, true)) return;
  ERR_clear_error();
  SSL_shutdown(ssl_.get());  // our close_notify; what the peer says is read on
  ERR_clear_error();
  write_records();
  lower_->close_sending();
}

void TlsStream::finish() {
  if (state_ != State::kOpen) return;
  state_ = State::kFinishing;
  ERR_clear_error();
  SSL_shutdown(ssl_.get());  // our close_notify; the peer's is not waited for
  ERR_clear_error();
  write_records();
  lower_->finish();
}

void TlsStream::end_later(std::string why) {
  state_ = State::kEnded;
  end_why_ = why.empty() ? "SSL error" : std::move(why);
  later(&TlsStream::unpark);
}

void TlsStream::end(const std::string& why) {
  state_ = State::kEnded;
  lower_->pause();
  if (end_told_) return;
  if (events_ == nullptr) {
    end_why_ = why;  // start() will have it told
    return;
  }
  end_told_ = true;
  events_->on_end(why);
}

}  // namespace pgfresh::net
