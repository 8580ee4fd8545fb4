#include "cpu/operators.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

Status run(Context& context, const Combine& p) {
  const int64_t top_k = p.row_of_slot.shape[1];
  const int64_t hidden = p.rows.shape[1];
  const int64_t tokens = p.y.shape[0];
  const Kernels& kernels = context.kernels;
  const int64_t row_bytes = hidden * static_cast<int64_t>(info(p.rows.dtype).bytes);
  const int64_t y_bytes = hidden * static_cast<int64_t>(info(p.y.dtype).bytes);
  const int32_t* row_of_slot = p.row_of_slot.as<const int32_t>();
  const void** slot_rows = nullptr;
  float* lines = nullptr;
  float* residuals = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    slot_rows = arena.take<const void*>(top_k * context.team.threads);
    lines = arena.take<float>(hidden * context.team.threads);
    if (!p.residual.absent()) residuals = arena.take<float>(hidden * context.team.threads);
  }));
  context.team.for_items(tokens, top_k * row_bytes + y_bytes, [&](int thread, int64_t token) {
    const void** rows = slot_rows + thread * top_k;
    float* line = lines + thread * hidden;
    for (int64_t j = 0; j < top_k; ++j) {
      const int64_t row = index_or_none(row_of_slot[token * top_k + j], p.rows.shape[0]);
      rows[j] = row < 0 ? nullptr : p.rows.as<const char>() + row * row_bytes;
    }
    kernels.combine(p.rows.dtype, rows, p.weights.as<const float>() + token * top_k, static_cast<int32_t>(top_k),
                    hidden, line);
    if (!p.residual.absent()) {
      float* residual = residuals + thread * hidden;
      const int64_t bytes = hidden * static_cast<int64_t>(info(p.residual.dtype).bytes);
      kernels.to_f32(p.residual.dtype, p.residual.as<const char>() + token * bytes, hidden, residual);
      for (int64_t i = 0; i < hidden; ++i) line[i] += residual[i];
    }
    kernels.from_f32(p.y.dtype, line, hidden, p.y.as<char>() + token * y_bytes);
  });
  return check_indices("combine: rowOfSlot", row_of_slot, tokens * top_k, p.rows.shape[0]);
}

}  // namespace moe::cpu
