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
    char* payload = nullptr;
    SharedBytes result = make(first.size() + second.size(), payload);
    if (!first.empty()) std::memcpy(payload, first.data(), first.size());
    if (!second.empty()) std::memcpy(payload + first.size(), second.data(), second.size());
    return result;
  }

  // `size` bytes, aligned as for any type, which the caller writes at `payload` before it shares
  // the reference.
  [[nodiscard]] static SharedBytes make(size_t size, char*& payload) {
    SharedBytes result;
    void* memory = ::operator new(sizeof(Block) + size);
    result.block_ = new (memory) Block{{1}, size};
    payload = reinterpret_cast<char*>(result.block_ + 1);
    return result;
  }

  // For tables that link what lies in the bytes by plain pointers: gives up this reference without
  // releasing it, takes such a one back, and adds another to bytes that somebody holds.
  // `payload`: view().data() of a reference that is not empty.
  static void give_up(SharedBytes bytes) { bytes.block_ = nullptr; }
  [[nodiscard]] static SharedBytes take_back(const void* payload) {
    SharedBytes result;
    result.block_ = const_cast<Block*>(static_cast<const Block*>(payload) - 1);
    return result;
  }
  [[nodiscard]] static SharedBytes share(const void* payload) {
    SharedBytes result = take_back(payload);
    result.retain();
    return result;
  }

  [[nodiscard]] std::string_view view() const {
    if (block_ == nullptr) return {};
    return {reinterpret_cast<const char*>(block_ + 1), block_->size};
  }
  [[nodiscard]] size_t size() const { return block_ == nullptr ? 0 : block_->size; }
  [[nodiscard]] explicit operator bool() const { return block_ != nullptr; }

 private:
  struct alignas(std::max_align_t) Block {
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
