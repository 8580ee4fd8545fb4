// AMX on a model of its tile registers, for CPUs with AVX-512.
#include "extension/cpu/amx_model.h"
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
#include "extension/cpu/model_registers.h"

#define MOE_TARGET "avx2,bmi,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::amx_model_avx512 {

#include "cpu/isa/vector_avx512.h"
constexpr int kTileRows = 14;
#include "cpu/isa/template/products.h"

#include "cpu/isa/products_maddubs.h"

#include "extension/cpu/amx_model_rows.h"

}  // namespace moe::cpu::amx_model_avx512
#include "cpu/isa/target_end.h"
#endif
