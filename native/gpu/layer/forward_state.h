// The state of a forward, in memory of its own.
#pragma once

#include <deque>

#include "core/layer/forward_state.h"
#include "gpu/layer/pass_state.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

class GpuForwardState final : public ForwardState {
 public:
  explicit GpuForwardState(Runtime& runtime) : runtime_(runtime) {}

  // Memory for what a pass through `stages` leaves.
  Status reserve(Stages stages, const LayerDescription& layer, const LayerForward& forward,
                 const gpu::LayerPlan& plan) {
    Scratch& memory = memory_.emplace_back(runtime_);
    MOE_TRY(memory.reserve(plan.state_bytes));
    gpu::place_state(stages, layer, forward, plan, memory.at(0), &state_);
    return {};
  }
  const gpu::PassState& pass_state() const { return state_; }

 private:
  Runtime& runtime_;
  gpu::PassState state_;
  std::deque<Scratch> memory_;  // one for each pass
};

}  // namespace moe::MOE_GPU_NAMESPACE
