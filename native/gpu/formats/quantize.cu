#include "core/formats/quantize.h"

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  MatrixView values;
  WeightFormat format;
  WeightView weight;  // its scales are written, then read
  Interval codes;
  GroupGrid groups;
  Interval* intervals;  // of each group's elements
  uint8_t* code_bytes;
  void *scales, *super_scales, *zeros, *super_zeros;
  int zero_bytes;
  bool search;
};

struct Group {
  int64_t first_row, first_column, columns, count;
};

__device__ __forceinline__ Group group_of(const Arguments& a, int64_t index) {
  const int64_t first_row = index / a.groups.columns * a.groups.group_rows;
  const int64_t first_column = index % a.groups.columns * a.groups.group_columns;
  const int64_t rows = min(a.groups.group_rows, a.values.rows - first_row);
  const int64_t columns = min(a.groups.group_columns, a.values.columns - first_column);
  return {first_row, first_column, columns, rows * columns};
}

// Element i of a group, row by row.
__device__ __forceinline__ float element_of(const Arguments& a, const Group& group, int64_t i) {
  return element_to_quantize(a.values, group.first_row + i / group.columns, group.first_column + i % group.columns);
}

// One warp per group.
MOE_KERNEL(group_intervals_kernel, (gpu::kRowThreads), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(a.groups.count(), [&](int64_t index) {
    const Group group = group_of(a, index);
    Interval interval = empty_interval(a.format);
    for (int64_t i = lane; i < group.count; i += 32) {
      const float element = element_of(a, group, i);
      interval = united(interval, {element, element});
    }
    const float lowest = -warp_max(-interval.lowest), highest = warp_max(interval.highest);
    if (lane == 0) a.intervals[index] = {lowest, highest};
  });
}

// One warp per scale of scales.
MOE_KERNEL(super_scales_kernel, (gpu::kRowThreads), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const SuperGroups super(a.format, a.values.rows, a.values.columns);
  const int bytes = scale_bytes(a.format.super_scales.type);
  for_each_row(super.units(), [&](int64_t unit) {
    GroupScale largest = {};
    const int64_t count = super.rows_of(unit) * super.columns_of(unit);
    for (int64_t i = lane; i < count; i += 32) {
      const GroupScale scale = reaching_scale(a.format, a.codes, a.intervals[super.index(unit, i)]);
      largest.scale = fmaxf(largest.scale, scale.scale);
      largest.minimum = fmaxf(largest.minimum, scale.minimum);
    }
    const uint32_t scale = encode_super_scale(a.format, warp_max(largest.scale));
    const uint32_t zero = encode_super_scale(a.format, warp_max(largest.minimum));
    const int64_t first = super.whole ? 0 : unit, last = super.whole ? super.super.count() : unit + 1;
    for (int64_t i = first + lane; i < last; i += 32) {
      store_scale(a.super_scales, bytes, i, scale);
      if (a.super_zeros != nullptr) store_scale(a.super_zeros, bytes, i, zero);
    }
  });
}

// One warp per group; its lanes try the candidates, each over all elements in order.
MOE_KERNEL(group_scales_kernel, (gpu::kRowThreads), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(a.groups.count(), [&](int64_t index) {
    const Group group = group_of(a, index);
    const int64_t row = group.first_row, column = group.first_column;
    const float super_scale = level_value(a.format.super_scales, a.weight.super_scales, row, column, 1.0f);
    const float super_zero = level_value(a.format.super_scales, a.weight.super_zeros, row, column, 1.0f);
    const int candidate = lane < kScaleCandidates ? lane : 0;
    const Interval interval = narrowed(a.format, a.intervals[index], candidate_width(candidate, a.search));
    const EncodedGroup encoded = encode_group(a.format, a.codes, interval, super_scale, super_zero);
    int best = 0;
    if (a.search) {
      float error = 0;
      for (int64_t i = 0; i < group.count; ++i) {
        error += squared_error(a.format, a.codes, encoded, element_of(a, group, i));
      }
      // The least error; of equal ones the first candidate's.
      best = candidate;
#pragma unroll
      for (int distance = 16; distance > 0; distance /= 2) {
        const float other = __shfl_xor_sync(kAllLanes, error, distance);
        const int other_best = __shfl_xor_sync(kAllLanes, best, distance);
        const bool better = other < error || (other == error && other_best < best);
        error = better ? other : error;
        best = better ? other_best : best;
      }
    }
    if (lane != best) return;
    store_scale(a.scales, scale_bytes(a.format.scales.type), index, encoded.scale_bits);
    if (a.zeros != nullptr) store_scale(a.zeros, a.zero_bytes, index, encoded.zero_bits);
  });
}

// One thread per run of codes.
MOE_KERNEL(codes_kernel, (gpu::kRowThreads), const Arguments a) {
  const int64_t columns = a.values.columns, row_bytes = a.format.row_bytes(columns);
  const int64_t runs = (columns + kCodeRun - 1) / kCodeRun;
  for_each_item(a.values.rows * runs, [&](int64_t item) {
    const int64_t row = item / runs, first = item % runs * kCodeRun;
    const int count = static_cast<int>(min(static_cast<int64_t>(kCodeRun), columns - first));
    quantize_run(a.format, a.codes, stored_group(a.format, a.weight, row, first), count,
                 a.code_bytes + row * row_bytes + first * a.format.bits / 8,
                 [&](int i) { return element_to_quantize(a.values, row, first + i); });
  });
}

}  // namespace

Status run(Context& context, const Quantize& p) {
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  const GroupGrid groups = group_grid(p.format->scales, p.values.rows, p.values.columns);
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(static_cast<size_t>(groups.count()) * sizeof(Interval)));
  const Arguments arguments{.values = p.values,
                            .format = *p.format,
                            .weight = p.weight(),
                            .codes = code_range(*p.format),
                            .groups = groups,
                            .intervals = reinterpret_cast<Interval*>(scratch.at(0)),
                            .code_bytes = p.codes.as<uint8_t>(),
                            .scales = p.scales.data,
                            .super_scales = p.super_scales.data,
                            .zeros = p.zeros.data,
                            .super_zeros = p.super_zeros.data,
                            .zero_bytes = static_cast<int>(info(p.zeros.dtype).bytes),
                            .search = p.search};
  const dim3 block(gpu::kRowThreads), per_group(gpu::row_grid(groups.count(), traits));
  MOE_TRY(launch("group_intervals", group_intervals_kernel, per_group, block, 0, stream, arguments));
  if (!p.super_scales.absent()) {
    const int64_t units = SuperGroups(*p.format, p.values.rows, p.values.columns).units();
    const dim3 grid(gpu::row_grid(units, traits));
    MOE_TRY(launch("super_scales", super_scales_kernel, grid, block, 0, stream, arguments));
  }
  MOE_TRY(launch("group_scales", group_scales_kernel, per_group, block, 0, stream, arguments));
  const int64_t runs = p.values.rows * ((p.values.columns + kCodeRun - 1) / kCodeRun);
  return launch("codes", codes_kernel, dim3(gpu::element_grid(runs, traits)), block, 0, stream, arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
