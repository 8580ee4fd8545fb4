// What the stages of a pass leave for later ones.
#pragma once

#include <vector>

#include "core/layer/description.h"
#include "core/tensor_view.h"
#include "gpu/plan/layer_plan.h"

namespace moe::gpu {

// Tensors that the caller gave, or memory of plan.state_bytes.
struct PassState {
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
  std::vector<char*> tile_maps;  // in the order of plan.maps

  std::vector<TensorView> inner;  // [R, its inner_pitch], in the order of plan.groups: all in the same memory
  TensorView rows;                // [R, H]
};

// Places the results of `stages` in `memory`. Those of earlier stages stay where they are.
void place_state(Stages stages, const LayerDescription& layer, const LayerForward& forward, const LayerPlan& plan,
                 char* memory, PassState* state);

}  // namespace moe::gpu
