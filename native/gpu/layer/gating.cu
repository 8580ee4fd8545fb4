#include "gpu/layer/gating.h"

namespace moe::MOE_GPU_NAMESPACE {

GatingArguments gating_of(const Pass& pass) {
  return gating_arguments({.logits = pass.state.logits,
                           .selection_bias = pass.weights.selection_bias(),
                           .ids = pass.state.ids,
                           .weights = pass.state.weights,
                           .rule = pass.layer.gating},
                          pass.non_finite_rows);
}

Status run_gating(const Pass& pass) {
  return pass.plan.gates_in_sort ? Status() : launch_gating(gating_of(pass), pass.traits, pass.stream);
}

}  // namespace moe::MOE_GPU_NAMESPACE
