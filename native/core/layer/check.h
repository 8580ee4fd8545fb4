// Checks what is given to a layer, as core/operators/check.h checks what is given to an operator: all that keeps its
// stages within the memory of their tensors and weights.
#pragma once

#include "core/layer/description.h"
#include "core/layer/weight_role.h"
#include "core/status.h"

namespace moe {

Status check_layer(const LayerDescription& layer);

// For the setters of core/backend.h.
Status check_router(const LayerDescription& layer, const WeightView& weight, const MatrixView& bias);
Status check_selection_bias(const LayerDescription& layer, const MatrixView& bias);
Status check_shared_gate(const LayerDescription& layer, const WeightView& weight, const MatrixView& bias);
Status check_expert(const LayerDescription& layer, int64_t expert, const ExpertViews& weights);

// For Layer::copy_weight().
Status check_copied_weight(const LayerDescription& layer, WeightRole role, int64_t expert, const TensorView& target);

// Also checks the stages with check_stages().
Status check_forward(const LayerDescription& layer, Stages stages, const LayerForward& forward);

}  // namespace moe
