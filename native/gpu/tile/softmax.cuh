// The numerators of a softmax.
#pragma once

#include <cmath>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// e^(x - max) of an x up to the maximum, which gives 1 even if it is +Infinity. NaN gives 0, and so does everything
// where the maximum is -Infinity.
__device__ __forceinline__ float exponential(float x, float max) {
  if (x == max) return max == -INFINITY ? 0.0f : 1.0f;
  return x < max ? expf(x - max) : 0.0f;
}

}  // namespace moe::MOE_GPU_NAMESPACE
