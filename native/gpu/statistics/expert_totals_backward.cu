#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const int* ids;
  const float* sums;
  float* weights;
  TokenMask mask;
  IdError* error;
  int64_t slots;
  int64_t slots_per_sequence;
  int64_t experts;
  int64_t top_k;
  int64_t choices;
};

MOE_KERNEL(expert_totals_backward_kernel, (gpu::kRowThreads), const Arguments a) {
  for_each_item(a.slots, [&](int64_t slot) {
    const bool counts = slot % a.top_k < a.choices && a.mask.counts(slot / a.top_k);
    const int expert = counts ? checked_id(a.ids[slot], a.experts, slot, a.error) : -1;
    a.weights[slot] = expert < 0 ? 0.0f : a.sums[slot / a.slots_per_sequence * a.experts + expert];
  });
}

}  // namespace

Status run(Context& context, const ExpertTotalsBackward& p) {
  const Arguments arguments{
      .ids = p.ids.as<int>(),
      .sums = p.d_sums.as<float>(),
      .weights = p.d_weights.as<float>(),
      .mask = TokenMask(p.token_mask),
      .error = context.errors.next({.parameter = "expertTotalsBackward: ids",
                                    .what = "an expert",
                                    .limit = p.d_sums.shape[1],
                                    .columns = p.ids.shape[1]}),
      .slots = p.ids.size(),
      .slots_per_sequence = p.ids.size() / p.d_sums.shape[0],
      .experts = p.d_sums.shape[1],
      .top_k = p.ids.shape[1],
      .choices = p.choices,
  };
  return launch("expert_totals_backward", expert_totals_backward_kernel,
                dim3(gpu::element_grid(arguments.slots, context.traits())), dim3(gpu::kRowThreads), 0, context.stream(),
                arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
