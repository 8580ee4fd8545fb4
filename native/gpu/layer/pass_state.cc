#include "gpu/layer/pass_state.h"

#include "gpu/plan/views.h"

namespace moe::gpu {

void place_state(Stages stages, const LayerDescription& layer, const LayerForward& forward, const LayerPlan& plan,
                 char* memory, PassState* state) {
  const int64_t tokens = forward.x.shape[0];
  const int64_t choices = forward.choices(layer);
  const int64_t slots = layer.slots(choices);
  const int64_t experts = layer.all_experts();
  const auto matrix = [&](size_t part, DType dtype, int64_t columns) {
    return matrix_view(memory + part, dtype, tokens, columns);
  };
  const auto vector = [&](size_t part, DType dtype, int64_t size) { return vector_view(memory + part, dtype, size); };
  const auto runs = [&](Stage stage) { return contains(stages, stage); };
  // What the caller gave is used, and filled by the stage that computes it.
  const auto place = [&](TensorView* view, const TensorView& given, Stage stage, const TensorView& own) {
    if (!given.absent()) {
      *view = given;
    } else if (runs(stage)) {
      *view = own;
    }
  };
  place(&state->logits, forward.logits, Stage::router, matrix(plan.logits, DType::f32, layer.experts));
  place(&state->ids, forward.ids, Stage::gating, matrix(plan.ids, DType::i32, choices));
  place(&state->weights, forward.weights, Stage::gating, matrix(plan.weights, DType::f32, choices));
  if (runs(Stage::shared_gate)) state->shared_gate = matrix(plan.shared_gate, DType::f32, layer.shared_gate_rows());
  if (runs(Stage::sort)) {
    const bool own_slots = layer.has_own_slots();
    state->slot_ids = own_slots ? matrix(plan.slot_ids, DType::i32, slots) : state->ids;
    state->slot_weights = own_slots ? matrix(plan.slot_weights, DType::f32, slots) : state->weights;
    state->offsets = vector(plan.offsets, DType::i32, experts + 1);
    state->tokens_per_expert = vector(plan.tokens_per_expert, DType::i32, experts);
    state->token_of_row = vector(plan.token_of_row, DType::i32, tokens * slots);
    state->row_of_slot = matrix(plan.row_of_slot, DType::i32, slots);
    if (layer.weight_on == WeightPlace::input) {
      state->weight_of_row = vector(plan.weight_of_row, DType::f32, tokens * slots);
    }
    state->tile_maps.clear();
    for (const TileMapPlan& map : plan.maps) state->tile_maps.push_back(memory + map.map);
  }
  if (runs(Stage::gate_up)) {
    state->inner.clear();
    for (const GroupPlan& group : plan.groups) {
      state->inner.push_back(matrix_view(memory + plan.inner, group.inner_dtype, plan.row_count, group.inner_pitch));
    }
  }
  if (runs(Stage::down)) {
    state->rows = matrix_view(memory + plan.rows, plan.rows_dtype, plan.row_count, layer.hidden);
  }
}

}  // namespace moe::gpu
