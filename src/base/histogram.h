// How long something took, counted in classes: four to each doubling, from a microsecond to eight
// seconds. So a percentile is at most a quarter too large, adding is one increment, and what lies
// below a power of two is known exactly, which is what the metrics page shows.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace pgfresh {

// A histogram as it was at one moment, or several added up.
class HistogramSums {
 public:
  static constexpr int kOctaves = 23;
  static constexpr size_t kClasses = size_t{4} * (kOctaves - 1);

  // A class holds what is longer than the bound of the one before, and not longer than its own; the
  // last one all that is longer, too.
  [[nodiscard]] static constexpr size_t class_of(int64_t ns) {
    const uint64_t us = ns <= 0 ? 0 : static_cast<uint64_t>(ns - 1) / 1000;
    if (us < 4) return us;
    const size_t octave = std::bit_width(us) - 1;
    const size_t quarter = (us >> (octave - 2)) & 3;
    return std::min(4 * (octave - 1) + quarter, kClasses - 1);
  }
  [[nodiscard]] static constexpr uint64_t bound_us(size_t index) {
    if (index < 4) return index + 1;
    return (index % 4 + 5) << (index / 4 - 1);
  }

  void add(size_t index, uint64_t count) { counts_[index] += count; }
  void add_ns(uint64_t ns) { sum_ns_ += ns; }
  void add(const HistogramSums& other) {
    for (size_t i = 0; i < kClasses; ++i) counts_[i] += other.counts_[i];
    sum_ns_ += other.sum_ns_;
  }

  [[nodiscard]] uint64_t sum_ns() const { return sum_ns_; }
  [[nodiscard]] uint64_t count() const { return count_up_to(kClasses); }
  // Not longer than 2^power µs. REQUIRES: 2 <= power < kOctaves.
  [[nodiscard]] uint64_t count_within(int power) const {
    return count_up_to(size_t{4} * static_cast<size_t>(power - 1));
  }
  // What so many of a thousand did not exceed; 0 when there are none.
  [[nodiscard]] uint64_t permille_us(uint64_t permille) const {
    const uint64_t rank = (count() * permille + 999) / 1000;
    uint64_t seen = 0;
    for (size_t i = 0; i < kClasses; ++i) {
      seen += counts_[i];
      if (seen >= rank && seen != 0) return bound_us(i);
    }
    return 0;
  }

 private:
  [[nodiscard]] uint64_t count_up_to(size_t end) const {
    uint64_t sum = 0;
    for (size_t i = 0; i < end; ++i) sum += counts_[i];
    return sum;
  }

  std::array<uint64_t, kClasses> counts_{};
  uint64_t sum_ns_ = 0;
};

class Histogram {
 public:
  // Owner's thread only, as Counters.
  void add(int64_t ns) {
    bump(counts_[HistogramSums::class_of(ns)], 1);
    bump(sum_ns_, static_cast<uint64_t>(std::max<int64_t>(ns, 0)));
  }

  // Any thread.
  [[nodiscard]] HistogramSums read() const {
    HistogramSums sums;
    for (size_t i = 0; i < counts_.size(); ++i) {
      sums.add(i, counts_[i].load(std::memory_order_relaxed));
    }
    sums.add_ns(sum_ns_.load(std::memory_order_relaxed));
    return sums;
  }

 private:
  static void bump(std::atomic<uint64_t>& value, uint64_t amount) {
    value.store(value.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }

  std::array<std::atomic<uint64_t>, HistogramSums::kClasses> counts_{};
  std::atomic<uint64_t> sum_ns_{0};
};

}  // namespace pgfresh
