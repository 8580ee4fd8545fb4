// The tiles of the kernel for Hopper's tensor cores and weights of quantised formats.
#pragma once

#include "gpu/gemm/kernel.h"

namespace moe::gpu {

// With 16 rows, few blocks may have to keep memory busy, so many stages are on their way.
// A warpgroup has 64 columns of the product in its registers' rows, or twice as many, and each of its warps converts
// the codes of 16: so each code of a tile is converted once, and few rows of x are few columns of wgmma.
inline constexpr GemmTile kWgmmaQuantizedTiles[] = {
    {.rows = 16, .columns = 128, .warps_rows = 1, .warps_columns = 4, .stages = 8, .blocks = 3},
    {.rows = 64, .columns = 128, .warps_rows = 1, .warps_columns = 4, .stages = 5, .blocks = 2},
    {.rows = 128, .columns = 128, .warps_rows = 1, .warps_columns = 8, .stages = 5, .blocks = 1},
};

// Stages whose groups' values stand converted: one before the one that is multiplied, and the next. Behind them stand
// the sums of x in these groups, [groups][rows], for formats that need them.
inline constexpr int kWgmmaConvertedStages = 3;

}  // namespace moe::gpu
