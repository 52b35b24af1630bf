#include "net/uv_loop.h"

#include <csignal>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/check.h"

namespace pgfresh::net {
namespace {

class UvTimer final : public Timer {
 public:
  UvTimer(uv_loop_t* loop, int64_t first_ms, int64_t repeat_ms, std::function<void()> fire)
      : handle_(start(loop)), fire_(std::make_shared<std::function<void()>>(std::move(fire))) {
    handle_->data = this;
    const auto first = static_cast<uint64_t>(first_ms > 0 ? first_ms : 0);
    const auto repeat = static_cast<uint64_t>(repeat_ms > 0 ? repeat_ms : 0);
    // The loop's idea of now is that of the turn's beginning; a delay counts from the call.
    uv_update_time(loop);
    PGFRESH_CHECK(uv_timer_start(handle_.get(), fired, first, repeat) == 0);
  }

 private:
  static uv_timer_t* start(uv_loop_t* loop) {
    auto* timer = new uv_timer_t;
    PGFRESH_CHECK(uv_timer_init(loop, timer) == 0);
    return timer;
  }

  static void fired(uv_timer_t* handle) noexcept {
    // A share of the function is held here, since it may destroy its own timer.
    const auto fire = static_cast<UvTimer*>(handle->data)->fire_;
    (*fire)();
  }

  UvHandle<uv_timer_t> handle_;
  std::shared_ptr<std::function<void()>> fire_;
};

}  // namespace

UvLoop::UvLoop() {
  std::signal(SIGPIPE, SIG_IGN);
  if (const int rc = uv_loop_init(&uv_); rc != 0) {
    throw std::runtime_error(std::string("cannot make an event loop: ") + uv_strerror(rc));
  }
  auto* async = new uv_async_t;
  if (const int rc = uv_async_init(
          &uv_, async,
          [](uv_async_t* handle) noexcept { static_cast<UvLoop*>(handle->data)->run_posted(); });
      rc != 0) {
    delete async;
    uv_loop_close(&uv_);
    throw std::runtime_error(std::string("cannot make an event loop: ") + uv_strerror(rc));
  }
  async->data = this;
  wake_.reset(async);

  auto* prepare = new uv_prepare_t;
  uv_prepare_init(&uv_, prepare);
  prepare->data = this;
  before_wait_.reset(prepare);
  uv_prepare_start(prepare, [](uv_prepare_t* handle) noexcept {
    static_cast<UvLoop*>(handle->data)->finish_turn();
  });

  auto* check = new uv_check_t;
  uv_check_init(&uv_, check);
  check->data = this;
  after_wait_.reset(check);
  uv_check_start(check, [](uv_check_t* handle) noexcept {
    static_cast<UvLoop*>(handle->data)->finish_turn();
  });
}

UvLoop::~UvLoop() {
  drop_tasks();
  wake_.reset();
  before_wait_.reset();
  after_wait_.reset();
  // What is left is closing, or a look-up of a name that a thread has begun: its thread would write
  // into the loop, so it is waited for. A handle that still has an owner is our bug.
  uv_walk(
      &uv_, [](uv_handle_t* handle, void*) { PGFRESH_CHECK(uv_is_closing(handle) != 0); }, nullptr);
  uv_run(&uv_, UV_RUN_DEFAULT);
  PGFRESH_CHECK(uv_loop_close(&uv_) == 0);
}

void UvLoop::run() {
  bool stopping = false;
  {
    const std::lock_guard lock(mutex_);
    PGFRESH_CHECK(phase_ != Phase::kStopped);
    stopping = phase_ == Phase::kStopping;
  }
  if (!stopping) uv_run(&uv_, UV_RUN_DEFAULT);
  finish_turn();
  drop_tasks();
}

void UvLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (phase_ == Phase::kReady) phase_ = Phase::kStopping;
  }
  uv_async_send(wake_.get());
}

void UvLoop::turn() { uv_run(&uv_, UV_RUN_ONCE); }

void UvLoop::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (phase_ == Phase::kStopped) return;
    posted_.push_back(std::move(task));
  }
  uv_async_send(wake_.get());
}

void UvLoop::defer(std::function<void()> task) { deferred_.push_back(std::move(task)); }

std::unique_ptr<Timer> UvLoop::after(int64_t delay_ms, std::function<void()> fire) {
  return make_timer(delay_ms, 0, std::move(fire));
}

std::unique_ptr<Timer> UvLoop::every(int64_t period_ms, std::function<void()> fire) {
  const int64_t period = period_ms > 0 ? period_ms : 1;
  return make_timer(period, period, std::move(fire));
}

std::unique_ptr<Timer> UvLoop::make_timer(int64_t first_ms, int64_t repeat_ms,
                                          std::function<void()> fire) {
  return std::make_unique<UvTimer>(&uv_, first_ms, repeat_ms, std::move(fire));
}

std::span<char> UvLoop::tls_buffer() {
  if (!tls_buffer_) tls_buffer_ = std::make_unique<char[]>(Turn::kReadBytesMax);
  return {tls_buffer_.get(), Turn::kReadBytesMax};
}

void UvLoop::run_posted() {
  std::vector<std::function<void()>> tasks;
  bool stopping = false;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(posted_);
    stopping = phase_ == Phase::kStopping;
  }
  for (auto& task : tasks) task();
  if (stopping) uv_stop(&uv_);
}

void UvLoop::finish_turn() {
  turn_.hand_out();
  turn_.send_all();
  // Until none is left: a task may defer another, and the loop is about to sleep.
  while (!deferred_.empty()) {
    std::vector<std::function<void()>> tasks;
    tasks.swap(deferred_);
    for (auto& task : tasks) task();
    turn_.send_all();
  }
}

void UvLoop::drop_tasks() {
  // Destroying a task may destroy streams, which may defer or post again.
  while (true) {
    std::vector<std::function<void()>> tasks;
    {
      const std::lock_guard lock(mutex_);
      phase_ = Phase::kStopped;
      tasks.swap(posted_);
    }
    if (tasks.empty()) tasks.swap(deferred_);
    if (tasks.empty()) return;
  }
}

}  // namespace pgfresh::net
