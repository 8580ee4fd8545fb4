#include <ptx/launch.cuh>

#include "gpu/plan/plan.h"
#include "gpu/statistics/statistics.cuh"
#include "gpu/tile/checked_id.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// work(index) for the indices below `count`, spread over the threads of all blocks.
template <class Work>
__device__ __forceinline__ void for_each_index(int64_t count, Work&& work) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += threads) work(i);
}

struct Rows {
  int64_t first, end;
};

__device__ __forceinline__ Rows rows_of_unit(const RowUnits& units, int64_t unit) {
  const int64_t sequence = unit / units.units;
  const int64_t first = unit % units.units * units.rows_per_unit;
  const int64_t end = first + units.rows_per_unit;
  return {sequence * units.rows + first, sequence * units.rows + (end < units.rows ? end : units.rows)};
}

// The sum of a column over a sequence's units, in order.
template <class T>
__device__ __forceinline__ T sum_of_units(const T* partials, const RowUnits& units, int64_t sequence, int64_t columns,
                                          int64_t column) {
  T sum = 0;
  const T* partial = partials + sequence * units.units * columns + column;
#pragma unroll 8
  for (int64_t unit = 0; unit < units.units; ++unit) sum += partial[unit * columns];
  return sum;
}

struct TotalsArguments {
  const int* ids;
  const float* weights;
  int* unit_tokens;   // [units, E + 1]
  double* unit_sums;  // [units, E + 1], where weighted
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

// The thread of expert E counts the slots without an expert.
__global__ void __launch_bounds__(gpu::kRowThreads) unit_totals_kernel(const TotalsArguments a) {
  const int64_t columns = a.experts + 1;
  for_each_index(a.units.all() * columns, [&](int64_t index) {
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

__global__ void __launch_bounds__(gpu::kRowThreads) totals_kernel(const TotalsArguments a) {
  const int64_t columns = a.experts + 1;
  for_each_index(a.units.sequences * columns, [&](int64_t index) {
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

struct MeansArguments {
  const float* values;
  TokenMask mask;
  double* unit_sums;  // [units, N + 1]
  float* means;
  int* counts;  // null: not asked for
  RowUnits units;
  int64_t columns;
  bool square;
  bool total;
};

// The thread of column N counts the rows.
__global__ void __launch_bounds__(gpu::kRowThreads) unit_sums_kernel(const MeansArguments a) {
  const int64_t columns = a.columns + 1;
  for_each_index(a.units.all() * columns, [&](int64_t index) {
    const int64_t column = index % columns;
    const Rows rows = rows_of_unit(a.units, index / columns);
    if (column == a.columns) {
      a.unit_sums[index] = a.mask.count(rows.first, rows.end);
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

__global__ void __launch_bounds__(gpu::kRowThreads) means_kernel(const MeansArguments a) {
  const int64_t columns = a.columns + 1;
  for_each_index(a.units.sequences * columns, [&](int64_t index) {
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

// Blocks for `count` threads.
dim3 grid_for(int64_t count, const gpu::DeviceTraits& traits) { return dim3(gpu::row_grid((count + 31) / 32, traits)); }

RowUnits totals_units(const ExpertTotals& p) { return row_units(p.ids.shape[0], p.tokens.shape[0]); }
RowUnits means_units(const ColumnMeans& p) { return row_units(p.values.shape[0], p.means.shape[0]); }

}  // namespace

size_t expert_totals_bytes(const ExpertTotals& p) {
  const int64_t cells = totals_units(p).all() * (p.tokens.shape[1] + 1);
  return static_cast<size_t>(cells) * (sizeof(int) + (p.weights.absent() ? 0 : sizeof(double)));
}

Status launch_expert_totals(const ExpertTotals& p, void* workspace, gpu::IdError* error,
                            const gpu::DeviceTraits& traits, Stream stream) {
  TotalsArguments arguments{p.ids.as<int>(),
                            p.weights.as<float>(),
                            nullptr,
                            nullptr,
                            p.tokens.as<int>(),
                            p.dropped.as<int>(),
                            p.sums.as<float>(),
                            error,
                            TokenMask(p.token_mask),
                            totals_units(p),
                            p.tokens.shape[1],
                            p.ids.shape[1],
                            p.choices,
                            !p.weights.absent()};
  const int64_t cells = arguments.units.all() * (arguments.experts + 1);
  // The sums first, which need the wider alignment.
  arguments.unit_sums = static_cast<double*>(workspace);
  arguments.unit_tokens = reinterpret_cast<int*>(static_cast<double*>(workspace) + (arguments.weighted ? cells : 0));
  const dim3 block(gpu::kRowThreads);
  MOE_TRY(launch("unit_totals", unit_totals_kernel, grid_for(cells, traits), block, 0, stream, arguments));
  const dim3 grid = grid_for(arguments.units.sequences * (arguments.experts + 1), traits);
  return launch("totals", totals_kernel, grid, block, 0, stream, arguments);
}

size_t column_means_bytes(const ColumnMeans& p) {
  return static_cast<size_t>(means_units(p).all() * (p.values.shape[1] + 1)) * sizeof(double);
}

Status launch_column_means(const ColumnMeans& p, void* workspace, const gpu::DeviceTraits& traits, Stream stream) {
  const MeansArguments arguments{p.values.as<float>(),
                                 TokenMask(p.token_mask),
                                 static_cast<double*>(workspace),
                                 p.means.as<float>(),
                                 p.counts.as<int>(),
                                 means_units(p),
                                 p.values.shape[1],
                                 p.square,
                                 p.total};
  const int64_t columns = arguments.columns + 1;
  const dim3 block(gpu::kRowThreads);
  const dim3 grid = grid_for(arguments.units.all() * columns, traits);
  MOE_TRY(launch("unit_sums", unit_sums_kernel, grid, block, 0, stream, arguments));
  return launch("means", means_kernel, grid_for(arguments.units.sequences * columns, traits), block, 0, stream,
                arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
