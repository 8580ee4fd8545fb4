// Plans of the gradient of the grouped GEMM's weights; see plan.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "gpu/gemm/kernel.h"
#include "gpu/runtime/device_traits.h"

namespace moe::gpu {

// Tiles of outputs (rows of an expert's gradient) by columns. A stage of a ring is a few rows of dy and x: see the
// depths below. The smaller tiles on tensor cores are for gradients that would leave multiprocessors without a block.
inline constexpr GemmTile kWeightGradientMmaTiles[] = {
    {.rows = 64, .columns = 64, .warps_rows = 2, .warps_columns = 2, .stages = 4, .blocks = 4},
    {.rows = 128, .columns = 128, .warps_rows = 2, .warps_columns = 4, .stages = 4, .blocks = 2},
};
// A warpgroup has 64 outputs. Squares of 192 read shared memory as fast as it gives while copies write it.
inline constexpr GemmTile kWeightGradientWgmmaTiles[] = {
    {.rows = 64, .columns = 64, .warps_rows = 4, .warps_columns = 1, .stages = 4, .blocks = 4},
    {.rows = 128, .columns = 128, .warps_rows = 8, .warps_columns = 1, .stages = 4, .blocks = 2},
    {.rows = 192, .columns = 192, .warps_rows = 12, .warps_columns = 1, .stages = 5, .blocks = 1},
};
inline constexpr int kWeightGradientMmaDepth = 32;
// With room for three blocks it would spill.
inline constexpr GemmTile kWeightGradientFmaTile = {
    .rows = 64, .columns = 128, .warps_rows = 4, .warps_columns = 1, .stages = 2, .blocks = 2};
inline constexpr int kWeightGradientFmaDepth = 8;

struct WeightGradientSizes {
  int64_t experts, outputs, columns;
  DType x, output_gradient;
};

// Tensor cores take x and dy of one 16-bit type, whose products float32 holds.
enum class WeightGradientKernel { fma, mma, wgmma };

struct WeightGradientPlan {
  WeightGradientKernel kernel = WeightGradientKernel::fma;
  int tile_index = 0;  // index into the kernel's tiles
  GemmTile tile = {};
  size_t shared_bytes = 0;
  unsigned grid = 0;

  bool tensor_cores() const { return kernel != WeightGradientKernel::fma; }
};

WeightGradientPlan plan_weight_gradient(const WeightGradientSizes& sizes, const DeviceTraits& traits);

}  // namespace moe::gpu
