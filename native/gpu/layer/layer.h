// One layer's weights on the GPU, and its stages, all enqueued without the host reading anything in between.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "core/backend.h"
#include "gpu/gemm/packed_experts.h"
#include "gpu/plan/plan.h"
#include "gpu/runtime/context.h"

namespace moe::MOE_GPU_NAMESPACE {

class GpuLayer : public Layer {
 public:
  static Status create(const LayerDescription& description, Context& context, std::unique_ptr<Layer>* layer);
  ~GpuLayer() override;

  Status set_router(const WeightView& weight, const MatrixView& bias) override;
  Status set_selection_bias(const MatrixView& bias) override;
  Status set_shared_gate(const WeightView& weight, const MatrixView& bias) override;
  Status set_expert(int64_t expert, const ExpertViews& weights) override;
  Status run(Stages stages, const LayerForward& forward) override;
  Status capture(Stages stages, const LayerForward& forward, std::unique_ptr<CapturedForward>* captured) override;
  StageTimes stage_times() const override;
  size_t bytes() const override;

 private:
  // The marks of the clock; each stage lies between two.
  enum Mark { kBegin, kRouted, kGated, kSorted, kGateUp, kDown, kCombined };

  // What is kept as a plain matrix.
  enum Parameter {
    kRouter,
    kRouterBias,
    kSelectionBias,
    kSharedGate,
    kSharedGateBias,
    kGateUpBias,
    kDownBias,
    kParameterCount
  };

  // The experts of every token and their weights, both [T, k] or with the shared ones [T, slots].
  struct Slots {
    TensorView ids, weights;
  };

  // The slots in order of their experts.
  struct Rows {
    TensorView offsets;        // [all experts + 1]
    TensorView token_of_row;   // [R]
    TensorView row_of_slot;    // [T, slots]
    TensorView weight_of_row;  // [R], or absent: the weights multiply outputs
  };

  // One of the layer's products over all experts.
  struct Product {
    const GpuPackedExperts& weight;
    TensorView bias;
    const gpu::GemmPlan& plan;
    size_t map;  // in the workspace
    TensorView token_of_row = {};
    TensorView weight_of_row = {};
    bool multiplies_y = false;
  };

  // Where the launches of a pass go and what they use beside its tensors.
  struct Pass {
    Stream stream;
    char* workspace;
    DataErrors& errors;
    StageClock* clock;  // or null: not timed

    char* at(size_t offset) const { return workspace + offset; }
    Status mark(Mark mark) const { return clock != nullptr ? clock->mark(mark) : Status{}; }
  };

  class Captured;

  GpuLayer(const LayerDescription& description, Context& context) : Layer(description), context_(context) {}

  Status logits(const TensorView& x, const TensorView& logits);
  Status route(const TensorView& x, const TensorView& ids, const TensorView& weights);
  Status forward(const LayerForward& forward);
  Runtime& runtime() const { return *context_.runtime; }
  DType parameter_dtype(Parameter parameter) const;
  // Copies `source` to row `row`, column `column` of a parameter [rows, columns], which is made of zeros with the
  // first.
  Status keep(Parameter parameter, int64_t rows, int64_t columns, const MatrixView& source, int64_t row = 0,
              int64_t column = 0);
  Status plan(const LayerForward& forward, gpu::LayerPlan* plan) const;
  // Enqueues a forward; allocates nothing.
  Status enqueue(const LayerForward& forward, const gpu::LayerPlan& plan, const Pass& pass);
  Status route_tokens(const TensorView& x, const TensorView& logits, const Slots& chosen, const Pass& pass);
  // The parts of a forward, in order.
  Status choose(const LayerForward& forward, const gpu::LayerPlan& plan, const Pass& pass, Slots* slots);
  Status sort(const Slots& slots, const gpu::LayerPlan& plan, const Pass& pass, Rows* rows);
  Status multiply_inner(const TensorView& x, const Rows& rows, const TensorView& inner, const gpu::LayerPlan& plan,
                        const Pass& pass);
  Status multiply(const Product& product, const TensorView& x, const TensorView& y, const Pass& pass);

  Context& context_;
  std::unique_ptr<StageClock> clock_;
  std::unique_ptr<GpuPackedExperts> gate_up_, factor_, down_;  // factor_ null where there is none
  std::array<TensorView, kParameterCount> parameters_;
  // Read by other threads than the stream's.
  std::atomic<size_t> parameter_bytes_ = 0;
};

}  // namespace moe::MOE_GPU_NAMESPACE
