// AArch64's NEON, which all such processors have.
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

namespace moe::cpu::neon {

#include "cpu/isa/vector_neon.h"
constexpr int kTileRows = 12;
#include "cpu/isa/template/kernels.h"

#include "cpu/isa/products_widened.h"

constexpr auto kGemm = joined(kExtensionGemm, kFactorGemm<ByteProducts>, kIntegerGemm<ByteProducts>, kCommonGemm);

const Kernels kKernels = make_kernels("neon", "AArch64", kGemm, integer_peak_loop<ByteProducts>());

}  // namespace moe::cpu::neon
