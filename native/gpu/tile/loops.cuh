// How the threads of a grid share work of any size, in grid strides.
#pragma once

#include <cstdint>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// Calls use(item) for first .. end - 1, one thread each. A thread's own items come in ascending order.
template <class Use>
__device__ __forceinline__ void for_each_item(int64_t first, int64_t end, Use&& use) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t item = first + static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; item < end; item += step) {
    use(item);
  }
}
template <class Use>
__device__ __forceinline__ void for_each_item(int64_t count, Use&& use) {
  for_each_item(0, count, use);
}

// Calls use(index) for the block's indices below `count`; each thread gets its own in ascending order.
template <class Use>
__device__ __forceinline__ void for_each_of_block(int64_t count, Use&& use) {
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) use(i);
}

// Calls use(row) for 0 .. rows - 1, one warp each. All lanes of a warp call it together.
template <class Use>
__device__ __forceinline__ void for_each_row(int64_t rows, Use&& use) {
  const auto warps_per_block = static_cast<int64_t>(blockDim.x / 32);
  for (int64_t row = blockIdx.x * warps_per_block + threadIdx.x / 32; row < rows; row += gridDim.x * warps_per_block) {
    use(row);
  }
}

// Calls use(row, column) for the first of every kColumns columns of every row, one thread each, in a grid of
// gpu::plan_columns.
template <int kColumns, class Use>
__device__ __forceinline__ void for_each_run(int64_t rows, int64_t columns, Use&& use) {
  const int64_t first = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * kColumns;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.x * kColumns;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (int64_t column = first; column < columns; column += step) use(row, column);
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
