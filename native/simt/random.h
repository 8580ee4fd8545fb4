// The random numbers of a seed: xorshift64*, seeded through splitmix64 so that neighbouring seeds are unrelated.
#pragma once

#include <bit>
#include <cstdint>

namespace moe::simt::machine {

constexpr uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed = 0) : state_(mix(seed) | 1) {}

  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1du;
  }

 private:
  uint64_t state_;
};

// The position of a set bit of `mask` (not 0), chosen by 5 random bits.
inline unsigned choose_bit(uint32_t mask, uint64_t random) {
  const unsigned start = random & 31;
  return (start + static_cast<unsigned>(std::countr_zero(std::rotr(mask, static_cast<int>(start))))) & 31;
}

}  // namespace moe::simt::machine
