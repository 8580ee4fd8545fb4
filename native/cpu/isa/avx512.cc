// AVX-512 F, BW, DQ and VL.
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
#include "cpu/isa/tiles/model_registers.h"

#define MOE_TARGET "avx2,bmi,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::avx512 {

#include "cpu/isa/vector_avx512.h"
constexpr int kTileRows = 14;
#include "cpu/isa/template/kernels.h"

// As in vector_avx2.h.
struct ByteProducts {
  static constexpr bool signed_bytes = true;
  template <int largest>
  static constexpr int at_once = largest < 64 ? 32767 / (2 * 128 * largest) : 1;

  template <int largest>
  static __m512i pairs(Words w, Words x) {
    if constexpr (largest < 64) return _mm512_maddubs_epi16(w.v, x.v);
    const __m512i with_sign = _mm512_mask_sub_epi8(x.v, _mm512_movepi8_mask(w.v), _mm512_setzero_si512(), x.v);
    return _mm512_maddubs_epi16(_mm512_abs_epi8(w.v), with_sign);
  }
  template <int largest, size_t n>
  static Words add(Words sum, const Words (&w)[n], const Words (&x)[n]) {
    __m512i all = pairs<largest>(w[0], x[0]);
#pragma GCC unroll 4
    for (size_t i = 1; i < n; ++i) all = _mm512_add_epi16(all, pairs<largest>(w[i], x[i]));
    return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(all, _mm512_set1_epi16(1)))};
  }
};

constexpr auto kGemm = joined(kExtensionGemm, kIntegerGemm<ByteProducts>, kCommonGemm);

const Kernels kKernels = make_kernels("avx512", "AVX-512 F, BW, DQ and VL", kGemm, integer_peak_loop<ByteProducts>());

#include "cpu/isa/template/amx/model.h"

}  // namespace moe::cpu::avx512
#include "cpu/isa/target_end.h"
