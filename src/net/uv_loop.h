// Loop over libuv: one per thread (each worker, and the control loop).
//
// Order within a turn: timers, deferred tasks, wait for sockets and posted tasks, their callbacks,
// what streams have read and put off (turn.h), deferred tasks again, closed handles freed. So what
// was deferred anywhere always runs before the loop sleeps and before the memory of a handle closed
// in the same turn is given back.
//
// Deliberately not done: work stealing, priorities. A client stays on its loop.
#pragma once

#include <uv.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "net/boottime_clock.h"
#include "net/turn.h"
#include "net/uv_handle.h"
#include "pgfresh/loop.h"

namespace pgfresh::net {

class UvLoop final : public Loop {
 public:
  // Sets SIGPIPE to be ignored in this process: who reads our log may go. Throws
  // std::runtime_error when the kernel refuses an event queue; it may be made on any thread.
  UvLoop();
  // REQUIRES: not running; every stream, timer and listener of this loop has been destroyed. Waits
  // for look-ups of names under way, which a dead name server makes last some seconds.
  ~UvLoop() override;
  UvLoop(const UvLoop&) = delete;
  UvLoop& operator=(const UvLoop&) = delete;

  // Turns the loop on this thread until stop(). Once.
  void run();
  // Makes run() return at the end of its turn. Any thread, also before run().
  void stop();
  // One turn, waiting for at most one event; instead of run(), for tests.
  void turn();

  [[nodiscard]] const Clock& clock() const override { return clock_; }
  void post(std::function<void()> task) override;
  void defer(std::function<void()> task) override;
  [[nodiscard]] std::unique_ptr<Timer> after(int64_t delay_ms, std::function<void()> fire) override;
  [[nodiscard]] std::unique_ptr<Timer> every(int64_t period_ms,
                                             std::function<void()> fire) override;

  // For src/net only: the loop, and the buffers its streams share. A buffer's content is valid
  // during one callback; tls_output() is empty between calls of a stream.
  [[nodiscard]] uv_loop_t* uv() { return &uv_; }
  [[nodiscard]] std::span<char> tls_buffer();
  [[nodiscard]] std::string& tls_output() { return tls_output_; }
  [[nodiscard]] Turn& current() { return turn_; }

 private:
  enum class Phase : uint8_t { kReady, kStopping, kStopped };

  [[nodiscard]] std::unique_ptr<Timer> make_timer(int64_t first_ms, int64_t repeat_ms,
                                                  std::function<void()> fire);
  void run_posted();
  void finish_turn();
  void drop_tasks();

  // Constant after construction.
  uv_loop_t uv_{};
  BoottimeClock clock_;
  UvHandle<uv_async_t> wake_;
  UvHandle<uv_prepare_t> before_wait_;
  UvHandle<uv_check_t> after_wait_;

  // Loop thread only.
  std::vector<std::function<void()>> deferred_;
  std::unique_ptr<char[]> tls_buffer_;  // made when the first TLS stream wants it
  std::string tls_output_;
  Turn turn_{clock_};

  // Shared.
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // under mutex_
  Phase phase_ = Phase::kReady;                // under mutex_
};

}  // namespace pgfresh::net
