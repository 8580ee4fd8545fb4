#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/statistics/row_units.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct MeansArguments {
  const float* values;
  TokenMask mask;
  double* unit_sums;  // [units, N + 1]
  float* means;
  int* counts;  // null: not requested
  RowUnits units;
  int64_t columns;
  bool square;
  bool total;
};

// The thread of column N counts the rows.
MOE_KERNEL(unit_sums_kernel, (gpu::kRowThreads), const MeansArguments a) {
  const int64_t columns = a.columns + 1;
  for_each_item(a.units.all() * columns, [&](int64_t index) {
    const int64_t column = index % columns;
    const Rows rows = rows_of_unit(a.units, index / columns);
    if (column == a.columns) {
      a.unit_sums[index] = static_cast<double>(a.mask.count(rows.first, rows.end));
      return;
    }
    double sum = 0;
#pragma unroll 8
    for (int64_t row = rows.first; row < rows.end; ++row) {
      const double value = a.mask.counts(row) ? a.values[row * a.columns + column] : 0.0f;
      sum += a.square ? value * value : value;
    }
    a.unit_sums[index] = sum;
  });
}

MOE_KERNEL(means_kernel, (gpu::kRowThreads), const MeansArguments a) {
  const int64_t columns = a.columns + 1;
  for_each_item(a.units.sequences * columns, [&](int64_t index) {
    const int64_t sequence = index / columns, column = index % columns;
    const double count = sum_of_units(a.unit_sums, a.units, sequence, columns, a.columns);
    if (column == a.columns) {
      if (a.counts != nullptr) a.counts[sequence] = static_cast<int>(count);
      return;
    }
    const double sum = sum_of_units(a.unit_sums, a.units, sequence, columns, column);
    a.means[sequence * a.columns + column] = count == 0 ? 0.0f : static_cast<float>(a.total ? sum : sum / count);
  });
}

RowUnits means_units(const ColumnMeans& p) { return row_units(p.values.shape[0], p.means.shape[0]); }

size_t column_means_bytes(const ColumnMeans& p) {
  return static_cast<size_t>(means_units(p).all() * (p.values.shape[1] + 1)) * sizeof(double);
}

}  // namespace

Status run(Context& context, const ColumnMeans& p) {
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(column_means_bytes(p)));
  const MeansArguments arguments{
      .values = p.values.as<float>(),
      .mask = TokenMask(p.token_mask),
      .unit_sums = reinterpret_cast<double*>(scratch.at(0)),
      .means = p.means.as<float>(),
      .counts = p.counts.as<int>(),
      .units = means_units(p),
      .columns = p.values.shape[1],
      .square = p.square,
      .total = p.total,
  };
  const int64_t columns = arguments.columns + 1;
  const dim3 block(gpu::kRowThreads);
  const dim3 grid = grid_for(arguments.units.all() * columns, traits);
  MOE_TRY(launch("unit_sums", unit_sums_kernel, grid, block, 0, stream, arguments));
  return launch("means", means_kernel, grid_for(arguments.units.sequences * columns, traits), block, 0, stream,
                arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
