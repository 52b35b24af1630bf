// CHECK: our own bugs, caught in production too. Everything a peer can cause is a Status instead.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace pgfresh {

[[noreturn]] inline void check_failed(const char* what, const char* file, int line) noexcept {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, what);
  std::abort();
}

}  // namespace pgfresh

#define PGFRESH_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::pgfresh::check_failed(#condition, __FILE__, __LINE__))
