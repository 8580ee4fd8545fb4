// Derivatives of the activations of activation.cuh.
#pragma once

#include "core/activation_gradient.h"
#include "core/scores.h"
#include "gpu/tile/activation.cuh"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

__device__ __forceinline__ float normal_share(float x) {
  constexpr float kHalfSqrt2 = 0.70710678118654752f;
  return 0.5f * erfcf(-x * kHalfSqrt2);
}

__device__ __forceinline__ float normal_density(float x) {
  constexpr float kAtZero = 0.3989422804014327f;
  return kAtZero * expf(-0.5f * x * x);
}

__device__ __forceinline__ float gelu_tanh_share(float x) {
  constexpr float kSqrt2OverPi = 0.79788456080286536f;
  return 0.5f * (1.0f + tanhf(kSqrt2OverPi * (x + 0.044715f * x * x * x)));
}

template <Activation kActivation>
__device__ __forceinline__ ActivatedGate activated_gate(float gate, const Clamp& clamp) {
  float value[1] = {gate};
  activate(kActivation, clamp, value);
  switch (kActivation) {
    case Activation::gelu:
    case Activation::geglu: return {value[0], normal_share(gate), normal_density(gate)};
    case Activation::gelu_tanh:
    case Activation::geglu_tanh: return {value[0], gelu_tanh_share(gate), 0.0f};
    case Activation::silu:
    case Activation::swiglu: return {value[0], sigmoid(gate), 0.0f};
    case Activation::swiglu_clamped:
      return {value[0], sigmoid(clamp.alpha * bounded(gate, -INFINITY, clamp.limit)), 0.0f};
    case Activation::swiglu_clamped_after: return {value[0], sigmoid(clamp.alpha * gate), 0.0f};
    case Activation::situ: return {value[0], sigmoid(clamp.alpha * gate), softly_limited(gate, clamp.limit)};
    default: return {value[0], 0.0f, 0.0f};
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
