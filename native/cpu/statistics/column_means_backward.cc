#include "cpu/operators.h"

namespace moe::cpu {

Status run(Context& context, const ColumnMeansBackward& p) {
  constexpr int64_t kRowsAtOnce = 64;
  const int64_t rows = p.d_values.shape[0], columns = p.d_values.shape[1];
  const int64_t rows_per_sequence = rows / p.d_means.shape[0];
  const TokenMask mask(p.token_mask);
  context.team.for_range(rows, kRowsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* gradient = p.d_values.as<float>() + row * columns;
      if (!mask.counts(row)) {
        std::fill(gradient, gradient + columns, 0.0f);
        continue;
      }
      const int64_t sequence = row / rows_per_sequence;
      const float* means = p.d_means.as<const float>() + sequence * columns;
      const float factor = column_factor(p.counts.as<const int32_t>(), sequence, !p.values.absent());
      for (int64_t c = 0; c < columns; ++c) {
        const float slope = p.values.absent() ? factor : factor * p.values.as<const float>()[row * columns + c];
        gradient[c] = means[c] * slope;
      }
    }
  });
  return {};
}

}  // namespace moe::cpu
