// AVX-VNNI's products of bytes on a model of vpdpbusd, for CPUs without it.
#include "extension/cpu/avx2_vnni_model.h"
#if defined(MOE_X86)
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

#define MOE_TARGET "avx2,bmi,fma,f16c"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::avx2_vnni_model {

#include "cpu/isa/vector_avx2.h"
constexpr int kTileRows = 6;
#include "cpu/isa/template/products.h"

// Each word: the sum of four products of unsigned bytes and signed ones, which nothing limits on the way.
inline VectorBits add_byte_products(VectorBits sum, VectorBits w, VectorBits x) {
  const __m256i low_bytes = _mm256_set1_epi16(0xff);
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(w, low_bytes), _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(w, 8), _mm256_srai_epi16(x, 8));
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}
#include "cpu/isa/products_vnni.h"

#include "cpu/isa/template/byte_rows.h"

}  // namespace moe::cpu::avx2_vnni_model
#include "cpu/isa/target_end.h"
#endif
