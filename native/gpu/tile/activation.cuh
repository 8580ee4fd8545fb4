// The activations of lib/core/backend.ts on float32, by the formulas of lib/reference/experts/activation.ts.
#pragma once

#include <cmath>

#include "core/operators/problem.h"

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

// NaN stays NaN.
__device__ __forceinline__ float bounded(float x, float lowest, float highest) {
  return x < lowest ? lowest : x > highest ? highest : x;
}

// The activation of a value, or of a gate.
__device__ __forceinline__ float activate(Activation activation, const Clamp& clamp, float x) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return relu(x);
    case Activation::relu2: return relu(x) * relu(x);
    case Activation::gelu:
    case Activation::geglu: return gelu(x);
    case Activation::gelu_tanh:
    case Activation::geglu_tanh: return gelu_tanh(x);
    case Activation::silu:
    case Activation::swiglu: return silu(x);
    case Activation::swiglu_clamped: {
      const float gate = bounded(x, -INFINITY, clamp.limit);
      return gate / (1.0f + expf(-clamp.alpha * gate));
    }
  }
  return x;
}

// What the activation of a gate is multiplied by.
__device__ __forceinline__ float up_factor(Activation activation, const Clamp& clamp, float up) {
  return activation == Activation::swiglu_clamped ? bounded(up, -clamp.limit, clamp.limit) + clamp.offset : up;
}

}  // namespace moe::MOE_GPU_NAMESPACE
