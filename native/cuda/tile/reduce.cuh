// Reductions and prefix sums over the lanes of a warp and the threads of a block. All lanes take part.
#pragma once

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

constexpr unsigned kAllLanes = 0xffffffffu;

// In the order of a butterfly: the same bits in every lane.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

// The sum over this lane and those before it.
__device__ __forceinline__ int warp_inclusive_sum(int value) {
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const int before = __shfl_up_sync(kAllLanes, value, distance);
    if (lane >= distance) value += before;
  }
  return value;
}

// Shared memory for block_exclusive_sum.
struct WarpSums {
  int of[32];
};

// The sum over the threads before this one; `total` gets the sum over all. `warp_sums` may be used again on return.
__device__ __forceinline__ int block_exclusive_sum(int value, WarpSums& warp_sums, int& total) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int warps = static_cast<int>(blockDim.x / 32);
  const int inclusive = warp_inclusive_sum(value);
  if (lane == 31) warp_sums.of[warp] = inclusive;
  __syncthreads();
  if (warp == 0) {
    const int sum = warp_inclusive_sum(lane < warps ? warp_sums.of[lane] : 0);
    if (lane < warps) warp_sums.of[lane] = sum;
  }
  __syncthreads();
  total = warp_sums.of[warps - 1];
  const int before = warp > 0 ? warp_sums.of[warp - 1] : 0;
  __syncthreads();
  return before + inclusive - value;
}

}  // namespace moe::MOE_GPU_NAMESPACE
