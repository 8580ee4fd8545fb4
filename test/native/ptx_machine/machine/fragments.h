// The matrices of tensor cores as a warp's registers hold them. PTX ISA, "Matrix Fragments for mma".
#pragma once

#include <bit>
#include <type_traits>

#include "gpu/target/simt/ptx/products.h"
#include "warp.h"

namespace ptx_machine {

// Elements and sums are those of `simt`.
using moe::simt::machine::Bf16;
using moe::simt::machine::E4M3;
using moe::simt::machine::F16;
using moe::simt::machine::multiply_add;
using moe::simt::machine::S8;
using moe::simt::machine::Tf32;

constexpr unsigned kRows = 16, kColumns = 8;

// With g = lane / 4 and t = lane % 4, register j of A has row g + 8 (j % 2), and begins at element t of the half j / 2
// of K, in registers.
template <class Element, unsigned kDepth>
void read_a(Warp& warp, const uint32_t* registers, typename Element::Sum (&a)[kRows][kDepth]) {
  constexpr unsigned kEach = Element::kPerRegister;
  for (unsigned j = 0; j < kDepth / (4 * kEach) * 2; ++j) {
    const uint32_t* values = warp.at<uint32_t>(registers[j]);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const unsigned row = lane / 4 + 8 * (j % 2), k = kEach * (lane % 4 + 4 * (j / 2));
      for (unsigned i = 0; i < kEach; ++i) a[row][k + i] = Element::value(values[lane], i);
    }
  }
}

// Register j of B has column g, at the same places of K.
template <class Element, unsigned kDepth>
void read_b(Warp& warp, const uint32_t* registers, typename Element::Row (&b)[kDepth]) {
  constexpr unsigned kEach = Element::kPerRegister;
  for (unsigned j = 0; j < kDepth / (4 * kEach); ++j) {
    const uint32_t* values = warp.at<uint32_t>(registers[j]);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const unsigned column = lane / 4, k = kEach * (lane % 4 + 4 * j);
      for (unsigned i = 0; i < kEach; ++i) b[k + i][column] = Element::value(values[lane], i);
    }
  }
}

// Register j of the sums has row g + 8 (j / 2) and column 2 t + j % 2.
// values(j) are those of its 32 lanes.
template <class Body>
void for_sums(Body&& body) {
  for (unsigned j = 0; j < 4; ++j) {
    for (unsigned lane = 0; lane < kLanes; ++lane) body(j, lane, lane / 4 + 8 * (j / 2), lane % 4 * 2 + j % 2);
  }
}
template <class Row, class Values>
void read_sums(Values&& values, Row (&d)[kRows]) {
  using Sum = std::remove_cvref_t<decltype(d[0][0])>;
  for_sums([&](unsigned j, unsigned lane, unsigned row, unsigned column) {
    d[row][column] = std::bit_cast<Sum>(values(j)[lane]);
  });
}
template <class Row, class Values>
void write_sums(Values&& values, const Row (&d)[kRows]) {
  for_sums([&](unsigned j, unsigned lane, unsigned row, unsigned column) {
    values(j)[lane] = std::bit_cast<uint32_t>(d[row][column]);
  });
}

}  // namespace ptx_machine
