// Immutable bytes with many owners on many threads: what a cached answer is made of, and what a
// stream may keep in its queue without copying.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

namespace pgfresh {

// A counted reference to one allocation. Copies share it; the last one frees it. An empty
// reference holds nothing. The references are thread-safe as std::shared_ptr's are: different
// objects on different threads, yes; one object on two threads, no.
class SharedBytes {
 public:
  SharedBytes() = default;
  SharedBytes(const SharedBytes& other) noexcept : block_(other.block_) { retain(); }
  SharedBytes(SharedBytes&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  SharedBytes& operator=(SharedBytes other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~SharedBytes() { release(); }

  [[nodiscard]] static SharedBytes copy_of(std::string_view bytes) {
    return joined(bytes, std::string_view());
  }

  // The concatenation of two pieces in one allocation.
  [[nodiscard]] static SharedBytes joined(std::string_view first, std::string_view second) {
    SharedBytes result;
    const size_t size = first.size() + second.size();
    void* memory = ::operator new(sizeof(Block) + size);
    result.block_ = new (memory) Block{{1}, size};
    char* payload = reinterpret_cast<char*>(result.block_ + 1);
    if (!first.empty()) std::memcpy(payload, first.data(), first.size());
    if (!second.empty()) std::memcpy(payload + first.size(), second.data(), second.size());
    return result;
  }

  [[nodiscard]] std::string_view view() const {
    if (block_ == nullptr) return {};
    return {reinterpret_cast<const char*>(block_ + 1), block_->size};
  }
  [[nodiscard]] size_t size() const { return block_ == nullptr ? 0 : block_->size; }
  [[nodiscard]] explicit operator bool() const { return block_ != nullptr; }

 private:
  struct Block {
    std::atomic<uint32_t> references;
    size_t size;
  };

  void retain() const noexcept {
    if (block_ != nullptr) block_->references.fetch_add(1, std::memory_order_relaxed);
  }
  void release() noexcept {
    if (block_ == nullptr) return;
    if (block_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      block_->~Block();
      ::operator delete(block_);
    }
    block_ = nullptr;
  }

  Block* block_ = nullptr;
};

}  // namespace pgfresh
