// AMX: products in tile registers. isa.cc adds them to AVX-512's.
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
#include "cpu/isa/tiles/tile_configuration.h"

#define MOE_TARGET "avx2,bmi,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-bf16,amx-int8"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::amx {

#include "cpu/isa/tiles/hardware_tiles.h"
#include "cpu/isa/vector_avx512.h"
constexpr int kTileRows = 14;
#include "cpu/isa/template/products.h"

#include "cpu/isa/pairs_avx512.h"
#include "cpu/isa/products_avx512_vnni.h"

#include "cpu/isa/template/amx/kernels.h"

constexpr auto kRows = kRegisterGemm<HardwareTiles, ByteProducts, E4M3PairCodes>;
const std::span<const GemmKernel> kGemm = kRows;
const PeakLoop kBf16Peak = kFloatTilePeak<HardwareTiles>;
const PeakLoop kInt8Peak = kRegisterIntegerPeak<HardwareTiles>;

}  // namespace moe::cpu::amx
#include "cpu/isa/target_end.h"
