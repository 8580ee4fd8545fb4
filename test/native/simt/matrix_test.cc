// ldmatrix, stmatrix and mma.sync: checks where each lane's registers are in the matrices against tables, and the
// products against plain loops over whole matrices.
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "core/formats/quantize.h"
#include "ptx/ldmatrix.cuh"
#include "ptx/mma.cuh"
#include "run.h"

namespace moe::simt::test {

namespace {

struct Place {
  int row, column;
};

// Matrix elements are numbered: matrix 1000, row 10, column 1.
constexpr uint16_t element_number(int matrix, int row, int column) {
  return static_cast<uint16_t>(1000 * matrix + 10 * row + column);
}

struct Loaded {
  uint32_t x4[4], x4_trans[4], x2[2], x2_trans[2];
};

// Every row of every matrix starts at a place of its own.
constexpr int row_offset(int matrix, int row) { return 8 * ((row * 5 + matrix * 3) % 8 + 8 * matrix); }

__global__ void ldmatrix_kernel(Loaded* out) {
  uint16_t* shared = ptx::dynamic_shared<uint16_t>();
  const int lane = static_cast<int>(threadIdx.x);
  for (int c = 0; c < 8; ++c) shared[row_offset(lane / 8, lane % 8) + c] = element_number(lane / 8, lane % 8, c);
  __syncwarp();
  const uint16_t* row = shared + row_offset(lane / 8, lane % 8);
  // x2 ignores the addresses from the other lanes.
  const void* row_or_nothing = lane < 16 ? row : nullptr;
  ptx::ldmatrix_x4(out[lane].x4, row);
  ptx::ldmatrix_x4_trans(out[lane].x4_trans, row);
  ptx::ldmatrix_x2(out[lane].x2, row_or_nothing);
  ptx::ldmatrix_x2_trans(out[lane].x2_trans, row_or_nothing);
}

// The first of the two elements that a lane's register of an 8x8 matrix holds: PTX ISA, "ldmatrix", fragment layout.
constexpr std::array<Place, 32> kMatrixPlaces = {{
    {0, 0}, {0, 2}, {0, 4}, {0, 6}, {1, 0}, {1, 2}, {1, 4}, {1, 6}, {2, 0}, {2, 2}, {2, 4},
    {2, 6}, {3, 0}, {3, 2}, {3, 4}, {3, 6}, {4, 0}, {4, 2}, {4, 4}, {4, 6}, {5, 0}, {5, 2},
    {5, 4}, {5, 6}, {6, 0}, {6, 2}, {6, 4}, {6, 6}, {7, 0}, {7, 2}, {7, 4}, {7, 6},
}};

MOE_TEST(ldmatrix_gives_each_lane_its_two_elements) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::array<Loaded, 32> out;
    run(ldmatrix_kernel, 1, 32, 512, with(seed), out.data());
    for (size_t lane = 0; lane < 32; ++lane) {
      const auto [row, column] = kMatrixPlaces[lane];
      for (int m = 0; m < 4; ++m) {
        const uint32_t plain =
            element_number(m, row, column) | static_cast<uint32_t>(element_number(m, row, column + 1)) << 16;
        const uint32_t transposed =
            element_number(m, column, row) | static_cast<uint32_t>(element_number(m, column + 1, row)) << 16;
        MOE_CHECK_EQUAL(out[lane].x4[m], plain);
        MOE_CHECK_EQUAL(out[lane].x4_trans[m], transposed);
        if (m < 2) {
          MOE_CHECK_EQUAL(out[lane].x2[m], plain);
          MOE_CHECK_EQUAL(out[lane].x2_trans[m], transposed);
        }
      }
    }
  }
}

__global__ void stmatrix_kernel(uint16_t* out, int matrices) {
  uint16_t* shared = ptx::dynamic_shared<uint16_t>();
  const int lane = static_cast<int>(threadIdx.x);
  uint16_t* row = shared + row_offset(lane / 8, lane % 8);
  uint32_t registers[4];
  for (int m = 0; m < 4; ++m) {
    const auto [r, c] = kMatrixPlaces[static_cast<size_t>(lane)];
    registers[m] = element_number(m, r, c) | static_cast<uint32_t>(element_number(m, r, c + 1)) << 16;
  }
  if (matrices == 4) {
    ptx::stmatrix_x4(row, registers);
  } else {
    const uint32_t two[2] = {registers[0], registers[1]};
    ptx::stmatrix_x2(lane < 16 ? row : nullptr, two);
  }
  __syncwarp();
  for (int i = lane; i < 256; i += 32) out[i] = shared[i];
}

MOE_TEST(stmatrix_is_the_inverse_of_ldmatrix) {
  for (const int matrices : {2, 4}) {
    std::array<uint16_t, 256> out;
    run(stmatrix_kernel, 1, 32, 512, with(3), out.data(), matrices);
    for (int m = 0; m < 4; ++m) {
      for (int row = 0; row < 8; ++row) {
        for (int column = 0; column < 8; ++column) {
          MOE_CHECK_EQUAL(out[static_cast<size_t>(row_offset(m, row) + column)],
                          m < matrices ? element_number(m, row, column) : 0xffff);
        }
      }
    }
  }
}

// The PTX ISA's "Matrix Fragments for mma.m16n8kN": row and column of the fragment's element `i`, counted through the
// lane's registers, as in its formulas.
struct Layout {
  int depth, per_register;
  Place (*a)(int lane, int i);
  Place (*b)(int lane, int i);
};

// m16n8k16, 16 bits: a0..a7, b0..b3
constexpr Layout kHalf = {16, 2,
                          [](int lane, int i) {
                            const int group = lane >> 2, thread = lane % 4;
                            const int row = (i < 2 || (4 <= i && i < 6)) ? group : group + 8;
                            const int column = i < 4 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8;
                            return Place{row, column};
                          },
                          [](int lane, int i) {
                            const int group = lane >> 2, thread = lane % 4;
                            return Place{i < 2 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8, group};
                          }};

// m16n8k8, tf32: a0..a3, b0, b1
constexpr Layout kTf32 = {8, 1,
                          [](int lane, int i) {
                            const int group = lane >> 2, thread = lane % 4;
                            return Place{i == 0 || i == 2 ? group : group + 8, i == 0 || i == 1 ? thread : thread + 4};
                          },
                          [](int lane, int i) {
                            return Place{i == 0 ? lane % 4 : lane % 4 + 4, lane >> 2};
                          }};

// m16n8k32, 8 bits: a0..a15, b0..b7
constexpr Layout kByte = {32, 4,
                          [](int lane, int i) {
                            const int group = lane >> 2, thread = lane % 4;
                            const int row = (i < 4 || (8 <= i && i < 12)) ? group : group + 8;
                            return Place{row, i < 8 ? thread * 4 + (i & 3) : thread * 4 + (i & 3) + 16};
                          },
                          [](int lane, int i) {
                            const int group = lane >> 2, thread = lane % 4;
                            return Place{i < 4 ? thread * 4 + (i & 3) : thread * 4 + (i & 3) + 16, group};
                          }};

// m16n8k16, 8 bits: a0..a7, b0..b3
constexpr Layout kHalfOfBytes = {16, 4,
                                 [](int lane, int i) {
                                   return Place{i < 4 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 4 + (i & 3)};
                                 },
                                 [](int lane, int i) {
                                   return Place{lane % 4 * 4 + i, lane >> 2};
                                 }};

constexpr Place sum_place(int lane, int i) { return {i < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 1)}; }

struct Fragments {
  uint32_t a[4], b[2];
  uint32_t d[4];
};

enum class Kind { bf16, f16, tf32, s8, s8_k16, e4m3 };

constexpr bool is_integer(Kind kind) { return kind == Kind::s8 || kind == Kind::s8_k16; }

__global__ void mma_kernel(Fragments* fragments, Kind kind) {
  Fragments& own = fragments[blockIdx.x * 32 + threadIdx.x];
  float sums[4];
  int32_t integers[4];
  for (int i = 0; i < 4; ++i) {
    sums[i] = std::bit_cast<float>(own.d[i]);
    integers[i] = static_cast<int32_t>(own.d[i]);
  }
  switch (kind) {
    case Kind::bf16: ptx::mma_m16n8k16_bf16(sums, own.a, own.b); break;
    case Kind::f16: ptx::mma_m16n8k16_f16(sums, own.a, own.b); break;
    case Kind::tf32: ptx::mma_m16n8k8_tf32(sums, own.a, own.b); break;
    case Kind::s8: ptx::mma_m16n8k32_s8(integers, own.a, own.b); break;
    case Kind::s8_k16: {
      const uint32_t a[2] = {own.a[0], own.a[1]}, b[1] = {own.b[0]};
      ptx::mma_m16n8k16_s8(integers, a, b);
      break;
    }
    case Kind::e4m3: ptx::mma_m16n8k32_e4m3(sums, own.a, own.b); break;
  }
  for (int i = 0; i < 4; ++i) {
    own.d[i] = is_integer(kind) ? static_cast<uint32_t>(integers[i]) : std::bit_cast<uint32_t>(sums[i]);
  }
}

// Bits of matrix elements and their values, from a small generator so that the test does not depend on the machine's.
class Numbers {
 public:
  explicit Numbers(uint32_t seed) : state_(seed * 2 + 1) {}
  uint32_t next() { return (state_ = state_ * 1664525u + 1013904223u) >> 8; }
  // Within -2 .. 2, with 7 bits of mantissa or more.
  float real() { return static_cast<float>(static_cast<int>(next() % 1025) - 512) / 256.0f; }

 private:
  uint32_t state_;
};

uint32_t encode(Kind kind, float value) {
  switch (kind) {
    case Kind::bf16: return bf16(value).bits;
    case Kind::f16: return f16(value).bits;
    case Kind::tf32: return ptx::cvt_rna_tf32(value);
    case Kind::e4m3: return to_e4m3(value);
    case Kind::s8:
    case Kind::s8_k16: break;
  }
  return static_cast<uint32_t>(static_cast<int>(value * 60)) & 0xff;
}

double decode(Kind kind, uint32_t bits) {
  switch (kind) {
    case Kind::bf16: return std::bit_cast<float>(bits << 16);
    case Kind::f16: {
      f16 half;
      half.bits = static_cast<uint16_t>(bits);
      return static_cast<float>(half);
    }
    case Kind::tf32: return std::bit_cast<float>(bits);
    case Kind::e4m3: return from_e4m3(bits);
    case Kind::s8:
    case Kind::s8_k16: break;
  }
  return static_cast<int8_t>(bits);
}

void check_product(Kind kind, const Layout& layout, uint32_t seed) {
  Numbers numbers(seed);
  const int depth = layout.depth;
  std::vector<uint32_t> a(static_cast<size_t>(16 * depth)), b(static_cast<size_t>(depth * 8));
  std::array<float, 16 * 8> d;
  for (uint32_t& bits : a) bits = encode(kind, numbers.real());
  for (uint32_t& bits : b) bits = encode(kind, numbers.real());
  for (float& sum : d) sum = std::round(numbers.real() * 100);

  std::array<Fragments, 32> fragments{};
  const int bits = 32 / layout.per_register;
  for (int lane = 0; lane < 32; ++lane) {
    Fragments& own = fragments[static_cast<size_t>(lane)];
    const auto place = [&](uint32_t* registers, int i, uint32_t value) {
      registers[i / layout.per_register] |= value << (bits * (i % layout.per_register));
    };
    for (int i = 0; i < depth / 2; ++i) {
      const Place p = layout.a(lane, i);
      place(own.a, i, a[static_cast<size_t>(p.row * depth + p.column)]);
    }
    for (int i = 0; i < depth / 4; ++i) {
      const Place p = layout.b(lane, i);
      place(own.b, i, b[static_cast<size_t>(p.row * 8 + p.column)]);
    }
    for (int i = 0; i < 4; ++i) {
      const Place p = sum_place(lane, i);
      const float sum = d[static_cast<size_t>(p.row * 8 + p.column)];
      own.d[i] = is_integer(kind) ? static_cast<uint32_t>(static_cast<int32_t>(sum)) : std::bit_cast<uint32_t>(sum);
    }
  }

  run(mma_kernel, 1, 32, 0, with(seed), fragments.data(), kind);

  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const auto [row, column] = sum_place(lane, i);
      double expected = d[static_cast<size_t>(row * 8 + column)], scale = std::abs(expected), largest = scale;
      for (int k = 0; k < depth; ++k) {
        const double product = decode(kind, a[static_cast<size_t>(row * depth + k)]) *
                               decode(kind, b[static_cast<size_t>(k * 8 + column)]);
        expected += product;
        scale += std::abs(product);
        largest = std::max(largest, std::abs(product));
      }
      const uint32_t result = fragments[static_cast<size_t>(lane)].d[i];
      if (is_integer(kind)) {
        MOE_CHECK_EQUAL(static_cast<int32_t>(result), static_cast<int32_t>(expected));
      } else if (kind == Kind::e4m3) {
        // Less than a unit of every term, and of the sum.
        MOE_CHECK(std::abs(std::bit_cast<float>(result) - expected) <= ((depth + 1) * largest + scale) * 0x1p-13);
      } else {
        // One rounding to float32 for each addition.
        MOE_CHECK(std::abs(std::bit_cast<float>(result) - expected) <= (depth + 1) * 0x1p-24 * scale);
      }
    }
  }
}

MOE_TEST(mma_bf16_is_the_matrix_product) {
  for (uint32_t seed = 0; seed < kSeeds; ++seed) check_product(Kind::bf16, kHalf, seed);
}
MOE_TEST(mma_f16_is_the_matrix_product) {
  for (uint32_t seed = 0; seed < kSeeds; ++seed) check_product(Kind::f16, kHalf, seed);
}
MOE_TEST(mma_tf32_is_the_matrix_product) {
  for (uint32_t seed = 0; seed < kSeeds; ++seed) check_product(Kind::tf32, kTf32, seed);
}
MOE_TEST(mma_s8_is_the_matrix_product) {
  for (uint32_t seed = 0; seed < kSeeds; ++seed) check_product(Kind::s8, kByte, seed);
}
MOE_TEST(mma_s8_of_half_the_depth_is_the_matrix_product) {
  for (uint32_t seed = 0; seed < kSeeds; ++seed) check_product(Kind::s8_k16, kHalfOfBytes, seed);
}

MOE_TEST(mma_e4m3_is_the_matrix_product) {
  for (uint32_t seed = 0; seed < kSeeds; ++seed) check_product(Kind::e4m3, kByte, seed);
}

// A times the two halves of the identity, one block per 256 numbers: every finite number of a 16-bit format comes out
// as it went in.
MOE_TEST(mma_takes_every_16_bit_number) {
  constexpr size_t kBlocks = 256;
  for (const Kind kind : {Kind::bf16, Kind::f16}) {
    const auto finite = [&](uint32_t bits) { return std::isfinite(decode(kind, bits)) ? bits : 0; };
    for (const int half : {0, 1}) {
      std::vector<Fragments> fragments(kBlocks * 32);
      for (size_t i = 0; i < fragments.size(); ++i) {
        Fragments& own = fragments[i];
        for (uint32_t r = 0; r < 4; ++r) {
          const uint32_t bits = static_cast<uint32_t>(i) * 8 + 2 * r;
          own.a[r] = finite(bits) | finite(bits + 1) << 16;
        }
        for (int element = 0; element < 4; ++element) {
          const Place p = kHalf.b(static_cast<int>(i % 32), element);
          if (p.row == p.column + 8 * half) own.b[element / 2] |= encode(kind, 1) << (16 * (element % 2));
        }
      }
      run(mma_kernel, kBlocks, 32, 0, with(1), fragments.data(), kind);
      for (size_t block = 0; block < kBlocks; ++block) {
        std::array<float, 16 * 8> product;
        for (int lane = 0; lane < 32; ++lane) {
          for (int i = 0; i < 4; ++i) {
            const Place p = sum_place(lane, i);
            product[static_cast<size_t>(8 * p.row + p.column)] =
                std::bit_cast<float>(fragments[block * 32 + static_cast<size_t>(lane)].d[i]);
          }
        }
        for (int lane = 0; lane < 32; ++lane) {
          for (int i = 0; i < 8; ++i) {
            const Place p = kHalf.a(lane, i);
            if (p.column / 8 != half) continue;
            const uint32_t bits = fragments[block * 32 + static_cast<size_t>(lane)].a[i / 2] >> (16 * (i % 2)) & 0xffff;
            MOE_CHECK_EQUAL(static_cast<double>(product[static_cast<size_t>(8 * p.row + p.column % 8)]),
                            decode(kind, bits));
          }
        }
      }
    }
  }
}

MOE_TEST(mma_spreads_nan_and_infinity_of_f16) {
  std::array<Fragments, 32> fragments{};
  fragments[0].a[0] = 0x7c00;  // row 0, k 0: infinity
  fragments[4].a[0] = 0x7e01;  // row 1, k 0: NaN
  for (auto& own : fragments) own.b[0] = own.b[1] = encode(Kind::f16, 2) * 0x00010001u;
  run(mma_kernel, 1, 32, 0, with(1), fragments.data(), Kind::f16);
  for (size_t lane = 0; lane < 4; ++lane) {
    MOE_CHECK_EQUAL(std::bit_cast<float>(fragments[lane].d[0]), INFINITY);
    MOE_CHECK(std::isnan(std::bit_cast<float>(fragments[lane + 4].d[0])));
    MOE_CHECK_EQUAL(std::bit_cast<float>(fragments[lane + 8].d[0]), 0.0f);
  }
}

// Every number of e4m3 times 1, and NaN, in the first column.
MOE_TEST(mma_takes_every_e4m3) {
  constexpr size_t kBlocks = 16;
  std::vector<Fragments> fragments(kBlocks * 32);
  for (size_t i = 0; i < fragments.size(); i += 4) {
    // Row g of block i / 32 begins with these, and row g + 8.
    fragments[i].a[0] = static_cast<uint32_t>(i / 4 * 2);
    fragments[i].a[1] = static_cast<uint32_t>(i / 4 * 2 + 1);
  }
  for (size_t i = 0; i < fragments.size(); i += 32) fragments[i].b[0] = to_e4m3(1);
  run(mma_kernel, kBlocks, 32, 0, with(1), fragments.data(), Kind::e4m3);
  for (size_t i = 0; i < fragments.size(); i += 4) {
    for (const uint32_t half : {0u, 1u}) {
      const float expected = from_e4m3(static_cast<uint32_t>(i / 4 * 2) + half);
      const float result = std::bit_cast<float>(fragments[i].d[2 * half]);
      MOE_CHECK(result == expected || (std::isnan(result) && std::isnan(expected)));
    }
  }
}

MOE_TEST(mma_e4m3_drops_what_lies_14_bits_below_the_largest_term) {
  const auto sum = [](float first, float second, float before) {
    std::array<Fragments, 32> fragments{};
    fragments[0].a[0] = to_e4m3(first) | to_e4m3(second) << 8;
    fragments[0].b[0] = to_e4m3(256) | to_e4m3(1) << 8;
    fragments[0].d[0] = std::bit_cast<uint32_t>(before);
    run(mma_kernel, 1, 32, 0, with(1), fragments.data(), Kind::e4m3);
    return std::bit_cast<float>(fragments[0].d[0]);
  };
  MOE_CHECK_EQUAL(sum(1, 0x1p-5f, 0), 256 + 0x1p-5f);
  MOE_CHECK_EQUAL(sum(1, 0x1p-6f, 0), 256.0f);
  MOE_CHECK_EQUAL(sum(1, -0x1p-6f, 0), 256.0f);
  MOE_CHECK_EQUAL(sum(1, 0, 0x1.fp-6f), 256.0f);
  // The sum of two has a bit more, which it does not keep.
  MOE_CHECK_EQUAL(sum(1, 0x1p-5f, 256), 512.0f);
  MOE_CHECK_EQUAL(sum(1, 0x1p-4f, 256), 512 + 0x1p-4f);
  MOE_CHECK_EQUAL(sum(0, 0, 0x1.fffffep20f), 0x1.fff8p20f);
  MOE_CHECK_EQUAL(sum(0, 0, 0), 0.0f);
  MOE_CHECK_EQUAL(sum(1, 1, INFINITY), INFINITY);
}

MOE_TEST(mma_s8_sums_wrap) {
  std::array<Fragments, 32> fragments{};
  for (auto& own : fragments) {
    for (uint32_t& bits : own.a) bits = 0x80808080u;
    for (uint32_t& bits : own.b) bits = 0x80808080u;
    for (uint32_t& sum : own.d) sum = 0x7fffffffu;
  }
  run(mma_kernel, 1, 32, 0, with(1), fragments.data(), Kind::s8);
  for (const auto& own : fragments) MOE_CHECK_EQUAL(own.d[3], 0x7fffffffu + 32u * 128u * 128u);
}

MOE_TEST(cvt_rna_tf32_rounds_ties_away_from_zero) {
  const auto rounded = [](float value) { return std::bit_cast<float>(ptx::cvt_rna_tf32(value)); };
  MOE_CHECK_EQUAL(rounded(1.0f), 1.0f);
  MOE_CHECK_EQUAL(rounded(1.0f + 0x1p-11f), 1.0f + 0x1p-10f);
  MOE_CHECK_EQUAL(rounded(-1.0f - 0x1p-11f), -1.0f - 0x1p-10f);
  MOE_CHECK_EQUAL(rounded(1.0f + 0x1p-11f - 0x1p-23f), 1.0f);
  MOE_CHECK_EQUAL(rounded(INFINITY), INFINITY);
  MOE_CHECK(std::isnan(rounded(NAN)));
}

}  // namespace

}  // namespace moe::simt::test
