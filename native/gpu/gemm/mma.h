// The tiles of the tensor-core kernel.
#pragma once

#include "gpu/gemm/kernel.h"

namespace moe::gpu {

// 16 rows are for decoding, where every expert has few. Blocks of 128x128 hide each other's epilogue where a
// multiprocessor has room for two: with three stages, 97 KiB a block, in the 228 KiB of compute capability 9.0, but not
// in the 164 KiB of 8.0, where the plan launches one.
inline constexpr GemmTile kMmaTiles[] = {
    {.rows = 16, .columns = 128, .warps_rows = 1, .warps_columns = 4, .stages = 4, .blocks = 4},
    {.rows = 64, .columns = 128, .warps_rows = 2, .warps_columns = 2, .stages = 3, .blocks = 4},
    {.rows = 128, .columns = 128, .warps_rows = 2, .warps_columns = 4, .stages = 3, .blocks = 2},
};
// Rounding to tf32 takes more registers.
inline constexpr GemmTile kMmaTF32Tiles[] = {
    {.rows = 16, .columns = 128, .warps_rows = 1, .warps_columns = 4, .stages = 4, .blocks = 3},
    {.rows = 64, .columns = 128, .warps_rows = 2, .warps_columns = 2, .stages = 3, .blocks = 3},
    {.rows = 128, .columns = 128, .warps_rows = 2, .warps_columns = 4, .stages = 3, .blocks = 1},
};

}  // namespace moe::gpu
