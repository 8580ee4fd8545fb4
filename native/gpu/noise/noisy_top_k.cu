#include "gpu/operators.h"

#include <ptx/launch.cuh>

#include "core/noisy_top_k.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/checked_id.cuh"
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

__global__ void __launch_bounds__(gpu::kRowThreads) noisy_logits_kernel(const NoiseArguments a) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < a.size; i += threads) {
    const float deviation = softplus(a.spread[i]) + a.epsilon;
    a.deviation[i] = deviation;
    a.logits[i] = a.clean[i] + a.noise[i] * deviation;
  }
}

struct LoadArguments {
  const float* clean;
  const float* noisy;
  const float* deviation;
  TokenMask mask;
  const int* group_ids;     // null: one group that every token chose
  const float* group_load;  // null: likewise
  float* load;
  int64_t tokens;
  int64_t experts;
  int64_t groups;
  int64_t choices;  // of groups, of one token
  int top_k;
  double* sums;                // [blocks, E]
  int64_t* tokens_of_groups;   // [blocks, G]
  LoadThresholds* thresholds;  // [T, G]; NaN where the token does not count or did not choose the group
  int64_t blocks;
  IdError* error;
};

// Whether the token counts and chose the group; the same in all lanes of a warp.
__device__ __forceinline__ bool chosen(const LoadArguments& a, int64_t token, int64_t group) {
  if (!a.mask.counts(token)) return false;
  if (a.group_ids == nullptr) return true;
  bool found = false;
  for (int64_t choice = threadIdx.x % 32; choice < a.choices; choice += 32) {
    const int64_t position = token * a.choices + choice;
    found = found || checked_id(a.group_ids[position], a.groups, position, a.error) == group;
  }
  return __any_sync(kAllLanes, found) != 0;
}

// The thresholds of a row of noisy logits, by a warp: largest first, a value and all its equals at a time.
__device__ __forceinline__ LoadThresholds find_thresholds(const float* noisy, int64_t count, int top_k) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  LoadThresholds found{-INFINITY, -INFINITY};
  float value = INFINITY;
  // Logits of at least `value`.
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
__global__ void __launch_bounds__(gpu::kRowThreads) load_thresholds_kernel(const LoadArguments a) {
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  const int64_t experts = a.experts / a.groups;
  for (int64_t row = blockIdx.x * static_cast<int64_t>(blockDim.x / 32) + threadIdx.x / 32; row < a.tokens * a.groups;
       row += warps) {
    LoadThresholds thresholds{NAN, NAN};
    if (chosen(a, row / a.groups, row % a.groups)) {
      thresholds = find_thresholds(a.noisy + row * experts, experts, a.top_k);
    }
    if (threadIdx.x % 32 == 0) a.thresholds[row] = thresholds;
  }
}

// One thread per expert and block of tokens adds up the probabilities.
__global__ void __launch_bounds__(gpu::kRowThreads) load_sums_kernel(const LoadArguments a) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t experts = a.experts / a.groups;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < a.blocks * a.experts;
       i += threads) {
    const int64_t block = i / a.experts;
    const int64_t expert = i % a.experts;
    const int64_t group = expert / experts;
    const int64_t end = min(a.tokens, (block + 1) * kLoadBlock);
    double sum = 0.0;
    int64_t chose = 0;
    for (int64_t token = block * kLoadBlock; token < end; ++token) {
      const LoadThresholds thresholds = a.thresholds[token * a.groups + group];
      if (thresholds.last != thresholds.last) continue;
      const int64_t element = token * a.experts + expert;
      sum += probability_in_top_k(a.clean[element], a.noisy[element], a.deviation[element], thresholds);
      ++chose;
    }
    a.sums[i] = sum;
    if (expert % experts == 0) a.tokens_of_groups[block * a.groups + group] = chose;
  }
}

// One thread per expert adds up the blocks, in their order.
__global__ void __launch_bounds__(gpu::kRowThreads) load_kernel(const LoadArguments a) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t expert = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; expert < a.experts;
       expert += threads) {
    const int64_t group = expert / (a.experts / a.groups);
    double sum = 0.0;
    int64_t chose = 0;
    for (int64_t block = 0; block < a.blocks; ++block) {
      sum += a.sums[block * a.experts + expert];
      chose += a.tokens_of_groups[block * a.groups + group];
    }
    if (a.group_load != nullptr) {
      sum = chose == 0 ? 0.0 : a.group_load[group] * sum / static_cast<double>(chose);
    }
    a.load[expert] = static_cast<float>(sum);
  }
}

// Where the parts of the workspace lie.
struct LoadWorkspace {
  int64_t blocks;     // of kLoadBlock tokens
  size_t sums;        // [blocks, E] f64
  size_t tokens;      // [blocks, G] i64, of each block that chose the group
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
  const NoiseArguments arguments{p.clean.as<float>(),  p.spread.as<float>(),    p.noise.as<float>(), p.epsilon,
                                 p.logits.as<float>(), p.deviation.as<float>(), p.clean.size()};
  return launch("noisy_logits", noisy_logits_kernel, dim3(gpu::element_grid(arguments.size, context.traits())),
                dim3(gpu::kRowThreads), 0, context.stream(), arguments);
}

Status run(Context& context, const ExpertLoad& p) {
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  const LoadWorkspace parts = load_workspace(p);
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(parts.bytes));
  gpu::IdError* error = nullptr;
  const int64_t choices = p.group_ids.absent() ? 0 : p.group_ids.shape[1];
  MOE_TRY(context.errors.next({"expertLoad: groups.ids", "a group", p.groups(), choices}, &error));
  const LoadArguments arguments{p.clean.as<float>(),
                                p.noisy.as<float>(),
                                p.deviation.as<float>(),
                                TokenMask(p.token_mask),
                                p.group_ids.as<int>(),
                                p.group_load.as<float>(),
                                p.load.as<float>(),
                                p.clean.shape[0],
                                p.clean.shape[1],
                                p.groups(),
                                p.group_ids.absent() ? 0 : p.group_ids.shape[1],
                                p.top_k,
                                reinterpret_cast<double*>(scratch.at(parts.sums)),
                                reinterpret_cast<int64_t*>(scratch.at(parts.tokens)),
                                reinterpret_cast<LoadThresholds*>(scratch.at(parts.thresholds)),
                                parts.blocks,
                                error};
  const auto elements = [&](const char* name, void (*kernel)(LoadArguments), int64_t items) {
    return launch(name, kernel, dim3(gpu::element_grid(items, traits)), dim3(gpu::kRowThreads), 0, stream, arguments);
  };
  MOE_TRY(launch("load_thresholds", load_thresholds_kernel,
                 dim3(gpu::row_grid(arguments.tokens * arguments.groups, traits)), dim3(gpu::kRowThreads), 0, stream,
                 arguments));
  MOE_TRY(elements("load_sums", load_sums_kernel, arguments.blocks * arguments.experts));
  return elements("load", load_kernel, arguments.experts);
}

}  // namespace moe::MOE_GPU_NAMESPACE
