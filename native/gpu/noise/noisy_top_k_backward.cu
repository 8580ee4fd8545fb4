#include "gpu/operators.h"

#include <ptx/launch.cuh>

#include "core/noisy_top_k.h"
#include "core/scores.h"
#include "gpu/noise/load_groups.cuh"
#include "gpu/plan/plan.h"
#include "gpu/routing/gating_choice.cuh"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

MOE_KERNEL(noisy_logits_backward_kernel, (gpu::kRowThreads), const float* spread, const float* noise,
           const float* logit_gradient, const float* deviation_gradient, float* spread_gradient, int64_t size) {
  for_each_item(size, [&](int64_t i) {
    float gradient = logit_gradient[i] * noise[i];
    if (deviation_gradient != nullptr) gradient += deviation_gradient[i];
    spread_gradient[i] = gradient * sigmoid(spread[i]);
  });
}

struct LoadArguments {
  const float* clean;
  const float* noisy;
  const float* deviation;
  LoadGroups groups;
  const float* load_gradient;
  float* clean_gradient;
  float* noisy_gradient;
  float* deviation_gradient;
  float* factors;  // [G], what a group's sums of probabilities are multiplied by
  int64_t tokens;
  int64_t experts;
  int top_k;
};

// One warp per group counts the tokens that chose it.
MOE_KERNEL(load_factors_kernel, (gpu::kRowThreads), const LoadArguments a) {
  for_each_row(a.groups.count, [&](int64_t group) {
    int tokens = 0;
    for (int64_t token = threadIdx.x % 32; token < a.tokens; token += 32)
      tokens += a.groups.chosen(token, group) ? 1 : 0;
    tokens = __reduce_add_sync(kAllLanes, tokens);
    if (threadIdx.x % 32 != 0) return;
    const float load = a.groups.load == nullptr ? 1.0f : a.groups.load[group] / static_cast<float>(tokens);
    a.factors[group] = tokens == 0 ? 0.0f : load;
  });
}

// One warp per token and group.
MOE_KERNEL(expert_load_backward_kernel, (gpu::kRowThreads, 1), const LoadArguments a) {
  const int experts = static_cast<int>(a.experts / a.groups.count);
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(a.tokens * a.groups.count, [&](int64_t row) {
    const int64_t first = row * experts, group = row % a.groups.count;
    for (int e = lane; e < experts; e += 32) {
      a.clean_gradient[first + e] = 0.0f;
      a.noisy_gradient[first + e] = 0.0f;
      a.deviation_gradient[first + e] = 0.0f;
    }
    if (!a.groups.chosen_by_warp(row / a.groups.count, group)) return;
    const float* noisy = a.noisy + first;
    Ranked last, next;
    for (int rank = 0; rank <= a.top_k && rank < experts; ++rank) {
      last = next;
      FirstAfter after(last);
      for (int e = lane; e < experts; e += 32) after.show(rank_of(ordered_logit(noisy[e])), e);
      next = after.of_warp();
    }
    const bool all = a.top_k == experts;
    if (all) last = next;
    const float next_logit = all ? -INFINITY : value_of(next.rank), last_logit = value_of(last.rank);
    float by_next = 0.0f, by_last = 0.0f;
    for (int e = lane; e < experts; e += 32) {
      const bool above = noisy[e] > next_logit;
      const float factor = a.factors[group] * a.load_gradient[group * experts + e];
      const LoadSlope slope =
          load_slope(a.clean[first + e], above ? next_logit : last_logit, a.deviation[first + e], factor);
      a.clean_gradient[first + e] = slope.by_clean;
      a.deviation_gradient[first + e] = slope.by_deviation;
      (above ? by_next : by_last) -= slope.by_clean;
    }
    by_next = warp_sum(by_next);
    by_last = warp_sum(by_last);
    if (!all && lane == next.index % 32) a.noisy_gradient[first + next.index] = by_next;
    if (lane == last.index % 32) a.noisy_gradient[first + last.index] = by_last;
  });
}

}  // namespace

Status run(Context& context, const NoisyLogitsBackward& p) {
  const int64_t size = p.spread.size();
  return launch("noisy_logits_backward", noisy_logits_backward_kernel, dim3(gpu::element_grid(size, context.traits())),
                dim3(gpu::kRowThreads), 0, context.stream(), p.spread.as<const float>(), p.noise.as<const float>(),
                p.d_logits.as<const float>(), p.d_deviation.as<const float>(), p.d_spread.as<float>(), size);
}

Status run(Context& context, const ExpertLoadBackward& p) {
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(static_cast<size_t>(p.groups()) * sizeof(float)));
  const LoadArguments arguments{
      .clean = p.clean.as<float>(),
      .noisy = p.noisy.as<float>(),
      .deviation = p.deviation.as<float>(),
      .groups = load_groups_of(context, p, "expertLoadBackward: groups.ids"),
      .load_gradient = p.d_load.as<float>(),
      .clean_gradient = p.d_clean.as<float>(),
      .noisy_gradient = p.d_noisy.as<float>(),
      .deviation_gradient = p.d_deviation.as<float>(),
      .factors = reinterpret_cast<float*>(scratch.at(0)),
      .tokens = p.clean.shape[0],
      .experts = p.clean.shape[1],
      .top_k = p.top_k,
  };
  const dim3 block(gpu::kRowThreads);
  MOE_TRY(launch("load_factors", load_factors_kernel, dim3(gpu::row_grid(arguments.groups.count, traits)), block, 0,
                 stream, arguments));
  return launch("expert_load_backward", expert_load_backward_kernel,
                dim3(gpu::row_grid(arguments.tokens * arguments.groups.count, traits)), block, 0, stream, arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
