// Sums over the rows of each sequence: one thread adds up a column of one unit of rows, then another adds up the units.
#pragma once

#include "core/operators/statistics.h"
#include "gpu/plan/plan.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

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

// Blocks for `count` threads.
inline dim3 grid_for(int64_t count, const gpu::DeviceTraits& traits) {
  return dim3(gpu::row_grid((count + 31) / 32, traits));
}

}  // namespace moe::MOE_GPU_NAMESPACE
