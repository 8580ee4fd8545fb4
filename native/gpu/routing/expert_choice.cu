#include "gpu/operators.h"
#include "gpu/plan/capacity_plan.h"

#include <cmath>

#include <ptx/launch.cuh>

#include "core/scores.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/radix.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const void* logits;
  int* tokens;
  float* token_weights;
  int* ids;
  float* weights;     // at first all scores, NaN where the logit counts as NaN
  uint64_t* numbers;  // [E, T]: the score's order above the token, so that the lowest go first
  uint64_t* chosen;   // [E, C]
  uint64_t* swapped;  // [E, C]
  uint64_t* limits;   // [E]: lower numbers are chosen
  unsigned long long* non_finite_rows;
  int64_t token_count;
  int64_t experts;
  int64_t capacity;
};

__device__ __forceinline__ float or_zero(float score) { return std::isnan(score) ? 0.0f : score; }

// One warp per token.
template <class T, ExpertScoring kScoring>
MOE_KERNEL(score_kernel, (gpu::kRowThreads), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(a.token_count, [&](int64_t token) {
    const T* logits = static_cast<const T*>(a.logits) + token * a.experts;
    float max = -INFINITY;
    bool finite = false;
    for (int64_t expert = lane; expert < a.experts; expert += 32) {
      const float logit = to_float(logits[expert]);
      max = fmaxf(max, logit);
      finite = finite || std::isfinite(logit);
    }
    finite = __any_sync(kAllLanes, finite) != 0;
    if (!finite && lane == 0) atomicAdd(a.non_finite_rows, 1ull);

    float sum = 0.0f;
    if constexpr (kScoring == ExpertScoring::softmax) {
      max = warp_max(max);
      for (int64_t expert = lane; expert < a.experts; expert += 32) {
        const float logit = to_float(logits[expert]);
        sum += logit == max ? 1.0f : or_zero(expf(logit - max));
      }
      sum = warp_sum(sum);
    }
#pragma unroll 1  // more would spill
    for (int64_t expert = lane; expert < a.experts; expert += 32) {
      const float logit = to_float(logits[expert]);
      float score = NAN;
      if (finite && kScoring == ExpertScoring::sigmoid) score = sigmoid(logit);
      if (finite && kScoring == ExpertScoring::softmax) score = (logit == max ? 1.0f : expf(logit - max)) / sum;
      a.weights[token * a.experts + expert] = score;
      a.numbers[expert * a.token_count + token] =
          uint64_t{descending_order(score)} << 32 | static_cast<uint64_t>(token);
    }
  });
}

struct ExpertStorage {
  SelectStorage select;
  RadixSortStorage sort;
  WarpTotals totals;
};

// One block per expert finds its tokens and sorts them.
MOE_KERNEL(choose_kernel, (gpu::kChoiceThreads), const Arguments a) {
  ExpertStorage& storage = ptx::shared<ExpertStorage>();
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  for (int64_t expert = blockIdx.x; expert < a.experts; expert += gridDim.x) {
    const uint64_t* numbers = a.numbers + expert * a.token_count;
    uint64_t limit = UINT64_MAX;
    if (a.capacity < a.token_count) {
      limit = block_select(a.token_count, a.capacity, 64, storage.select, [&](int64_t i) { return numbers[i]; });
    }
    if (thread == 0) a.limits[expert] = limit;
    uint64_t* chosen = a.chosen + expert * a.capacity;
    int64_t count = 0;
    for (int64_t base = 0; base < a.token_count; base += threads) {
      const bool below = base + thread < a.token_count && numbers[base + thread] < limit;
      int total;
      const int inclusive = block_inclusive_scan(below ? 1 : 0, Sum{}, storage.totals, total);
      if (below) chosen[count + inclusive - 1] = numbers[base + thread];
      count += total;
    }
    __syncthreads();
    // Already in token order.
    const uint64_t* sorted = block_sort(chosen, a.swapped + expert * a.capacity, a.capacity, 32, storage.sort);
    for (int64_t place = thread; place < a.capacity; place += threads) {
      const auto token = static_cast<int>(sorted[place] & UINT32_MAX);
      a.tokens[expert * a.capacity + place] = token;
      a.token_weights[expert * a.capacity + place] = or_zero(a.weights[token * a.experts + expert]);
    }
    __syncthreads();
  }
}

// One thread per token and expert clears what is not chosen.
MOE_KERNEL(route_kernel, (gpu::kCapacityThreads), const Arguments a) {
  for_each_item(a.token_count * a.experts, [&](int64_t i) {
    const int64_t token = i / a.experts;
    const int64_t expert = i % a.experts;
    const bool chosen = a.numbers[expert * a.token_count + token] < a.limits[expert];
    a.ids[i] = chosen ? static_cast<int>(expert) : -1;
    a.weights[i] = chosen ? or_zero(a.weights[i]) : 0.0f;
  });
}

template <class T>
Status launch_scores(const Arguments& arguments, ExpertScoring scoring, unsigned grid, Stream stream) {
  const auto kernel = scoring == ExpertScoring::sigmoid ? score_kernel<T, ExpertScoring::sigmoid>
                                                        : score_kernel<T, ExpertScoring::softmax>;
  return launch("expert_score", kernel, dim3(grid), dim3(gpu::kRowThreads), 0, stream, arguments);
}

}  // namespace

Status run(Context& context, const ExpertChoice& p) {
  const Stream stream = context.stream();
  const gpu::ExpertChoicePlan plan = gpu::plan_expert_choice(p, context.traits());
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(plan.workspace_bytes));
  const auto numbers = [&](size_t offset) { return reinterpret_cast<uint64_t*>(scratch.at(offset)); };
  const Arguments arguments{
      .logits = p.logits.data,
      .tokens = p.tokens.as<int>(),
      .token_weights = p.token_weights.as<float>(),
      .ids = p.ids.as<int>(),
      .weights = p.weights.as<float>(),
      .numbers = numbers(plan.numbers),
      .chosen = numbers(plan.chosen),
      .swapped = numbers(plan.swapped),
      .limits = numbers(plan.limits),
      .non_finite_rows = context.errors.non_finite_rows(),
      .token_count = p.logits.shape[0],
      .experts = p.logits.shape[1],
      .capacity = p.tokens.shape[1],
  };
  MOE_TRY(gpu::dispatch_float(p.logits.dtype, [&](auto type) {
    return launch_scores<typename decltype(type)::type>(arguments, p.scoring, plan.token_grid, stream);
  }));
  MOE_TRY(
      launch("expert_choose", choose_kernel, dim3(plan.expert_grid), dim3(plan.expert_threads), 0, stream, arguments));
  return launch("expert_route", route_kernel, dim3(plan.pair_grid), dim3(gpu::kCapacityThreads), 0, stream, arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
