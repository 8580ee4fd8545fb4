// Copies of a layer's weights as they were set; see core/layer/weight_copies.h.
#pragma once

#include "core/layer/weight_copies.h"
#include "cpu/layer/layer_weights.h"

namespace moe::cpu {

Status copy_selection_bias(const LayerWeights& weights, const Kernels& kernels, const TensorView& target);
Status copy_field(const LayerWeights& weights, const Team& team, WeightRole role, int64_t expert, QuantizedField field,
                  const TensorView& target);

}  // namespace moe::cpu
