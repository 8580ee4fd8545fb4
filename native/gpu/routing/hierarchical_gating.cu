#include "gpu/operators.h"

#include <ptx/launch.cuh>

#include "gpu/experts/permute.cuh"
#include "gpu/plan/plan.h"
#include "gpu/plan/plan_parts.h"
#include "gpu/plan/views.h"
#include "gpu/routing/gating.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// row[i] = the row of the logits [T * G, E / G] that the group of slot i of [T, k1] has.
__global__ void __launch_bounds__(gpu::kRowThreads)
    group_rows_kernel(const int* groups, int* rows, int64_t slots, int top_groups, int num_groups) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < slots; i += threads) {
    rows[i] = static_cast<int>(i / top_groups * num_groups + groups[i]);
  }
}

// From the choice within groups to that among all experts, in place.
__global__ void __launch_bounds__(gpu::kRowThreads)
    join_groups_kernel(const int* groups, const float* group_weights, int* ids, float* weights, int64_t count,
                       int top_k, int group_size) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < count; i += threads) {
    const int64_t slot = i / top_k;
    ids[i] += groups[slot] * group_size;
    weights[i] *= group_weights[slot];
  }
}

// Where the parts of the workspace begin.
struct Workspace {
  size_t groups, group_weights, rows, logits, bytes;

  explicit Workspace(const HierarchicalGating& p) {
    const auto slots = static_cast<size_t>(p.logits.shape[0] * p.groups.top_k);
    gpu::Parts parts;
    groups = parts.take(slots * sizeof(int));
    group_weights = parts.take(slots * sizeof(float));
    rows = parts.take(slots * sizeof(int));
    logits = parts.take(slots * static_cast<size_t>(p.group_size()) * info(p.logits.dtype).bytes);
    bytes = parts.end();
  }
};

}  // namespace

Status run(Context& context, const HierarchicalGating& p) {
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  const int64_t tokens = p.logits.shape[0], num_groups = p.group_logits.shape[1], size = p.group_size();
  const int64_t slots = tokens * p.groups.top_k;
  if (slots == 0) return {};
  const Workspace at(p);
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(at.bytes));
  gpu::IdError* error = nullptr;
  MOE_TRY(context.errors.next({"hierarchicalGating: group", "a row", p.group_logits.size(), 0}, &error));
  const TensorView groups = gpu::matrix_view(scratch.at(at.groups), DType::i32, tokens, p.groups.top_k);
  const TensorView group_weights = gpu::matrix_view(scratch.at(at.group_weights), DType::f32, tokens, p.groups.top_k);
  MOE_TRY(launch_gating({p.group_logits, {}, groups, group_weights, p.groups}, context.errors.non_finite_rows(), traits,
                        stream));

  const dim3 block(gpu::kRowThreads);
  const auto grid = [&](int64_t count) {
    return dim3(gpu::capped_grid(gpu::ceil_div(count, gpu::kRowThreads), 16, traits));
  };
  const TensorView rows = gpu::vector_view(scratch.at(at.rows), DType::i32, slots);
  MOE_TRY(launch("group_rows", group_rows_kernel, grid(slots), block, 0, stream, groups.as<const int>(), rows.as<int>(),
                 slots, p.groups.top_k, static_cast<int>(num_groups)));
  const TensorView all = gpu::matrix_view(p.logits.data, p.logits.dtype, tokens * num_groups, size);
  const TensorView logits = gpu::matrix_view(scratch.at(at.logits), p.logits.dtype, slots, size);
  MOE_TRY(launch_gather_rows(all, rows, logits, error, traits, stream));

  const TensorView ids = gpu::matrix_view(p.ids.data, DType::i32, slots, p.experts.top_k);
  const TensorView weights = gpu::matrix_view(p.weights.data, DType::f32, slots, p.experts.top_k);
  MOE_TRY(launch_gating({logits, {}, ids, weights, p.experts}, context.errors.non_finite_rows(), traits, stream));
  return launch("join_groups", join_groups_kernel, grid(ids.size()), block, 0, stream, groups.as<const int>(),
                group_weights.as<const float>(), ids.as<int>(), weights.as<float>(), ids.size(), p.experts.top_k,
                static_cast<int>(size));
}

}  // namespace moe::MOE_GPU_NAMESPACE
