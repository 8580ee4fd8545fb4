#include "gpu/routing/gating_weights.cuh"

#include <cmath>

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/routing/gating_choice.cuh"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const void* logits;  // [T, E]
  DType dtype;
  const int* ids;  // [T, k]
  float* weights;
  IdError* error;
  unsigned long long* non_finite_rows;
  int64_t tokens;
  int experts;
  GatingRule rule;
};

struct Logits {
  const void* logits;
  DType dtype;
  int64_t first;
  __device__ float operator()(int expert) const { return load_as_float(logits, dtype, first + expert); }
};

// A token's choices. One out of range is none, and an error.
struct Choices {
  const Arguments& a;
  int64_t first;
  __device__ int operator()(int slot) const {
    return checked_id(a.ids[first + slot], a.experts, first + slot, a.error);
  }
};

// The share of a slot's expert among those near the best of what the slots before have left.
template <class Values>
__device__ float sparsemixer_share(const Values& logits, const Choices& choices, int slot, float reach, float logit) {
  const auto left = [&](int expert, float) {
    for (int before = 0; before < slot; ++before) {
      if (choices(before) == expert) return false;
    }
    return true;
  };
  if (!left(choices(slot), logit)) return 0.0f;
  float best = -INFINITY;
  logits.for_each([&](int expert, float value) { best = left(expert, value) ? fmaxf(best, value) : best; });
  return near_share(logits, warp_max(best), reach, logit, left);
}

// One warp per token. Only one block per multiprocessor has to fit: room for more would make the kernel spill.
MOE_KERNEL(gating_weights_kernel, (gpu::kRowThreads, 1), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(a.tokens, [&](int64_t token) {
    const Logits source{a.logits, a.dtype, token * a.experts};
    const LaneValues<Logits, 0> logits(source, a.experts);
    const Statistics row = statistics_of(logits, sums_all(a.rule));
    if (!row.finite && lane == 0) atomicAdd(a.non_finite_rows, 1ull);
    const Choices choices{a, token * a.rule.top_k};
    float* weights = a.weights + choices.first;
    float chosen_max = -INFINITY;
    for (int slot = 0; slot < a.rule.top_k; ++slot) {
      const int expert = choices(slot);
      float logit = expert < 0 ? NAN : source(expert);
      if (a.rule.scoring == Scoring::sparsemixer && expert >= 0) {
        logit = sparsemixer_share(logits, choices, slot, 2.0f * a.rule.jitter, logit);
      }
      chosen_max = fmaxf(chosen_max, logit);
      if (lane == slot % 32) weights[slot] = logit;
    }
    weigh(a.rule, row, chosen_max, weights);
  });
}

}  // namespace

Status run(Context& context, const GatingWeights& p) {
  const int64_t experts = p.logits.shape[1];
  const Arguments arguments{
      .logits = p.logits.data,
      .dtype = p.logits.dtype,
      .ids = p.ids.as<int>(),
      .weights = p.weights.as<float>(),
      .error = context.errors.next({.parameter = "gatingWeights: routing.ids",
                                    .what = "an expert",
                                    .limit = experts,
                                    .columns = p.ids.shape[1]}),
      .non_finite_rows = context.errors.non_finite_rows(),
      .tokens = p.logits.shape[0],
      .experts = static_cast<int>(experts),
      .rule = p.rule,
  };
  return launch("gating_weights", gating_weights_kernel, dim3(gpu::row_grid(arguments.tokens, context.traits())),
                dim3(gpu::kRowThreads), 0, context.stream(), arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
