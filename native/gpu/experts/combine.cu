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

// Adds up the next kSlots slots of a token, in their order. All rows are loaded before the first is used, and what they
// depend on before that, so that a thread waits twice for all of them. A slot without a row loads another's.
template <class T, int kSlots>
__device__ __forceinline__ void add_slots(const Arguments& a, int64_t first, int64_t column,
                                          float (&sums)[kCombineColumns]) {
  int row[kSlots];
  float weight[kSlots];
#pragma unroll
  for (int i = 0; i < kSlots; ++i) {
    row[i] = a.row_of_slot[first + i];
    weight[i] = a.weights == nullptr ? 1.0f : a.weights[first + i];
  }
  int any = -1;
#pragma unroll
  for (int i = 0; i < kSlots; ++i) {
    row[i] = checked_id(row[i], a.row_count, first + i, a.error);
    any = max(any, row[i]);
  }
  if (any < 0) return;
  const auto place = [&](int i) {
    return static_cast<const T*>(a.rows) + (row[i] < 0 ? any : row[i]) * a.hidden + column;
  };
  // Not a product with 0: what was loaded for a slot without a row may be NaN.
  const auto add = [&](int i, int element, float value) {
    const float sum = fmaf(weight[i], value, sums[element]);
    sums[element] = row[i] < 0 ? sums[element] : sum;
  };
  if (a.aligned_rows && a.hidden - column >= kCombineColumns) {
    Vector<T, kCombineColumns> values[kSlots];
#pragma unroll
    for (int i = 0; i < kSlots; ++i) load_elements(place(i), values[i]);
#pragma unroll
    for (int i = 0; i < kSlots; ++i) {
#pragma unroll
      for (int element = 0; element < kCombineColumns; ++element)
        add(i, element, to_float(values[i].elements[element]));
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kSlots; ++i) {
    float values[kCombineColumns];
    load_up_to(place(i), a.hidden - column, false, values);
#pragma unroll
    for (int element = 0; element < kCombineColumns; ++element) add(i, element, values[element]);
  }
}

// A block adds up some columns of one token, in order of its slots, and the residual last.
template <class T>
MOE_KERNEL(combine_kernel, (gpu::kRowThreads, 8), const Arguments a) {
  for_each_run<kCombineColumns>(a.tokens, a.hidden, [&](int64_t token, int64_t column) {
    float sums[kCombineColumns] = {};
    const int64_t end = (token + 1) * a.top_k;
    int64_t slot = end - a.top_k;
    for (; slot + 4 <= end; slot += 4) add_slots<T, 4>(a, slot, column, sums);
    for (; slot + 2 <= end; slot += 2) add_slots<T, 2>(a, slot, column, sums);
    if (slot < end) add_slots<T, 1>(a, slot, column, sums);
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
