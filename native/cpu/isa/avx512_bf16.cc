// AVX-512 with BF16: products of bfloat16 pairs by vdpbf16ps.
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <utility>

#include "cpu/isa/isa.h"

#define MOE_TARGET "avx2,bmi,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::avx512_bf16 {

#include "cpu/isa/vector_avx512.h"
constexpr int kTileRows = 14;
#include "cpu/isa/template/kernels.h"

struct DotWeight {
  using Weight = bf16;
  using Value = bf16;
  static constexpr int group = 2;

  template <int rows>
  static void step(const Value* x, const Weight* weight, Sums<rows>& sums) {
    __m512bh w[kPanelVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[j] = (__m512bh)_mm512_loadu_si512(weight + 2 * j * kWidth);
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

constexpr TileKernels kPairs = tiles<DotWeight>(Arithmetic::bf16_pairs);

const Kernels kKernels = make_kernels("avx512_bf16", &kPairs, peak_loop<DotWeight>());

}  // namespace moe::cpu::avx512_bf16
#include "cpu/isa/target_end.h"
