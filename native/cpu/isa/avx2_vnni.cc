// AVX2 with AVX-VNNI: products of bytes by vpdpbusd. isa.cc adds them to AVX2's.
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

#define MOE_TARGET "avx2,bmi,fma,f16c,avxvnni"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::avx2_vnni {

#include "cpu/isa/vector_avx2.h"
constexpr int kTileRows = 6;
#include "cpu/isa/template/products.h"

inline VectorBits add_byte_products(VectorBits sum, VectorBits w, VectorBits x) {
  return _mm256_dpbusd_avx_epi32(sum, w, x);
}
#include "cpu/isa/products_vnni.h"

#include "cpu/isa/template/byte_rows.h"

}  // namespace moe::cpu::avx2_vnni
#include "cpu/isa/target_end.h"
