// Plain C++ for every other processor.
#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <span>
#include <utility>

#include "cpu/isa/isa.h"

namespace moe::cpu::portable {

#include "cpu/isa/vector_portable.h"
constexpr int kTileRows = 6;
#include "cpu/isa/template/kernels.h"

const Kernels kKernels = make_kernels("portable", "nothing", kCommonGemm, {});

}  // namespace moe::cpu::portable
