// Instructions on registers that hold four bytes or two 16-bit numbers.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/dtype.h"
#include "ptx/device.cuh"

namespace moe::simt {

namespace machine {

// x * y + z as a float32 whose lowest bit is set if the result is not exact ("rounded to odd"). Rounding that once more
// to half the digits or fewer gives what a single rounding gives. The product of two 16-bit numbers is exact in
// float64.
inline float fma_to_odd(float x, float y, float z) {
  const double product = static_cast<double>(x) * y;
  const double sum = product + z;
  if (!std::isfinite(sum)) return static_cast<float>(sum);
  // What the sum lost (Knuth's TwoSum).
  const double other = sum - product;
  const double lost = (product - (sum - other)) + (z - other);
  const auto nearest = static_cast<float>(sum);
  const double missing = (sum - nearest) + lost;
  const bool odd = (float_bits(nearest) & 1u) != 0;
  if (missing == 0 || odd || !std::isfinite(nearest)) return nearest;
  return std::nextafter(nearest, missing > 0 ? HUGE_VALF : -HUGE_VALF);
}

template <class T>
uint32_t fma_halves(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    const auto half = [&](uint32_t bits) {
      T value;
      value.bits = static_cast<uint16_t>(bits >> shift);
      return static_cast<float>(value);
    };
    result |= static_cast<uint32_t>(T(fma_to_odd(half(a), half(b), half(c))).bits) << shift;
  }
  return result;
}

}  // namespace machine

namespace ptx {

// Four of the eight bytes of `low` and, behind them, `high`: nibble i of the selector's lower half names byte i. The
// nibbles must be less than 8.
inline uint32_t prmt(uint32_t low, uint32_t high, uint32_t selector) {
  const uint64_t bytes = low | static_cast<uint64_t>(high) << 32;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) result |= static_cast<uint32_t>(bytes >> 8 * (selector >> 4 * i & 7u) & 0xffu) << 8 * i;
  return result;
}

// Any function of three bits: the bit of the table that they name, the first of them the highest.
template <int kTable>
inline uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result = 0;
  for (int bits = 0; bits < 8; ++bits) {
    if ((kTable >> bits & 1) != 0)
      result |= ((bits & 4) != 0 ? a : ~a) & ((bits & 2) != 0 ? b : ~b) & ((bits & 1) != 0 ? c : ~c);
  }
  return result;
}

// a * b + c in both halves, rounded once to nearest even. Subnormal numbers are kept.
inline uint32_t fma_rn_bf16x2(uint32_t a, uint32_t b, uint32_t c) { return machine::fma_halves<bf16>(a, b, c); }
inline uint32_t fma_rn_f16x2(uint32_t a, uint32_t b, uint32_t c) { return machine::fma_halves<f16>(a, b, c); }

}  // namespace ptx
}  // namespace moe::simt
