// Grouped GEMM: one matrix product per expert over its rows.
#pragma once

#include "core/operators/experts.h"
#include "gpu/gemm/grouped_gemm_arguments.cuh"
#include "gpu/plan/plan.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct GroupedGemmOperands {
  GemmInput input;
  const void* weight;  // packed
  ExpertProduct weights;
  TensorView bias;  // [E, rows], or absent
  GemmResult result;
};

// `map` is the tile map of the rows in tiles of plan.tile.rows.
Status launch_grouped_gemm(const GroupedGemmOperands& operands, const gpu::GemmPlan& plan, const void* map,
                           Stream stream);

// One kernel each: on tensor cores, and in float32 FMA with x in float32 and weights of any type.
Status launch_gemm_mma(const GemmArguments& arguments, const gpu::GemmPlan& plan, Stream stream);
Status launch_gemm_fma(const GemmArguments& arguments, const gpu::GemmPlan& plan, DType weight, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
