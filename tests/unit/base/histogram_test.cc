#include "base/histogram.h"

#include <doctest/doctest.h>

namespace pgfresh {
namespace {

constexpr int64_t kNsPerUs = 1000;

TEST_CASE("histogram: each duration is in the class whose bound it does not exceed") {
  for (int64_t ns = 1; ns < 40'000'000'000; ns += 1 + ns / 7) {
    const size_t index = HistogramSums::class_of(ns);
    REQUIRE(index < HistogramSums::kClasses);
    const auto us = static_cast<uint64_t>((ns + kNsPerUs - 1) / kNsPerUs);
    CAPTURE(ns);
    if (index > 0) CHECK(us > HistogramSums::bound_us(index - 1));
    if (index + 1 < HistogramSums::kClasses) CHECK(us <= HistogramSums::bound_us(index));
  }
  CHECK(HistogramSums::class_of(0) == 0);
  CHECK(HistogramSums::class_of(-5) == 0);
  for (size_t i = 1; i < HistogramSums::kClasses; ++i) {
    CHECK(HistogramSums::bound_us(i) > HistogramSums::bound_us(i - 1));
    // What a percentile may be too large by.
    CHECK(HistogramSums::bound_us(i) <= HistogramSums::bound_us(i - 1) * 5 / 4 + 1);
  }
}

TEST_CASE("histogram: counts, sums and percentiles") {
  Histogram histogram;
  CHECK(histogram.read().permille_us(500) == 0);
  for (int i = 0; i < 98; ++i) histogram.add(100 * kNsPerUs);
  histogram.add(16 * kNsPerUs);
  histogram.add(20'000 * kNsPerUs);
  HistogramSums sums = histogram.read();
  CHECK(sums.count() == 100);
  CHECK(sums.sum_ns() == (98 * 100 + 16 + 20'000) * kNsPerUs);
  CHECK(sums.count_within(4) == 1);  // 16 µs, to the nanosecond
  CHECK(sums.count_within(6) == 1);
  CHECK(sums.count_within(7) == 99);
  CHECK(sums.count_within(15) == 100);
  CHECK(sums.permille_us(10) == 16);
  CHECK(sums.permille_us(500) == 112);
  CHECK(sums.permille_us(990) == 112);
  CHECK(sums.permille_us(999) == 20'480);
  sums.add(histogram.read());
  CHECK(sums.count() == 200);
}

}  // namespace
}  // namespace pgfresh
