#include <algorithm>
#include <cstring>

#include "core/operators/experts_gradients.h"
#include "cpu/operators.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

namespace {

// One thread's memory for rows in float32.
struct Lines {
  float* d_y;
  float* row;
};

// The gradients of one token's slots. first_slot[row] is the first slot of a row, or -1.
void run_token(const Kernels& kernels, const CombineBackward& p, int64_t token, const int32_t* first_slot,
               const Lines& lines) {
  const int64_t top_k = p.row_of_slot.shape[1], hidden = p.d_y.shape[1], rows = p.row_count();
  kernels.to_f32(p.d_y.dtype, p.d_y.at(token), hidden, lines.d_y);
  for (int64_t slot = token * top_k; slot < (token + 1) * top_k; ++slot) {
    const int64_t row = index_or_none(p.row_of_slot.as<const int32_t>()[slot], rows);
    if (!p.d_weights.absent()) {
      float& d_weight = p.d_weights.as<float>()[slot];
      d_weight = 0.0f;
      if (row >= 0) {
        kernels.to_f32(p.rows.dtype, p.rows.at(row), hidden, lines.row);
        d_weight = kernels.dot(lines.row, lines.d_y, hidden);
      }
    }
    if (!p.wants_rows() || row < 0 || first_slot[row] != slot) continue;
    const void* source = lines.d_y;
    kernels.combine(DType::f32, &source, p.weights.as<const float>() + slot, 1, hidden, lines.row);
    kernels.from_f32(p.d_rows.dtype, lines.row, hidden, p.d_rows.at(row));
  }
}

}  // namespace

Status run(Context& context, const CombineBackward& p) {
  constexpr int64_t kRowsAtOnce = 16;
  const int64_t slots = p.tokens() * p.row_of_slot.shape[1], rows = p.row_count(), hidden = p.d_y.shape[1];
  const int32_t* row_of_slot = p.row_of_slot.as<const int32_t>();
  int32_t* first_slot = nullptr;
  Lines lines{};
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    if (p.wants_rows()) first_slot = arena.take<int32_t>(rows);
    lines.d_y = arena.take<float>(hidden * context.team.threads);
    lines.row = arena.take<float>(hidden * context.team.threads);
  }));
  if (p.wants_rows()) {
    std::fill_n(first_slot, rows, -1);
    for (int64_t slot = slots - 1; slot >= 0; --slot) {
      const int64_t row = index_or_none(row_of_slot[slot], rows);
      if (row >= 0) first_slot[row] = static_cast<int32_t>(slot);
    }
    context.team.for_range(rows, kRowsAtOnce, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        if (first_slot[row] >= 0) continue;
        std::memset(p.d_rows.at(row), 0, static_cast<size_t>(p.d_rows.row_bytes()));
      }
    });
  }
  const int64_t token_bytes = (p.row_of_slot.shape[1] + 1) * p.d_y.row_bytes();
  context.team.for_items(p.tokens(), token_bytes, [&](int thread, int64_t token) {
    run_token(context.kernels, p, token, first_slot, {lines.d_y + thread * hidden, lines.row + thread * hidden});
  });
  return check_indices("combineBackward: rowOfSlot", p.row_of_slot, rows);
}

}  // namespace moe::cpu
