// A connected byte stream, whatever carries it: TCP, a unix socket, TLS over either, or a pipe in
// a test's memory. Everything here happens on the thread of the loop the stream belongs to.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "pgfresh/shared_bytes.h"

namespace pgfresh {

// Some bytes to be written. Where `owner` is set, `bytes` lie inside it, and a stream that cannot
// send them at once keeps a reference instead of a copy.
struct Slice {
  std::string_view bytes;
  const SharedBytes* owner = nullptr;
};

class Stream {
 public:
  // What the owner of a stream is told. No call comes from inside write(), pause(), resume() or
  // finish(); a stream must not be destroyed from inside one of these calls (use Loop::defer).
  class Events {
   public:
    virtual ~Events() = default;
    // `bytes` are valid during the call only; what is not used at once must be copied.
    virtual void on_bytes(std::string_view bytes) = 0;
    // queued_bytes() has fallen to zero after a write that could not be sent whole.
    virtual void on_drained() = 0;
    // The peer has closed its sending side, in order. True: the stream is kept for what is still to
    // be sent, and on_end comes behind finish(), or when the connection breaks. Where TLS is spoken
    // such an end is the end of all.
    [[nodiscard]] virtual bool on_half_close() { return false; }
    // The peer closed, or the connection broke. Comes once; nothing comes after it. `why` is a
    // short text for a log line, such as "end of stream" or "connection reset by peer".
    virtual void on_end(std::string_view why) = 0;
  };

  // Closes at once; queued bytes are lost. No event comes afterwards.
  virtual ~Stream() = default;

  // Begins reading, or, when called again, hands the stream to another owner. REQUIRES: `events`
  // outlives the stream or the next call of start().
  virtual void start(Events* events) = 0;

  // Sends, at once or at the end of this turn of the loop, what the kernel takes, and queues the
  // rest, in order. Never fails visibly: a broken connection is told by on_end.
  virtual void write(std::span<const Slice> slices) = 0;
  // Sends now what was put off to the end of the turn. close_sending(), finish() and the destructor
  // do so, too.
  virtual void flush() = 0;

  // Bytes that the kernel did not take. What is put off, which is little, is not among them.
  [[nodiscard]] virtual size_t queued_bytes() const = 0;

  // Stops and restarts on_bytes. A paused stream may still report on_end.
  virtual void pause() = 0;
  virtual void resume() = 0;

  // Sends what is queued, then closes the sending side; what the peer says is told as before.
  // Nothing may be written from now on; to say it again is nothing.
  virtual void close_sending() = 0;

  // Sends what is queued, then closes the sending side. on_end follows when the peer has closed
  // too or after a bounded time.
  virtual void finish() = 0;

  // The peer, for logs and SHOW CLIENTS: "10.0.0.7:51234", "unix".
  [[nodiscard]] virtual const std::string& peer() const = 0;
  // The peer's user id for a unix socket, -1 where there is none.
  [[nodiscard]] virtual int peer_uid() const = 0;
  [[nodiscard]] virtual bool encrypted() const = 0;
};

// A connection attempt. Destroying it abandons the attempt; the callback does not come then.
class PendingConnect {
 public:
  virtual ~PendingConnect() = default;
};

// Reaches the PostgreSQL server: resolves the name, connects, negotiates TLS as sslmode says.
class Connector {
 public:
  virtual ~Connector() = default;
  // `error` is empty on success, else a text as libpq would show it; `stream` is not started.
  // Never called from inside connect().
  using Done = std::function<void(std::unique_ptr<Stream> stream, std::string error)>;
  [[nodiscard]] virtual std::unique_ptr<PendingConnect> connect(Done done) = 0;
};

}  // namespace pgfresh
