// AVX2 with FMA and F16C.
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
namespace moe::cpu::avx2 {

#include "cpu/isa/vector_avx2.h"
constexpr int kTileRows = 6;
#include "cpu/isa/template/kernels.h"

#include "cpu/isa/products_maddubs.h"

constexpr auto kGemm = joined(kExtensionGemm, kFactorGemm<ByteProducts>, kIntegerGemm<ByteProducts>, kCommonGemm);

const Kernels kKernels = make_kernels("avx2", "AVX2, BMI, FMA and F16C", kGemm, integer_peak_loop<ByteProducts>());

}  // namespace moe::cpu::avx2
#include "cpu/isa/target_end.h"
