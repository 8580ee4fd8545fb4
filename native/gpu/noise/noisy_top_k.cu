#include "gpu/operators.h"

#include <ptx/launch.cuh>

#include "core/noisy_top_k.h"
#include "gpu/noise/load_groups.cuh"
#include "gpu/plan/plan.h"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct NoiseArguments {
  const float* clean;
  const float* spread;
  const float* noise;
  float epsilon;
  float* logits;
  float* deviation;
  int64_t size;
};

MOE_KERNEL(noisy_logits_kernel, (gpu::kRowThreads), const NoiseArguments a) {
  for_each_item(a.size, [&](int64_t i) {
    const float deviation = softplus(a.spread[i]) + a.epsilon;
    a.deviation[i] = deviation;
    a.logits[i] = a.clean[i] + a.noise[i] * deviation;
  });
}

struct LoadArguments {
  const float* clean;
  const float* noisy;
  const float* deviation;
  LoadGroups groups;
  float* load;
  int64_t tokens;
  int64_t experts;
  int top_k;
  double* sums;                // [blocks, E]
  int64_t* tokens_of_groups;   // [blocks, G]
  LoadThresholds* thresholds;  // [T, G]; NaN if the token does not count or did not choose the group
  int64_t blocks;
};

// One warp finds the thresholds of a row of noisy logits: largest first, each value with all its equals.
__device__ __forceinline__ LoadThresholds find_thresholds(const float* noisy, int64_t count, int top_k) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  LoadThresholds found{-INFINITY, -INFINITY};
  float value = INFINITY;
  // The number of logits that are at least `value`.
  int64_t seen = 0;
  while (seen <= top_k && seen < count) {
    float largest = -INFINITY;
    for (int64_t e = lane; e < count; e += 32) {
      const float logit = ordered_logit(noisy[e]);
      if (seen == 0 || logit < value) largest = fmaxf(largest, logit);
    }
    value = warp_max(largest);
    int equal = 0;
    for (int64_t e = lane; e < count; e += 32) equal += ordered_logit(noisy[e]) == value ? 1 : 0;
    const int64_t before = seen;
    seen += __reduce_add_sync(kAllLanes, equal);
    if (before < top_k && seen >= top_k) found.last = value;
    if (seen > top_k) found.next = value;
  }
  return found;
}

// One warp per token and group.
MOE_KERNEL(load_thresholds_kernel, (gpu::kRowThreads), const LoadArguments a) {
  const int64_t experts = a.experts / a.groups.count;
  for_each_row(a.tokens * a.groups.count, [&](int64_t row) {
    LoadThresholds thresholds{NAN, NAN};
    if (a.groups.chosen_by_warp(row / a.groups.count, row % a.groups.count)) {
      thresholds = find_thresholds(a.noisy + row * experts, experts, a.top_k);
    }
    if (threadIdx.x % 32 == 0) a.thresholds[row] = thresholds;
  });
}

// One thread per expert and block of tokens adds up the probabilities.
MOE_KERNEL(load_sums_kernel, (gpu::kRowThreads), const LoadArguments a) {
  const int64_t experts = a.experts / a.groups.count;
  for_each_item(a.blocks * a.experts, [&](int64_t i) {
    const int64_t block = i / a.experts;
    const int64_t expert = i % a.experts;
    const int64_t group = expert / experts;
    const int64_t end = min(a.tokens, (block + 1) * kLoadBlock);
    double sum = 0.0;
    int64_t chose = 0;
    for (int64_t token = block * kLoadBlock; token < end; ++token) {
      const LoadThresholds thresholds = a.thresholds[token * a.groups.count + group];
      if (thresholds.last != thresholds.last) continue;
      const int64_t element = token * a.experts + expert;
      sum += probability_in_top_k(a.clean[element], a.noisy[element], a.deviation[element], thresholds);
      ++chose;
    }
    a.sums[i] = sum;
    if (expert % experts == 0) a.tokens_of_groups[block * a.groups.count + group] = chose;
  });
}

// One thread per expert adds up the blocks, in order.
MOE_KERNEL(load_kernel, (gpu::kRowThreads), const LoadArguments a) {
  for_each_item(a.experts, [&](int64_t expert) {
    const int64_t group = expert / (a.experts / a.groups.count);
    double sum = 0.0;
    int64_t chose = 0;
    for (int64_t block = 0; block < a.blocks; ++block) {
      sum += a.sums[block * a.experts + expert];
      chose += a.tokens_of_groups[block * a.groups.count + group];
    }
    if (a.groups.load != nullptr) {
      sum = chose == 0 ? 0.0 : a.groups.load[group] * sum / static_cast<double>(chose);
    }
    a.load[expert] = static_cast<float>(sum);
  });
}

// Offsets of the parts of the workspace.
struct LoadWorkspace {
  int64_t blocks;     // of kLoadBlock tokens
  size_t sums;        // [blocks, E] f64
  size_t tokens;      // [blocks, G] i64, each block's tokens that chose the group
  size_t thresholds;  // [T, G]
  size_t bytes;
};

LoadWorkspace load_workspace(const ExpertLoad& p) {
  const int64_t tokens = p.clean.shape[0];
  LoadWorkspace parts;
  parts.blocks = (tokens + kLoadBlock - 1) / kLoadBlock;
  parts.sums = 0;
  parts.tokens = parts.sums + static_cast<size_t>(parts.blocks * p.clean.shape[1]) * sizeof(double);
  parts.thresholds = parts.tokens + static_cast<size_t>(parts.blocks * p.groups()) * sizeof(int64_t);
  parts.bytes = parts.thresholds + static_cast<size_t>(tokens * p.groups()) * sizeof(LoadThresholds);
  return parts;
}

}  // namespace

Status run(Context& context, const NoisyLogits& p) {
  const NoiseArguments arguments{
      .clean = p.clean.as<float>(),
      .spread = p.spread.as<float>(),
      .noise = p.noise.as<float>(),
      .epsilon = p.epsilon,
      .logits = p.logits.as<float>(),
      .deviation = p.deviation.as<float>(),
      .size = p.clean.size(),
  };
  return launch("noisy_logits", noisy_logits_kernel, dim3(gpu::element_grid(arguments.size, context.traits())),
                dim3(gpu::kRowThreads), 0, context.stream(), arguments);
}

Status run(Context& context, const ExpertLoad& p) {
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  const LoadWorkspace parts = load_workspace(p);
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(parts.bytes));
  const LoadArguments arguments{
      .clean = p.clean.as<float>(),
      .noisy = p.noisy.as<float>(),
      .deviation = p.deviation.as<float>(),
      .groups = load_groups_of(context, p, "expertLoad: groups.ids"),
      .load = p.load.as<float>(),
      .tokens = p.clean.shape[0],
      .experts = p.clean.shape[1],
      .top_k = p.top_k,
      .sums = reinterpret_cast<double*>(scratch.at(parts.sums)),
      .tokens_of_groups = reinterpret_cast<int64_t*>(scratch.at(parts.tokens)),
      .thresholds = reinterpret_cast<LoadThresholds*>(scratch.at(parts.thresholds)),
      .blocks = parts.blocks,
  };
  const auto elements = [&](const char* name, auto kernel, int64_t items) {
    return launch(name, kernel, dim3(gpu::element_grid(items, traits)), dim3(gpu::kRowThreads), 0, stream, arguments);
  };
  MOE_TRY(launch("load_thresholds", load_thresholds_kernel,
                 dim3(gpu::row_grid(arguments.tokens * arguments.groups.count, traits)), dim3(gpu::kRowThreads), 0,
                 stream, arguments));
  MOE_TRY(elements("load_sums", load_sums_kernel, arguments.blocks * arguments.experts));
  return elements("load", load_kernel, arguments.experts);
}

}  // namespace moe::MOE_GPU_NAMESPACE
