// The tiles of the float32 kernel, and its rows, by the formats of weights.
#pragma once

#include "gpu/gemm/kernel.h"
#include "gpu/plan/gemm_plan.h"

namespace moe::gpu {

// With room for four blocks, 128x64 would spill.
inline constexpr GemmTile kFmaTiles[] = {
    {.rows = 16, .columns = 64, .warps_rows = 1, .warps_columns = 4, .stages = 2, .blocks = 4},
    {.rows = 64, .columns = 64, .warps_rows = 1, .warps_columns = 4, .stages = 2, .blocks = 4},
    {.rows = 128, .columns = 64, .warps_rows = 1, .warps_columns = 4, .stages = 2, .blocks = 3},
};
// Elements of K per stage.
constexpr int kFmaDepth = 16;

inline constexpr DType kFmaTokens[] = {DType::f32, DType::f16, DType::bf16};

size_t fma_shared_bytes(const GemmTile& tile, const WeightFormat& format);

// The row for weights of these formats, packed by `layout` into whole stages.
constexpr GemmKernel fma_row(const char* name, const WeightFormats& formats, const WeightLayout& layout) {
  return {.name = name,
          .tokens = kFmaTokens,
          .x = DType::f32,
          .formats = formats,
          .numbers = "tokens and weights as float32, fused multiply-adds in float32",
          .layout = &layout,
          .tiles = kFmaTiles,
          .shared_bytes = fma_shared_bytes,
          .plan = plan_tiles};
}

}  // namespace moe::gpu
