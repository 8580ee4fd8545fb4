#include "ptx/mma.cuh"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "core/formats/dequantize.h"

namespace moe::simt::machine {

namespace {

constexpr unsigned kRows = 16;
constexpr unsigned kColumns = 8;

// The columns of a row of B or D, as a vector.
typedef float FloatRow __attribute__((vector_size(kColumns * sizeof(float))));
typedef uint32_t IntegerRow __attribute__((vector_size(kColumns * sizeof(uint32_t))));

// D += A B, one product after the other.
template <unsigned kDepth, class Sum, class Row>
void add_in_order(const Sum (&a)[kRows][kDepth], const Row (&b)[kDepth], Row (&d)[kRows]) {
  // Several rows at a time, since the sums of one row depend on each other.
  constexpr unsigned kTogether = 4;
  for (unsigned row = 0; row < kRows; row += kTogether) {
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
void add_aligned(const float (&a)[kRows][kDepth], const FloatRow (&b)[kDepth], FloatRow (&d)[kRows]) {
  constexpr uint32_t kExponent = 0x7f800000u, kBits = 13u << 23, kDropped = (1u << (23 - 13)) - 1;
  for (unsigned row = 0; row < kRows; ++row) {
    FloatRow terms[kDepth + 1];
    terms[kDepth] = d[row];
    FloatRow sum = d[row];
    for (unsigned k = 0; k < kDepth; ++k) sum += terms[k] = a[row][k] * b[k];
    for (unsigned column = 0; column < kColumns; ++column) {
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

// `kRegisters` of B, and twice as many of A.
template <class Element, unsigned kRegisters = 2>
void multiply_add(const Call&, uint32_t, void* const* operands) {
  using Sum = typename Element::Sum;
  constexpr unsigned kPer = Element::kPerRegister;
  constexpr unsigned kDepth = 4 * kPer * kRegisters;
  using Row = typename Element::Row;
  Sum a[kRows][kDepth];
  Row b[kDepth], d[kRows];

  for (unsigned lane = 0; lane < 32; ++lane) {
    const MmaOperand& operand = *static_cast<const MmaOperand*>(operands[lane]);
    const Sum* sums = static_cast<const Sum*>(operand.d);
    const unsigned g = lane / 4, t = lane % 4;
    for (unsigned r = 0; r < 2 * kRegisters; ++r) {
      for (unsigned i = 0; i < kPer; ++i) {
        a[g + 8 * (r % 2)][kPer * t + 4 * kPer * (r / 2) + i] = Element::value(operand.a[r], i);
      }
    }
    for (unsigned r = 0; r < 4; ++r) d[g + 8 * (r / 2)][2 * t + r % 2] = sums[r];
    for (unsigned r = 0; r < kRegisters; ++r) {
      for (unsigned i = 0; i < kPer; ++i) b[kPer * t + 4 * kPer * r + i][g] = Element::value(operand.b[r], i);
    }
  }

  if constexpr (std::is_same_v<Element, E4M3>) {
    add_aligned(a, b, d);
  } else {
    add_in_order(a, b, d);
  }

  for (unsigned lane = 0; lane < 32; ++lane) {
    Sum* sums = static_cast<Sum*>(static_cast<const MmaOperand*>(operands[lane])->d);
    const unsigned g = lane / 4, t = lane % 4;
    for (unsigned r = 0; r < 4; ++r) sums[r] = d[g + 8 * (r / 2)][2 * t + r % 2];
  }
}

}  // namespace

const Collective kMmaBf16{"mma_m16n8k16_bf16", true, false, multiply_add<Bf16>};
const Collective kMmaF16{"mma_m16n8k16_f16", true, false, multiply_add<F16>};
const Collective kMmaTf32{"mma_m16n8k8_tf32", true, false, multiply_add<Tf32>};
const Collective kMmaS8{"mma_m16n8k32_s8", true, false, multiply_add<S8>};
const Collective kMmaS8K16{"mma_m16n8k16_s8", true, false, multiply_add<S8, 1>};
const Collective kMmaE4M3{"mma_m16n8k32_e4m3", true, false, multiply_add<E4M3>};

}  // namespace moe::simt::machine
