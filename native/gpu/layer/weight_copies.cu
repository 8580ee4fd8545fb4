// Copies of a layer's weights as they were set; see core/layer/weight_copies.h.
#include <vector>

#include "gpu/gemm/pack.cuh"
#include "gpu/gemm/quantized_layout.h"
#include "gpu/gemm/unpack_field.cuh"
#include "gpu/layer/layer.h"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Copies one expert's values; value_of(k) stands for each if there are none.
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
  const LayerWeights::Matrix of = weights_->matrix(role, expert);
  if (of.product == nullptr || !gpu::is_quantized(*of.product->weight->weights().format)) {
    return {Code::unsupported_operation, "copyField: expected a matrix of codes and scales"};
  }
  const GpuPackedExperts& packed = *of.product->weight;
  const ExpertInputs& inputs = packed.inputs();
  if (field == QuantizedField::inputScale) {
    return copy_inputs<float>(inputs.scales(), of.expert, target, runtime(), [](size_t) { return 1.0f; });
  }
  if (field == QuantizedField::inputOrder) {
    return copy_inputs<int32_t>(inputs.orders(), of.expert, target, runtime(),
                                [](size_t k) { return static_cast<int32_t>(k); });
  }
  return launch_unpack_field({.product = packed.weights(),
                              .packed = packed.matrix(),
                              .matrix = static_cast<const char*>(packed.data()) + of.expert * packed.matrix().bytes,
                              .up = of.up},
                             field, target, runtime().traits(), runtime().stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
