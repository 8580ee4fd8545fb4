#include "cuda/gating.cuh"

#include <climits>
#include <cmath>

#include <ptx/launch.cuh>

#include "cuda/plan.h"
#include "cuda/tile/dispatch.h"
#include "cuda/tile/element.cuh"
#include "cuda/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const void* logits;
  int* ids;
  float* weights;
  unsigned long long* non_finite_rows;
  int64_t tokens;
  int experts;
  int top_k;
  // Whether the weights are divided by the sum over the chosen experts rather than over all.
  bool over_chosen;
  float scale;
};

// Integers in the order of the logits: NaN is the least, and the two zeros are equal.
__device__ __forceinline__ uint32_t rank_of(float logit) {
  if (std::isnan(logit)) return 0;
  const uint32_t bits = float_bits(logit == 0.0f ? 0.0f : logit);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float logit_of(uint32_t rank) {
  if (rank == 0) return -INFINITY;
  return float_from_bits((rank >> 31) != 0 ? rank & 0x7fffffffu : ~rank);
}

// e^(logit - max), where +Infinity, as the maximum, gives 1 and NaN gives 0.
__device__ __forceinline__ float exponential(float logit, float max) {
  if (std::isnan(logit)) return 0.0f;
  return logit == max ? 1.0f : expf(logit - max);
}

// One token's logits, seen by a lane that owns every 32nd: in registers where there are at most 32 * kPerLane, else
// (kPerLane 0, any number) read again each time.
template <class T, int kPerLane>
class LaneLogits {
 public:
  __device__ LaneLogits(const T* row, int experts) : row_(row), experts_(experts) {
    if constexpr (kPerLane > 0) for_each_owned([&](int i, int expert) { values_[i] = to_float(row[expert]); });
  }

  // use(expert, logit), in order of the expert.
  template <class Use>
  __device__ __forceinline__ void for_each(Use&& use) const {
    if constexpr (kPerLane > 0) {
      for_each_owned([&](int i, int expert) { use(expert, values_[i]); });
    } else {
      for (int expert = lane(); expert < experts_; expert += 32) use(expert, to_float(row_[expert]));
    }
  }

 private:
  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }

  template <class Use>
  __device__ __forceinline__ void for_each_owned(Use&& use) const {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int expert = lane() + 32 * i;
      if (expert < experts_) use(i, expert);
    }
  }

  const T* row_;
  int experts_;
  float values_[kPerLane > 0 ? kPerLane : 1];
};

// One warp per token. The k experts are found one after another: each is the best of those that come after the one
// before it in the order (rank descending, expert ascending), so nothing has to be marked as taken.
template <class T, int kPerLane>
__global__ void __launch_bounds__(gpu::kGatingThreads) gating_kernel(const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  for (int64_t token = blockIdx.x * static_cast<int64_t>(blockDim.x / 32) + threadIdx.x / 32; token < a.tokens;
       token += warps) {
    const LaneLogits<T, kPerLane> logits(static_cast<const T*>(a.logits) + token * a.experts, a.experts);

    float max = -INFINITY;
    bool finite = false;
    logits.for_each([&](int, float logit) {
      max = fmaxf(max, logit);
      finite = finite || std::isfinite(logit);
    });
    max = warp_max(max);
    finite = __any_sync(kAllLanes, finite) != 0;
    if (!finite && lane == 0) atomicAdd(a.non_finite_rows, 1ull);

    float sum = 0.0f;
    if (!a.over_chosen) {
      logits.for_each([&](int, float logit) { sum += exponential(logit, max); });
      sum = warp_sum(sum);
    }

    int* ids = a.ids + token * a.top_k;
    float* weights = a.weights + token * a.top_k;
    uint32_t last_rank = UINT_MAX;
    int last_expert = -1;
    for (int slot = 0; slot < a.top_k; ++slot) {
      uint32_t best_rank = 0;
      int best_expert = INT_MAX;
      logits.for_each([&](int expert, float logit) {
        const uint32_t rank = rank_of(logit);
        const bool left = rank < last_rank || (rank == last_rank && expert > last_expert);
        if (left && (rank > best_rank || best_expert == INT_MAX)) {
          best_rank = rank;
          best_expert = expert;
        }
      });
      last_rank = __reduce_max_sync(kAllLanes, best_rank);
      last_expert = __reduce_min_sync(kAllLanes, best_rank == last_rank ? best_expert : INT_MAX);
      const float score = exponential(logit_of(last_rank), max);
      if (a.over_chosen) sum += score;
      if (lane != slot % 32) continue;
      ids[slot] = last_expert;
      weights[slot] = score;
    }
    for (int slot = lane; slot < a.top_k; slot += 32) {
      weights[slot] = finite ? weights[slot] / sum * a.scale : 0.0f;
    }
  }
}

template <class T, int kPerLane>
Status launch_for(const Arguments& arguments, unsigned grid, Stream stream) {
  return launch("gating", gating_kernel<T, kPerLane>, dim3(grid), dim3(gpu::kGatingThreads), 0, stream, arguments);
}

}  // namespace

Status launch_gating(const Gating& p, unsigned long long* non_finite_rows, const gpu::DeviceTraits& traits,
                     Stream stream) {
  const Arguments arguments{
      p.logits.data,         p.ids.as<int>(),
      p.weights.as<float>(), non_finite_rows,
      p.logits.shape[0],     static_cast<int>(p.logits.shape[1]),
      p.rule.top_k,          p.rule.normalization != Normalization::none || p.rule.scoring == Scoring::softmax_selected,
      p.rule.scale};
  const gpu::GatingPlan plan = gpu::plan_gating(arguments.tokens, arguments.experts, traits);
  return gpu::dispatch_float(p.logits.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    switch (plan.per_lane) {
      case 2: return launch_for<T, 2>(arguments, plan.grid, stream);
      case 8: return launch_for<T, 8>(arguments, plan.grid, stream);
      case 32: return launch_for<T, 32>(arguments, plan.grid, stream);
      default: return launch_for<T, 0>(arguments, plan.grid, stream);
    }
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
