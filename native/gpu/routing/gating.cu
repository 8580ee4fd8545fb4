#include "gpu/routing/gating.cuh"

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/routing/gating_tokens.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Only one block per multiprocessor has to fit: room for a second would make the kernel spill.
template <int kPerLane, bool kByLogit>
MOE_KERNEL(gating_kernel, (gpu::kGatingThreads, 1), const GatingArguments a) {
  gate_tokens<kPerLane, kByLogit>(a);
}

}  // namespace

GatingArguments gating_arguments(const Gating& p, unsigned long long* non_finite_rows) {
  return {.logits = p.logits.data,
          .logits_dtype = p.logits.dtype,
          .bias = p.selection_bias.data,
          .bias_dtype = p.selection_bias.dtype,
          .ids = p.ids.as<int>(),
          .weights = p.weights.as<float>(),
          .non_finite_rows = non_finite_rows,
          .tokens = p.logits.shape[0],
          .experts = static_cast<int>(p.logits.shape[1]),
          .group_terms = p.rule.group_terms(),
          .rule = p.rule};
}

Status launch_gating(const GatingArguments& arguments, const gpu::DeviceTraits& traits, Stream stream) {
  const gpu::GatingPlan plan = gpu::plan_gating(arguments.tokens, arguments.experts, traits);
  return dispatch_gating(arguments, plan.per_lane, [&]<int kPerLane, bool kByLogit>() {
    return launch("gating", gating_kernel<kPerLane, kByLogit>, dim3(plan.grid), dim3(gpu::kGatingThreads), 0, stream,
                  arguments);
  });
}

Status run(Context& context, const Gating& p) {
  return launch_gating(gating_arguments(p, context.errors.non_finite_rows()), context.traits(), context.stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
