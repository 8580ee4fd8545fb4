// The tiles of the kernel for Hopper's tensor cores and weights of quantised formats.
#pragma once

#include "gpu/gemm/kernel.h"

namespace moe::gpu {

// A warpgroup has 64 columns of the product in its registers' rows, or twice as many, and each of its warps converts the
// codes of 16: so each code of a tile is converted once, and few rows of x are few columns of wgmma.
inline constexpr GemmTile kWgmmaQuantizedTiles[] = {
    {.rows = 16, .columns = 128, .warps_rows = 1, .warps_columns = 4, .stages = 5, .blocks = 4},
    {.rows = 64, .columns = 128, .warps_rows = 1, .warps_columns = 4, .stages = 5, .blocks = 2},
    {.rows = 128, .columns = 128, .warps_rows = 1, .warps_columns = 8, .stages = 5, .blocks = 1},
};

// Behind the ring of stages and the converted scales and offsets: the sums of x in the groups of so many stages,
// [groups][rows] each, for formats that need them.
inline constexpr int kStagesOfXSums = 3;

}  // namespace moe::gpu
