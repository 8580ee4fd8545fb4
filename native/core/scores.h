// The terms of scores of router logits.
#pragma once

#include <cmath>

#include "core/dtype.h"

namespace moe {

// e^(x - max) for x <= max. x == max gives 1, even if both are +Infinity. NaN gives 0, and if max is -Infinity
// everything does.
MOE_HOST_DEVICE inline float exponential(float x, float max) {
  if (x == max) return max == -INFINITY ? 0.0f : 1.0f;
  return x < max ? expf(x - max) : 0.0f;
}

// The logistic function. NaN stays NaN.
MOE_HOST_DEVICE inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Below it, ln(1 + e^x) is e^x to float32's last bit, and soon less than float32 can hold.
constexpr float kExponentialSoftplus = -17.0f;

// The square root of ln(1 + e^x). NaN stays NaN.
MOE_HOST_DEVICE inline float sqrt_softplus(float x) {
  if (x < kExponentialSoftplus) return expf(0.5f * x);
  return sqrtf((x < 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x))));
}

// The score of a logit: 0 for NaN.
MOE_HOST_DEVICE inline float sigmoid_score(float logit) { return logit != logit ? 0.0f : sigmoid(logit); }

}  // namespace moe
