#include "gpu/layer/pass.h"
#include "gpu/routing/router_projection.cuh"

namespace moe::MOE_GPU_NAMESPACE {

Status run_shared_gate(const Pass& pass) {
  if (pass.layer.shared_gate == SharedGate::none) return {};
  if (pass.weights.shared_gate().absent()) {
    return {Code::invalid_argument, "layer: expected a shared gate that has been set"};
  }
  return launch_router_projection({.x = pass.forward.x,
                                   .weight = pass.weights.shared_gate(),
                                   .bias = pass.weights.shared_gate_bias(),
                                   .logits = pass.state.shared_gate},
                                  pass.traits, pass.stream);
}

}  // namespace moe::MOE_GPU_NAMESPACE
