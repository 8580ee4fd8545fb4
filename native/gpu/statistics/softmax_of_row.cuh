// The softmax of a row of router logits, by a warp.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/scores.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {

struct RowSoftmax {
  float largest;
  float sum;        // of the shares
  float distances;  // sum of share * distance from the largest logit
};

// Each lane handles every 32nd expert, and calls each(expert, logit, share) for them; a share is not divided by the
// sum.
template <class T, class Each>
__device__ __forceinline__ RowSoftmax softmax_of_row(const T* logits, int64_t experts, Each&& each) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  float largest = -INFINITY;
  for (int64_t e = lane; e < experts; e += 32) largest = fmaxf(largest, to_float(logits[e]));
  largest = warp_max(largest);
  float sum = 0.0f, distances = 0.0f;
  for (int64_t e = lane; e < experts; e += 32) {
    const float logit = to_float(logits[e]);
    const float share = exponential(logit, largest);
    sum += share;
    if (share > 0.0f && logit < largest) distances += share * (largest - logit);
    each(e, logit, share);
  }
  return {largest, warp_sum(sum), warp_sum(distances)};
}

}  // namespace moe::MOE_GPU_NAMESPACE
