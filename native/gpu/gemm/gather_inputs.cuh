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
  // Where the `count` rows go: [R, plan.x_pitch] of plan.x_dtype(). Bytes are codes, 16 columns in the order in which a
  // register of a tensor-core fragment has the codes of weights (see gemm/quantized_layout.h), zeros behind the last.
  void* rows;
  int64_t count;
  // [R]: r, or -1 for a row without a token. Null: every row has one.
  int* places;
  // [groups][R], for rows that become codes: their scales. One scale of a row is multiplied by the row's weight, if
  // rows have weights.
  float* factors = nullptr;
  const float* weights = nullptr;
};

// Has a product multiply codes by the factors that were written for them.
inline void set_factors(const TokenScheme& tokens, const float* factors, GemmInput* input, GemmResult* result) {
  if (!tokens.coded()) return;
  (tokens.scales_rows() ? result->weight_of_row : input->scales) = factors;
}

// Enqueues rows[r][k] = x[token of r][order[k]] * scale[k], by the order and the scales of the row's expert, rounded as
// the product rounds its tokens. `map` is the tile map of the rows.
Status launch_gather_inputs(const GatheredRows& gathered, const GpuPackedExperts& weight, const gpu::GemmPlan& plan,
                            const void* map, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
