// AMX on a model of its tile registers, for every CPU.
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
#include "extension/cpu/amx_model.h"
#include "extension/cpu/model_registers.h"

namespace moe::cpu::amx_model_portable {

#include "cpu/isa/vector_portable.h"
constexpr int kTileRows = 6;
#include "cpu/isa/template/products.h"

#include "extension/cpu/amx_model_rows.h"

}  // namespace moe::cpu::amx_model_portable
