// The tiles of the float32 kernel, and its rows, which differ by the format of the weights.
#pragma once

#include "gpu/gemm/kernel.h"
#include "gpu/plan/gemm_plan.h"

namespace moe::gpu {

// Four blocks of 128x64 would spill.
inline constexpr GemmTile kFmaTiles[] = {{16, 64, 1, 4, 2, 4}, {64, 64, 1, 4, 2, 4}, {128, 64, 1, 4, 2, 3}};
// Elements of K that a stage holds.
constexpr int kFmaDepth = 16;

inline constexpr DType kFmaTokens[] = {DType::f32, DType::f16, DType::bf16};

size_t fma_shared_bytes(const GemmTile& tile);

// The row for weights of `format`, whose rows `layout` fills up to whole stages.
constexpr GemmKernel fma_row(const char* name, const WeightFormat& format, const WeightLayout& layout) {
  return {.name = name,
          .tokens = kFmaTokens,
          .x = DType::f32,
          .format = &format,
          .numbers = "tokens and weights as float32, fused multiply-adds in float32",
          .layout = &layout,
          .tiles = kFmaTiles,
          .shared_bytes = fma_shared_bytes,
          .plan = plan_tiles};
}

}  // namespace moe::gpu
