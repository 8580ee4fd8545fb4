// Weights of a token's experts, the same whether they are chosen or given. One warp handles one token.
#pragma once

#include <cfloat>
#include <cmath>

#include "core/operators/routing.h"
#include "core/scores.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/reduce.cuh"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// A logit's score before any division by a sum. For a softmax, `max` is the largest logit.
__device__ __forceinline__ float score_of(Scoring scoring, float logit, float max) {
  if (std::isnan(logit)) return 0.0f;
  const float finite = fminf(fmaxf(logit, -FLT_MAX), FLT_MAX);
  switch (scoring) {
    case Scoring::softmax:
    case Scoring::softmax_selected: return exponential(logit, max);
    case Scoring::sigmoid: return sigmoid_score(logit);
    case Scoring::sqrt_softplus: return sqrt_softplus(finite);
    // 0 for -0, which counts as equal: gating may know only its place in the order.
    default: return finite + 0.0f;
  }
}

// Statistics of a row's logits.
struct Statistics {
  float max = -INFINITY;
  bool finite = false;
  float sum = 0.0f;  // of e^(logit - max), if requested
};

template <class Values>
__device__ __forceinline__ Statistics statistics_of(const Values& logits, bool with_sum) {
  Statistics found;
  logits.for_each([&](int, float logit) {
    found.max = fmaxf(found.max, logit);
    found.finite = found.finite || std::isfinite(logit);
  });
  found.max = warp_max(found.max);
  found.finite = __any_sync(kAllLanes, found.finite) != 0;
  if (with_sum) {
    logits.for_each([&](int, float logit) { found.sum += exponential(logit, found.max); });
    found.sum = warp_sum(found.sum);
  }
  return found;
}

// The share of a logit in SparseMixer's softmax over the experts left(expert, logit), whose largest logit is `best`. It
// runs over those logits l for which best - l is at most reach * max(|l|, best).
template <class Values, class Left>
__device__ __forceinline__ float near_share(const Values& logits, float best, float reach, float logit, Left&& left) {
  if (!(best > -INFINITY)) return 0.0f;
  const auto term = [&](float value) {
    const bool far = (best - value) / fmaxf(fabsf(value), best) > reach;
    return far ? 0.0f : exponential(value, best);
  };
  float sum = 0.0f;
  logits.for_each([&](int expert, float value) { sum += left(expert, value) ? term(value) : 0.0f; });
  return term(logit) / warp_sum(sum);
}

// Turns the logits in `weights` [top_k] into weights (for sparsemixer, they are scores already). NaN has the weight 0.
// Each lane handles every 32nd.
__device__ __forceinline__ void weigh(const GatingRule& rule, const Statistics& row, float chosen_max, float* weights) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const bool selected = rule.scoring == Scoring::softmax_selected;
  float sum = 0.0f, largest = 0.0f;
  for (int slot = lane; slot < rule.top_k; slot += 32) {
    const float weight = score_of(rule.scoring, weights[slot], selected ? chosen_max : row.max);
    weights[slot] = weight;
    sum += weight;
    largest = fmaxf(largest, fabsf(weight));
  }
  sum = warp_sum(sum);

  // Weights are divided by `unit`, then by `divisor`. A sum over all experts cancels out if they are divided by their
  // own sum.
  float unit = 1.0f, divisor = 1.0f;
  if (rule.normalization == Normalization::sum) {
    divisor = sum;
  } else if (rule.normalization == Normalization::lp) {
    // Relative to the largest, so that nothing overflows.
    unit = warp_max(largest);
    float powers = 0.0f;
    for (int slot = lane; slot < rule.top_k && unit > 0.0f; slot += 32) {
      powers += powf(fabsf(weights[slot]) / unit, rule.power);
    }
    divisor = powf(warp_sum(powers), 1.0f / rule.power);
  } else {
    if (selected || rule.scoring == Scoring::softmax) unit = selected ? sum : row.sum;
    if (rule.normalization == Normalization::sum_plus_epsilon) divisor = sum / unit + rule.epsilon;
    if (rule.normalization == Normalization::clamped_sum) divisor = fmaxf(sum / unit, rule.epsilon);
  }
  const bool nothing = !row.finite || unit == 0.0f || divisor == 0.0f;
  for (int slot = lane; slot < rule.top_k; slot += 32) {
    weights[slot] = nothing ? 0.0f : weights[slot] / unit / divisor * rule.scale;
  }
}

__device__ __forceinline__ bool sums_all(const GatingRule& rule) {
  return rule.scoring == Scoring::softmax && rule.normalization != Normalization::sum &&
         rule.normalization != Normalization::lp;
}

}  // namespace moe::MOE_GPU_NAMESPACE
