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

// Two products fit into 16 bits: of w below 64, and of magnitudes up to 128 and 127.
struct ByteProducts {
  static constexpr bool signed_bytes = true;
  template <bool small>
  static Words add(Words sum, Words w, Words x) {
    __m512i pairs;
    if constexpr (small) {
      pairs = _mm512_maddubs_epi16(w.v, x.v);
    } else {
      const __m512i with_sign = _mm512_mask_sub_epi8(x.v, _mm512_movepi8_mask(w.v), _mm512_setzero_si512(), x.v);
      pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w.v), with_sign);
    }
    return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
  }
};

constexpr auto kGemm = joined(kExtensionGemm, kIntegerGemm<ByteProducts>, kCommonGemm);

const Kernels kKernels = make_kernels("avx512", "AVX-512 F, BW, DQ and VL", kGemm, integer_peak_loop<ByteProducts>());

#include "cpu/isa/template/amx/model.h"

}  // namespace moe::cpu::avx512
#include "cpu/isa/target_end.h"
