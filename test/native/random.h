// Seeded values for tests.
#pragma once

#include <cstdint>
#include <vector>

namespace moe::test {

class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed) {}

  uint32_t next() {
    state_ = state_ * 1664525u + 1013904223u;
    return state_ >> 8;
  }
  // In -1 .. 1.
  float value() { return static_cast<float>(next()) / 8388608.0f - 1.0f; }
  int64_t below(int64_t bound) { return next() % bound; }
  std::vector<float> values(int64_t count) {
    std::vector<float> result(static_cast<size_t>(count));
    for (float& x : result) x = value();
    return result;
  }

 private:
  uint32_t state_;
};

}  // namespace moe::test
