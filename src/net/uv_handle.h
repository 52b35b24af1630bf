// The owner of one libuv handle on the heap. A handle may not be freed while libuv knows it, so
// destroying the owner closes the handle and the memory goes in the close callback (habit: a libuv
// handle dies in its close callback). No other callback of the handle comes after uv_close().
#pragma once

#include <uv.h>

#include <memory>

namespace pgfresh::net {

template <typename Handle>
struct UvCloser {
  void operator()(Handle* handle) const noexcept {
    uv_close(reinterpret_cast<uv_handle_t*>(handle),
             [](uv_handle_t* closed) noexcept { delete reinterpret_cast<Handle*>(closed); });
  }
};

// REQUIRES: the handle has been initialised with its loop before it gets an owner.
template <typename Handle>
using UvHandle = std::unique_ptr<Handle, UvCloser<Handle>>;

}  // namespace pgfresh::net
