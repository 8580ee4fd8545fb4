// The numerators of a softmax.
#pragma once

#include <cmath>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// e^(x - max), where +Infinity, as the maximum, gives 1 and NaN gives 0.
__device__ __forceinline__ float exponential(float x, float max) {
  if (std::isnan(x)) return 0.0f;
  return x == max ? 1.0f : expf(x - max);
}

}  // namespace moe::MOE_GPU_NAMESPACE
