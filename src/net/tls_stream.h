// TLS 1.2 and newer over another stream, as a client (OpenSSL).
//
// OpenSSL gets neither the socket nor memory BIOs: it reads straight from the bytes that the
// stream below has just received, and writes into a buffer that all TLS streams of the loop share.
// With SSL_MODE_RELEASE_BUFFERS an idle connection so holds OpenSSL's own state and nothing else.
//
// Deliberately not done: renegotiation (refused), session resumption (connections to PostgreSQL
// live long), early data.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/tls_context.h"
#include "net/uv_loop.h"
#include "pgfresh/stream.h"

namespace pgfresh::net {

class TlsStream final : public Stream, private Stream::Events {
 public:
  // Shakes hands over `lower`, which is connected and has nothing unread. `done` gets an empty text
  // or why it failed, from the end of a turn of the loop, and not at all when the stream is
  // destroyed before. REQUIRES: `context` lives until then, and no other call is made before.
  using Secured = std::function<void(std::string error)>;
  [[nodiscard]] static std::unique_ptr<TlsStream> secure(UvLoop& loop, const TlsContext& context,
                                                         std::unique_ptr<Stream> lower,
                                                         Secured done);

  ~TlsStream() override;
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  void start(Stream::Events* events) override;
  void write(std::span<const Slice> slices) override;
  void flush() override { lower_->flush(); }
  [[nodiscard]] size_t queued_bytes() const override { return lower_->queued_bytes(); }
  void pause() override;
  void resume() override;
  void close_sending() override;
  void finish() override;
  [[nodiscard]] const std::string& peer() const override { return lower_->peer(); }
  [[nodiscard]] int peer_uid() const override { return lower_->peer_uid(); }
  [[nodiscard]] bool encrypted() const override { return true; }

 private:
  enum class State : uint8_t { kHandshake, kOpen, kFinishing, kEnded };

  TlsStream(UvLoop& loop, const TlsContext& context, std::unique_ptr<Stream> lower, Secured done);

  void on_bytes(std::string_view bytes) override;
  void on_drained() override;
  void on_end(std::string_view why) override;

  void shake_hands();
  void shaken(std::string error);
  void pump();
  void unpark();
  [[nodiscard]] size_t read_some(std::span<char> to);
  [[nodiscard]] std::string failure(int result);
  void send(std::string_view plain);
  void write_records();
  void end(const std::string& why);
  void end_later(std::string why);
  void later(void (TlsStream::*step)());

  [[nodiscard]] static const BIO_METHOD* bio_method();
  static int bio_read(BIO* bio, char* to, int size) noexcept;
  static int bio_write(BIO* bio, const char* from, int size) noexcept;
  static long bio_control(BIO* bio, int command, long number, void* pointer) noexcept;

  // Constant after construction.
  UvLoop& loop_;
  const TlsContext& context_;
  std::unique_ptr<Stream> lower_;
  std::unique_ptr<SSL, FreeSsl> ssl_;
  std::shared_ptr<TlsStream*> self_;  // for deferred steps: null inside once destroyed

  // Loop thread only.
  State state_ = State::kHandshake;
  bool paused_ = true;  // also before start()
  bool end_told_ = false;
  bool sending_closed_ = false;
  Stream::Events* events_ = nullptr;
  std::string_view incoming_;  // encrypted bytes that OpenSSL has not taken, during a call
  std::string held_;           // the same, while paused
  std::string end_why_;        // why it has ended, until that has been told
  Secured done_;
};

}  // namespace pgfresh::net
