// Products of tensor cores' elements, as mma and wgmma add them: D[16, 8] += A[16, K] B[K, 8].
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "core/formats/dequantize.h"

namespace moe::simt::machine {

inline constexpr unsigned kProductRows = 16;
inline constexpr unsigned kProductColumns = 8;

// The columns of a row of B or D, as a vector.
typedef float FloatRow __attribute__((vector_size(kProductColumns * sizeof(float))));
typedef uint32_t IntegerRow __attribute__((vector_size(kProductColumns * sizeof(uint32_t))));

// D += A B, one product after the other.
template <unsigned kDepth, class Sum, class Row>
void add_in_order(const Sum (&a)[kProductRows][kDepth], const Row (&b)[kDepth], Row (&d)[kProductRows]) {
  // Several rows at a time, since the sums of one row depend on each other.
  constexpr unsigned kTogether = 4;
  for (unsigned row = 0; row < kProductRows; row += kTogether) {
    Row sums[kTogether];
    for (unsigned i = 0; i < kTogether; ++i) sums[i] = d[row + i];
    for (unsigned k = 0; k < kDepth; ++k) {
      for (unsigned i = 0; i < kTogether; ++i) sums[i] += a[row + i][k] * b[k];
    }
    for (unsigned i = 0; i < kTogether; ++i) d[row + i] = sums[i];
  }
}

// D += A B, in whole multiples of a unit: 2^-13 of the leading bit of the largest term. Sums keep 13 bits behind their
// own leading bit. All that is less is dropped.
template <unsigned kDepth>
void add_aligned(const float (&a)[kProductRows][kDepth], const FloatRow (&b)[kDepth], FloatRow (&d)[kProductRows]) {
  constexpr uint32_t kExponent = 0x7f800000u, kBits = 13u << 23, kDropped = (1u << (23 - 13)) - 1;
  for (unsigned row = 0; row < kProductRows; ++row) {
    FloatRow terms[kDepth + 1];
    terms[kDepth] = d[row];
    FloatRow sum = d[row];
    for (unsigned k = 0; k < kDepth; ++k) sum += terms[k] = a[row][k] * b[k];
    for (unsigned column = 0; column < kProductColumns; ++column) {
      uint32_t largest = 0;
      for (const FloatRow& term : terms) largest = std::max(largest, float_bits(term[column]) & ~0x80000000u);
      const uint32_t exponent = largest & kExponent;
      // NaN and infinity, which are in the sum, and terms that e4m3 does not have.
      if (exponent == kExponent || exponent <= kBits) continue;
      const float unit = float_from_bits(exponent - kBits), units = 1.0f / unit;
      int32_t whole = 0;
      for (const FloatRow& term : terms) whole += static_cast<int32_t>(term[column] * units);
      sum[column] = float_from_bits(float_bits(static_cast<float>(whole) * unit) & ~kDropped);
    }
    d[row] = sum;
  }
}

// The element types: elements per register, and the value of element `index`.
struct Bf16 {
  using Sum = float;
  using Row = FloatRow;
  static constexpr unsigned kPerRegister = 2;
  static float value(uint32_t bits, unsigned index) {
    return std::bit_cast<float>(index == 0 ? bits << 16 : bits & 0xffff0000u);
  }
};

struct F16 {
  using Sum = float;
  using Row = FloatRow;
  static constexpr unsigned kPerRegister = 2;
  // Moves exponent and mantissa to their places in a float32, then corrects the exponent's bias by an exact product,
  // which also normalises subnormals. Branch-free, unlike moe::f16's conversion: this is the inner loop.
  static float value(uint32_t bits, unsigned index) {
    const uint32_t half = bits >> (16 * index);
    const uint32_t magnitude = (half & 0x7fffu) << 13;
    const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
    const uint32_t finite = magnitude < 0x0f800000u ? scaled : magnitude | 0x7f800000u;
    return std::bit_cast<float>(finite | (half & 0x8000u) << 16);
  }
};

struct Tf32 {
  using Sum = float;
  using Row = FloatRow;
  static constexpr unsigned kPerRegister = 1;
  static float value(uint32_t bits, unsigned) { return std::bit_cast<float>(bits & ~0x1fffu); }
};

struct S8 {
  using Sum = uint32_t;  // sums int32, wrapping
  using Row = IntegerRow;
  static constexpr unsigned kPerRegister = 4;
  static uint32_t value(uint32_t bits, unsigned index) {
    return static_cast<uint32_t>(static_cast<int8_t>(bits >> (8 * index)));
  }
};

struct E4M3 {
  using Sum = float;
  using Row = FloatRow;
  static constexpr unsigned kPerRegister = 4;
  static float value(uint32_t bits, unsigned index) { return from_e4m3(bits >> (8 * index) & 0xffu); }
};

// By the type of the elements.
template <class Element, unsigned kDepth, class Row>
void multiply_add(const typename Element::Sum (&a)[kProductRows][kDepth], const Row (&b)[kDepth],
                  Row (&d)[kProductRows]) {
  if constexpr (std::is_same_v<Element, E4M3>) {
    add_aligned(a, b, d);
  } else {
    add_in_order(a, b, d);
  }
}

}  // namespace moe::simt::machine
