// A layer with offload that leaves some of its experts that are not resident to the host. The CPU computes them at the
// same time, so tokens move and weights do not. The outputs of both are added up.
#pragma once

#include <memory>
#include <vector>

#include "core/backend.h"

namespace moe {

class SplitLayer final : public Layer {
 public:
  // `layer` is one of `device` with offload. `host`, which must outlive the layer as `device` must, computes in the
  // host's memory.
  static Status create(std::unique_ptr<Layer> layer, Backend& device, Backend& host, std::unique_ptr<Layer>* split);

  Status set_router(const WeightView& weight, const MatrixView& bias) override {
    return on_device_->set_router(weight, bias);
  }
  Status set_selection_bias(const MatrixView& bias) override { return on_device_->set_selection_bias(bias); }
  Status set_shared_gate(const WeightView& weight, const MatrixView& bias) override;
  Status set_expert(int64_t expert, const ExpertViews& weights) override;
  std::unique_ptr<ForwardState> new_state() override { return on_device_->new_state(); }
  Status run(Stages stages, const LayerForward& forward) override;
  Status hold_experts(std::shared_ptr<void>* held) override { return on_device_->hold_experts(held); }
  // Of the device's layer alone, whose experts are all resident.
  Status capture(Stages stages, const LayerForward& forward, std::unique_ptr<CapturedForward>* captured) override {
    return on_device_->capture(stages, forward, captured);
  }
  int64_t offload_slots() const override { return on_device_->offload_slots(); }
  Status prefetch(const std::vector<int32_t>& experts) override { return on_device_->prefetch(experts); }
  OffloadStats offload_stats() const override { return on_device_->offload_stats(); }
  StageTimes stage_times() override;
  size_t bytes() const override { return on_device_->bytes(); }
  size_t host_bytes() const override { return on_device_->host_bytes() + on_host_->bytes(); }

 private:
  // A token's choices of experts that are left to the host; the others are -1.
  struct Left {
    std::vector<int32_t> ids;  // [T, k]
    int64_t choices = 0;       // that are not -1
  };

  SplitLayer(std::unique_ptr<Layer> layer, Backend& device, Backend& host)
      : Layer(layer->description()), on_device_(std::move(layer)), device_(device), host_(host) {}

  // Takes the choices that are left to the host out of `ids`, where they become -1.
  Left take_left(std::vector<int32_t>& ids);
  // Runs the stages from sort on. `forward` has ids and weights.
  Status run_split(Stages stages, const LayerForward& forward);
  // The same where some choices are left to the host: it computes them while the device computes those in `ids`.
  Status run_on_both(Stages stages, const LayerForward& forward, const std::vector<int32_t>& ids, const Left& left);
  Status add_outputs(const LayerForward& forward, const Left& left, const TensorView& outputs);

  const std::unique_ptr<Layer> on_device_;
  std::unique_ptr<Layer> on_host_;  // the bank's experts only
  Backend& device_;
  Backend& host_;
  bool timing_ = false;       // somebody has asked for times
  StageTimes routing_times_;  // of the last run's stages before sort
};

}  // namespace moe
