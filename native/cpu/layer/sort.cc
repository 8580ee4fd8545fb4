// All tokens' slots, sorted by expert.
#include "cpu/routing/sort.h"
#include "cpu/layer/stage.h"

namespace moe::cpu {

namespace {

void take(Pass& pass, StageMemory& memory) {
  pass.state.offsets = memory.state.take<int32_t>(pass.layer.all_experts() + 1);
  pass.state.token_of_row = memory.state.take<int32_t>(pass.most_rows());
  pass.state.row_of_slot = memory.state.take<int32_t>(pass.most_rows());
  if (pass.layer.weight_on == WeightPlace::input) pass.state.weight_of_row = memory.state.take<float>(pass.most_rows());
}

// Gives every row the weight of its slot; rows of shared experts weigh 1.
void weigh_rows(Pass& pass) {
  const int64_t choices = pass.tokens.choices;
  for (int64_t token = 0; token < pass.tokens.count; ++token) {
    for (int64_t j = 0; j < pass.slots; ++j) {
      const int32_t row = pass.state.row_of_slot[token * pass.slots + j];
      if (row < 0) continue;
      pass.state.weight_of_row[row] = j < choices ? pass.state.weights[token * choices + j] : 1.0f;
    }
  }
}

Status run(Pass& pass) {
  pass.data_error = sort_rows({.name = "forward: ids",
                               .ids = pass.state.ids,
                               .tokens = pass.tokens.count,
                               .top_k = pass.tokens.choices,
                               .experts = pass.layer.experts,
                               .shared = pass.layer.shared_experts,
                               .first_token = pass.tokens.first,
                               .bank_first = pass.layer.bank.first,
                               .bank_count = pass.layer.bank.count},
                              {.offsets = pass.state.offsets,
                               .tokens_per_expert = nullptr,
                               .token_of_row = pass.state.token_of_row,
                               .row_of_slot = pass.state.row_of_slot});
  if (pass.offload != nullptr) MOE_TRY(pass.offload->begin(pass.state.offsets));
  if (pass.layer.weight_on == WeightPlace::input) weigh_rows(pass);
  return {};
}

}  // namespace

const CpuStage sort_stage{.take = take, .run = run};

}  // namespace moe::cpu
