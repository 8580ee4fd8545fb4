// The arguments of the tensor-core kernel of quantised formats: what it would otherwise compute from the format.
#pragma once

#include <cstring>

#include "gpu/gemm/gemm_arguments.cuh"
#include "gpu/gemm/mma_quantized.h"
#include "gpu/plan/gemm_plan.h"

namespace moe::MOE_GPU_NAMESPACE::mma_quantized {

// One level in global and in shared memory.
struct Level {
  int64_t first;  // in an expert's packed matrix
  int groups;     // of all columns
  gpu::GroupSteps steps;
  gpu::StagedLevel staged;
};

struct Arguments {
  GemmArguments gemm;
  gpu::QuantizedStage stage;
  Level scales, super_scales, zeros, super_zeros;
  int group_steps;    // of the columns whose products are summed before they are scaled
  bool counting;      // whether sums of bytes in a group are small enough for kCountingBits
  uint32_t table[4];  // of bytes, for Codes::table
  float unit;         // multiplies every code
};

inline Level level_of(const ScaleLevel& level, int64_t first, int columns, const gpu::StagedLevel& staged) {
  const int groups = level.columns == 0 ? 1 : (columns + level.columns - 1) / level.columns;
  return {.first = first, .groups = groups, .steps = gpu::GroupSteps(level), .staged = staged};
}

inline Arguments arguments_of(const GemmArguments& gemm, const gpu::GemmPlan& plan) {
  const WeightFormat& format = gemm.format;
  const ScaleLevel &scales = format.scales, &super_scales = format.super_scales;
  const gpu::PackedMatrix& packed = gemm.packed;
  const gpu::QuantizedStage stage = gpu::quantized_stage(plan.tile, format, plan.x_dtype());
  const TokenFormat codes = plan.kernel->codes;
  const bool integers = codes == TokenFormat::int8;
  const gpu::ByteTable table = format.code == CodeType::table ? gpu::byte_table(format) : gpu::ByteTable{.unit = 1.0f};
  Arguments arguments{.gemm = gemm,
                      .stage = stage,
                      .scales = level_of(scales, packed.scales, gemm.columns, stage.scales),
                      .super_scales = level_of(super_scales, packed.super_scales, gemm.columns, stage.super_scales),
                      .zeros = level_of(scales, packed.zeros, gemm.columns, stage.zeros),
                      .super_zeros = level_of(super_scales, packed.super_zeros, gemm.columns, stage.super_zeros),
                      // A group of all columns ends with them.
                      .group_steps = gpu::summed_columns(codes, scales) / gpu::kGroupStep,
                      .counting = integers && scales.columns != 0 && scales.columns <= gpu::kMostCountedColumns,
                      .table = {},
                      .unit = table.unit};
  memcpy(arguments.table, table.bytes, sizeof arguments.table);
  // Signed bytes.
  for (uint32_t& word : arguments.table) word ^= integers ? 0x80808080u : 0u;
  return arguments;
}

}  // namespace moe::MOE_GPU_NAMESPACE::mma_quantized
