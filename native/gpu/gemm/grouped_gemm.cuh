// Grouped GEMM: one matrix product per expert over its rows.
#pragma once

#include "gpu/gemm/gemm_arguments.cuh"
#include "gpu/gemm/packed_experts.h"
#include "gpu/plan/gemm_plan.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct GroupedGemmOperands {
  GemmInput input;
  const GpuPackedExperts& weight;
  TensorView bias;  // [E, rows], or absent
  GemmResult result;
};

// `map` is the tile map of the rows, with tiles of plan.tile.rows.
Status launch_grouped_gemm(const GroupedGemmOperands& operands, const gpu::GemmPlan& plan, const void* map,
                           Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
