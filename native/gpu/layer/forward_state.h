// What the stages of a pass leave for later ones. Memory is the workspace's, or the caller's for tensors that were
// given.
#pragma once

#include "core/layer/description.h"
#include "core/tensor_view.h"
#include "gpu/plan/layer_plan.h"

namespace moe::gpu {

struct ForwardState {
  TensorView logits;        // [T, E] f32
  TensorView shared_gate;   // [T, shared_gate_rows] f32
  TensorView ids;           // [T, k] i32 and
  TensorView weights;       // [T, k] f32, for the chosen experts
  TensorView slot_ids;      // [T, slots] i32 and
  TensorView slot_weights;  // [T, slots] f32, with the shared experts. These ids count within the bank.

  // The slots, sorted by expert.
  TensorView offsets;            // [all experts + 1] i32
  TensorView tokens_per_expert;  // [all experts] i32
  TensorView token_of_row;       // [slots] i32
  TensorView row_of_slot;        // [T, slots] i32
  TensorView weight_of_row;      // [slots] f32; absent if weights multiply the outputs

  TensorView inner;  // [R, plan.inner_pitch]
  TensorView rows;   // [R, H]
};

ForwardState place_state(const LayerDescription& layer, const LayerForward& forward, const LayerPlan& plan,
                         char* workspace);

}  // namespace moe::gpu
