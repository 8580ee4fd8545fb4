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
  float* weights;
  unsigned long long* non_finite_rows;
  IdError* error;
  int64_t tokens;
  int experts;
  GatingRule rule;
};

// One warp per token. Only one block per multiprocessor has to fit: room for more would make the kernel spill.
template <Scoring kScoring>
MOE_KERNEL(gating_weights_kernel, (gpu::kRowThreads, 1), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(a.tokens, [&](int64_t token) {
    const LogitRow row(a.logits, a.dtype, token * a.experts, a.experts, kScoring);
    if (!row.finite() && lane == 0) atomicAdd(a.non_finite_rows, 1ull);
    const int64_t first = token * a.rule.top_k;
    const auto choice = [&](int slot) { return checked_id(a.ids[first + slot], a.experts, first + slot, a.error); };
    const auto gate = fixed_gate<kScoring>(a.rule, row, choice);
    for (int slot = 0; slot < a.rule.top_k; ++slot) {
      const float weight = gate.weight(slot);
      if (lane == slot % 32) a.weights[first + slot] = weight;
    }
  });
}

}  // namespace

Status run(Context& context, const GatingWeights& p) {
  const int64_t experts = p.logits.shape[1];
  const Arguments arguments{
      .logits = p.logits.data,
      .dtype = p.logits.dtype,
      .ids = p.ids.as<int>(),
      .weights = p.weights.as<float>(),
      .non_finite_rows = context.errors.non_finite_rows(),
      .error = context.errors.next({.parameter = "gatingWeights: routing.ids",
                                    .what = "an expert",
                                    .limit = experts,
                                    .columns = p.ids.shape[1]}),
      .tokens = p.logits.shape[0],
      .experts = static_cast<int>(experts),
      .rule = p.rule,
  };
  const dim3 grid(gpu::row_grid(arguments.tokens, context.traits()));
  return dispatch_scoring(p.rule.scoring, [&](auto scoring) {
    return launch("gating_weights", gating_weights_kernel<scoring>, grid, dim3(gpu::kRowThreads), 0, context.stream(),
                  arguments);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
