// Plain C++ for every other processor.
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

namespace moe::cpu::portable {

#include "cpu/isa/vector_portable.h"
constexpr int kTileRows = 2;
#include "cpu/isa/template/kernels.h"

constexpr auto kGemm = joined(kExtensionGemm, kFactorGemm<ByteProducts>, kIntegerGemm<ByteProducts>, kCommonGemm);

const Kernels kKernels = make_kernels("portable", "nothing", kGemm, integer_peak_loop<ByteProducts>());

}  // namespace moe::cpu::portable
