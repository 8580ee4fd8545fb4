// Gating: turns router logits into each token's k experts and their weights.
#pragma once

#include "core/operators/routing.h"
#include "gpu/runtime/device_traits.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

struct GatingArguments {
  const void* logits;
  DType logits_dtype;
  const void* bias;
  DType bias_dtype;
  int* ids;
  float* weights;
  unsigned long long* non_finite_rows;
  int64_t tokens;
  int experts;
  int group_terms;
  GatingRule rule;
};

// The number of rows without a finite logit is added to `non_finite_rows`, a counter in device memory.
GatingArguments gating_arguments(const Gating& p, unsigned long long* non_finite_rows);

Status launch_gating(const GatingArguments& arguments, const gpu::DeviceTraits& traits, Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
