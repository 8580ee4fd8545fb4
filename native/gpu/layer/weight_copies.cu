// Copies of a layer's weights as they were set; see core/layer/weight_copies.h.
#include <vector>

#include "gpu/gemm/pack.cuh"
#include "gpu/gemm/quantized_layout.h"
#include "gpu/gemm/unpack_field.cuh"
#include "gpu/layer/layer.h"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// The product with a role's matrix; null if the layer has none.
const LayerWeights::Product* product_of(const LayerWeights& weights, WeightRole role, int64_t expert) {
  const auto has = [&](gpu::ProductRole product) {
    switch (role) {
      case WeightRole::gate: return product == gpu::ProductRole::gate || product == gpu::ProductRole::gate_up;
      case WeightRole::up: return product == gpu::ProductRole::up || product == gpu::ProductRole::gate_up;
      case WeightRole::multiplier: return product == gpu::ProductRole::multiplier;
      default: return product == gpu::ProductRole::down;
    }
  };
  for (const LayerWeights::Product& product : weights.products()) {
    if (product.experts.contains(expert) && has(product.role)) return &product;
  }
  return nullptr;
}

// One expert's values of those of all experts; value_of(k) where there are none.
template <class Value, class Default>
Status copy_inputs(const Value* values, int64_t expert, const TensorView& target, Runtime& runtime,
                   Default&& value_of) {
  const auto columns = static_cast<size_t>(target.size());
  std::vector<Value> own(columns);
  for (size_t k = 0; k < columns; ++k) own[k] = value_of(k);
  if (values != nullptr) MOE_TRY(runtime.read(own.data(), values + expert * target.size(), columns * sizeof(Value)));
  return runtime.write(target.data, own.data(), columns * sizeof(Value));
}

}  // namespace

Status GpuLayer::copy_selection_bias(const TensorView& target) {
  MOE_TRY(runtime().use());
  const TensorView& bias = weights_->selection_bias();
  if (bias.absent()) return runtime().fill(target.data, 0, static_cast<size_t>(target.bytes()));
  const MatrixView source = dense_matrix(bias.data, bias.dtype, 1, target.size());
  return launch_pack_rows(source, {}, {.data = target.data, .dtype = target.dtype, .rows = 1, .pitch = target.size()},
                          runtime().traits(), runtime().stream());
}

Status GpuLayer::copy_field(WeightRole role, int64_t expert, QuantizedField field, const TensorView& target) {
  if (offload_ != nullptr) return {Code::unsupported_operation, "copyField: expected a layer without offload"};
  MOE_TRY(runtime().use());
  const LayerWeights::Product* product = product_of(*weights_, role, expert);
  if (product == nullptr || !gpu::is_quantized(*product->weight->weights().format)) {
    return {Code::unsupported_operation, "copyField: expected a matrix of codes and scales"};
  }
  const GpuPackedExperts& packed = *product->weight;
  const int64_t index = expert - product->experts.first;
  const ExpertInputs& inputs = packed.inputs();
  if (field == QuantizedField::inputScale) {
    return copy_inputs<float>(inputs.scales(), index, target, runtime(), [](size_t) { return 1.0f; });
  }
  if (field == QuantizedField::inputOrder) {
    return copy_inputs<int32_t>(inputs.orders(), index, target, runtime(),
                                [](size_t k) { return static_cast<int32_t>(k); });
  }
  return launch_unpack_field({.product = packed.weights(),
                              .packed = packed.matrix(),
                              .matrix = static_cast<const char*>(packed.data()) + index * packed.matrix().bytes,
                              .up = packed.weights().gated() && role == WeightRole::up},
                             field, target, runtime().traits(), runtime().stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
