// The fused layer.
#pragma once

#include <memory>
#include <vector>

#include "core/layer/weight_copies.h"
#include "cpu/layer/layer_weights.h"
#include "cpu/layer/offload.h"

namespace moe::cpu {

class CpuLayer final : public Layer, public WeightCopies {
 public:
  static Status create(const LayerDescription& description, Context& context, std::unique_ptr<Layer>* layer);
  // Reads the parts() of another layer in place; its weights cannot be set. With `offload`, which may be null, they
  // must be a file's.
  static Status over(const std::vector<WeightPart>& parts, const LayerDescription& description,
                     const OffloadOptions* offload, Context& context, std::unique_ptr<Layer>* layer);

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
    return offload_ ? offload_->share().hold(held) : Status();
  }
  int64_t offload_slots() const override { return offload_ ? offload_->share().slots() : 0; }
  Status prefetch(const std::vector<int32_t>& experts) override;
  OffloadStats offload_stats() const override { return offload_ ? offload_->share().stats() : OffloadStats{}; }
  StageTimes stage_times() override { return times_; }
  size_t bytes() const override { return weights_.bytes() - (offload_ ? offload_->absent_bytes() : 0); }
  std::vector<WeightPart> parts() override { return weights_.parts(); }
  std::vector<uint64_t> checksums() override { return weights_.checksums(); }

 private:
  CpuLayer(const LayerDescription& description, Context& context)
      : Layer(description), context_(context), weights_(description, context) {}

  // Calls read(), which reads weights that may be in a file, between the checks of that.
  template <class Read>
  Status read_weights(Read&& read);
  Status run_chunks(Stages stages, const LayerForward& forward);

  Context& context_;
  LayerWeights weights_;
  std::unique_ptr<Offload> offload_;
  StageTimes times_;
};

}  // namespace moe::cpu
