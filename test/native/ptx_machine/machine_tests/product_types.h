// The elements of matrix products, and where lanes hold them. PTX ISA, "Matrix Fragments for mma".
#pragma once

#include "support.h"

namespace ptx_machine::test {

struct ProductType {
  std::string name, sum;
  unsigned bits;  // of an element
  unsigned depth;
  int exponent_bits, mantissa_bits;  // 0: an integer

  // The code of a small integer.
  uint32_t code(int value) const {
    if (exponent_bits == 0) return static_cast<uint32_t>(value) & 0xff;
    if (value == 0) return 0;
    int exponent = 0;
    const double fraction = std::frexp(std::abs(value), &exponent);
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const auto mantissa = static_cast<uint32_t>(std::ldexp(2 * fraction - 1, mantissa_bits));
    const uint32_t sign = value < 0 ? 1u << (exponent_bits + mantissa_bits) : 0;
    // tf32 is in the upper bits of 32.
    return (sign | static_cast<uint32_t>(exponent - 1 + bias) << mantissa_bits | mantissa) << (bits == 32 ? 13 : 0);
  }
  unsigned per_register() const { return 32 / bits; }
  // The sums, as the results of the machine.
  uint32_t sum_code(int value) const {
    return exponent_bits == 0 ? static_cast<uint32_t>(value) : std::bit_cast<uint32_t>(static_cast<float>(value));
  }
};

inline const ProductType kBf16{"bf16", "f32", 16, 16, 8, 7};
inline const ProductType kF16{"f16", "f32", 16, 16, 5, 10};
inline const ProductType kTf32{"tf32", "f32", 32, 8, 8, 10};
inline const ProductType kE4M3{"e4m3", "f32", 8, 32, 4, 3};
inline const ProductType kS8{"s8", "s32", 8, 32, 0, 0};
inline const ProductType kS8Half{"s8", "s32", 8, 16, 0, 0};

// A matrix of small integers, of which sums are exact in all orders.
struct Matrix {
  unsigned rows, columns;
  std::vector<int> values;

  Matrix(unsigned r, unsigned c, uint64_t seed, int most = 3) : rows(r), columns(c) {
    Bits bits(seed);
    for (unsigned i = 0; i < r * c; ++i)
      values.push_back(static_cast<int>((bits.next() >> 20) % (2 * static_cast<uint64_t>(most) + 1)) - most);
  }
  int at(unsigned row, unsigned column) const { return values[row * columns + column]; }
};

// Element i of a lane's registers of A: its row and its place in K.
inline std::pair<unsigned, unsigned> a_element(const ProductType& type, unsigned lane, unsigned i) {
  const unsigned group = lane / 4, thread = lane % 4;
  if (type.bits == 32) return {i % 2 == 0 ? group : group + 8, i < 2 ? thread : thread + 4};
  if (type.bits == 16) {
    return {i < 2 || (i >= 4 && i < 6) ? group : group + 8, thread * 2 + i % 2 + (i < 4 ? 0 : 8)};
  }
  if (type.depth == 16) return {i < 4 ? group : group + 8, thread * 4 + i % 4};
  return {i < 4 || (i >= 8 && i < 12) ? group : group + 8, thread * 4 + i % 4 + (i < 8 ? 0 : 16)};
}

// Element i of B: its place in K and its column.
inline std::pair<unsigned, unsigned> b_element(const ProductType& type, unsigned lane, unsigned i) {
  const unsigned group = lane / 4, thread = lane % 4;
  if (type.bits == 16) return {thread * 2 + i % 2 + (i < 2 ? 0 : 8), group};
  if (type.bits == 32) return {i == 0 ? thread : thread + 4, group};
  return {thread * 4 + i % 4 + (i < 4 ? 0 : 16), group};
}

// Sum i: its row and column.
inline std::pair<unsigned, unsigned> sum_element(unsigned lane, unsigned i) {
  return {lane / 4 + (i % 4 < 2 ? 0 : 8), lane % 4 * 2 + i % 2 + i / 4 * 8};
}

// A lane's registers of A, for the rows of a warp.
inline std::vector<uint32_t> a_registers(const ProductType& type, const Matrix& a, unsigned first_row, unsigned lane) {
  std::vector<uint32_t> registers(16 * type.depth / 32 / type.per_register());
  for (unsigned i = 0; i < registers.size() * type.per_register(); ++i) {
    const auto [row, k] = a_element(type, lane, i);
    registers[i / type.per_register()] |= type.code(a.at(first_row + row, k)) << type.bits * (i % type.per_register());
  }
  return registers;
}

inline int product_at(const Matrix& a, const Matrix& b, unsigned row, unsigned column) {
  int sum = 0;
  for (unsigned k = 0; k < a.columns; ++k) sum += a.at(row, k) * b.at(k, column);
  return sum;
}

}  // namespace ptx_machine::test
