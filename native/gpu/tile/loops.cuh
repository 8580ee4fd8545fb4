// How a grid's threads share work of any size, in a stride as wide as the grid.
#pragma once

#include <cstdint>

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// use(item) for first .. end - 1, one thread each; a thread's own come in ascending order.
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

// use(row) for 0 .. rows - 1, one warp each: all of its lanes call it together.
template <class Use>
__device__ __forceinline__ void for_each_row(int64_t rows, Use&& use) {
  const auto warps_per_block = static_cast<int64_t>(blockDim.x / 32);
  for (int64_t row = blockIdx.x * warps_per_block + threadIdx.x / 32; row < rows; row += gridDim.x * warps_per_block) {
    use(row);
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
