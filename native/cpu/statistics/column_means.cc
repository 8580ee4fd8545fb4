#include "cpu/operators.h"
#include "cpu/statistics/row_units.h"

namespace moe::cpu {

Status run(Context& context, const ColumnMeans& p) {
  const int64_t columns = p.values.shape[1];
  const TokenMask mask(p.token_mask);
  const RowUnits units = row_units(p.values.shape[0], p.means.shape[0]);
  double* sums = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) { sums = arena.take<double>(units.all() * columns); }));
  for_each_unit(context.team, units, [&](int64_t first, int64_t end, int64_t unit) {
    double* unit_sums = sums + unit * columns;
    std::fill(unit_sums, unit_sums + columns, 0.0);
    for (int64_t row = first; row < end; ++row) {
      if (!mask.counts(row)) continue;
      const float* values = p.values.as<const float>() + row * columns;
      for (int64_t c = 0; c < columns; ++c) {
        const double value = values[c];
        unit_sums[c] += p.square ? value * value : value;
      }
    }
  });
  for (int64_t s = 0; s < units.sequences; ++s) {
    const int64_t count = mask.count(s * units.rows, (s + 1) * units.rows);
    const double divisor = p.total ? 1 : static_cast<double>(count);
    for (int64_t c = 0; c < columns; ++c) {
      const double sum = sum_of_units(sums, units, s, columns, c);
      p.means.as<float>()[s * columns + c] = count == 0 ? 0.0f : static_cast<float>(sum / divisor);
    }
    if (!p.counts.absent()) p.counts.as<int32_t>()[s] = static_cast<int32_t>(count);
  }
  return {};
}

}  // namespace moe::cpu
