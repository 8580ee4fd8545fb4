#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/routing/gating_gradient.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  GivenChoices choices;
  float* weights;
  unsigned long long* non_finite_rows;
};

// One warp per token. Only one block per multiprocessor has to fit: room for more would make the kernel spill.
template <Scoring kScoring>
MOE_KERNEL(gating_weights_kernel, (gpu::kRowThreads, 1), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_fixed_gate<kScoring>(a.choices, [&](int64_t token, const LogitRow& row, const auto& gate) {
    if (!row.finite() && lane == 0) atomicAdd(a.non_finite_rows, 1ull);
    const int64_t first = token * a.choices.rule.top_k;
    for (int slot = 0; slot < a.choices.rule.top_k; ++slot) {
      const float weight = gate.weight(slot);
      if (lane == slot % 32) a.weights[first + slot] = weight;
    }
  });
}

}  // namespace

Status run(Context& context, const GatingWeights& p) {
  const Arguments arguments{.choices = given_choices(context, p, "gatingWeights: routing.ids"),
                            .weights = p.weights.as<float>(),
                            .non_finite_rows = context.errors.non_finite_rows()};
  const dim3 grid(gpu::row_grid(arguments.choices.tokens, context.traits()));
  return dispatch_scoring(p.rule.scoring, [&](auto scoring) {
    return launch("gating_weights", gating_weights_kernel<scoring>, grid, dim3(gpu::kRowThreads), 0, context.stream(),
                  arguments);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
