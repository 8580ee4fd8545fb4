// The fused layer: one parallel region from tokens to outputs.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "cpu/context.h"
#include "cpu/panels.h"
#include "cpu/plan.h"

namespace moe::cpu {

class CpuLayer final : public Layer {
 public:
  static Status create(const LayerDescription& description, Context& context, std::unique_ptr<Layer>* layer);
  // Over the parts() of another layer; the weights cannot be set.
  static Status over(const std::vector<WeightPart>& parts, const LayerDescription& description, Context& context,
                     std::unique_ptr<Layer>* layer);

  Status set_router(const MatrixView& weight, const MatrixView& bias) override;
  Status set_expert(int64_t expert, const ExpertViews& weights) override;
  Status route(const TensorView& x, const TensorView& ids, const TensorView& weights) override;
  Status forward(const LayerForward& forward) override;
  StageTimes stage_times() const override { return times_; }
  size_t bytes() const override;
  std::vector<WeightPart> parts() override;

 private:
  struct PackedPart {
    const char* name;
    std::unique_ptr<CpuPackedExperts>* packed;
    ExpertWeights weights;
  };
  // Float32 values, empty where the layer has no such bias.
  struct BiasPart {
    const char* name;
    Buffer* values;
    int64_t size;

    int64_t bytes() const { return round_up(size * int64_t{sizeof(float)}, kAlignment); }
  };
  // Tokens first .. first + count of a call, worked through at once.
  struct Chunk {
    const char* x;
    char* y;  // null: route only
    int64_t tokens;
    DType dtype;
    bool routed;  // ids and weights are given
    int32_t* ids;
    float* weights;
  };
  struct Workspace;

  CpuLayer(const LayerDescription& description, Context& context) : Layer(description), context_(context) {}
  std::array<PackedPart, 3> packed_parts();
  std::array<BiasPart, 3> bias_parts();
  Status keep_bias(const BiasPart& part, const MatrixView& bias, int64_t at);
  Status check_settable() const;
  Status run(const TensorView& x, char* y, int32_t* ids, float* weights, bool routed);
  Status run_chunk(const Chunk& chunk, StageTimes& times);
  void take(class Arena& arena, const Chunk& chunk, Workspace& w) const;
  int64_t chunk_tokens() const;

  Context& context_;
  std::unique_ptr<CpuPackedExperts> router_, gate_up_, down_;
  Buffer router_bias_, gate_up_bias_, down_bias_;
  bool weights_are_stored_ = false;
  StageTimes times_;
};

}  // namespace moe::cpu
