// The terms of a softmax.
#pragma once

#include <cmath>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// e^(x - max) for x <= max. x == max gives 1, even if both are +Infinity. NaN gives 0, and if max is -Infinity
// everything does.
__device__ __forceinline__ float exponential(float x, float max) {
  if (x == max) return max == -INFINITY ? 0.0f : 1.0f;
  return x < max ? expf(x - max) : 0.0f;
}

}  // namespace moe::MOE_GPU_NAMESPACE
