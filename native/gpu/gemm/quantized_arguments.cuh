// The arguments of the tensor-core kernels of quantised formats: what they would otherwise compute from the format.
#pragma once

#include <bit>
#include <cstring>

#include "gpu/gemm/gemm_arguments.cuh"
#include "gpu/gemm/mma_quantized.h"
#include "gpu/plan/gemm_plan.h"

namespace moe::MOE_GPU_NAMESPACE::quantized {

// One level in global and in shared memory.
struct Level {
  int64_t first;  // in an expert's packed matrix
  int groups;     // of all columns
  int64_t pitch;  // from one group to the next
  gpu::GroupSteps steps;
  gpu::StagedLevel staged;
  // Copies of 16 bytes for a stage, 2^shift of them for a group.
  int chunks, shift;
};

struct Arguments {
  GemmArguments gemm;
  gpu::QuantizedStage stage;
  Level scales, super_scales, zeros, super_zeros;
  bool has_more_levels;  // than scales
  int group_steps;       // of the columns whose products are summed before they are scaled
  bool counting;         // whether sums of bytes in a group are small enough for kCountingBits
  uint32_t table[4];     // of bytes, for Codes::table
  float unit;            // multiplies every code
};

inline Level level_of(const ScaleLevel& level, int64_t first, const GemmArguments& gemm, const gpu::GemmTile& tile,
                      const gpu::StagedLevel& staged) {
  const int chunks = tile.columns * staged.bytes / gpu::kQuadBytes;
  return {.first = first,
          .groups = static_cast<int>(level.column_groups(gemm.columns)),
          .pitch = gemm.packed.padded_rows * staged.bytes,
          .steps = gpu::GroupSteps(level),
          .staged = staged,
          .chunks = staged.groups * chunks,
          .shift = std::countr_zero(static_cast<unsigned>(chunks))};
}

inline Arguments arguments_of(const GemmArguments& gemm, const gpu::GemmPlan& plan) {
  const WeightFormat& format = gemm.format;
  const ScaleLevel &scales = format.scales, &super_scales = format.super_scales;
  const gpu::PackedMatrix& packed = gemm.packed;
  const gpu::QuantizedStage stage = gpu::quantized_stage(plan.tile, format, plan.x_dtype());
  const TokenFormat codes = plan.kernel->codes;
  const bool integers = codes == TokenFormat::int8;
  const bool looks_up = format.code == CodeType::table && (integers || !gpu::is_e2m1(format));
  const gpu::ByteTable table = looks_up ? gpu::byte_table(format) : gpu::ByteTable{.unit = 1.0f};
  const auto level = [&](const ScaleLevel& groups, int64_t first, const gpu::StagedLevel& staged) {
    return level_of(groups, first, gemm, plan.tile, staged);
  };
  Arguments arguments{.gemm = gemm,
                      .stage = stage,
                      .scales = level(scales, packed.scales, stage.scales),
                      .super_scales = level(super_scales, packed.super_scales, stage.super_scales),
                      .zeros = level(scales, packed.zeros, stage.zeros),
                      .super_zeros = level(super_scales, packed.super_zeros, stage.super_zeros),
                      .has_more_levels = stage.super_scales.groups + stage.zeros.groups + stage.super_zeros.groups > 0,
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

}  // namespace moe::MOE_GPU_NAMESPACE::quantized
