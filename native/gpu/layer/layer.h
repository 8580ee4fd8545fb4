// A layer on the GPU: its weights, and passes through its stages.
#pragma once

#include <memory>
#include <vector>

#include "core/backend.h"
#include "core/layer/weight_copies.h"
#include "gpu/layer/offload.h"
#include "gpu/layer/pass.h"
#include "gpu/layer/weights.h"
#include "gpu/runtime/context.h"

namespace moe::MOE_GPU_NAMESPACE {

class GpuLayer : public Layer, public WeightCopies {
 public:
  static Status create(const LayerDescription& description, const OffloadOptions* offload, Context& context,
                       std::unique_ptr<Layer>* layer);

  Status set_router(const WeightView& weight, const MatrixView& bias) override;
  Status set_selection_bias(const MatrixView& bias) override;
  Status set_shared_gate(const WeightView& weight, const MatrixView& bias) override;
  Status set_expert(int64_t expert, const ExpertViews& weights) override;
  Status copy_weight(WeightRole role, int64_t expert, const TensorView& target) override;
  Status copy_selection_bias(const TensorView& target) override;
  Status copy_field(WeightRole role, int64_t expert, QuantizedField field, const TensorView& target) override;
  std::unique_ptr<ForwardState> new_state() override;
  Status run(Stages stages, const LayerForward& forward) override;
  Status hold_experts(std::shared_ptr<void>* held) override {
    return offload_ == nullptr ? Status() : offload_->share().hold(held);
  }
  Status capture(Stages stages, const LayerForward& forward, std::unique_ptr<CapturedForward>* captured) override;
  int64_t offload_slots() const override { return offload_ == nullptr ? 0 : offload_->share().slots(); }
  Status prefetch(const std::vector<int32_t>& experts) override;
  std::vector<int32_t> leave(const std::vector<ExpertRows>& needed) override {
    return offload_ == nullptr ? std::vector<int32_t>() : offload_->share().leave(needed);
  }
  Status adopt() override;
  OffloadStats offload_stats() const override {
    return offload_ == nullptr ? OffloadStats{} : offload_->share().stats();
  }
  StageTimes stage_times() override;
  size_t bytes() const override { return weights_->bytes() + (offload_ == nullptr ? 0 : offload_->bytes()); }
  size_t host_bytes() const override { return offload_ == nullptr ? 0 : offload_->host_bytes(); }

 private:
  class Captured;

  // Where a pass's launches go, and what they use besides its tensors.
  struct Target {
    Stream stream;
    const gpu::PassState& state;
    char* workspace;
    DataErrors& errors;
    StageClock* clock;  // null: not timed
    OffloadedPass* offload = nullptr;
    int bank_place = 0;  // see Pass
  };

  GpuLayer(const LayerDescription& description, Context& context) : Layer(description), context_(context) {}

  Runtime& runtime() const { return *context_.runtime; }
  Status plan(Stages stages, const LayerForward& forward, gpu::LayerPlan* plan) const;
  // Does work that moves experts. If it fails, nothing is known to be on the device.
  template <class Work>
  Status forgetting(Work&& work) {
    Status status = guarded(work);
    if (!status.ok() && offload_ != nullptr) offload_->share().forget_all();
    return status;
  }
  Status enqueue(Stages stages, const LayerForward& forward, const gpu::LayerPlan& plan, const Target& target) const;

  Context& context_;
  std::unique_ptr<LayerWeights> weights_;
  std::unique_ptr<Offload> offload_;  // null: all experts are on the device
  std::unique_ptr<StageClock> clock_;
  bool timing_ = false;       // somebody has asked for times: marks cost time between kernels
  std::vector<Stage> timed_;  // the stages between the clock's marks
};

}  // namespace moe::MOE_GPU_NAMESPACE
