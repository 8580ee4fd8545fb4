#include "gpu/operators.h"

#include <ptx/launch.cuh>

#include "gpu/plan/plan.h"
#include "gpu/plan/plan_parts.h"
#include "gpu/plan/views.h"
#include "gpu/routing/gating.cuh"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Row i of `chosen` is the row of logits [T * G, E / G] that belongs to the group of slot i of [T, k1]. One warp per
// row.
template <class T>
MOE_KERNEL(chosen_logits_kernel, (gpu::kRowThreads), const T* logits, const int* groups, T* chosen, int64_t slots,
           int64_t size, int top_groups, int64_t num_groups) {
  for_each_row(slots, [&](int64_t slot) {
    const T* from = logits + (slot / top_groups * num_groups + groups[slot]) * size;
    T* to = chosen + slot * size;
    for (int64_t i = threadIdx.x % 32; i < size; i += 32) to[i] = from[i];
  });
}

// Turns choices within groups into choices among all experts, in place.
MOE_KERNEL(join_groups_kernel, (gpu::kRowThreads), const int* groups, const float* group_weights, int* ids,
           float* weights, int64_t count, int top_k, int group_size) {
  for_each_item(count, [&](int64_t i) {
    const int64_t slot = i / top_k;
    ids[i] += groups[slot] * group_size;
    weights[i] *= group_weights[slot];
  });
}

// Offsets of the parts of the workspace.
struct Workspace {
  size_t groups, group_weights, logits, bytes;

  explicit Workspace(const HierarchicalGating& p) {
    const auto slots = static_cast<size_t>(p.logits.shape[0] * p.groups.top_k);
    gpu::Parts parts;
    groups = parts.take(slots * sizeof(int));
    group_weights = parts.take(slots * sizeof(float));
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
  const TensorView groups = gpu::matrix_view(scratch.at(at.groups), DType::i32, tokens, p.groups.top_k);
  const TensorView group_weights = gpu::matrix_view(scratch.at(at.group_weights), DType::f32, tokens, p.groups.top_k);
  const auto gate = [&](const Gating& gating) {
    return launch_gating(gating_arguments(gating, context.errors.non_finite_rows()), traits, stream);
  };
  MOE_TRY(gate({p.group_logits, {}, groups, group_weights, p.groups}));

  const dim3 block(gpu::kRowThreads);
  const TensorView logits = gpu::matrix_view(scratch.at(at.logits), p.logits.dtype, slots, size);
  MOE_TRY(gpu::dispatch_float(p.logits.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return launch("chosen_logits", chosen_logits_kernel<T>, dim3(gpu::row_grid(slots, traits)), block, 0, stream,
                  p.logits.as<const T>(), groups.as<const int>(), logits.as<T>(), slots, size, p.groups.top_k,
                  num_groups);
  }));

  const TensorView ids = gpu::matrix_view(p.ids.data, DType::i32, slots, p.experts.top_k);
  const TensorView weights = gpu::matrix_view(p.weights.data, DType::f32, slots, p.experts.top_k);
  MOE_TRY(gate({logits, {}, ids, weights, p.experts}));
  return launch("join_groups", join_groups_kernel, dim3(gpu::element_grid(ids.size(), traits)), block, 0, stream,
                groups.as<const int>(), group_weights.as<const float>(), ids.as<int>(), weights.as<float>(), ids.size(),
                p.experts.top_k, static_cast<int>(size));
}

}  // namespace moe::MOE_GPU_NAMESPACE
