#include "cpu/operators.h"
#include "cpu/runtime/indices.h"
#include "cpu/statistics/row_units.h"

namespace moe::cpu {

Status run(Context& context, const ExpertTotals& p) {
  const int64_t top_k = p.ids.shape[1];
  const int64_t experts = p.tokens.shape[1];
  const bool weighted = !p.weights.absent();
  const TokenMask mask(p.token_mask);
  const RowUnits units = row_units(p.counted_tokens(), p.tokens.shape[0]);
  // Column E counts the slots that have no expert.
  const int64_t columns = experts + 1;
  int32_t* counts = nullptr;
  double* sums = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    counts = arena.take<int32_t>(units.all() * columns);
    sums = arena.take<double>(weighted ? units.all() * columns : 0);
  }));
  for_each_unit(context.team, units, [&](int64_t first, int64_t end, int64_t unit) {
    int32_t* unit_counts = counts + unit * columns;
    double* unit_sums = weighted ? sums + unit * columns : nullptr;
    std::fill(unit_counts, unit_counts + columns, 0);
    if (weighted) std::fill(unit_sums, unit_sums + columns, 0.0);
    for (int64_t token = first; token < end; ++token) {
      if (!mask.counts(token)) continue;
      for (int64_t slot = token * top_k; slot < token * top_k + p.choices; ++slot) {
        const int64_t expert = index_or_none(p.ids.as<const int32_t>()[slot], experts);
        ++unit_counts[expert < 0 ? experts : expert];
        if (weighted && expert >= 0) unit_sums[expert] += p.weights.as<const float>()[slot];
      }
    }
  });
  for (int64_t s = 0; s < units.sequences; ++s) {
    for (int64_t e = 0; e < experts; ++e) {
      p.tokens.as<int32_t>()[s * experts + e] = sum_of_units(counts, units, s, columns, e);
      if (!weighted) continue;
      p.sums.as<float>()[s * experts + e] = static_cast<float>(sum_of_units(sums, units, s, columns, e));
    }
    p.dropped.as<int32_t>()[s] = sum_of_units(counts, units, s, columns, experts);
  }
  return check_ids("expertTotals: ids", p.ids, p.choices, mask, experts, "an expert");
}

}  // namespace moe::cpu
