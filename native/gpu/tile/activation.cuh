// The activations of lib/core/layer/activation.ts on float32, by the formulas of lib/reference/experts/activation.ts.
#pragma once

#include <cmath>

#include "core/operators/experts.h"

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

// limit tanh(x / limit); infinity is no limit.
__device__ __forceinline__ float softly_limited(float x, float limit) {
  return limit == INFINITY ? x : limit * tanhf(x / limit);
}

// Replaces values (of an ungated product, or of gates) by their activations.
template <int N>
__device__ __forceinline__ void activate(Activation activation, const Clamp& clamp, float (&values)[N]) {
  const auto replace = [&](auto&& function) {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = function(values[i]);
  };
  switch (activation) {
    case Activation::none: return;
    case Activation::relu:
    case Activation::reglu: return replace([](float x) { return relu(x); });
    case Activation::relu2: return replace([](float x) { return relu(x) * relu(x); });
    case Activation::gelu:
    case Activation::geglu: return replace([](float x) { return gelu(x); });
    case Activation::gelu_tanh:
    case Activation::geglu_tanh: return replace([](float x) { return gelu_tanh(x); });
    case Activation::silu:
    case Activation::swiglu: return replace([](float x) { return silu(x); });
    case Activation::swiglu_clamped:
      return replace([&](float x) {
        const float gate = bounded(x, -INFINITY, clamp.limit);
        return gate / (1.0f + expf(-clamp.alpha * gate));
      });
    case Activation::swiglu_clamped_after:
      return replace([&](float x) { return bounded(x / (1.0f + expf(-clamp.alpha * x)), -INFINITY, clamp.limit); });
    case Activation::situ:
      return replace([&](float x) { return softly_limited(x, clamp.limit) / (1.0f + expf(-clamp.alpha * x)); });
  }
}

// Replaces ups by the factors that multiply their activated gates.
template <int N>
__device__ __forceinline__ void to_factors(Activation activation, const Clamp& clamp, float (&ups)[N]) {
  if (!is_clamped(activation)) return;
  if (activation == Activation::situ) {
#pragma unroll
    for (int i = 0; i < N; ++i) ups[i] = softly_limited(ups[i], clamp.up_limit) + clamp.offset;
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) ups[i] = bounded(ups[i], -clamp.up_limit, clamp.up_limit) + clamp.offset;
}

}  // namespace moe::MOE_GPU_NAMESPACE
