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

#define MOE_TARGET "avx2,bmi,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::avx512 {

#include "cpu/isa/vector_avx512.h"
constexpr int kTileRows = 14;
#include "cpu/isa/template/kernels.h"

#include "cpu/isa/products_maddubs.h"

constexpr auto kGemm = joined(kExtensionGemm, kFactorGemm<ByteProducts>, kIntegerGemm<ByteProducts>, kCommonGemm);

const Kernels kKernels = make_kernels("avx512", "AVX-512 F, BW, DQ and VL", kGemm, integer_peak_loop<ByteProducts>());

}  // namespace moe::cpu::avx512
#include "cpu/isa/target_end.h"
