// The operators that measure routers.
#include <algorithm>
#include <cmath>
#include <string>

#include "cpu/backend.h"
#include "cpu/runtime/rows.h"

namespace moe::cpu {
namespace {

constexpr int64_t kRowsAtOnce = 32;

double value_at(const TensorView& values, int64_t i) {
  return values.dtype == DType::i32 ? static_cast<double>(values.as<const int32_t>()[i]) : values.as<const float>()[i];
}

// Calls unit(first row, last row + 1, index of the unit) on all threads.
template <class Unit>
void for_each_unit(const Team& team, const RowUnits& units, Unit&& unit) {
  team.for_range(units.all(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t sequence = i / units.units;
      const int64_t first = i % units.units * units.rows_per_unit;
      const int64_t last = std::min(units.rows, first + units.rows_per_unit);
      unit(sequence * units.rows + first, sequence * units.rows + last, i);
    }
  });
}

// The sum of a column over a sequence's units, in order.
template <class T>
T sum_of_units(const T* partials, const RowUnits& units, int64_t sequence, int64_t columns, int64_t column) {
  T sum = 0;
  for (int64_t u = 0; u < units.units; ++u) sum += partials[(sequence * units.units + u) * columns + column];
  return sum;
}

}  // namespace

Status CpuBackend::router_scores(const RouterScores& p) {
  const int64_t experts = p.logits.shape[1];
  const int64_t row_bytes = experts * static_cast<int64_t>(info(p.logits.dtype).bytes);
  float* lines = nullptr;
  MOE_TRY(
      reserve_workspace(context_, [&](Arena& arena) { lines = arena.take<float>(experts * context_.team.threads); }));
  context_.team.for_pieces(p.logits.shape[0], kRowsAtOnce, [&](int thread, int64_t begin, int64_t end) {
    float* line = lines + thread * experts;
    for (int64_t token = begin; token < end; ++token) {
      context_.kernels.to_f32(p.logits.dtype, p.logits.as<const char>() + token * row_bytes, experts, line);
      float* scores = p.scores.absent() ? nullptr : p.scores.as<float>() + token * experts;
      const bool sigmoid = scores != nullptr && p.scoring == Scoring::sigmoid;
      if (sigmoid) context_.kernels.sigmoid_scores(line, experts, p.normalize, scores);
      if (sigmoid && p.log_sum_exp.absent() && p.entropy.absent()) continue;
      const SoftmaxRow row = context_.kernels.softmax_scores(line, experts, sigmoid ? nullptr : scores);
      if (!p.log_sum_exp.absent()) p.log_sum_exp.as<float>()[token] = static_cast<float>(row.log_sum_exp);
      if (!p.entropy.absent()) p.entropy.as<float>()[token] = static_cast<float>(row.entropy);
    }
  });
  return {};
}

Status CpuBackend::expert_totals(const ExpertTotals& p) {
  const int64_t top_k = p.ids.shape[1];
  const int64_t experts = p.tokens.shape[1];
  const bool weighted = !p.weights.absent();
  const TokenMask mask(p.token_mask);
  const RowUnits units = row_units(p.ids.shape[0], p.tokens.shape[0]);
  // Column E counts the slots without an expert.
  const int64_t columns = experts + 1;
  int32_t* counts = nullptr;
  double* sums = nullptr;
  MOE_TRY(reserve_workspace(context_, [&](Arena& arena) {
    counts = arena.take<int32_t>(units.all() * columns);
    sums = arena.take<double>(weighted ? units.all() * columns : 0);
  }));
  for_each_unit(context_.team, units, [&](int64_t first, int64_t end, int64_t unit) {
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
  return check_choices("expertTotals: ids", p.ids, p.choices, mask, experts, "an expert");
}

Status CpuBackend::column_means(const ColumnMeans& p) {
  const int64_t columns = p.values.shape[1];
  const TokenMask mask(p.token_mask);
  const RowUnits units = row_units(p.values.shape[0], p.means.shape[0]);
  double* sums = nullptr;
  MOE_TRY(reserve_workspace(context_, [&](Arena& arena) { sums = arena.take<double>(units.all() * columns); }));
  for_each_unit(context_.team, units, [&](int64_t first, int64_t end, int64_t unit) {
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
    const int count = mask.count(s * units.rows, (s + 1) * units.rows);
    const double divisor = p.total ? 1 : count;
    for (int64_t c = 0; c < columns; ++c) {
      const double sum = sum_of_units(sums, units, s, columns, c);
      p.means.as<float>()[s * columns + c] = count == 0 ? 0.0f : static_cast<float>(sum / divisor);
    }
    if (!p.counts.absent()) p.counts.as<int32_t>()[s] = count;
  }
  return {};
}

Status CpuBackend::balance_loss(const BalanceLoss& p) {
  const int64_t sequences = p.tokens.shape[0], experts = p.tokens.shape[1];
  const auto* tokens = p.tokens.as<const int32_t>();
  const auto* means = p.means.as<const float>();
  double losses = 0;
  int64_t counted = 0;
  for (int64_t s = 0; s < sequences; ++s) {
    const int32_t count = p.counts.as<const int32_t>()[s];
    if (count == 0) continue;
    double sum = 0;
    for (int64_t i = s * experts; i < (s + 1) * experts; ++i) sum += static_cast<double>(tokens[i]) * means[i];
    losses += sum / count;
    ++counted;
  }
  *p.loss.as<float>() = counted == 0 ? 0.0f : static_cast<float>(p.factor * losses / static_cast<double>(counted));
  return {};
}

Status CpuBackend::imbalance(const Imbalance& p) {
  const int64_t count = p.values.size();
  double sum = 0, largest = -INFINITY;
  for (int64_t i = 0; i < count; ++i) {
    const double value = value_at(p.values, i);
    sum += value;
    largest = std::max(largest, value);
  }
  const double mean = sum / static_cast<double>(count);
  double squares = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double difference = value_at(p.values, i) - mean;
    squares += difference * difference;
  }
  *p.result.as<float>() = imbalance_of({count, mean, largest, squares}, p.measure, p.epsilon);
  return {};
}

Status CpuBackend::update_selection_bias(const SelectionBiasUpdate& p) {
  const int64_t experts = p.bias.shape[0];
  const int32_t* tokens = p.tokens.as<const int32_t>();
  int64_t total = 0;
  for (int64_t i = 0; i < p.tokens.size(); ++i) total += tokens[i];
  for (int64_t e = 0; e < experts; ++e) {
    int64_t count = 0;
    for (int64_t i = e; i < p.tokens.size(); i += experts) count += tokens[i];
    p.updated.as<float>()[e] =
        static_cast<float>(p.bias.as<const float>()[e] + p.rate * sign_below_mean(count, total, experts));
  }
  return {};
}

Status CpuBackend::accumulate(const Accumulate& p) {
  const int64_t count = p.totals.shape[0];
  const auto add = [&]<class Value, class Wide>(const Value* values, Wide* totals, auto factor) {
    for (int64_t i = 0; i < count; ++i) {
      totals[i].add(factor * (p.values_are_totals ? reinterpret_cast<const Wide*>(values)[i].value() : values[i]));
    }
  };
  if (p.totals.dtype == DType::i32) {
    add(p.values.as<const int32_t>(), p.totals.as<WideInteger>(), int64_t{1});
  } else {
    add(p.values.as<const float>(), p.totals.as<WideFloat>(), p.factor);
  }
  return {};
}

}  // namespace moe::cpu
