// Arithmetic intrinsics. CUDA's fast approximations are the precise functions of <cmath> here.
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
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }

// x * y + z, rounded once. Where the compiler may not use the instruction, the library's function is a call, so it is
// used only when needed: float64 holds the product exactly, and its sum rounds to the right float unless it is halfway
// between two floats or subnormal, where halfway points differ.
inline float fmaf(float x, float y, float z) {
  const double sum = static_cast<double>(x) * y + z;
  const bool halfway = (std::bit_cast<uint64_t>(sum) & 0x1fffffff) == 0x10000000;
  const bool subnormal = std::abs(sum) < 0x1p-126 && sum != 0.0;
  return halfway || subnormal ? std::fma(x, y, z) : static_cast<float>(sum);
}

inline float __expf(float x) { return std::exp(x); }
inline float __exp10f(float x) { return std::pow(10.0f, x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

template <class T>
T __ldg(const T* address) {
  return *address;
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
