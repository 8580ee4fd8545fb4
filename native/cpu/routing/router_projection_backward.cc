#include <algorithm>

#include "core/divide.h"
#include "cpu/operators.h"

namespace moe::cpu {
namespace {

// Columns at a time: the rows of a block of tokens, or of the weight, stay in a cache.
constexpr int64_t kColumns = 512;
constexpr int64_t kTokensAtOnce = 64;
constexpr int64_t kExpertsAtOnce = 16;

// rows[i] = column `column` of row first + i of a matrix.
void point_at(const TensorView& matrix, int64_t first, int64_t count, int64_t column, const void** rows) {
  for (int64_t i = 0; i < count; ++i) rows[i] = matrix.at(first + i, column);
}

// dx of tokens begin .. end - 1. `rows` has room for a pointer per expert.
void add_up_experts(const Kernels& kernels, const RouterProjectionBackward& p, int64_t begin, int64_t end,
                    const void** rows) {
  const int64_t hidden = p.x.shape[1], experts = p.weight.shape[0];
  float line[kColumns];
  for (int64_t first = 0; first < hidden; first += kColumns) {
    const int64_t columns = std::min(kColumns, hidden - first);
    point_at(p.weight, 0, experts, first, rows);
    for (int64_t token = begin; token < end; ++token) {
      kernels.combine(p.weight.dtype, rows, p.d_logits.as<const float>() + token * experts,
                      static_cast<int32_t>(experts), columns, line);
      kernels.from_f32(p.d_x.dtype, line, columns, p.d_x.at(token, first));
    }
  }
}

// dWeight of experts `first_expert` .. end - 1 in a range of columns, block of tokens by block.
void add_up_tokens(const Kernels& kernels, const RouterProjectionBackward& p, int64_t first_expert, int64_t end,
                   int64_t first_column, int64_t columns) {
  const int64_t tokens = p.x.shape[0], hidden = p.x.shape[1], experts = p.weight.shape[0];
  const auto sums_of = [&](int64_t expert) { return p.d_weight.as<float>() + expert * hidden + first_column; };
  for (int64_t e = first_expert; e < end; ++e) std::fill_n(sums_of(e), columns, 0.0f);
  const void* rows[kGradientBlock];
  float gradient[kGradientBlock], line[kColumns];
  for (int64_t token = 0; token < tokens; token += kGradientBlock) {
    const int64_t count = std::min<int64_t>(kGradientBlock, tokens - token);
    point_at(p.x, token, count, first_column, rows);
    for (int64_t e = first_expert; e < end; ++e) {
      for (int64_t i = 0; i < count; ++i) gradient[i] = p.d_logits.as<const float>()[(token + i) * experts + e];
      kernels.combine(p.x.dtype, rows, gradient, static_cast<int32_t>(count), columns, line);
      float* sums = sums_of(e);
      for (int64_t c = 0; c < columns; ++c) sums[c] += line[c];
    }
  }
}

}  // namespace

Status run(Context& context, const RouterProjectionBackward& p) {
  const int64_t hidden = p.x.shape[1], experts = p.weight.shape[0];
  const void** rows = nullptr;
  MOE_TRY(reserve_workspace(context,
                            [&](Arena& arena) { rows = arena.take<const void*>(experts * context.team.threads); }));
  context.team.for_pieces(p.x.shape[0], kTokensAtOnce, [&](int thread, int64_t begin, int64_t end) {
    add_up_experts(context.kernels, p, begin, end, rows + thread * experts);
  });
  const int64_t ranges = ceil_divide(hidden, kColumns);
  const int64_t groups = ceil_divide(experts, kExpertsAtOnce);
  context.team.for_range(ranges * groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first_expert = item / ranges * kExpertsAtOnce, column = item % ranges * kColumns;
      add_up_tokens(context.kernels, p, first_expert, std::min(experts, first_expert + kExpertsAtOnce), column,
                    std::min(kColumns, hidden - column));
    }
  });
  return {};
}

}  // namespace moe::cpu
