// The tiles of the kernel for Hopper's tensor cores.
#pragma once

#include "gpu/gemm/kernel.h"

namespace moe::gpu {

// A warpgroup multiplies 64 rows at once, each of its warps 16. With 256 columns, shared memory gives the operands as
// fast as they are multiplied; that takes a multiprocessor's registers and shared memory for one block.
inline constexpr GemmTile kWgmmaTiles[] = {
    {.rows = 64, .columns = 128, .warps_rows = 4, .warps_columns = 1, .stages = 4, .blocks = 2},
    {.rows = 128, .columns = 256, .warps_rows = 8, .warps_columns = 1, .stages = 4, .blocks = 1},
};

}  // namespace moe::gpu
