#include "cpu/operators.h"
#include "cpu/runtime/indices.h"
#include "cpu/runtime/rows.h"

namespace moe::cpu {

Status run(Context& context, const Combine& p) {
  const int64_t top_k = p.row_of_slot.shape[1];
  const int64_t hidden = p.rows.shape[1];
  const int64_t tokens = p.y.shape[0];
  const Kernels& kernels = context.kernels;
  const int32_t* row_of_slot = p.row_of_slot.as<const int32_t>();
  const void** slot_rows = nullptr;
  float* lines = nullptr;
  float* residuals = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    slot_rows = arena.take<const void*>(top_k * context.team.threads);
    lines = arena.take<float>(hidden * context.team.threads);
    if (!p.residual.absent()) residuals = arena.take<float>(hidden * context.team.threads);
  }));
  context.team.for_items(tokens, top_k * p.rows.row_bytes() + p.y.row_bytes(), [&](int thread, int64_t token) {
    const void** rows = slot_rows + thread * top_k;
    float* line = lines + thread * hidden;
    for (int64_t j = 0; j < top_k; ++j) {
      const int64_t row = index_or_none(row_of_slot[token * top_k + j], p.rows.shape[0]);
      rows[j] = row < 0 ? nullptr : p.rows.at(row);
    }
    kernels.combine(p.rows.dtype, rows, p.weights.as<const float>() + token * top_k, static_cast<int32_t>(top_k),
                    hidden, line);
    if (!p.residual.absent()) {
      add_row(kernels, p.residual.dtype, p.residual.at(token), hidden, residuals + thread * hidden, line);
    }
    kernels.from_f32(p.y.dtype, line, hidden, p.y.at(token));
  });
  return check_indices("combine: rowOfSlot", p.row_of_slot, p.rows.shape[0]);
}

}  // namespace moe::cpu
