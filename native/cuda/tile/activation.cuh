// The activations of lib/backend.ts on float32, by the formulas of lib/reference/activation.ts.
#pragma once

#include <cmath>

#include "core/problem.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

__device__ __forceinline__ float gelu(float x) {
  constexpr float kHalfSqrt2 = 0.70710678118654752f;
  return 0.5f * x * erfcf(-x * kHalfSqrt2);
}

__device__ __forceinline__ float gelu_tanh(float x) {
  constexpr float kSqrt2OverPi = 0.79788456080286536f;
  return 0.5f * x * (1.0f + tanhf(kSqrt2OverPi * (x + 0.044715f * x * x * x)));
}

// NaN stays NaN.
__device__ __forceinline__ float relu(float x) { return x < 0.0f ? 0.0f : x; }

// The activation of a value, or of a gate.
__device__ __forceinline__ float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return relu(x);
    case Activation::gelu:
    case Activation::geglu: return gelu(x);
    case Activation::gelu_tanh:
    case Activation::geglu_tanh: return gelu_tanh(x);
    case Activation::silu:
    case Activation::swiglu: return silu(x);
  }
  return x;
}

}  // namespace moe::MOE_GPU_NAMESPACE
