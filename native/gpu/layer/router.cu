#include "gpu/layer/pass.h"
#include "gpu/routing/router_projection.cuh"

namespace moe::MOE_GPU_NAMESPACE {

Status run_router(const Pass& pass) {
  if (pass.weights.router().absent()) return {Code::invalid_argument, "layer: expected a router that has been set"};
  return launch_router_projection({.x = pass.forward.x,
                                   .weight = pass.weights.router(),
                                   .bias = pass.weights.router_bias(),
                                   .logits = pass.state.logits},
                                  pass.traits, pass.stream);
}

}  // namespace moe::MOE_GPU_NAMESPACE
