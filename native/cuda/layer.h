// One layer's weights on the GPU, and its stages, all enqueued without the host reading anything in between.
#pragma once

#include <memory>

#include "core/backend.h"
#include "cuda/context.h"
#include "cuda/packed_experts.h"
#include "cuda/plan.h"

namespace moe::MOE_GPU_NAMESPACE {

class GpuLayer : public Layer {
 public:
  static Status create(const LayerDescription& description, Context& context, std::unique_ptr<Layer>* layer);
  ~GpuLayer() override;

  Status set_router(const MatrixView& weight, const MatrixView& bias) override;
  Status set_expert(int64_t expert, const ExpertViews& weights) override;
  Status route(const TensorView& x, const TensorView& ids, const TensorView& weights) override;
  Status forward(const LayerForward& forward) override;
  Status capture(const LayerForward& forward, std::unique_ptr<CapturedForward>* captured) override;
  StageTimes stage_times() const override;
  size_t bytes() const override;

 private:
  // The marks of the clock; each stage lies between two.
  enum Mark { kBegin, kRouted, kGated, kSorted, kGateUp, kDown, kCombined };

  // One of the layer's two products over all experts.
  struct Product {
    const GpuPackedExperts& weight;
    const TensorView& bias;
    const gpu::GemmPlan& plan;
  };

  // Where the launches of a pass go and what they use beside its tensors.
  struct Pass {
    Stream stream;
    char* workspace;
    DataErrors& errors;
    StageClock* clock;  // or null: not timed

    Status mark(Mark mark) const { return clock != nullptr ? clock->mark(mark) : Status{}; }
  };

  class Captured;

  GpuLayer(const LayerDescription& description, Context& context) : Layer(description), context_(context) {}

  Runtime& runtime() const { return *context_.runtime; }
  // Copies `source` to row `row`, column `column` of a matrix [rows, columns] of the weights' dtype, which is made of
  // zeros with the first.
  Status keep(TensorView& parameter, int64_t rows, int64_t columns, const MatrixView& source, int64_t row,
              int64_t column);
  Status plan(const LayerForward& forward, gpu::LayerPlan* plan) const;
  // Enqueues a forward; allocates nothing.
  Status enqueue(const LayerForward& forward, const gpu::LayerPlan& plan, const Pass& pass);
  Status route_tokens(const TensorView& x, const TensorView& logits, const TensorView& ids, const TensorView& weights,
                      const Pass& pass);
  Status multiply(const Product& product, const TensorView& x, const TensorView& token_of_row, const void* map,
                  const TensorView& y, const Pass& pass);

  Context& context_;
  std::unique_ptr<StageClock> clock_;
  std::unique_ptr<GpuPackedExperts> gate_up_, down_;
  TensorView router_, router_bias_, gate_up_bias_, down_bias_;
};

}  // namespace moe::MOE_GPU_NAMESPACE
