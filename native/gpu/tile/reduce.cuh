// Reductions and prefix sums over the lanes of a warp and the threads of a block. All lanes take part.
#pragma once

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

constexpr unsigned kAllLanes = 0xffffffffu;

// In butterfly order, so that every lane gets the same bits.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

// The same sums, in the same order, of kCount values, a power of two. Lanes exchange halves of the values that they
// still have, instead of all values each time. Each ends with a part: values[i] is the sum of the values of index lane
// * kCount / 32 + i. Of fewer than 32 values, 32 / kCount lanes have the same.
template <int kCount, int kDistance = 16, int kSize>
__device__ __forceinline__ void warp_sums(float (&values)[kSize]) {
  static_assert((kCount & (kCount - 1)) == 0 && kCount <= kSize, "expected a power of two");
  if constexpr (kDistance > 0) {
    constexpr int kHalf = kCount > 1 ? kCount / 2 : 1;
    const bool upper = (threadIdx.x & kDistance) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float mine = kCount > 1 && upper ? values[kCount - kHalf + i] : values[i];
      const float other = kCount > 1 && !upper ? values[kCount - kHalf + i] : values[i];
      values[i] = mine + __shfl_xor_sync(kAllLanes, other, kDistance);
    }
    warp_sums<kHalf, kDistance / 2>(values);
  }
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Max {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};

// The sum, or the maximum, over all lanes of the warp; all get the same bits.
template <class T, class Operation>
__device__ __forceinline__ T warp_reduce(T value, Operation operation) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value = operation(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

// Shared memory for block_reduce.
template <class T>
struct WarpResults {
  T of[32];
};

// The sum, or the maximum, over all threads of the block. All get the same bits, in an order that depends on the
// block's size alone.
template <class T, class Operation>
__device__ __forceinline__ T block_reduce(T value, Operation operation) {
  WarpResults<T>& results = ptx::shared<WarpResults<T>>();
  value = warp_reduce(value, operation);
  if (threadIdx.x % 32 == 0) results.of[threadIdx.x / 32] = value;
  __syncthreads();
  T total = results.of[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) total = operation(total, results.of[warp]);
  __syncthreads();
  return total;
}

// The sum, or the maximum, over this lane and those before it.
template <class Operation>
__device__ __forceinline__ int warp_inclusive_scan(int value, Operation operation) {
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const int before = __shfl_up_sync(kAllLanes, value, distance);
    if (lane >= distance) value = operation(before, value);
  }
  return value;
}

// Shared memory for block_inclusive_scan.
struct WarpTotals {
  int of[32];
};

// The sum, or the maximum, over this thread and those before it. `total` becomes that over all threads. `totals` may be
// reused on return.
template <class Operation>
__device__ __forceinline__ int block_inclusive_scan(int value, Operation operation, WarpTotals& totals, int& total) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int warps = static_cast<int>(blockDim.x / 32);
  value = warp_inclusive_scan(value, operation);
  if (lane == 31) totals.of[warp] = value;
  __syncthreads();
  if (warp == 0) {
    const int scanned = warp_inclusive_scan(lane < warps ? totals.of[lane] : 0, operation);
    if (lane < warps) totals.of[lane] = scanned;
  }
  __syncthreads();
  total = totals.of[warps - 1];
  if (warp > 0) value = operation(totals.of[warp - 1], value);
  __syncthreads();
  return value;
}

}  // namespace moe::MOE_GPU_NAMESPACE
