// Rows of x as products want them that change their inputs; see gemm/expert_inputs.h.
#pragma once

#include "gpu/gemm/gemm_arguments.cuh"
#include "gpu/gemm/packed_experts.h"
#include "gpu/plan/gemm_plan.h"

namespace moe::MOE_GPU_NAMESPACE {

struct GatheredRows {
  GemmInput source;
  DType dtype;    // of source.x,
  int64_t pitch;  // whose rows are this far apart
  // Where the rows go: [R, plan.x_pitch] of plan.x_dtype().
  void* rows;
  // [R]: r, or -1 for a row without a token. Null: every row has one.
  int* places;
  // [R], for rows that become codes with one scale: what multiplies their sums, which is the scale times the row's
  // weight, if rows have weights.
  float* factors = nullptr;
  const float* weights = nullptr;
};

// Enqueues rows[r][k] = x[token of r][order[k]] * scale[k], by the order and the scales of the row's expert, rounded as
// the product rounds its tokens. `map` is the tile map of the rows.
Status launch_gather_inputs(const GatheredRows& gathered, const GpuPackedExperts& weight, const gpu::GemmPlan& plan,
                            const void* map, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
