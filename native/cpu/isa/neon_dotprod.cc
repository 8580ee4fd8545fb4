// NEON with dot products of bytes (FEAT_DotProd). isa.cc adds them to NEON's.
#include <arm_neon.h>

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

#if defined(__clang__)
#define MOE_TARGET "dotprod"
#else
#define MOE_TARGET "arch=armv8.2-a+dotprod"
#endif
#include "cpu/isa/target_begin.h"
namespace moe::cpu::neon_dotprod {

#include "cpu/isa/vector_neon.h"
constexpr int kTileRows = 12;
#include "cpu/isa/template/products.h"

#include "cpu/isa/products_dot.h"

#include "cpu/isa/template/byte_rows.h"

}  // namespace moe::cpu::neon_dotprod
#include "cpu/isa/target_end.h"
