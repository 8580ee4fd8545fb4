// Weights of a layer as they were set, beside what Layer::copy_weight() copies.
#pragma once

#include "core/formats/quantized_field.h"
#include "core/layer/description.h"
#include "core/layer/weight_role.h"
#include "core/status.h"

namespace moe {

// What layers implement whose weights can be read back.
class WeightCopies {
 public:
  virtual ~WeightCopies() = default;
  // Writes the selection bias to a float tensor [E]; zeros if it was never set.
  virtual Status copy_selection_bias(const TensorView& target) = 0;
  // Writes a field of an expert's quantised matrix as it was set, but with the matrix's scalar in its scales; an input
  // scale of ones, or the order of the columns, if it has none. UNSUPPORTED_OPERATION on a GPU for a layer with
  // offload.
  virtual Status copy_field(WeightRole role, int64_t expert, QuantizedField field, const TensorView& target) = 0;
};

Status check_copied_selection_bias(const LayerDescription& layer, const TensorView& target);
Status check_copied_field(const LayerDescription& layer, WeightRole role, int64_t expert, QuantizedField field,
                          const TensorView& target);

}  // namespace moe
