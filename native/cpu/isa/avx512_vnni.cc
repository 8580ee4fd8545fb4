// AVX-512 with VNNI: products of bytes by vpdpbusd. isa.cc adds them to AVX-512's.
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

#define MOE_TARGET "avx2,bmi,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::avx512_vnni {

#include "cpu/isa/vector_avx512.h"
constexpr int kTileRows = 14;
#include "cpu/isa/template/products.h"

#include "cpu/isa/products_avx512_vnni.h"

#include "cpu/isa/template/byte_rows.h"

}  // namespace moe::cpu::avx512_vnni
#include "cpu/isa/target_end.h"
