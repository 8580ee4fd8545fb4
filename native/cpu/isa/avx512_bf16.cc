// AVX-512 with BF16: products of bfloat16 pairs by vdpbf16ps.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <span>
#include <type_traits>
#include <utility>

#include "cpu/gemm/panel_codes.h"
#include "cpu/isa/isa.h"

#define MOE_TARGET "avx2,bmi,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::avx512_bf16 {

#include "cpu/isa/vector_avx512.h"
constexpr int kTileRows = 14;
#include "cpu/isa/template/kernels.h"

struct DotWeight {
  using Value = bf16;
  static constexpr int step = 2;
  static constexpr int bytes = 2 * kPanelColumns * sizeof(bf16);

  template <int rows>
  static void multiply(const Value* x, const char* panel, Sums<rows>& sums) {
    __m512bh w[kPanelVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[j] = (__m512bh)_mm512_loadu_si512(panel + 4 * j * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      int32_t pair;
      std::memcpy(&pair, x + 2 * r, sizeof pair);
      const __m512bh value = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
      for (int j = 0; j < kPanelVectors; ++j) sums[r][j].v = _mm512_dpbf16_ps(sums[r][j].v, value, w[j]);
    }
  }
};

constexpr std::array kPairGemm = {
    gemm_kernel<DotWeight>({.name = "bf16_pairs",
                            .tokens = tokens_of(DType::bf16),
                            .arithmetic = Arithmetic::bf16_pairs,
                            .takes = takes_code<CodeType::bf16>,
                            .formats = "bf16",
                            .panels = bf16_panels,
                            .numbers = "exact products, two at a time added to float32 sums"}),
};
constexpr auto kGemm = joined(kExtensionGemm, kPairGemm, kCommonGemm);

const Kernels kKernels = make_kernels("avx512_bf16", "AVX-512 F, BW, DQ, VL and BF16", kGemm, peak_loop<DotWeight>());

}  // namespace moe::cpu::avx512_bf16
#include "cpu/isa/target_end.h"
