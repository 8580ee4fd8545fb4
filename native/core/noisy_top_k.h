// Formulas of noisy top-k gating, arXiv 1701.06538.
#pragma once

#include <cmath>

#include "core/dtype.h"

namespace moe {

// ln(1 + e^x), without overflow. NaN stays NaN.
MOE_HOST_DEVICE inline float softplus(float x) { return (x < 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x))); }

// What a noisy logit must exceed to be among the k largest of its row.
struct LoadThresholds {
  float last;  // the k-th largest, for logits that are not among them
  float next;  // the (k+1)-th, for those that are; -infinity if there is none
};

// A logit as the thresholds order it: NaN counts as -infinity.
MOE_HOST_DEVICE inline float ordered_logit(float logit) { return logit != logit ? -INFINITY : logit; }

// The probability that an expert would be among the k best if only its own noise were redrawn; 0 if it comes out NaN.
MOE_HOST_DEVICE inline float probability_in_top_k(float clean, float noisy, float deviation,
                                                  LoadThresholds thresholds) {
  const float threshold = noisy > thresholds.next ? thresholds.next : thresholds.last;
  const float z = (clean - threshold) / deviation;
  const float probability = 0.5f * erfcf(z * -0.70710678118654752f);
  return probability != probability ? 0.0f : probability;
}

}  // namespace moe
