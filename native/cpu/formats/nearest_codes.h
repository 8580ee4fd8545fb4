// The nearest codes of values, as nearest_code() says, for many values at once: in loops without branches, which
// compilers turn into vectors.
#pragma once

#include <array>
#include <cstdint>

#include "core/formats/quantize.h"

namespace moe::cpu {

class NearestCodes {
 public:
  explicit NearestCodes(const WeightFormat& format);

  const Interval& range() const { return range_; }
  // The codes of `count` values.
  void find(const float* values, int64_t count, uint8_t* codes) const;
  // What those codes stand for.
  void round(const float* values, int64_t count, float* rounded) const;

 private:
  static constexpr int kMostEntries = 16;

  const WeightFormat& format_;
  const Interval range_;
  int entries_ = 0;  // of a table, without those that are never nearest
  // Ascending: what the entries are, their codes, and the least value to which an entry is nearer than the one before.
  std::array<float, kMostEntries> values_{}, steps_{};
  std::array<uint8_t, kMostEntries> codes_{};
};

}  // namespace moe::cpu
