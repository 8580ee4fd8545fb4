#include "gpu/experts/shared_slots.cuh"
#include "gpu/layer/offload.h"
#include "gpu/layer/product.h"
#include "gpu/routing/sort.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Writes every token's slots: the chosen ones, then those of the shared experts.
Status fill_slots(const Pass& pass) {
  const gpu::PassState& state = pass.state;
  gpu::IdError* error = pass.errors.next(
      {.parameter = "forward: ids", .what = "an expert", .limit = pass.layer.experts, .columns = state.ids.shape[1]});
  return launch_shared_slots({.ids = state.ids,
                              .weights = state.weights,
                              .gate = state.shared_gate,
                              .slot_ids = state.slot_ids,
                              .slot_weights = state.slot_weights,
                              .experts = pass.layer.experts,
                              .bank_first = pass.layer.bank.first,
                              .bank_count = pass.layer.bank.count,
                              .shared_experts = pass.layer.shared_experts},
                             error, pass.traits, pass.stream);
}

}  // namespace

Status run_sort(const Pass& pass) {
  const gpu::PassState& state = pass.state;
  const LayerDescription& layer = pass.layer;
  // The ids of choices count among the router's experts. Slots of their own have ids that count within the bank.
  SortRange range{.limit = layer.experts, .first = layer.bank.first};
  if (layer.has_own_slots()) {
    MOE_TRY(fill_slots(pass));
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
  for (size_t i = 0; i < pass.plan.maps.size(); ++i) {
    const size_t group = pass.plan.maps[i].group;
    // Experts that come and go have maps of their own for every round.
    if (pass.offload_of(group) != nullptr) continue;
    const int place = group == LayerDescription::kBankGroup ? pass.bank_place : 0;
    MOE_TRY(map_tiles(pass, i, {.group = pass.plan.groups[group].experts, .first_place = place}));
  }
  return pass.offload == nullptr ? Status() : pass.offload->begin(pass);
}

}  // namespace moe::MOE_GPU_NAMESPACE
