#include "gpu/layer/forward_state.h"

#include "gpu/plan/views.h"

namespace moe::gpu {

ForwardState place_state(const LayerDescription& layer, const LayerForward& forward, const LayerPlan& plan,
                         char* workspace) {
  const int64_t tokens = forward.x.shape[0];
  const int64_t choices = forward.choices(layer);
  const int64_t slots = layer.slots(choices);
  const int64_t experts = layer.all_experts();
  const auto matrix = [&](size_t part, DType dtype, int64_t columns) {
    return matrix_view(workspace + part, dtype, tokens, columns);
  };
  const auto vector = [&](size_t part, DType dtype, int64_t size) {
    return vector_view(workspace + part, dtype, size);
  };
  const auto given = [](const TensorView& tensor, const TensorView& own) { return tensor.absent() ? own : tensor; };

  ForwardState state;
  state.logits = given(forward.logits, matrix(plan.logits, DType::f32, layer.experts));
  state.shared_gate = matrix(plan.shared_gate, DType::f32, layer.shared_gate_rows());
  state.ids = given(forward.ids, matrix(plan.ids, DType::i32, choices));
  state.weights = given(forward.weights, matrix(plan.weights, DType::f32, choices));
  const bool own_slots = layer.has_own_slots();
  state.slot_ids = own_slots ? matrix(plan.slot_ids, DType::i32, slots) : state.ids;
  state.slot_weights = own_slots ? matrix(plan.slot_weights, DType::f32, slots) : state.weights;
  state.offsets = vector(plan.offsets, DType::i32, experts + 1);
  state.tokens_per_expert = vector(plan.tokens_per_expert, DType::i32, experts);
  state.token_of_row = vector(plan.token_of_row, DType::i32, tokens * slots);
  state.row_of_slot = matrix(plan.row_of_slot, DType::i32, slots);
  if (layer.weight_on == WeightPlace::input) {
    state.weight_of_row = vector(plan.weight_of_row, DType::f32, tokens * slots);
  }
  state.inner = matrix_view(workspace + plan.inner, plan.inner_dtype, plan.row_count, plan.inner_pitch);
  state.rows = matrix_view(workspace + plan.rows, plan.rows_dtype, plan.row_count, layer.hidden);
  return state;
}

}  // namespace moe::gpu
