#include "net/signals.h"

#include <utility>

#include "base/check.h"

namespace pgfresh::net {

Signals::Signals(UvLoop& loop, std::initializer_list<int> numbers, std::function<void(int)> caught)
    : caught_(std::move(caught)) {
  for (const int number : numbers) {
    auto* handle = new uv_signal_t;
    PGFRESH_CHECK(uv_signal_init(loop.uv(), handle) == 0);
    handle->data = this;
    handles_.emplace_back(handle);
    PGFRESH_CHECK(uv_signal_start(
                      handle,
                      [](uv_signal_t* signal, int caught_number) noexcept {
                        static_cast<Signals*>(signal->data)->caught_(caught_number);
                      },
                      number) == 0);
  }
}

}  // namespace pgfresh::net
