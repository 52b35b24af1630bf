// Signals as callbacks on a loop; on the control loop only.
#pragma once

#include <functional>
#include <initializer_list>
#include <vector>

#include "net/uv_handle.h"
#include "net/uv_loop.h"

namespace pgfresh::net {

class Signals {
 public:
  // Catches `numbers` until destroyed; then their old meaning returns. REQUIRES: loop outlives it.
  Signals(UvLoop& loop, std::initializer_list<int> numbers, std::function<void(int)> caught);
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

 private:
  std::function<void(int)> caught_;
  std::vector<UvHandle<uv_signal_t>> handles_;
};

}  // namespace pgfresh::net
