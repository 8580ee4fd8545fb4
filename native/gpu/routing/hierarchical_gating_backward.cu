#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/routing/gating_gradient.cuh"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const void* group_logits;
  DType group_dtype;
  const void* logits;
  DType dtype;
  const int* ids;
  const float* weight_gradient;
  float* group_gradient;
  float* gradient;
  float* group_weights;  // [T, k1]
  float* weights;        // [T, k1 * k2], of the second gates
  IdError* error;
  int64_t tokens;
  int num_groups;
  int group_size;
  GatingRule groups;
  GatingRule experts;

  __device__ __forceinline__ int slots() const { return groups.top_k * experts.top_k; }
  __device__ __forceinline__ auto choices(int64_t token) const {
    const auto id_of = [this, first = token * slots()](int slot) {
      return checked_id(ids[first + slot], static_cast<int64_t>(num_groups) * group_size, first + slot, error);
    };
    return GroupedChoices<decltype(id_of)>{id_of, experts.top_k, group_size};
  }
  // The logits of one token's group.
  __device__ __forceinline__ LogitRow row(int64_t token, int group, Scoring scoring) const {
    return {logits, dtype, (token * num_groups + group) * group_size, group_size, scoring};
  }
};

// One warp per token and chosen group: the second gate's weights.
template <Scoring kScoring>
MOE_KERNEL(inner_weights_kernel, (gpu::kRowThreads, 1), const Arguments a) {
  for_each_row(a.tokens * a.groups.top_k, [&](int64_t item) {
    const int64_t token = item / a.groups.top_k;
    const int first = static_cast<int>(item % a.groups.top_k) * a.experts.top_k;
    const auto choices = a.choices(token);
    const int group = choices.group(first / a.experts.top_k);
    float* weights = a.weights + token * a.slots() + first;
    const LogitRow row = a.row(token, group < 0 ? 0 : group, kScoring);
    const auto choice = [&](int i) { return group < 0 ? -1 : choices.expert(first + i, group); };
    const auto gate = fixed_gate<kScoring>(a.experts, row, choice);
    for (int i = 0; i < a.experts.top_k; ++i) {
      const float weight = gate.weight(i);
      if (threadIdx.x % 32 == 0) weights[i] = weight;
    }
  });
}

// One warp per token: the first gate's weights and gradients.
template <Scoring kScoring>
MOE_KERNEL(outer_gradient_kernel, (gpu::kRowThreads, 1), const Arguments a) {
  for_each_row(a.tokens, [&](int64_t token) {
    const auto choices = a.choices(token);
    const LogitRow row(a.group_logits, a.group_dtype, token * a.num_groups, a.num_groups, kScoring);
    float* gradient = a.group_gradient + token * a.num_groups;
    row.for_each([&](int group, float) { gradient[group] = 0.0f; });
    const auto choice = [&](int j) { return choices.group(j); };
    const auto gate = fixed_gate<kScoring>(a.groups, row, choice);
    for (int j = 0; j < a.groups.top_k; ++j) {
      const float weight = gate.weight(j);
      if (threadIdx.x % 32 == 0) a.group_weights[token * a.groups.top_k + j] = weight;
    }
    const int64_t first = token * a.slots();
    gate.add_gradient(
        [&](int j) {
          float sum = 0.0f;
          for (int slot = j * a.experts.top_k; slot < (j + 1) * a.experts.top_k; ++slot) {
            if (choices.id_of(slot) >= 0) sum += a.weight_gradient[first + slot] * a.weights[first + slot];
          }
          return sum;
        },
        gradient);
  });
}

// One warp per token: the second gates' gradients, one after another.
template <Scoring kScoring>
MOE_KERNEL(inner_gradient_kernel, (gpu::kRowThreads, 1), const Arguments a) {
  for_each_row(a.tokens, [&](int64_t token) {
    const auto choices = a.choices(token);
    const int64_t experts = static_cast<int64_t>(a.num_groups) * a.group_size;
    float* gradient = a.gradient + token * experts;
    for (int64_t e = threadIdx.x % 32; e < experts; e += 32) gradient[e] = 0.0f;
    __syncwarp();
    for (int j = 0; j < a.groups.top_k; ++j) {
      const int group = choices.group(j);
      if (group < 0) continue;
      const int first = j * a.experts.top_k;
      const LogitRow row = a.row(token, group, kScoring);
      const auto choice = [&](int i) { return choices.expert(first + i, group); };
      const float weight = a.group_weights[token * a.groups.top_k + j];
      const float* weight_gradient = a.weight_gradient + token * a.slots() + first;
      fixed_gate<kScoring>(a.experts, row, choice)
          .add_gradient([&](int i) { return weight_gradient[i] * weight; }, gradient + group * a.group_size);
    }
  });
}

}  // namespace

Status run(Context& context, const HierarchicalGatingBackward& p) {
  const gpu::DeviceTraits& traits = context.traits();
  const int64_t tokens = p.logits.shape[0], experts = p.logits.shape[1], slots = p.ids.size();
  const int64_t chosen = tokens * p.groups.top_k;
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(static_cast<size_t>(slots + chosen) * sizeof(float)));
  auto* weights = reinterpret_cast<float*>(scratch.at(0));
  const Arguments arguments{
      .group_logits = p.group_logits.data,
      .group_dtype = p.group_logits.dtype,
      .logits = p.logits.data,
      .dtype = p.logits.dtype,
      .ids = p.ids.as<int>(),
      .weight_gradient = p.d_weights.as<float>(),
      .group_gradient = p.d_group_logits.as<float>(),
      .gradient = p.d_logits.as<float>(),
      .group_weights = weights + slots,
      .weights = weights,
      .error = context.errors.next({.parameter = "hierarchicalGatingBackward: routing.ids",
                                    .what = "an expert",
                                    .limit = experts,
                                    .columns = p.ids.shape[1]}),
      .tokens = tokens,
      .num_groups = static_cast<int>(p.group_logits.shape[1]),
      .group_size = static_cast<int>(p.group_size()),
      .groups = p.groups,
      .experts = p.experts,
  };
  const auto launch_rows = [&](const char* name, auto kernel, int64_t rows) {
    return launch(name, kernel, dim3(gpu::row_grid(rows, traits)), dim3(gpu::kRowThreads), 0, context.stream(),
                  arguments);
  };
  MOE_TRY(dispatch_scoring(p.experts.scoring, [&](auto scoring) {
    return launch_rows("inner_weights", inner_weights_kernel<scoring>, chosen);
  }));
  MOE_TRY(dispatch_scoring(p.groups.scoring, [&](auto scoring) {
    return launch_rows("outer_gradient", outer_gradient_kernel<scoring>, tokens);
  }));
  return dispatch_scoring(p.experts.scoring, [&](auto scoring) {
    return launch_rows("inner_gradient", inner_gradient_kernel<scoring>, tokens);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
