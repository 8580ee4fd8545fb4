#include "gpu/experts/combine.cuh"

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

using gpu::kCombineColumns;

struct Arguments {
  const void* rows;
  const int* row_of_slot;
  const float* weights;  // null: 1 each
  const void* residual;  // null: none
  void* y;
  DType residual_dtype, y_dtype;
  bool aligned_rows, aligned_residual, aligned_y;
  IdError* error;
  int64_t row_count;
  int64_t tokens;
  int64_t hidden;
  int top_k;
};

// A block adds up some columns of one token, in order of its slots, and the residual last.
template <class T>
MOE_KERNEL(combine_kernel, (gpu::kRowThreads, 8), const Arguments a) {
  for_each_run<kCombineColumns>(a.tokens, a.hidden, [&](int64_t token, int64_t column) {
    float sums[kCombineColumns] = {};
#pragma unroll 4
    for (int64_t slot = token * a.top_k; slot < (token + 1) * a.top_k; ++slot) {
      const int row = checked_id(a.row_of_slot[slot], a.row_count, slot, a.error);
      if (row < 0) continue;
      const float weight = a.weights == nullptr ? 1.0f : a.weights[slot];
      float values[kCombineColumns];
      load_up_to(static_cast<const T*>(a.rows) + row * a.hidden + column, a.hidden - column, a.aligned_rows, values);
#pragma unroll
      for (int i = 0; i < kCombineColumns; ++i) sums[i] = fmaf(weight, values[i], sums[i]);
    }
    if (a.residual != nullptr) {
      float values[kCombineColumns];
      load_up_to(a.residual, a.residual_dtype, token * a.hidden + column, a.hidden - column, a.aligned_residual,
                 values);
#pragma unroll
      for (int i = 0; i < kCombineColumns; ++i) sums[i] += values[i];
    }
    store_up_to(a.y, a.y_dtype, token * a.hidden + column, a.hidden - column, a.aligned_y, sums);
  });
}

bool is_aligned(const TensorView& tensor) {
  const int64_t hidden = tensor.shape[1];
  // Of both 16-bit types alike.
  return tensor.dtype == DType::f32 ? vectors_aligned<float, kCombineColumns>(tensor.data, hidden)
                                    : vectors_aligned<bf16, kCombineColumns>(tensor.data, hidden);
}

}  // namespace

Status launch_combine(const Combine& p, gpu::IdError* error, const gpu::DeviceTraits& traits, Stream stream) {
  Arguments arguments{
      .rows = p.rows.data,
      .row_of_slot = p.row_of_slot.as<int>(),
      .weights = p.weights.as<float>(),
      .residual = p.residual.data,
      .y = p.y.data,
      .residual_dtype = p.residual.dtype,
      .y_dtype = p.y.dtype,
      .aligned_rows = false,
      .aligned_residual = !p.residual.absent() && is_aligned(p.residual),
      .aligned_y = is_aligned(p.y),
      .error = error,
      .row_count = p.rows.shape[0],
      .tokens = p.y.shape[0],
      .hidden = p.y.shape[1],
      .top_k = static_cast<int>(p.row_of_slot.shape[1]),
  };
  const gpu::ColumnPlan plan = gpu::plan_columns(arguments.tokens, arguments.hidden, kCombineColumns, traits);
  return gpu::dispatch_float(p.rows.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    arguments.aligned_rows = vectors_aligned<T, kCombineColumns>(p.rows.data, arguments.hidden);
    return launch("combine", combine_kernel<T>, dim3(plan.grid_rows, plan.grid_columns), dim3(plan.threads), 0, stream,
                  arguments);
  });
}

Status run(Context& context, const Combine& p) {
  gpu::IdError* error = context.errors.next({.parameter = "combine: rowOfSlot",
                                             .what = "a row",
                                             .limit = p.rows.shape[0],
                                             .columns = p.row_of_slot.shape[1]});
  return launch_combine(p, error, context.traits(), context.stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
