#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/routing/gating_gradient.cuh"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const void* logits;
  DType dtype;
  const int* ids;
  const float* weight_gradient;
  float* logit_gradient;
  IdError* error;
  int64_t tokens;
  int experts;
  GatingRule rule;
};

// One warp per token. Only one block per multiprocessor has to fit: room for more would make the kernel spill.
template <Scoring kScoring>
MOE_KERNEL(gating_backward_kernel, (gpu::kRowThreads, 1), const Arguments a) {
  for_each_row(a.tokens, [&](int64_t token) {
    const LogitRow row(a.logits, a.dtype, token * a.experts, a.experts, kScoring);
    float* gradient = a.logit_gradient + token * a.experts;
    row.for_each([&](int expert, float) { gradient[expert] = 0.0f; });
    const int64_t first = token * a.rule.top_k;
    const auto choice = [&](int slot) { return checked_id(a.ids[first + slot], a.experts, first + slot, a.error); };
    fixed_gate<kScoring>(a.rule, row, choice)
        .add_gradient([&](int slot) { return a.weight_gradient[first + slot]; }, gradient);
  });
}

}  // namespace

Status run(Context& context, const GatingBackward& p) {
  const int64_t experts = p.logits.shape[1];
  const Arguments arguments{
      .logits = p.logits.data,
      .dtype = p.logits.dtype,
      .ids = p.ids.as<int>(),
      .weight_gradient = p.d_weights.as<float>(),
      .logit_gradient = p.d_logits.as<float>(),
      .error = context.errors.next({.parameter = "gatingBackward: routing.ids",
                                    .what = "an expert",
                                    .limit = experts,
                                    .columns = p.ids.shape[1]}),
      .tokens = p.logits.shape[0],
      .experts = static_cast<int>(experts),
      .rule = p.rule,
  };
  const dim3 grid(gpu::row_grid(arguments.tokens, context.traits()));
  return dispatch_scoring(p.rule.scoring, [&](auto scoring) {
    return launch("gating_backward", gating_backward_kernel<scoring>, grid, dim3(gpu::kRowThreads), 0, context.stream(),
                  arguments);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
