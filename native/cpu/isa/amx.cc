// AMX: products of bfloat16 in tile registers. isa.cc adds them to AVX-512's.
#include <immintrin.h>

#include <array>
#include <utility>

#include "cpu/isa/isa.h"
#include "cpu/isa/tiles/tile_configuration.h"

#define MOE_TARGET "avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16,amx-int8"
#include "cpu/isa/target_begin.h"
namespace moe::cpu::amx {

#include "cpu/isa/tiles/hardware_tiles.h"

#include "cpu/isa/template/bf16_tiles.h"

constexpr std::array kRows = {bf16_tile_kernel<HardwareTiles>()};
const std::span<const GemmKernel> kGemm = kRows;
const PeakLoop kPeak = kBf16TilePeak<HardwareTiles>;

}  // namespace moe::cpu::amx
#include "cpu/isa/target_end.h"
