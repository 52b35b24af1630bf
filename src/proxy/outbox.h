// Output gathered during one event and written with one system call: runs of forwarded bytes that
// lie side by side become one slice; cached bodies are sent from where they are.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "cache/entry.h"
#include "pgfresh/stream.h"

namespace pgfresh::proxy {

class Outbox {
 public:
  // REQUIRES: `bytes` stay where they are until flush().
  void add(std::string_view bytes) {
    if (bytes.empty()) return;
    size_ += bytes.size();
    if (!slices_.empty()) {
      Slice& last = slices_.back();
      if (last.owner == nullptr && last.bytes.data() + last.bytes.size() == bytes.data()) {
        last.bytes = {last.bytes.data(), last.bytes.size() + bytes.size()};
        return;
      }
    }
    slices_.push_back({bytes, nullptr});
  }

  // A part of an entry's body; the entry lives as long as it is queued, here or in the stream.
  void add(const cache::EntryRef& entry, std::string_view part) {
    if (part.empty()) return;
    size_ += part.size();
    pinned_.push_back(entry);
    slices_.push_back({part, &kPinned});
  }

  [[nodiscard]] bool empty() const { return slices_.empty(); }
  [[nodiscard]] size_t size() const { return size_; }

  void drop() {
    slices_.clear();
    size_ = 0;
  }

  // Returns the number of bytes written.
  size_t flush(Stream& stream) {
    if (slices_.empty()) return 0;
    // Only now, since pinned_ may have moved as it grew.
    auto pinned = pinned_.begin();
    for (Slice& slice : slices_) {
      if (slice.owner != nullptr) slice.owner = &(pinned++)->bytes();
    }
    stream.write(slices_);
    const size_t written = size_;
    clear();
    return written;
  }

  void clear() {
    slices_.clear();
    pinned_.clear();
    size_ = 0;
  }

 private:
  static inline const SharedBytes kPinned;  // marks slices of pinned_, in order

  std::vector<Slice> slices_;
  std::vector<cache::EntryRef> pinned_;
  size_t size_ = 0;
};

}  // namespace pgfresh::proxy
