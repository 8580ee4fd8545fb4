#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// One thread per token.
MOE_KERNEL(limit_capacity_backward_kernel, (gpu::kRowThreads), const KeptChoices all, int64_t tokens,
           KeptDivisor divisor, float scale) {
  for_each_item(tokens, [&](int64_t token) {
    KeptChoices choices = all;
    choices.ids += token * all.count;
    choices.kept_ids += token * all.count;
    choices.weights += token * all.count;
    choices.kept_gradient += token * all.count;
    choices.gradient += token * all.count;
    choices.run(divisor, scale);
  });
}

}  // namespace

Status run(Context& context, const LimitCapacityBackward& p) {
  const KeptChoices all{.ids = p.ids.as<const int32_t>(),
                        .kept_ids = p.kept_ids.as<const int32_t>(),
                        .weights = p.weights.as<const float>(),
                        .kept_gradient = p.d_kept_weights.as<const float>(),
                        .gradient = p.d_weights.as<float>(),
                        .count = p.ids.shape[1]};
  const int64_t tokens = p.ids.shape[0];
  return launch("limit_capacity_backward", limit_capacity_backward_kernel,
                dim3(gpu::element_grid(tokens, context.traits())), dim3(gpu::kRowThreads), 0, context.stream(), all,
                tokens, p.divisor, p.scale);
}

}  // namespace moe::MOE_GPU_NAMESPACE
