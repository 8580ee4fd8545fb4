// The tiles of the tensor-core kernel.
#pragma once

#include "gpu/gemm/kernel.h"

namespace moe::gpu {

// 16 rows are for decoding, where every expert has few. Two blocks of 128x128 hide each other's epilogue, which leaves
// shared memory for three stages.
inline constexpr GemmTile kMmaTiles[] = {{16, 128, 1, 4, 4, 4}, {64, 128, 2, 2, 3, 4}, {128, 128, 2, 4, 3, 2}};
// Rounding to tf32 takes more registers.
inline constexpr GemmTile kMmaTF32Tiles[] = {{16, 128, 1, 4, 4, 3}, {64, 128, 2, 2, 3, 3}, {128, 128, 2, 4, 3, 1}};

}  // namespace moe::gpu
