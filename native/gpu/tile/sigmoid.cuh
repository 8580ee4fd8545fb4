// The logistic function.
#pragma once

#include <cmath>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// NaN stays NaN.
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The score of a logit: 0 for NaN.
__device__ __forceinline__ float sigmoid_score(float logit) { return std::isnan(logit) ? 0.0f : sigmoid(logit); }

}  // namespace moe::MOE_GPU_NAMESPACE
