// A layer's weights on the GPU.
#pragma once

#include <memory>
#include <vector>

#include "core/backend.h"
#include "gpu/gemm/packed_experts.h"
#include "gpu/layer/parameter.h"
#include "gpu/layer/slot_memory.h"
#include "gpu/plan/layer_plan.h"

namespace moe::MOE_GPU_NAMESPACE {

class LayerWeights {
 public:
  // One of layer_products() and its weights.
  struct Product {
    gpu::ProductRole role;
    size_t group;
    ExpertRange experts;
    std::unique_ptr<GpuPackedExperts> weight = nullptr;
    std::unique_ptr<Parameter> bias = nullptr;  // [experts, rows of the product]
  };

  // With `slots`, which may be null, the bank's experts are offloaded and take these in turn.
  static Status create(const LayerDescription& layer, const SlotMemory* slots, Runtime& runtime,
                       std::unique_ptr<LayerWeights>* weights);

  Status set_router(const WeightView& weight, const MatrixView& bias);
  Status set_selection_bias(const MatrixView& bias);
  Status set_shared_gate(const WeightView& weight, const MatrixView& bias);
  Status set_expert(int64_t expert, const ExpertViews& weights);

  // An expert's matrix within its product; of a product of gate and up, the gate or, if `up`, the other half.
  struct Matrix {
    const Product* product;  // null: the layer has no such matrix
    int64_t expert;          // counts within the product
    bool up;
  };
  Matrix matrix(WeightRole role, int64_t expert) const;

  // See Layer::copy_weight().
  Status copy(WeightRole role, int64_t expert, const TensorView& target) const;

  const TensorView& router() const { return router_.view(); }
  const TensorView& router_bias() const { return router_bias_.view(); }
  const TensorView& selection_bias() const { return selection_bias_.view(); }
  const TensorView& shared_gate() const { return shared_gate_.view(); }
  const TensorView& shared_gate_bias() const { return shared_gate_bias_.view(); }
  // In the order of layer_products().
  const std::vector<Product>& products() const { return products_; }
  // What each of them does to its inputs.
  std::vector<gpu::InputUse> inputs() const;
  size_t bytes() const;

 private:
  LayerWeights(const LayerDescription& layer, Runtime& runtime);

  Status set_product(const Product& product, int64_t expert, const ExpertViews& weights);

  Status copy_expert(WeightRole role, int64_t expert, const TensorView& target) const;

  LayerDescription layer_;
  Parameter router_, router_bias_, selection_bias_, shared_gate_, shared_gate_bias_;
  std::vector<Product> products_;
};

}  // namespace moe::MOE_GPU_NAMESPACE
