// The fused layer: one parallel region from tokens to outputs.
#pragma once

#include <memory>
#include <vector>

#include "cpu/context.h"
#include "cpu/panels.h"
#include "cpu/plan.h"

namespace moe::cpu {

class CpuLayer final : public Layer {
 public:
  static Status create(const LayerDescription& description, Context& context, std::unique_ptr<Layer>* layer);

  Status set_router(const TensorView& weight, const TensorView& bias) override;
  Status set_expert(int64_t expert, const ExpertViews& weights) override;
  Status route(const TensorView& x, const TensorView& ids, const TensorView& weights) override;
  Status forward(const LayerForward& forward) override;
  StageTimes stage_times() const override { return times_; }
  size_t bytes() const override;

 private:
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
  Status run(const TensorView& x, char* y, int32_t* ids, float* weights, bool routed);
  Status run_chunk(const Chunk& chunk, StageTimes& times);
  void take(class Arena& arena, const Chunk& chunk, Workspace& w) const;
  int64_t chunk_tokens() const;

  Context& context_;
  std::unique_ptr<CpuPackedExperts> router_, gate_up_, down_;
  // Float32, empty where the layer has none.
  std::vector<float> router_bias_, gate_up_bias_, down_bias_;
  StageTimes times_;
};

}  // namespace moe::cpu
