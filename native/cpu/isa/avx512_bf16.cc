// AVX-512 with BF16: products of bfloat16 pairs by vdpbf16ps. isa.cc adds them to AVX-512's.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <span>
#include <type_traits>
#include <utility>

#include "cpu/gemm/panel_codes.h"
#include "cpu/isa/isa.h"

#define MOE_TARGET "avx2,bmi,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512bf16"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::avx512_bf16 {

#include "cpu/isa/vector_avx512.h"
constexpr int kTileRows = 14;
#include "cpu/isa/template/products.h"

template <int rows>
inline void multiply_pairs(const bf16* x, const __m512bh (&w)[kPanelVectors], Sums<rows>& sums) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    int32_t pair;
    std::memcpy(&pair, x + 2 * r, sizeof pair);
    const __m512bh value = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) sums[r][j].v = _mm512_dpbf16_ps(sums[r][j].v, value, w[j]);
  }
}

struct DotWeight {
  using Value = bf16;
  static constexpr int step = 2;
  static constexpr int bytes = 2 * kPanelColumns * sizeof(bf16);

  template <int rows>
  static void multiply(const Value* x, const char* panel, Sums<rows>& sums) {
    __m512bh w[kPanelVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[j] = (__m512bh)_mm512_loadu_si512(panel + 4 * j * kWidth);
    multiply_pairs<rows>(x, w, sums);
  }
};

// Codes in pairs of bfloat16 of consecutive k, which represents them exactly.
struct PairProducts {
  using Value = bf16;
  static constexpr int group = 2;

  template <class Codes, int rows, int k>
  static void multiply(const Codes& codes, const typename Codes::Bits (&bits)[kPanelVectors], const Value* x,
                       Sums<rows>& sums) {
    const __m512bh w[kPanelVectors] = {(__m512bh)__m512i(codes.template pair<k>(bits[0]).v),
                                       (__m512bh)__m512i(codes.template pair<k>(bits[1]).v)};
    multiply_pairs<rows>(x, w, sums);
  }
  template <class Codes, int k>
  static void unpack(const Codes& codes, const typename Codes::Bits& bits, char* target) {
    codes.template pair<k>(bits).store(target);
  }
};

#include "cpu/isa/bytes_vbmi.h"

// A row for quantised weights, multiplied in pairs. Codes that are not cut into planes are cheap to read.
template <class Codes>
constexpr GemmKernel coded_pair_kernel(const char* name, bool (*takes)(const WeightFormat&), const char* formats) {
  using OfManyRows = typename CodesFor<Codes, kTileRows>::type;
  return {.name = name,
          .tokens = tokens_of(DType::bf16),
          .arithmetic = Arithmetic::bf16_pairs,
          .takes = takes,
          .formats = formats,
          .panels = coded_panels,
          .numbers = "exact products with codes, two at a time summed in float32 and scaled, 16 to 128 k at a time",
          .max_rows = kTileRows,
          .tile = coded_tiles<PairProducts, Codes>(),
          .sum_segments = sum_values<bf16, 2>,
          .unpacked = unpacked_values<PairProducts, OfManyRows>(upper_bits(OfManyRows::bits) == 0,
                                                                tiles_in_parts<CodedPart<PairProducts>>())};
}

// More rows are slower with lookups.
using IntegerPairs = CodesByRows<BytePairs<SignedByte>, PairsOf<ByteCodes>, 3>;
using E4M3Floats = CodesByRows<ByteFloats<E4M3Byte>, E4M3Codes, 10>;

constexpr std::array kPairGemm = {
    gemm_kernel<DotWeight>({.name = "bf16_pairs",
                            .tokens = tokens_of(DType::bf16),
                            .arithmetic = Arithmetic::bf16_pairs,
                            .takes = takes_code<CodeType::bf16>,
                            .formats = "bf16",
                            .panels = bf16_panels,
                            .numbers = "exact products, two at a time added to float32 sums"}),
    coded_pair_kernel<LookedUpCodes<PlacedIndices<2>>>("i2_pairs", takes_integers<2>, "i2, u2"),
    coded_pair_kernel<LookedUpCodes<PlacedIndices<3>>>("i3_pairs", takes_integers<3>, "i3, u3"),
    coded_pair_kernel<LookedUpCodes<PlacedIndices<4>>>("i4_pairs", takes_integers<4>, "i4, u4"),
    coded_pair_kernel<LookedUpCodes<PlacedIndices<5>>>("i5_pairs", takes_integers<5>, "i5, u5"),
    coded_pair_kernel<LookedUpCodes<PlacedIndices<6>>>("i6_pairs", takes_integers<6>, "i6, u6"),
    coded_pair_kernel<IntegerPairs>("i8_pairs", takes_integers<8>, "i8, u8"),
    coded_pair_kernel<BytePairs<E4M3Byte>>("e4m3_pairs", takes_code<CodeType::e4m3>, "e4m3"),
    coded_pair_kernel<LookedUpCodes<PlacedIndices<4>>>("integer_table_pairs", takes_integer_table<4>, "e2m1, iq3, iq4"),
    coded_pair_kernel<LookedUpCodes<PlacedIndices<3>>>("narrow_table_pairs", takes_integer_table<3>, "iq1, iq2"),
    coded_kernel<E4M3Floats>("e4m3", takes_code<CodeType::e4m3>, "e4m3"),
};
constexpr auto kRows = joined(kExtensionGemm, kPairGemm);

const std::span<const GemmKernel> kGemm = kRows;
const PeakLoop kPeak = peak_loop<DotWeight>();

}  // namespace moe::cpu::avx512_bf16
#include "cpu/isa/target_end.h"
