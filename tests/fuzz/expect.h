// What the fuzz targets say when an oracle fails, and how they take their input apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>

// Ends the process, so that the fuzzer keeps the input.
#define FUZZ_EXPECT(condition)                                                                 \
  ((condition) ? static_cast<void>(0)                                                          \
               : (std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), \
                  std::abort()))

namespace pgfresh::fuzz {

inline std::string_view as_view(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Some bytes in memory of their own and of exactly their size, so that the address sanitizer sees
// a read behind them and a view that outlives them.
class Exact {
 public:
  explicit Exact(std::string_view bytes) : memory_(new char[bytes.size()]), size_(bytes.size()) {
    bytes.copy(memory_.get(), bytes.size());
  }
  [[nodiscard]] std::string_view view() const { return {memory_.get(), size_}; }

 private:
  std::unique_ptr<char[]> memory_;
  size_t size_;
};

// Takes up to `count` bytes from the front of `input`.
inline std::string_view take(std::string_view& input, size_t count) {
  const std::string_view taken = input.substr(0, count);
  input.remove_prefix(taken.size());
  return taken;
}

}  // namespace pgfresh::fuzz
