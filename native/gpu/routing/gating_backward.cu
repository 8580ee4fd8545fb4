#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/routing/gating_gradient.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  GivenChoices choices;
  const float* weight_gradient;
  float* logit_gradient;
};

// One warp per token. Only one block per multiprocessor has to fit: room for more would make the kernel spill.
template <Scoring kScoring>
MOE_KERNEL(gating_backward_kernel, (gpu::kRowThreads, 1), const Arguments a) {
  for_each_fixed_gate<kScoring>(a.choices, [&](int64_t token, const LogitRow& row, const auto& gate) {
    float* gradient = a.logit_gradient + token * a.choices.experts;
    row.for_each([&](int expert, float) { gradient[expert] = 0.0f; });
    const int64_t first = token * a.choices.rule.top_k;
    gate.add_gradient([&](int slot) { return a.weight_gradient[first + slot]; }, gradient);
  });
}

}  // namespace

Status run(Context& context, const GatingBackward& p) {
  const Arguments arguments{.choices = given_choices(context, p, "gatingBackward: routing.ids"),
                            .weight_gradient = p.d_weights.as<float>(),
                            .logit_gradient = p.d_logits.as<float>()};
  const dim3 grid(gpu::row_grid(arguments.choices.tokens, context.traits()));
  return dispatch_scoring(p.rule.scoring, [&](auto scoring) {
    return launch("gating_backward", gating_backward_kernel<scoring>, grid, dim3(gpu::kRowThreads), 0, context.stream(),
                  arguments);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
