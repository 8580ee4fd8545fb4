// AMX: products in tile registers. isa.cc adds them to AVX-512's.
#include <immintrin.h>

#include <array>
#include <utility>

#include "cpu/isa/isa.h"
#include "cpu/isa/tiles/tile_configuration.h"

#define MOE_TARGET "avx2,bmi,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16,amx-int8"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::amx {

#include "cpu/isa/tiles/hardware_tiles.h"
constexpr int kPanelColumns = 32;
#include "cpu/isa/template/tile_shapes.h"

#include "cpu/isa/template/float_tiles.h"

const std::span<const GemmKernel> kGemm = kFloatTileGemm<HardwareTiles>;
const PeakLoop kPeak = kFloatTilePeak<HardwareTiles>;

}  // namespace moe::cpu::amx
#include "cpu/isa/target_end.h"
