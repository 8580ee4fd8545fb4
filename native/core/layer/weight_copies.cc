#include "core/layer/weight_copies.h"

#include "core/operators/check.h"

namespace moe {

Status check_copied_selection_bias(const LayerDescription& layer, const TensorView& target) {
  return expect_sizes(is_float(target.dtype) && target.rank == 1 && target.shape[0] == layer.experts,
                      "copySelectionBias: expected a float tensor [E]");
}

Status check_copied_field(const LayerDescription& layer, WeightRole role, int64_t expert, QuantizedField field,
                          const TensorView& target) {
  FieldSize expected;
  const WeightFormat* format = role >= WeightRole::gate ? format_of_weight(layer, role, expert) : nullptr;
  if (format != nullptr) {
    const WeightSize size = size_of_weight(layer, role);
    expected = size_of_field(*format, field, size.rows, size.columns);
  }
  return expect_sizes(expected.rows > 0 && target.dtype == expected.dtype && target.rank > 0 &&
                          target.size() == expected.rows * expected.columns &&
                          target.shape[target.rank - 1] == expected.columns,
                      "copyField: expected a field of a quantised matrix that the layer has, and a tensor of its size");
}

}  // namespace moe
