#include <climits>

#include <ptx/launch.cuh>

#include "core/operators/experts_gradients.h"
#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Neighbouring columns of a lane.
constexpr int kColumns = 8;
constexpr unsigned kNoSlot = UINT_MAX;

struct Arguments {
  const void* rows;
  const int* row_of_slot;
  const float* weights;
  const void* d_y;
  void* d_rows;      // null: not wanted
  float* d_weights;  // null: not wanted
  DType d_y_dtype, d_rows_dtype;
  bool aligned_rows, aligned_d_y, aligned_d_rows;
  unsigned* first_slot;  // [R], if d_rows is wanted
  IdError* error;
  int64_t row_count, slots, hidden;
  int top_k;
};

// One thread per slot, after all rows are filled with kNoSlot.
MOE_KERNEL(first_slot_kernel, (gpu::kRowThreads), const Arguments a) {
  for_each_item(a.slots, [&](int64_t slot) {
    const int row = a.row_of_slot[slot];
    if (row >= 0 && row < a.row_count) atomicMin(&a.first_slot[row], static_cast<unsigned>(slot));
  });
}

// Calls use(column) for the first of every kColumns columns of a lane.
template <class Use>
__device__ __forceinline__ void for_each_column(int64_t hidden, Use&& use) {
  for (int64_t column = threadIdx.x % 32 * kColumns; column < hidden; column += 32 * kColumns) use(column);
}

// One warp per slot, then one per row: rows without a slot become zeros. A row has one slot, unless the caller's ids
// are wrong.
template <class T>
MOE_KERNEL(combine_backward_kernel, (gpu::kRowThreads, 8), const Arguments a) {
  for_each_row(a.slots + (a.d_rows == nullptr ? 0 : a.row_count), [&](int64_t item) {
    if (item >= a.slots) {
      const int64_t row = item - a.slots;
      if (a.first_slot[row] != kNoSlot) return;
      const float zeros[kColumns] = {};
      for_each_column(a.hidden, [&](int64_t column) {
        store_up_to(a.d_rows, a.d_rows_dtype, row * a.hidden + column, a.hidden - column, a.aligned_d_rows, zeros);
      });
      return;
    }
    const int row = checked_id(a.row_of_slot[item], a.row_count, item, a.error);
    const bool stores = a.d_rows != nullptr && row >= 0 && a.first_slot[row] == static_cast<unsigned>(item);
    const bool multiplies = a.d_weights != nullptr && row >= 0;
    const float weight = a.weights[item];
    const int64_t token = item / a.top_k;
    float sum = 0.0f;
    if (stores || multiplies) {
      for_each_column(a.hidden, [&](int64_t column) {
        const int64_t count = a.hidden - column, place = row * a.hidden + column;
        float d_y[kColumns], values[kColumns];
        load_up_to(a.d_y, a.d_y_dtype, token * a.hidden + column, count, a.aligned_d_y, d_y);
        if (multiplies) {
          load_up_to(static_cast<const T*>(a.rows) + place, count, a.aligned_rows, values);
#pragma unroll
          for (int i = 0; i < kColumns; ++i) sum = fmaf(values[i], d_y[i], sum);
        }
        if (stores) {
#pragma unroll
          for (int i = 0; i < kColumns; ++i) values[i] = weight * d_y[i];
          store_up_to(a.d_rows, a.d_rows_dtype, place, count, a.aligned_d_rows, values);
        }
      });
    }
    if (a.d_weights == nullptr) return;
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) a.d_weights[item] = sum;
  });
}

bool is_aligned(const TensorView& tensor) {
  if (tensor.absent()) return false;
  const int64_t hidden = tensor.shape[1];
  // Of both 16-bit types alike.
  return tensor.dtype == DType::f32 ? vectors_aligned<float, kColumns>(tensor.data, hidden)
                                    : vectors_aligned<bf16, kColumns>(tensor.data, hidden);
}

}  // namespace

Status run(Context& context, const CombineBackward& p) {
  Arguments arguments{
      .rows = p.rows.data,
      .row_of_slot = p.row_of_slot.as<int>(),
      .weights = p.weights.as<float>(),
      .d_y = p.d_y.data,
      .d_rows = p.wants_rows() ? p.d_rows.data : nullptr,
      .d_weights = p.d_weights.as<float>(),
      .d_y_dtype = p.d_y.dtype,
      .d_rows_dtype = p.d_rows.dtype,
      .aligned_rows = is_aligned(p.rows),
      .aligned_d_y = is_aligned(p.d_y),
      .aligned_d_rows = is_aligned(p.d_rows),
      .first_slot = nullptr,
      .error = context.errors.next({.parameter = "combineBackward: rowOfSlot",
                                    .what = "a row",
                                    .limit = p.row_count(),
                                    .columns = p.row_of_slot.shape[1]}),
      .row_count = p.row_count(),
      .slots = p.tokens() * p.row_of_slot.shape[1],
      .hidden = p.d_y.shape[1],
      .top_k = static_cast<int>(p.row_of_slot.shape[1]),
  };
  Scratch scratch(*context.runtime);
  const dim3 threads(gpu::kRowThreads);
  int64_t items = arguments.slots;
  if (p.wants_rows()) {
    const auto bytes = static_cast<size_t>(arguments.row_count) * sizeof(unsigned);
    MOE_TRY(scratch.reserve(bytes));
    MOE_TRY(context.runtime->fill(scratch.at(0), 0xff, bytes));
    arguments.first_slot = reinterpret_cast<unsigned*>(scratch.at(0));
    const dim3 grid(gpu::element_grid(arguments.slots, context.traits()));
    MOE_TRY(launch("combine_first_slot", first_slot_kernel, grid, threads, 0, context.stream(), arguments));
    items += arguments.row_count;
  }
  return gpu::dispatch_float(p.rows.dtype, [&](auto type) {
    return launch("combine_backward", combine_backward_kernel<typename decltype(type)::type>,
                  dim3(gpu::row_grid(items, context.traits())), threads, 0, context.stream(), arguments);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
