#include "gpu/layer/pass.h"
#include "gpu/routing/gating.cuh"

namespace moe::MOE_GPU_NAMESPACE {

Status run_gating(const Pass& pass) {
  return launch_gating({.logits = pass.state.logits,
                        .selection_bias = pass.weights.selection_bias(),
                        .ids = pass.state.ids,
                        .weights = pass.state.weights,
                        .rule = pass.layer.gating},
                       pass.non_finite_rows, pass.traits, pass.stream);
}

}  // namespace moe::MOE_GPU_NAMESPACE
