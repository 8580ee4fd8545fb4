#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/statistics/row_units.cuh"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct TotalsArguments {
  const int* ids;
  const float* weights;
  int* unit_tokens;   // [units, E + 1]
  double* unit_sums;  // [units, E + 1], if weighted
  int* tokens;
  int* dropped;
  float* sums;
  IdError* error;
  TokenMask mask;
  RowUnits units;
  int64_t experts;
  int64_t top_k;
  int64_t choices;
  bool weighted;
};

// The thread of expert E counts the slots that have no expert.
MOE_KERNEL(unit_totals_kernel, (gpu::kRowThreads), const TotalsArguments a) {
  const int64_t columns = a.experts + 1;
  for_each_item(a.units.all() * columns, [&](int64_t index) {
    const int64_t expert = index % columns;
    const Rows rows = rows_of_unit(a.units, index / columns);
    int tokens = 0;
    double sum = 0;
    for (int64_t token = rows.first; token < rows.end; ++token) {
      if (!a.mask.counts(token)) continue;
      for (int64_t slot = token * a.top_k; slot < token * a.top_k + a.choices; ++slot) {
        const int id = a.ids[slot];
        const bool mine = expert < a.experts ? id == expert : checked_id(id, a.experts, slot, a.error) < 0;
        if (!mine) continue;
        ++tokens;
        if (a.weighted) sum += a.weights[slot];
      }
    }
    a.unit_tokens[index] = tokens;
    if (a.weighted) a.unit_sums[index] = sum;
  });
}

MOE_KERNEL(totals_kernel, (gpu::kRowThreads), const TotalsArguments a) {
  const int64_t columns = a.experts + 1;
  for_each_item(a.units.sequences * columns, [&](int64_t index) {
    const int64_t sequence = index / columns, expert = index % columns;
    const int tokens = sum_of_units(a.unit_tokens, a.units, sequence, columns, expert);
    if (expert == a.experts) {
      a.dropped[sequence] = tokens;
      return;
    }
    a.tokens[sequence * a.experts + expert] = tokens;
    if (!a.weighted) return;
    const double sum = sum_of_units(a.unit_sums, a.units, sequence, columns, expert);
    a.sums[sequence * a.experts + expert] = static_cast<float>(sum);
  });
}

RowUnits totals_units(const ExpertTotals& p) { return row_units(p.counted_tokens(), p.tokens.shape[0]); }

size_t expert_totals_bytes(const ExpertTotals& p) {
  const int64_t cells = totals_units(p).all() * (p.tokens.shape[1] + 1);
  return static_cast<size_t>(cells) * (sizeof(int) + (p.weights.absent() ? 0 : sizeof(double)));
}

}  // namespace

Status run(Context& context, const ExpertTotals& p) {
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(expert_totals_bytes(p)));
  gpu::IdError* error = context.errors.next(
      {.parameter = "expertTotals: ids", .what = "an expert", .limit = p.tokens.shape[1], .columns = p.ids.shape[1]});
  TotalsArguments arguments{
      .ids = p.ids.as<int>(),
      .weights = p.weights.as<float>(),
      .unit_tokens = nullptr,
      .unit_sums = nullptr,
      .tokens = p.tokens.as<int>(),
      .dropped = p.dropped.as<int>(),
      .sums = p.sums.as<float>(),
      .error = error,
      .mask = TokenMask(p.token_mask),
      .units = totals_units(p),
      .experts = p.tokens.shape[1],
      .top_k = p.ids.shape[1],
      .choices = p.choices,
      .weighted = !p.weights.absent(),
  };
  const int64_t cells = arguments.units.all() * (arguments.experts + 1);
  // The sums come first because they need the wider alignment.
  arguments.unit_sums = reinterpret_cast<double*>(scratch.at(0));
  arguments.unit_tokens =
      reinterpret_cast<int*>(reinterpret_cast<double*>(scratch.at(0)) + (arguments.weighted ? cells : 0));
  const dim3 block(gpu::kRowThreads);
  MOE_TRY(launch("unit_totals", unit_totals_kernel, grid_for(cells, traits), block, 0, stream, arguments));
  const dim3 grid = grid_for(arguments.units.sequences * (arguments.experts + 1), traits);
  return launch("totals", totals_kernel, grid, block, 0, stream, arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
