// The tokens' outputs: a weighted sum over the rows of each token's slots.
#include <algorithm>

#include "core/operators/shared_slots.h"
#include "cpu/layer/stage.h"
#include "cpu/runtime/rows.h"

namespace moe::cpu {

namespace {

void take(Pass& pass, StageMemory& memory) {
  pass.scratch.slot_rows = memory.scratch.take<const void*>(pass.threads() * pass.slots);
  pass.scratch.slot_weights = memory.scratch.take<float>(pass.threads() * pass.slots);
  pass.scratch.line = memory.scratch.take<float>(pass.threads() * pass.layer.hidden);
  if (pass.tokens.residual == nullptr) return;
  pass.scratch.residual = memory.scratch.take<float>(pass.threads() * pass.layer.hidden);
}

// The factors of the outputs of a token's slots.
const float* slot_weights(Pass& pass, const Worker& worker, int64_t token) {
  const int64_t choices = pass.tokens.choices;
  const float* chosen = pass.state.weights + token * choices;
  float* all = pass.scratch.slot_weights + worker.index * pass.slots;
  if (pass.layer.weight_on == WeightPlace::input) {
    std::fill_n(all, pass.slots, 1.0f);
    return all;
  }
  if (!pass.layer.has_own_slots()) return chosen;
  const int64_t outputs = pass.layer.shared_gate_rows();
  const SharedShares shares = shared_shares(pass.state.shared_gate + token * outputs, outputs);
  for (int64_t j = 0; j < choices; ++j) all[j] = chosen[j] * shares.routed;
  std::fill(all + choices, all + pass.slots, shares.shared);
  return all;
}

void combine(Pass& pass, const Worker& worker, int64_t token) {
  const Kernels& kernels = pass.kernels;
  const int64_t hidden = pass.layer.hidden;
  const void** rows = pass.scratch.slot_rows + worker.index * pass.slots;
  float* line = pass.scratch.line + worker.index * hidden;
  for (int64_t j = 0; j < pass.slots; ++j) {
    const int32_t row = pass.state.row_of_slot[token * pass.slots + j];
    rows[j] = row < 0 ? nullptr : pass.state.outputs + row * hidden;
  }
  kernels.combine(DType::f32, rows, slot_weights(pass, worker, token), static_cast<int32_t>(pass.slots), hidden, line);
  if (pass.tokens.residual != nullptr) {
    const DType dtype = pass.tokens.residual_dtype;
    const int64_t row_bytes = hidden * static_cast<int64_t>(info(dtype).bytes);
    add_row(kernels, dtype, pass.tokens.residual + token * row_bytes, hidden,
            pass.scratch.residual + worker.index * hidden, line);
  }
  const DType dtype = pass.tokens.dtype;
  kernels.from_f32(dtype, line, hidden, pass.tokens.y + token * hidden * static_cast<int64_t>(info(dtype).bytes));
}

Status run(Pass& pass) {
  const Work work{.bytes = 8.0 * static_cast<double>(pass.most_rows() * pass.layer.hidden)};
  pass.for_items(pass.tokens.count, work, [&](const Worker& worker, int64_t token) { combine(pass, worker, token); });
  return {};
}

}  // namespace

const CpuStage combine_stage{.take = take, .run = run};

}  // namespace moe::cpu
