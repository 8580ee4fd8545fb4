// Derivatives of the activations; see lib/operators/experts/activation_backward.ts. What they need of exponentials is
// computed by the devices. No comparison depends on another, so that compilers make vectors of a loop over elements.
#pragma once

#include <cfloat>
#include <type_traits>

#include "core/operators/experts.h"

namespace moe {

// The activation of a gate, or of a value without one. All but relu, relu2, reglu and none are x * share: silu's share
// is sigmoid(x), gelu's the normal distribution function, gelu_tanh's its approximation, and swiglu_clamped's
// sigmoid(alpha x) for x = min(gate, limit). swiglu_clamped_after limits x * sigmoid(alpha x), and situ is
// limit tanh(x / limit) * sigmoid(alpha x).
struct ActivatedGate {
  float value;
  float share;
  float extra;  // gelu's and geglu's density of the normal distribution; situ's limit tanh(x / limit)
};

// x, limited to where shares are neither 0 nor 1 in float32. Their derivatives are 0 beyond, where x may be infinite.
MOE_HOST_DEVICE inline float near_zero(float x) {
  constexpr float kFar = 88.0f;
  const float least = x < -kFar ? -kFar : x;
  return least > kFar ? kFar : least;
}

// The derivative of gelu_tanh's exponent 2 sqrt(2/pi) (x + 0.044715 x^3).
MOE_HOST_DEVICE inline float gelu_tanh_exponent_slope(float x) { return 1.5957691216f + 0.21406445f * (x * x); }

// The derivative of limit tanh(x / limit), which is `limited`. Infinity is no limit.
MOE_HOST_DEVICE inline float soft_slope(float limited, float limit) {
  const float tangent = limited / limit;
  return limit > FLT_MAX ? 1.0f : 1.0f - tangent * tangent;
}

// The derivative of an activation by its gate: share + x share'.
MOE_HOST_DEVICE inline float gate_slope(Activation activation, const Clamp& clamp, float gate,
                                        const ActivatedGate& at) {
  const float x = near_zero(gate), logistic_slope = at.share * (1.0f - at.share);
  switch (activation) {
    case Activation::none: return 1.0f;
    case Activation::relu:
    case Activation::reglu: {
      const float positive = gate > 0.0f ? 1.0f : gate;
      return gate <= 0.0f ? 0.0f : positive;
    }
    case Activation::relu2: return gate <= 0.0f ? 0.0f : gate + gate;
    case Activation::gelu:
    case Activation::geglu: return at.share + x * at.extra;
    case Activation::gelu_tanh:
    case Activation::geglu_tanh: return at.share + x * gelu_tanh_exponent_slope(x) * logistic_slope;
    case Activation::silu:
    case Activation::swiglu: return at.share + x * logistic_slope;
    case Activation::swiglu_clamped: {
      const float slope = at.share + near_zero(clamp.alpha * gate) * logistic_slope;
      return gate > clamp.limit ? 0.0f : slope;
    }
    case Activation::swiglu_clamped_after: {
      const float slope = at.share + near_zero(clamp.alpha * gate) * logistic_slope;
      return gate * at.share > clamp.limit ? 0.0f : slope;
    }
    case Activation::situ:
      return soft_slope(at.extra, clamp.limit) * at.share + near_zero(clamp.alpha * at.extra) * logistic_slope;
  }
  return 1.0f;
}

// What multiplies a gate's activation, and its derivative by `up`, which is 1 without a gate. `soft_up` is situ's
// up_limit tanh(up / up_limit); other activations do not read it.
MOE_HOST_DEVICE inline float up_factor(Activation activation, const Clamp& clamp, float up, float soft_up) {
  if (!is_clamped(activation)) return up;
  if (activation == Activation::situ) return soft_up + clamp.offset;
  const float least = up < -clamp.up_limit ? -clamp.up_limit : up;
  return (least > clamp.up_limit ? clamp.up_limit : least) + clamp.offset;
}
MOE_HOST_DEVICE inline float up_slope(Activation activation, const Clamp& clamp, float up, float soft_up) {
  if (!is_clamped(activation)) return 1.0f;
  if (activation == Activation::situ) return soft_slope(soft_up, clamp.up_limit);
  const float slope = up < -clamp.up_limit ? 0.0f : 1.0f;
  return up > clamp.up_limit ? 0.0f : slope;
}

// An element's activation, and the gradients of what it was computed from.
struct ActivationGradient {
  float gate, up, multiplier, inner;
};

// Without a gate `up` is 1, and so is `multiplier` if there is none.
MOE_HOST_DEVICE inline ActivationGradient activation_gradient(Activation activation, const Clamp& clamp, float gate,
                                                              const ActivatedGate& at, float up, float soft_up,
                                                              float multiplier, float d_inner) {
  const float factor = up_factor(activation, clamp, up, soft_up), inner = at.value * factor;
  const float d_product = d_inner * multiplier;
  return {.gate = d_product * (gate_slope(activation, clamp, gate, at) * factor),
          .up = d_product * (up_slope(activation, clamp, up, soft_up) * at.value),
          .multiplier = d_inner * inner,
          .inner = inner * multiplier};
}

// Calls use(std::integral_constant<Activation, ...>) for an activation known at run time.
template <class Use>
auto dispatch_activation(Activation activation, Use&& use) {
  switch (activation) {
    case Activation::none: return use(std::integral_constant<Activation, Activation::none>{});
    case Activation::relu: return use(std::integral_constant<Activation, Activation::relu>{});
    case Activation::relu2: return use(std::integral_constant<Activation, Activation::relu2>{});
    case Activation::gelu: return use(std::integral_constant<Activation, Activation::gelu>{});
    case Activation::gelu_tanh: return use(std::integral_constant<Activation, Activation::gelu_tanh>{});
    case Activation::silu: return use(std::integral_constant<Activation, Activation::silu>{});
    case Activation::swiglu: return use(std::integral_constant<Activation, Activation::swiglu>{});
    case Activation::geglu: return use(std::integral_constant<Activation, Activation::geglu>{});
    case Activation::geglu_tanh: return use(std::integral_constant<Activation, Activation::geglu_tanh>{});
    case Activation::reglu: return use(std::integral_constant<Activation, Activation::reglu>{});
    case Activation::swiglu_clamped: return use(std::integral_constant<Activation, Activation::swiglu_clamped>{});
    case Activation::swiglu_clamped_after:
      return use(std::integral_constant<Activation, Activation::swiglu_clamped_after>{});
    default: return use(std::integral_constant<Activation, Activation::situ>{});
  }
}

}  // namespace moe
