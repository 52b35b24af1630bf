// Memory that will be read soon, asked for now. Where a worker knows thousands of texts and
// answers, each first look at one of them waits for memory; asked for together, they come together.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pgfresh {

// Never faults, whatever `at` is, null among it.
inline void prefetch(const void* at, size_t bytes) {
  constexpr size_t kLine = 64;
  const auto first = reinterpret_cast<uintptr_t>(at);
  for (uintptr_t line = first / kLine * kLine; line < first + bytes; line += kLine) {
    __builtin_prefetch(reinterpret_cast<const void*>(line));
  }
}

}  // namespace pgfresh
