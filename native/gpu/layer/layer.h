// A layer on the GPU: its weights, and passes through its stages.
#pragma once

#include <memory>
#include <vector>

#include "core/backend.h"
#include "gpu/layer/pass.h"
#include "gpu/layer/weights.h"
#include "gpu/runtime/context.h"

namespace moe::MOE_GPU_NAMESPACE {

class GpuLayer : public Layer {
 public:
  static Status create(const LayerDescription& description, Context& context, std::unique_ptr<Layer>* layer);

  Status set_router(const WeightView& weight, const MatrixView& bias) override;
  Status set_selection_bias(const MatrixView& bias) override;
  Status set_shared_gate(const WeightView& weight, const MatrixView& bias) override;
  Status set_expert(int64_t expert, const ExpertViews& weights) override;
  std::unique_ptr<ForwardState> new_state() override;
  Status run(Stages stages, const LayerForward& forward) override;
  Status capture(Stages stages, const LayerForward& forward, std::unique_ptr<CapturedForward>* captured) override;
  StageTimes stage_times() const override;
  size_t bytes() const override { return weights_->bytes(); }

 private:
  class Captured;

  // Where a pass's launches go, and what they use besides its tensors.
  struct Target {
    Stream stream;
    const gpu::PassState& state;
    char* workspace;
    DataErrors& errors;
    StageClock* clock;  // null: not timed
  };

  GpuLayer(const LayerDescription& description, Context& context) : Layer(description), context_(context) {}

  Runtime& runtime() const { return *context_.runtime; }
  Status plan(Stages stages, const LayerForward& forward, gpu::LayerPlan* plan) const;
  Status enqueue(Stages stages, const LayerForward& forward, const gpu::LayerPlan& plan, const Target& target) const;

  Context& context_;
  std::unique_ptr<LayerWeights> weights_;
  std::unique_ptr<StageClock> clock_;
  std::vector<Stage> timed_;  // the stages between the clock's marks
};

}  // namespace moe::MOE_GPU_NAMESPACE
