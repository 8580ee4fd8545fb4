#include "gpu/experts/shared_slots.cuh"
#include "gpu/gemm/tile_map.cuh"
#include "gpu/layer/pass.h"
#include "gpu/routing/sort.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Appends the shared experts' slots to every token's chosen ones.
Status append_shared(const Pass& pass) {
  const gpu::ForwardState& state = pass.state;
  gpu::IdError* error = pass.errors.next(
      {.parameter = "forward: ids", .what = "an expert", .limit = pass.layer.experts, .columns = state.ids.shape[1]});
  return launch_shared_slots({.ids = state.ids,
                              .weights = state.weights,
                              .gate = state.shared_gate,
                              .slot_ids = state.slot_ids,
                              .slot_weights = state.slot_weights,
                              .experts = pass.layer.experts,
                              .bank = pass.layer.bank,
                              .shared_gate = pass.layer.shared_gate},
                             error, pass.traits, pass.stream);
}

}  // namespace

Status run_sort(const Pass& pass) {
  const gpu::ForwardState& state = pass.state;
  const LayerDescription& layer = pass.layer;
  // Ids count among the router's experts until the shared experts' slots are appended; after that they count within the
  // bank.
  SortRange range{.limit = layer.experts, .first = layer.bank.first};
  if (layer.shared_experts > 0) {
    MOE_TRY(append_shared(pass));
    range = {.limit = layer.all_experts()};
  }
  SortedWeights weights;
  if (!state.weight_of_row.absent()) weights = {state.slot_weights.as<float>(), state.weight_of_row.as<float>()};
  gpu::IdError* error = pass.errors.next(
      {.parameter = "forward: ids", .what = "an expert", .limit = range.limit, .columns = state.slot_ids.shape[1]});
  MOE_TRY(launch_sort({.ids = state.slot_ids,
                       .offsets = state.offsets,
                       .tokens_per_expert = state.tokens_per_expert,
                       .token_of_row = state.token_of_row,
                       .row_of_slot = state.row_of_slot},
                      range, weights, pass.plan.sort, pass.workspace + pass.plan.sort_counts, error, pass.stream));
  for (const gpu::TileMapPlan& map : pass.plan.maps) {
    error = pass.errors.next(
        {.parameter = "forward: offsets", .what = nullptr, .limit = pass.plan.row_count, .columns = 0});
    MOE_TRY(launch_tile_map(state.offsets.as<int>(), layer.all_experts(), pass.plan.row_count, map.tile_rows,
                            pass.workspace + map.map, error, pass.traits.max_threads, pass.stream));
  }
  return {};
}

}  // namespace moe::MOE_GPU_NAMESPACE
