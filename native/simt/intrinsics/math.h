// Arithmetic intrinsics.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace moe::simt {

inline int __popc(unsigned value) { return std::popcount(value); }
inline int __popcll(unsigned long long value) { return std::popcount(value); }
// The position of the lowest set bit, counted from 1; 0 if there is none.
inline int __ffs(int value) { return value == 0 ? 0 : std::countr_zero(static_cast<unsigned>(value)) + 1; }
inline int __clz(int value) { return std::countl_zero(static_cast<unsigned>(value)); }
inline unsigned __brev(unsigned value) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (value >> bit & 1u) << (31 - bit);
  return reversed;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }

inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

// x * y + z, rounded once. Where the compiler may not use the instruction, the library's function is a call, so it is
// used only when needed: float64 holds the product exactly, and its sum rounds to the right float unless it is halfway
// between two floats or subnormal, where halfway points differ.
inline float fmaf(float x, float y, float z) {
  const double sum = static_cast<double>(x) * y + z;
  const bool halfway = (std::bit_cast<uint64_t>(sum) & 0x1fffffff) == 0x10000000;
  const bool subnormal = std::abs(sum) < 0x1p-126 && sum != 0.0;
  return halfway || subnormal ? std::fma(x, y, z) : static_cast<float>(sum);
}

// Mixed operands get the usual arithmetic conversions, as in C.
template <class A, class B>
  requires std::is_arithmetic_v<A> && std::is_arithmetic_v<B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <class A, class B>
  requires std::is_arithmetic_v<A> && std::is_arithmetic_v<B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}

}  // namespace moe::simt
