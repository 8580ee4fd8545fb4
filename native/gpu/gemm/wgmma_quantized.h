// The tiles of the kernel for Hopper's tensor cores and weights of quantised formats.
#pragma once

#include "gpu/gemm/kernel.h"

namespace moe::gpu {

// The product is transposed: a warpgroup has 64 or 128 of its columns as rows of wgmma, and each warp converts the
// codes of 16. So each code of a tile is converted once, and few rows of x are few columns of wgmma. With 16 rows there
// may be few blocks to keep memory busy, so each has many stages on their way.
inline constexpr GemmTile kWgmmaQuantizedTiles[] = {
    {.rows = 16, .columns = 128, .warps_rows = 1, .warps_columns = 4, .stages = 8, .blocks = 3},
    {.rows = 64, .columns = 128, .warps_rows = 1, .warps_columns = 4, .stages = 5, .blocks = 2},
    {.rows = 128, .columns = 128, .warps_rows = 1, .warps_columns = 8, .stages = 5, .blocks = 1},
};

// Stages whose groups' values stand converted: one before the one that is multiplied, and the next. Behind them stand
// the sums of x in these groups, [groups][rows], for formats that need them.
inline constexpr int kWgmmaConvertedStages = 3;

}  // namespace moe::gpu
