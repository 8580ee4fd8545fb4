#include <vector>

#include "gpu/layer/gating.h"
#include "gpu/layer/offload.h"
#include "gpu/layer/product.h"
#include "gpu/routing/route_block.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Every token's slots: the chosen ones, then those of the shared experts.
SharedSlotsArguments slots_of(const Pass& pass) {
  const gpu::PassState& state = pass.state;
  gpu::IdError* error = pass.errors.next(
      {.parameter = "forward: ids", .what = "an expert", .limit = pass.layer.experts, .columns = state.ids.shape[1]});
  return shared_slots_arguments({.ids = state.ids,
                                 .weights = state.weights,
                                 .gate = state.shared_gate,
                                 .slot_ids = state.slot_ids,
                                 .slot_weights = state.slot_weights,
                                 .experts = pass.layer.experts,
                                 .bank_first = pass.layer.bank.first,
                                 .bank_count = pass.layer.bank.count,
                                 .shared_experts = pass.layer.shared_experts},
                                error);
}

SortArguments sort_of(const Pass& pass) {
  const gpu::PassState& state = pass.state;
  const LayerDescription& layer = pass.layer;
  // The ids of choices count among the router's experts. Slots of their own have ids that count within the bank.
  const SortRange range = layer.has_own_slots() ? SortRange{.limit = layer.all_experts()}
                                                : SortRange{.limit = layer.experts, .first = layer.bank.first};
  SortedWeights weights;
  if (!state.weight_of_row.absent()) weights = {state.slot_weights.as<float>(), state.weight_of_row.as<float>()};
  gpu::IdError* error = pass.errors.next(
      {.parameter = "forward: ids", .what = "an expert", .limit = range.limit, .columns = state.slot_ids.shape[1]});
  return sort_arguments({.ids = state.slot_ids,
                         .offsets = state.offsets,
                         .tokens_per_expert = state.tokens_per_expert,
                         .token_of_row = state.token_of_row,
                         .row_of_slot = state.row_of_slot},
                        range, weights, pass.plan.sort, pass.workspace + pass.plan.sort_counts, error);
}

std::vector<TileMapArguments> maps_of(const Pass& pass) {
  std::vector<TileMapArguments> maps;
  for (size_t i = 0; i < pass.plan.maps.size(); ++i) {
    const size_t group = pass.plan.maps[i].group;
    // Experts that come and go have maps of their own for every round.
    if (pass.offload_of(group) != nullptr) continue;
    const int place = group == LayerDescription::kBankGroup ? pass.bank_place : 0;
    maps.push_back(map_of(pass, i, {.group = pass.plan.groups[group].experts, .first_place = place}));
  }
  return maps;
}

}  // namespace

Status run_sort(const Pass& pass) {
  const bool fills_slots = pass.layer.has_own_slots();
  const SharedSlotsArguments slots = fills_slots ? slots_of(pass) : SharedSlotsArguments{};
  const SortArguments sort = sort_of(pass);
  const std::vector<TileMapArguments> maps = maps_of(pass);
  const bool gates = pass.plan.gates_in_sort;
  const bool fills_in_block = fills_slots && (gates || gpu::fills_in_block(slots.slots, pass.plan.sort));
  if (fills_slots && !fills_in_block) MOE_TRY(launch_shared_slots(slots, pass.traits, pass.stream));
  if (pass.plan.sort.single_block) {
    const GatingArguments gating = gates ? gating_of(pass) : GatingArguments{};
    MOE_TRY(launch_route_block(
        {.gating = gates ? &gating : nullptr, .slots = fills_in_block ? &slots : nullptr, .sort = sort, .maps = maps},
        pass.plan.sort, pass.traits, pass.stream));
  } else {
    MOE_TRY(launch_sort(sort, pass.plan.sort, pass.traits, pass.stream));
    for (const TileMapArguments& map : maps) {
      MOE_TRY(launch_tile_map(map, pass.traits.max_threads, pass.stream));
    }
  }
  return pass.offload == nullptr ? Status() : pass.offload->begin(pass);
}

}  // namespace moe::MOE_GPU_NAMESPACE
